//! The request queue, as the polling mode sees it: long polls go out, records come in, acknowledgements go out.
//!
//! In Lambda the event source mapping does this.

use std::time::Duration;

use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, MessageSystemAttributeName, QueueAttributeName};

use crate::aws;
use crate::aws::failure::Failure;
use crate::worker::queue::ReceivedRecord;

/// SQS gives, and deletes, at most so many messages at once.
const MAX_BATCH_RECORDS: i32 = 10;

/// Longer than this SQS does not wait for a message.
const LONGEST_WAIT_SECONDS: i32 = 20;

/// A deletion that failed for now is tried so often, after the client's own attempts.
const DELETE_ATTEMPTS: u32 = 3;

/// Why the queue did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error("{operation} failed for {url}: {reason}")]
    Request {
        /// The operation, in words.
        operation: &'static str,
        /// The queue.
        url: String,
        /// What happened.
        reason: String,
    },
    /// A message would be visible to others while it is worked on.
    #[error("the visibility timeout of {url} is {seconds} s, at least 2 s are needed")]
    Visibility {
        /// The queue.
        url: String,
        /// Its timeout.
        seconds: u64,
    },
}

/// The request queue.
#[derive(Debug, Clone)]
pub struct Inbox {
    client: aws_sdk_sqs::Client,
    url: String,
    arn: Option<String>,
    visibility_timeout: Duration,
}

impl Inbox {
    /// Asks the queue once for its visibility timeout and its ARN.
    ///
    /// # Errors
    /// When it does not answer, or its visibility timeout is too short to be extended.
    pub async fn open(client: aws_sdk_sqs::Client, url: String) -> Result<Self, Error> {
        let request = client.get_queue_attributes().queue_url(&url);
        let request = request.attribute_names(QueueAttributeName::VisibilityTimeout);
        let answer = request.attribute_names(QueueAttributeName::QueueArn).send().await;
        let answer = answer.map_err(|error| failed("reading the queue's attributes", &url, &Failure::of(&error)))?;
        let attribute = |name| answer.attributes().and_then(|attributes| attributes.get(&name)).cloned();
        let seconds = attribute(QueueAttributeName::VisibilityTimeout).and_then(|text| text.parse().ok()).unwrap_or(0);
        if seconds < 2 {
            return Err(Error::Visibility { url, seconds });
        }
        let arn = attribute(QueueAttributeName::QueueArn);
        Ok(Self { client, url, arn, visibility_timeout: Duration::from_secs(seconds) })
    }

    /// How long a message that was received stays invisible.
    #[must_use]
    pub fn visibility_timeout(&self) -> Duration {
        self.visibility_timeout
    }

    /// Up to ten records with all their attributes; none when there was no message for 20 s.
    ///
    /// # Errors
    /// When the request and the client's own retries fail.
    pub async fn receive(&self) -> Result<Vec<ReceivedRecord>, Error> {
        let mut request = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(MAX_BATCH_RECORDS)
            .wait_time_seconds(LONGEST_WAIT_SECONDS)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All");
        if self.url.ends_with(".fifo") {
            // If the answer is lost, the client's retry gets the same messages instead of none for a whole timeout.
            request = request.receive_request_attempt_id(hex::encode(rand::random::<[u8; 16]>()));
        }
        let patient = aws_sdk_sqs::config::Builder::new().timeout_config(aws::long_poll_timeouts());
        let answer = request.customize().config_override(patient).send().await;
        let answer = answer.map_err(|error| failed("receiving", &self.url, &Failure::of(&error)))?;
        let messages = answer.messages.unwrap_or_default();
        let message_count = messages.len();
        let records: Vec<ReceivedRecord> = messages
            .into_iter()
            .filter_map(|message| ReceivedRecord::from_received(message, self.arn.as_deref()))
            .collect();
        if records.len() < message_count {
            tracing::error!(unnamed_count = message_count - records.len(), "messages without an id, left in the queue");
        }
        Ok(records)
    }

    /// Deletes records that were dealt with. Whichever cannot be deleted comes again, and is found to be done; that is
    /// logged, and no error.
    pub async fn acknowledge(&self, records: &[ReceivedRecord]) {
        let mut left: Vec<&ReceivedRecord> = records.iter().collect();
        for _ in 0..DELETE_ATTEMPTS {
            if left.is_empty() {
                return;
            }
            left = self.delete(&left).await;
        }
        for record in left {
            tracing::warn!(message_id = record.message_id, "a message that is done with could not be deleted");
        }
    }

    /// Those that were not deleted.
    async fn delete<'a>(&self, records: &[&'a ReceivedRecord]) -> Vec<&'a ReceivedRecord> {
        let mut request = self.client.delete_message_batch().queue_url(&self.url);
        for (index, record) in records.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string());
            match entry.receipt_handle(&record.receipt_handle).build() {
                Ok(entry) => request = request.entries(entry),
                Err(error) => tracing::error!(%error, message_id = record.message_id, "a message without a handle"),
            }
        }
        match request.send().await {
            Ok(answer) => {
                let number = |id: &str| id.parse::<usize>().ok();
                let failed = answer.failed().iter().inspect(|entry| {
                    let (code, reason) = (entry.code(), entry.message().unwrap_or("no message"));
                    tracing::warn!(code, reason, "a deletion failed");
                });
                failed.filter_map(|entry| records.get(number(entry.id())?).copied()).collect()
            }
            Err(error) => {
                tracing::warn!(error = %Failure::of(&error), "deletions failed");
                records.to_vec()
            }
        }
    }
}

fn failed(operation: &'static str, url: &str, failure: &Failure) -> Error {
    Error::Request { operation, url: url.to_owned(), reason: failure.reason.clone() }
}
