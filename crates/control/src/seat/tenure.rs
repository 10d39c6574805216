//! Until when this process may act as the replica that it is, and the rows that it may write meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_log::{CasError, Expect, Guard, GuardedError, Key, Kv, StoreError, Write};
use batoff_types::{Cursor, Moment, Replica, Term};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::lock::FolderLock;
use crate::store::rows;

/// How far a process is with its seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeatStage {
    /// It is not registered yet.
    Asking {
        /// What is in the way, if anything is.
        trouble: Option<String>,
    },
    /// It is registered, and its predecessor may act until then.
    Waiting {
        /// By this process's clock.
        until: Moment,
    },
    /// It may act.
    Seated {
        /// Where the log ended after the last predecessor had stopped.
        floor: Cursor,
    },
    /// It has stopped to act, for good.
    Released,
    /// Another process has registered.
    Lost,
}

/// Another process has taken the seat. The text names the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another process has taken the seat of {0}, and this one may not act any more: stop one of the two, or give one another \
     replica.id"
)]
pub struct SeatLost(pub Replica);

/// Which replica this process is, and what it may do as that.
#[derive(Clone, Debug)]
pub struct Tenure {
    pub(super) replica: Replica,
    pub(super) seat: Option<Arc<HeldSeat>>,
}

/// What the keeper of a seat tells all others.
#[derive(Debug)]
pub(super) struct HeldSeat {
    /// As [`batoff_delivery::Seat::held_until`], in microseconds of this process's clock.
    pub(super) until: AtomicU64,
    pub(super) shown: Mutex<SeatProof>,
    pub(super) stage: watch::Sender<SeatStage>,
    pub(super) lost: CancellationToken,
    /// Told when a proof is wanted at once.
    pub(super) hurry: Notify,
    /// How long a proof counts.
    pub(super) seat: Duration,
    /// Freed when nothing is left in this process that could act.
    pub(super) _lock: FolderLock,
}

#[derive(Debug, Default)]
pub(super) struct SeatProof {
    pub(super) term: Option<Term>,
    /// The row of the seat, as this process has written it.
    pub(super) guard: Option<Guard>,
}

impl Tenure {
    /// A control plane that is alone beside its log.
    pub const fn alone() -> Self {
        Self { replica: Replica::ONLY, seat: None }
    }

    /// Which replica.
    pub const fn replica(&self) -> Replica {
        self.replica
    }

    /// Whether there is a seat that another process may take.
    pub const fn has_seat(&self) -> bool {
        self.seat.is_some()
    }

    /// The term that came with the seat, once there is one.
    pub fn term(&self) -> Option<Term> {
        self.seat.as_ref()?.shown.lock().term
    }

    /// Until when this process may grant leases and state its watermark; `None` when it has no seat to lose.
    pub fn held_until(&self) -> Option<Moment> {
        let seat = self.seat.as_ref()?;
        Some(Moment::from_micros(seat.until.load(Ordering::Acquire)))
    }

    /// Whether a proof that the seat is this process's own began after `noticed`. Without a seat nobody knows.
    pub fn is_own_since(&self, noticed: Moment) -> bool {
        let seat = self.seat.as_ref();
        seat.is_some_and(|seat| seat.until.load(Ordering::Acquire) > (noticed + seat.seat).as_micros())
    }

    /// A proof is wanted now, for nothing is granted before.
    pub fn hurry(&self) {
        if let Some(seat) = &self.seat {
            seat.hurry.notify_one();
        }
    }

    /// Waits until this process may act.
    ///
    /// # Errors
    /// Another process has registered meanwhile.
    pub async fn seated(&self) -> Result<(), SeatLost> {
        let Some(seat) = &self.seat else { return Ok(()) };
        let mut stage = seat.stage.subscribe();
        let decided =
            |stage: &SeatStage| !matches!(stage, SeatStage::Asking { .. } | SeatStage::Waiting { .. });
        // The sender lives as long as `self`.
        let is_seated = match stage.wait_for(decided).await {
            Ok(stage) => matches!(&*stage, SeatStage::Seated { .. }),
            Err(_) => false,
        };
        if is_seated { Ok(()) } else { Err(SeatLost(self.replica)) }
    }

    /// Where the log ended after the last predecessor had stopped, once this process may act.
    pub fn floor(&self) -> Option<Cursor> {
        match &*self.seat.as_ref()?.stage.borrow() {
            SeatStage::Seated { floor } => Some(*floor),
            _ => None,
        }
    }

    /// Waits until another process has taken the seat; for ever, when none does.
    pub async fn lost(&self) {
        match &self.seat {
            Some(seat) => seat.lost.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Why this process may not act at `now`, for people; `None` when it may.
    pub fn trouble(&self, now: Moment) -> Option<String> {
        let seat = self.seat.as_ref()?;
        let replica = self.replica;
        match &*seat.stage.borrow() {
            SeatStage::Asking { trouble: None } => Some(format!("asks the store for the seat of {replica}")),
            SeatStage::Asking { trouble: Some(trouble) } => {
                Some(format!("the store does not give the seat of {replica}: {trouble}"))
            }
            SeatStage::Waiting { until } => Some(format!(
                "waits {} s more, until an earlier process of {replica} has certainly stopped",
                until.since(now).as_secs() + 1
            )),
            SeatStage::Released => Some(format!("has released the seat of {replica}, and ends")),
            SeatStage::Lost => Some(SeatLost(replica).to_string()),
            SeatStage::Seated { .. } if Moment::from_micros(seat.until.load(Ordering::Acquire)) <= now => {
                Some(format!(
                    "the store has not shown for {} s that the seat of {replica} is this process's own; no lease is granted",
                    seat.seat.as_secs()
                ))
            }
            SeatStage::Seated { .. } => None,
        }
    }

    /// The key of a row that is this replica's own word.
    pub fn key(&self, name: &str) -> Key {
        Key::from(format!("{}{name}", Self::prefix(self.replica)))
    }

    /// What the keys of a replica's own rows begin with. Those of replica 1 have the names that they had when there was no
    /// other.
    pub fn prefix(replica: Replica) -> String {
        if replica == Replica::ONLY { String::new() } else { format!("replica/{}/", replica.0) }
    }

    /// Writes a row of this replica, whatever the key held before, unless another process has taken the seat.
    pub(crate) async fn put(
        &self,
        kv: &dyn Kv,
        key: &Key,
        value: impl Into<Bytes>,
    ) -> Result<(), StoreError> {
        self.write(kv, key, Write::Put { value: value.into(), ttl: None }).await
    }

    /// Deletes a row of this replica, unless another process has taken the seat.
    pub(crate) async fn delete(&self, kv: &dyn Kv, key: &Key) -> Result<(), StoreError> {
        self.write(kv, key, Write::Delete).await
    }

    async fn write(&self, kv: &dyn Kv, key: &Key, write: Write) -> Result<(), StoreError> {
        let Some(seat) = &self.seat else {
            return match write {
                Write::Put { value, .. } => rows::put(kv, key, value).await,
                Write::Delete => rows::delete(kv, key).await,
            };
        };
        let guard = seat.shown.lock().guard.clone();
        let Some(guard) = guard else { return Err(fenced()) };
        match kv.cas_guarded(key, Expect::Any, write, &guard).await {
            // `Expect::Any` cannot conflict.
            Ok(_) | Err(GuardedError::Cas(CasError::Conflict(_))) => Ok(()),
            Err(GuardedError::Cas(CasError::Store(error))) => Err(error),
            Err(GuardedError::Fenced) => Err(fenced()),
        }
    }
}

fn fenced() -> StoreError {
    StoreError::Invalid("another process has taken the seat of this replica, whose rows it may not write")
}
