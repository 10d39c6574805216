//! Where the log ends for everybody, and what of it is missing here.

use batoff_log::{LogState, StoreError};

use crate::envelope::VALUES_PER_READ;
use crate::load::load;
use crate::rpc::{Headed, KeyRange, TxnRequest, read};
use crate::shared::StoreCore;
use crate::stored::{Envelope, First, Head, damaged, decode};
use crate::witness::GroupMark;

/// Requests for groups that bring none before it is said that something is wrong: each means that they were trimmed just
/// then.
const VAIN_READS_MAX: u32 = 8;

/// The log's ends, as one linearizable read has them.
#[derive(Clone, Debug)]
pub(crate) struct LogEnds {
    pub(crate) head: Head,
    pub(crate) first: First,
    /// When `f` was last written.
    pub(crate) first_revision: i64,
    /// The revision of this reading.
    pub(crate) revision: i64,
}

impl StoreCore {
    /// Reads where the log begins and ends. Linearizable.
    pub(crate) async fn read_ends(&self) -> Result<LogEnds, StoreError> {
        self.check_running()?;
        let keys = [self.names.head(), self.names.first(), self.names.identity()];
        let request = TxnRequest {
            success: keys.iter().map(|key| read(KeyRange::one(key.clone()).read(1))).collect(),
            ..TxnRequest::default()
        };
        let answer = self.client.read_txn(&request).await;
        self.has_answered(answer.as_ref().err(), false);
        let answer = answer.map_err(|error| self.told(error, false))?;
        let found = |at: usize| answer.kvs(at).first();
        let (Some(head), Some(first), Some(identity)) = (found(0), found(1), found(2)) else {
            return Err(self.noted(damaged(&keys[0], "it is not there any more")));
        };
        if identity.mod_revision != self.identity.revision {
            tracing::error!("the log in etcd has got another identity");
            return Err(self.noted(StoreError::WrongCluster));
        }
        Ok(LogEnds {
            head: decode(&keys[0], head.value.clone()).map_err(|error| self.noted(error))?,
            first: decode(&keys[1], first.value.clone()).map_err(|error| self.noted(error))?,
            first_revision: first.mod_revision,
            revision: answer.revision(),
        })
    }

    /// Takes in all that was in the log when this was called, and perhaps more.
    pub(crate) async fn catch_up(&self) -> Result<LogEnds, StoreError> {
        let known = self.index.read().group();
        let mut ends = self.read_ends().await?;
        if ends.head.group < known {
            let why = format!(
                "the log ends with group {}, but group {known} was in it: an older copy was put back",
                ends.head.group
            );
            return Err(self.noted(damaged(&self.names.head(), &why)));
        }
        let mut vain = 0;
        loop {
            let next = self.index.read().group() + 1;
            if next > ends.head.group {
                break;
            }
            if next < ends.first.group || vain > VAIN_READS_MAX {
                // Trimmed while this replica was away.
                let loaded = load(&self.client, &self.names, self.now(), None).await;
                let loaded = loaded.map_err(|error| self.noted(error))?;
                self.replace_index(loaded);
                break;
            }
            if !self.read_on(next).await? {
                vain += 1;
                ends = self.read_ends().await?;
            }
        }
        self.trimmed(&ends.first);
        Ok(ends)
    }

    /// Notices that another group is in the place of the last one that is known here: the members have come back with
    /// older data, and others have written behind it since.
    pub(crate) async fn check_last_group(&self) -> Result<(), StoreError> {
        let Some(known) = *self.last_group.borrow() else { return Ok(()) };
        let key = self.names.group(known.group);
        let answer = self.client.range(&KeyRange::one(key.clone()).read(1)).await;
        let answer = answer.map_err(|error| self.told(error, false))?;
        // Where there is none it was trimmed, or the log has become shorter, which shows at its end.
        let Some(kv) = answer.kvs.into_iter().next() else { return Ok(()) };
        let found = Envelope::open(&key, kv.value).map_err(|error| self.noted(error))?;
        if GroupMark::of(known.group, &found) == known {
            return Ok(());
        }
        let why = "it is another group than it was: an older copy was put back";
        Err(self.noted(damaged(&key, why)))
    }

    /// Takes in some groups from this one on; false when it is not there.
    async fn read_on(&self, next: u64) -> Result<bool, StoreError> {
        let range = self.names.groups_from(next).read(VALUES_PER_READ);
        let answer = self.client.range(&range).await.map_err(|error| self.told(error, false))?;
        let mut any = false;
        for kv in answer.kvs {
            if !self.take_in(&kv.key, kv.value, kv.mod_revision).await? {
                break;
            }
            any = true;
        }
        Ok(any)
    }

    /// Where the log begins and ends. Linearizable.
    pub(crate) async fn state_now(&self) -> Result<LogState, StoreError> {
        self.catch_up().await?;
        Ok(self.index.read().state(self.identity.log_id))
    }
}
