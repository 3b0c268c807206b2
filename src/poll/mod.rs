//! The polling mode: a worker outside of Lambda, which takes its batches from the request queue by itself.
//!
//! What the event source mapping does in Lambda is done here, over the same handler: long polls; records stay
//! invisible while they are worked on; those that the handler does not return are deleted. One batch at a time: more
//! batches at a time are more processes, and the queue keeps the order of each group among them.

pub mod inbox;
pub mod lease;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tracing::Instrument;

use crate::aws;
use crate::config::Config;
use crate::poll::inbox::Inbox;
use crate::poll::lease::Lease;
use crate::telemetry::{self, STEPS};
use crate::worker::deadline::{Deadline, Stop};
use crate::worker::queue::ReceivedRecord;
use crate::worker::{Clock, Ports, batch, heartbeat};

/// A batch may take as long as an invocation of a Lambda function may at most: a run ends here as it ends there.
const BATCH_LIMIT: Duration = Duration::from_secs(900);

/// After a signal a batch has so long to end: ECS kills 30 s after its SIGTERM, where its `stopTimeout` says nothing
/// else.
const STOP_GRACE: Duration = Duration::from_secs(25);

/// Visibility is extended when a third of it is over: two extensions may fail before others see the records.
const EXTENSIONS_PER_TIMEOUT: u32 = 3;

/// A queue that answers without waiting is asked no more often than this.
const SHORTEST_EMPTY_POLL: Duration = Duration::from_secs(1);

/// The wait after a first failure of the queue; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// A queue that stays away is asked once a minute.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// How polling ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// After a signal, with the batch in hand brought to an end.
    Gracefully,
    /// With a second signal. The records in hand are seen again when their visibility timeout is over.
    AtOnce,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on these signals do not end the process by themselves.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of them, and says which it was.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Starts the polling mode, and ends with it: at once where the configuration switches the queue off.
///
/// # Errors
/// When something is missing at the start, or a second signal ended the process before its batch.
pub async fn start(config: Config, clock: Clock) -> anyhow::Result<()> {
    if !config.queue_enabled {
        tracing::info!("AWS_SQS_RUN_REQUEST_QUEUE_ENABLED is false: nothing is polled");
        return Ok(());
    }
    let url = config.queue_urls.requests.clone().context("AWS_SQS_RUN_REQUEST_QUEUE_URL is missing: what to poll")?;
    let signals = Signals::listen()?;
    if let Some(address) = config.prometheus_address {
        telemetry::prometheus_metrics("worker", address)?;
    }
    let clients = aws::clients(&config.aws).await;
    let inbox = Inbox::open(clients.sqs.clone(), url).await?;
    let (ports, storage) = aws::ports::ports(clients, &config, clock);
    let after_batch = || telemetry::s3_requests(storage.new_requests());
    match run(&inbox, ports, config, signals, after_batch).await {
        Ended::Gracefully => Ok(()),
        Ended::AtOnce => bail!("stopped by a second signal"),
    }
}

/// Polls until a signal comes. `after_batch` is called after each batch.
pub async fn run(
    inbox: &Inbox,
    ports: Ports,
    config: Config,
    mut signals: Signals,
    after_batch: impl Fn() + Sync,
) -> Ended {
    let stop = Stop::default();
    let lease = Arc::new(Lease::new(ports.queue.clone()));
    let poller =
        Poller { inbox, stop: &stop, ports: Ports { queue: lease.clone(), ..ports }, lease, config: config.into() };
    let two_signals = async {
        let signal = signals.next().await;
        tracing::info!(signal, "stopping: no more polls, the batch in hand may end");
        stop.within(STOP_GRACE);
        let signal = signals.next().await;
        tracing::warn!(signal, "stopping at once");
    };
    tracing::info!(visibility_seconds = inbox.visibility_timeout().as_secs(), "polling");
    tokio::select! {
        () = poller.poll(after_batch) => {
            tracing::info!("stopped");
            Ended::Gracefully
        }
        () = two_signals => Ended::AtOnce,
    }
}

struct Poller<'a> {
    inbox: &'a Inbox,
    stop: &'a Stop,
    ports: Ports,
    lease: Arc<Lease>,
    config: Arc<Config>,
}

impl Poller<'_> {
    /// Batch after batch, until the stop.
    async fn poll(&self, after_batch: impl Fn() + Sync) {
        let mut failure_count = 0;
        loop {
            let start = Instant::now();
            // Messages that are on their way while a poll is given up are seen again after their visibility timeout.
            let received = tokio::select! {
                biased;
                () = self.stop.requested() => return,
                received = self.inbox.receive().instrument(tracing::debug_span!(target: STEPS, "poll")) => received,
            };
            match received {
                Ok(records) if records.is_empty() => {
                    failure_count = 0;
                    self.pause(SHORTEST_EMPTY_POLL.saturating_sub(start.elapsed())).await;
                }
                Ok(records) => {
                    failure_count = 0;
                    self.batch(records).await;
                    after_batch();
                }
                Err(error) => {
                    failure_count += 1;
                    let wait = backoff(failure_count, rand::random());
                    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    tracing::error!(%error, failure_count, wait_ms, "no messages could be received");
                    self.pause(wait).await;
                }
            }
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = self.stop.requested() => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    /// One batch: handled while its visibility is extended, and what was not returned is deleted.
    async fn batch(&self, records: Vec<ReceivedRecord>) {
        let visibility = self.inbox.visibility_timeout();
        let interval = visibility / EXTENSIONS_PER_TIMEOUT;
        let deadline = Deadline::after(BATCH_LIMIT).or_stop(self.stop);
        self.lease.hold(records.clone()).await;
        // On a task of its own, so that a long computation does not keep an extension waiting.
        let (ports, config, in_hand) = (self.ports.clone(), Arc::clone(&self.config), records.clone());
        let handling = tokio::spawn(async move { batch::handle_records(in_hand, &ports, &config, &deadline).await });
        let handled = heartbeat::during(Some(interval), |_| self.lease.extend(visibility, interval), handling).await;
        self.lease.hold(Vec::new()).await;
        match handled {
            Ok(returned) => {
                let is_done = |record: &ReceivedRecord| !returned.contains(&record.message_id);
                let done: Vec<ReceivedRecord> = records.into_iter().filter(is_done).collect();
                self.inbox.acknowledge(&done).await;
            }
            Err(error) => tracing::error!(%error, "a batch came to no end, all of it comes again"),
        }
    }
}

/// Exponential, of which a half is by chance (`chance` is from 0 to 1): workers that failed together do not come back
/// together.
fn backoff(failure_count: u32, chance: f64) -> Duration {
    let doublings = failure_count.saturating_sub(1).min(10);
    let ceiling = (FIRST_BACKOFF * 2_u32.pow(doublings)).min(LONGEST_BACKOFF);
    ceiling.mul_f64(0.5 + 0.5 * chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_fails_is_asked_ever_less_often_down_to_once_a_minute() {
        let seconds: Vec<u64> = (1..=9).map(|count| backoff(count, 1.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff(u32::MAX, 0.0), LONGEST_BACKOFF / 2);
        assert_eq!(backoff(1, 0.0), FIRST_BACKOFF / 2);
    }
}
