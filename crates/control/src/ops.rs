//! Metrics and health.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use batoff_log::Health;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::service::Services;

#[derive(Clone)]
struct Ops {
    services: Arc<Services>,
    metrics: Option<PrometheusHandle>,
}

/// `/metrics`, `/healthz` (is the process there?) and `/readyz` (can it do its job? the reason when not). Without a
/// recorder, as in tests, `/metrics` is empty.
pub fn router(services: Arc<Services>, metrics: Option<PrometheusHandle>) -> Router {
    Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Ops { services, metrics })
}

async fn render(State(ops): State<Ops>) -> Response {
    let text = ops.metrics.map(|handle| {
        batoff_program::process::show("batoff-control");
        handle.render()
    });
    let text = text.unwrap_or_default();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn ready(State(ops): State<Ops>) -> Response {
    match unready(&ops.services) {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

fn unready(services: &Services) -> Option<String> {
    if services.draining.is_cancelled() {
        return Some("stopping".into());
    }
    match &*services.store.health().borrow() {
        Health::Ok => None,
        Health::Degraded { reason, .. } => Some(format!("the purge log takes no writes now: {reason}")),
        Health::Stopped { reason } | Health::Down { reason } => {
            Some(format!("the purge log is down: {reason}"))
        }
    }
}
