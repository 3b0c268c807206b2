//! The request queue, as the worker sees it: records that were received in; changed visibility and dead letters out.
//!
//! Lambda itself deletes what the worker does not report as failed, so two things are left: when failed records come
//! back, and where those go that nobody can ever process.

pub mod letters;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue, MessageSystemAttributeName};
use bytes::Bytes;

use super::dead_letter::DeadLetter;
use crate::aws::failure::Failure;

/// So many entries SQS takes in one batch.
const MAX_BATCH_ENTRIES: usize = 10;

/// SQS keeps a message invisible for twelve hours at most.
const MAX_VISIBILITY_TIMEOUT_SECONDS: u64 = 43_200;

/// An attribute that the sender gave a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageAttribute {
    /// `String`, `Number` or `Binary`, each possibly with a label: `Number.int`.
    pub data_type: String,
    /// Its value.
    pub value: AttributeValue,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// Of a `String` or a `Number`.
    Text(String),
    /// Of a `Binary`.
    Binary(Bytes),
}

/// A record as it was received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReceivedRecord {
    /// The message's id: the same in every delivery.
    pub message_id: String,
    /// The delivery's handle.
    pub receipt_handle: String,
    /// The body, unchanged.
    pub body: String,
    /// Its group, where the queue is FIFO.
    pub group_id: Option<String>,
    /// Its deduplication id, where the queue is FIFO.
    pub dedup_id: Option<String>,
    /// How often it was received, this time included.
    pub receive_count: u32,
    /// The queue it came from.
    pub event_source_arn: Option<String>,
    /// What the sender attached.
    pub message_attributes: BTreeMap<String, MessageAttribute>,
}

impl ReceivedRecord {
    /// A record of a Lambda event. Nothing where it has no message id: then there is no way to report it.
    #[must_use]
    pub fn from_lambda(message: aws_lambda_events::sqs::SqsMessage) -> Option<Self> {
        let attribute = |name: &str| message.attributes.get(name).cloned();
        let message_attributes = message.message_attributes.into_iter().filter_map(|(name, attribute)| {
            let text = attribute.string_value.map(AttributeValue::Text);
            let value = text.or_else(|| Some(AttributeValue::Binary(attribute.binary_value?.0.into())))?;
            Some((name, MessageAttribute { data_type: attribute.data_type?, value }))
        });
        Some(Self {
            message_id: message.message_id?,
            receipt_handle: message.receipt_handle.unwrap_or_default(),
            body: message.body.unwrap_or_default(),
            group_id: attribute("MessageGroupId"),
            dedup_id: attribute("MessageDeduplicationId"),
            receive_count: receive_count(attribute("ApproximateReceiveCount").as_deref()),
            event_source_arn: message.event_source_arn,
            message_attributes: message_attributes.collect(),
        })
    }

    /// A message that was received from a queue with all its attributes, as the polling mode does it. Nothing where
    /// it has no message id.
    #[must_use]
    pub fn from_received(message: aws_sdk_sqs::types::Message, queue_arn: Option<&str>) -> Option<Self> {
        let system = message.attributes.unwrap_or_default();
        let attribute = |name: MessageSystemAttributeName| system.get(&name).cloned();
        let message_attributes =
            message.message_attributes.unwrap_or_default().into_iter().filter_map(|(name, sent)| {
                let text = sent.string_value.map(AttributeValue::Text);
                let value = text.or_else(|| Some(AttributeValue::Binary(sent.binary_value?.into_inner().into())))?;
                Some((name, MessageAttribute { data_type: sent.data_type, value }))
            });
        Some(Self {
            message_id: message.message_id?,
            receipt_handle: message.receipt_handle.unwrap_or_default(),
            body: message.body.unwrap_or_default(),
            group_id: attribute(MessageSystemAttributeName::MessageGroupId),
            dedup_id: attribute(MessageSystemAttributeName::MessageDeduplicationId),
            receive_count: receive_count(attribute(MessageSystemAttributeName::ApproximateReceiveCount).as_deref()),
            event_source_arn: queue_arn.map(str::to_owned),
            message_attributes: message_attributes.collect(),
        })
    }
}

/// Whoever does not count has received it for the first time.
fn receive_count(text: Option<&str>) -> u32 {
    text.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Why a record is where it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The record's queue is not known.
    #[error("no queue url for message {message_id}: neither AWS_SQS_RUN_REQUEST_QUEUE_URL nor a usable eventSourceARN")]
    UnknownQueue {
        /// The message.
        message_id: String,
    },
    /// There is no dead-letter queue.
    #[error("no dead-letter queue for message {message_id}: DEAD_LETTER_QUEUE_URL is not set")]
    NoDeadLetterQueue {
        /// The message.
        message_id: String,
    },
    /// Another attempt may succeed.
    #[error("{operation} failed for now{}: {reason}", of_messages(.message_ids))]
    Transient {
        /// The operation, in words.
        operation: &'static str,
        /// The messages it failed for.
        message_ids: Vec<String>,
        /// What happened to the first of them.
        reason: String,
    },
    /// The queue refused for good.
    #[error("{operation} was refused{}: {reason}", of_messages(.message_ids))]
    Refused {
        /// The operation, in words.
        operation: &'static str,
        /// The messages it was refused for.
        message_ids: Vec<String>,
        /// What the queue said of the first of them.
        reason: String,
    },
}

/// How many messages, and which; nothing where it is about the queue itself.
fn of_messages(message_ids: &[String]) -> String {
    match message_ids {
        [] => String::new(),
        some => format!(" for {} ({})", some.len(), some.join(", ")),
    }
}

impl Error {
    /// Whether another attempt may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transient { .. } => true,
            Self::UnknownQueue { .. } | Self::NoDeadLetterQueue { .. } | Self::Refused { .. } => false,
        }
    }

    pub(crate) fn new(operation: &'static str, message_ids: Vec<String>, transient: bool, reason: String) -> Self {
        if transient {
            Self::Transient { operation, message_ids, reason }
        } else {
            Self::Refused { operation, message_ids, reason }
        }
    }
}

/// What the worker does with records that it received.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Makes all these records visible again after this time from now. Every record is tried; the error names those
    /// that were not changed.
    async fn change_visibility(&self, records: &[ReceivedRecord], timeout: Duration) -> Result<(), Error>;

    /// Sends a record to the dead-letter queue with the reason. Sending it twice within five minutes to a FIFO queue
    /// leaves one there. The record itself stays where it is: the caller acknowledges it.
    async fn dead_letter(&self, record: &ReceivedRecord, reason: &str) -> Result<(), Error>;

    /// Whether there is a dead-letter queue.
    fn has_dead_letter_queue(&self) -> bool;
}

/// Which queues.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueUrls {
    /// The request queue; without it a record's `eventSourceARN` tells.
    pub requests: Option<String>,
    /// The dead-letter queue.
    pub dead_letters: Option<String>,
    /// A stand-in for SQS: URLs made from an ARN begin with it.
    pub endpoint: Option<String>,
}

impl QueueUrls {
    /// The URL of the queue that a record came from.
    #[must_use]
    pub fn source(&self, record: &ReceivedRecord) -> Option<String> {
        if let Some(url) = &self.requests {
            return Some(url.clone());
        }
        let parts: Vec<&str> = record.event_source_arn.as_deref()?.split(':').collect();
        let ["arn", partition, "sqs", region, account, name] = parts.as_slice() else { return None };
        if [region, account, name].iter().any(|part| part.is_empty()) {
            return None;
        }
        let domain = if *partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => format!("https://sqs.{region}.{domain}"),
        };
        Some(format!("{endpoint}/{account}/{name}"))
    }
}

/// Works on SQS.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: aws_sdk_sqs::Client,
    urls: QueueUrls,
}

impl SqsQueue {
    /// Works on these queues.
    #[must_use]
    pub fn new(client: aws_sdk_sqs::Client, urls: QueueUrls) -> Self {
        Self { client, urls }
    }

    /// One batch on one queue: the messages that were not changed, and why.
    async fn change_batch(&self, url: &str, batch: &[&ReceivedRecord], seconds: i32) -> Vec<(String, Failure)> {
        const BUILDABLE: &str = "an entry needs an id and a receipt handle";
        let mut request = self.client.change_message_visibility_batch().queue_url(url);
        let mut failures = Vec::new();
        for (index, record) in batch.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string());
            match entry.receipt_handle(&record.receipt_handle).visibility_timeout(seconds).build() {
                Ok(entry) => request = request.entries(entry),
                Err(_) => failures.push((record.message_id.clone(), Failure::of_entry("Invalid", BUILDABLE, true))),
            }
        }
        match request.send().await {
            Ok(output) => {
                for entry in output.failed() {
                    let failure = Failure::of_entry(entry.code(), entry.message().unwrap_or(""), entry.sender_fault());
                    if let Some(record) = entry.id().parse::<usize>().ok().and_then(|index| batch.get(index)) {
                        failures.push((record.message_id.clone(), failure));
                    }
                }
            }
            Err(error) => {
                let failure = Failure::of(&error);
                failures = batch.iter().map(|record| (record.message_id.clone(), failure.clone())).collect();
            }
        }
        failures
    }
}

#[async_trait]
impl Queue for SqsQueue {
    async fn change_visibility(&self, records: &[ReceivedRecord], timeout: Duration) -> Result<(), Error> {
        let seconds = timeout.as_secs().min(MAX_VISIBILITY_TIMEOUT_SECONDS);
        let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
        let mut by_queue: BTreeMap<String, Vec<&ReceivedRecord>> = BTreeMap::new();
        let mut unknown = None;
        for record in records {
            match self.urls.source(record) {
                Some(url) => by_queue.entry(url).or_default().push(record),
                None => unknown = Some(Error::UnknownQueue { message_id: record.message_id.clone() }),
            }
        }
        let mut failures = Vec::new();
        for (url, records) in by_queue {
            for batch in records.chunks(MAX_BATCH_ENTRIES) {
                failures.extend(self.change_batch(&url, batch, seconds).await);
            }
        }
        let Some((_, first)) = failures.first() else {
            return unknown.map_or(Ok(()), Err);
        };
        let (transient, reason) = (failures.iter().any(|(_, failure)| failure.transient), first.reason.clone());
        let message_ids = failures.into_iter().map(|(message_id, _)| message_id).collect();
        Err(Error::new("visibility change", message_ids, transient, reason))
    }

    async fn dead_letter(&self, record: &ReceivedRecord, reason: &str) -> Result<(), Error> {
        const OPERATION: &str = "dead-lettering";
        let message_ids = vec![record.message_id.clone()];
        let Some(url) = &self.urls.dead_letters else {
            return Err(Error::NoDeadLetterQueue { message_id: record.message_id.clone() });
        };
        let letter = DeadLetter::new(record, reason);
        let mut request = self.client.send_message().queue_url(url).message_body(&record.body);
        for (name, attribute) in letter.attributes {
            match sent(attribute) {
                Ok(attribute) => request = request.message_attributes(name, attribute),
                Err(reason) => return Err(Error::new(OPERATION, message_ids, false, reason)),
            }
        }
        if url.ends_with(".fifo") {
            request = request.message_group_id(letter.group_id).message_deduplication_id(letter.dedup_id);
        }
        match request.send().await.map_err(|error| Failure::of(&error)) {
            Ok(_) => Ok(()),
            Err(failure) => Err(Error::new(OPERATION, message_ids, failure.transient, failure.reason)),
        }
    }

    fn has_dead_letter_queue(&self) -> bool {
        self.urls.dead_letters.is_some()
    }
}

fn sent(attribute: MessageAttribute) -> Result<MessageAttributeValue, String> {
    let builder = MessageAttributeValue::builder().data_type(attribute.data_type);
    let builder = match attribute.value {
        AttributeValue::Text(text) => builder.string_value(text),
        AttributeValue::Binary(bytes) => builder.binary_value(Blob::new(bytes)),
    };
    builder.build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(urls: &QueueUrls, arn: Option<&str>, expected: Option<&str>) {
        let record = ReceivedRecord { event_source_arn: arn.map(str::to_owned), ..ReceivedRecord::default() };
        assert_eq!(urls.source(&record).as_deref(), expected, "{arn:?}");
    }

    #[test]
    fn a_queue_s_url_is_given_or_follows_from_its_arn() {
        let arn = Some("arn:aws:sqs:eu-west-1:123:runs.fifo");
        let none = QueueUrls::default();
        check(&none, arn, Some("https://sqs.eu-west-1.amazonaws.com/123/runs.fifo"));
        check(&none, Some("arn:aws-cn:sqs:cn-north-1:1:q"), Some("https://sqs.cn-north-1.amazonaws.com.cn/1/q"));
        for arn in [None, Some(""), Some("arn:aws:sns:eu-west-1:123:runs"), Some("arn:aws:sqs:eu-west-1::runs")] {
            check(&none, arn, None);
        }
        let local = QueueUrls { endpoint: Some("http://127.0.0.1:1/".into()), ..QueueUrls::default() };
        check(&local, arn, Some("http://127.0.0.1:1/123/runs.fifo"));
        let given = QueueUrls { requests: Some("https://given/1/q".into()), ..local };
        check(&given, arn, Some("https://given/1/q"));
        check(&given, None, Some("https://given/1/q"));
    }

    #[test]
    fn a_record_of_a_lambda_event_keeps_what_the_queue_said() {
        let message = serde_json::from_str(
            r#"{"messageId":"m","receiptHandle":"h","body":"b","eventSourceARN":"arn:aws:sqs:r:1:q.fifo",
                "attributes":{"MessageGroupId":"g","MessageDeduplicationId":"d","ApproximateReceiveCount":"3"},
                "messageAttributes":{"type":{"stringValue":"t","dataType":"String"},"n":{"stringValue":"7","dataType":"Number.int"},
                "bin":{"binaryValue":"AQI=","dataType":"Binary"}}}"#,
        );
        let record = ReceivedRecord::from_lambda(message.unwrap()).unwrap();
        assert_eq!((record.group_id.as_deref(), record.dedup_id.as_deref()), (Some("g"), Some("d")));
        assert_eq!((record.receive_count, record.receipt_handle.as_str(), record.body.as_str()), (3, "h", "b"));
        assert_eq!(record.message_attributes["n"].data_type, "Number.int");
        assert_eq!(record.message_attributes["type"].value, AttributeValue::Text("t".into()));
        assert_eq!(record.message_attributes["bin"].value, AttributeValue::Binary(Bytes::from_static(&[1, 2])));
        assert_eq!(ReceivedRecord::from_lambda(aws_lambda_events::sqs::SqsMessage::default()), None);
    }
}
