//! Laws of a batch: whatever comes in, the queue's poller deletes what is finished, keeps what is not, and never sees a
//! group out of order.
//!
//! The answer is judged by `batch_laws/poller.rs`, which reads it as the documentation of the event source mapping says,
//! together with what really reached the topic and the dead-letter queue. `SOAK_BATCHES=1000000` takes more batches.

#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where its world fails")]

#[path = "batch_laws/poller.rs"]
mod poller;
#[path = "batch_laws/records.rs"]
mod records;
#[path = "support/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Once, OnceLock};

use aws_lambda_events::sqs::SqsEvent;
use metrics_engine::config::Config;
use metrics_engine::event::Event;
use metrics_engine::storage::memory::{Call, Fault, MemoryStorage};
use metrics_engine::worker::deadline::Deadline;
use metrics_engine::worker::recorder::{QueueCall, QueueRecorder, Recorder};
use metrics_engine::worker::{Ports, batch};
use poller::Verdict;
use proptest::test_runner::{Config as Cases, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use records::{Batch, DeadLetters, FINISHED, Kind, Spec};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// How many batches are tried where nobody asks for more.
const BATCHES: u32 = 10_000;

/// What a scripted panic says, so that only others are printed.
const SCRIPTED: &str = "scripted panic";

#[expect(clippy::disallowed_methods, reason = "a longer search is asked for from outside of the test")]
fn batch_count() -> u32 {
    std::env::var("SOAK_BATCHES").map_or(BATCHES, |text| text.parse().unwrap())
}

fn ports(storage: MemoryStorage, publisher: &Arc<Recorder>, queue: &Arc<QueueRecorder>) -> Ports {
    Ports {
        storage: Arc::new(storage),
        publisher: publisher.clone(),
        queue: queue.clone(),
        clock: Arc::new(|| jiff::Timestamp::from_second(world::START_SECONDS).unwrap()),
    }
}

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| world::config(&[]))
}

/// A store with a dataset and some finished runs.
fn furnished(runtime: &Runtime) -> MemoryStorage {
    let storage = MemoryStorage::new();
    world::small_dataset(0).into_iter().for_each(|(key, bytes)| storage.insert(&key, bytes));
    let storage = Arc::new(storage);
    let done: Vec<world::Record> = (0..FINISHED)
        .map(|run| world::record(&format!("{run}"), "g", &world::request(&format!("finished{run}"), "done")))
        .collect();
    let mut ports = ports(MemoryStorage::new(), &Arc::default(), &Arc::new(QueueRecorder::new(true)));
    ports.storage = storage.clone();
    let answer = runtime.block_on(batch::handle(world::event(&done), &ports, config(), Deadline::unknown()));
    assert!(world::failed(&answer).is_empty());
    storage.restarted(|_: &Call| Fault::Proceed)
}

fn haunted(call: &Call) -> Fault {
    assert!(!call.key.starts_with("metrics/panic/"), "{SCRIPTED}");
    if call.key.starts_with("metrics/broken/") { Fault::FailBefore } else { Fault::Proceed }
}

/// What a batch left behind.
struct Outcome {
    batch: Batch,
    answer: String,
    /// Message, run and type of each event on the topic.
    events: Vec<(String, String, &'static str)>,
    calls: Vec<QueueCall>,
}

fn handle(batch: &Batch, storage: &MemoryStorage, runtime: &Runtime) -> Outcome {
    let publisher = Arc::new(Recorder::with_faults(|_, event: &Event| {
        let is_mute = event.metric_code().as_str() == "mute" && event.type_name() == "metric_run_completed";
        if is_mute { Fault::FailBefore } else { Fault::Proceed }
    }));
    let (dead_letters, visibility_fails) = (batch.dead_letters, batch.visibility_fails);
    let plan = move |_, call: &QueueCall| match call {
        QueueCall::DeadLetter { .. } if dead_letters == DeadLetters::Failing => Fault::FailBefore,
        QueueCall::ChangeVisibility { .. } if visibility_fails => Fault::FailBefore,
        _ => Fault::Proceed,
    };
    let queue = Arc::new(QueueRecorder::with_faults(dead_letters != DeadLetters::Missing, plan));
    let ports = ports(storage.restarted(haunted), &publisher, &queue);
    let event: SqsEvent = serde_json::from_value(batch.event()).unwrap();
    let answer = runtime.block_on(batch::handle(event, &ports, config(), Deadline::unknown()));
    let events = publisher
        .published()
        .into_iter()
        .map(|one| (one.attempt.message_id.clone(), one.event.run_id().to_string(), one.event.type_name()));
    let (batch, calls) = (batch.clone(), queue.calls());
    Outcome { batch, answer: serde_json::to_string(&answer).unwrap(), events: events.collect(), calls }
}

impl Outcome {
    fn spec(&self, index: usize) -> &Spec {
        &self.batch.records[index]
    }

    fn is_completed(&self, index: usize) -> bool {
        let (message_id, run_id) = (self.spec(index).message_id(), self.spec(index).run_id(index));
        self.events.iter().any(|(message, run, kind)| {
            *kind == "metric_run_completed" && Some(message) == message_id.as_ref() && Some(run) == run_id.as_ref()
        })
    }

    fn is_dead_letter(&self, index: usize) -> bool {
        self.calls.iter().any(|call| match call {
            QueueCall::DeadLetter { record, .. } => record.receipt_handle == format!("handle {index}"),
            QueueCall::ChangeVisibility { .. } => false,
        })
    }

    /// Whether all that the contract asks for has happened to the record.
    fn is_finished(&self, index: usize) -> bool {
        match self.spec(index).kind {
            Kind::Poison(_) | Kind::Conflict(_) => self.is_dead_letter(index),
            Kind::Broken | Kind::Panicking => self.is_completed(index) && self.is_dead_letter(index),
            Kind::Fresh | Kind::Finished(_) | Kind::Invalid | Kind::NoInput | Kind::Mute => self.is_completed(index),
        }
    }

    /// Whether its failure holds up nobody: there is no run, or none that is still to be done.
    fn stands_alone(&self, index: usize) -> bool {
        match self.spec(index).kind {
            Kind::Poison(_) | Kind::Conflict(_) => true,
            Kind::Broken | Kind::Panicking => self.spec(index).is_last_receive(),
            _ => false,
        }
    }

    /// Whether nothing but an earlier record of its group can keep the record from being finished.
    fn must_finish(&self, index: usize) -> bool {
        let can_bury = self.batch.dead_letters == DeadLetters::Taken;
        match self.spec(index).kind {
            Kind::Fresh | Kind::Finished(_) | Kind::Invalid | Kind::NoInput => true,
            Kind::Poison(_) | Kind::Conflict(_) => can_bury,
            Kind::Broken | Kind::Panicking => can_bury && self.spec(index).is_last_receive(),
            Kind::Mute => false,
        }
    }

    fn judge(&self) -> Result<(), String> {
        let keys: Value = serde_json::from_str(&self.answer).unwrap();
        if keys.as_object().is_none_or(|fields| fields.keys().ne(["batchItemFailures"])) {
            return Err("the answer has other fields".to_owned());
        }
        let returned = match poller::verdict(&self.batch.message_ids(), &self.answer) {
            Verdict::Returned(returned) => returned,
            Verdict::AllReturned if self.batch.records.iter().any(|spec| spec.message_id.is_none()) => {
                self.batch.message_ids()
            }
            Verdict::AllReturned => return Err("the whole batch fails without a reason".to_owned()),
        };
        if self.batch.records.iter().any(|spec| spec.message_id.is_none()) && returned != self.batch.message_ids() {
            return Err("a record that cannot be named is deleted".to_owned());
        }
        let all = self.batch.records.iter().all(|spec| spec.message_id.is_some());
        for group in self.batch.groups() {
            self.judge_group(&group, &returned, all)?;
        }
        Ok(())
    }

    fn judge_group(&self, group: &[usize], returned: &BTreeSet<String>, names_count: bool) -> Result<(), String> {
        let mut is_held_up = false;
        let mut tail = Vec::new();
        for index in group {
            let id = self.spec(*index).message_id().unwrap();
            let came_twice = self.batch.records.iter().filter(|spec| spec.message_id() == Some(id.clone())).count() > 1;
            let (is_finished, is_returned) = (self.is_finished(*index), returned.contains(&id));
            if is_held_up {
                tail.push(id.clone());
                if !is_returned {
                    return Err(format!("{id} is deleted, an earlier record of its group is not finished"));
                }
                let is_touched = self.is_dead_letter(*index) || (is_finished && !came_twice);
                if is_touched {
                    return Err(format!("{id} was worked on, an earlier record of its group is not finished"));
                }
                continue;
            }
            if !is_finished && !is_returned {
                return Err(format!("{id} is deleted and not finished"));
            }
            if is_finished && is_returned && names_count && !came_twice {
                return Err(format!("{id} is returned and finished"));
            }
            if !is_finished && self.must_finish(*index) {
                return Err(format!("{id} could have been finished"));
            }
            if !is_finished && !self.stands_alone(*index) {
                is_held_up = true;
                tail.push(id);
            }
        }
        self.judge_visibility(&tail)?;
        self.judge_order(group)
    }

    /// The records that go back because of one of their group get one new visibility, all together.
    fn judge_visibility(&self, tail: &[String]) -> Result<(), String> {
        let is_changed = self.calls.iter().any(|call| match call {
            QueueCall::ChangeVisibility { message_ids, .. } => message_ids == tail,
            QueueCall::DeadLetter { .. } => false,
        });
        match tail.is_empty() || is_changed || self.batch.visibility_fails {
            true => Ok(()),
            false => Err(format!("{tail:?} go back without a new visibility")),
        }
    }

    /// Every event of a record comes before any of a later one of its group.
    fn judge_order(&self, group: &[usize]) -> Result<(), String> {
        let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
        for (place, index) in group.iter().enumerate() {
            let (message_id, run_id) = (self.spec(*index).message_id(), self.spec(*index).run_id(*index));
            // Where a message came twice its events cannot be told apart.
            let is_unique = self.batch.records.iter().filter(|spec| spec.message_id() == message_id).count() == 1;
            if let (Some(message_id), Some(run_id), true) = (message_id, run_id, is_unique) {
                places.insert((message_id, run_id), place);
            }
        }
        let events = self.events.iter();
        let order: Vec<usize> =
            events.filter_map(|(message, run, _)| places.get(&(message.clone(), run.clone())).copied()).collect();
        match order.is_sorted() {
            true => Ok(()),
            false => Err(format!("the events of a group are out of order: {order:?}")),
        }
    }
}

/// A panic that belongs to a script is not printed.
fn hush_scripted_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload_as_str() != Some(SCRIPTED) {
                print(panic);
            }
        }));
    });
}

#[test]
fn the_answer_to_any_batch_is_read_as_it_is_meant() {
    hush_scripted_panics();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let storage = furnished(&runtime);
    let cases = Cases { cases: batch_count(), failure_persistence: None, max_shrink_iters: 2_000, ..Cases::default() };
    let mut runner = TestRunner::new_with_rng(cases, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let totals = std::cell::RefCell::new([0_usize; 4]);
    let judged = runner.run(&records::batch(), |batch| {
        let outcome = handle(&batch, &storage, &runtime);
        let mut totals = totals.borrow_mut();
        let finished = (0..batch.records.len()).filter(|index| outcome.is_finished(*index)).count();
        totals[0] += 1;
        totals[1] += batch.records.len();
        totals[2] += finished;
        totals[3] += outcome.calls.len();
        if totals[0] % 100_000 == 0 {
            eprintln!("{} batches", totals[0]);
        }
        outcome.judge().map_err(|wrong| TestCaseError::fail(format!("{wrong}\nanswer: {}", outcome.answer)))
    });
    judged.unwrap_or_else(|failure| panic!("{failure}"));
    let [batches, records, finished, calls] = *totals.borrow();
    println!(
        "{batches} batches of {records} records: {finished} finished, {} not, {calls} calls of the queue",
        records - finished
    );
    assert!(finished * 3 > records && finished * 10 < records * 9, "the batches are all alike");
}
