//! The control planes beside one log: how each is, and which of them count.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use batoff_types::{Body as RecordBody, Cursor, Replica, ReplicaSet};
use http::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::AboutObject;
use super::body;
use super::refusal::AdminRefusal;
use crate::api::RequestId;
use crate::api::problem::{Code, Problem};
use crate::api::query::Query;
use crate::api::reply::json;
use crate::clock::millis;
use crate::service::Services;
use crate::tracker::{LIVE_WITHIN, ReplicaView, ReplicasView};

/// The replicas of the control plane.
#[derive(Serialize, ToSchema)]
#[schema(as = ReplicaList)]
struct ReplicasDocument {
    /// The replica that answers.
    own: u8,
    /// The last record of the log, as far as it knows.
    tail: u64,
    /// Every record through this one is completed, and recorded so for all replicas.
    done: u64,
    /// The replicas that count.
    members: Vec<u8>,
    /// The last record before they do.
    members_from: u64,
    /// Whether that change is completed.
    settled: bool,
    /// Each of them, and each other one that was heard of.
    replicas: Vec<ReplicaDocument>,
}

/// A replica of the control plane.
#[derive(Serialize, ToSchema)]
#[schema(as = Replica)]
struct ReplicaDocument {
    /// Its number.
    id: u8,
    /// `member`, `leaving` (purges wait for it until the change is completed) or `learner` (it counts for nothing).
    role: &'static str,
    /// How nodes reach it, as it said at its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// Whether it was heard of lately, and may grant leases.
    live: bool,
    /// Everything through this record is completed as far as its leases go; 0 when nothing was heard.
    stated: u64,
    /// Records in the log that it has not stated.
    lag_records: u64,
    /// Whether it knows that its seat is its own; absent when nothing was heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    seated: Option<bool>,
    /// How long ago it was heard of; absent when it was not since the replica that answers has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    heard_ms_ago: Option<u64>,
    /// How many times it has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    term: Option<u64>,
    /// Of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Strict nodes that it knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    strict_nodes: Option<u32>,
    /// Those of them that it has granted a lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    strict_leased: Option<u32>,
    /// Settings that all replicas must have alike, and that this one has not as the replica that answers: what one of them
    /// answers, the other may refuse.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differs: Vec<String>,
}

/// The replicas that are to count.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewReplicaSet)]
struct NewSet {
    /// Their numbers.
    #[schema(example = json!([1, 2, 3]))]
    members: Vec<u8>,
}

/// The record that says which replicas count.
#[derive(Serialize, ToSchema)]
#[schema(as = ReplicaSetWritten)]
struct SetDocument {
    /// Its number: they count after it.
    seq: u64,
    /// Their numbers.
    members: Vec<u8>,
}

/// The control planes beside the log: members, learners, and how far each is.
#[utoipa::path(
    get, path = "/admin/v1/replicas", tag = "fleet", operation_id = "listReplicas",
    responses((status = 200, description = "The replicas", body = ReplicasDocument))
)]
pub(super) async fn list(State(services): State<Arc<Services>>) -> Response {
    let view = match services.tracker.replicas() {
        Some(view) => view,
        None => alone(&services),
    };
    json(StatusCode::OK, &document(view, &endpoints(&services)))
}

/// Write which replicas count from now on.
///
/// A record of the log: purges after it wait for a majority of the new ones, purges before it for one of the old ones. New
/// ones follow the log, and have leases with the strict nodes, before that.
#[utoipa::path(
    post, path = "/admin/v1/replicas/sets", tag = "fleet", operation_id = "setReplicas",
    params(
        ("force" = Option<bool>, Query, nullable = false, description = "Also when too few of them are there, or strict nodes would go to the origin for a while"),
    ),
    request_body = NewSet,
    responses((status = 201, description = "They count after that record", body = SetDocument))
)]
pub(super) async fn set(
    State(services): State<Arc<Services>>,
    request: Request<Body>,
) -> Result<Response, AdminRefusal> {
    let force = Query::parse(request.uri().query(), &["force"])?.flag("force")?;
    let request_id = request.extensions().get::<RequestId>().map_or("admin", RequestId::as_str).to_owned();
    let (_, NewSet { members }) = body::read(request).await?;
    let invalid = |why: String| Problem::detailed(Code::InvalidRequest, why);
    if members.contains(&0) {
        return Err(invalid("a replica's number is at least 1".into()).into());
    }
    let set = ReplicaSet::new(members.into_iter().map(Replica));
    let set = set.map_err(|error| invalid(error.to_string()))?;
    let known: Vec<Replica> = endpoints(&services).into_keys().collect();
    services
        .tracker
        .may_count(&set, &known, force)
        .map_err(|refused| AdminRefusal::conflict(refused.to_string()))?;
    let seq = services.commit.append_body(RecordBody::ReplicaSet(set.clone()), &request_id).await?;
    services.tracker.knows(seq).await;
    let members: Vec<u8> = set.members().iter().map(|replica| replica.0).collect();
    tracing::info!(?members, %seq, force, "the set of replicas is changed by the operator");
    let object = members.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
    let mut response = json(StatusCode::CREATED, &SetDocument { seq: seq.get(), members });
    response.extensions_mut().insert(AboutObject(object));
    Ok(response)
}

/// Where nodes reach each replica, as far as each has said so.
fn endpoints(services: &Services) -> BTreeMap<Replica, String> {
    let places = services.places.subscribe();
    let known = places.borrow();
    known.replicas.iter().map(|at| (at.replica, at.endpoint.to_string())).collect()
}

/// The only control plane, as if it were one of several.
fn alone(services: &Services) -> ReplicasView {
    let (done, tail) = (services.tracker.watermark(), services.hub.tail());
    let own = ReplicaView {
        replica: Replica::ONLY,
        member: true,
        needed: true,
        stated: done,
        lag_records: tail.get().saturating_sub(done.get()),
        said: None,
    };
    ReplicasView {
        own: Replica::ONLY,
        done,
        tail,
        set: ReplicaSet::only(),
        set_from: Cursor::START,
        replicas: vec![own],
    }
}

fn document(view: ReplicasView, endpoints: &BTreeMap<Replica, String>) -> ReplicasDocument {
    let own = view.own;
    let replica = |one: ReplicaView| {
        let said = one.said.as_ref();
        let is_live = said.map_or(one.replica == own, |said| said.seated && said.ago <= LIVE_WITHIN);
        ReplicaDocument {
            id: one.replica.0,
            role: match (one.member, one.needed) {
                (true, _) => "member",
                (false, true) => "leaving",
                (false, false) => "learner",
            },
            endpoint: endpoints.get(&one.replica).cloned(),
            live: is_live,
            stated: one.stated.get(),
            lag_records: one.lag_records,
            seated: said.map(|said| said.seated),
            heard_ms_ago: said.map(|said| millis(said.ago)),
            term: said.map(|said| said.term),
            version: said.map(|said| said.version.clone()),
            strict_nodes: said.map(|said| said.strict),
            strict_leased: said.map(|said| said.leased),
            differs: said.map(|said| said.apart.clone()).unwrap_or_default(),
        }
    };
    ReplicasDocument {
        own: own.0,
        tail: view.tail.get(),
        done: view.done.get(),
        members: view.set.members().iter().map(|replica| replica.0).collect(),
        members_from: view.set_from.get(),
        settled: view.done >= view.set_from,
        replicas: view.replicas.into_iter().map(replica).collect(),
    }
}
