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
use utoipa::ToSchema;

use super::changing::{self, ChangeAsker, ChangeOf};
use super::overview::ConcernDocument;
use super::refusal::AdminRefusal;
use crate::api::RequestId;
use crate::api::problem::store_error;
use crate::api::query::Query;
use crate::api::reply::{json, no_content};
use crate::audit::AuditAction;
use crate::clock::rfc3339;
use crate::service::Services;
use crate::tracker::{Membership, NodeStatus, RemoveRefused};

/// The nodes.
#[derive(Serialize, ToSchema)]
#[schema(as = NodeList)]
struct NodeListDocument {
    /// Those that purges are sent to.
    nodes: Vec<NodeDocument>,
    /// Those that were decommissioned, and whose names are blocked: `fra1/edge-03`.
    removed: Vec<String>,
}

/// A node.
#[derive(Serialize, ToSchema)]
#[schema(as = Node)]
struct NodeDocument {
    /// Its PoP.
    pop: String,
    /// Its name there.
    node: String,
    /// `unknown`, `away`, `joining` or `leased`.
    state: &'static str,
    /// Whether it has a stream open.
    connected: bool,
    /// What it does without a lease: `serve` or `revalidate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_lease_lost: Option<&'static str>,
    /// What it has evicted and acknowledged.
    cursor: u64,
    /// Records that it has not acknowledged.
    lag_records: u64,
    /// The age of the oldest of them, in seconds.
    lag_seconds: f64,
    /// How long it may still serve from its cache without asking; null without a lease.
    lease_remaining_ms: Option<u64>,
    /// Since when it has no lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_over_at: Option<String>,
    /// Since when it is late, or has no lease, and what keeps it: a word such as `no_connection`, and what a cache said.
    #[serde(skip_serializing_if = "Option::is_none")]
    concern: Option<ConcernDocument>,
    /// When the certificate ends that it showed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_until: Option<String>,
    /// Why its last heartbeat was answered without a lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'static str>,
    /// When it was last heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    heard_at: Option<String>,
    /// Changes whenever its program starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// Of its program; empty before it has connected.
    version: String,
    /// The newest kind of record that it understands; of a newer one it purges everything of the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    semantics: Option<u32>,
    /// Cached objects in its index; missing until it has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    index_objects: Option<u64>,
    /// Memory that its index takes, in bytes; missing until it has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    index_bytes: Option<u64>,
    /// The caches that it drives.
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

/// A cache that a node drives.
#[derive(Serialize, ToSchema)]
#[schema(as = Cache)]
struct CacheDocument {
    /// As the node's configuration calls it.
    name: String,
    /// What keeps it from being purged, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    /// Since when it is in trouble.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble_since: Option<String>,
    /// The record that waits behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck_seq: Option<u64>,
}

/// Nodes: registered ones, and by name those that were removed.
#[utoipa::path(
    get, path = "/admin/v1/nodes", tag = "fleet", operation_id = "listNodes",
    responses((status = 200, description = "The nodes", body = NodeListDocument))
)]
pub(super) async fn list(State(services): State<Arc<Services>>) -> Response {
    let (removed, nodes): (Vec<_>, Vec<_>) =
        services.tracker.nodes().into_iter().partition(|node| node.removed);
    let nodes: Vec<NodeDocument> = nodes.into_iter().map(NodeDocument::from).collect();
    let removed: Vec<String> = removed.iter().map(|node| node.node.to_string()).collect();
    json(StatusCode::OK, &NodeListDocument { nodes, removed })
}

/// Decommission a node.
///
/// Purges wait for it no longer once its lease has certainly run out, and its name is blocked.
#[utoipa::path(
    delete, path = "/admin/v1/nodes/{pop}/{node}", tag = "fleet", operation_id = "removeNode",
    params(
        ("pop" = String, Path, description = "The PoP's name"),
        ("node" = String, Path, description = "The node's name there"),
        ("force" = Option<bool>, Query, nullable = false, description = "Also one that may go on serving what was purged"),
    ),
    responses((status = 204, description = "It does not count any more"))
)]
pub(super) async fn remove(
    State(services): State<Arc<Services>>,
    Path((pop, node)): Path<(String, String)>,
    request: Request<Body>,
) -> Result<Response, AdminRefusal> {
    let force = Query::parse(request.uri().query(), &["force"])?.flag("force")?;
    let request_id = request.extensions().get::<RequestId>().map_or("admin", RequestId::as_str);
    remove_node(&services, request_id, &pop, &node, force).await?;
    Ok(no_content())
}

/// Decommissions a node for somebody beside this API, with its entry in the audit log.
pub(crate) async fn remove_audited(
    services: Arc<Services>,
    asker: ChangeAsker,
    name: NodeName,
    force: bool,
) -> Result<(), AdminRefusal> {
    let about = ChangeOf {
        action: AuditAction::NodeRemove,
        site: None,
        object: Some(name.to_string()),
        change: force.then(|| serde_json::json!({ "force": true })),
    };
    let (request, own) = (asker.request_id.clone(), Arc::clone(&services));
    changing::audited(services, asker, about, async move {
        let request_id = request.as_deref().unwrap_or("console");
        remove_node(&own, request_id, name.pop(), name.node(), force).await?;
        Ok(((), None))
    })
    .await
}

async fn remove_node(
    services: &Services,
    request_id: &str,
    pop: &str,
    node: &str,
    force: bool,
) -> Result<(), AdminRefusal> {
    let name =
        NodeName::new(pop, node).map_err(|_| AdminRefusal::no_such("node", format!("{pop}/{node}")))?;
    if services.tracker.membership(&name) == Membership::Blocked {
        return Ok(());
    }
    services.tracker.may_remove(&name, force).map_err(|refused| match refused {
        RemoveRefused::Unknown => AdminRefusal::no_such("node", &name),
        RemoveRefused::Unconfirmed => AdminRefusal::conflict(
            "the node serves without a lease and has not confirmed every purge: it may go on serving what was purged. \
             Stop it first, or repeat with ?force=true",
        ),
    })?;
    let seq = services.commit.append_body(RecordBody::NodeRemoved(name.clone()), request_id).await?;
    services.tracker.knows(seq).await;
    tracing::info!(node = %name, %seq, force, "node removed by the operator");
    Ok(())
}

/// Let a removed name connect and be registered again.
#[utoipa::path(
    post, path = "/admin/v1/nodes/{pop}/{node}", tag = "fleet", operation_id = "admitNode",
    params(
        ("pop" = String, Path, description = "The PoP's name"),
        ("node" = String, Path, description = "The node's name there"),
    ),
    responses((status = 204, description = "It may connect"))
)]
pub(super) async fn admit(
    State(services): State<Arc<Services>>,
    Path((pop, node)): Path<(String, String)>,
) -> Result<Response, AdminRefusal> {
    let name =
        NodeName::new(&pop, &node).map_err(|_| AdminRefusal::no_such("node", format!("{pop}/{node}")))?;
    admit_node(&services, &name).await?;
    Ok(no_content())
}

/// Lets a name in again for somebody beside this API, with its entry in the audit log.
pub(crate) async fn admit_audited(
    services: Arc<Services>,
    asker: ChangeAsker,
    name: NodeName,
) -> Result<(), AdminRefusal> {
    let about =
        ChangeOf { action: AuditAction::NodeAdmit, site: None, object: Some(name.to_string()), change: None };
    let own = Arc::clone(&services);
    changing::audited(services, asker, about, async move {
        admit_node(&own, &name).await?;
        Ok(((), None))
    })
    .await
}

async fn admit_node(services: &Services, name: &NodeName) -> Result<(), AdminRefusal> {
    if services.tracker.membership(name) == Membership::Registered {
        return Ok(());
    }
    if !services.tracker.admit(name).await.map_err(store_error)? {
        return Err(AdminRefusal::no_such("node", name));
    }
    tracing::info!(node = %name, "node admitted again");
    Ok(())
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
                trouble_since: in_trouble(name).map(|trouble| rfc3339(trouble.since)),
                stuck_seq: in_trouble(name).and_then(|trouble| trouble.stuck).map(|seq| seq.get()),
            })
            .collect();
        let unnamed = status.troubles.iter().filter(|trouble| !status.caches.contains(&trouble.cache));
        caches.extend(unnamed.map(|trouble| CacheDocument {
            name: trouble.cache.clone(),
            trouble: Some(trouble.message.clone()),
            trouble_since: Some(rfc3339(trouble.since)),
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
            lease_over_at: status.lease_over.map(rfc3339),
            concern: status.concern.as_ref().map(ConcernDocument::from),
            certificate_until: status.certificate_until.map(rfc3339),
            refusal: status.refusal,
            heard_at: status.heard_at.map(rfc3339),
            instance: status.instance.map(|instance| instance.to_string()),
            version: status.version,
            semantics: status.semantics,
            index_objects: status.index_size.map(|size| size.objects),
            index_bytes: status.index_size.map(|size| size.bytes),
            caches,
            parents: status.parents.iter().map(ToString::to_string).collect(),
            parents_through: status.path.as_ref().map(|path| path.through.get()),
            parents_unknown: status.path.map(|path| path.why).filter(|why| !why.is_empty()),
        }
    }
}
