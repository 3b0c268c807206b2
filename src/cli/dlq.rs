//! `metrics dlq`: a queue of dead letters in; what is in it and why, and what was sent back, out.

use std::io::Write;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::events;
use super::location;
use super::progress::Progress;
use super::screen::{Colour, Screen};
use crate::aws;
use crate::worker::dead_letter::{REASON, SOURCE_QUEUE_ARN};
use crate::worker::queue::letters::Letters;
use crate::worker::queue::{AttributeValue, ReceivedRecord};

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the letters with their reasons
    List(List),
    /// Show one letter whole
    Show(Show),
    /// Send letters back to the queue of requests
    Redrive(Redrive),
}

/// Which queue.
#[derive(Debug, Args)]
pub(super) struct QueueArguments {
    /// The URL of the dead-letter queue
    #[arg(long, value_name = "URL")]
    queue: String,
    /// Receive at most so many letters
    #[arg(long, value_name = "LETTERS", default_value_t = 1_000)]
    limit: usize,
}

/// The arguments of `metrics dlq list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    queue: QueueArguments,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// The arguments of `metrics dlq show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The letter's message id
    #[arg(value_name = "MESSAGE-ID")]
    message_id: String,
    #[command(flatten)]
    queue: QueueArguments,
}

/// The arguments of `metrics dlq redrive`.
#[derive(Debug, Args)]
#[command(
    after_help = "The destination is passed: a letter that the worker wrote has no source queue that SQS knows of."
)]
pub struct Redrive {
    /// The letters' message ids; all letters without one
    #[arg(value_name = "MESSAGE-ID")]
    message_ids: Vec<String>,
    #[command(flatten)]
    queue: QueueArguments,
    /// The URL of the queue of requests
    #[arg(long, value_name = "URL")]
    to: String,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
}

impl QueueArguments {
    async fn receive(&self) -> anyhow::Result<(Letters, Vec<ReceivedRecord>)> {
        let letters = Letters::new(aws::clients(&location::aws_settings()?).await.sqs, &self.queue);
        let received = letters.receive(self.limit).await.with_context(|| self.queue.clone())?;
        Ok((letters, received))
    }
}

fn attribute<'a>(letter: &'a ReceivedRecord, name: &str) -> &'a str {
    match letter.message_attributes.get(name).map(|attribute| &attribute.value) {
        Some(AttributeValue::Text(text)) => text,
        _ => "",
    }
}

fn to_json(letter: &ReceivedRecord) -> Value {
    json!({
        "messageId": letter.message_id, "groupId": letter.group_id, "reason": attribute(letter, REASON),
        "sourceQueueArn": attribute(letter, SOURCE_QUEUE_ARN), "body": letter.body,
    })
}

/// Runs one of the commands.
///
/// # Errors
/// When a queue fails or refuses.
pub async fn run(command: &Command, screen: Screen, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    match command {
        Command::List(list) => {
            let (queue, letters) = list.queue.receive().await?;
            queue.leave(&letters).await?;
            if list.json {
                writeln!(out, "{}", Value::from(letters.iter().map(to_json).collect::<Vec<_>>()))?;
                return Ok(());
            }
            letters.iter().try_for_each(|letter| line(letter, screen, out))?;
            writeln!(out, "{} dead letters", letters.len())?;
        }
        Command::Show(show) => {
            let (queue, letters) = show.queue.receive().await?;
            queue.leave(&letters).await?;
            let letter = letters.iter().find(|letter| letter.message_id == show.message_id);
            let letter = letter.with_context(|| format!("no letter {} in {}", show.message_id, show.queue.queue))?;
            writeln!(out, "{}", serde_json::to_string_pretty(&to_json(letter))?)?;
        }
        Command::Redrive(redrive) => send_back(redrive, screen, out).await?,
    }
    Ok(())
}

fn line(letter: &ReceivedRecord, screen: Screen, out: &mut (dyn Write + Send)) -> std::io::Result<()> {
    let group = letter.group_id.as_deref().unwrap_or("-");
    writeln!(out, "{}  group {group}", screen.paint(Colour::Bold, &letter.message_id))?;
    events::indented(attribute(letter, REASON), screen, out)
}

async fn send_back(redrive: &Redrive, screen: Screen, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    ensure!(redrive.to != redrive.queue.queue, "--to is the dead-letter queue itself");
    let (queue, letters) = redrive.queue.receive().await?;
    let is_chosen =
        |letter: &ReceivedRecord| redrive.message_ids.is_empty() || redrive.message_ids.contains(&letter.message_id);
    let (chosen, others): (Vec<_>, Vec<_>) = letters.into_iter().partition(is_chosen);
    queue.leave(&others).await?;
    if redrive.dry_run {
        queue.leave(&chosen).await?;
        chosen.iter().try_for_each(|letter| line(letter, screen, out))?;
        writeln!(out, "{} letters would be sent to {}", chosen.len(), redrive.to)?;
        return Ok(());
    }
    let mut progress = Progress::stderr("redrive", "letters", chosen.len().max(1));
    for (index, letter) in chosen.iter().enumerate() {
        if let Err(error) = queue.send_back(letter, &redrive.to).await {
            // What was not sent is there for the next attempt; the error says what failed.
            let _ = queue.leave(&chosen[index..]).await;
            return Err(error.into());
        }
        progress.step();
    }
    progress.finish();
    writeln!(out, "{} letters sent to {}", chosen.len(), redrive.to)?;
    Ok(())
}
