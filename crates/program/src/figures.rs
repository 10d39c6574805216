//! The one recorder of a process, which `/metrics` is rendered from.

pub use metrics_exporter_prometheus::{BuildError, PrometheusHandle};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

/// Installs it, with a histogram's buckets. Call it before anything records: what is recorded earlier is lost. What a crate
/// records it declares afterwards.
///
/// # Errors
/// There is one already, or a histogram without buckets.
pub fn install(histograms: &[(&str, &[f64])]) -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for (name, buckets) in histograms {
        builder = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)?;
    }
    let handle = builder.install_recorder()?;
    crate::logs::describe_metrics();
    Ok(handle)
}
