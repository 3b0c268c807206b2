//! What operators see: structured logs and CloudWatch metrics.
//!
//! Metrics go through the `metrics` facade: a Lambda function writes them as embedded metric format once an invocation,
//! the polling mode serves them to Prometheus, both from the same calls. Dimensions come from fixed sets alone (the
//! service, error codes): a text of an event never becomes one.

use std::net::SocketAddr;
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use metrics_cloudwatch_embedded::{Builder, Collector};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::time::Instant;
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::prelude::*;

use crate::aws::CHECKSUM_WARNINGS;
use crate::event::ErrorCode;
use crate::worker::plan::ReadPlan;
use crate::worker::read::Facts;
use crate::worker::write::encode::Summary;

/// The CloudWatch namespace of all metrics.
pub const NAMESPACE: &str = "MetricsEngine";

const STARTED: &str = "metric_runs_started_total";
const SUCCEEDED: &str = "metric_runs_succeeded_total";
const FAILED: &str = "metric_runs_failed_total";
const SKIPPED: &str = "metric_runs_skipped_total";
const DURATION: &str = "metric_run_duration_seconds";
const READ: &str = "s3_read_mb";
const WRITTEN: &str = "s3_write_mb";
const REQUESTS: &str = "s3_requests_total";
const HEDGED: &str = "s3_hedged_requests_total";
const REJECTED: &str = "records_rejected_total";
const ITEMS_FAILED: &str = "batch_items_failed_total";

/// Every metric that is emitted.
pub const METRICS: [&str; 11] =
    [STARTED, SUCCEEDED, FAILED, SKIPPED, DURATION, READ, WRITTEN, REQUESTS, HEDGED, REJECTED, ITEMS_FAILED];

/// The target of the spans around the steps of a run, which are there at the level `debug` alone.
pub const STEPS: &str = "metrics_engine::steps";

/// Upper bounds of the buckets in seconds: a run takes from milliseconds to Lambda's fifteen minutes.
const DURATION_BUCKETS: [f64; 14] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0];

/// Upper bounds of the buckets in megabytes: a short series has some kilobytes, the largest inputs some gigabytes.
const MEGABYTE_BUCKETS: [f64; 10] = [0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 2_000.0];

/// Logs JSON lines to standard output: this package at `level`, the libraries below it from warnings on. From `debug`
/// on, every step of a run adds a line when it ends, with the time that it was busy and idle.
pub fn log_json(level: tracing::Level) {
    let targets = Targets::new()
        .with_default(tracing::Level::WARN.min(level))
        .with_target("metrics_engine", level)
        // So the current span of a line is the run, whatever its step, with the run's id and metric.
        .with_target(STEPS, LevelFilter::OFF)
        .with_target(CHECKSUM_WARNINGS, LevelFilter::ERROR);
    let layer = || tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true);
    let mut layers = vec![layer().with_span_list(true).with_filter(targets).boxed()];
    if level >= tracing::Level::DEBUG {
        let spans = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("metrics_engine"));
        layers.push(layer().with_span_list(true).with_span_events(FmtSpan::CLOSE).with_filter(spans).boxed());
    }
    // A second initialisation can only come from a second call in one process, whose first one is still good.
    let _ = tracing_subscriber::registry().with(layers).try_init();
}

/// The span of a Lambda invocation: its lines name the request, and the trace where Lambda traces it.
#[must_use]
pub fn invocation(request_id: &str, trace_id: Option<&str>) -> tracing::Span {
    tracing::info_span!("invocation", request_id, trace_id)
}

/// Serves the metrics of the process on this address, for Prometheus. Every counter is there from the start.
///
/// # Errors
/// When the address is taken, or the process has a collector already.
pub fn prometheus_metrics(service: &'static str, address: SocketAddr) -> anyhow::Result<()> {
    let builder = PrometheusBuilder::new().with_http_listener(address).add_global_label("service", service);
    let full = |name: &str| Matcher::Full(name.to_owned());
    let install = || {
        let builder = builder.set_buckets_for_metric(full(DURATION), &DURATION_BUCKETS)?;
        let builder = builder.set_buckets_for_metric(full(READ), &MEGABYTE_BUCKETS)?;
        builder.set_buckets_for_metric(full(WRITTEN), &MEGABYTE_BUCKETS)?.install()
    };
    install().map_err(|error| anyhow::anyhow!("metrics cannot be served on {address}: {error}"))?;
    describe();
    for name in [STARTED, SUCCEEDED, SKIPPED, REQUESTS, HEDGED, REJECTED, ITEMS_FAILED] {
        counter!(name).absolute(0);
    }
    for code in ErrorCode::ALL {
        counter!(FAILED, "error_code" => code.as_str()).absolute(0);
    }
    Ok(())
}

/// The collector of an invocation's metrics, for one service of the product; its `flush` writes them.
///
/// # Errors
/// When the process has a collector already.
pub fn embedded_metrics(service: &'static str) -> anyhow::Result<&'static Collector> {
    let builder = Builder::new().cloudwatch_namespace(NAMESPACE).with_dimension("service", service);
    let collector = builder.init().map_err(|error| anyhow::anyhow!("metrics cannot be collected: {error}"))?;
    describe();
    Ok(collector)
}

fn describe() {
    describe_counter!(STARTED, Unit::Count, "Runs that a worker began to work on");
    describe_counter!(SUCCEEDED, Unit::Count, "Runs that ended with SUCCESS");
    describe_counter!(FAILED, Unit::Count, "Runs that ended with FAILURE, by error code");
    describe_counter!(SKIPPED, Unit::Count, "Deliveries of runs that were done already");
    describe_histogram!(DURATION, Unit::Seconds, "From a record to its end");
    describe_histogram!(READ, "Input read for a run, in megabytes");
    describe_histogram!(WRITTEN, "Data written for a run, in megabytes");
    describe_counter!(REQUESTS, Unit::Count, "Requests to S3");
    describe_counter!(HEDGED, Unit::Count, "Reads of inputs that were late and asked for twice");
    describe_counter!(REJECTED, Unit::Count, "Records sent to the dead-letter queue as they came");
    describe_counter!(ITEMS_FAILED, Unit::Count, "Records given back to their queue");
}

/// A run began.
pub fn run_started() {
    counter!(STARTED).increment(1);
}

/// A run ended with SUCCESS.
pub fn run_succeeded(took: Duration) {
    counter!(SUCCEEDED).increment(1);
    histogram!(DURATION).record(took.as_secs_f64());
}

/// A run ended with FAILURE.
pub fn run_failed(code: ErrorCode, took: Duration) {
    counter!(FAILED, "error_code" => code.as_str()).increment(1);
    histogram!(DURATION).record(took.as_secs_f64());
}

/// A run had been done before.
pub fn run_skipped() {
    counter!(SKIPPED).increment(1);
}

/// A record went to the dead-letter queue as it came.
pub fn record_rejected() {
    counter!(REJECTED).increment(1);
}

/// Records go back to their queue.
pub fn batch_items_failed(count: usize) {
    counter!(ITEMS_FAILED).increment(count as u64);
}

/// Requests were sent to S3.
pub fn s3_requests(count: u64) {
    counter!(REQUESTS).increment(count);
}

/// CloudWatch's megabyte.
const BYTES_PER_MEGABYTE: f64 = 1_000_000.0;

/// Reads of inputs were late and asked for a second time.
pub fn s3_hedged_requests(count: u64) {
    counter!(HEDGED).increment(count);
}

/// Bytes as megabytes; exact up to 2^53 bytes.
#[expect(clippy::cast_precision_loss, reason = "a metric of nine petabytes may be off by a byte")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / BYTES_PER_MEGABYTE
}

/// Tells how long the steps of a run take.
#[derive(Debug)]
pub struct Timings {
    start: Instant,
}

impl Timings {
    /// The first step begins.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The reads are planned.
    pub fn planned(&self, plan: &ReadPlan) {
        let (series, objects) = (plan.series.len(), plan.objects.len());
        tracing::info!(series, objects, elapsed_ms = self.elapsed_ms(), "planned");
    }

    /// The input is read.
    pub fn read(&self, facts: &Facts) {
        let observations: u64 = facts.series.iter().map(|read| read.observation_count).sum();
        let duplicates: u64 = facts.series.iter().map(|read| read.dropped_duplicates).sum();
        let foreign_rows: u64 = facts.series.iter().map(|read| read.foreign_rows).sum();
        let (read_bytes, requests) = (facts.read_bytes, facts.request_count);
        let elapsed_ms = self.elapsed_ms();
        tracing::info!(observations, duplicates, foreign_rows, read_bytes, requests, elapsed_ms, "read");
        histogram!(READ).record(megabytes(read_bytes));
    }

    /// The result is evaluated and encoded.
    pub fn evaluated(&self, summary: &Summary) {
        let Summary { row_count: rows, null_count: nulls, size_bytes: write_bytes, .. } = *summary;
        tracing::info!(rows, nulls, write_bytes, elapsed_ms = self.elapsed_ms(), "evaluated");
        histogram!(WRITTEN).record(megabytes(write_bytes));
    }
}
