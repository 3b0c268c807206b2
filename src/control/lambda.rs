//! What a Lambda function of the control plane is called with: a batch of a queue, the clock, or an HTTP request.

use aws_lambda_events::sqs::SqsEvent;
use serde_json::{Value, json};

use super::service::Service;
use crate::worker::deadline::Deadline;

/// An invocation.
#[derive(Debug)]
pub enum Invocation {
    /// Records of one queue.
    Batch(SqsEvent),
    /// The schedule: relay and sweep.
    Tick,
    /// A request of a function URL or an HTTP API, as it came.
    Http(Value),
}

/// Why a payload is no invocation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Records that cannot be read.
    #[error("the records are none of a queue: {0}")]
    Records(serde_json::Error),
    /// Nothing that this function is called with.
    #[error("neither records of a queue, nor a scheduled event, nor an http request")]
    Unknown,
}

impl Invocation {
    /// Tells what a payload is.
    ///
    /// # Errors
    /// When it is nothing that this function is called with.
    pub fn parse(payload: Value) -> Result<Self, Error> {
        if payload.get("Records").is_some() {
            return serde_json::from_value(payload).map(Self::Batch).map_err(Error::Records);
        }
        if payload.pointer("/requestContext/http").is_some() {
            return Ok(Self::Http(payload));
        }
        let is_scheduled = payload.get("detail-type").and_then(Value::as_str) == Some("Scheduled Event")
            || payload.get("source").and_then(Value::as_str).is_some_and(|source| source == "aws.scheduler")
            || payload.get("task").and_then(Value::as_str) == Some("tick");
        match is_scheduled {
            true => Ok(Self::Tick),
            false => Err(Error::Unknown),
        }
    }
}

/// Answers a batch: exactly the records that go back.
///
/// # Errors
/// When the answer cannot be written, which then fails the whole batch.
pub async fn batch(service: &Service, event: SqsEvent, deadline: &Deadline) -> Result<Value, serde_json::Error> {
    serde_json::to_value(service.batch(event, deadline).await)
}

/// Answers the schedule: what was relayed and swept.
///
/// # Errors
/// When the database fails; the next tick goes on.
pub async fn tick(service: &Service) -> Result<Value, sqlx::Error> {
    let (relayed, swept) = (service.relay().await?, service.sweep().await?);
    // What the sweep released leaves now and not with the next tick.
    let again = service.relay().await?;
    Ok(json!({ "published": relayed.published + again.published, "silent": swept.silent, "expired": swept.expired }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_is_told_by_its_shape() {
        let batch = json!({ "Records": [{ "messageId": "m", "body": "{}", "eventSource": "aws:sqs" }] });
        assert!(matches!(Invocation::parse(batch), Ok(Invocation::Batch(event)) if event.records.len() == 1));
        for tick in [json!({ "detail-type": "Scheduled Event", "source": "aws.events" }), json!({ "task": "tick" })] {
            assert!(matches!(Invocation::parse(tick), Ok(Invocation::Tick)));
        }
        let http = json!({ "version": "2.0", "requestContext": { "http": { "method": "GET" } } });
        assert!(matches!(Invocation::parse(http), Ok(Invocation::Http(_))));
        for other in [json!({}), json!([]), json!("x"), json!({ "Records": 7 })] {
            assert!(Invocation::parse(other).is_err());
        }
    }
}
