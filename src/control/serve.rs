//! The control plane outside of Lambda: polls its queues, relays and sweeps on timers, until a signal comes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::config::InboundQueue;
use super::service::Service;
use crate::aws::Clients;
use crate::poll::Signals;
use crate::poll::inbox::Inbox;
use crate::poll::lease::Lease;
use crate::worker::deadline::{Deadline, Stop};
use crate::worker::heartbeat;
use crate::worker::queue::ReceivedRecord;

/// A batch is ten transactions; what takes longer than this meets a database that does not answer.
const BATCH_LIMIT: Duration = Duration::from_secs(300);

/// After a signal the batches in hand have so long to end.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// The outbox is looked at so often even where nobody says that there is something in it.
const RELAY_INTERVAL: Duration = Duration::from_secs(1);

/// Silence is borne for minutes, so it is noticed within one.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// A queue that failed, or that answers without waiting, is asked again after this.
const PAUSE: Duration = Duration::from_secs(1);

/// Visibility is extended when a third of it is over.
const EXTENSIONS_PER_TIMEOUT: u32 = 3;

/// A queue to poll.
pub struct Polled {
    /// Its messages.
    pub inbox: Inbox,
    /// Its settings.
    pub settings: InboundQueue,
    /// Its URL.
    pub url: String,
}

/// Opens the queues that are configured and enabled.
///
/// # Errors
/// When one of them does not answer.
pub async fn open(service: &Service, clients: &Clients) -> anyhow::Result<Vec<Polled>> {
    let queues = &service.config.queues;
    let mut polled = Vec::new();
    for settings in [&queues.projection_update, &queues.started, &queues.heartbeat, &queues.completed] {
        let Some(url) = settings.url.clone().filter(|_| settings.is_enabled) else { continue };
        let inbox = Inbox::open(clients.sqs.clone(), url.clone()).await?;
        polled.push(Polled { inbox, settings: settings.clone(), url });
    }
    Ok(polled)
}

/// Works until a signal comes, and brings the batches in hand to an end. `beside` is what else is served meanwhile, the
/// HTTP API; it is told to stop by the same signal and waited for.
pub async fn run<F: Future<Output = ()>>(
    service: &Service,
    queues: &[Polled],
    mut signals: Signals,
    beside: impl FnOnce(Arc<Stop>) -> F,
) {
    let stop = Arc::new(Stop::default());
    let released = Notify::new();
    let polling = join_all(queues.iter().map(|queue| poll(service, queue, &stop, &released)));
    let relaying = every(RELAY_INTERVAL, &stop, Some(&released), async || {
        if let Err(error) = service.relay().await {
            tracing::error!(%error, "the outbox could not be relayed");
        }
    });
    let sweeping = every(SWEEP_INTERVAL, &stop, None, async || {
        if let Err(error) = service.sweep().await {
            tracing::error!(%error, "sweeping failed");
        }
    });
    let listening = async {
        let signal = signals.next().await;
        tracing::info!(signal, "stopping: the batches in hand may end");
        stop.within(STOP_GRACE);
    };
    tracing::info!(queues = queues.len(), "serving");
    let serving = beside(Arc::clone(&stop));
    tokio::join!(polling, relaying, sweeping, listening, serving);
    tracing::info!("stopped");
}

/// Does the work in intervals, or when it is woken, until the stop; and once more then.
async fn every(interval: Duration, stop: &Stop, wake: Option<&Notify>, work: impl AsyncFn()) {
    loop {
        work().await;
        let woken = async {
            match wake {
                Some(wake) => wake.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.requested() => break,
            () = woken => {}
            () = tokio::time::sleep(interval) => {}
        }
    }
    work().await;
}

/// Batch after batch, until the stop.
async fn poll(service: &Service, polled: &Polled, stop: &Stop, released: &Notify) {
    let queue = service.queue(&polled.settings, Some(polled.url.clone()));
    let lease = Arc::new(Lease::new(queue));
    loop {
        let start = Instant::now();
        let received = tokio::select! {
            biased;
            () = stop.requested() => return,
            received = polled.inbox.receive() => received,
        };
        match received {
            Ok(records) if records.is_empty() => pause(PAUSE.saturating_sub(start.elapsed()), stop).await,
            Ok(records) => {
                batch(service, polled, &lease, records, stop).await;
                released.notify_one();
            }
            Err(error) => {
                tracing::error!(%error, "no messages could be received");
                pause(PAUSE, stop).await;
            }
        }
    }
}

async fn pause(time: Duration, stop: &Stop) {
    tokio::select! {
        () = stop.requested() => {}
        () = tokio::time::sleep(time) => {}
    }
}

/// One batch: handled while its visibility is extended, and what was not returned is deleted.
async fn batch(service: &Service, polled: &Polled, lease: &Arc<Lease>, records: Vec<ReceivedRecord>, stop: &Stop) {
    let visibility = polled.inbox.visibility_timeout();
    let interval = visibility / EXTENSIONS_PER_TIMEOUT;
    let deadline = Deadline::after(BATCH_LIMIT).or_stop(stop);
    lease.hold(records.clone()).await;
    let handling = service.records(records.clone(), &**lease, &deadline);
    let returned = heartbeat::during(Some(interval), |_| lease.extend(visibility, interval), handling).await;
    lease.hold(Vec::new()).await;
    let is_done = |record: &ReceivedRecord| !returned.contains(&record.message_id);
    let done: Vec<ReceivedRecord> = records.into_iter().filter(is_done).collect();
    polled.inbox.acknowledge(&done).await;
}
