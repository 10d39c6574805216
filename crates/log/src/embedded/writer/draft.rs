//! One group of the log: what its requests have decided so far, and what is to change in memory when it is durable.

use std::collections::HashMap;

use batoff_types::{Seq, TaskId, UnixMillis};
use bytes::Bytes;
use redb::{Database, ReadableDatabase};

use super::super::aligned::AlignedBytes;
use super::super::committed::Committed;
use super::super::fault::Fault;
use super::super::keys::{KeyRows, SeenKeys};
use super::super::layer::TaskLayers;
use super::super::queue::{HeldAnswer, Request};
use super::super::read::TaskTables;
use super::super::segments::{GROUP_HEAD, GroupHead, put_first};
use crate::purge_log::{StoredRecord, TaskRow};

/// A group that is being filled. Nothing in memory changes before it is durable.
pub(super) struct GroupDraft<'w> {
    /// Room for the head, then the frames.
    pub(super) out: &'w mut AlignedBytes,
    pub(super) layers: &'w TaskLayers,
    pub(super) keys: &'w SeenKeys,
    pub(super) now: UnixMillis,
    checkpoint: &'w Database,
    /// Opened when it is first needed: most groups need it not.
    tables: Option<TaskTables>,
    pub(super) group: DraftedGroup,
}

/// What is to change when the group is durable.
pub(super) struct DraftedGroup {
    pub(super) committed: Committed,
    pub(super) records: Vec<StoredRecord>,
    pub(super) tasks: Vec<TaskRow>,
    pub(super) by_task: HashMap<TaskId, u64>,
    pub(super) keys: KeyRows,
    pub(super) completions: Vec<(u64, Bytes)>,
    pub(super) forgotten: Vec<u64>,
}

impl DraftedGroup {
    /// A group after which `committed` holds, and nothing else has changed.
    pub(super) fn of_nothing(committed: Committed) -> Self {
        Self {
            committed,
            records: Vec::new(),
            tasks: Vec::new(),
            by_task: HashMap::new(),
            keys: KeyRows::new(),
            completions: Vec::new(),
            forgotten: Vec::new(),
        }
    }
}

impl<'w> GroupDraft<'w> {
    pub(super) fn new(
        out: &'w mut AlignedBytes,
        layers: &'w TaskLayers,
        keys: &'w SeenKeys,
        checkpoint: &'w Database,
        committed: Committed,
        now: UnixMillis,
    ) -> Self {
        out.clear();
        out.resize(GROUP_HEAD);
        let group = DraftedGroup::of_nothing(committed);
        Self { out, layers, keys, now, checkpoint, tables: None, group }
    }

    /// Carries out one request; its answer waits for the flush.
    pub(super) fn carry_out(&mut self, request: Request, answers: &mut Vec<HeldAnswer>) -> Result<(), Fault> {
        macro_rules! answer {
            ($reply:ident, $result:expr) => {{
                match $result {
                    Ok(value) => answers.push(HeldAnswer::new($reply, value)),
                    Err(fault) => {
                        answers.push(HeldAnswer::of_failed($reply));
                        return Err(fault);
                    }
                }
            }};
        }
        match request {
            Request::Append { batch, reply, .. } => answer!(reply, self.append(batch)),
            Request::Recognise { keys, reply } => answer!(reply, self.look_up(&keys)),
            Request::Trim { keep_from, reply } => {
                let first = self.trim(keep_from);
                answers.push(HeldAnswer::new(reply, first));
            }
            Request::PutCompletions { rows, reply, .. } => answer!(reply, self.put_completions(rows)),
            Request::ChangeCompletions { changes, reply, .. } => {
                answer!(reply, self.change_completions(changes))
            }
            Request::ForgetTasks { older_than, from, reply } => {
                answer!(reply, self.forget_tasks(older_than, from))
            }
            // The writer has seen to these.
            Request::Cas { .. } | Request::Mend { .. } | Request::Close { .. } => {}
        }
        Ok(())
    }

    /// Lets the log begin later; which segments can go is seen to when that is durable.
    fn trim(&mut self, keep_from: Seq) -> Seq {
        let committed = &mut self.group.committed;
        let target = keep_from.min(committed.tail.next());
        if target > committed.first {
            committed.first = target;
            put_first(self.out, target);
        }
        self.group.committed.first
    }

    /// The index of tasks below the layers.
    pub(super) fn tables(&mut self) -> Result<&TaskTables, Fault> {
        let tables = match self.tables.take() {
            Some(tables) => tables,
            None => TaskTables::open(&self.checkpoint.begin_read()?)?,
        };
        Ok(self.tables.insert(tables))
    }

    /// Where the task's record is, or was; `None` when it is not known.
    pub(super) fn seq_of(&mut self, task: TaskId) -> Result<Option<u64>, Fault> {
        if let Some(seq) = self.group.by_task.get(&task) {
            return Ok(Some(*seq));
        }
        // Ids rise with time, so most new ones need no search.
        if task > self.group.committed.last_task {
            return Ok(None);
        }
        let layers = self.layers;
        let seq = self.tables()?.seq_of(layers, task)?;
        Ok(seq.filter(|seq| !self.group.forgotten.contains(seq)))
    }

    /// The group as it is to be written, and what is to change then; `None` when the requests changed nothing.
    pub(super) fn finish(mut self) -> Option<(GroupHead, DraftedGroup)> {
        if self.out.len() == GROUP_HEAD {
            return None;
        }
        self.group.committed.group += 1;
        let committed = &self.group.committed;
        let records = self.group.records.len() as u64;
        let head = GroupHead {
            bytes: 0,
            records: u32::try_from(records).unwrap_or(u32::MAX),
            first_seq: committed.tail.next().get() - records,
            group: committed.group,
            segment: 0,
            high: committed.high,
        };
        Some((head, self.group))
    }
}
