use batoff_types::{Cursor, LogId, Seq, UnixMillis};

/// What the last commit left: where the log stands, and the counters that go on from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) log_id: LogId,
    /// How many transactions were committed.
    pub(super) commit: u64,
    pub(super) first: Seq,
    pub(super) tail: Cursor,
    /// The latest `accepted_at` among the records.
    pub(super) high: UnixMillis,
    /// The version of the last write to a pair.
    pub(super) kv_version: u64,
    /// When the next pair expires.
    pub(super) kv_expiry: Option<UnixMillis>,
}
