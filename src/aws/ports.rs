//! The worker's ports on AWS: clients in; S3 as the store, SNS as the publisher and SQS as the queue out.

use std::sync::Arc;

use super::Clients;
use crate::config::Config;
use crate::storage::metered::Metered;
use crate::storage::s3::S3Storage;
use crate::worker::publish::SnsPublisher;
use crate::worker::queue::SqsQueue;
use crate::worker::{Clock, Ports};

/// The ports, and the store once more, with its counters.
#[must_use]
pub fn ports(clients: Clients, config: &Config, clock: Clock) -> (Ports, Arc<Metered<S3Storage>>) {
    let storage = Arc::new(Metered::new(S3Storage::new(clients.s3, config.rules.bucket.clone())));
    let ports = Ports {
        storage: storage.clone(),
        publisher: Arc::new(SnsPublisher::new(clients.sns, config.topics.clone())),
        queue: Arc::new(SqsQueue::new(clients.sqs, config.queue_urls.clone())),
        clock,
    };
    (ports, storage)
}
