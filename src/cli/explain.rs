//! `metrics explain`: a batch in; what each of its runs would read, and about what that would take and cost, out. With
//! `--analyze` the steps are then taken and measured; nothing is written in either case.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::location::{DataArguments, Location, Missing};
use super::progress::Waiting;
use super::run::read_batch;
use super::screen::{Colour, Screen};
use super::table::grouped;
use super::{Verdict, events};
use crate::expression::text;
use crate::request::{self, RunRequest, Work};
use crate::storage::metered::Metered;
use crate::worker::plan::{Content, ReadPlan};
use crate::worker::write::encode;
use crate::worker::{self, resolve::Resolved};

mod estimate;

use estimate::{Estimate, Reads, assumptions};

/// The arguments of `metrics explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  metrics explain events/03-macd.json --data target/demo/bucket --memory-mb 512 --latency-ms 30
  metrics explain request.json --data s3://my-bucket --analyze

The prediction is a model with few constants: the output says what it assumes. --analyze measures the same steps on this
machine, where latency and processor are others than the function's; nothing is written in either case.")]
pub struct Command {
    /// A batch as Lambda gets it from SQS, or a single request
    #[arg(value_name = "EVENT.json")]
    event: PathBuf,
    #[command(flatten)]
    data: DataArguments,
    /// What a request to the store takes until its first byte, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 20.0)]
    latency_ms: f64,
    /// The memory of the function, which sets its share of a processor and its requests in flight
    #[arg(long, value_name = "MB", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(128..=10_240))]
    memory_mb: u32,
    /// Take the steps, too, and measure them
    #[arg(long)]
    analyze: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Explains every run of the batch.
///
/// # Errors
/// When the file is no batch and no request, or the location cannot be opened.
pub async fn run(command: &Command, screen: Screen, out: &mut (dyn Write + Send)) -> anyhow::Result<Verdict> {
    let batch = read_batch(&command.event)?;
    let location = command.data.open_as(Some(command.memory_mb), Missing::Refused).await?;
    let (mut is_well, mut documents) = (true, Vec::new());
    for record in batch {
        let explained = match request::decode(&record.body, &location.config.rules) {
            Err(error) => Err(error.to_string()),
            Ok(RunRequest { work: Err(error), .. }) => Err(error.to_string()),
            Ok(RunRequest { run, work: Ok(work) }) => {
                let _waiting = Waiting::stderr(format!("explaining {}", run.metric_code));
                let explained = explain(command, &work, &location).await;
                explained.map(|explained| (run, work, explained)).map_err(|error| error.to_string())
            }
        };
        match explained {
            Ok((run, work, explained)) if command.json => {
                let mut document = explained.to_json();
                document["runId"] = json!(run.run_id);
                document["metricCode"] = json!(run.metric_code);
                document["text"] = json!(text::print(&work.expression));
                documents.push(document);
            }
            Ok((run, work, explained)) => {
                writeln!(out, "{}", screen.paint(Colour::Bold, &format!("{}  run {}", run.metric_code, run.run_id)))?;
                events::indented(&text::print(&work.expression), screen, out)?;
                explained.show(screen, out)?;
            }
            Err(error) => {
                is_well = false;
                if command.json {
                    documents.push(json!({ "error": error }));
                } else {
                    writeln!(out, "{}", screen.paint(Colour::Red, "no plan"))?;
                    events::indented(&error, screen, out)?;
                }
            }
        }
    }
    if command.json {
        writeln!(out, "{}", Value::from(documents))?;
    }
    Ok(if is_well { Verdict::Well } else { Verdict::Wrong })
}

/// What one run reads and takes.
struct Explained {
    /// Each series with its objects of its own.
    series: Vec<(String, usize)>,
    /// Objects of several series, of which only the needed row groups and pages are read.
    shared_count: usize,
    reads: Reads,
    estimate: Estimate,
    /// What the estimate takes for granted.
    assumed: String,
    measured: Vec<Step>,
}

/// A step, as it was measured here.
struct Step {
    name: &'static str,
    took_ms: f64,
    requests: u64,
    read_bytes: u64,
}

async fn explain(command: &Command, work: &Work, location: &Location) -> Result<Explained, worker::Error> {
    let storage = Metered::new(location.storage.clone());
    let storage = std::sync::Arc::new(storage);
    let mut measured = Vec::new();
    let mut seen = storage.usage();
    let mut start = Instant::now();
    let mut step = |name| {
        let usage = storage.usage();
        let (requests, read_bytes) = (usage.requests - seen.requests, usage.read_bytes - seen.read_bytes);
        measured.push(Step { name, took_ms: start.elapsed().as_secs_f64() * 1e3, requests, read_bytes });
        (seen, start) = (usage, Instant::now());
    };
    let worker::Prepared { resolved, plan, .. } = worker::prepare(work, &*storage, &location.config).await?;
    step("plan");
    if command.analyze {
        let outcome = worker::read_planned(&plan, &*storage, &location.config, &|_| ()).await?;
        step("read");
        let series = worker::value(&work.expression, outcome, &location.config).await?;
        step("evaluate");
        encode::encode(&series, &location.config.output_files, location.config.output_compression)?;
        step("encode");
    } else {
        measured.clear();
    }
    let reads = reads(&resolved, &plan, location);
    let estimate = Estimate::of(&reads, command.latency_ms, command.memory_mb);
    let assumed = assumptions(&reads, command.latency_ms, command.memory_mb);
    let own = |index: usize| plan.objects.iter().filter(|object| object.content == Content::Own(index)).count();
    let series = plan.series.iter().enumerate().map(|(index, one)| (one.series_code.to_string(), own(index)));
    let shared_count = plan.objects.iter().filter(|object| matches!(object.content, Content::Shared(_))).count();
    Ok(Explained { series: series.collect(), shared_count, reads, estimate, assumed, measured })
}

fn reads(resolved: &Resolved, plan: &ReadPlan, location: &Location) -> Reads {
    const KEYS_PER_PAGE: usize = 1_000;
    let pages = |listing: &Vec<_>| listing.len().div_ceil(KEYS_PER_PAGE).max(1);
    let listings = || resolved.values().flat_map(|dataset| dataset.listings.values()).map(pages);
    Reads {
        manifests: resolved.len(),
        listing_pages: listings().sum(),
        longest_listing_pages: listings().max().unwrap_or(0),
        objects: plan.objects.len(),
        known_bytes: plan.objects.iter().filter_map(|object| object.size_bytes).sum(),
        unknown_sizes: plan.objects.iter().filter(|object| object.size_bytes.is_none()).count(),
        files_written: location.config.output_files.len(),
        concurrency: location.config.read_concurrency.get(),
    }
}

impl Explained {
    fn show(&self, screen: Screen, out: &mut (dyn Write + Send)) -> std::io::Result<()> {
        let Self { reads, estimate, .. } = self;
        for (code, count) in &self.series {
            writeln!(out, "  {code:<32} objects {:>7}", grouped(*count))?;
        }
        if self.shared_count > 0 {
            writeln!(out, "  {:<32} objects {:>7}, pruned by row group and page", "of many series", self.shared_count)?;
        }
        let bytes = grouped(usize::try_from(reads.known_bytes).unwrap_or(usize::MAX));
        let unknown = match reads.unknown_sizes {
            0 => String::new(),
            count => format!(" and {} objects of unknown size", grouped(count)),
        };
        writeln!(out, "  bytes     {bytes}{unknown}")?;
        writeln!(
            out,
            "  requests  manifests {}, pages of listings {}, objects {}, commit {}",
            reads.manifests,
            reads.listing_pages,
            grouped(reads.objects),
            reads.commit_requests()
        )?;
        writeln!(
            out,
            "  predicted {:.0} ms: {:.0} plan, {:.0} read, {:.0} decode, {:.0} commit; {:.2} USD for a thousand runs",
            estimate.total_ms(),
            estimate.plan_ms,
            estimate.read_ms,
            estimate.decode_ms,
            estimate.commit_ms,
            estimate.usd * 1e3
        )?;
        let lines = events::wrap(&self.assumed, screen.width.saturating_sub(12));
        for (index, line) in lines.iter().enumerate() {
            writeln!(out, "  {:<9} {line}", if index == 0 { "assumed" } else { "" })?;
        }
        for Step { name, took_ms, requests, read_bytes } in &self.measured {
            let bytes = grouped(usize::try_from(*read_bytes).unwrap_or(usize::MAX));
            writeln!(out, "  measured  {name:<9} {took_ms:>8.1} ms  {requests:>6} requests  {bytes:>12} bytes")?;
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let Self { reads, estimate, .. } = self;
        let measured = self.measured.iter().map(|step| {
            json!({ "step": step.name, "ms": step.took_ms, "requests": step.requests, "readBytes": step.read_bytes })
        });
        json!({
            "series": self.series.iter().map(|(code, count)| json!({ "seriesCode": code, "objects": count })).collect::<Vec<_>>(),
            "sharedObjects": self.shared_count, "objects": reads.objects, "bytes": reads.known_bytes,
            "objectsOfUnknownSize": reads.unknown_sizes,
            "requests": { "manifests": reads.manifests, "listingPages": reads.listing_pages,
                          "objects": reads.objects, "commit": reads.commit_requests() },
            "predicted": { "planMs": estimate.plan_ms, "readMs": estimate.read_ms, "decodeMs": estimate.decode_ms,
                           "commitMs": estimate.commit_ms, "totalMs": estimate.total_ms(), "usd": estimate.usd },
            "assumed": self.assumed,
            "measured": measured.collect::<Vec<_>>(),
        })
    }
}
