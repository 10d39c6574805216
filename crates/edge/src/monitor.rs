//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

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
) -> std::io::Result<()> {
    let ready = Arc::clone(&daemon);
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { readiness(ready.as_ref()) }))
        .route(
            "/metrics",
            get(move || async move {
                daemon.refresh();
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render())
            }),
        );
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn readiness(daemon: &dyn Monitored) -> Response {
    match daemon.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
