//! `metrics dlq`: a queue of dead letters in; what is in it and why, and what was sent back, out.

use std::io::Write;

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::events;
use super::location;
use super::progress::{Progress, Waiting};
use super::screen::{Colour, Screen};
use crate::aws;
use crate::request;
use crate::worker::dead_letter::{REASON, SOURCE_MESSAGE_ID, SOURCE_QUEUE_ARN};
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
    pub(super) queue: String,
    /// Receive at most so many letters
    #[arg(long, value_name = "LETTERS", default_value_t = MOST_LETTERS)]
    pub(super) limit: usize,
}

/// Letters that are received unless somebody says otherwise: what can be dealt with while nobody else gets them.
pub(super) const MOST_LETTERS: usize = 1_000;

/// The arguments of `metrics dlq list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  metrics dlq list --queue https://sqs.us-east-1.amazonaws.com/111122223333/metrics-dead.fifo
  metrics dlq list --queue \"$DEAD_LETTERS\" --json

Letters are received and released again at once. Of one group a FIFO queue shows ten at a time.")]
pub struct List {
    #[command(flatten)]
    queue: QueueArguments,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// The arguments of `metrics dlq show`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  metrics dlq show 550e8400-e29b-41d4-a716-446655440000 --queue \"$DEAD_LETTERS\"

The output is a JSON document.")]
pub struct Show {
    /// The letter's message id, that of the message it was, or its run id
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    queue: QueueArguments,
}

/// The arguments of `metrics dlq redrive`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  metrics dlq redrive --queue \"$DEAD_LETTERS\" --to \"$REQUESTS\" --dry-run
  metrics dlq redrive 550e8400-e29b-41d4-a716-446655440000 --queue \"$DEAD_LETTERS\" --to \"$REQUESTS\"

The destination is passed: a letter that the worker wrote has no source queue that SQS knows of.")]
pub struct Redrive {
    /// The letters' message ids, those of the messages they were, or their run ids; all letters without one
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    queue: QueueArguments,
    /// The URL of the queue of requests
    #[arg(long, value_name = "URL")]
    to: String,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl QueueArguments {
    pub(super) async fn receive(&self) -> anyhow::Result<(Letters, Vec<ReceivedRecord>)> {
        let _waiting = Waiting::stderr(format!("receiving from {}", self.queue));
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

/// The run that the letter's body asks for, where it can be read.
fn run_id(letter: &ReceivedRecord) -> Option<String> {
    let rules = location::rules().ok()?;
    request::decode(&letter.body, &rules).ok().map(|request| request.run.run_id.to_string())
}

/// The letters that are meant, and the others. All are meant where nobody names any.
///
/// # Errors
/// When there is none of that id.
pub(super) fn chosen(
    letters: Vec<ReceivedRecord>,
    ids: &[String],
) -> (Vec<ReceivedRecord>, Vec<ReceivedRecord>, anyhow::Result<()>) {
    if ids.is_empty() {
        return (letters, Vec::new(), Ok(()));
    }
    let names = |letter: &ReceivedRecord| {
        let source = attribute(letter, SOURCE_MESSAGE_ID).to_owned();
        [Some(letter.message_id.clone()), Some(source), run_id(letter)].into_iter().flatten().collect::<Vec<_>>()
    };
    let named: Vec<(Vec<String>, ReceivedRecord)> =
        letters.into_iter().map(|letter| (names(&letter), letter)).collect();
    let unknown = ids.iter().find(|id| !named.iter().any(|(names, _)| names.contains(id)));
    let all_known = match unknown {
        Some(id) => Err(anyhow::anyhow!(
            "no letter with the message id or run id {id} among the {} that were received; metrics dlq list shows them",
            named.len()
        )),
        None => Ok(()),
    };
    let (chosen, others): (Vec<_>, Vec<_>) =
        named.into_iter().partition(|(names, _)| names.iter().any(|name| ids.contains(name)));
    let letters = |named: Vec<(_, ReceivedRecord)>| named.into_iter().map(|(_, letter)| letter).collect();
    (letters(chosen), letters(others), all_known)
}

fn to_json(letter: &ReceivedRecord) -> Value {
    json!({
        "messageId": letter.message_id, "groupId": letter.group_id, "reason": attribute(letter, REASON),
        "runId": run_id(letter), "sourceMessageId": attribute(letter, SOURCE_MESSAGE_ID),
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
            writeln!(out, "{}", counted(letters.len()))?;
        }
        Command::Show(show) => {
            let (queue, letters) = show.queue.receive().await?;
            queue.leave(&letters).await?;
            let (chosen, _, all_known) = chosen(letters, std::slice::from_ref(&show.id));
            all_known.with_context(|| show.queue.queue.clone())?;
            for letter in &chosen {
                writeln!(out, "{}", serde_json::to_string_pretty(&to_json(letter))?)?;
            }
        }
        Command::Redrive(redrive) => send_back(redrive, screen, out).await?,
    }
    Ok(())
}

/// So many letters, in words.
pub(super) fn counted(count: usize) -> String {
    if count == 1 { "1 dead letter".to_owned() } else { format!("{count} dead letters") }
}

/// A letter, its group, and why it is one.
pub(super) fn line(letter: &ReceivedRecord, screen: Screen, out: &mut (dyn Write + Send)) -> std::io::Result<()> {
    let group = letter.group_id.as_deref().unwrap_or("-");
    let run = run_id(letter).map_or_else(String::new, |run_id| format!("  run {run_id}"));
    writeln!(out, "{}  group {group}{run}", screen.paint(Colour::Bold, &letter.message_id))?;
    match attribute(letter, REASON) {
        "" => Ok(()),
        reason => events::indented(reason, screen, out),
    }
}

async fn send_back(redrive: &Redrive, screen: Screen, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let (queue, chosen) = receive_chosen(&redrive.queue, &redrive.ids, &redrive.to).await?;
    if redrive.dry_run {
        queue.leave(&chosen).await?;
    } else {
        send_all(&queue, &chosen, &redrive.to).await?;
    }
    if redrive.json {
        let ids: Vec<&str> = chosen.iter().map(|letter| letter.message_id.as_str()).collect();
        writeln!(out, "{}", json!({ "letters": ids, "to": redrive.to, "dryRun": redrive.dry_run }))?;
        return Ok(());
    }
    if redrive.dry_run {
        chosen.iter().try_for_each(|letter| line(letter, screen, out))?;
        writeln!(out, "{} would be sent to {}", counted(chosen.len()), redrive.to)?;
    } else {
        writeln!(out, "{} sent to {}", counted(chosen.len()), redrive.to)?;
    }
    Ok(())
}

/// The letters that are meant, still received; the others are left where they are.
pub(super) async fn receive_chosen(
    arguments: &QueueArguments,
    ids: &[String],
    to: &str,
) -> anyhow::Result<(Letters, Vec<ReceivedRecord>)> {
    ensure!(to != arguments.queue, "--to is the dead-letter queue itself");
    let (queue, letters) = arguments.receive().await?;
    let (chosen, others, all_known) = chosen(letters, ids);
    queue.leave(&others).await?;
    if let Err(error) = all_known {
        queue.leave(&chosen).await?;
        bail!(error.context(arguments.queue.clone()));
    }
    Ok((queue, chosen))
}

/// Sends letters to a queue, one after the other, and takes each out of its own.
pub(super) async fn send_all(queue: &Letters, letters: &[ReceivedRecord], to: &str) -> anyhow::Result<()> {
    let mut progress = Progress::stderr("redrive", "letters", letters.len().max(1));
    for (index, letter) in letters.iter().enumerate() {
        if let Err(error) = queue.send_back(letter, to).await {
            // What was not sent is there for the next attempt; the error says what failed.
            let _ = queue.leave(&letters[index..]).await;
            return Err(error).with_context(|| format!("{index} of {} were sent to {to}", counted(letters.len())));
        }
        progress.step();
    }
    progress.finish();
    Ok(())
}
