//! Log lines: JSON on standard output, one object a line.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging at the level of `LOG_LEVEL` (`INFO` if it is not set).
///
/// Only our own crates follow the level: those of the AWS SDK and the HTTP stack would log requests.
pub fn init() {
    let level = std::env::var("LOG_LEVEL")
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(LevelFilter::INFO);
    let ours = [
        "mesh_client",
        "mesh_pipeline",
        "poll",
        "fetch_chunk",
        "ack",
        "send",
        "track",
    ];
    let targets = Targets::new()
        .with_default(LevelFilter::ERROR)
        // The runtime would log each failure a second time.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF)
        .with_targets(ours.map(|target| (target, level)));
    let layer = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false);
    tracing_subscriber::registry()
        .with(targets)
        .with(layer)
        .init();
}
