//! The worker: a run from its request to its completed event.

pub mod batch;
pub mod deadline;
pub mod heartbeat;
pub mod computing;
pub mod resolve;
pub mod plan;
pub mod pipeline;
pub mod read;
pub mod evaluate;
pub mod write;
pub mod publish;
pub mod queue;
pub mod dead_letter;
pub mod recorder;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{join, try_join};

use crate::config::Config;
use crate::event::{ErrorCode, Event, Outcome, SCHEMA};
use crate::expression::Expr;
use crate::ids::DatasetId;
use crate::keys::VersionTs;
use crate::manifest::{InputLineage, Marker, SeriesLineage};
use crate::request::{self, Run, RunRequest, Work};
use crate::series::Series;
use crate::storage::ObjectStorage;
use crate::telemetry;
use crate::worker::computing::Computing;
use crate::worker::heartbeat::{Progress, share};
use crate::worker::publish::{Attempt, Publisher};
use crate::worker::queue::Queue;
use crate::worker::read::Cut;
use crate::worker::resolve::Resolved;
use crate::worker::write::outbox::{Data, Outbox};
use crate::worker::write::{claim, marker};

/// The time, from outside.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// What the worker needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// Where datasets and metrics are.
    pub storage: Arc<dyn ObjectStorage>,
    /// Where events go.
    pub publisher: Arc<dyn Publisher>,
    /// Where records came from, and where dead letters go.
    pub queue: Arc<dyn Queue>,
    /// The time.
    pub clock: Clock,
}

/// How a run ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was computed, or what was missing of it was done.
    Completed,
    /// It had been done before; its SUCCESS was published again.
    Skipped,
}

/// Everything that can end a run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record is no request.
    #[error("{0}")]
    Unreadable(#[from] request::Unreadable),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(#[from] request::Invalid),
    /// The datasets could not be told.
    #[error("{0}")]
    Resolve(#[from] resolve::Error),
    /// Nothing could be planned.
    #[error("{0}")]
    Plan(#[from] plan::Error),
    /// The input could not be read.
    #[error("{0}")]
    Read(#[from] read::Error),
    /// The expression could not be evaluated.
    #[error("{0}")]
    Evaluate(#[from] evaluate::Error),
    /// The result could not be encoded.
    #[error("the result cannot be encoded: {0}")]
    Encode(#[from] parquet::errors::ParquetError),
    /// The result could not be committed.
    #[error("{0}")]
    Write(#[from] write::Error),
    /// An event could not be published.
    #[error("{0}")]
    Publish(#[from] publish::Error),
    /// The code panicked: a bug.
    #[error("panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// The time was up.
    #[error("the function's time was up before the run was done")]
    Deadline,
    /// Other runs kept taking the run's versions.
    #[error("gave up after {MOST_VERSIONS} versions that other attempts had taken")]
    NoVersion,
}

/// What becomes of a record whose run ended with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// FAILURE is published, the record is done with.
    Fail(ErrorCode),
    /// The record goes back to its queue; on its last receive FAILURE is published with this code.
    Retry(ErrorCode),
    /// The record goes to the dead-letter queue; there is no run to fail, or none that may be failed.
    DeadLetter,
}

impl Error {
    /// What becomes of the record.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        let input = |is_transient| match is_transient {
            true => Disposition::Retry(ErrorCode::InputReadError),
            false => Disposition::Fail(ErrorCode::InputReadError),
        };
        match self {
            Self::Unreadable(_) => Disposition::DeadLetter,
            Self::Invalid(error) => Disposition::Fail(error.code()),
            Self::Resolve(error) => input(error.is_transient()),
            Self::Plan(_) => Disposition::Fail(ErrorCode::InputReadError),
            Self::Read(error) => input(error.is_transient()),
            Self::Write(error) => match error.meaning() {
                write::Meaning::Fail(code) => Disposition::Fail(code),
                write::Meaning::Retry(code) => Disposition::Retry(code),
                write::Meaning::Refuse => Disposition::DeadLetter,
            },
            Self::NoVersion => Disposition::Retry(ErrorCode::OutputWriteError),
            // An expression is checked before anything is read: what goes wrong in its evaluation is a bug.
            Self::Evaluate(_) | Self::Encode(_) | Self::Publish(_) | Self::Panicked { .. } | Self::Deadline => {
                Disposition::Retry(ErrorCode::InternalError)
            }
        }
    }
}

/// Of all events only heartbeats are numbered.
const NO_SEQUENCE: u64 = 0;

/// A version that is taken costs one more attempt at the data; more than this in a row is left to a redelivery.
const MOST_VERSIONS: u32 = 8;

/// One run: from its request to its completed event. How far it came can be read from `progress` even when it was
/// cancelled.
///
/// # Errors
/// Whatever ends the run; [`Error::disposition`] says what becomes of its record.
pub async fn execute(
    request: &RunRequest,
    attempt: &Attempt,
    progress: &Progress,
    ports: &Ports,
    config: &Config,
) -> Result<Ended, Error> {
    let run = &request.run;
    let storage = &*ports.storage;
    let (finished, current) = try_join(marker::find(run, storage), write::current(run, storage)).await?;
    if let Some(marker) = finished {
        progress.advance(share::MARKED);
        ports.publisher.publish(&success(run, &marker, config), attempt, NO_SEQUENCE).await?;
        return Ok(Ended::Skipped);
    }
    let work = match &request.work {
        Ok(work) => work,
        Err(invalid) => {
            claim::check_absent(run, storage).await?;
            return Err(invalid.clone().into());
        }
    };
    let beat = |sequence| publish_heartbeat(run, progress, sequence, attempt, ports);
    let commit = commit(run, work, current, attempt, progress, ports, config).boxed();
    let marker = heartbeat::during(config.heartbeat_interval, beat, commit).await?;
    ports.publisher.publish(&success(run, &marker, config), attempt, NO_SEQUENCE).await?;
    Ok(Ended::Completed)
}

/// The effects of a run in their order: claim, data, manifest, `current`, marker.
async fn commit(
    run: &Run,
    work: &Work,
    current: write::Current,
    attempt: &Attempt,
    progress: &Progress,
    ports: &Ports,
    config: &Config,
) -> Result<Marker, Error> {
    let storage = &*ports.storage;
    let claim = async {
        let claimed = claim::obtain(run, &current, (ports.clock)(), storage).await?;
        let claimed = claim::take_up(run, &attempt.message_id, claimed, storage).await?;
        ports.publisher.publish(&started(run, ports), attempt, NO_SEQUENCE).await?;
        telemetry::run_started();
        Ok::<_, Error>(claimed)
    };
    // What is to be read is told meanwhile: it writes nothing, and what is wrong with it is said after `started`.
    let (claimed, prepared) = join(claim, prepare(work, storage, config)).await;
    let (mut claimed, mut prepared, mut computed) = (claimed?, Some(prepared), None);
    for _ in 0..MOST_VERSIONS {
        let Some(sealed) = claimed.claim.sealed.clone() else {
            let (data, lineage) = match computed.take() {
                Some(computed) => computed,
                None => {
                    let prepared = match prepared.take() {
                        Some(prepared) => prepared?,
                        None => prepare(work, storage, config).await?,
                    };
                    compute(run, claimed.claim.version_ts, work, prepared, progress, ports, config).await?
                }
            };
            claimed = write::data(run, &claimed, &data, lineage.clone(), (ports.clock)(), storage).await?;
            claimed = claim::take_up(run, &attempt.message_id, claimed, storage).await?;
            // What was sent ahead to one version is of no use for another.
            computed = (!data.is_sent_ahead()).then_some((data, lineage));
            continue;
        };
        progress.advance(share::WRITTEN);
        if write::manifest(run, &sealed, storage).await? == write::Committed::Taken {
            claimed = claim::move_on(run, &claimed, (ports.clock)(), storage).await?;
            claimed = claim::take_up(run, &attempt.message_id, claimed, storage).await?;
            continue;
        }
        write::validate(run, &sealed, storage).await?;
        write::advance_current(run, &sealed, current, storage).await?;
        let marker = marker::write(run, &sealed, (ports.clock)(), storage).await?;
        progress.advance(share::MARKED);
        return Ok(marker);
    }
    Err(Error::NoVersion)
}

/// The result of the work for a version, and what it was computed from: slice by slice read, evaluated, encoded, sent.
async fn compute(
    run: &Run,
    version: VersionTs,
    work: &Work,
    Prepared { resolved, plan: read_plan, timings }: Prepared,
    progress: &Progress,
    ports: &Ports,
    config: &Config,
) -> Result<(Data, Vec<InputLineage>), Error> {
    let storage = &*ports.storage;
    progress.advance(share::PLANNED);

    let read_progress = |fraction: f64| progress.advance(share::PLANNED + fraction * (share::READ - share::PLANNED));
    let mut cut = Cut::Slices;
    let (data, facts) = loop {
        let outbox = Outbox::new(run, version, &config.output_files, storage);
        match pipeline::run(work, &read_plan, cut, outbox, storage, config, &read_progress).await? {
            Some(computed) => break computed,
            None => tracing::info!("observations are not in order of time, all of them are read at once"),
        }
        cut = Cut::Whole;
    };
    timings.read(&facts);
    progress.advance(share::EVALUATED);
    timings.evaluated(&data.summary);
    Ok((data, lineage(&resolved, &facts)))
}

/// What [`prepare`] found.
pub struct Prepared {
    /// The datasets of the work as they are.
    pub resolved: Resolved,
    /// What is to be read of them.
    pub plan: plan::ReadPlan,
    /// Since when.
    pub timings: telemetry::Timings,
}

/// What the work reads, before anything but manifests and listings is read: resolve, plan.
///
/// # Errors
/// When a dataset cannot be told, or a series has no file.
pub async fn prepare(work: &Work, storage: &dyn ObjectStorage, config: &Config) -> Result<Prepared, Error> {
    let timings = telemetry::Timings::start();
    let resolved = resolve::resolve(work, config.input_scope, storage).await?;
    let plan = plan::plan(work, &resolved, &config.rules.input_prefixes)?;
    timings.planned(&plan);
    Ok(Prepared { resolved, plan, timings })
}

/// Reads what is planned, whole; `progress` is told the fraction that is done.
///
/// # Errors
/// When an object cannot be read.
pub async fn read_planned(
    read_plan: &plan::ReadPlan,
    storage: &dyn ObjectStorage,
    config: &Config,
    progress: &(dyn Fn(f64) + Sync),
) -> Result<read::ReadOutcome, Error> {
    Ok(read::read(read_plan, storage, &read_settings(config), progress).await?)
}

/// How the worker reads.
#[must_use]
pub fn read_settings(config: &Config) -> read::ReadSettings {
    read::ReadSettings {
        concurrency: config.read_concurrency,
        page_bytes_limit: config.page_bytes_limit,
        observation_limit: config.observation_limit,
        slice_observations: config.slice_observations,
        computing: config.computing,
        ..read::ReadSettings::default()
    }
}

/// The value of an expression over what was read for it.
///
/// # Errors
/// When a series of the expression was not read.
pub async fn value(expression: &Expr, outcome: read::ReadOutcome, config: &Config) -> Result<Series, Error> {
    let series: BTreeMap<_, _> =
        outcome.series.into_iter().map(|read| (read.series.series_code, read.observations)).collect();
    let (expression, calendar) = (expression.clone(), config.calendar.clone());
    off_the_runtime(config.computing, move || {
        let _step = tracing::debug_span!(target: telemetry::STEPS, "evaluate", series = series.len()).entered();
        Ok(evaluate::evaluate(&expression, series, &calendar)?)
    })
    .await
}

/// Long computations leave the runtime's threads to heartbeats and deadlines.
async fn off_the_runtime<T: Send + 'static>(
    computing: Computing,
    computation: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let span = tracing::Span::current();
    match computing.run(move || span.in_scope(computation)).await {
        Ok(answer) => answer,
        Err(panicked) => Err(Error::Panicked { message: panicked.to_string() }),
    }
}

/// What was read, for the manifest.
fn lineage(resolved: &Resolved, facts: &read::Facts) -> Vec<InputLineage> {
    let of_dataset = |dataset_id: &DatasetId| {
        facts.series.iter().filter(|read| read.series.dataset_id == *dataset_id).collect::<Vec<_>>()
    };
    let lineage = resolved.iter().map(|(dataset_id, dataset)| InputLineage {
        dataset_id: dataset_id.clone(),
        manifest_path: dataset.paths.manifest.to_string(),
        version_id: dataset.manifest.version_id.clone(),
        series: of_dataset(dataset_id)
            .into_iter()
            .map(|read| SeriesLineage {
                series_code: read.series.series_code.clone(),
                object_count: read.object_count,
                objects_digest: read.objects_digest.clone(),
            })
            .collect(),
    });
    lineage.collect()
}

fn started(run: &Run, ports: &Ports) -> Event {
    Event::MetricRunStarted {
        schema: SCHEMA,
        run_id: run.run_id.clone(),
        metric_code: run.metric_code.clone(),
        started_at: write::rfc3339((ports.clock)()),
    }
}

/// A heartbeat tells how far the run is and nothing else depends on it: one that is lost is logged, and the run goes on.
async fn publish_heartbeat(run: &Run, progress: &Progress, sequence: u64, attempt: &Attempt, ports: &Ports) {
    let event = Event::MetricRunHeartbeat {
        schema: SCHEMA,
        run_id: run.run_id.clone(),
        metric_code: run.metric_code.clone(),
        progress: progress.get(),
        ts: write::rfc3339((ports.clock)()),
    };
    if let Err(error) = ports.publisher.publish(&event, attempt, sequence).await {
        tracing::warn!(%error, sequence, "a heartbeat could not be published");
    }
}

/// SUCCESS, from the marker as stored: whoever publishes it, and however often, it is the same event.
fn success(run: &Run, marker: &Marker, config: &Config) -> Event {
    let outcome = Outcome::Success {
        version_ts: marker.version_ts,
        output_manifest: marker.output_manifest.clone(),
        output_manifest_uri: run.keys.manifest(marker.version_ts).uri(&config.rules.bucket),
        row_count: marker.row_count,
    };
    Event::MetricRunCompleted {
        schema: SCHEMA,
        run_id: run.run_id.clone(),
        metric_code: run.metric_code.clone(),
        outcome,
    }
}
