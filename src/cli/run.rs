//! `metrics run`: a batch through the function's own handler, over a folder or a bucket. Its events go to the output as
//! they happen, instead of to a topic; its dead letters are shown, instead of sent.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use aws_lambda_events::event::sqs::SqsEvent;
use clap::Args;
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::Verdict;
use super::events;
use super::location::{DataArguments, Location};
use super::progress::Waiting;
use super::screen::{Colour, Screen};
use crate::event::{Event, Outcome};
use crate::worker::deadline::Deadline;
use crate::worker::publish::{self, Attempt, Publisher};
use crate::worker::queue::ReceivedRecord;
use crate::worker::recorder::QueueRecorder;
use crate::worker::{Clock, Ports, batch};

/// The arguments of `metrics run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  metrics run events/01-cross-rate.json --data target/demo/bucket
  metrics run request.json --data s3://my-bucket/team --json

A message that has failed a run gets the same failure again, as from a queue: metrics replay tries it anew.")]
pub struct Command {
    /// A batch as Lambda gets it from SQS, or a single request
    #[arg(value_name = "EVENT.json")]
    event: PathBuf,
    #[command(flatten)]
    data: DataArguments,
    /// Each event as a line of JSON, as the topic would get it
    #[arg(long)]
    json: bool,
}

/// A topic whose messages come out of a channel.
struct Announcer(UnboundedSender<Event>);

#[async_trait]
impl Publisher for Announcer {
    async fn publish(&self, event: &Event, _attempt: &Attempt, _sequence: u64) -> Result<(), publish::Error> {
        // Nobody listens any more only when the command is over.
        let _ = self.0.send(event.clone());
        Ok(())
    }
}

/// Runs the batch.
///
/// # Errors
/// When the file is no batch and no request, or the location cannot be opened.
pub async fn run(
    command: &Command,
    clock: Clock,
    screen: Screen,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<Verdict> {
    let batch = read_batch(&command.event)?;
    let location = command.data.open().await?;
    records(batch, location, clock, command.json, screen, out).await
}

/// Runs records through the worker's own handler.
///
/// # Errors
/// When the output cannot be written.
pub(super) async fn records(
    records: Vec<ReceivedRecord>,
    location: Location,
    clock: Clock,
    json: bool,
    screen: Screen,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<Verdict> {
    let queue = Arc::new(QueueRecorder::new(true));
    let (sender, mut happened) = unbounded_channel();
    let ports = Ports {
        storage: location.storage.clone(),
        publisher: Arc::new(Announcer(sender)),
        queue: queue.clone(),
        clock,
    };
    let config = location.config;
    // The publisher is dropped with the ports, which ends the channel.
    let handled = async move { batch::handle_records(records, &ports, &config, &Deadline::unknown()).await }.boxed();
    let handled = tokio::spawn(handled);
    let mut is_well = true;
    let waiting = Waiting::stderr("running");
    while let Some(event) = happened.recv().await {
        is_well &= !matches!(&event, Event::MetricRunCompleted { outcome: Outcome::Failure { .. }, .. });
        waiting.suspend(|| -> anyhow::Result<()> {
            match json {
                true => writeln!(out, "{}", serde_json::to_string(&event)?)?,
                false => events::show(&event, 0, screen, out)?,
            }
            Ok(out.flush()?)
        })?;
    }
    drop(waiting);
    let returned = handled.await?;
    for (record, reason) in queue.dead_letters() {
        is_well = false;
        match json {
            true => writeln!(out, "{}", json!({ "deadLetter": record.message_id, "reason": reason }))?,
            false => {
                writeln!(out, "{} {}", screen.paint(Colour::Red, "dead letter"), record.message_id)?;
                events::indented(&reason, screen, out)?;
            }
        }
    }
    for message_id in returned {
        is_well = false;
        match json {
            true => writeln!(out, "{}", json!({ "returned": message_id }))?,
            false => writeln!(out, "{} {message_id}", screen.paint(Colour::Red, "returned"))?,
        }
    }
    Ok(if is_well { Verdict::Well } else { Verdict::Wrong })
}

/// The records of a file; a request alone is one. Only what a queue would give is asked for: whether a body is a request is
/// the worker's to say.
///
/// # Errors
/// When the file cannot be read, is no JSON, or a record lacks its message id.
pub(super) fn read_batch(path: &Path) -> anyhow::Result<Vec<ReceivedRecord>> {
    let place = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(place)?;
    let json: Value = serde_json::from_str(&text).context("no JSON").with_context(place)?;
    if json.get("Records").is_none() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(vec![ReceivedRecord {
            message_id: name,
            body: text,
            receive_count: 1,
            ..ReceivedRecord::default()
        }]);
    }
    let batch: SqsEvent = serde_json::from_value(json).context("no batch of SQS").with_context(place)?;
    let count = batch.records.len();
    let records: Vec<ReceivedRecord> = batch.records.into_iter().filter_map(ReceivedRecord::from_lambda).collect();
    ensure!(records.len() == count, "{}: {} records without a messageId", place(), count - records.len());
    Ok(records)
}
