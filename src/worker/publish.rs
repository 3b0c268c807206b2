//! Events out: one of the three events of a run in, one message on its topic out.
//!
//! A FIFO topic drops a message whose deduplication id it saw within five minutes. So the id is made of what makes
//! the event this event: a retry of the same event disappears, and a success after a failure, or the second
//! heartbeat, gets through.

use std::fmt;

use async_trait::async_trait;
use aws_sdk_sns::types::MessageAttributeValue;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::aws::failure::Failure;
use crate::event::{Event, Outcome};
use crate::telemetry::STEPS;

/// SNS takes 256 KiB. A failure carries its message twice, and JSON may write a byte as six: 16 KiB always fit.
const MAX_ERROR_MESSAGE_BYTES: usize = 16 * 1024;

/// One delivery of a request to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The SQS message that carries the request; a redrive gives it another.
    pub message_id: String,
    /// How often that message was received, this time included.
    pub receive_count: u32,
}

/// Why an event was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another attempt may succeed.
    #[error("{event} of run {run_id} was not published to {topic} for now: {reason}")]
    Transient {
        /// The event's type.
        event: &'static str,
        /// Its run.
        run_id: String,
        /// The topic.
        topic: String,
        /// What happened.
        reason: String,
    },
    /// The topic refused it for good.
    #[error("{topic} refused {event} of run {run_id}: {reason}")]
    Refused {
        /// The event's type.
        event: &'static str,
        /// Its run.
        run_id: String,
        /// The topic.
        topic: String,
        /// What it said.
        reason: String,
    },
}

impl Error {
    /// Whether another attempt may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transient { .. } => true,
            Self::Refused { .. } => false,
        }
    }

    pub(crate) fn new(event: &Event, topic: &str, transient: bool, reason: String) -> Self {
        let (run_id, topic, event) = (event.run_id().to_string(), topic.to_owned(), event.type_name());
        if transient {
            Self::Transient { event, run_id, topic, reason }
        } else {
            Self::Refused { event, run_id, topic, reason }
        }
    }
}

/// Where events go.
#[async_trait]
pub trait Publisher: Send + Sync + 'static {
    /// Publishes an event of this attempt. `sequence` is the heartbeat's number within the attempt; started and
    /// completed events have none and pass 0.
    async fn publish(&self, event: &Event, attempt: &Attempt, sequence: u64) -> Result<(), Error>;
}

/// What makes an event this event, as 64 hexadecimal digits; see the table in the function.
#[must_use]
pub fn deduplication_id(event: &Event, attempt: &Attempt, sequence: u64) -> String {
    let Attempt { message_id, receive_count } = attempt;
    let (run_id, type_name) = (event.run_id().as_str(), event.type_name());
    // JSON, because its quotes keep the parts apart: ("a", "bc") and ("ab", "c") are different arrays.
    let identity = match event {
        Event::MetricRunStarted { .. } => json!([run_id, type_name, message_id, receive_count]),
        Event::MetricRunHeartbeat { .. } => json!([run_id, type_name, message_id, receive_count, sequence]),
        Event::MetricRunCompleted { outcome, .. } => match outcome {
            // A run succeeds once, whoever says so.
            Outcome::Success { .. } => json!([run_id, type_name, "SUCCESS"]),
            // A redelivery repeats its failure; a redrive, which is another message, may fail anew.
            Outcome::Failure { .. } => json!([run_id, type_name, "FAILURE", message_id]),
        },
    };
    hex::encode(Sha256::digest(identity.to_string()))
}

/// Why a text is no topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the arn of an sns topic")]
pub struct NotATopic {
    /// The text.
    pub text: String,
}

/// The ARN of a topic: `arn:PARTITION:sns:REGION:ACCOUNT:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicArn(String);

impl TopicArn {
    /// Checks the text.
    ///
    /// # Errors
    /// When it is not the ARN of an SNS topic.
    pub fn parse(text: &str) -> Result<Self, NotATopic> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            ["arn", partition, "sns", region, account, name]
                if [partition, region, account, name].iter().all(|part| !part.is_empty()) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(NotATopic { text: text.to_owned() }),
        }
    }

    /// The ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the topic keeps order and drops duplicates: then, and only then, a message names group and id.
    #[must_use]
    pub fn is_fifo(&self) -> bool {
        self.0.ends_with(".fifo")
    }
}

impl fmt::Display for TopicArn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A topic for each event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// For `metric_run_started`.
    pub started: TopicArn,
    /// For `metric_run_heartbeat`.
    pub heartbeat: TopicArn,
    /// For `metric_run_completed`.
    pub completed: TopicArn,
}

impl Topics {
    /// The event's topic.
    #[must_use]
    pub fn of(&self, event: &Event) -> &TopicArn {
        match event {
            Event::MetricRunStarted { .. } => &self.started,
            Event::MetricRunHeartbeat { .. } => &self.heartbeat,
            Event::MetricRunCompleted { .. } => &self.completed,
        }
    }
}

/// Publishes to SNS.
#[derive(Debug, Clone)]
pub struct SnsPublisher {
    client: aws_sdk_sns::Client,
    topics: Topics,
}

impl SnsPublisher {
    /// Publishes to these topics.
    #[must_use]
    pub fn new(client: aws_sdk_sns::Client, topics: Topics) -> Self {
        Self { client, topics }
    }
}

#[async_trait]
impl Publisher for SnsPublisher {
    #[tracing::instrument(target = STEPS, level = "debug", skip_all, fields(event = event.type_name()))]
    async fn publish(&self, event: &Event, attempt: &Attempt, sequence: u64) -> Result<(), Error> {
        let topic = self.topics.of(event);
        let refused = |reason: String| Error::new(event, topic.as_str(), false, reason);
        let message = message(event).map_err(|error| refused(error.to_string()))?;
        let mut request = self.client.publish().topic_arn(topic.as_str()).message(message);
        for (name, value) in [("type", event.type_name()), ("metricCode", event.metric_code().as_str())] {
            let attribute = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            request = request.message_attributes(name, attribute.map_err(|error| refused(error.to_string()))?);
        }
        if topic.is_fifo() {
            request = request
                .message_group_id(event.run_id().as_str())
                .message_deduplication_id(deduplication_id(event, attempt, sequence));
        }
        let answer = request.send().await.map_err(|error| Failure::of(&error));
        answer.map(|_| ()).map_err(|failure| Error::new(event, topic.as_str(), failure.transient, failure.reason))
    }
}

/// The event as JSON. A failure whose message would not fit is told in its first part: a message that no topic takes
/// would keep its request in the queue for ever.
fn message(event: &Event) -> serde_json::Result<String> {
    if let Event::MetricRunCompleted { run_id, metric_code, outcome, .. } = event
        && let Outcome::Failure { error_code, error_message, .. } = outcome
        && error_message.len() > MAX_ERROR_MESSAGE_BYTES
    {
        let end = error_message.floor_char_boundary(MAX_ERROR_MESSAGE_BYTES);
        let shortened = format!("{}… (cut from {} bytes)", &error_message[..end], error_message.len());
        return serde_json::to_string(&Event::failure(run_id.clone(), metric_code.clone(), *error_code, shortened));
    }
    serde_json::to_string(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ErrorCode, SCHEMA};
    use crate::ids::{MetricCode, RunId};

    fn attempt(message_id: &str, receive_count: u32) -> Attempt {
        Attempt { message_id: message_id.to_owned(), receive_count }
    }

    fn heartbeat(run: &str) -> Event {
        Event::MetricRunHeartbeat {
            schema: SCHEMA,
            run_id: RunId::parse(run).unwrap(),
            metric_code: MetricCode::parse("m").unwrap(),
            progress: 0.5,
            ts: "2025-01-15T10:32:00Z".to_owned(),
        }
    }

    fn failure(run: &str, message: &str) -> Event {
        let (run_id, metric_code) = (RunId::parse(run).unwrap(), MetricCode::parse("m").unwrap());
        Event::failure(run_id, metric_code, ErrorCode::InternalError, message.to_owned())
    }

    #[test]
    fn a_heartbeat_is_another_one_in_another_attempt_or_with_another_number() {
        let id = |run, message_id, receive_count, sequence| {
            deduplication_id(&heartbeat(run), &attempt(message_id, receive_count), sequence)
        };
        let first = id("r", "m", 1, 0);
        assert_eq!(first, id("r", "m", 1, 0));
        assert_eq!(first.len(), 64);
        for other in [id("r2", "m", 1, 0), id("r", "m2", 1, 0), id("r", "m", 2, 0), id("r", "m", 1, 1)] {
            assert_ne!(first, other);
        }
        assert_ne!(id("r", "m", 1, 11), id("r", "m", 11, 1));
    }

    #[test]
    fn a_redelivery_repeats_a_failure_and_a_redrive_does_not() {
        let id = |message_id, receive_count, text| {
            deduplication_id(&failure("r", text), &attempt(message_id, receive_count), 0)
        };
        assert_eq!(id("m", 1, "x"), id("m", 2, "y"));
        assert_ne!(id("m", 1, "x"), id("m2", 1, "x"));
    }

    #[test]
    fn a_topic_is_told_by_its_arn() {
        assert!(TopicArn::parse("arn:aws:sns:us-east-1:1:t.fifo").unwrap().is_fifo());
        assert!(!TopicArn::parse("arn:aws-cn:sns:cn-north-1:1:t").unwrap().is_fifo());
        for text in ["", "t", "arn:aws:sqs:us-east-1:1:t", "arn:aws:sns:us-east-1:1", "arn:aws:sns:us-east-1:1:"] {
            assert!(TopicArn::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_failure_fits_into_a_message_however_long_its_text() {
        let body = message(&failure("r", &"é\u{1}".repeat(500_000))).unwrap();
        assert!(body.len() < 256 * 1024, "{}", body.len());
        assert!(body.contains("(cut from 1500000 bytes)"));
        assert!(message(&failure("r", "short")).unwrap().contains("\"errorMessage\":\"short\""));
    }
}
