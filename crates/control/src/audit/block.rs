//! Entries as the store keeps them: many in one small record, so that a thousand purges are one write.
//!
//! ```text
//!  {"version":1,"replica":"1",…}\n      what is known before the first entry, and how far this chain is
//!  {"number":8,…}\n                     entries in their canonical form
//!  {"number":9,…}\n
//!  SHA-256 of everything above, 64 hex digits
//! ```
//!
//! The last block of a chain is written again, longer, until it is large enough; the others never change.

use batoff_types::Replica;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::chain::{ChainHash, hash_of, link};
use super::entry::AuditEntry;

/// The version of this form.
const VERSION: u32 = 1;

/// Bytes of hex digits at the end.
const SEAL_BYTES: usize = 64;

/// A change that was begun and whose entry is not written yet. Should the process end before, the next one writes an
/// entry that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenChange {
    pub id: String,
    /// The number of the control plane that makes it.
    #[serde(default = "only", skip_serializing_if = "is_only")]
    pub replica: u8,
    pub entry: AuditEntry,
}

const fn only() -> u8 {
    Replica::ONLY.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_only(replica: &u8) -> bool {
    *replica == only()
}

/// What stands before the entries. Everything but `replica`, `first` and `previous` is for going on, and proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlockHead {
    version: u32,
    pub replica: String,
    /// The store's identity when the block was last written.
    pub log_id: String,
    /// The number of the first entry.
    pub first: u64,
    pub count: u64,
    /// The hash before the first entry, in hex.
    pub previous: String,
    /// The first entry of the block before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// The latest time of all entries up to the end of this block, in milliseconds of Unix time.
    pub latest: u64,
    /// Purges up to this record of the purge log have their entries. Written in the same instant as those entries.
    pub through: u64,
    /// The last entry that was forgotten; 0 when none was.
    pub trimmed: u64,
    /// Bytes of all blocks before this one since the chain began.
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<OpenChange>,
    /// Where several write: another one at each write, for two may want to write the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
}

/// Consecutive entries with what belongs to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuditBlock {
    pub head: BlockHead,
    /// Entries in their canonical form, each ended by a newline.
    pub lines: String,
}

impl AuditBlock {
    /// The first of a chain, without entries.
    pub(super) fn first(replica: &str, log_id: &str, previous: &ChainHash) -> Self {
        Self {
            head: BlockHead {
                version: VERSION,
                replica: replica.to_owned(),
                log_id: log_id.to_owned(),
                first: 1,
                count: 0,
                previous: hex::encode(previous),
                before: None,
                latest: 0,
                through: 0,
                trimmed: 0,
                bytes: 0,
                open: Vec::new(),
                stamp: None,
            },
            lines: String::new(),
        }
    }

    /// The next, without entries; the chain's hash is `hash` before it.
    pub(super) fn after(&self, hash: &ChainHash) -> Self {
        let head = BlockHead {
            first: self.end(),
            count: 0,
            previous: hex::encode(hash),
            before: Some(self.head.first),
            bytes: self.head.bytes + self.encoded_bytes() as u64,
            ..self.head.clone()
        };
        Self { head, lines: String::new() }
    }

    /// The number after the last entry.
    pub(super) fn end(&self) -> u64 {
        self.head.first + self.head.count
    }

    /// The hash before the first entry.
    pub(super) fn previous(&self) -> Option<ChainHash> {
        hash_of(&self.head.previous)
    }

    /// Each entry in its canonical form with its number and hash, in order.
    pub(super) fn links(&self) -> impl Iterator<Item = (u64, &str, ChainHash)> {
        let mut hash = self.previous().unwrap_or_default();
        (self.head.first..).zip(self.lines.lines()).map(move |(number, line)| {
            hash = link(&hash, line);
            (number, line, hash)
        })
    }

    #[expect(clippy::expect_used, reason = "strings, numbers and JSON always have a JSON form")]
    fn encoded_head(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(&self.head).expect("strings, numbers and JSON");
        bytes.push(b'\n');
        bytes
    }

    fn encoded_bytes(&self) -> usize {
        self.encoded_head().len() + self.lines.len() + SEAL_BYTES
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.encoded_head();
        bytes.extend_from_slice(self.lines.as_bytes());
        let seal = hex::encode(Sha256::digest(&bytes));
        bytes.extend_from_slice(seal.as_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let cut = bytes.len().checked_sub(SEAL_BYTES).ok_or("it is too short for a block of entries")?;
        let (content, seal) = bytes.split_at(cut);
        if hex::encode(Sha256::digest(content)).as_bytes() != seal {
            return Err("its bytes are not those that were written: their SHA-256 is another one");
        }
        let text = std::str::from_utf8(content).map_err(|_| "it is no text")?;
        let (head, lines) = text.split_once('\n').ok_or("it has no head")?;
        let head: BlockHead = serde_json::from_str(head).map_err(|_| "its head cannot be read")?;
        if head.version != VERSION {
            return Err("it was written by another build in a form that this one does not know");
        }
        if lines.lines().count() as u64 != head.count || head.first == 0 {
            return Err("it has another number of entries than its head says");
        }
        if hash_of(&head.previous).is_none() {
            return Err("the hash before it cannot be read");
        }
        Ok(Self { head, lines: lines.to_owned() })
    }
}
