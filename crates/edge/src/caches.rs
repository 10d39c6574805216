//! What the daemon asks of a cache.
//!
//! One file a kind of cache. A cache in this process asks the index at each hit and needs little more than room for its
//! memory to be given back; one beside it (nginx's files, Varnish) must be told what to remove, and is waited for.

use async_trait::async_trait;
use batoff_index::Match;
use batoff_types::{Moment, Record};

mod in_process;

pub use self::in_process::{Evict, InProcess};

/// A cache that this node's daemon drives. `L` is how it finds its objects (a file's hash, a key).
///
/// Calls come from one task a cache, one at a time and in the order of the log, and are repeated for ever with back-off
/// when they fail, so each must be idempotent. A cache that fails delays its own node's cursor and nothing else.
#[async_trait]
pub trait Cache<L>: Send + Sync {
    /// The name in logs, in metrics and at the control plane.
    fn name(&self) -> &str;

    /// What is to be told to it.
    fn needs(&self) -> Needs;

    /// What makes a purged object unservable here. Decides what an ack waits for.
    fn proof(&self) -> Proof;

    /// Makes these objects unservable (stale, if that is the effect), or gives their memory back when the rule did that
    /// already. Called with batches, for [`Needs::Objects`].
    async fn evict(&self, objects: &[Match<L>]) -> Result<(), CacheTrouble> {
        let _ = objects;
        Ok(())
    }

    /// Makes what `record` hits unservable by the cache's own means. Called once a record that purges anything, for
    /// [`Needs::Selectors`].
    async fn purge(&self, record: &Record) -> Result<(), CacheTrouble> {
        let _ = record;
        Ok(())
    }

    /// Makes everything unservable that it holds now.
    async fn flush(&self) -> Result<(), CacheTrouble>;

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
    /// The record itself: it finds its objects by its own means.
    Selectors,
}

/// What makes a purged object unservable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The rule: every hit asks the index before it is served.
    Rule,
    /// The removal: it serves what it has until [`Cache::evict`] or [`Cache::purge`] has returned.
    Eviction,
}

/// A cache cannot be reached or refuses; the text is shown to operators. It is asked again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CacheTrouble(pub String);
