//! The records in hand: what is being worked on stays invisible to others, what was given back does not.
//!
//! The handler gives records back through the same queue as ever, with a visibility of its choice. From then on they
//! are not extended any more, although other records of their batch are still worked on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::worker::queue::{Error, Queue, ReceivedRecord};

/// A queue with the records that this process holds.
pub struct Lease {
    queue: Arc<dyn Queue>,
    /// Locked also while a request is under way: an extension never overtakes a record that goes back.
    held: Mutex<Vec<ReceivedRecord>>,
}

impl Lease {
    /// Holds nothing.
    #[must_use]
    pub fn new(queue: Arc<dyn Queue>) -> Self {
        Self { queue, held: Mutex::default() }
    }

    /// Holds these records, and no others.
    pub async fn hold(&self, records: Vec<ReceivedRecord>) {
        *self.held.lock().await = records;
    }

    /// Keeps the records that are held invisible for so long from now. A failure is logged: the next extension comes
    /// before the time is up.
    pub async fn extend(&self, visibility: Duration, at_most: Duration) {
        let held = self.held.lock().await;
        if held.is_empty() {
            return;
        }
        match tokio::time::timeout(at_most, self.queue.change_visibility(&held, visibility)).await {
            Ok(Ok(())) => tracing::debug!(records = held.len(), "visibility extended"),
            Ok(Err(error)) => tracing::warn!(%error, "visibility could not be extended"),
            Err(_) => tracing::warn!(records = held.len(), "extending the visibility took too long"),
        }
    }
}

#[async_trait]
impl Queue for Lease {
    async fn change_visibility(&self, records: &[ReceivedRecord], timeout: Duration) -> Result<(), Error> {
        let mut held = self.held.lock().await;
        held.retain(|one| records.iter().all(|record| record.receipt_handle != one.receipt_handle));
        self.queue.change_visibility(records, timeout).await
    }

    async fn dead_letter(&self, record: &ReceivedRecord, reason: &str) -> Result<(), Error> {
        self.queue.dead_letter(record, reason).await
    }

    fn has_dead_letter_queue(&self) -> bool {
        self.queue.has_dead_letter_queue()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::recorder::QueueRecorder;

    fn record(message_id: &str) -> ReceivedRecord {
        let receipt_handle = format!("handle of {message_id}");
        ReceivedRecord { message_id: message_id.to_owned(), receipt_handle, ..ReceivedRecord::default() }
    }

    #[tokio::test]
    async fn what_was_given_back_is_not_extended() {
        const SECOND: Duration = Duration::from_secs(1);
        let queue = Arc::new(QueueRecorder::new(true));
        let lease = Lease::new(queue.clone());
        lease.hold(vec![record("a"), record("b")]).await;
        lease.extend(SECOND * 30, SECOND).await;
        lease.change_visibility(&[record("a")], SECOND * 4).await.unwrap();
        lease.extend(SECOND * 30, SECOND).await;
        lease.hold(Vec::new()).await;
        lease.extend(SECOND * 30, SECOND).await;
        let changes: Vec<_> = queue.visibility_changes();
        let expected = [(vec!["a", "b"], 30), (vec!["a"], 4), (vec!["b"], 30)];
        let expected = expected.map(|(ids, seconds)| (ids.into_iter().map(str::to_owned).collect(), SECOND * seconds));
        assert_eq!(changes, expected);
    }
}
