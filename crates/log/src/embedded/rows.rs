//! The bytes of a row, and back. Numbers are little-endian.

use batoff_types::{Seq, SiteId, TaskId, UnixMillis};
use bytes::Bytes;

use super::fault::Fault;
use crate::kv::{Version, Versioned};
use crate::purge_log::{StoredRecord, TaskRow};

/// Bytes of a record's row before its body: `high 8 | accepted_at 8 | crc32 4`. `high` is the latest `accepted_at` up to
/// the record. Only stores of older formats have such rows.
const RECORD_HEAD: usize = 20;
/// Bytes of a task's row before the site: `crc32 4 | task 16 | accepted_at 8 | length of the site 1`.
const TASK_HEAD: usize = 29;
/// Bytes of a checksum, which a task's row and a completion begin with.
const CRC: usize = 4;
/// Bytes of a pair's row before the value: `version 8 | expires 8`.
const PAIR_HEAD: usize = 16;

/// Stands for "does not expire".
pub(super) const NEVER: u64 = u64::MAX;

/// The record of a row, if it is the one that was written.
pub(super) fn read_record(seq: u64, row: &[u8]) -> Result<StoredRecord, Fault> {
    let damaged = || Fault::Damaged(format!("record {seq} does not match its checksum"));
    let (head, body) = row.split_at_checked(RECORD_HEAD).ok_or_else(damaged)?;
    if head[16..20] != checksum(seq, &head[0..16], body).to_le_bytes() {
        return Err(damaged());
    }
    let seq = Seq::new(seq).ok_or_else(damaged)?;
    Ok(StoredRecord { seq, accepted_at: UnixMillis(number(head, 8)), body: Bytes::copy_from_slice(body) })
}

/// The latest `accepted_at` up to the record of this row.
pub(super) fn record_high(row: &[u8]) -> UnixMillis {
    UnixMillis(number(row, 0))
}

fn checksum(seq: u64, times: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seq.to_le_bytes());
    hasher.update(times);
    hasher.update(body);
    hasher.finalize()
}

/// A task's row.
pub(super) fn task(seq: u64, site: &SiteId, task: TaskId, accepted_at: UnixMillis, meta: &[u8]) -> Vec<u8> {
    let site = site.as_str().as_bytes();
    let mut row = Vec::with_capacity(TASK_HEAD + site.len() + meta.len());
    row.extend_from_slice(&[0; CRC]);
    row.extend_from_slice(&task.to_bytes());
    row.extend_from_slice(&accepted_at.0.to_le_bytes());
    // A site's name has at most 64 bytes.
    row.push(u8::try_from(site.len()).unwrap_or(u8::MAX));
    row.extend_from_slice(site);
    row.extend_from_slice(meta);
    seal(seq, &mut row);
    row
}

/// The row of a task or a completion as it was before they had checksums, as it is now.
pub(super) fn with_checksum(seq: u64, unchecked: &[u8]) -> Vec<u8> {
    let mut row = [&[0; CRC], unchecked].concat();
    seal(seq, &mut row);
    row
}

/// Writes the checksum of a row that has room for it.
fn seal(seq: u64, row: &mut [u8]) {
    let (head, rest) = row.split_at_mut(CRC);
    head.copy_from_slice(&checksum(seq, &[], rest).to_le_bytes());
}

/// What became of a task.
pub(super) fn completion(seq: u64, bytes: &[u8]) -> Vec<u8> {
    with_checksum(seq, bytes)
}

/// What became of a task, as it was given.
pub(super) fn read_completion(seq: u64, row: &[u8]) -> Result<Bytes, Fault> {
    let damaged = || Fault::Damaged(format!("the completion of record {seq} does not match its checksum"));
    let (crc, bytes) = row.split_at_checked(CRC).ok_or_else(damaged)?;
    if crc != checksum(seq, &[], bytes).to_le_bytes() {
        return Err(damaged());
    }
    Ok(Bytes::copy_from_slice(bytes))
}

/// The task of a row, without its completion.
pub(super) fn read_task(seq: u64, row: &[u8]) -> Result<TaskRow, Fault> {
    let damaged = || Fault::Damaged(format!("the task row of record {seq} does not match its checksum"));
    let (head, rest) = row.split_at_checked(TASK_HEAD).ok_or_else(damaged)?;
    if head[..CRC] != checksum(seq, &[], &row[CRC..]).to_le_bytes() {
        return Err(damaged());
    }
    let (site, meta) = rest.split_at_checked(usize::from(head[28])).ok_or_else(damaged)?;
    let mut task = [0; 16];
    task.copy_from_slice(&head[CRC..CRC + 16]);
    Ok(TaskRow {
        site: std::str::from_utf8(site).ok().and_then(|site| site.parse().ok()).ok_or_else(damaged)?,
        task: TaskId::from_bytes(task),
        seq: Seq::new(seq).ok_or_else(damaged)?,
        accepted_at: UnixMillis(number(head, 20)),
        meta: Bytes::copy_from_slice(meta),
        completion: None,
    })
}

/// What is remembered of an accepted request: `seq 8 | task 16 | body hash 32 | first at 8 | expires 8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeenKey {
    pub(super) seq: u64,
    pub(super) task: TaskId,
    pub(super) body_hash: [u8; 32],
    pub(super) first_at: UnixMillis,
    pub(super) expires_at: UnixMillis,
}

impl SeenKey {
    pub(super) fn to_row(self) -> [u8; 72] {
        let mut row = [0; 72];
        row[0..8].copy_from_slice(&self.seq.to_le_bytes());
        row[8..24].copy_from_slice(&self.task.to_bytes());
        row[24..56].copy_from_slice(&self.body_hash);
        row[56..64].copy_from_slice(&self.first_at.0.to_le_bytes());
        row[64..72].copy_from_slice(&self.expires_at.0.to_le_bytes());
        row
    }

    pub(super) fn from_row(row: &[u8; 72]) -> Self {
        let mut task = [0; 16];
        task.copy_from_slice(&row[8..24]);
        let mut body_hash = [0; 32];
        body_hash.copy_from_slice(&row[24..56]);
        Self {
            seq: number(row, 0),
            task: TaskId::from_bytes(task),
            body_hash,
            first_at: UnixMillis(number(row, 56)),
            expires_at: UnixMillis(number(row, 64)),
        }
    }
}

/// A pair as it is kept; `expires` is [`NEVER`] or a time in ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) version: u64,
    pub(super) expires: u64,
    pub(super) value: Bytes,
}

impl Pair {
    pub(super) fn to_row(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(PAIR_HEAD + self.value.len());
        row.extend_from_slice(&self.version.to_le_bytes());
        row.extend_from_slice(&self.expires.to_le_bytes());
        row.extend_from_slice(&self.value);
        row
    }

    pub(super) fn from_row(row: &[u8]) -> Result<Self, Fault> {
        let (head, value) = row
            .split_at_checked(PAIR_HEAD)
            .ok_or_else(|| Fault::Damaged("a pair beside the log cannot be read".to_owned()))?;
        Ok(Self { version: number(head, 0), expires: number(head, 8), value: Bytes::copy_from_slice(value) })
    }

    pub(super) fn is_alive(&self, now: UnixMillis) -> bool {
        now.0 < self.expires
    }

    pub(super) fn into_versioned(self) -> Versioned {
        Versioned { value: self.value, version: Version::from_raw(self.version) }
    }
}

/// The number at `at`; 0 where the row is too short, which only a damaged one is.
fn number(row: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    if let Some(found) = row.get(at..at + 8) {
        bytes.copy_from_slice(found);
    }
    u64::from_le_bytes(bytes)
}
