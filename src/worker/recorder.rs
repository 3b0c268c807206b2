//! Topic and queue in memory, for simulations and the command line: what would be sent goes in, and comes out as a
//! list, in order.
//!
//! Both take a plan of faults, as [`crate::storage::memory`] does, and like the real ones they drop a duplicate.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::dead_letter::DeadLetter;
use super::publish::{self, Attempt, Publisher, deduplication_id};
use super::queue::{self, Queue, ReceivedRecord};
use crate::event::Event;
use crate::storage::memory::Fault;

/// An event that reached the topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The event.
    pub event: Event,
    /// The attempt that published it.
    pub attempt: Attempt,
    /// Its deduplication id.
    pub deduplication_id: String,
}

type PublishPlan = dyn Fn(u64, &Event) -> Fault + Send + Sync;

/// A topic in memory.
pub struct Recorder {
    state: Mutex<Topic>,
    plan: Box<PublishPlan>,
}

#[derive(Default)]
struct Topic {
    next_sequence: u64,
    published: Vec<Published>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// A topic that takes everything.
    #[must_use]
    pub fn new() -> Self {
        Self::with_faults(|_, _| Fault::Proceed)
    }

    /// A topic whose plan decides over each publication by its number, from 0, and its event.
    #[must_use]
    pub fn with_faults(plan: impl Fn(u64, &Event) -> Fault + Send + Sync + 'static) -> Self {
        Self { state: Mutex::default(), plan: Box::new(plan) }
    }

    /// Everything that reached the topic, duplicates included, in order.
    #[must_use]
    pub fn published(&self) -> Vec<Published> {
        self.state().published.clone()
    }

    /// The events that a FIFO topic hands on: of those with one deduplication id, the first.
    #[must_use]
    pub fn delivered(&self) -> Vec<Event> {
        let mut seen = std::collections::HashSet::new();
        let published = self.published().into_iter();
        published.filter(|one| seen.insert(one.deduplication_id.clone())).map(|one| one.event).collect()
    }

    fn state(&self) -> MutexGuard<'_, Topic> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        let mut state = self.state();
        state.next_sequence += 1;
        state.next_sequence - 1
    }
}

#[async_trait]
impl Publisher for Recorder {
    async fn publish(&self, event: &Event, attempt: &Attempt, sequence: u64) -> Result<(), publish::Error> {
        let fault = (self.plan)(self.number(), event);
        if takes_effect(fault) {
            let deduplication_id = deduplication_id(event, attempt, sequence);
            let published = Published { event: event.clone(), attempt: attempt.clone(), deduplication_id };
            self.state().published.push(published);
        }
        match answer(fault).await {
            Ok(()) => Ok(()),
            Err(transient) => Err(publish::Error::new(event, "recorder", transient, format!("scripted {fault:?}"))),
        }
    }
}

/// What the worker asked of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueCall {
    /// These messages become visible after this time.
    ChangeVisibility {
        /// The messages, in the order given.
        message_ids: Vec<String>,
        /// The time from now.
        timeout: Duration,
    },
    /// This record goes to the dead-letter queue.
    DeadLetter {
        /// The record.
        record: Box<ReceivedRecord>,
        /// The reason as given.
        reason: String,
    },
}

type QueuePlan = dyn Fn(u64, &QueueCall) -> Fault + Send + Sync;

/// A queue in memory.
pub struct QueueRecorder {
    state: Mutex<Calls>,
    plan: Box<QueuePlan>,
    has_dead_letter_queue: bool,
}

#[derive(Default)]
struct Calls {
    next_sequence: u64,
    effective: Vec<QueueCall>,
}

impl QueueRecorder {
    /// A queue that does everything, with or without a dead-letter queue.
    #[must_use]
    pub fn new(has_dead_letter_queue: bool) -> Self {
        Self::with_faults(has_dead_letter_queue, |_, _| Fault::Proceed)
    }

    /// A queue whose plan decides over each call by its number, from 0.
    #[must_use]
    pub fn with_faults(
        has_dead_letter_queue: bool,
        plan: impl Fn(u64, &QueueCall) -> Fault + Send + Sync + 'static,
    ) -> Self {
        Self { state: Mutex::default(), plan: Box::new(plan), has_dead_letter_queue }
    }

    /// Everything that took effect, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<QueueCall> {
        self.state().effective.clone()
    }

    /// The records in the dead-letter queue with their reasons: of one record's letters, the first.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<(ReceivedRecord, String)> {
        let mut seen = std::collections::HashSet::new();
        let letters = self.calls().into_iter().filter_map(|call| match call {
            QueueCall::DeadLetter { record, reason } => Some((*record, reason)),
            QueueCall::ChangeVisibility { .. } => None,
        });
        letters.filter(|(record, reason)| seen.insert(DeadLetter::new(record, reason).dedup_id)).collect()
    }

    /// The changes of visibility: message ids and time.
    #[must_use]
    pub fn visibility_changes(&self) -> Vec<(Vec<String>, Duration)> {
        let changes = self.calls().into_iter().filter_map(|call| match call {
            QueueCall::ChangeVisibility { message_ids, timeout } => Some((message_ids, timeout)),
            QueueCall::DeadLetter { .. } => None,
        });
        changes.collect()
    }

    fn state(&self) -> MutexGuard<'_, Calls> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        let mut state = self.state();
        state.next_sequence += 1;
        state.next_sequence - 1
    }

    async fn pass(&self, operation: &'static str, ids: Vec<String>, call: QueueCall) -> Result<(), queue::Error> {
        let fault = (self.plan)(self.number(), &call);
        if takes_effect(fault) {
            self.state().effective.push(call);
        }
        match answer(fault).await {
            Ok(()) => Ok(()),
            Err(transient) => Err(queue::Error::new(operation, ids, transient, format!("scripted {fault:?}"))),
        }
    }
}

#[async_trait]
impl Queue for QueueRecorder {
    async fn change_visibility(&self, records: &[ReceivedRecord], timeout: Duration) -> Result<(), queue::Error> {
        let message_ids: Vec<_> = records.iter().map(|record| record.message_id.clone()).collect();
        let call = QueueCall::ChangeVisibility { message_ids: message_ids.clone(), timeout };
        self.pass("visibility change", message_ids, call).await
    }

    async fn dead_letter(&self, record: &ReceivedRecord, reason: &str) -> Result<(), queue::Error> {
        let message_id = record.message_id.clone();
        if !self.has_dead_letter_queue {
            return Err(queue::Error::NoDeadLetterQueue { message_id });
        }
        let call = QueueCall::DeadLetter { record: Box::new(record.clone()), reason: reason.to_owned() };
        self.pass("dead-lettering", vec![message_id], call).await
    }

    fn has_dead_letter_queue(&self) -> bool {
        self.has_dead_letter_queue
    }
}

fn takes_effect(fault: Fault) -> bool {
    match fault {
        Fault::Proceed | Fault::LoseAnswer | Fault::HangAfter => true,
        Fault::FailBefore | Fault::Hang | Fault::Refuse | Fault::Conflict => false,
    }
}

/// The answer to a request with this fault: an error says whether it is transient.
async fn answer(fault: Fault) -> Result<(), bool> {
    match fault {
        Fault::Proceed => Ok(()),
        Fault::FailBefore | Fault::LoseAnswer | Fault::Conflict => Err(true),
        Fault::Refuse => Err(false),
        Fault::Hang | Fault::HangAfter => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ErrorCode;
    use crate::ids::{MetricCode, RunId};

    #[tokio::test]
    async fn an_event_whose_answer_was_lost_is_delivered_once() {
        let recorder = Recorder::with_faults(|number, _| match number {
            0 => Fault::FailBefore,
            1 => Fault::LoseAnswer,
            2 => Fault::Refuse,
            _ => Fault::Proceed,
        });
        let (run_id, metric_code) = (RunId::parse("r").unwrap(), MetricCode::parse("m").unwrap());
        let event = Event::failure(run_id, metric_code, ErrorCode::InternalError, "x".to_owned());
        let attempt = Attempt { message_id: "m".to_owned(), receive_count: 1 };
        let mut answers = Vec::new();
        for _ in 0..4 {
            answers.push(recorder.publish(&event, &attempt, 0).await.map_err(|error| error.is_transient()));
        }
        assert_eq!(answers, [Err(true), Err(true), Err(false), Ok(())]);
        assert_eq!(recorder.published().len(), 2);
        assert_eq!(recorder.delivered(), [event]);
    }

    #[tokio::test]
    async fn a_record_is_one_dead_letter_however_often_it_is_sent() {
        let queue =
            QueueRecorder::with_faults(true, |number, _| if number == 0 { Fault::LoseAnswer } else { Fault::Proceed });
        let record = ReceivedRecord { message_id: "m".to_owned(), ..ReceivedRecord::default() };
        assert!(queue.dead_letter(&record, "why").await.unwrap_err().is_transient());
        queue.dead_letter(&record, "why").await.unwrap();
        queue.change_visibility(std::slice::from_ref(&record), Duration::from_secs(3)).await.unwrap();
        assert_eq!(queue.dead_letters(), [(record.clone(), "why".to_owned())]);
        assert_eq!(queue.visibility_changes(), [(vec!["m".to_owned()], Duration::from_secs(3))]);
        assert!(QueueRecorder::new(false).dead_letter(&record, "why").await.is_err());
    }
}
