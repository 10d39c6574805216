//! The tables of the files. A change here, or in `rows`, `segments` or `keys`, is a new [`FORMAT`].

use redb::TableDefinition;

/// The version of everything that is stored.
pub(super) const FORMAT: u32 = 3;
/// The version that kept everything in one database. A store of it is carried over when it is opened.
pub(super) const FORMAT_ONE_FILE: u32 = 2;
/// The same, without checksums on tasks and completions.
pub(super) const FORMAT_UNCHECKED: u32 = 1;

/// What stands instead of [`FORMAT`] in the pairs of a store whose log has moved to another engine: no build takes it for
/// its own, so none ever starts on it. The store beside it stays as it was.
pub(super) const FORMAT_MOVED: u32 = 0x8000_0003;

/// Numbers about the database, by name (the constants below). Builds that know only older formats read the first five
/// before they see which format it is, so they stay.
pub(super) const META: TableDefinition<&str, u128> = TableDefinition::new("meta");
/// Of [`META`]: the version of the layout.
pub(super) const META_FORMAT: &str = "format";
/// Of [`META`]: the identity of the log.
pub(super) const META_LOG_ID: &str = "log_id";
/// Of [`META`]: beside the log, how many transactions were committed; tells after a failure which was the last. In the
/// checkpoint, the group of the log through which it holds everything.
pub(super) const META_COMMIT: &str = "commit";
/// Of [`META`], in the checkpoint: the oldest record kept; the next to be written when there is none.
pub(super) const META_FIRST: &str = "first";
/// Of [`META`]: the version of the last write to a pair.
pub(super) const META_KV_VERSION: &str = "kv_version";
/// Of [`META`]: which store the files belong to, however often its log gets another identity.
pub(super) const META_LINEAGE: &str = "lineage";
/// Of [`META`], in the checkpoint: the newest record through [`META_COMMIT`].
pub(super) const META_TAIL: &str = "tail";
/// Of [`META`], in the checkpoint: the latest `accepted_at` through [`META_TAIL`].
pub(super) const META_HIGH: &str = "high";
/// Of [`META`], in the checkpoint: the largest id of a task ever seen.
pub(super) const META_LAST_TASK: &str = "last_task";

/// Of [`META`], in pairs that are sealed: when their log moved, in ms since 1970.
pub(super) const META_MOVED_AT: &str = "moved_at";
/// Of [`META`], in pairs that are sealed: the cluster that it moved to.
pub(super) const META_MOVED_TO: &str = "moved_to";

/// Tasks: seq → `rows::task`. By seq, so that new rows lie side by side, and the oldest are found first.
pub(super) const TASKS: TableDefinition<u64, &[u8]> = TableDefinition::new("tasks");
/// task id → seq.
pub(super) const TASK_SEQS: TableDefinition<&[u8; 16], u64> = TableDefinition::new("task_seqs");
/// (site, seq) of each task.
pub(super) const SITE_TASKS: TableDefinition<(&str, u64), ()> = TableDefinition::new("site_tasks");
/// What became of tasks: seq → `rows::completion`.
pub(super) const COMPLETIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("completions");

/// Files with keys of accepted requests: their number → (keys, when the last of them expires in ms).
pub(super) const KEY_RUNS: TableDefinition<u64, (u64, u64)> = TableDefinition::new("key_runs");

/// Pairs: key → `rows::pair`.
pub(super) const KV: TableDefinition<&[u8], &[u8]> = TableDefinition::new("kv");
/// (expiry in ms, key) of those pairs that expire.
pub(super) const KV_EXPIRY: TableDefinition<(u64, &[u8]), ()> = TableDefinition::new("kv_expiry");

/// What only the format of one file had: records, seq → `rows::read_record`.
pub(super) const OLD_LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// The same: keys of accepted requests, key → `rows::SeenKey`.
pub(super) const OLD_DEDUPE: TableDefinition<&[u8; 32], &[u8; 72]> = TableDefinition::new("dedupe");
