//! A batch of any inbound queue: records in, those to give back out.
//!
//! Groups are handled in parallel, the records of one group in order. A record that is wrong goes to the dead-letter
//! queue with the reason, and its group goes on; one that met a database that failed goes back together with every later
//! one of its group. What a message is follows from its type, not from the queue that it came through.

use std::panic::AssertUnwindSafe;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use futures::FutureExt;
use futures::future::join_all;
use sqlx::PgPool;
use tracing::Instrument;

use super::message::{self, Message};
use super::rejection::{Disposition, Error};
use super::{feedback, update};
use crate::request::Rules;
use crate::telemetry;
use crate::worker::batch::{backoff, by_group, failure, panic_message};
use crate::worker::deadline::Deadline;
use crate::worker::queue::{Queue, ReceivedRecord};

/// Two transactions that met are tried again at once, so often: their next meeting is unlikely.
const CONFLICT_ATTEMPTS: u32 = 3;

/// What handling needs.
pub struct Handling<'a> {
    /// The database.
    pub pool: &'a PgPool,
    /// The queue that the records came from.
    pub queue: &'a dyn Queue,
    /// What messages are held against.
    pub rules: &'a Rules,
    /// The receive that is a record's last.
    pub max_receive_count: u32,
    /// Until when.
    pub deadline: &'a Deadline,
}

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

/// Handles a batch from Lambda. The answer names exactly the records that go back to the queue.
pub async fn handle(event: SqsEvent, handling: &Handling<'_>) -> SqsBatchResponse {
    let message_count = event.records.len();
    let records: Vec<ReceivedRecord> = event.records.into_iter().filter_map(ReceivedRecord::from_lambda).collect();
    let is_complete = records.len() == message_count;
    let mut identifiers = handle_records(records, handling).await;
    if !is_complete {
        // A record without an id cannot be named. An empty name fails the whole batch, so nothing is lost.
        tracing::error!("records without a message id, the whole batch goes back");
        identifiers.push(String::new());
    }
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = identifiers.into_iter().map(failure).collect();
    response
}

/// Handles the records of a batch. The answer is the ids of those that go back to the queue, each once.
pub async fn handle_records(records: Vec<ReceivedRecord>, handling: &Handling<'_>) -> Vec<String> {
    let groups = by_group(records);
    let handled = groups.iter().map(|records| handle_group(records, handling));
    let mut identifiers: Vec<String> = join_all(handled).await.into_iter().flatten().collect();
    identifiers.sort_unstable();
    identifiers.dedup();
    telemetry::batch_items_failed(identifiers.len());
    identifiers
}

async fn handle_group(records: &[ReceivedRecord], handling: &Handling<'_>) -> Vec<String> {
    let mut returned = Vec::new();
    for (index, record) in records.iter().enumerate() {
        match settled(record, handling).await {
            Settled::Acknowledged => {}
            Settled::ReturnedAlone => returned.push(record.message_id.clone()),
            Settled::Returned => {
                let rest = &records[index..];
                give_back(rest, handling).await;
                returned.extend(rest.iter().map(|record| record.message_id.clone()));
                break;
            }
        }
    }
    returned
}

/// Records in flight block their group, so all that go back get the same, shorter visibility.
async fn give_back(records: &[ReceivedRecord], handling: &Handling<'_>) {
    let Some(first) = records.first() else { return };
    let change = handling.queue.change_visibility(records, backoff(first));
    match handling.deadline.finish(change).await {
        Some(Ok(())) => {}
        // They come back all the same, when the queue's own visibility timeout is over.
        Some(Err(error)) => tracing::warn!(%error, records = records.len(), "visibility could not be changed"),
        None => tracing::warn!(records = records.len(), "no time was left to change the visibility"),
    }
}

/// One record; a panic belongs to it.
async fn settled(record: &ReceivedRecord, handling: &Handling<'_>) -> Settled {
    let span = tracing::info_span!("message", message_id = record.message_id);
    let handled = AssertUnwindSafe(handle_record(record, handling).instrument(span)).catch_unwind().boxed();
    handled.await.unwrap_or_else(|panic| {
        let message = panic_message(&*panic);
        tracing::error!(message, message_id = record.message_id, "panicked, the record goes back");
        Settled::Returned
    })
}

async fn handle_record(record: &ReceivedRecord, handling: &Handling<'_>) -> Settled {
    let attempt = match message::decode(&record.body, handling.rules) {
        Ok(message) => handling.deadline.work(apply(&message, handling)).await,
        Err(rejection) => Some(Err(rejection.into())),
    };
    let Some(outcome) = attempt else {
        tracing::warn!("no time was left, the record goes back");
        return Settled::Returned;
    };
    let Err(error) = outcome else { return Settled::Acknowledged };
    match error.disposition() {
        Disposition::DeadLetter => {
            tracing::error!(%error, "message rejected");
            telemetry::record_rejected();
            send_dead_letter(record, &error.to_string(), handling).await
        }
        Disposition::Retry if record.receive_count >= handling.max_receive_count => {
            tracing::error!(%error, receive_count = record.receive_count, "message given up");
            let reason = format!("{error} (receive {})", record.receive_count);
            send_dead_letter(record, &reason, handling).await
        }
        Disposition::Retry => {
            tracing::warn!(%error, receive_count = record.receive_count, "the record goes back");
            Settled::Returned
        }
    }
}

/// Does what a message says.
async fn apply(message: &Message, handling: &Handling<'_>) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        match apply_once(message, handling).await {
            Err(error) if error.is_conflict() && attempt < CONFLICT_ATTEMPTS => attempt += 1,
            other => return other,
        }
    }
}

async fn apply_once(message: &Message, Handling { pool, rules, .. }: &Handling<'_>) -> Result<(), Error> {
    match message {
        Message::ProjectionUpdate(update) => {
            let recorded = update::record(pool, update, rules).await?;
            tracing::info!(dataset_id = %update.dataset_id, manifest = %update.manifest, ?recorded, "update");
        }
        Message::Started(message) => {
            let status = feedback::started(pool, message).await?;
            tracing::info!(run_id = %message.run_id, status = status.as_str(), "started");
        }
        Message::Heartbeat(message) => {
            let status = feedback::heartbeat(pool, message).await?;
            tracing::debug!(run_id = %message.run_id, status = status.as_str(), "heartbeat");
        }
        Message::Completed(message) => {
            let status = feedback::completed(pool, message).await?;
            tracing::info!(run_id = %message.run_id, status = status.as_str(), "completed");
        }
    }
    Ok(())
}

async fn send_dead_letter(record: &ReceivedRecord, reason: &str, handling: &Handling<'_>) -> Settled {
    if !handling.queue.has_dead_letter_queue() {
        return Settled::ReturnedAlone;
    }
    match handling.deadline.finish(handling.queue.dead_letter(record, reason)).await {
        Some(Ok(())) => Settled::Acknowledged,
        Some(Err(error)) => {
            tracing::error!(%error, "the dead letter could not be sent");
            Settled::ReturnedAlone
        }
        None => Settled::ReturnedAlone,
    }
}
