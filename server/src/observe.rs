//! Logs as JSON lines on the standard error, and metrics for Prometheus.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts both; `RUST_LOG` says what is logged, `info` when absent. A second call does nothing.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    start_metrics();
}

/// Starts the metrics alone; a second call does nothing.
pub fn start_metrics() {
    METRICS.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let _ = metrics::set_global_recorder(recorder);
        handle
    });
}

/// Folds what histograms collected since the last time. Nobody may ever ask for the metrics, and until somebody does, or
/// this is called, each value takes memory.
pub fn keep_up() {
    if let Some(metrics) = METRICS.get() {
        metrics.run_upkeep();
    }
}

/// The metrics in Prometheus' text form; empty before [`start_metrics`].
pub fn render() -> String {
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}
