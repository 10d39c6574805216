//! What an adapter is given where it is opened, and how it says that it cannot be.

use std::path::PathBuf;
use std::sync::Arc;

use batoff_edge::{Fence, Overflow, Path, Provenance};
use batoff_index::Index;
use batoff_types::message::LeasePolicy;
use tokio_util::sync::CancellationToken;

use crate::locator::Locator;

/// What a cache's adapter finds around it.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The node's index: rules, and the objects of all its caches.
    pub index: Arc<Index<Locator>>,
    /// The right to serve.
    pub fence: Arc<Fence>,
    /// How far the nodes between this one and the origins are: [`Path::token`] makes a fill's token of what the index
    /// gives, and an adapter that publishes positions publishes that one.
    pub path: Arc<Path>,
    /// To be told of each object that is registered: it counts those whose tags overflow.
    pub overflow: Arc<Overflow>,
    /// What the node does without it.
    pub policy: LeasePolicy,
    /// Where an adapter may keep a file of its own that outlives the process.
    pub state_dir: PathBuf,
    /// Whether the cache is this state's: to be asked where it is opened.
    pub provenance: Provenance,
    /// Whether the node knows where it stood before. If not, the control plane resets it, which flushes every cache.
    pub resumes: bool,
    /// Cancelled when the daemon ends; what an adapter started ends then.
    pub stop: CancellationToken,
}

/// A cache cannot be driven; the text names what is in the way and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum CacheOpenError {
    /// The operator has to change something: a path, a permission, a secret, the cache's own configuration.
    #[error("{cache}: {message}")]
    Setup {
        /// Which cache.
        cache: &'static str,
        /// What is in the way, and the remedy.
        message: String,
    },
    /// It may work later: the cache does not answer, a resource is used up.
    #[error("{cache}: {message}")]
    Temporary {
        /// Which cache.
        cache: &'static str,
        /// What is in the way.
        message: String,
    },
}

impl CacheOpenError {
    /// Whether the operator has to change something (exit code 64), as opposed to waiting (75).
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Setup { .. })
    }
}
