//! A log that comes here.

use std::collections::BTreeSet;
use std::mem;

use batoff_log::StoreError;
use batoff_log::moving::{
    LogOutline, LogPart, LogParts, MoveError, MovedCounts, MovedKey, MovedPair, compare,
};
use batoff_types::{LogId, Seq, UnixMillis};
use bytes::Bytes;
use prost::Message;

use super::export::PAIRS_PER_READ;
use super::place::{EtcdMove, EtcdMoveError, FoundLog, KEYS_AT_ONCE, WayToEtcd, text};
use crate::client::EtcdError;
use crate::envelope::ValueWriter;
use crate::index::PAGE_SEQS;
use crate::names::PartsShelf;
use crate::open::{FoundImport, read_identity, read_import, write_identity};
use crate::rpc::{Compare, KeyRange, RequestOp, delete, if_modified_at, put};
use crate::stored::{
    Completion, Decision, Entry, FORMAT, First, Group, Head, Import, LogRecord, Page, Pair, Row, SeenKey,
    Task, decode,
};
use crate::trim::row_of;

/// A group is ended once it has so many bytes or records, as an append's is.
const GROUP_BYTES: usize = 256 * 1024;
const GROUP_RECORDS: usize = 1_000;

/// Writes of one transaction, and their bytes: etcd takes 128 and 1.5 MiB.
const WRITES_MAX: usize = 100;
const WRITE_BYTES_MAX: usize = 512 * 1024;

/// How often a claim is tried that somebody else's came before.
const CLAIMS_MAX: u32 = 5;

/// The quota of a member that was given none (`--quota-backend-bytes`), in bytes.
const USUAL_QUOTA: u64 = 2 * 1024 * 1024 * 1024;

/// Per cent of the quota from which on a store refuses appends: a log that moves there must leave room below.
const USABLE_PERCENT: u64 = 80;

/// A log whose contents are in etcd, compared with where they came from, and which is none yet.
#[derive(Debug)]
pub struct ImportedLog {
    log_id: LogId,
    /// Of `i`.
    token: i64,
    /// What there is.
    pub counts: MovedCounts,
}

impl EtcdMove {
    /// Refuses a log of about so many bytes if there is no room for it. Where etcd does not tell its user how much it holds,
    /// that shows when it is written.
    ///
    /// # Errors
    /// [`EtcdMoveError::Room`], with the figures; or etcd does not answer.
    pub async fn check_room(&self, bytes: u64) -> Result<(), EtcdMoveError> {
        let status = match self.way.client.status().await {
            Err(EtcdError::Forbidden(why)) => {
                tracing::warn!(why, "nobody can say beforehand whether there is room for the log");
                return Ok(());
            }
            answer => answer?,
        };
        let used = u64::try_from(status.db_size_in_use).unwrap_or(0);
        let told = u64::try_from(status.db_size_quota).ok().filter(|told| *told > 0);
        let quota = told.or(self.quota).unwrap_or(USUAL_QUOTA);
        let usable = quota / 100 * USABLE_PERCENT;
        // Pages of etcd's files are never quite full.
        let needed = bytes.saturating_add(bytes / 4);
        if used.saturating_add(needed) > usable {
            return Err(EtcdMoveError::Room { needed, used, usable, quota });
        }
        Ok(())
    }

    /// Writes all of a log that will need about `bytes`, reads it again and compares it with `again`, the same parts once
    /// more. What an earlier attempt has left goes first. The log is there once [`Self::finish`] was called.
    ///
    /// `told` hears of progress.
    ///
    /// # Errors
    /// There is a log already, or something else; there is no room; a part cannot be read; etcd has failed; or what is there
    /// differs from what was to be. What was written stays, and is no log.
    pub async fn import(
        &self,
        outline: &LogOutline,
        parts: LogParts,
        again: LogParts,
        bytes: u64,
        told: &mut (dyn FnMut(&MovedCounts) + Send),
    ) -> Result<ImportedLog, EtcdMoveError> {
        match self.find().await? {
            FoundLog::Nothing | FoundLog::Half(_) => {}
            FoundLog::Log(log_id, _) => {
                return Err(EtcdMoveError::Occupied { prefix: self.prefix.clone(), log_id });
            }
        }
        let token = self.claim(outline.state.log_id).await?;
        self.clear(token).await?;
        // What was left over has counted so far.
        self.check_room(bytes).await?;
        let mut writing = Writing {
            way: &self.way,
            condition: if_modified_at(self.way.names.import(), token),
            writer: ValueWriter::new(),
            writes: Vec::new(),
            bytes: 0,
            counts: MovedCounts::default(),
            told,
        };
        writing.all(outline, parts).await?;
        let counts = self.verify(outline, again).await?;
        Ok(ImportedLog { log_id: outline.state.log_id, token, counts })
    }

    /// Says that a log is being moved here, and makes whoever did before stop.
    async fn claim(&self, log_id: LogId) -> Result<i64, EtcdMoveError> {
        let WayToEtcd { client, names } = &*self.way;
        for _ in 0..CLAIMS_MAX {
            let before = read_import(client, names).await?.map_or(0, |found| found.revision);
            let compare = [if_modified_at(names.identity(), 0), if_modified_at(names.import(), before)];
            let written = self.way.write(&compare, vec![put(names.import(), import_of(log_id))]).await?;
            if let Some(revision) = written {
                return Ok(revision);
            }
            // Somebody else was faster; or it was this one, and the answer was lost.
        }
        Err(EtcdMoveError::Overtaken)
    }

    /// Deletes what an earlier attempt has left.
    async fn clear(&self, token: i64) -> Result<(), EtcdMoveError> {
        let condition = [if_modified_at(self.way.names.import(), token)];
        for range in self.way.names.contents() {
            loop {
                let found = self.way.keys(&range, KEYS_AT_ONCE).await?.kvs;
                let (Some(first), Some(last)) = (found.first(), found.last()) else { break };
                let end = [&last.key[..], &[0]].concat().into();
                let some = KeyRange { begin: first.key.clone(), end };
                self.way.write(&condition, vec![delete(&some)]).await?.ok_or(EtcdMoveError::Overtaken)?;
            }
        }
        Ok(())
    }

    /// Reads all that was written, as a start will, and compares it.
    async fn verify(&self, outline: &LogOutline, parts: LogParts) -> Result<MovedCounts, EtcdMoveError> {
        // All that was written: keys that have expired meanwhile, too.
        let (written, of_written) = self.read_as(outline.state.log_id, UnixMillis(0)).await?;
        let counts = compare((outline, parts), (&written, of_written)).await?;
        self.verify_expiries().await?;
        Ok(counts)
    }

    /// Each pair that expires has its entry, and nothing else has one.
    async fn verify_expiries(&self) -> Result<(), EtcdMoveError> {
        let (way, names) = (&self.way, &self.way.names);
        let mut entries: BTreeSet<Bytes> = BTreeSet::new();
        let mut pages = way.pages(names.expiries(), KEYS_AT_ONCE);
        loop {
            let kvs = pages.next().await?;
            if kvs.is_empty() {
                break;
            }
            entries.extend(kvs.into_iter().map(|kv| kv.key));
        }
        let differs = |key: &Bytes| MoveError::Differs(format!("{} and when it expires", text(key)));
        let mut pages = way.pages(names.all_pairs(), PAIRS_PER_READ);
        loop {
            let kvs = pages.next().await?;
            if kvs.is_empty() {
                break;
            }
            for kv in kvs {
                let pair: Pair = decode(&kv.key, kv.value)?;
                let key = names.pair_of(&kv.key).filter(|_| pair.expires_at > 0);
                if key.is_some_and(|key| !entries.remove(&names.expiry(pair.expires_at, &key))) {
                    return Err(differs(&kv.key).into());
                }
            }
        }
        entries.first().map_or(Ok(()), |entry| Err(differs(entry).into()))
    }

    /// Makes what was imported the log, in one step.
    ///
    /// # Errors
    /// Somebody else has begun to move a log here since, or etcd does not answer: then whether it is the log is unknown, and
    /// [`Self::find`] tells.
    pub async fn finish(&self, imported: &ImportedLog) -> Result<(), EtcdMoveError> {
        let names = &self.way.names;
        let compare = [if_modified_at(names.identity(), 0), if_modified_at(names.import(), imported.token)];
        let mut writes = write_identity(&names.identity(), self.cluster, imported.log_id);
        writes.push(delete(&KeyRange::one(names.import())));
        if self.way.write(&compare, writes).await?.is_some() {
            return Ok(());
        }
        // Or the answer was lost.
        match self.find().await? {
            FoundLog::Log(log_id, None) if log_id == imported.log_id => Ok(()),
            _ => Err(EtcdMoveError::Overtaken),
        }
    }

    /// Takes back a log that was moved here: what is there is no log any more, and may be overwritten.
    ///
    /// # Errors
    /// It is not there, or anything at all was written since it was moved.
    pub async fn withdraw(&self, expected: LogId) -> Result<(), EtcdMoveError> {
        let WayToEtcd { client, names } = &*self.way;
        let missing = || EtcdMoveError::Missing { prefix: self.prefix.clone(), expected };
        self.refuse_inhabited().await?;
        let key = names.identity();
        let Some((identity, revision)) = read_identity(client, &key).await? else {
            let half = read_import(client, names).await?;
            return half
                .filter(|FoundImport { log_id, .. }| *log_id == expected)
                .map(|_| ())
                .ok_or_else(missing);
        };
        let is_it = identity.format == FORMAT
            && identity.cluster_id == self.cluster
            && crate::open::id(&identity.log_id) == Some(expected);
        if !is_it {
            return Err(missing());
        }
        let of_identity = self.way.keys(&KeyRange::one(key.clone()), 1).await?;
        // The write that made it the log, whatever it has said since of having moved.
        let made = of_identity.kvs.first().map_or(0, |kv| kv.create_revision);
        let mut pages = self.way.pages(names.everything(), KEYS_AT_ONCE);
        pages.keys_only = true;
        loop {
            let kvs = pages.next().await?;
            if kvs.is_empty() {
                break;
            }
            if let Some(kv) = kvs.iter().find(|kv| kv.mod_revision > made && kv.key != key) {
                return Err(EtcdMoveError::GoneOn { key: text(&kv.key) });
            }
        }
        let compare = [if_modified_at(key, revision), if_modified_at(names.import(), 0)];
        let writes = vec![delete(&KeyRange::one(names.identity())), put(names.import(), import_of(expected))];
        self.way.write(&compare, writes).await?.map(|_| ()).ok_or(EtcdMoveError::Overtaken)
    }
}

fn import_of(log_id: LogId) -> Vec<u8> {
    let writer: [u8; 16] = rand::random();
    let import = Import {
        log_id: Bytes::copy_from_slice(&log_id.to_bytes()),
        writer: Bytes::copy_from_slice(&writer),
    };
    import.encode_to_vec()
}

/// A log that is being written.
struct Writing<'w> {
    way: &'w WayToEtcd,
    /// That nobody else writes one.
    condition: Compare,
    writer: ValueWriter,
    /// What goes into the next transaction.
    writes: Vec<RequestOp>,
    bytes: usize,
    counts: MovedCounts,
    told: &'w mut (dyn FnMut(&MovedCounts) + Send),
}

impl Writing<'_> {
    async fn all(&mut self, outline: &LogOutline, mut parts: LogParts) -> Result<(), EtcdMoveError> {
        let mut next = parts.next().await?;
        while let LogPart::Pair(pair) = next {
            self.pair(&pair).await?;
            next = parts.next().await?;
        }
        self.flush().await?;
        self.pages(outline).await?;
        let first = outline.state.first;
        let mut group = Group { group: 1, first_seq: first.get(), entries: Vec::new() };
        let (mut records, mut bytes, mut seq) = (0, 0, first);
        loop {
            let record = match next {
                LogPart::Record(record) => record,
                LogPart::End => break,
                LogPart::Pair(_) => {
                    return Err(MoveError::Read("a pair comes after records".to_owned()).into());
                }
            };
            if record.seq != seq {
                return Err(MoveError::Read(format!("record {} comes where {seq} should", record.seq)).into());
            }
            seq = seq.next();
            let entries = entries_of(outline, record);
            bytes += entries.iter().map(Message::encoded_len).sum::<usize>();
            records += 1;
            group.entries.extend(entries);
            if records >= GROUP_RECORDS || bytes >= GROUP_BYTES {
                let after = Group { group: group.group + 1, first_seq: seq.get(), entries: Vec::new() };
                self.group(mem::replace(&mut group, after), records).await?;
                (records, bytes) = (0, 0);
            }
            next = parts.next().await?;
        }
        let mut last = group.group - 1;
        if records > 0 {
            last = group.group;
            self.group(group, records).await?;
        }
        if seq != outline.state.tail.next() {
            return Err(MoveError::Read(format!("record {seq} is missing")).into());
        }
        let names = &self.way.names;
        let head = Head { group: last, tail: outline.state.tail.get() };
        let first = First { group: 1, seq: first.get() };
        let writes = vec![put(names.head(), head.encode_to_vec()), put(names.first(), first.encode_to_vec())];
        self.write(writes, None).await
    }

    async fn pair(&mut self, pair: &MovedPair) -> Result<(), EtcdMoveError> {
        let names = &self.way.names;
        // 0 stands for never; what expired then expired long ago.
        let expires_at = pair.expires_at.map_or(0, |at| at.0.max(1));
        let value = Pair { expires_at, value: pair.value.clone() }.encode_to_vec();
        let name = names.pair(&pair.key);
        let bytes = 2 * name.len() + value.len();
        if self.writes.len() + 2 > WRITES_MAX || self.bytes + bytes > WRITE_BYTES_MAX {
            self.flush().await?;
        }
        self.writes.push(put(name, value));
        if expires_at > 0 {
            self.writes.push(put(names.expiry(expires_at, &pair.key), Bytes::new()));
        }
        self.bytes += bytes;
        self.counts.pairs += 1;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), EtcdMoveError> {
        self.bytes = 0;
        let writes = mem::take(&mut self.writes);
        if writes.is_empty() {
            return Ok(());
        }
        (self.told)(&self.counts);
        self.write(writes, None).await
    }

    /// Rows and keys of records that are trimmed.
    async fn pages(&mut self, outline: &LogOutline) -> Result<(), EtcdMoveError> {
        let first = outline.state.first;
        let seqs = outline.tasks.range(..first).map(|(seq, _)| *seq);
        let seqs: BTreeSet<Seq> = seqs.chain(outline.keys.range(..first).map(|(seq, _)| *seq)).collect();
        let mut page: (u64, Vec<Row>) = (0, Vec::new());
        for seq in seqs {
            let number = seq.get() / PAGE_SEQS;
            if number != page.0 {
                self.page(mem::replace(&mut page, (number, Vec::new()))).await?;
            }
            let row = outline.tasks.get(&seq).map(row_of);
            let row = row.unwrap_or(Row { seq: seq.get(), ..Row::default() });
            page.1.push(Row { keys: keys_of(outline, seq), ..row });
            self.counts.tasks += u64::from(outline.tasks.contains_key(&seq));
        }
        self.page(page).await
    }

    async fn page(&mut self, (number, rows): (u64, Vec<Row>)) -> Result<(), EtcdMoveError> {
        if rows.is_empty() {
            return Ok(());
        }
        (self.told)(&self.counts);
        self.value(PartsShelf::Page(number), self.way.names.page(number), &Page { rows }).await
    }

    async fn group(&mut self, group: Group, records: usize) -> Result<(), EtcdMoveError> {
        self.counts.records += records as u64;
        (self.told)(&self.counts);
        self.value(PartsShelf::Groups, self.way.names.group(group.group), &group).await
    }

    /// Puts a value of any size where it belongs.
    async fn value(
        &mut self,
        shelf: PartsShelf,
        key: Bytes,
        body: &impl Message,
    ) -> Result<(), EtcdMoveError> {
        let sealed = self.writer.seal(shelf, body);
        for (part, bytes) in sealed.parts(&self.way.names) {
            self.write(vec![put(part, bytes)], None).await?;
        }
        let staged = sealed.if_staged(&self.way.names);
        self.write(vec![put(key, sealed.value())], staged).await
    }

    async fn write(&self, writes: Vec<RequestOp>, further: Option<Compare>) -> Result<(), EtcdMoveError> {
        let mut compare = vec![self.condition.clone()];
        compare.extend(further);
        self.way.write(&compare, writes).await?.map(|_| ()).ok_or(EtcdMoveError::Overtaken)
    }
}

/// A record with its task and keys, and what became of the task.
fn entries_of(outline: &LogOutline, record: batoff_log::StoredRecord) -> Vec<Entry> {
    let (seq, row) = (record.seq, outline.tasks.get(&record.seq));
    let task = row.map(|row| {
        let meta_is_body = !row.meta.is_empty() && row.meta == record.body;
        Task {
            site: Bytes::copy_from_slice(row.site.as_str().as_bytes()),
            task: Bytes::copy_from_slice(&row.task.to_bytes()),
            meta_is_body,
            meta: if meta_is_body { Bytes::new() } else { row.meta.clone() },
        }
    });
    let keys = keys_of(outline, seq);
    let accepted_at = record.accepted_at.0;
    let mut decisions = vec![Decision::Record(LogRecord { accepted_at, body: record.body, task, keys })];
    if let Some(completion) = row.and_then(|row| row.completion.clone()) {
        decisions.push(Decision::Completion(Completion { seq: seq.get(), completion }));
    }
    decisions.into_iter().map(|decision| Entry { entry: Some(decision) }).collect()
}

fn keys_of(outline: &LogOutline, seq: Seq) -> Vec<SeenKey> {
    let keys = outline.keys.get(&seq).map_or(&[][..], Vec::as_slice);
    keys.iter().map(seen_key).collect()
}

fn seen_key(key: &MovedKey) -> SeenKey {
    SeenKey {
        key: Bytes::copy_from_slice(&key.key),
        body_hash: Bytes::copy_from_slice(&key.body_hash),
        first_at: key.first_at.0,
        expires_at: key.expires_at.0,
        task: Bytes::copy_from_slice(&key.task.to_bytes()),
    }
}

impl From<EtcdMoveError> for MoveError {
    fn from(error: EtcdMoveError) -> Self {
        match error {
            EtcdMoveError::Move(error) => error,
            EtcdMoveError::Store(StoreError::Corrupt(told)) => Self::Read(told),
            other => Self::Read(other.to_string()),
        }
    }
}
