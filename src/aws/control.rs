//! The control plane's ports on AWS: clients and a database in; a [`Service`] with SNS as the topic and SQS as the queues
//! out.

use std::sync::Arc;

use sqlx::PgPool;

use super::Clients;
use crate::control::api::Api;
use crate::control::api::access::Writers;
use crate::control::config::ControlConfig;
use crate::control::outbox::sns::SnsRequests;
use crate::control::service::Service;
use crate::storage::s3::S3Storage;
use crate::worker::queue::{QueueUrls, SqsQueue};

/// The control plane on AWS.
#[must_use]
pub fn service(clients: &Clients, config: ControlConfig, pool: PgPool) -> Service {
    let publisher = Arc::new(SnsRequests::new(clients.sns.clone(), config.topic.clone()));
    let client = clients.sqs.clone();
    let queues = Arc::new(move |urls: QueueUrls| Arc::new(SqsQueue::new(client.clone(), urls)) as _);
    Service { config: Arc::new(config), pool, publisher, queues }
}

/// What the HTTP API of that control plane reaches.
#[must_use]
pub fn api(clients: &Clients, service: &Service, writers: Writers) -> Api {
    let rules = Arc::new(service.config.rules.clone());
    let storage = Arc::new(S3Storage::new(clients.s3.clone(), rules.bucket.clone()));
    Api { pool: service.pool.clone(), storage, rules, writers }
}
