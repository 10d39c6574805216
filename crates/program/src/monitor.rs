//! `/metrics`, `/healthz` (is the process there?) and `/readyz` (can it do its job? The reason when it cannot).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ::http::{StatusCode, header};
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::gate::{Gate, Limits};
use crate::http;
use crate::listen::ListenersSection;
use crate::monitored::Monitored;

/// Connections that ask at one time.
pub const CONNECTIONS_MAX: usize = 64;

/// What Prometheus expects of its text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `[metrics]`: where `/metrics`, `/healthz` and `/readyz` are.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsSection {
    /// The address; port 0 takes a free one.
    pub listen: SocketAddr,
}

impl MetricsSection {
    /// On loopback, where a program listens when nothing is said.
    pub const fn on_loopback(port: u16) -> Self {
        Self { listen: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port) }
    }
}

/// The three paths. Without `figures`, as in tests, `/metrics` is empty.
pub fn router(
    program: &'static str,
    figures: Option<PrometheusHandle>,
    monitored: Arc<dyn Monitored>,
) -> Router {
    let ready = Arc::clone(&monitored);
    let render = move || {
        monitored.refresh();
        let text = figures.as_ref().map(|figures| {
            crate::process::show(program);
            figures.render()
        });
        ([(header::CONTENT_TYPE, CONTENT_TYPE)], text.unwrap_or_default())
    };
    Router::new()
        .route("/metrics", get(async move || render()))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || readiness(ready.as_ref())))
}

/// The connections of a program that does not divide its descriptors among several listeners.
pub fn gate() -> Arc<Gate<IpAddr>> {
    Gate::new("metrics", Limits::of(CONNECTIONS_MAX))
}

/// Serves them until `stop`.
pub async fn serve(listener: TcpListener, gate: Arc<Gate<IpAddr>>, router: Router, stop: CancellationToken) {
    http::serve(listener, gate, ListenersSection::default().patience(), router, stop).await;
}

fn readiness(monitored: &dyn Monitored) -> Response {
    match monitored.ready() {
        Ok(()) => match monitored.remark() {
            None => "ready\n".into_response(),
            Some(remark) => format!("ready, but: {remark}\n").into_response(),
        },
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
