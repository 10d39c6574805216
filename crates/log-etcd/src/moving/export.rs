//! A log that leaves.

use std::sync::Arc;

use batoff_log::moving::{LogOutline, LogPart, LogParts, MovedPair, PartsSender, parts};
use batoff_types::{LogId, Seq, UnixMillis};
use prost::Message;

use super::place::{EtcdMove, EtcdMoveError, FoundLog, MovedTo, WayToEtcd};
use crate::envelope::VALUES_PER_READ;
use crate::load::load;
use crate::names::PartsShelf;
use crate::open::read_identity;
use crate::open_error::EtcdOpenError;
use crate::read::records;
use crate::rpc::{if_modified_at, put};
use crate::stored::{Envelope, FORMAT, FORMAT_MOVED, Group, Identity, Pair, damaged, decode};

/// Pairs that are read by one request: each may have a megabyte.
pub(super) const PAIRS_PER_READ: i64 = 48;

impl EtcdMove {
    /// Says in etcd that the log has moved: nothing is appended or trimmed from then on, and no store opens it. Returns which
    /// log it is. Once more for a log that has moved already, it only looks.
    ///
    /// # Errors
    /// There is none, a control plane has it open, or etcd does not answer.
    pub async fn seal(&self, to: &str) -> Result<(LogId, MovedTo), EtcdMoveError> {
        self.refuse_inhabited().await?;
        let log_id = match self.find().await? {
            FoundLog::Log(log_id, Some(moved)) => return Ok((log_id, moved)),
            FoundLog::Log(log_id, None) => log_id,
            FoundLog::Half(log_id) => {
                return Err(EtcdOpenError::Importing { log_id }.into());
            }
            FoundLog::Nothing => {
                let told = format!("there is no purge log under {}", self.prefix);
                return Err(EtcdMoveError::Etcd(told));
            }
        };
        let moved = MovedTo { at: (self.clock)(), to: to.to_owned() };
        let written = self.say(log_id, Some(&moved)).await?;
        if !written && self.find().await? != FoundLog::Log(log_id, Some(moved.clone())) {
            return Err(EtcdMoveError::Overtaken);
        }
        // One that came between the look and the seal.
        if let Err(error) = self.refuse_inhabited().await {
            self.unseal(log_id).await?;
            return Err(error);
        }
        Ok((log_id, moved))
    }

    /// Takes back what [`Self::seal`] said, when nothing became of it: nobody goes on with the log elsewhere.
    ///
    /// # Errors
    /// It says another thing meanwhile, or etcd does not answer.
    pub async fn unseal(&self, log_id: LogId) -> Result<(), EtcdMoveError> {
        if self.say(log_id, None).await? || self.find().await? == FoundLog::Log(log_id, None) {
            return Ok(());
        }
        Err(EtcdMoveError::Overtaken)
    }

    async fn say(&self, log_id: LogId, moved: Option<&MovedTo>) -> Result<bool, EtcdMoveError> {
        let WayToEtcd { client, names } = &*self.way;
        let key = names.identity();
        let Some((found, revision)) = read_identity(client, &key).await? else { return Ok(false) };
        if found.format != if moved.is_some() { FORMAT } else { FORMAT_MOVED }
            || crate::open::id(&found.log_id) != Some(log_id)
        {
            return Ok(false);
        }
        let identity = Identity {
            format: if moved.is_some() { FORMAT_MOVED } else { FORMAT },
            moved_at: moved.map_or(0, |moved| moved.at.0),
            moved_to: moved.map_or(String::new(), |moved| moved.to.clone()),
            ..found
        };
        let writes = vec![put(key.clone(), identity.encode_to_vec())];
        Ok(self.way.write(&[if_modified_at(key, revision)], writes).await?.is_some())
    }

    /// Reads the log that was sealed. Keys that have expired by the clock are not in its outline. Can be done again, with the
    /// same outcome.
    ///
    /// # Errors
    /// It is not sealed, or cannot be read.
    pub async fn read(&self, now: UnixMillis) -> Result<(LogOutline, LogParts), EtcdMoveError> {
        match self.find().await? {
            FoundLog::Log(log_id, Some(_)) => self.read_as(log_id, now).await,
            _ => {
                Err(EtcdMoveError::Etcd("the log is not sealed, so it may go on while it is read".to_owned()))
            }
        }
    }

    /// Reads what is there, whether it says that it is a log or not.
    pub(super) async fn read_as(
        &self,
        log_id: LogId,
        now: UnixMillis,
    ) -> Result<(LogOutline, LogParts), EtcdMoveError> {
        let loaded = load(&self.way.client, &self.way.names, now, None).await?;
        let first_group = loaded.index.first_group();
        let outline = loaded.index.into_outline(log_id, now);
        let (sender, parts) = parts();
        let reader = PartsReader { way: Arc::clone(&self.way), sender, first: outline.state.first };
        tokio::spawn(reader.run(first_group));
        Ok((outline, parts))
    }
}

/// Reads pairs, then records.
pub(super) struct PartsReader {
    way: Arc<WayToEtcd>,
    sender: PartsSender,
    first: Seq,
}

/// Nobody takes parts any more.
struct Unheard;

impl PartsReader {
    async fn run(self, first_group: u64) {
        let last = match self.send(first_group).await {
            Ok(Ok(())) => Ok(LogPart::End),
            Ok(Err(Unheard)) => return,
            Err(error) => Err(error.into()),
        };
        self.sender.put(last).await;
    }

    async fn send(&self, first_group: u64) -> Result<Result<(), Unheard>, EtcdMoveError> {
        let WayToEtcd { client, names } = &*self.way;
        let mut pages = self.way.pages(names.all_pairs(), PAIRS_PER_READ);
        loop {
            let kvs = pages.next().await?;
            if kvs.is_empty() {
                break;
            }
            for kv in kvs {
                let Pair { expires_at, value } = decode(&kv.key, kv.value)?;
                let key = names.pair_of(&kv.key).ok_or_else(|| damaged(&kv.key, "it is no pair"))?;
                let expires_at = (expires_at > 0).then_some(UnixMillis(expires_at));
                let pair = MovedPair { key, value, expires_at };
                if !self.sender.put(Ok(LogPart::Pair(pair))).await {
                    return Ok(Err(Unheard));
                }
            }
        }
        let mut pages = self.way.pages(names.groups_from(first_group), VALUES_PER_READ);
        loop {
            let kvs = pages.next().await?;
            if kvs.is_empty() {
                return Ok(Ok(()));
            }
            for kv in kvs {
                let envelope = Envelope::open(&kv.key, kv.value)?;
                let group: Option<Group> =
                    envelope.unpack(PartsShelf::Groups, &kv.key, client, names).await?;
                let group = group.ok_or_else(|| damaged(&kv.key, "its parts are missing"))?;
                for record in records(group).filter(|record| record.seq >= self.first) {
                    if !self.sender.put(Ok(LogPart::Record(record))).await {
                        return Ok(Err(Unheard));
                    }
                }
            }
        }
    }
}
