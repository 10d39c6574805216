//! Every record in order, each once: from the file until it has caught up, then from the live feed.

use std::sync::Arc;
use std::time::Duration;

use batoff_types::Seq;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::broadcast;

use super::queue::RequestQueue;
use super::read::{StoreView, Stretch};
use super::shared::{RecordNews, Shared};
use crate::error::{ReadError, StoreError};
use crate::purge_log::StoredRecord;

/// Records read at once by a tail that catches up.
const CATCH_UP_RECORDS: usize = 1_024;
/// Bytes read at once by a tail that catches up.
const CATCH_UP_BYTES: usize = 1024 * 1024;
/// How long a tail waits before it reads again from a store that could not be read.
const READ_AGAIN_DELAY: Duration = Duration::from_millis(100);

type TailItem = Result<Arc<[StoredRecord]>, ReadError>;

/// See [`PurgeLog::tail`](crate::PurgeLog::tail).
pub(super) fn follow(shared: Arc<Shared>, requests: RequestQueue, from: Seq) -> BoxStream<'static, TailItem> {
    // Subscribed before the first read, so that nothing falls between the two.
    let feed = shared.subscribe_feed();
    let tail = LogTail { shared, requests, feed, next: from, place: TailPlace::Behind };
    stream::unfold(tail, |mut tail| async {
        let item = tail.next_item().await?;
        Some((item, tail))
    })
    .boxed()
}

/// Where a tail takes its next records from.
enum TailPlace {
    /// From the file.
    Behind,
    /// From the feed: it has all that was in the file.
    Live,
    /// From nowhere any more.
    Ended,
}

struct LogTail {
    shared: Arc<Shared>,
    requests: RequestQueue,
    feed: broadcast::Receiver<RecordNews>,
    next: Seq,
    place: TailPlace,
}

impl LogTail {
    async fn next_item(&mut self) -> Option<TailItem> {
        loop {
            match self.place {
                TailPlace::Behind => {
                    if let Some(item) = self.read_on().await {
                        return Some(item);
                    }
                }
                TailPlace::Live => {
                    if let Some(records) = self.listen().await {
                        return Some(Ok(records));
                    }
                }
                TailPlace::Ended => return None,
            }
        }
    }

    /// The next records of the file, or why there will be none; `None` when the place has changed, or to try again.
    async fn read_on(&mut self) -> Option<TailItem> {
        let from = self.next;
        let work = move |snapshot: &StoreView| snapshot.stretch(from, CATCH_UP_RECORDS, CATCH_UP_BYTES);
        match self.shared.read(|opening| self.requests.mend(opening), work).await {
            Ok(Stretch::Records(records)) => {
                let Some(last) = records.last() else {
                    self.place = TailPlace::Live;
                    return None;
                };
                self.next = last.seq.next();
                Some(Ok(records.into()))
            }
            Ok(Stretch::Trimmed { first }) => self.end(ReadError::Trimmed { first }),
            Ok(Stretch::AheadOfLog { tail }) => self.end(ReadError::AheadOfLog { tail }),
            Err(StoreError::Unavailable { .. } | StoreError::Unknown { .. } | StoreError::Full) => {
                if self.shared.is_closed() {
                    self.place = TailPlace::Ended;
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
            Ok(RecordNews::Records(records)) => records,
            Ok(RecordNews::LookAgain) | Err(broadcast::error::RecvError::Lagged(_)) => {
                self.place = TailPlace::Behind;
                return None;
            }
            Err(broadcast::error::RecvError::Closed) => {
                self.place = TailPlace::Ended;
                return None;
            }
        };
        let (first, last) = (records.first()?.seq, records.last()?.seq);
        if last < self.next {
            return None;
        }
        if first > self.next {
            self.place = TailPlace::Behind;
            return None;
        }
        let known = records.iter().take_while(|record| record.seq < self.next).count();
        self.next = last.next();
        Some(if known == 0 { records } else { records[known..].into() })
    }

    fn end(&mut self, error: ReadError) -> Option<TailItem> {
        self.place = TailPlace::Ended;
        Some(Err(error))
    }
}
