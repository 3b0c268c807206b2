//! A batch: an SQS event in, the records to give back out.
//!
//! Groups run in parallel, the records of one group strictly in order. The first record of a group that is to be
//! retried goes back together with every later one of its group; other groups do not notice. A record is acknowledged,
//! by not being named in the answer, only when its run has ended and the event that says so is published, or when it
//! lies in the dead-letter queue.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use futures::FutureExt;
use futures::future::join_all;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::Instrument;

use crate::config::Config;
use crate::event::Event;
use crate::manifest::Failed;
use crate::request::{self, Run, RunRequest};
use crate::storage::ObjectStorage;
use crate::storage::hedged::Hedged;
use crate::storage::inputs::Inputs;
use crate::storage::open_uploads::OpenUploads;
use crate::storage::shared::SharedReads;
use crate::telemetry;
use crate::worker::deadline::Deadline;
use crate::worker::heartbeat::Progress;
use crate::worker::publish::Attempt;
use crate::worker::queue::ReceivedRecord;
use crate::worker::write::claim::{self, Failing};
use crate::worker::{Disposition, Ended, Error, NO_SEQUENCE, Ports, execute};

/// The first retry comes after some seconds: most faults that pass at all have passed by then.
const FIRST_BACKOFF: Duration = Duration::from_secs(4);

/// A fault that lasts is asked about once in some minutes.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// It is done with.
    Acknowledged,
    /// It goes back, and so does all of its group after it.
    Returned,
    /// It goes back, alone: nobody waits for it.
    ReturnedAlone,
}

/// Why an attempt did not bring its record to an end.
struct Stopped {
    error: Error,
    /// The attempt saw the run marked as done: it must not publish a failure, whatever the store says by now.
    is_marked: bool,
}

/// Handles a batch from Lambda. The answer names exactly the records that go back to the queue.
pub async fn handle(event: SqsEvent, ports: &Ports, config: &Config, deadline: Deadline) -> SqsBatchResponse {
    let message_count = event.records.len();
    let records: Vec<ReceivedRecord> = event.records.into_iter().filter_map(ReceivedRecord::from_lambda).collect();
    let unnamed_count = message_count - records.len();
    let mut identifiers = handle_records(records, ports, config, &deadline).await;
    if unnamed_count > 0 {
        // A record without an id cannot be named. An empty name fails the whole batch, so nothing is lost.
        tracing::error!(unnamed_count, "records without a message id, the whole batch goes back");
        telemetry::batch_items_failed(unnamed_count);
        identifiers.push(String::new());
    }
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = identifiers.into_iter().map(failure).collect();
    response
}

/// Handles the records of a batch. The answer is the ids of those that go back to the queue, each once.
pub async fn handle_records(
    records: Vec<ReceivedRecord>,
    ports: &Ports,
    config: &Config,
    deadline: &Deadline,
) -> Vec<String> {
    let is_alone = records.len() == 1;
    let groups = by_group(records);
    let (ports, hedged) = &reading_once(is_alone, ports, config);
    let handled = groups.iter().map(|records| handle_group(records, ports, config, deadline));
    let mut identifiers: Vec<String> = Vec::new();
    for identifier in join_all(handled).await.into_iter().flatten() {
        // A message that came twice in one batch is named once.
        if !identifiers.contains(&identifier) {
            identifiers.push(identifier);
        }
    }
    telemetry::batch_items_failed(identifiers.len());
    telemetry::s3_hedged_requests(hedged.extra_count());
    identifiers
}

/// The records of a batch mostly read the same: what one has read, the others need not ask for; and what comes late is
/// asked for a second time, for all of them. A record that is alone has nobody to keep answers for.
fn reading_once(is_alone: bool, ports: &Ports, config: &Config) -> (Ports, Arc<Hedged>) {
    let inputs = Inputs::new(config.rules.input_prefixes.clone(), config.rules.output_prefixes.clone());
    let hedged = Arc::new(Hedged::new(Arc::clone(&ports.storage), inputs.clone()));
    let storage: Arc<dyn ObjectStorage> = match is_alone {
        true => hedged.clone(),
        false => Arc::new(SharedReads::new(hedged.clone(), inputs)),
    };
    (Ports { storage, ..ports.clone() }, hedged)
}

pub(crate) fn failure(identifier: String) -> BatchItemFailure {
    let mut failure = BatchItemFailure::default();
    failure.item_identifier = identifier;
    failure
}

/// The records of each group in their order, a record without a group being one of its own.
pub(crate) fn by_group(records: Vec<ReceivedRecord>) -> Vec<Vec<ReceivedRecord>> {
    let mut groups: Vec<Vec<ReceivedRecord>> = Vec::new();
    for record in records {
        let is_same_group = |group: &&mut Vec<ReceivedRecord>| {
            record.group_id.is_some() && group.first().is_some_and(|first| first.group_id == record.group_id)
        };
        match groups.iter_mut().find(is_same_group) {
            Some(group) => group.push(record),
            None => groups.push(vec![record]),
        }
    }
    groups
}

async fn handle_group(records: &[ReceivedRecord], ports: &Ports, config: &Config, deadline: &Deadline) -> Vec<String> {
    let mut returned = Vec::new();
    for (index, record) in records.iter().enumerate() {
        match settled(record, ports, config, deadline).await {
            Settled::Acknowledged => {}
            Settled::ReturnedAlone => returned.push(record.message_id.clone()),
            Settled::Returned => {
                let rest = &records[index..];
                give_back(rest, ports, deadline).await;
                returned.extend(rest.iter().map(|record| record.message_id.clone()));
                break;
            }
        }
    }
    returned
}

/// What becomes of a record. A run's own panic is one of its errors; one on the way from there to the answer is caught
/// here, because it must not take the other records with it.
async fn settled(record: &ReceivedRecord, ports: &Ports, config: &Config, deadline: &Deadline) -> Settled {
    let handled = AssertUnwindSafe(handle_record(record, ports, config, deadline)).catch_unwind().boxed();
    handled.await.unwrap_or_else(|panic| {
        let message = panic_message(&*panic);
        tracing::error!(message, message_id = record.message_id, "panicked, the record goes back");
        Settled::Returned
    })
}

/// Records in flight block their group, so all that go back get the same, shorter visibility.
async fn give_back(records: &[ReceivedRecord], ports: &Ports, deadline: &Deadline) {
    let Some(first) = records.first() else { return };
    let backoff = backoff(first);
    match deadline.finish(ports.queue.change_visibility(records, backoff)).await {
        Some(Ok(())) => {}
        // They come back all the same, when the queue's own visibility timeout is over.
        Some(Err(error)) => tracing::warn!(%error, records = records.len(), "visibility could not be changed"),
        None => tracing::warn!(records = records.len(), "no time was left to change the visibility"),
    }
}

/// Exponential in the number of receives; the jitter comes from the message's id, so that groups that failed together
/// do not come back together, and the same delivery always waits the same time.
pub(crate) fn backoff(record: &ReceivedRecord) -> Duration {
    let doublings = record.receive_count.saturating_sub(1).min(10);
    let ceiling = (FIRST_BACKOFF * 2_u32.pow(doublings)).min(LONGEST_BACKOFF);
    let seed = Sha256::digest(format!("{} {}", record.message_id, record.receive_count));
    let jitter = f64::from(seed[0]) / f64::from(u8::MAX);
    let seconds = ceiling.as_secs_f64() * (0.5 + 0.5 * jitter);
    Duration::from_secs_f64(seconds.ceil())
}

/// One record, from its body to what becomes of it.
async fn handle_record(record: &ReceivedRecord, ports: &Ports, config: &Config, deadline: &Deadline) -> Settled {
    let start = Instant::now();
    let decoded = tracing::debug_span!(target: telemetry::STEPS, "receive", message_id = record.message_id, receive_count = record.receive_count)
        .in_scope(|| request::decode(&record.body, &config.rules));
    let request = match decoded {
        Ok(request) => request,
        Err(unreadable) => return dead_letter(record, &unreadable.into(), ports, deadline).await,
    };
    let run = &request.run;
    let span = tracing::info_span!("run", run_id = %run.run_id, metric_code = %run.metric_code);
    async {
        match attempt(&request, record, ports, config, deadline).await {
            Ok(ended) => {
                let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(?ended, receive_count = record.receive_count, elapsed_ms, "run ended");
                match ended {
                    Ended::Completed => telemetry::run_succeeded(start.elapsed()),
                    Ended::Skipped => telemetry::run_skipped(),
                }
                Settled::Acknowledged
            }
            Err(stopped) => settle(&request, record, &stopped, start, ports, config, deadline).await,
        }
    }
    .instrument(span)
    .await
}

/// One attempt of a run, within the time for work; a panic belongs to its record. Uploads that it leaves open, however
/// it ended, are aborted.
async fn attempt(
    request: &RunRequest,
    record: &ReceivedRecord,
    ports: &Ports,
    config: &Config,
    deadline: &Deadline,
) -> Result<Ended, Stopped> {
    let attempt = Attempt { message_id: record.message_id.clone(), receive_count: record.receive_count };
    let progress = Progress::default();
    let storage = Arc::new(OpenUploads::new(Arc::clone(&ports.storage)));
    let ports = Ports { storage: storage.clone(), ..ports.clone() };
    let execution = Box::pin(AssertUnwindSafe(execute(request, &attempt, &progress, &ports, config)).catch_unwind());
    let answer = match deadline.work(execution).await {
        Some(Ok(answer)) => answer,
        Some(Err(panic)) => Err(Error::Panicked { message: panic_message(&*panic) }),
        None => Err(Error::Deadline),
    };
    // Half of the time that is left belongs to what the record still needs.
    deadline.finish_by_half(storage.abort_all()).await;
    answer.map_err(|error| Stopped { error, is_marked: progress.is_marked() })
}

pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// What becomes of a record whose run ended with an error.
async fn settle(
    request: &RunRequest,
    record: &ReceivedRecord,
    Stopped { error, is_marked }: &Stopped,
    start: Instant,
    ports: &Ports,
    config: &Config,
    deadline: &Deadline,
) -> Settled {
    let run = &request.run;
    let is_last_receive = record.receive_count >= config.max_receive_count;
    let (code, is_final) = match error.disposition() {
        Disposition::DeadLetter => return dead_letter(record, error, ports, deadline).await,
        Disposition::Fail(code) => (code, true),
        Disposition::Retry(code) => (code, false),
    };
    tracing::error!(%error, error_code = code.as_str(), is_final, is_last_receive, "run failed");
    if !is_final && !is_last_receive {
        return Settled::Returned;
    }
    let failed = Failed { message_id: record.message_id.clone(), error_code: code, error_message: error.to_string() };
    let reason = format!("{}: {error} (receive {})", code.as_str(), record.receive_count);
    let failing = match is_marked {
        true => Some(Failing::Done),
        false => record_failure(run, &failed, ports, deadline).await,
    };
    match failing {
        Some(Failing::Done) => return publish_success(request, record, ports, config, deadline).await,
        Some(Failing::OtherRequest) => return dead_letter(record, error, ports, deadline).await,
        Some(Failing::Allowed) | None => {}
    }
    if !publish_failure(run, record, failed, ports, deadline).await {
        return Settled::Returned;
    }
    telemetry::run_failed(code, start.elapsed());
    match is_final {
        true => Settled::Acknowledged,
        // The last receive of a record that would be retried.
        false => send_dead_letter(record, &reason, ports, deadline).await,
    }
}

/// The run is done, and yet this attempt failed: to execute it now is to publish its SUCCESS again.
async fn publish_success(
    request: &RunRequest,
    record: &ReceivedRecord,
    ports: &Ports,
    config: &Config,
    deadline: &Deadline,
) -> Settled {
    match deadline.finish(attempt(request, record, ports, config, deadline)).await {
        Some(Ok(_)) => Settled::Acknowledged,
        Some(Err(_)) | None => Settled::Returned,
    }
}

/// Records the failure in the run's claim. Nothing where the store cannot say: often that is why the run failed, and the
/// failure has to be published all the same.
async fn record_failure(run: &Run, failed: &Failed, ports: &Ports, deadline: &Deadline) -> Option<Failing> {
    let recorded = AssertUnwindSafe(claim::fail(run, failed, &*ports.storage)).catch_unwind();
    match deadline.finish_by_half(recorded).await? {
        Ok(Ok(failing)) => Some(failing),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the failure could not be recorded in the claim");
            None
        }
        Err(panic) => {
            tracing::error!(message = panic_message(&*panic), "panicked while the failure was recorded in the claim");
            None
        }
    }
}

async fn publish_failure(
    run: &Run,
    record: &ReceivedRecord,
    failed: Failed,
    ports: &Ports,
    deadline: &Deadline,
) -> bool {
    let attempt = Attempt { message_id: record.message_id.clone(), receive_count: record.receive_count };
    let Failed { error_code, error_message, .. } = failed;
    let event = Event::failure(run.run_id.clone(), run.metric_code.clone(), error_code, error_message);
    match deadline.finish(ports.publisher.publish(&event, &attempt, NO_SEQUENCE)).await {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            tracing::error!(%error, "the failure could not be published, the record goes back");
            false
        }
        None => {
            tracing::error!("no time was left to publish the failure, the record goes back");
            false
        }
    }
}

/// A record without a run to fail, or with one that must not be failed.
async fn dead_letter(record: &ReceivedRecord, error: &Error, ports: &Ports, deadline: &Deadline) -> Settled {
    tracing::error!(%error, message_id = record.message_id, "record rejected");
    telemetry::record_rejected();
    send_dead_letter(record, &error.to_string(), ports, deadline).await
}

async fn send_dead_letter(record: &ReceivedRecord, reason: &str, ports: &Ports, deadline: &Deadline) -> Settled {
    if !ports.queue.has_dead_letter_queue() {
        return Settled::ReturnedAlone;
    }
    match deadline.finish(ports.queue.dead_letter(record, reason)).await {
        Some(Ok(())) => Settled::Acknowledged,
        Some(Err(error)) => {
            tracing::error!(%error, message_id = record.message_id, "the dead letter could not be sent");
            Settled::ReturnedAlone
        }
        None => Settled::ReturnedAlone,
    }
}
