//! Whether what a cache holds has been under this node's state all along.
//!
//! A position says: everything purged before it is out of *these* caches. That is so only for the caches that were driven
//! from this very state directory. A directory from a golden image, a volume that was swapped, a cache that somebody else
//! has filled: there it says nothing, and a node that claimed it would confirm purges that never reached its cache.
//!
//! ```text
//!  state directory ── names its node ──▶ another node's is set aside, and a new identity made
//!        │ identity
//!        ▼
//!  cache ── bears the identity of the state that it was last emptied under ──▶ any other, or none: start over
//! ```
//!
//! An adapter takes part by three things:
//! 1. Where it opens, before anything may be served, it takes the cache's own folder, if it has one, against a second daemon
//!    (`batoff_caches::OwnFolder`), and asks its cache whose it is. What bears [`Provenance::identity`] is
//!    this state's.
//! 2. For anything else, and where nobody answers, it either empties the cache there and then, before it returns, or calls
//!    [`Provenance::start_over`]: the node then claims no position, is not served from without a lease, and is reset, which
//!    raises the generation and flushes every cache.
//! 3. When everything was emptied (at that point, and at the end of each [`Cache::flush`](crate::cache::Cache::flush)) it
//!    marks the cache with the identity. Never earlier: a daemon that is killed in between has to begin again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fence::Fence;

/// The name of a state: 128 random bits, made whenever a node starts from nowhere. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(u128);

/// Not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identity is 32 hexadecimal digits")]
pub struct InvalidIdentity;

impl Identity {
    /// One that has never been.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidIdentity);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| InvalidIdentity)
    }
}

/// The identity that caches have to bear, and the way to say that one does not.
#[derive(Clone, Debug)]
pub struct Provenance(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identity: Identity,
    fence: Arc<Fence>,
    starts_over: AtomicBool,
}

impl Provenance {
    /// Of a state, and of the node's right to serve.
    pub fn new(identity: Identity, fence: Arc<Fence>) -> Self {
        Self(Arc::new(Inner { identity, fence, starts_over: AtomicBool::new(false) }))
    }

    /// What a cache must bear that may be served from.
    pub fn identity(&self) -> Identity {
        self.0.identity
    }

    /// What `cache` holds is not known to have been under this state. From now on nothing is served without a lease, and
    /// the node will claim no position: the control plane resets it. To be called where a cache is opened, before it may
    /// serve anything.
    pub fn start_over(&self, cache: &str, why: impl fmt::Display) {
        self.0.fence.disagree();
        tracing::warn!(
            cache,
            %why,
            "what this cache holds is not known to have been purged from here; the node claims no position and will be reset"
        );
        self.0.starts_over.store(true, Ordering::Release);
    }

    /// Whether some cache is not this state's.
    pub fn starts_over(&self) -> bool {
        self.0.starts_over.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use batoff_types::message::LeasePolicy;

    use super::*;

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        let one = Identity::random();
        assert_eq!(one.to_string().parse(), Ok(one));
        assert_ne!(one, Identity::random());
        for wrong in ["", "1", "+0000000000000000000000000000001", &"g".repeat(32), &"0".repeat(33)] {
            assert_eq!(wrong.parse::<Identity>(), Err(InvalidIdentity), "{wrong}");
        }
    }

    #[test]
    fn an_available_node_with_a_cache_of_somebody_else_does_not_serve_until_it_is_told_to() {
        let fence = Arc::new(Fence::new(LeasePolicy::Serve));
        let provenance = Provenance::new(Identity::random(), Arc::clone(&fence));
        assert!(fence.may_serve() && !provenance.starts_over());
        provenance.start_over("some", "it bears no mark");
        assert!(!fence.may_serve() && provenance.starts_over());
        fence.agree();
        assert!(fence.may_serve(), "the control plane has reset it and knows what it does");
    }
}
