//! `metrics demo`: the sample data and the sample batches in; every metric they make, as figures and a curve, and
//! everything that happened on the way, out. The batches go through the function's own handler; only the edges
//! differ: a folder is the bucket, and two recorders are topic and queue.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use aws_lambda_events::event::sqs::SqsEvent;
use clap::Args;

use super::dataset;
use super::progress::Progress;
use super::screen::Screen;
use crate::config::Config;
use crate::dataset::Dataset;
use crate::event::{Event, Outcome};
use crate::expression::text;
use crate::ids::{DatasetId, MetricCode, RunId};
use crate::keys::Prefix;
use crate::readback;
use crate::request::{self, RunRequest};
use crate::storage::folder::FolderStorage;
use crate::worker::deadline::Deadline;
use crate::worker::recorder::{QueueRecorder, Recorder};
use crate::worker::{Clock, Ports, batch};

mod report;

use report::{Batch, DeadLetter, ShownMetric, Story};

/// What the sample batches call the dataset.
const DATASET_ID: &str = "ecb_fx";

/// The demo's configuration: what a deployment must set; everything else has its default.
const SETTINGS: [(&str, &str); 3] = [
    ("AWS_S3_BUCKET", "demo"),
    ("AWS_SNS_EVENTS_TOPIC_ARN", "arn:aws:sns:us-east-1:000000000000:metric-events.fifo"),
    ("DEAD_LETTER_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/000000000000/metric-run-requests-dead.fifo"),
];

/// The arguments of `metrics demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  metrics demo
  metrics demo --bucket /tmp/bucket --keep

The folder is a data location afterwards: metrics eval --data target/demo/bucket 'ECB_EUR_USD_D'")]
pub struct Demo {
    /// The folder of the batches; they run in the order of their names
    #[arg(long, value_name = "FOLDER", default_value = "events")]
    events: PathBuf,
    /// The reference rates that the dataset is made of
    #[arg(long, value_name = "FILE", default_value = "sample-data/eurofxref-hist.csv")]
    csv: PathBuf,
    /// The folder that stands for the bucket; created where it is missing
    #[arg(long, value_name = "FOLDER", default_value = "target/demo/bucket")]
    bucket: PathBuf,
    /// Keep what an earlier demo left of these metrics: their runs are found finished and not computed again
    #[arg(long)]
    keep: bool,
}

/// A batch as its file has it.
struct SampleBatch {
    name: String,
    event: SqsEvent,
}

/// Runs the demo.
///
/// # Errors
/// When the samples cannot be read, or the folder cannot be written. A run that fails is part of the demo.
pub async fn run(demo: &Demo, clock: Clock, screen: Screen, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let batches = read_batches(&demo.events)?;
    let rates = dataset::read_rates(&demo.csv)?;
    let lookup = |name: &str| SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let config = Config::from_lookup(lookup)?;
    let requests = requests(&batches, &config);
    let bucket = FolderStorage::new(&demo.bucket).with_context(|| demo.bucket.display().to_string())?;
    if !demo.keep {
        forget(&requests, bucket.root())?;
    }

    let mut plan = Dataset::plan(&rates, &Prefix::parse("datasets")?, &DatasetId::parse(DATASET_ID)?, None)?;
    dataset::write(&mut plan, &bucket).await?;
    dataset::describe(&plan, |key| demo.bucket.join(key.as_str()).display().to_string(), out)?;

    let (publisher, queue) = (Arc::new(Recorder::new()), Arc::new(QueueRecorder::new(true)));
    let ports = Ports { storage: Arc::new(bucket.clone()), publisher: publisher.clone(), queue: queue.clone(), clock };
    let batches = run_batches(batches, &ports, &config).await;
    let events: Vec<Event> = publisher.published().into_iter().map(|published| published.event).collect();
    let metrics = read_metrics(&events, &requests, &bucket).await?;
    let dead_letters = queue.dead_letters().into_iter().map(|(record, reason)| DeadLetter {
        group: record.group_id.unwrap_or_default(),
        reason,
        body: record.body,
    });
    let story = Story { batches, events, dead_letters: dead_letters.collect(), metrics, bucket: demo.bucket.clone() };
    report::show(&story, screen, out)?;
    Ok(())
}

fn read_batches(folder: &Path) -> anyhow::Result<Vec<SampleBatch>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    ensure!(!paths.is_empty(), "{} has no batch: no file that ends in .json", folder.display());
    let read = |path: &PathBuf| -> anyhow::Result<SampleBatch> {
        let event = serde_json::from_slice(&fs::read(path)?)?;
        Ok(SampleBatch { name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), event })
    };
    paths.iter().map(|path| read(path).with_context(|| path.display().to_string())).collect()
}

/// The requests among the records, as the handler reads them.
fn requests(batches: &[SampleBatch], config: &Config) -> Vec<RunRequest> {
    let records = batches.iter().flat_map(|batch| &batch.event.records);
    records.filter_map(|record| request::decode(record.body.as_deref()?, &config.rules).ok()).collect()
}

/// Removes what earlier runs wrote for these metrics, and nothing else of the bucket.
fn forget(requests: &[RunRequest], bucket: &Path) -> anyhow::Result<()> {
    for request in requests {
        let folder = bucket.join(request.run.keys.base().as_str());
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| folder.display().to_string());
            }
            _ => {}
        }
    }
    Ok(())
}

async fn run_batches(batches: Vec<SampleBatch>, ports: &Ports, config: &Config) -> Vec<Batch> {
    let mut progress = Progress::stderr("batches", "batches", batches.len());
    let mut done = Vec::with_capacity(batches.len());
    for SampleBatch { name, event } in batches {
        progress.doing(&name);
        let (record_count, start) = (event.records.len(), Instant::now());
        let response = batch::handle(event, ports, config, Deadline::unknown()).await;
        let failed_items = response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect();
        done.push(Batch { name, record_count, failed_items, elapsed_ms: start.elapsed().as_millis() });
        progress.step();
    }
    progress.finish();
    done
}

/// The current version of every metric that had a success, in the order of the requests: groups run at once, so the order
/// of their events is any.
async fn read_metrics(
    events: &[Event],
    requests: &[RunRequest],
    bucket: &FolderStorage,
) -> anyhow::Result<Vec<ShownMetric>> {
    let formulas: BTreeMap<&RunId, String> = requests
        .iter()
        .filter_map(|one| Some((&one.run.run_id, text::print(&one.work.as_ref().ok()?.expression))))
        .rev()
        .collect();
    let succeeded: BTreeSet<&MetricCode> = events
        .iter()
        .filter_map(|event| match event {
            Event::MetricRunCompleted { metric_code, outcome: Outcome::Success { .. }, .. } => Some(metric_code),
            _ => None,
        })
        .collect();
    let metrics = Prefix::parse("metrics")?;
    let mut seen: BTreeSet<&MetricCode> = BTreeSet::new();
    let mut shown = Vec::new();
    for metric_code in requests.iter().map(|request| &request.run.metric_code) {
        if !succeeded.contains(metric_code) || !seen.insert(metric_code) {
            continue;
        }
        let metric = readback::read(bucket, &metrics, metric_code).await?;
        let formula = formulas.get(&metric.manifest.run_id).cloned().unwrap_or_default();
        shown.push(ShownMetric { formula, metric });
    }
    Ok(shown)
}
