//! Nodes: list them, take one out for good, let a name in again.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use batoff_delivery::NodeState;
use batoff_types::message::LeasePolicy;
use batoff_types::{Body as RecordBody, NodeName};
use http::{Request, StatusCode};
use serde::Serialize;

use super::refusal::AdminRefusal;
use crate::api::RequestId;
use crate::api::problem::store_error;
use crate::api::query::Query;
use crate::api::reply::{json, no_content};
use crate::clock::rfc3339;
use crate::service::Services;
use crate::tracker::{Membership, NodeStatus, RemoveRefused};

#[derive(Serialize)]
struct NodeDocument {
    pop: String,
    node: String,
    /// `unknown`, `away`, `joining` or `leased`.
    state: &'static str,
    connected: bool,
    /// What it does without a lease: `serve` or `revalidate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_lease_lost: Option<&'static str>,
    cursor: u64,
    lag_records: u64,
    lag_seconds: f64,
    lease_remaining_ms: Option<u64>,
    /// Why its last heartbeat was answered without a lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heard_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    semantics: Option<u32>,
    caches: Vec<CacheDocument>,
    /// The nodes and PoPs that it fetches through.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parents: Vec<String>,
    /// What no node between it and the origins can serve any more; 0 when that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    parents_through: Option<u64>,
    /// Why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    parents_unknown: Option<String>,
}

#[derive(Serialize)]
struct CacheDocument {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    /// The record that waits behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck_seq: Option<u64>,
}

/// Registered nodes; those that were removed, and whose names are blocked, stand by name beside them.
pub(super) async fn list(State(services): State<Arc<Services>>) -> Response {
    let (removed, nodes): (Vec<_>, Vec<_>) =
        services.tracker.nodes().into_iter().partition(|node| node.removed);
    let nodes: Vec<NodeDocument> = nodes.into_iter().map(NodeDocument::from).collect();
    let removed: Vec<String> = removed.iter().map(|node| node.node.to_string()).collect();
    json(StatusCode::OK, &serde_json::json!({ "nodes": nodes, "removed": removed }))
}

/// Decommissions a node: purges wait for it no longer once its lease has certainly run out, and its name is blocked.
pub(super) async fn remove(
    State(services): State<Arc<Services>>,
    Path((pop, node)): Path<(String, String)>,
    request: Request<Body>,
) -> Result<Response, AdminRefusal> {
    let force = Query::parse(request.uri().query(), &["force"])?.flag("force")?;
    let name =
        NodeName::new(&pop, &node).map_err(|_| AdminRefusal::no_such("node", format!("{pop}/{node}")))?;
    if services.tracker.membership(&name) == Membership::Blocked {
        return Ok(no_content());
    }
    services.tracker.may_remove(&name, force).map_err(|refused| match refused {
        RemoveRefused::Unknown => AdminRefusal::no_such("node", &name),
        RemoveRefused::Unconfirmed => AdminRefusal::conflict(
            "the node serves without a lease and has not confirmed every purge: it may go on serving what was purged. \
             Stop it first, or repeat with ?force=true",
        ),
    })?;
    let request_id = request.extensions().get::<RequestId>().map_or("admin", RequestId::as_str);
    let seq = services.commit.append_body(RecordBody::NodeRemoved(name.clone()), request_id).await?;
    services.tracker.knows(seq).await;
    tracing::info!(node = %name, %seq, force, "node removed by the operator");
    Ok(no_content())
}

/// Lets a removed name connect and be registered again.
pub(super) async fn admit(
    State(services): State<Arc<Services>>,
    Path((pop, node)): Path<(String, String)>,
) -> Result<Response, AdminRefusal> {
    let name =
        NodeName::new(&pop, &node).map_err(|_| AdminRefusal::no_such("node", format!("{pop}/{node}")))?;
    if services.tracker.membership(&name) == Membership::Registered {
        return Ok(no_content());
    }
    if !services.tracker.admit(&name).await.map_err(store_error)? {
        return Err(AdminRefusal::no_such("node", &name));
    }
    tracing::info!(node = %name, "node admitted again");
    Ok(no_content())
}

impl From<NodeStatus> for NodeDocument {
    fn from(status: NodeStatus) -> Self {
        let leased = status.state == NodeState::Leased && !status.lease_remaining.is_zero();
        let in_trouble = |cache: &str| status.troubles.iter().find(|trouble| trouble.cache == cache);
        let mut caches: Vec<CacheDocument> = status
            .caches
            .iter()
            .map(|name| CacheDocument {
                name: name.clone(),
                trouble: in_trouble(name).map(|trouble| trouble.message.clone()),
                stuck_seq: in_trouble(name).and_then(|trouble| trouble.stuck).map(|seq| seq.get()),
            })
            .collect();
        let unnamed = status.troubles.iter().filter(|trouble| !status.caches.contains(&trouble.cache));
        caches.extend(unnamed.map(|trouble| CacheDocument {
            name: trouble.cache.clone(),
            trouble: Some(trouble.message.clone()),
            stuck_seq: trouble.stuck.map(|seq| seq.get()),
        }));
        Self {
            pop: status.node.pop().to_owned(),
            node: status.node.node().to_owned(),
            state: status.state.as_str(),
            connected: status.connected,
            on_lease_lost: status.policy.map(|policy| match policy {
                LeasePolicy::Serve => "serve",
                LeasePolicy::Revalidate => "revalidate",
            }),
            cursor: status.cursor.get(),
            lag_records: status.lag_records,
            lag_seconds: status.lag.as_secs_f64(),
            lease_remaining_ms: leased
                .then(|| u64::try_from(status.lease_remaining.as_millis()).unwrap_or(u64::MAX)),
            refusal: status.refusal,
            heard_at: status.heard_at.map(rfc3339),
            instance: status.instance.map(|instance| instance.to_string()),
            version: status.version,
            semantics: status.semantics,
            caches,
            parents: status.parents.iter().map(ToString::to_string).collect(),
            parents_through: status.path.as_ref().map(|path| path.through.get()),
            parents_unknown: status.path.map(|path| path.why).filter(|why| !why.is_empty()),
        }
    }
}
