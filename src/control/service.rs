//! The control plane as one value: database, queues and topic, and what is done with them whoever calls.

use std::sync::Arc;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use sqlx::PgPool;

use super::batch::{self, Handling};
use super::config::{ControlConfig, InboundQueue};
use super::outbox::{self, Relayed, RequestPublisher};
use super::sweep::{self, Swept};
use crate::worker::deadline::Deadline;
use crate::worker::queue::{Queue, QueueUrls, ReceivedRecord};

/// Makes the queue for these URLs.
pub type Queues = Arc<dyn Fn(QueueUrls) -> Arc<dyn Queue> + Send + Sync>;

/// The control plane.
#[derive(Clone)]
pub struct Service {
    /// What it was told.
    pub config: Arc<ControlConfig>,
    /// The database.
    pub pool: PgPool,
    /// Where requests go.
    pub publisher: Arc<dyn RequestPublisher>,
    /// Where records go back to, or are dead letters.
    pub queues: Queues,
}

impl Service {
    /// A batch from Lambda; afterwards the requests that it released are published.
    pub async fn batch(&self, event: SqsEvent, deadline: &Deadline) -> SqsBatchResponse {
        let arn = event.records.first().and_then(|record| record.event_source_arn.clone()).unwrap_or_default();
        let queue = self.queue(self.inbound(&arn), None);
        let response = batch::handle(event, &self.handling(&*queue, deadline)).await;
        self.relay_within(deadline).await;
        response
    }

    /// Records that were received from a queue; the ids of those that go back.
    pub async fn records(&self, records: Vec<ReceivedRecord>, queue: &dyn Queue, deadline: &Deadline) -> Vec<String> {
        batch::handle_records(records, &self.handling(queue, deadline)).await
    }

    /// Publishes what is in the outbox.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn relay(&self) -> Result<Relayed, sqlx::Error> {
        outbox::relay(&self.pool, &*self.publisher).await
    }

    /// As [`Self::relay`], for whoever has something else to answer: a failure is logged, and the next relay goes on.
    pub async fn relay_within(&self, deadline: &Deadline) {
        match deadline.finish(self.relay()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::error!(%error, "the outbox could not be relayed"),
            None => tracing::warn!("no time was left for the outbox"),
        }
    }

    /// Sweeps once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sweep(&self) -> Result<Swept, sqlx::Error> {
        let config = &*self.config;
        sweep::sweep(&self.pool, &config.patience, config.event_log_days, &config.rules).await
    }

    /// The queue with these settings.
    #[must_use]
    pub fn queue(&self, inbound: &InboundQueue, url: Option<String>) -> Arc<dyn Queue> {
        (self.queues)(QueueUrls {
            requests: url,
            dead_letters: inbound.dead_letter_url.clone(),
            endpoint: self.config.aws.sqs_endpoint().map(str::to_owned),
        })
    }

    /// The settings of the queue that records came from, by the name at the end of its ARN and of its URL. They differ
    /// in nothing but their dead letters, so a queue that nobody configured is treated as the first.
    fn inbound(&self, arn: &str) -> &InboundQueue {
        let ending = format!("/{}", arn.rsplit(':').next().unwrap_or_default());
        let queues = &self.config.queues;
        let all = [&queues.projection_update, &queues.started, &queues.heartbeat, &queues.completed];
        let is_it = |queue: &&&InboundQueue| queue.url.as_deref().is_some_and(|url| url.ends_with(&ending));
        all.iter().find(is_it).copied().unwrap_or(&queues.projection_update)
    }

    fn handling<'a>(&'a self, queue: &'a dyn Queue, deadline: &'a Deadline) -> Handling<'a> {
        let (rules, max_receive_count) = (&self.config.rules, self.config.max_receive_count);
        Handling { pool: &self.pool, queue, rules, max_receive_count, deadline }
    }
}
