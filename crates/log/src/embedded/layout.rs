//! The tables of the file. A change here is a new [`FORMAT`].

use redb::TableDefinition;

/// The version of everything in this file and in `rows`.
pub(super) const FORMAT: u32 = 2;
/// The version without checksums on tasks and completions. A store of it is brought up to date when it is opened.
pub(super) const FORMAT_UNCHECKED: u32 = 1;

/// Numbers about the store, by name (the constants below).
pub(super) const META: TableDefinition<&str, u128> = TableDefinition::new("meta");
/// Of [`META`]: the version of the layout.
pub(super) const META_FORMAT: &str = "format";
/// Of [`META`]: the identity of the log.
pub(super) const META_LOG_ID: &str = "log_id";
/// Of [`META`]: how many transactions were committed; tells after a failure which was the last.
pub(super) const META_COMMIT: &str = "commit";
/// Of [`META`]: the oldest record kept; the next to be written when there is none.
pub(super) const META_FIRST: &str = "first";
/// Of [`META`]: the version of the last write to a pair.
pub(super) const META_KV_VERSION: &str = "kv_version";

/// Records: seq → `rows::record`.
pub(super) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");

/// Tasks: seq → `rows::task`. By seq, so that new rows lie side by side, and the oldest are found first.
pub(super) const TASKS: TableDefinition<u64, &[u8]> = TableDefinition::new("tasks");
/// task id → seq.
pub(super) const TASK_SEQS: TableDefinition<&[u8; 16], u64> = TableDefinition::new("task_seqs");
/// (site, seq) of each task.
pub(super) const SITE_TASKS: TableDefinition<(&str, u64), ()> = TableDefinition::new("site_tasks");
/// What became of tasks: seq → `rows::completion`.
pub(super) const COMPLETIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("completions");

/// Keys of accepted requests: key → `rows::seen`.
pub(super) const DEDUPE: TableDefinition<&[u8; 32], &[u8; 72]> = TableDefinition::new("dedupe");
/// (expiry in ms, key) of each of them.
pub(super) const DEDUPE_EXPIRY: TableDefinition<(u64, &[u8; 32]), ()> = TableDefinition::new("dedupe_expiry");

/// Pairs: key → `rows::pair`.
pub(super) const KV: TableDefinition<&[u8], &[u8]> = TableDefinition::new("kv");
/// (expiry in ms, key) of those pairs that expire.
pub(super) const KV_EXPIRY: TableDefinition<(u64, &[u8]), ()> = TableDefinition::new("kv_expiry");
