//! One Watch stream, from its Hello to its end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batoff_wire::local::pb::{self, to_cache::Body};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Messages that wait for the cache to read them.
pub const CHANNEL_MESSAGES: usize = 64;

/// A session of one cache.
#[derive(Debug)]
pub struct Session {
    /// As the cache knows it, and as the page shows it.
    pub id: u64,
    /// As the index knows it: its objects carry it in their locator.
    pub number: u32,
    /// What the cache calls itself.
    pub software: String,
    /// Objects that it has registered.
    pub objects: AtomicU64,
    /// Cancelled when it has ended, or must end.
    pub over: CancellationToken,
    outgoing: mpsc::Sender<Result<pb::ToCache, Status>>,
    last_id: Mutex<u64>,
    confirmed: watch::Sender<u64>,
}

/// Why something that was asked of a cache is not known to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotConfirmed {
    /// The session has ended.
    Over,
    /// Nothing was heard in time.
    Late,
}

impl Session {
    pub fn new(
        id: u64,
        number: u32,
        software: String,
        outgoing: mpsc::Sender<Result<pb::ToCache, Status>>,
    ) -> Self {
        Self {
            id,
            number,
            software,
            objects: AtomicU64::new(0),
            over: CancellationToken::new(),
            outgoing,
            last_id: Mutex::new(0),
            confirmed: watch::Sender::new(0),
        }
    }

    /// Tells the cache something that it need not confirm; false when it does not read what it is sent.
    pub fn tell(&self, body: Body) -> bool {
        self.outgoing.try_send(Ok(pb::ToCache { body: Some(body) })).is_ok()
    }

    /// Sends something to be confirmed; its id.
    pub async fn ask(&self, within: Duration, body: impl FnOnce(u64) -> Body) -> Result<u64, NotConfirmed> {
        let room = tokio::select! {
            () = self.over.cancelled() => return Err(NotConfirmed::Over),
            room = tokio::time::timeout(within, self.outgoing.reserve()) => {
                room.map_err(|_| NotConfirmed::Late)?.map_err(|_| NotConfirmed::Over)?
            }
        };
        // Ids are sent in their order.
        let mut last = self.last_id.lock();
        *last += 1;
        room.send(Ok(pb::ToCache { body: Some(body(*last)) }));
        Ok(*last)
    }

    /// Waits until everything through `id` is confirmed. Each confirmation gives the cache `within` once more, so a
    /// large eviction only has to make progress.
    pub async fn confirmed(&self, id: u64, within: Duration) -> Result<(), NotConfirmed> {
        let mut confirmed = self.confirmed.subscribe();
        while *confirmed.borrow_and_update() < id {
            tokio::select! {
                () = self.over.cancelled() => return Err(NotConfirmed::Over),
                changed = tokio::time::timeout(within, confirmed.changed()) => {
                    changed.map_err(|_| NotConfirmed::Late)?.map_err(|_| NotConfirmed::Over)?;
                }
            }
        }
        Ok(())
    }

    /// The cache has done everything through `id`; an error when that was never asked.
    pub fn confirm(&self, id: u64) -> Result<(), Status> {
        let last = *self.last_id.lock();
        if id > last {
            return Err(Status::invalid_argument(format!(
                "confirm.id: {id} was not asked; the last was {last}"
            )));
        }
        self.confirmed.send_if_modified(|confirmed| {
            let further = id > *confirmed;
            *confirmed = id.max(*confirmed);
            further
        });
        Ok(())
    }

    /// Whether everything that was asked is confirmed.
    pub fn is_idle(&self) -> bool {
        *self.confirmed.borrow() >= *self.last_id.lock()
    }

    /// One object more.
    pub fn count_in(&self) {
        self.objects.fetch_add(1, Ordering::Relaxed);
    }

    /// So many fewer. What a reset drops without naming it is not counted out, so this stays at least 0.
    pub fn count_out(&self, objects: u64) {
        // Never fails: the closure always gives a number.
        let _ = self
            .objects
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(held.saturating_sub(objects)));
    }
}
