//! The lab: a world with its inputs, workers that live and die in it, and the queue's part: what is not acknowledged
//! comes back, what came back too often is moved to the dead-letter queue, and a dead letter may be redriven.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use metrics_engine::config::Config;
use metrics_engine::event::{Event, Outcome};
use metrics_engine::keys::Key;
use metrics_engine::storage::memory::Fault;
use metrics_engine::worker::batch;
use metrics_engine::worker::computing::Computing;
use metrics_engine::worker::deadline::Deadline;

use crate::judge::{self, Generations};
use crate::wire::{self, Life, Point, Shared, Trouble};
use crate::world::{self, Record};

/// The receive after which the queue gives up.
pub(crate) const LAST_RECEIVE: u32 = 5;

/// How many kinds of inputs there are.
pub(crate) const GENERATIONS: usize = 3;

fn inputs(generation: usize) -> &'static [(Key, Bytes)] {
    static INPUTS: OnceLock<Vec<Vec<(Key, Bytes)>>> = OnceLock::new();
    let all = INPUTS.get_or_init(|| (0..3).map(world::small_dataset).collect());
    &all[generation % GENERATIONS]
}

/// What became of a life.
pub(crate) struct Lived {
    pub(crate) life: Arc<Life>,
    /// The messages that went back; nothing where the worker died.
    pub(crate) returned: Option<Vec<String>>,
}

pub(crate) struct Lab {
    pub(crate) shared: Arc<Shared>,
    config: Config,
    lives: std::sync::atomic::AtomicUsize,
    /// Runs whose failure something justified: the messages that met a refusal or their last receive.
    justified: std::sync::Mutex<std::collections::BTreeSet<String>>,
}

impl Lab {
    pub(crate) fn new(latency_ms: u64) -> Self {
        Self::with(latency_ms, wire::PART_SIZE_BYTES, |_| ())
    }

    /// A lab whose workers read a row or two at a time, and send their results while they compute.
    pub(crate) fn in_slices(latency_ms: u64) -> Self {
        Self::with(latency_ms, wire::SMALL_PART_SIZE_BYTES, |config| config.slice_observations = 2)
    }

    fn with(latency_ms: u64, part_size_bytes: usize, configure: impl FnOnce(&mut Config)) -> Self {
        let shared = Arc::new(Shared::new(latency_ms, part_size_bytes));
        let mut config = world::config(&[("WORKER_HEARTBEAT_INTERVAL_SECONDS", "30")]);
        // On threads, two records that run in step would end their computations in an order of their own.
        config.computing = Computing::InPlace;
        configure(&mut config);
        let lab = Self { shared, config, lives: 0.into(), justified: std::sync::Mutex::default() };
        lab.change_inputs(0);
        lab
    }

    pub(crate) fn change_inputs(&self, generation: usize) {
        for (key, bytes) in inputs(generation) {
            if self.shared.storage.peek(key).as_ref() != Some(bytes) {
                self.shared.storage.insert(key, bytes.clone());
            }
        }
    }

    /// A worker gets a batch, with its own clock, a time limit, and a script of troubles.
    pub(crate) async fn live(
        &self,
        records: &[Record],
        skew_seconds: i64,
        limit: Duration,
        script: impl Fn(&Point) -> Trouble + Send + Sync + 'static,
    ) -> Lived {
        let number = self.lives.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let life = Life::new(&self.shared, format!("life {number}"), script);
        let shared = Arc::clone(&self.shared);
        let now = move || {
            let seconds = i64::try_from(shared.elapsed_ms() / 1_000).unwrap();
            jiff::Timestamp::from_second(world::START_SECONDS + seconds + skew_seconds).unwrap()
        };
        let ports = metrics_engine::worker::Ports {
            storage: Arc::new(wire::Ports(Arc::clone(&life))),
            publisher: Arc::new(wire::Ports(Arc::clone(&life))),
            queue: Arc::new(wire::Ports(Arc::clone(&life))),
            clock: Arc::new(now),
        };
        let start = self.shared.elapsed_ms();
        let handled = batch::handle(world::event(records), &ports, &self.config, Deadline::after(limit));
        let returned = tokio::select! {
            biased;
            () = life.died() => None,
            response = Box::pin(handled) => Some(world::failed(&response)),
        };
        let took_ms = self.shared.elapsed_ms() - start;
        if returned.is_some() && u128::from(took_ms) + 250 > limit.as_millis().max(250) {
            self.shared.wrong(&format!("an answer after {took_ms} ms, the limit is {limit:?}"));
        }
        life.close(&returned.as_ref().map_or_else(|| "died".to_owned(), |ids| format!("returns {ids:?}")));
        let forgotten = life.forgotten_uploads();
        if returned.is_some() && limit >= LIMIT && !forgotten.is_empty() {
            self.shared.wrong(&format!("an answer, and these uploads stay open: {forgotten:?}"));
        }
        let lived = Lived { life, returned };
        self.judge_answer(records, &lived, limit);
        lived
    }

    /// Nothing is acknowledged that is not finished, and without trouble everything is.
    fn judge_answer(&self, records: &[Record], lived: &Lived, limit: Duration) {
        let mut justified = self.justified.lock().unwrap();
        for record in records {
            if record.receive_count >= LAST_RECEIVE || lived.life.met(Trouble::Fault(Fault::Refuse)) {
                justified.insert(record.message_id.clone());
            }
        }
        let Some(returned) = &lived.returned else { return };
        for record in records.iter().filter(|record| !returned.contains(&record.message_id)) {
            let is_completed = self.shared.publisher.published().iter().any(|one| {
                one.event.type_name() == "metric_run_completed"
                    && (&one.attempt.message_id, one.attempt.receive_count)
                        == (&record.message_id, record.receive_count)
            });
            let is_dead = self.is_dead_letter(&record.message_id);
            if !is_completed && !is_dead {
                self.shared.wrong(&format!("{} was acknowledged and is not finished", record.message_id));
            }
        }
        if !returned.is_empty() && !lived.life.was_troubled() && limit >= LIMIT {
            self.shared.wrong(&format!("{returned:?} went back without a reason"));
        }
    }

    pub(crate) fn is_dead_letter(&self, message_id: &str) -> bool {
        self.shared.queue.dead_letters().iter().any(|(record, _)| record.message_id == message_id)
    }

    /// Whether the run has its SUCCESS on the topic.
    pub(crate) fn has_succeeded(&self, run_id: &str) -> bool {
        self.shared.publisher.published().iter().any(|one| {
            let is_success = matches!(&one.event, Event::MetricRunCompleted { outcome: Outcome::Success { .. }, .. });
            is_success && one.event.run_id().as_str() == run_id
        })
    }

    /// Everything is done: no wrong was seen, every failure had a reason, and the store holds what it should.
    pub(crate) fn finish(&self, runs: &[(String, String)]) -> Result<(), String> {
        let wrongs = self.shared.wrongs.lock().unwrap().clone();
        if !wrongs.is_empty() {
            return Err(wrongs.join("\n"));
        }
        let justified = self.justified.lock().unwrap();
        for one in self.shared.publisher.published() {
            let is_failure = matches!(&one.event, Event::MetricRunCompleted { outcome: Outcome::Failure { .. }, .. });
            if is_failure && !justified.contains(&one.attempt.message_id) {
                return Err(format!("a failure without a reason: {:?}", one.event));
            }
        }
        if let Some((run_id, _)) = runs.iter().find(|(run_id, _)| !self.has_succeeded(run_id)) {
            return Err(format!("no SUCCESS of {run_id}"));
        }
        judge::all_is_done(&self.shared, runs, generations())
    }

    /// What a failed test prints.
    pub(crate) fn story(&self) -> String {
        self.shared.trace.lock().unwrap().join("\n")
    }
}

/// The outputs of undisturbed runs.
pub(crate) fn generations() -> &'static Generations {
    static OUTPUTS: OnceLock<Generations> = OnceLock::new();
    OUTPUTS.get_or_init(|| std::thread::spawn(|| (0..GENERATIONS).map(undisturbed).collect()).join().unwrap())
}

fn undisturbed(generation: usize) -> BTreeMap<String, Bytes> {
    in_virtual_time(async move {
        let lab = Lab::new(1);
        lab.change_inputs(generation);
        let lived = lab.live(&[world::record("m", "g", &world::request("r", "m"))], 0, LIMIT, wire::calm).await;
        assert_eq!(lived.returned, Some(Vec::new()), "{}", lab.story());
        let objects = lab.shared.storage.snapshot().into_iter();
        let data = objects.filter(|(key, _)| key.starts_with("metrics/") && key.contains("/data/"));
        data.map(|(key, bytes)| (key.rsplit('/').next().unwrap().to_owned(), bytes)).collect()
    })
}

/// More than any undisturbed life takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// Runs the future to its end, on a clock that only moves when everything waits.
pub(crate) fn in_virtual_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}
