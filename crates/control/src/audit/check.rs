//! Whether a chain is whole: each entry is looked at, and whatever does not fit is told.

use serde::Serialize;
use utoipa::ToSchema;

use super::block::AuditBlock;
use super::chain::{ChainHash, ChainHead, genesis, hash_of};
use super::entry::{AuditAction, AuditEntry};

/// What is found wrong at most; the rest is counted.
const FLAWS_MAX: usize = 20;

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChainFlaw {
    /// The entry at which it shows.
    pub number: u64,
    /// What is wrong, for people.
    pub what: String,
}

/// That the store became another one: a copy, or a restored backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct StoreChange {
    /// The entry that tells of it.
    pub number: u64,
    /// The store's identity from there on.
    pub log_id: String,
}

/// What a head that somebody kept says about the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadVerdict {
    /// Everything up to it is as it was.
    Confirmed,
    /// At its place stands another entry, or another past before it.
    Differs,
    /// The chain ends before it: entries were cut off, or an older state was put back.
    Missing,
    /// Its entry was forgotten since, as `retention` says; nothing can be said about it.
    Forgotten,
    /// It is of another replica's chain.
    Foreign,
}

/// What was found out about a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChainReport {
    /// Whether the chain is whole, and the head that was given, if one was, is confirmed.
    pub ok: bool,
    /// The first entry that is kept; 0 when there are none.
    pub first: u64,
    /// Entries that were looked at.
    pub entries: u64,
    /// The chain's end: keep it elsewhere, and give it to a later look.
    pub head: String,
    /// About the head that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_head: Option<HeadVerdict>,
    /// What does not fit, the first of it.
    pub flaws: Vec<ChainFlaw>,
    /// All that does not fit, as a number.
    pub flaws_total: u64,
    /// Where the store became another one.
    pub store_changes: Vec<StoreChange>,
}

/// Goes along a chain from its oldest block to its end.
pub(super) struct ChainCheck {
    /// Where the writer believes the chain to end.
    head: ChainHead,
    known: Option<ChainHead>,
    known_hash: Option<ChainHash>,
    /// The place before the first entry that is kept.
    start: Option<(u64, ChainHash)>,
    next: u64,
    hash: ChainHash,
    entries: u64,
    /// Where the chain's end says that forgetting has come to, and the hash that was found there.
    trimmed: u64,
    trimmed_hash: Option<ChainHash>,
    /// What the last entry about it says.
    told: Option<(u64, Option<ChainHash>)>,
    store_changes: Vec<StoreChange>,
    flaws: Vec<ChainFlaw>,
    flaws_total: u64,
}

impl ChainCheck {
    /// Of the chain up to `head`, in which entries up to `trimmed` are forgotten, or about to be.
    pub(super) fn new(head: ChainHead, trimmed: u64, known: Option<ChainHead>) -> Self {
        Self {
            head,
            known,
            known_hash: None,
            start: None,
            next: 1,
            hash: [0; 32],
            entries: 0,
            trimmed,
            trimmed_hash: None,
            told: None,
            store_changes: Vec::new(),
            flaws: Vec::new(),
            flaws_total: 0,
        }
    }

    /// The next block.
    pub(super) fn block(&mut self, block: &AuditBlock) {
        let (first, previous) = (block.head.first, block.previous().unwrap_or_default());
        match self.start {
            None => {
                self.start = Some((first - 1, previous));
                self.pass(first - 1, previous);
            }
            Some(_) if first != self.next => {
                self.flaw(
                    first,
                    format!("the entries from {} to {} are not there", self.next, first.saturating_sub(1)),
                );
            }
            Some(_) if previous != self.hash => {
                self.flaw(
                    first,
                    "what stands before it is another past than it was written after".to_owned(),
                );
            }
            Some(_) => {}
        }
        if block.head.replica != self.head.replica {
            self.flaw(first, format!("it is of the chain of replica {}", block.head.replica));
        }
        self.next = first;
        self.hash = previous;
        // What was written since is not looked at.
        let end = self.head.number;
        for (number, line, hash) in block.links().take_while(|(number, ..)| *number <= end) {
            self.entry(number, line);
            self.pass(number, hash);
            (self.hash, self.next, self.entries) = (hash, number + 1, self.entries + 1);
        }
    }

    /// A block that cannot be read.
    pub(super) fn unreadable(&mut self, first: u64, why: &str) {
        self.flaw(first, format!("the block that begins with it cannot be read: {why}"));
        self.start = self.start.or(Some((first.saturating_sub(1), [0; 32])));
    }

    fn entry(&mut self, number: u64, line: &str) {
        let entry: AuditEntry = match serde_json::from_str(line) {
            Ok(entry) => entry,
            Err(_) => return self.flaw(number, "it is no entry".to_owned()),
        };
        if entry.number != number {
            self.flaw(number, format!("entry {} stands in its place", entry.number));
        }
        let begins = entry.action == AuditAction::AuditBegin.as_str();
        if begins || number == 1 {
            let expected = genesis(&self.head.replica, entry.object.as_deref().unwrap_or_default());
            if !begins || number != 1 || self.hash != expected {
                self.flaw(number, "the chain does not begin as a chain of this replica begins".to_owned());
            }
        }
        if entry.action == AuditAction::LogChanged.as_str() {
            self.store_changes.push(StoreChange { number, log_id: entry.object.clone().unwrap_or_default() });
        }
        if entry.action == AuditAction::AuditTrim.as_str() {
            let change = entry.change.unwrap_or_default();
            let hash = change["hash"].as_str().and_then(hash_of);
            self.told = Some((change["through"].as_u64().unwrap_or_default(), hash));
        }
    }

    /// The chain has this hash after this entry.
    fn pass(&mut self, number: u64, hash: ChainHash) {
        if number == self.trimmed {
            self.trimmed_hash = Some(hash);
        }
        if self.known.as_ref().is_some_and(|known| known.number == number) {
            self.known_hash = Some(hash);
        }
    }

    fn flaw(&mut self, number: u64, what: String) {
        self.flaws_total += 1;
        if self.flaws.len() < FLAWS_MAX {
            self.flaws.push(ChainFlaw { number, what });
        }
    }

    /// The end was reached.
    pub(super) fn finish(mut self) -> ChainReport {
        let head = self.head.clone();
        let (before, _) = self.start.unwrap_or_default();
        if self.next != head.number + 1 || self.hash != head.hash {
            self.flaw(
                self.next,
                format!("the chain ends here, and not with entry {} as written", head.number),
            );
        }
        // Entries go missing at the old end only as an entry says.
        let forgotten = self.told.map_or(0, |(through, _)| through);
        if before > forgotten {
            self.flaw(before + 1, format!("the entries from {} to {before} are not there", forgotten + 1));
        } else if forgotten != self.trimmed {
            self.flaw(before + 1, format!("forgotten is said to be up to {forgotten} and {}", self.trimmed));
        } else if let Some((through, hash)) = self.told
            && self.trimmed_hash != hash
        {
            self.flaw(before + 1, format!("entry {through} had another hash when it was forgotten"));
        }
        let known_head = self.known.as_ref().map(|known| match self.known_hash {
            _ if known.replica != head.replica => HeadVerdict::Foreign,
            Some(hash) if hash == known.hash => HeadVerdict::Confirmed,
            Some(_) => HeadVerdict::Differs,
            None if known.number > head.number => HeadVerdict::Missing,
            None if known.number < before => HeadVerdict::Forgotten,
            None => HeadVerdict::Differs,
        });
        ChainReport {
            ok: self.flaws_total == 0 && known_head.is_none_or(|known| known == HeadVerdict::Confirmed),
            first: if self.entries == 0 { 0 } else { before + 1 },
            entries: self.entries,
            head: head.to_string(),
            known_head,
            flaws: self.flaws,
            flaws_total: self.flaws_total,
            store_changes: self.store_changes,
        }
    }
}
