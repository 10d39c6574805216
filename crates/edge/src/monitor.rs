//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use batoff_program::gate::{Gate, Limits};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Connections that ask at one time.
const CONNECTIONS_MAX: usize = 64;

/// What the monitoring listener asks the daemon.
pub trait Monitored: Send + Sync + 'static {
    /// Whether it can do its job; the reason when it cannot.
    fn ready(&self) -> Result<(), String>;

    /// Brings figures up to date that are not pushed as they change.
    fn refresh(&self);
}

/// Serves the three paths until `stop`.
pub async fn serve(
    listener: TcpListener,
    metrics: PrometheusHandle,
    daemon: Arc<dyn Monitored>,
    stop: CancellationToken,
) {
    let ready = Arc::clone(&daemon);
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { readiness(ready.as_ref()) }))
        .route(
            "/metrics",
            get(move || async move {
                daemon.refresh();
                crate::metrics::process();
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render())
            }),
        );
    let gate = Gate::new("metrics", Limits::of(CONNECTIONS_MAX));
    batoff_program::http::serve(listener, gate, routes, stop).await;
}

fn readiness(daemon: &dyn Monitored) -> Response {
    match daemon.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
