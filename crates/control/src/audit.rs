//! The audit log: who did what, from where, when, and with which result?
//!
//! | what | where its entry comes from |
//! | --- | --- |
//! | a purge that was accepted | its own record in the purge log, which says who asked: [`Audit::flush`] follows that log |
//! | a change by an operator | [`Audit::begin`] before it is made, [`Audit::finish`] after |
//! | somebody signs in to the console | [`Audit::record`], before he is let in |
//! | a purge or a sign-in that was refused, or a purge done before | [`Audit::note`], behind the answer |
//!
//! So accepting a purge costs the audit log no write: what is durable with the purge is written down later, many
//! entries at once, together with how far the purge log has been followed. A kill at any instant leaves no purge
//! without its entry and none with two. A change of an operator stands in the store before it is made; when the process
//! ends before its result is known, the next one says so. Notes are of what changed nothing: the last seconds of them
//! may be lost with the process.
//!
//! **Entries are chained** (`chain`): [`Audit::verify`] notices an entry that was changed, taken out, put in or moved,
//! and, given a head that was kept elsewhere, a chain that was cut off or put back. Entries are forgotten only at the
//! old end, by age and by size, and an entry says which and what their hash was. Who can write to the store *and* has
//! the programs can make up a chain from its beginning: only a head outside of the machine shows that. Copy it, as
//! `batoff audit verify` prints it, to where the control plane cannot write.
//!
//! Entries stand in the order in which they were written; a purge's comes up to [`FLUSH_EVERY`] after it, and before
//! anybody reads. Control planes that share a store write the same chain, each behind the last: one order, and for each
//! purge one entry, whoever accepted it. Who reads is told all purges of the log; others' notes may come 5 s later.

mod block;
mod blocks;
mod chain;
mod check;
mod entry;
mod log;
mod read;
mod writer;

#[cfg(test)]
mod tests;

pub use self::chain::ChainHead;
pub use self::check::{ChainFlaw, ChainReport, HeadVerdict, StoreChange};
pub use self::entry::{AuditAction, AuditEntry, AuditResult, ITSELF, OPERATOR, actor_of};
pub use self::log::{Audit, BegunChange, FLUSH_EVERY};
pub use self::read::{AuditFilter, AuditPage, LISTED_MAX, ListedEntry};
