//! Every record in order, each once: read from etcd until it has caught up, then from the live feed.

use std::sync::Arc;
use std::time::Duration;

use batoff_log::{ReadError, StoreError, StoredRecord};
use batoff_types::Seq;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::broadcast;

use crate::shared::{FeedNews, StoreCore};

/// Records read at once by a tail that catches up.
const CATCH_UP_RECORDS: usize = 1_024;
/// Bytes read at once by a tail that catches up.
const CATCH_UP_BYTES: usize = 1024 * 1024;
/// How long a tail waits before it reads again from a cluster that could not be read.
const READ_AGAIN_DELAY: Duration = Duration::from_millis(100);

type ReaderItem = Result<Arc<[StoredRecord]>, ReadError>;

/// See [`PurgeLog::tail`](batoff_log::PurgeLog::tail).
pub(crate) fn follow(shared: Arc<StoreCore>, from: Seq) -> BoxStream<'static, ReaderItem> {
    // Subscribed before the first read, so that nothing falls between the two.
    let feed = shared.subscribe();
    let stopping = shared.stopping.clone();
    let reader = LogReader { shared, feed, next: from, source: ReaderSource::Etcd };
    let items = stream::unfold(reader, |mut reader| async {
        let item = reader.next_item().await?;
        Some((item, reader))
    });
    items.take_until(stopping.cancelled_owned()).boxed()
}

/// Where a reader takes its next records from.
enum ReaderSource {
    Etcd,
    /// It has all that was in etcd.
    Feed,
    /// Nowhere any more.
    Ended,
}

struct LogReader {
    shared: Arc<StoreCore>,
    feed: broadcast::Receiver<FeedNews>,
    next: Seq,
    source: ReaderSource,
}

impl LogReader {
    async fn next_item(&mut self) -> Option<ReaderItem> {
        loop {
            let item = match self.source {
                ReaderSource::Etcd => self.read_on().await,
                ReaderSource::Feed => self.listen().await,
                ReaderSource::Ended => return None,
            };
            if item.is_some() {
                return item;
            }
        }
    }

    /// The next records that are there, or why there will be none; `None` when the source has changed, or to try again.
    async fn read_on(&mut self) -> Option<ReaderItem> {
        match self.shared.read_records(self.next, CATCH_UP_RECORDS, CATCH_UP_BYTES).await {
            Ok(records) => match records.last() {
                Some(last) => {
                    self.next = last.seq.next();
                    Some(Ok(records.into()))
                }
                None => {
                    self.source = ReaderSource::Feed;
                    None
                }
            },
            Err(ReadError::Store(error)) if error.retry_after().is_some() || error == StoreError::Full => {
                tokio::time::sleep(READ_AGAIN_DELAY).await;
                None
            }
            Err(error) => {
                self.source = ReaderSource::Ended;
                Some(Err(error))
            }
        }
    }

    /// The next records of the feed; `None` when they must be read, or were known.
    async fn listen(&mut self) -> Option<ReaderItem> {
        let records = match self.feed.recv().await {
            Ok(FeedNews::Records(records)) => records,
            Ok(FeedNews::LookAgain) | Err(broadcast::error::RecvError::Lagged(_)) => {
                self.source = ReaderSource::Etcd;
                return None;
            }
            Err(broadcast::error::RecvError::Closed) => {
                self.source = ReaderSource::Ended;
                return None;
            }
        };
        let (first, last) = (records.first()?.seq, records.last()?.seq);
        if last < self.next {
            return None;
        }
        if first > self.next {
            self.source = ReaderSource::Etcd;
            return None;
        }
        let known = records.iter().take_while(|record| record.seq < self.next).count();
        self.next = last.next();
        Some(Ok(if known == 0 { records } else { records[known..].into() }))
    }
}
