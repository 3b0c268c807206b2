//! The dead-letter queue from an operator's side: its letters out, and single letters back to a queue of requests.

use std::time::Duration;

use aws_sdk_sqs::types::MessageSystemAttributeName;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Error, Failure, Queue, QueueUrls, ReceivedRecord, SqsQueue, sent};
use crate::worker::dead_letter::{DROPPED_ATTRIBUTES, REASON, SOURCE_MESSAGE_ID, SOURCE_QUEUE_ARN};

/// While they are looked at, nobody else receives them.
const LOOK_SECONDS: i32 = 60;

/// SQS hands out no more at once.
const MOST_AT_ONCE: i32 = 10;

/// A queue of dead letters.
#[derive(Debug, Clone)]
pub struct Letters {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl Letters {
    /// The letters of the queue with that URL.
    #[must_use]
    pub fn new(client: aws_sdk_sqs::Client, url: impl Into<String>) -> Self {
        Self { client, url: url.into() }
    }

    /// Receives letters until there is none, or `most` are there. A FIFO queue hands out at most ten of a group until
    /// these are dealt with.
    ///
    /// # Errors
    /// When the queue fails or refuses.
    pub async fn receive(&self, most: usize) -> Result<Vec<ReceivedRecord>, Error> {
        let mut letters: Vec<ReceivedRecord> = Vec::new();
        while letters.len() < most {
            let request = self.client.receive_message().queue_url(&self.url).max_number_of_messages(MOST_AT_ONCE);
            let request = request.message_attribute_names("All").visibility_timeout(LOOK_SECONDS);
            let request = request.message_system_attribute_names(MessageSystemAttributeName::All).wait_time_seconds(1);
            let received = match request.send().await.map_err(|error| Failure::of(&error)) {
                Ok(received) => received.messages.unwrap_or_default(),
                Err(failure) => {
                    return Err(Error::new("receiving", Vec::new(), failure.transient, failure.reason));
                }
            };
            if received.is_empty() {
                break;
            }
            letters.extend(received.into_iter().filter_map(|message| ReceivedRecord::from_received(message, None)));
        }
        Ok(letters)
    }

    /// Leaves letters where they are: the next to ask gets them at once.
    ///
    /// # Errors
    /// When the queue fails or refuses; then they come back after a minute.
    pub async fn leave(&self, letters: &[ReceivedRecord]) -> Result<(), Error> {
        let urls = QueueUrls { requests: Some(self.url.clone()), ..QueueUrls::default() };
        SqsQueue::new(self.client.clone(), urls).change_visibility(letters, Duration::ZERO).await
    }

    /// Sends a letter's message to a queue and takes it out of this one. A message that was sent and not taken out is
    /// sent again by the next redrive; its deduplication id makes that no second message for five minutes, and its run is done
    /// once in any case.
    ///
    /// # Errors
    /// When a queue fails or refuses.
    pub async fn send_back(&self, letter: &ReceivedRecord, destination_url: &str) -> Result<(), Error> {
        send(&self.client, letter, destination_url).await?;
        let deletion = self.client.delete_message().queue_url(&self.url).receipt_handle(&letter.receipt_handle);
        match deletion.send().await.map_err(|error| Failure::of(&error)) {
            Ok(_) => Ok(()),
            Err(failure) => Err(failed(letter, failure)),
        }
    }
}

fn failed(letter: &ReceivedRecord, failure: Failure) -> Error {
    Error::new("redrive", vec![letter.message_id.clone()], failure.transient, failure.reason)
}

/// Sends a record's message to a queue of requests, without what made it a dead letter.
///
/// # Errors
/// When the queue fails or refuses.
pub async fn send(client: &aws_sdk_sqs::Client, letter: &ReceivedRecord, destination_url: &str) -> Result<(), Error> {
    let mut request = client.send_message().queue_url(destination_url).message_body(&letter.body);
    let is_added = |name: &str| [REASON, SOURCE_MESSAGE_ID, SOURCE_QUEUE_ARN, DROPPED_ATTRIBUTES].contains(&name);
    for (name, attribute) in letter.message_attributes.iter().filter(|(name, _)| !is_added(name)) {
        let attribute = sent(attribute.clone())
            .map_err(|reason| Error::new("redrive", vec![letter.message_id.clone()], false, reason))?;
        request = request.message_attributes(name, attribute);
    }
    if destination_url.ends_with(".fifo") {
        let group_id = letter.group_id.as_deref().unwrap_or(&letter.message_id);
        // Not its old id: within five minutes of the first sending the queue would drop it in silence.
        let dedup_id = hex::encode(Sha256::digest(json!(["redrive", letter.message_id]).to_string()));
        request = request.message_group_id(group_id).message_deduplication_id(dedup_id);
    }
    match request.send().await.map_err(|error| Failure::of(&error)) {
        Ok(_) => Ok(()),
        Err(failure) => Err(failed(letter, failure)),
    }
}
