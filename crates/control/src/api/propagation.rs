//! How a purge spread, as JSON: in the customers' document of a task, and for the operator.

use serde::Serialize;
use utoipa::ToSchema;

use super::counts::NodesDocument;
use crate::clock::rfc3339;
use crate::tracker::{NodeLine, PopLine, Propagation};

/// How a purge spread. Every figure is milliseconds since it was durable, by the control plane's clock.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Propagation)]
pub struct PropagationDocument {
    /// When it was durable.
    #[schema(example = "2026-04-20T08:12:31Z", format = DateTime)]
    pub durable_at: String,
    /// Until no node could serve it; absent while one may.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 412, nullable = false)]
    pub completed_ms: Option<u64>,
    /// Until now, while it is not completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_650, nullable = false)]
    pub elapsed_ms: Option<u64>,
    /// PoP by PoP, the slowest first.
    pub pops: Vec<PopSpreadDocument>,
    /// The nodes that it waits for, some of those that it did not wait for, and the slowest; the slowest first.
    pub late: Vec<NodeSpreadDocument>,
}

/// A purge's way in one PoP. Figures are of the last of its nodes where nothing else is said; what is not known is absent.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = PopSpread)]
pub struct PopSpreadDocument {
    /// The PoP.
    #[schema(example = "fra1")]
    pub pop: String,
    /// Its nodes.
    pub nodes: NodesDocument,
    /// When the first of its nodes that have confirmed was sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1, nullable = false)]
    pub sent_ms: Option<u64>,
    /// When the last of them was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 2, nullable = false)]
    pub sent_last_ms: Option<u64>,
    /// When nothing that it hit was served any more, at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 38, nullable = false)]
    pub in_force_ms: Option<u64>,
    /// When it was acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 41, nullable = false)]
    pub acked_ms: Option<u64>,
    /// When it was reported that the objects are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 90, nullable = false)]
    pub evicted_ms: Option<u64>,
    /// When the last node without a lease counted as fenced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_050, nullable = false)]
    pub fenced_ms: Option<u64>,
    /// Objects made unservable there, as far as reported.
    #[schema(example = 9)]
    pub objects_evicted: u64,
}

/// A purge's way on one node; what is not known is absent.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = NodeSpread)]
pub struct NodeSpreadDocument {
    /// Its PoP.
    #[schema(example = "fra1")]
    pub pop: String,
    /// Its name there.
    #[schema(example = "edge-1")]
    pub node: String,
    /// When it was sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1, nullable = false)]
    pub sent_ms: Option<u64>,
    /// When nothing that it hit was served there any more, at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 38, nullable = false)]
    pub in_force_ms: Option<u64>,
    /// When it acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 41, nullable = false)]
    pub acked_ms: Option<u64>,
    /// When it had reported that the objects are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 90, nullable = false)]
    pub evicted_ms: Option<u64>,
    /// When it counted as fenced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_050, nullable = false)]
    pub fenced_ms: Option<u64>,
    /// What took the most time, or still does: `no_connection`, `no_lease`, `sent_late`, `network`, `cache_busy`,
    /// `cache_trouble`, `earlier_lease` or `working`. More may come.
    #[schema(example = "cache_busy")]
    pub cause: &'static str,
    /// What a cache said that was in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub detail: Option<String>,
}

impl From<Propagation> for PropagationDocument {
    fn from(found: Propagation) -> Self {
        Self {
            durable_at: rfc3339(found.durable_at),
            completed_ms: found.completed_ms,
            elapsed_ms: found.elapsed_ms,
            pops: found.pops.into_iter().map(PopSpreadDocument::from).collect(),
            late: found.late.into_iter().map(NodeSpreadDocument::from).collect(),
        }
    }
}

impl From<PopLine> for PopSpreadDocument {
    fn from(line: PopLine) -> Self {
        Self {
            pop: line.pop.to_string(),
            nodes: line.nodes.into(),
            sent_ms: line.sent_ms,
            sent_last_ms: line.sent_last_ms,
            in_force_ms: line.in_force_ms,
            acked_ms: line.acked_ms,
            evicted_ms: line.evicted_ms,
            fenced_ms: line.fenced_ms,
            objects_evicted: line.objects_evicted,
        }
    }
}

impl From<NodeLine> for NodeSpreadDocument {
    fn from(line: NodeLine) -> Self {
        Self {
            pop: line.node.pop().to_owned(),
            node: line.node.node().to_owned(),
            sent_ms: line.sent_ms,
            in_force_ms: line.in_force_ms,
            acked_ms: line.acked_ms,
            evicted_ms: line.evicted_ms,
            fenced_ms: line.fenced_ms,
            cause: line.cause.as_str(),
            detail: Some(line.detail.to_string()).filter(|detail| !detail.is_empty()),
        }
    }
}
