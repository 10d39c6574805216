//! What the daemon asks of a cache.
//!
//! A cache in this process asks the index at each hit and needs little more than room for its memory to be given back; one
//! beside it (nginx's files, Varnish) must be told what to remove, and is waited for. Those are in `batoff-caches`.

use std::sync::Arc;

use async_trait::async_trait;
use batoff_index::Match;
use batoff_types::{Moment, Record, Seq};

/// A cache that this node's daemon drives. `L` is how it finds its objects (a file's hash, a key).
///
/// Calls come from one task a cache, one at a time ([`Cache::hold_back`] and [`Cache::serve_until`] apart), and are
/// repeated for ever with back-off when they fail, so each must be idempotent. A cache that fails delays its own node's
/// cursor and nothing else.
///
/// Records come in groups, in the order of the log: whatever waits when the cache becomes free is one group, so that a
/// burst of purges costs a few round trips and not one each.
///
/// ```text
///  Needs::Objects     begin(records) ──▶ evict(objects) … ──▶ finish() ──▶ ack of all of them
///  Needs::Selectors   purge(records) ────────────────────────▶ finish() ──▶ ack of all of them
/// ```
#[async_trait]
pub trait Cache<L>: Send + Sync {
    /// The name in logs, in metrics and at the control plane.
    fn name(&self) -> &str;

    /// What is to be told to it.
    fn needs(&self) -> Needs;

    /// What makes a purged object unservable here. Decides what an ack waits for.
    fn proof(&self) -> Proof;

    /// Whether the index knows every object that it holds, so that they can be counted: a guard that counts what a purge
    /// would hit must not take a cache for empty of which nothing is known.
    fn is_counted(&self) -> bool {
        self.needs() == Needs::Objects
    }

    /// The rules of `records` are in force in the index; their objects follow. Called ahead of the objects of earlier
    /// records, for [`Needs::Objects`].
    async fn begin(&self, records: &[Arc<Record>]) -> Result<(), CacheTrouble> {
        let _ = records;
        Ok(())
    }

    /// Makes these objects unservable (stale, if that is the effect), or gives their memory back when the rule did that
    /// already. Called with batches, for [`Needs::Objects`]. Objects of other caches are among them.
    async fn evict(&self, objects: &[Match<L>]) -> Result<(), CacheTrouble> {
        let _ = objects;
        Ok(())
    }

    /// Makes what `records` hit unservable by the cache's own means. Called with records that purge something, each once,
    /// for [`Needs::Selectors`].
    async fn purge(&self, records: &[Arc<Record>]) -> Result<(), CacheTrouble> {
        let _ = records;
        Ok(())
    }

    /// Everything that some records hit was handed over; when this returns, nothing of it is served any more.
    async fn finish(&self) -> Result<(), CacheTrouble> {
        Ok(())
    }

    /// Makes everything unservable that it holds now, and marks it as this state's: see
    /// [`Provenance`](crate::Provenance).
    async fn flush(&self) -> Result<(), CacheTrouble>;

    /// Asked when records take long to finish, beside the other calls: whether the cache can do without a part of what
    /// it holds that covers what `records` hit, until [`Cache::let_go`]. With `true` it does so from its return on, and
    /// the records are acknowledged; their objects are still removed.
    async fn hold_back(&self, records: &[Arc<Record>]) -> bool {
        let _ = records;
        false
    }

    /// Everything that records through this one hit is removed: what was held back for them may be served again.
    fn let_go(&self, through: Seq) {
        let _ = through;
    }

    /// A reset has made void what [`Cache::hold_back`] was last asked for, perhaps while it did so: nobody will let it go.
    fn held_in_vain(&self) {}

    /// What keeps the cache from serving what it holds although nothing is asked of it, for people; `None` when nothing does.
    /// Asked once a second while nothing else is; must return at once.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// How long it may serve on its own, on the clock of [`boottime`](fn@crate::boottime); [`Moment::ZERO`]: not at all from now on.
    /// Called at each renewal and when the lease is lost, on strict nodes only. Must return at once.
    fn serve_until(&self, until: Moment) {
        let _ = until;
    }
}

/// What a cache is given when a record is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// The objects that were hit, as it registered them in the index. It has registered all it holds: rules that are
    /// swept and an hour old are forgotten, so hits ask `Index::check_registered` or `Index::lookup`, not `Index::check`.
    Objects,
    /// The records themselves: it finds its objects by its own means.
    Selectors,
}

/// What makes a purged object unservable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The rule: every hit asks the index before it is served.
    Rule,
    /// The removal: it serves what it has until [`Cache::evict`] or [`Cache::purge`], and [`Cache::finish`] have returned.
    Eviction,
}

/// A cache cannot be reached or refuses; the text is shown to operators. It is asked again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CacheTrouble(pub String);
