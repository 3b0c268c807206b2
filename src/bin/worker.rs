//! The worker as a Lambda function: cold start, then one SQS batch after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use metrics_engine::config::Config;
use metrics_engine::storage::metered::Metered;
use metrics_engine::storage::s3::S3Storage;
use metrics_engine::worker::deadline::Deadline;
use metrics_engine::worker::publish::SnsPublisher;
use metrics_engine::worker::queue::SqsQueue;
use metrics_engine::worker::{Ports, batch};
use metrics_engine::{aws, telemetry};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = Config::from_lookup(environment)?;
    telemetry::log_json(config.log_level);
    let collector = telemetry::embedded_metrics("worker")?;
    let clients = aws::clients(&config.aws).await;
    let storage = Arc::new(Metered::new(S3Storage::new(clients.s3, config.rules.bucket.clone())));
    let ports = Ports {
        storage: storage.clone(),
        publisher: Arc::new(SnsPublisher::new(clients.sns, config.topics.clone())),
        queue: Arc::new(SqsQueue::new(clients.sqs, config.queue_urls.clone())),
        clock: Arc::new(now),
    };
    let counted_requests = AtomicU64::new(0);
    let handler = async |event: LambdaEvent<SqsEvent>| -> Result<SqsBatchResponse, Error> {
        let deadline = Deadline::from_unix_ms(event.context.deadline, now());
        let response = batch::handle(event.payload, &ports, &config, deadline).await;
        let requests = storage.usage().requests;
        telemetry::s3_requests(requests - counted_requests.swap(requests, Ordering::Relaxed));
        collector.flush(std::io::stdout())?;
        Ok(response)
    };
    lambda_runtime::run(service_fn(handler)).await
}

#[expect(clippy::disallowed_methods, reason = "the one place where the worker reads its environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[expect(clippy::disallowed_methods, reason = "the one place where the worker asks for the time")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
