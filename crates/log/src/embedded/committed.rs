use batoff_types::{Cursor, LogId, Seq, TaskId, UnixMillis};

/// What the last acknowledged group left: where the log stands, and what the next one goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) log_id: LogId,
    /// The number of the last group.
    pub(super) group: u64,
    pub(super) first: Seq,
    pub(super) tail: Cursor,
    /// The latest `accepted_at` among the records.
    pub(super) high: UnixMillis,
    /// The largest id of a task: a larger one is not known.
    pub(super) last_task: TaskId,
}

/// What the last acknowledged transaction left beside the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommittedPairs {
    /// How many transactions were committed.
    pub(super) commit: u64,
    /// The version of the last write to a pair.
    pub(super) version: u64,
    /// When the next pair expires.
    pub(super) expiry: Option<UnixMillis>,
}
