//! Task ids that only rise.

use batoff_types::{InstanceId, Replica, TaskId};
use parking_lot::Mutex;
use ulid::Ulid;

use crate::clock::Clock;

/// Random bits of an id behind those that name its maker: 2^72 are left within a millisecond.
const MAKER_SHIFT: u32 = 72;

/// Makes task ids: ULIDs, each greater than every one before it in this process, even when the wall clock steps back.
#[derive(Debug)]
pub struct TaskIds {
    clock: Clock,
    /// Of several control planes the one that makes them: it stands in the first bits of the random part.
    maker: Option<Replica>,
    last: Mutex<Ulid>,
}

impl TaskIds {
    /// Ids whose time part is read from `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { clock, maker: None, last: Mutex::new(Ulid::nil()) }
    }

    /// The same for one of several control planes: [`maker_of`] tells which.
    pub fn of(clock: Clock, maker: Replica) -> Self {
        Self { maker: Some(maker), ..Self::new(clock) }
    }

    fn random(&self) -> u128 {
        let random = rand::random::<u128>();
        match self.maker {
            None => random,
            Some(Replica(number)) => {
                (random & ((1 << MAKER_SHIFT) - 1)) | (u128::from(number) << MAKER_SHIFT)
            }
        }
    }

    /// The next id. The random part is drawn anew each millisecond and counted up within one.
    pub fn next(&self) -> TaskId {
        let millis = self.clock.wall().0;
        let mut last = self.last.lock();
        let fresh = Ulid::from_parts(millis, self.random());
        *last = if millis > last.timestamp_ms() {
            fresh
        } else {
            // 2^80 ids within one millisecond are out of reach; should the random part overflow all the same, the time
            // part moves on by one.
            last.increment().unwrap_or_else(|_| Ulid::from_parts(last.timestamp_ms() + 1, self.random()))
        };
        TaskId::from_ulid(*last)
    }
}

/// Which of several control planes made the id, if one of several did; where there was only one it may name any.
pub fn maker_of(task: TaskId) -> Replica {
    // Eight bits are left of eighty.
    Replica((Ulid::from_bytes(task.to_bytes()).random() >> MAKER_SHIFT) as u8)
}

/// A random identity for one run of a process.
pub fn random_instance() -> InstanceId {
    InstanceId::from_ulid(Ulid::from_parts(rand::random::<u64>() >> 16, rand::random::<u128>()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use batoff_types::UnixMillis;

    use super::*;

    #[test]
    fn task_ids_rise_within_a_millisecond_and_when_the_clock_steps_back() {
        let wall = Arc::new(AtomicU64::new(1_745_145_600_000));
        let read = Arc::clone(&wall);
        let ids = TaskIds::new(Clock::with_wall(move || UnixMillis(read.load(Ordering::Relaxed))));
        let mut last = ids.next();
        for round in 0..1_000 {
            if round == 500 {
                wall.fetch_sub(3_600_000, Ordering::Relaxed);
            }
            let next = ids.next();
            assert!(next > last);
            last = next;
        }
        assert_eq!(last.to_string().len(), 26);
    }
}
