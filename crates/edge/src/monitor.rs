//! `/metrics`, `/healthz` and `/readyz` of a node.

use std::sync::Arc;

use batoff_program::monitor;
pub use batoff_program::monitor::Monitored;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves the three paths until `stop`.
pub async fn serve(
    listener: TcpListener,
    metrics: PrometheusHandle,
    daemon: Arc<dyn Monitored>,
    stop: CancellationToken,
) {
    let router = monitor::router(crate::metrics::program(), Some(metrics), daemon);
    monitor::serve(listener, monitor::gate(), router, stop).await;
}
