//! `metrics replay`: dead letters, or the records of an event file, in. They are run once more, here against a data
//! location, with their events as they happen; or sent to a queue of requests, where the worker takes them up.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::{ArgGroup, Args};
use serde_json::json;

use super::Verdict;
use super::dlq::{self, MOST_LETTERS, QueueArguments};
use super::location::{self, DATASETS, DataArguments};
use super::progress::Progress;
use super::run::{self, read_batch};
use super::screen::Screen;
use crate::aws;
use crate::request;
use crate::worker::Clock;
use crate::worker::queue::ReceivedRecord;
use crate::worker::queue::letters;

/// The arguments of `metrics replay`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("destination").required(true).args(["data", "to"]), after_help = "Examples:
  metrics replay --queue \"$DEAD_LETTERS\" --data bucket
  metrics replay 550e8400-e29b-41d4-a716-446655440000 --queue \"$DEAD_LETTERS\" --data s3://my-bucket
  metrics replay request.json --data bucket
  metrics replay request.json --to \"$REQUESTS\"

With --data a letter is run here and stays in its queue: see what it does before metrics dlq redrive sends it back. Each
replay counts as a message of its own, so a run that has failed is tried anew; one that is done is not done again. With
--to a letter is sent to the queue of requests and leaves its own.")]
pub struct Command {
    /// An event file (a batch or a request); or, of the letters in --queue, a message id or a run id. All letters without one
    #[arg(value_name = "EVENT.json|ID")]
    what: Vec<String>,
    /// The URL of the dead-letter queue
    #[arg(long, value_name = "URL")]
    queue: Option<String>,
    /// Receive at most so many letters
    #[arg(long, value_name = "LETTERS", default_value_t = MOST_LETTERS)]
    limit: usize,
    /// Run them here: a folder that stands for a bucket, or s3://BUCKET[/PREFIX]
    #[arg(long, value_name = "LOCATION")]
    data: Option<String>,
    /// The folder of datasets within the location
    #[arg(long, value_name = "PREFIX", default_value = DATASETS)]
    datasets: String,
    /// Send them: the URL of the queue of requests
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Say what would be run or sent, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Each event as a line of JSON; what was sent, as one document
    #[arg(long)]
    json: bool,
}

/// Replays what is named.
///
/// # Errors
/// When a file cannot be read, a letter is not there, the location cannot be opened, or a queue fails.
pub async fn run(
    command: &Command,
    clock: Clock,
    screen: Screen,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<Verdict> {
    let (files, ids): (Vec<&String>, Vec<&String>) = command.what.iter().partition(|what| Path::new(what).is_file());
    let ids: Vec<String> = ids.into_iter().cloned().collect();
    if command.queue.is_none() {
        let missing = ids.first().map_or("nothing to replay", String::as_str);
        ensure!(ids.is_empty() && !files.is_empty(), "{missing}: name an event file, or --queue for its letters");
    }
    let mut records = Vec::new();
    for file in files {
        records.extend(read_batch(&PathBuf::from(file))?);
    }
    let rules = location::rules()?;
    for record in records.iter_mut().filter(|record| record.group_id.is_none()) {
        // As the control plane groups them.
        let request = request::decode(&record.body, &rules).ok();
        record.group_id = request.map(|request| request.run.metric_code.to_string());
    }
    let is_about_letters = command.queue.is_some() && (records.is_empty() || !ids.is_empty());
    let queue = command.queue.clone().filter(|_| is_about_letters);
    let queue = queue.map(|queue| QueueArguments { queue, limit: command.limit });
    match (&command.data, &command.to) {
        (Some(data), _) => {
            if let Some(queue) = queue {
                let (queue, letters) = dlq::receive_chosen(&queue, &ids, "").await?;
                queue.leave(&letters).await?;
                records.extend(letters);
            }
            let arguments = DataArguments::at(data, &command.datasets);
            let location = arguments.open().await?;
            if command.dry_run {
                return show(&records, &format!("run over {}", location.name()), command.json, screen, out);
            }
            let records = anew(records, &clock);
            run::records(records, location, clock, command.json, screen, out).await
        }
        (None, _) => send(records, queue, &ids, command, &clock, screen, out).await,
    }
}

/// The same records as messages of their own: what failed for its message before is tried anew.
fn anew(mut records: Vec<ReceivedRecord>, clock: &Clock) -> Vec<ReceivedRecord> {
    let now = clock().as_millisecond();
    for record in &mut records {
        record.message_id = format!("replay-{now}-{}", record.message_id);
        record.receive_count = 1;
    }
    records
}

/// Sends the records of files, and the letters, to the queue of requests.
async fn send(
    records: Vec<ReceivedRecord>,
    queue: Option<QueueArguments>,
    ids: &[String],
    command: &Command,
    clock: &Clock,
    screen: Screen,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<Verdict> {
    let to = command.to.as_deref().unwrap_or_default();
    let mut all = records.clone();
    let records = anew(records, clock);
    let received = match queue {
        Some(queue) => Some(dlq::receive_chosen(&queue, ids, to).await?),
        None => None,
    };
    all.extend(received.iter().flat_map(|(_, letters)| letters.clone()));
    if command.dry_run {
        if let Some((queue, letters)) = &received {
            queue.leave(letters).await?;
        }
        return show(&all, &format!("sent to {to}"), command.json, screen, out);
    }
    let client = aws::clients(&location::aws_settings()?).await.sqs;
    let mut progress = Progress::stderr("replay", "records", records.len().max(1));
    for record in &records {
        letters::send(&client, record, to).await.with_context(|| to.to_owned())?;
        progress.step();
    }
    progress.finish();
    if let Some((queue, letters)) = &received {
        dlq::send_all(queue, letters, to).await?;
    }
    if command.json {
        writeln!(out, "{}", json!({ "records": message_ids(&all), "to": to, "dryRun": false }))?;
    } else {
        writeln!(out, "{} sent to {to}", counted(all.len()))?;
    }
    Ok(Verdict::Well)
}

fn show(
    records: &[ReceivedRecord],
    what: &str,
    json: bool,
    screen: Screen,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<Verdict> {
    if json {
        writeln!(out, "{}", json!({ "records": message_ids(records), "would": what, "dryRun": true }))?;
        return Ok(Verdict::Well);
    }
    for record in records {
        dlq::line(record, screen, out)?;
    }
    writeln!(out, "{} would be {what}", counted(records.len()))?;
    Ok(Verdict::Well)
}

fn message_ids(records: &[ReceivedRecord]) -> Vec<&str> {
    records.iter().map(|record| record.message_id.as_str()).collect()
}

fn counted(count: usize) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}
