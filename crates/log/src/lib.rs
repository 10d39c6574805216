//! The purge log: what was accepted, and in which order?
//!
//! [`PurgeLog`] is one durable sequence of records with the index of tasks and the memory of repeated requests beside
//! it, [`Kv`] holds the small records that are not part of the sequence (tokens, cursors, terms), [`Presence`] says
//! which replicas are there, and a [`Store`] is the three together. [`embedded`] keeps all of it in one file of the
//! control plane's own disk; an engine with sockets gets a crate of its own and the same `conformance` suite.
//!
//! **It is not:** a message bus, a consensus system, or a database for anything else. It never looks inside a payload,
//! never speaks a network protocol of ours, and never reads the wall clock on its own: a [`WallClock`] is passed in.
//!
//! **Invariants:** sequence numbers are 1, 2, 3, … without gaps; what was answered with `Ok` is on the disk; a record
//! that was once readable is the same record for ever, or trimmed.

pub mod embedded;
mod error;
mod kv;
pub mod moving;
mod presence;
mod purge_log;
mod store;

#[cfg(any(test, feature = "conformance"))]
#[allow(clippy::expect_used, reason = "a suite of tests; a broken promise is a panic")]
pub mod conformance;

pub use self::error::{ReadError, StoreError};
pub use self::kv::{
    CasError, Expect, Guard, GuardedError, KEY_BYTES_MAX, Key, Kv, KvEvent, SCAN_ITEMS_MAX, VALUE_BYTES_MAX,
    Version, Versioned, Write,
};
pub use self::presence::{Presence, PresenceEvent, ReplicaId};
pub use self::purge_log::{
    Appended, BATCH_BYTES_MAX, BATCH_RECORDS_MAX, CompletionChange, Dedupe, LIST_TASKS_MAX, LogState,
    NewRecord, NewTask, PurgeLog, READ_BYTES_MAX, READ_RECORDS_MAX, RECORD_BYTES_MAX, StoredRecord, TaskRow,
    check_batch, check_changes, check_completions,
};
pub use self::store::{Health, Store, WallClock, system_clock};
