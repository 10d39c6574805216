use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use batoff_types::LogId;
use ulid::Ulid;

use super::committed::{Committed, CommittedPairs};

const BYTES: usize = 44;

/// What was acknowledged last, in a small file of its own beside the store.
///
/// A crash can tear the newest group of the log or the newest transaction beside it, and neither can tell one that nobody
/// heard of from one that was acknowledged and damaged later. This file can: it is written after the flush and before any
/// answer. It is not flushed itself. The death of the process does not touch it, and a power
/// cut at worst leaves an older one, which then notices less and never too much.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
}

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Testimony {
    pub(super) log_id: LogId,
    pub(super) group: u64,
    pub(super) tail: u64,
    pub(super) pairs: u64,
}

impl Witness {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok(Self { file })
    }

    /// `None` for a file that says nothing: a new one, or one that a power cut has torn.
    pub(super) fn read(&self) -> io::Result<Option<Testimony>> {
        let mut bytes = [0; BYTES];
        match self.file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write(&self, committed: &Committed, pairs: &CommittedPairs) -> io::Result<()> {
        self.file.write_all_at(&encode(committed, pairs), 0)
    }
}

impl Testimony {
    /// What is missing from a log that stands there, if anything is.
    pub(super) fn refutes(&self, committed: &Committed) -> Option<String> {
        let Self { log_id, group, tail, .. } = *self;
        (log_id == committed.log_id && group > committed.group).then(|| {
            format!(
                "group {group} with record {tail} was acknowledged, but it ends with group {} and record {}",
                committed.group, committed.tail
            )
        })
    }

    /// What is missing beside it, if anything is.
    pub(super) fn refutes_pairs(&self, log_id: LogId, found: &CommittedPairs) -> Option<String> {
        (self.log_id == log_id && self.pairs > found.commit).then(|| {
            format!("commit {} was acknowledged, but it ends with commit {}", self.pairs, found.commit)
        })
    }
}

fn encode(committed: &Committed, pairs: &CommittedPairs) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..16].copy_from_slice(&u128::from(committed.log_id.ulid()).to_le_bytes());
    bytes[16..24].copy_from_slice(&committed.group.to_le_bytes());
    bytes[24..32].copy_from_slice(&committed.tail.get().to_le_bytes());
    bytes[32..40].copy_from_slice(&pairs.commit.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..40]);
    bytes[40..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; BYTES]) -> Option<Testimony> {
    let (head, crc) = bytes.split_at(40);
    if crc32fast::hash(head).to_le_bytes() != crc {
        return None;
    }
    let (log_id, rest) = head.split_first_chunk::<16>()?;
    let (group, rest) = rest.split_first_chunk::<8>()?;
    let (tail, rest) = rest.split_first_chunk::<8>()?;
    Some(Testimony {
        log_id: LogId::from_ulid(Ulid::from(u128::from_le_bytes(*log_id))),
        group: u64::from_le_bytes(*group),
        tail: u64::from_le_bytes(*tail),
        pairs: u64::from_le_bytes(rest.try_into().ok()?),
    })
}
