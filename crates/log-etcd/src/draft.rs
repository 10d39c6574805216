//! What requests come to, given the index at one group. Nothing is changed before the group is in the log; when another
//! replica's is there first, the same requests are decided anew on the index after that one.

use std::collections::HashMap;

use batoff_log::{Appended, CompletionChange, Dedupe, NewRecord};
use batoff_types::{Cursor, TaskId, UnixMillis};
use bytes::Bytes;

use crate::index::{LogIndex, SeenRequest};
use crate::queue::{LogWrite, WriteAnswer};
use crate::stored::{Completion, Decision, Entry, Group, LogRecord, SeenKey, Task};

/// What requests come to.
pub(crate) struct DraftedWrites {
    /// `None` when nothing is to be written.
    pub(crate) group: Option<Group>,
    /// The place of the group before it.
    pub(crate) after: u64,
    /// When that became the last.
    pub(crate) head_revision: i64,
    /// The log's tail after it.
    pub(crate) tail: Cursor,
    /// New records.
    pub(crate) records: usize,
    /// One for each request.
    pub(crate) answers: Vec<WriteAnswer>,
    /// Something was decided from what is *not* in the index: that holds only if it is the newest.
    pub(crate) needs_newest: bool,
}

/// Decides all of these requests, in order.
pub(crate) fn draft(index: &LogIndex, requests: &[LogWrite], now: UnixMillis) -> DraftedWrites {
    let mut drafting = Drafting {
        index,
        now,
        tail: index.tail(),
        entries: Vec::new(),
        seen: HashMap::new(),
        tasks: HashMap::new(),
        completions: HashMap::new(),
        records: 0,
        needs_newest: false,
    };
    let answers = requests.iter().map(|request| drafting.carry_out(request)).collect();
    let Drafting { entries, tail, records, needs_newest, .. } = drafting;
    let group = (!entries.is_empty()).then(|| Group {
        group: index.group() + 1,
        first_seq: index.tail().next().get(),
        entries: entries.into_iter().map(|entry| Entry { entry: Some(entry) }).collect(),
    });
    let (after, head_revision) = (index.group(), index.head_revision());
    DraftedWrites { group, after, head_revision, tail, records, answers, needs_newest }
}

struct Drafting<'i> {
    index: &'i LogIndex,
    now: UnixMillis,
    tail: Cursor,
    entries: Vec<Decision>,
    /// What the requests before have added.
    seen: HashMap<[u8; 32], SeenRequest>,
    tasks: HashMap<TaskId, u64>,
    completions: HashMap<TaskId, Bytes>,
    records: usize,
    needs_newest: bool,
}

/// Whether a request with these keys was accepted before, or cannot be at `now`.
fn recognise<'k, 's>(
    keys: &'k [Dedupe],
    now: UnixMillis,
    seen: impl Fn(&[u8; 32]) -> Option<&'s SeenRequest>,
) -> Recognition<'k> {
    let (mut duplicate, mut absent) = (None, Vec::new());
    for key in keys {
        let Some(seen) = seen(&key.key).filter(|seen| now < seen.expires_at) else {
            absent.push(key);
            continue;
        };
        if seen.body_hash != key.body_hash {
            return Recognition::Known(Appended::Conflict);
        }
        // A clock that is behind makes the first one fresh: a purge too many, never one too few.
        let age_ms = now.0.saturating_sub(seen.first_at.0);
        if age_ms >= key.fresh_for_ms && duplicate.is_none() {
            duplicate = Some(Appended::Duplicate { seq: seen.seq, task: seen.task });
        }
    }
    duplicate.map_or(Recognition::New(absent), Recognition::Known)
}

/// What an append with these keys would be answered, if it would not be new.
pub(crate) fn look_up(keys: &[Dedupe], now: UnixMillis, index: &LogIndex) -> Option<Appended> {
    match recognise(keys, now, |key| index.seen(key)) {
        Recognition::Known(known) => Some(known),
        Recognition::New(_) => None,
    }
}

/// What the keys of a request say of it.
enum Recognition<'k> {
    Known(Appended),
    /// It is new, and these keys are to be stored with it.
    New(Vec<&'k Dedupe>),
}

impl Drafting<'_> {
    fn carry_out(&mut self, request: &LogWrite) -> WriteAnswer {
        match request {
            LogWrite::Append { batch, .. } => {
                WriteAnswer::Appended(batch.iter().map(|record| self.append(record)).collect())
            }
            LogWrite::PutCompletions { rows, .. } => {
                rows.iter().for_each(|(task, row)| self.complete(*task, row));
                WriteAnswer::Done
            }
            LogWrite::ChangeCompletions { changes, .. } => {
                WriteAnswer::Changed(changes.iter().map(|change| self.change(change)).collect())
            }
            LogWrite::ForgetTasks { older_than, .. } => {
                let forgotten = self.index.older_than(*older_than);
                if forgotten > 0 {
                    self.entries.push(Decision::ForgetBefore(older_than.0));
                } else {
                    self.needs_newest = true;
                }
                WriteAnswer::Forgotten(forgotten)
            }
        }
    }

    fn append(&mut self, record: &NewRecord) -> Appended {
        let absent = match self.recognise(&record.dedupe) {
            Recognition::Known(known) => return known,
            Recognition::New(absent) => absent,
        };
        let seq = self.tail.next();
        let mut keys: Vec<SeenKey> = Vec::new();
        let mut task_row = None;
        if let Some(task) = &record.task {
            for key in absent {
                if key.expires_at <= self.now || keys.iter().any(|other| other.key == key.key[..]) {
                    continue;
                }
                let seen = SeenRequest {
                    seq,
                    task: task.task,
                    body_hash: key.body_hash,
                    first_at: self.now,
                    expires_at: key.expires_at,
                };
                self.seen.insert(key.key, seen);
                keys.push(SeenKey {
                    key: Bytes::copy_from_slice(&key.key),
                    body_hash: Bytes::copy_from_slice(&key.body_hash),
                    first_at: self.now.0,
                    expires_at: key.expires_at.0,
                    task: Bytes::copy_from_slice(&task.task.to_bytes()),
                });
            }
            // The first record of a task keeps it.
            if self.seq_of(task.task).is_none() {
                self.tasks.insert(task.task, seq.get());
                let meta_is_body = !task.meta.is_empty() && task.meta == record.body;
                task_row = Some(Task {
                    site: Bytes::copy_from_slice(task.site.as_str().as_bytes()),
                    task: Bytes::copy_from_slice(&task.task.to_bytes()),
                    meta_is_body,
                    meta: if meta_is_body { Bytes::new() } else { task.meta.clone() },
                });
            }
        }
        self.entries.push(Decision::Record(LogRecord {
            accepted_at: record.accepted_at.0,
            body: record.body.clone(),
            task: task_row,
            keys,
        }));
        self.records += 1;
        self.tail = Cursor::after(seq);
        Appended::New { seq }
    }

    /// Whether a request with these keys was accepted before, or cannot be now.
    fn recognise<'k>(&self, keys: &'k [Dedupe]) -> Recognition<'k> {
        recognise(keys, self.now, |key| self.seen.get(key).or_else(|| self.index.seen(key)))
    }

    fn complete(&mut self, task: TaskId, completion: &Bytes) {
        match self.seq_of(task) {
            Some(seq) => {
                let completion = Completion { seq, completion: completion.clone() };
                self.completions.insert(task, completion.completion.clone());
                self.entries.push(Decision::Completion(completion));
            }
            None => self.needs_newest = true,
        }
    }

    /// Whether it is written: the row says what its writer found there. That it says something else is decided on what is in
    /// the index, which is true.
    fn change(&mut self, change: &CompletionChange) -> bool {
        let CompletionChange { task, before, after } = change;
        let is_known = self.seq_of(*task).is_some();
        let now = self.completions.get(task).or_else(|| self.index.completion(*task));
        if is_known && now != before.as_ref() {
            return false;
        }
        self.complete(*task, after);
        is_known
    }

    fn seq_of(&self, task: TaskId) -> Option<u64> {
        self.tasks.get(&task).copied().or_else(|| self.index.seq_of(task))
    }
}
