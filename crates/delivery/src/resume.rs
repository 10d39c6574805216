//! Where a node's stream goes on: at the place that its `Hello` names, or nowhere, and then it drops everything.

use batoff_types::message::{Hello, Reset, ResetReason};
use batoff_types::{Cursor, LogId, Seq, TaskId};

/// What the control plane's log holds, for judging a `Hello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogView {
    /// The log.
    pub log_id: LogId,
    /// The first record that is retained; of an empty log, the next to be written.
    pub first: Seq,
    /// The place after the last durable record. One of several control planes may know less than that: see
    /// [`LogView::is_behind`].
    pub tail: Cursor,
}

impl LogView {
    /// Whether the node is further than this view in its log. One of several control planes must not judge it then: others
    /// may have sent it what this one has not seen. It asks the engine where the log ends, reads through there, and looks
    /// again; what is beyond that, too, is beyond the log.
    pub fn is_behind(&self, hello: &Hello) -> bool {
        hello.position.is_some_and(|at| at.log_id == self.log_id && at.cursor > self.tail)
    }
}

/// Where a stream resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Everything after this place is sent.
    At(Cursor),
    /// The node must drop everything. The message is to be sent right after `Welcome`, before anything else: a node
    /// takes whatever else comes there as the proof that its position was accepted.
    Reset(Reset),
}

impl Resume {
    /// The place after which records are sent.
    pub const fn cursor(&self) -> Cursor {
        match self {
            Self::At(cursor) => *cursor,
            Self::Reset(reset) => reset.cursor,
        }
    }
}

/// Decides where a node resumes. `task_at` is the task of the record right before the cursor that the `Hello` names;
/// `None` when the log does not hold that record.
///
/// In doubt the node is reset: that costs cached objects, while a place wrongly believed costs the proof. A reset goes
/// to the tail, since who drops everything needs no older record.
pub fn judge_hello(hello: &Hello, log: &LogView, task_at: Option<TaskId>) -> Resume {
    let reset = |reason| Resume::Reset(Reset { log_id: log.log_id, cursor: log.tail, reason });
    let Some(position) = &hello.position else {
        return reset(ResetReason::New);
    };
    if position.log_id != log.log_id {
        return reset(ResetReason::ForeignLog);
    }
    if position.cursor > log.tail {
        return reset(ResetReason::BeyondTail);
    }
    if position.cursor.next() < log.first {
        return reset(ResetReason::Trimmed);
    }
    let retained = position.cursor.last().is_some_and(|last| last >= log.first);
    match (position.task, task_at) {
        (Some(claimed), Some(found)) if claimed == found => Resume::At(position.cursor),
        (Some(_), Some(_)) => reset(ResetReason::RecordDiffers),
        (Some(_), None) if retained => reset(ResetReason::RecordDiffers),
        // The record right before the first retained one cannot be compared any more.
        (Some(_), None) => Resume::At(position.cursor),
        // At the start of the log, or where a reset put it.
        (None, _) => Resume::At(position.cursor),
    }
}

#[cfg(test)]
mod tests {
    use batoff_types::InstanceId;
    use batoff_types::message::{LeasePolicy, Position};

    use super::*;

    const LOG: LogId = LogId::from_bytes([7; 16]);

    fn task(number: u8) -> TaskId {
        TaskId::from_bytes([number; 16])
    }

    fn hello(position: Option<Position>) -> Hello {
        Hello {
            node: "fra1/edge-1".parse().unwrap(),
            instance: InstanceId::from_bytes([1; 16]),
            position,
            protocol: 1,
            semantics: 1,
            version: "0".into(),
            caches: Vec::new(),
            parents: Vec::new(),
            policy: LeasePolicy::Revalidate,
            connection: None,
        }
    }

    fn check(position: Option<Position>, task_at: Option<TaskId>, expected: Result<u64, ResetReason>) {
        let hello = hello(position);
        let log = LogView { log_id: LOG, first: Seq::new(10).unwrap(), tail: Cursor::new(20) };
        let expected = match expected {
            Ok(cursor) => Resume::At(Cursor::new(cursor)),
            Err(reason) => Resume::Reset(Reset { log_id: LOG, cursor: log.tail, reason }),
        };
        assert_eq!(judge_hello(&hello, &log, task_at), expected, "{position:?} {task_at:?}");
    }

    #[test]
    fn a_view_is_behind_a_node_that_is_further_in_the_same_log() {
        let view = LogView { log_id: LOG, first: Seq::new(10).unwrap(), tail: Cursor::new(20) };
        let foreign = Position { log_id: LogId::from_bytes([8; 16]), cursor: Cursor::new(21), task: None };
        for (position, behind) in
            [(None, false), (at(20, None), false), (at(21, None), true), (Some(foreign), false)]
        {
            assert_eq!(view.is_behind(&hello(position)), behind, "{position:?}");
        }
    }

    fn at(cursor: u64, task: Option<TaskId>) -> Option<Position> {
        Some(Position { log_id: LOG, cursor: Cursor::new(cursor), task })
    }

    #[test]
    fn a_node_resumes_where_it_stands_or_is_reset_with_the_reason() {
        check(None, None, Err(ResetReason::New));
        let foreign =
            Position { log_id: LogId::from_bytes([8; 16]), cursor: Cursor::new(15), task: Some(task(1)) };
        check(Some(foreign), Some(task(1)), Err(ResetReason::ForeignLog));
        check(at(21, Some(task(1))), None, Err(ResetReason::BeyondTail));
        check(at(8, Some(task(1))), None, Err(ResetReason::Trimmed));
        check(at(0, None), None, Err(ResetReason::Trimmed));
        check(at(15, Some(task(1))), Some(task(2)), Err(ResetReason::RecordDiffers));
        check(at(15, Some(task(1))), None, Err(ResetReason::RecordDiffers));
        check(at(15, Some(task(1))), Some(task(1)), Ok(15));
        check(at(20, Some(task(1))), Some(task(1)), Ok(20));
        // Everything it needs is there, though the record it stands on is not.
        check(at(9, Some(task(1))), None, Ok(9));
        // Put there by a reset.
        check(at(15, None), Some(task(2)), Ok(15));
    }
}
