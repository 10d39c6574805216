//! Reads that many questions share.

use batoff_log::StoreError;
use parking_lot::Mutex;

/// Reads that many questions share. Who comes while one is under way waits for the next, which begins after he came.
#[derive(Default)]
pub(in crate::tracker) struct SharedReads {
    turn: tokio::sync::Mutex<()>,
    reads: Mutex<Reads>,
}

#[derive(Default)]
struct Reads {
    begun: u64,
    /// The last that has ended, and how.
    ended: Option<(u64, Result<(), StoreError>)>,
}

impl SharedReads {
    /// Reads, or waits for a read that begins after this was called, and tells how it went.
    pub(super) async fn share(
        &self,
        read: impl Future<Output = Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        let came = self.begun();
        let _turn = self.turn.lock().await;
        let number = {
            let mut reads = self.reads.lock();
            match &reads.ended {
                Some((number, outcome)) if *number > came => return outcome.clone(),
                _ => {
                    reads.begun += 1;
                    reads.begun
                }
            }
        };
        let outcome = read.await;
        self.reads.lock().ended = Some((number, outcome.clone()));
        outcome
    }

    /// How many there were.
    pub(super) fn begun(&self) -> u64 {
        self.reads.lock().begun
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn who_comes_during_a_read_waits_for_one_that_begins_after_he_came() {
        let (reads, value) = (Arc::new(SharedReads::default()), Arc::new(AtomicU64::new(0)));
        let seen = Arc::new(AtomicU64::new(0));
        let read = || async {
            let now = value.load(Ordering::SeqCst);
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            seen.store(now, Ordering::SeqCst);
            Ok(())
        };
        let asks = (0..50).map(|number| {
            let (reads, read, value, seen) = (&reads, &read, &value, &seen);
            async move {
                tokio::time::sleep(Duration::from_millis(number % 4)).await;
                let written = value.fetch_add(1, Ordering::SeqCst) + 1;
                reads.share(read()).await.unwrap();
                assert!(seen.load(Ordering::SeqCst) >= written, "older than the question");
            }
        });
        join_all(asks).await;
        assert!((1..=10).contains(&reads.begun()), "{}", reads.begun());
    }

    #[tokio::test]
    async fn a_read_that_fails_is_told_to_all_who_waited_for_it_and_the_next_begins_anew() {
        let reads = SharedReads::default();
        let failed = StoreError::Unavailable { retry_after: Duration::ZERO };
        assert_eq!(reads.share(async { Err(failed.clone()) }).await, Err(failed));
        assert_eq!(reads.share(async { Ok(()) }).await, Ok(()));
    }
}
