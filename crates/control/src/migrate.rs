//! `batoff-control migrate`: takes the purge log from the data folder into an etcd cluster, or back, as the same log, so that
//! nodes go on where they are.
//!
//! ```text
//!  there   lock ─▶ copy of the store ─▶ etcd ─▶ read again, compared ─▶ seal on the store ─▶ it is the log in etcd
//!  back    seat ─▶ seal on the log in etcd ─▶ copy ─▶ new folder ─▶ opened, read again, compared
//! ```
//!
//! The log is sealed where it was before it is one where it goes: whenever this process dies, at most one of the two starts.
//! **Invariant, by what is absent:** nothing here runs beside a control plane; whoever has the log open is named.

mod back;
mod ground;
mod there;

pub use self::back::to_embedded;
pub use self::ground::{MigrateFailed, MigrateProgress, Migrated, ProgressListener};
pub use self::there::{to_etcd, undo};
