//! Nodes in numbers, as JSON.

use serde::Serialize;
use utoipa::ToSchema;

use crate::tracker::NodeCounts;

/// How many nodes stand where.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Nodes)]
pub struct NodesDocument {
    /// All registered nodes.
    #[schema(example = 42)]
    pub total: u32,
    /// Have confirmed it.
    #[schema(example = 41)]
    pub confirmed: u32,
    /// Hold no valid lease and have therefore stopped serving from their caches.
    #[schema(example = 1)]
    pub fenced: u32,
    /// May serve without a lease, and cannot be reached.
    #[schema(example = 0)]
    pub unreachable: u32,
}

impl From<NodeCounts> for NodesDocument {
    fn from(counts: NodeCounts) -> Self {
        let NodeCounts { total, confirmed, fenced, unreachable } = counts;
        Self { total, confirmed, fenced, unreachable }
    }
}
