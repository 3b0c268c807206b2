//! `metrics run`: a batch through the function's own handler, over a folder or a bucket. Its events go to the output as
//! they happen, instead of to a topic; its dead letters are shown, instead of sent.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use clap::Args;
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::Verdict;
use super::events;
use super::location::DataArguments;
use super::screen::{Colour, Screen};
use crate::event::{Event, Outcome};
use crate::worker::deadline::Deadline;
use crate::worker::publish::{self, Attempt, Publisher};
use crate::worker::recorder::QueueRecorder;
use crate::worker::{Clock, Ports, batch};

/// The arguments of `metrics run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  metrics run events/01-cross-rate.json --data target/demo/bucket
  metrics run request.json --data bucket --json

A message that has failed a run gets the same failure again, as from a queue: another messageId tries it anew.")]
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
    let batch = read_batch(&command.event).with_context(|| command.event.display().to_string())?;
    let location = command.data.open().await?;
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
    let handled = async move { batch::handle(batch, &ports, &config, Deadline::unknown()).await }.boxed();
    let handled = tokio::spawn(handled);
    let mut is_well = true;
    while let Some(event) = happened.recv().await {
        is_well &= !matches!(&event, Event::MetricRunCompleted { outcome: Outcome::Failure { .. }, .. });
        match command.json {
            true => writeln!(out, "{}", serde_json::to_string(&event)?)?,
            false => events::show(&event, 0, screen, out)?,
        }
        out.flush()?;
    }
    let response = handled.await?;
    for (record, reason) in queue.dead_letters() {
        is_well = false;
        match command.json {
            true => writeln!(out, "{}", json!({ "deadLetter": record.message_id, "reason": reason }))?,
            false => {
                writeln!(out, "{} {}", screen.paint(Colour::Red, "dead letter"), record.message_id)?;
                events::indented(&reason, screen, out)?;
            }
        }
    }
    for failure in response.batch_item_failures {
        is_well = false;
        match command.json {
            true => writeln!(out, "{}", json!({ "returned": failure.item_identifier }))?,
            false => writeln!(out, "{} {}", screen.paint(Colour::Red, "returned"), failure.item_identifier)?,
        }
    }
    Ok(if is_well { Verdict::Well } else { Verdict::Wrong })
}

/// The batch of a file; a request alone becomes a batch of one.
pub(super) fn read_batch(path: &Path) -> anyhow::Result<SqsEvent> {
    let text = fs::read_to_string(path)?;
    let json: Value = serde_json::from_str(&text)?;
    if json.get("Records").is_some() {
        return Ok(serde_json::from_value(json)?);
    }
    let mut message = SqsMessage::default();
    message.message_id = Some(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    message.body = Some(text);
    let mut batch = SqsEvent::default();
    batch.records = vec![message];
    Ok(batch)
}
