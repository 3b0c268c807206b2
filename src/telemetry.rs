//! What operators see: structured logs and CloudWatch metrics.
//!
//! Metrics go through the `metrics` facade and are written as embedded metric format once an invocation. Dimensions
//! come from fixed sets alone (the service, error codes): a text of an event never becomes one.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use metrics_cloudwatch_embedded::{Builder, Collector};
use tokio::time::Instant;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::event::ErrorCode;
use crate::worker::plan::ReadPlan;
use crate::worker::read::ReadOutcome;
use crate::worker::write::encode::Draft;

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
const REJECTED: &str = "records_rejected_total";
const ITEMS_FAILED: &str = "batch_items_failed_total";

/// Every metric that is emitted.
pub const METRICS: [&str; 10] =
    [STARTED, SUCCEEDED, FAILED, SKIPPED, DURATION, READ, WRITTEN, REQUESTS, REJECTED, ITEMS_FAILED];

/// Logs JSON lines to standard output: this package at `level`, the libraries below it from warnings on.
pub fn log_json(level: tracing::Level) {
    let targets = Targets::new().with_default(tracing::Level::WARN.min(level)).with_target("metrics_engine", level);
    let lines =
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
    // A second initialisation can only come from a second call in one process, whose first one is still good.
    let _ = tracing_subscriber::registry().with(lines.with_filter(targets)).try_init();
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
    pub fn read(&self, outcome: &ReadOutcome) {
        let observations: usize = outcome.series.iter().map(|read| read.observations.len()).sum();
        let duplicates: u64 = outcome.series.iter().map(|read| read.dropped_duplicates).sum();
        let foreign_rows: u64 = outcome.series.iter().map(|read| read.foreign_rows).sum();
        let (read_bytes, requests) = (outcome.read_bytes, outcome.request_count);
        let elapsed_ms = self.elapsed_ms();
        tracing::info!(observations, duplicates, foreign_rows, read_bytes, requests, elapsed_ms, "read");
        histogram!(READ).record(megabytes(read_bytes));
    }

    /// The result is evaluated and encoded.
    pub fn evaluated(&self, draft: &Draft) {
        let (rows, nulls, write_bytes) = (draft.row_count, draft.null_count, draft.size_bytes());
        tracing::info!(rows, nulls, write_bytes, elapsed_ms = self.elapsed_ms(), "evaluated");
        histogram!(WRITTEN).record(megabytes(write_bytes));
    }
}
