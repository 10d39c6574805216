use std::sync::Arc;
use std::time::Duration;

use batoff_types::Seq;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::broadcast;

use super::read::{self, Page};
use super::shared::{Feed, Shared};
use super::writer::Queue;
use crate::error::{ReadError, StoreError};
use crate::purge_log::StoredRecord;

/// Records read at once by a tail that catches up.
const CATCH_UP_RECORDS: usize = 1_024;
/// Bytes read at once by a tail that catches up.
const CATCH_UP_BYTES: usize = 1024 * 1024;
/// How long a tail waits before it reads again from a store that could not be read.
const READ_AGAIN_DELAY: Duration = Duration::from_millis(100);

type Item = Result<Arc<[StoredRecord]>, ReadError>;

/// See [`PurgeLog::tail`](crate::PurgeLog::tail).
pub(super) fn follow(shared: Arc<Shared>, requests: Queue, from: Seq) -> BoxStream<'static, Item> {
    // Subscribed before the first read, so that nothing falls between the two.
    let feed = shared.subscribe_feed();
    let tail = Tail { shared, requests, feed, next: from, place: Place::Behind };
    stream::unfold(tail, |mut tail| async {
        let item = tail.next_item().await?;
        Some((item, tail))
    })
    .boxed()
}

/// Where a tail takes its next records from.
enum Place {
    /// From the file.
    Behind,
    /// From the feed: it has all that was in the file.
    Live,
    /// From nowhere any more.
    Ended,
}

struct Tail {
    shared: Arc<Shared>,
    requests: Queue,
    feed: broadcast::Receiver<Feed>,
    next: Seq,
    place: Place,
}

impl Tail {
    async fn next_item(&mut self) -> Option<Item> {
        loop {
            match self.place {
                Place::Behind => {
                    if let Some(item) = self.read_on().await {
                        return Some(item);
                    }
                }
                Place::Live => {
                    if let Some(records) = self.listen().await {
                        return Some(Ok(records));
                    }
                }
                Place::Ended => return None,
            }
        }
    }

    /// The next records of the file, or why there will be none; `None` when the place has changed, or to try again.
    async fn read_on(&mut self) -> Option<Item> {
        let from = self.next;
        let work = move |snapshot: &redb::ReadTransaction| {
            read::page(snapshot, from, CATCH_UP_RECORDS, CATCH_UP_BYTES)
        };
        match self.shared.read(|mend| self.requests.mention(mend), work).await {
            Ok(Page::Records(records)) => {
                let Some(last) = records.last() else {
                    self.place = Place::Live;
                    return None;
                };
                self.next = last.seq.next();
                Some(Ok(records.into()))
            }
            Ok(Page::Trimmed { first }) => self.end(ReadError::Trimmed { first }),
            Ok(Page::AheadOfLog { tail }) => self.end(ReadError::AheadOfLog { tail }),
            Err(StoreError::Unavailable { .. } | StoreError::Unknown { .. } | StoreError::Full) => {
                if self.shared.is_closed() {
                    self.place = Place::Ended;
                } else {
                    tokio::time::sleep(READ_AGAIN_DELAY).await;
                }
                None
            }
            Err(error) => self.end(error.into()),
        }
    }

    /// The next records of the feed; `None` when they must be read from the file, or were known.
    async fn listen(&mut self) -> Option<Arc<[StoredRecord]>> {
        let records = match self.feed.recv().await {
            Ok(Feed::Records(records)) => records,
            Ok(Feed::LookAgain) | Err(broadcast::error::RecvError::Lagged(_)) => {
                self.place = Place::Behind;
                return None;
            }
            Err(broadcast::error::RecvError::Closed) => {
                self.place = Place::Ended;
                return None;
            }
        };
        let (first, last) = (records.first()?.seq, records.last()?.seq);
        if last < self.next {
            return None;
        }
        if first > self.next {
            self.place = Place::Behind;
            return None;
        }
        let known = records.iter().take_while(|record| record.seq < self.next).count();
        self.next = last.next();
        Some(if known == 0 { records } else { records[known..].into() })
    }

    fn end(&mut self, error: ReadError) -> Option<Item> {
        self.place = Place::Ended;
        Some(Err(error))
    }
}
