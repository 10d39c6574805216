//! Is all well? What the console's first page and `batoff overview` show.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use batoff_delivery::PURGE_TARGET;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::problem::{Problem, store_error};
use crate::api::reply::json;
use crate::api::sla::PercentilesDocument;
use crate::clock::{millis, rfc3339};
use crate::overview::Overview;
use crate::service::Services;
use crate::tracker::{Concern, FleetCounts, SlaView, SlowPurge};

/// How all is.
#[derive(Serialize, ToSchema)]
#[schema(as = Overview)]
struct OverviewDocument {
    /// When it was looked at.
    at: String,
    /// The nodes in numbers.
    nodes: FleetDocument,
    /// The number of the last durable record.
    tail: u64,
    /// The number of the last record that no node can serve against.
    watermark: u64,
    /// Purges in each of the last 60 seconds, the oldest first.
    purges_per_second: Vec<u32>,
    /// The last hour.
    last_hour: HourDocument,
    /// What needs attention, the most urgent first.
    attention: Vec<ConcernDocument>,
    /// How many more such things there are: 50 of a kind are listed.
    attention_more: usize,
}

/// The nodes in numbers.
#[derive(Serialize, ToSchema)]
#[schema(as = Fleet)]
struct FleetDocument {
    /// Those that are registered.
    total: usize,
    /// Those with a lease and nothing to acknowledge that is older than a second.
    current: usize,
    /// Those that may serve.
    leased: usize,
    /// Connected, and without a lease yet.
    joining: usize,
    /// Without a lease.
    away: usize,
    /// Not heard of since the control plane started.
    unknown: usize,
    /// Those with a stream.
    connected: usize,
}

/// Propagation of the last hour, widened to whole slots of five minutes.
#[derive(Serialize, ToSchema)]
#[schema(as = Hour)]
struct HourDocument {
    /// The target.
    target_ms: u64,
    /// Purges that were accepted.
    purges: u64,
    /// The share that was completed within the target; 1 when there were none.
    within_target: f64,
    /// Percentiles of the completed ones.
    propagation_ms: PercentilesDocument,
    /// The slowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    slowest: Option<SlowestDocument>,
}

/// The slowest purge of some time.
#[derive(Serialize, ToSchema)]
#[schema(as = Slowest)]
pub(super) struct SlowestDocument {
    /// Which.
    task_id: String,
    /// Whose.
    site_id: String,
    /// From durable to completed.
    propagation_ms: u64,
    /// The node that it waited for last: `fra1/edge-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// What kept that: `no_connection`, `no_lease`, `sent_late`, `network`, `cache_busy`, `cache_trouble`,
    /// `earlier_lease` or `working`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// What a cache said that was in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Something that needs attention.
#[derive(Serialize, ToSchema)]
#[schema(as = Concern)]
pub(super) struct ConcernDocument {
    /// `store`, `late_node`, `cache_trouble`, `no_lease`, `certificate` or `over_quota`.
    kind: &'static str,
    /// A node (`fra1/edge-1`), a site, a listener with its certificate's file, the data folder.
    subject: String,
    /// What keeps a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// More of it, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// When it gets worse: when a certificate ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// How all is, at most a second old, however many ask.
#[utoipa::path(
    get, path = "/admin/v1/overview", tag = "fleet", operation_id = "getOverview",
    responses((status = 200, description = "How all is", body = OverviewDocument))
)]
pub(super) async fn show(State(services): State<Arc<Services>>) -> Result<Response, Problem> {
    let overview = services.overview.now().await.map_err(store_error)?;
    Ok(json(StatusCode::OK, &OverviewDocument::from(&*overview)))
}

impl From<&Overview> for OverviewDocument {
    fn from(overview: &Overview) -> Self {
        let Overview { at, fleet, hour } = overview;
        let FleetCounts { total, leased, joining, away, unknown, connected, current } = fleet.fleet;
        Self {
            at: rfc3339(*at),
            nodes: FleetDocument { total, current, leased, joining, away, unknown, connected },
            tail: fleet.tail,
            watermark: fleet.watermark,
            purges_per_second: fleet.per_second.clone(),
            last_hour: HourDocument {
                target_ms: millis(PURGE_TARGET),
                purges: hour.purges,
                within_target: hour.within_target,
                propagation_ms: percentiles(hour),
                slowest: hour.slowest.as_ref().map(SlowestDocument::from),
            },
            attention: fleet.concerns.iter().map(ConcernDocument::from).collect(),
            attention_more: fleet.concerns_more,
        }
    }
}

/// As the SLA's document has them.
pub(super) const fn percentiles(view: &SlaView) -> PercentilesDocument {
    let SlaView { p50, p95, p99, p999, max, .. } = *view;
    PercentilesDocument { p50, p95, p99, p999, max }
}

impl From<&SlowPurge> for SlowestDocument {
    fn from(slow: &SlowPurge) -> Self {
        Self {
            task_id: slow.task.to_string(),
            site_id: slow.site.to_string(),
            propagation_ms: slow.propagation_ms,
            node: slow.node.as_ref().map(|(node, _)| node.to_string()),
            cause: slow.node.as_ref().map(|(_, cause)| cause.as_str()),
            detail: Some(slow.detail.to_string()).filter(|detail| !detail.is_empty()),
        }
    }
}

impl From<&Concern> for ConcernDocument {
    fn from(concern: &Concern) -> Self {
        Self {
            kind: concern.kind.as_str(),
            subject: concern.subject.to_string(),
            cause: concern.cause.map(|cause| cause.as_str()),
            detail: Some(concern.detail.clone()).filter(|detail| !detail.is_empty()),
            since: concern.since.map(rfc3339),
            until: concern.until.map(rfc3339),
        }
    }
}
