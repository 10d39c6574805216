//! The index as etcd has it, read at one revision: pages of what is left of trimmed records, then all groups.

use batoff_log::StoreError;
use batoff_types::UnixMillis;
use bytes::Bytes;

use crate::client::{EtcdClient, EtcdError};
use crate::envelope::{PIECE_BYTES_MAX, VALUES_PER_READ};
use crate::index::{Applied, GroupEntry, LogIndex};
use crate::names::{KeyNames, PartsShelf};
use crate::rpc::{Headed, KeyRange, KeyValue, TxnRequest, read};
use crate::stored::{Envelope, First, Group, Head, Page, damaged, decode};
use crate::witness::GroupMark;

/// How often reading begins anew because etcd's history has been compacted, or the log trimmed, behind it.
const ATTEMPTS_MAX: u32 = 5;

/// What was read.
pub(crate) struct LoadedLog {
    pub(crate) index: LogIndex,
    /// When it was all that there was.
    pub(crate) revision: i64,
    /// The last group; `None` when none is left.
    pub(crate) last: Option<GroupMark>,
    /// The group that was looked for.
    pub(crate) found: Option<GroupMark>,
}

/// Why reading stopped.
enum Stopped {
    /// What was being read has gone meanwhile.
    Overtaken,
    Failed(StoreError),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Reads the whole log, as it was at one moment since this was called, and notes which group has the number `look_for`.
pub(crate) async fn load(
    client: &EtcdClient,
    names: &KeyNames,
    now: UnixMillis,
    look_for: Option<u64>,
) -> Result<LoadedLog, StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        match (Loading { client, names, now, look_for }).load().await {
            Ok(loaded) => return Ok(loaded),
            Err(Stopped::Failed(error)) => return Err(error),
            Err(Stopped::Overtaken) => {
                tracing::info!("the log has changed while it was read; reading it again")
            }
        }
    }
    Err(StoreError::Unavailable { retry_after: crate::client::RETRY_AFTER })
}

struct Loading<'c> {
    client: &'c EtcdClient,
    names: &'c KeyNames,
    now: UnixMillis,
    look_for: Option<u64>,
}

impl Loading<'_> {
    async fn load(&self) -> Result<LoadedLog, Stopped> {
        let (head_key, first_key) = (self.names.head(), self.names.first());
        let request = TxnRequest {
            success: [&head_key, &first_key].map(|key| read(KeyRange::one(key.clone()).read(1))).to_vec(),
            ..TxnRequest::default()
        };
        let answer = self.client.read_txn(&request).await.map_err(|error| error.into_store_error(false))?;
        let revision = answer.revision();
        let there = |at: usize, key: &Bytes| {
            answer.kvs(at).first().cloned().ok_or_else(|| damaged(key, "it is not there"))
        };
        let (head, first) = (there(0, &head_key)?, there(1, &first_key)?);
        let head_revision = head.mod_revision;
        let head: Head = decode(&head_key, head.value)?;
        let first: First = decode(&first_key, first.value)?;

        let mut index = LogIndex::beginning(&first);
        self.pages(&mut index, &first, revision).await?;
        let (last, found) = self.groups(&mut index, revision).await?;
        if index.group() != head.group || index.tail().get() != head.tail {
            let why = format!(
                "it says that the log ends with group {} and record {}, but what is there ends with group {} and record {}",
                head.group,
                head.tail,
                index.group(),
                index.tail()
            );
            return Err(damaged(&head_key, &why).into());
        }
        index.set_head_revision(head_revision);
        index.drop_expired(self.now);
        Ok(LoadedLog { index, revision, last, found })
    }

    async fn pages(&self, index: &mut LogIndex, first: &First, revision: i64) -> Result<(), Stopped> {
        let mut range = Some(self.names.pages());
        while let Some(some) = range {
            let kvs = self.read(&some, revision).await?;
            range = kvs.last().map(|last| some.after(&last.key));
            for kv in kvs {
                let shelf = PartsShelf::Page(
                    self.names.page_of(&kv.key).ok_or_else(|| damaged(&kv.key, "it is no page"))?,
                );
                let envelope = Envelope::open(&kv.key, kv.value)?;
                let page: Option<Page> = envelope.unpack(shelf, &kv.key, self.client, self.names).await?;
                for row in page.ok_or(Stopped::Overtaken)?.rows {
                    // A page that was written for a trim that came to nothing: the log itself has these.
                    if row.seq < first.seq {
                        index.load_row(&row).map_err(|why| damaged(&kv.key, why))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the last group, and the one that is looked for.
    async fn groups(
        &self,
        index: &mut LogIndex,
        revision: i64,
    ) -> Result<(Option<GroupMark>, Option<GroupMark>), Stopped> {
        let (mut last, mut found) = (None, None);
        let mut range = Some(self.names.groups_from(index.first_group()));
        while let Some(some) = range {
            let kvs = self.read(&some, revision).await?;
            range = kvs.last().map(|last| some.after(&last.key));
            for kv in kvs {
                let envelope = Envelope::open(&kv.key, kv.value)?;
                let bytes =
                    PIECE_BYTES_MAX * usize::try_from(envelope.parts).unwrap_or(0) + envelope.body.len();
                let place = GroupEntry {
                    bytes,
                    parts: envelope.parts_range(PartsShelf::Groups, self.names),
                    ..GroupEntry::default()
                };
                let mark = self.names.group_of(&kv.key).map(|group| GroupMark::of(group, &envelope));
                let group: Option<Group> =
                    envelope.unpack(PartsShelf::Groups, &kv.key, self.client, self.names).await?;
                let group = group.ok_or(Stopped::Overtaken)?;
                if self.look_for == Some(group.group) {
                    found = mark;
                }
                last = mark;
                match index.apply(group, kv.mod_revision, place) {
                    Ok(Applied::New(_)) => {}
                    Ok(Applied::Known | Applied::Gap) => {
                        return Err(damaged(&kv.key, "the group before it is missing").into());
                    }
                    Err(why) => return Err(damaged(&kv.key, why).into()),
                }
            }
        }
        Ok((last, found))
    }

    async fn read(&self, range: &KeyRange, revision: i64) -> Result<Vec<KeyValue>, Stopped> {
        let mut request = range.read(VALUES_PER_READ);
        request.revision = revision;
        match self.client.range(&request).await {
            Ok(answer) => Ok(answer.kvs),
            Err(EtcdError::Compacted) => Err(Stopped::Overtaken),
            Err(error) => Err(error.into_store_error(false).into()),
        }
    }
}
