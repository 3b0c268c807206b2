//! The wire between one life of a worker and the world: every request to store, topic and queue gets a number, takes
//! virtual time, and meets the trouble that a script has for it.
//!
//! The effects themselves are those of the library's own store, topic and queue in memory. Requests wake up one at a
//! time, so that a schedule is the same whenever it is run.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use metrics_engine::event::{Event, Outcome};
use metrics_engine::keys::{Key, Prefix};
use metrics_engine::storage::memory::{Fault, MemoryStorage};
use metrics_engine::storage::{self, ByteRange, ETag, Object, ObjectMeta, ObjectStorage, Part, PutCondition, Upload};
use metrics_engine::worker::publish::{self, Attempt, Publisher};
use metrics_engine::worker::queue::{self, Queue, ReceivedRecord};
use metrics_engine::worker::recorder::{QueueRecorder, Recorder};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::judge;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Trouble {
    /// What the library's fakes know.
    Fault(Fault),
    /// The worker dies before the request takes effect.
    CrashBefore,
    /// The worker dies when it has taken effect.
    CrashAfter,
}

pub(crate) const NONE: Trouble = Trouble::Fault(Fault::Proceed);

/// Every trouble, the one of nothing at all not included.
pub(crate) const TROUBLES: [Trouble; 8] = [
    Trouble::Fault(Fault::FailBefore),
    Trouble::Fault(Fault::LoseAnswer),
    Trouble::Fault(Fault::Hang),
    Trouble::Fault(Fault::HangAfter),
    Trouble::Fault(Fault::Conflict),
    Trouble::Fault(Fault::Refuse),
    Trouble::CrashBefore,
    Trouble::CrashAfter,
];

/// A request of a life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    /// Its number: the life's first request is 0, whatever it asks for.
    pub(crate) number: usize,
    /// `get`, `list`, `put`, `begin`, `part`, `complete`, `abort`, `publish`, `visibility` or `dead letter`.
    pub(crate) operation: &'static str,
    /// The key, the event, or the messages.
    pub(crate) target: String,
}

/// A script that answers always the same.
pub(crate) fn calm(_: &Point) -> Trouble {
    NONE
}

/// The objects, the topic and the queue that all lives share, and the order in which things happened.
pub(crate) struct Shared {
    pub(crate) storage: MemoryStorage,
    pub(crate) publisher: Recorder,
    pub(crate) queue: QueueRecorder,
    start: Instant,
    latency_ms: u64,
    wakes: Mutex<BTreeSet<u64>>,
    /// One line for each request when it took effect, and for each answer.
    pub(crate) trace: Mutex<Vec<String>>,
    /// What must not have happened, as it was seen when it happened.
    pub(crate) wrongs: Mutex<Vec<String>>,
    /// How often a worker that could not see the claim published a failure after another one's success.
    pub(crate) excused: Mutex<usize>,
}

/// Two heartbeats of any two attempts never fall on the same millisecond as a request wakes up.
pub(crate) const HEARTBEAT_MS: u64 = 30_000;

/// Of a run's two files the one in Parquet is larger than this, and is uploaded in parts; the other one is put.
pub(crate) const PART_SIZE_BYTES: usize = 300;

/// Both are larger than this, and the other one while it is still being computed.
pub(crate) const SMALL_PART_SIZE_BYTES: usize = 110;

/// So many moments are kept before the oldest no longer matter.
const MOST_WAKES: usize = 15_000;

impl Shared {
    pub(crate) fn new(latency_ms: u64, part_size_bytes: usize) -> Self {
        Self {
            storage: MemoryStorage::new().with_part_size(part_size_bytes),
            publisher: Recorder::new(),
            queue: QueueRecorder::new(true),
            start: Instant::now(),
            latency_ms,
            wakes: Mutex::default(),
            trace: Mutex::default(),
            wrongs: Mutex::default(),
            excused: Mutex::default(),
        }
    }

    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    /// The next free moment after about `delay_ms`.
    pub(crate) async fn wait(&self, delay_ms: u64) {
        let mut at = self.elapsed_ms() + delay_ms.max(1);
        {
            let mut wakes = self.wakes.lock().unwrap();
            if wakes.len() > MOST_WAKES {
                wakes.clear();
            }
            while !wakes.insert(at % HEARTBEAT_MS) {
                at += 1;
            }
        }
        tokio::time::sleep_until(self.start + Duration::from_millis(at)).await;
    }

    pub(crate) fn note(&self, line: &str) {
        let line = format!("{} {line}", self.elapsed_ms());
        self.trace.lock().unwrap().push(line);
    }

    pub(crate) fn wrong(&self, what: &str) {
        let what = format!("{} ms: {what}", self.elapsed_ms());
        self.wrongs.lock().unwrap().push(what);
    }
}

type Script = dyn Fn(&Point) -> Trouble + Send + Sync;

/// One life of a worker: from a batch to its answer, or to its death.
pub(crate) struct Life {
    shared: Arc<Shared>,
    name: String,
    script: Box<Script>,
    state: Mutex<LifeState>,
    death: Notify,
}

#[derive(Default)]
struct LifeState {
    points: Vec<Point>,
    /// The points whose answers arrived.
    arrived: BTreeSet<usize>,
    troubles: BTreeSet<(usize, String)>,
    open_uploads: Vec<Upload>,
    answered: bool,
}

impl Life {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        name: String,
        script: impl Fn(&Point) -> Trouble + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (shared, script) = (Arc::clone(shared), Box::new(script));
        Arc::new(Self { shared, name, script, state: Mutex::default(), death: Notify::new() })
    }

    /// Ends when a script lets the worker die.
    pub(crate) async fn died(&self) {
        self.death.notified().await;
    }

    /// The requests of this life, in order.
    pub(crate) fn points(&self) -> Vec<Point> {
        self.state.lock().unwrap().points.clone()
    }

    /// Whether any request met this trouble.
    pub(crate) fn met(&self, trouble: Trouble) -> bool {
        self.state.lock().unwrap().troubles.iter().any(|(_, name)| *name == format!("{trouble:?}"))
    }

    /// The uploads that this worker began, as it knows, and left open, although nothing kept it from aborting them.
    pub(crate) fn forgotten_uploads(&self) -> Vec<Upload> {
        let state = self.state.lock().unwrap();
        let was_kept = state.troubles.iter().any(|(number, _)| state.points[*number].operation == "abort");
        if was_kept { Vec::new() } else { state.open_uploads.clone() }
    }

    fn ended(&self, upload: &Upload) {
        self.state.lock().unwrap().open_uploads.retain(|open| open != upload);
    }

    /// Whether any request met any trouble.
    pub(crate) fn was_troubled(&self) -> bool {
        !self.state.lock().unwrap().troubles.is_empty()
    }

    /// From here on nothing may happen any more.
    pub(crate) fn close(&self, answer: &str) {
        self.state.lock().unwrap().answered = true;
        self.shared.note(&format!("{} {answer}", self.name));
    }

    /// Whether a look at the run's claim or marker brought no answer: then the worker cannot know how the run stands.
    fn is_blind(&self, run_id: &str) -> bool {
        let state = self.state.lock().unwrap();
        state.points.iter().filter(|point| !state.arrived.contains(&point.number)).any(|look| {
            let name = look.target.rsplit('/').next().unwrap();
            name == format!("{run_id}.claim") || name == format!("{run_id}.ok")
        })
    }

    fn number(&self, operation: &'static str, target: String) -> Point {
        let mut state = self.state.lock().unwrap();
        if state.answered {
            self.shared.wrong(&format!("{} asks for {operation} {target} after its answer", self.name));
        }
        let point = Point { number: state.points.len(), operation, target };
        state.points.push(point.clone());
        point
    }

    async fn die<T: Send>(&self) -> T {
        self.death.notify_one();
        std::future::pending().await
    }

    /// Lets a request through, or not. An error says how it failed.
    async fn pass<T: Send>(
        &self,
        operation: &'static str,
        target: String,
        effect: impl Future<Output = T> + Send,
    ) -> Result<T, Fault> {
        let point = self.number(operation, target);
        let trouble = (self.script)(&point);
        if trouble != NONE {
            self.state.lock().unwrap().troubles.insert((point.number, format!("{trouble:?}")));
        }
        self.shared.wait(self.shared.latency_ms).await;
        let Point { number, target, .. } = point;
        self.shared.note(&format!("{} {number} {operation} {target} {trouble:?}", self.name));
        if self.state.lock().unwrap().answered {
            self.shared.wrong(&format!("{operation} {target} of {} took effect after its answer", self.name));
        }
        match trouble {
            Trouble::CrashBefore => self.die().await,
            Trouble::Fault(Fault::Hang) => std::future::pending().await,
            Trouble::Fault(fault @ (Fault::FailBefore | Fault::Refuse | Fault::Conflict)) => Err(fault),
            Trouble::CrashAfter => {
                effect.await;
                self.die().await
            }
            Trouble::Fault(Fault::HangAfter) => {
                effect.await;
                std::future::pending().await
            }
            Trouble::Fault(fault @ (Fault::Proceed | Fault::LoseAnswer)) => {
                let answer = effect.await;
                self.shared.wait(self.shared.latency_ms).await;
                if fault == Fault::LoseAnswer {
                    return Err(fault);
                }
                self.state.lock().unwrap().arrived.insert(number);
                Ok(answer)
            }
        }
    }
}

/// The three ports of a life.
pub(crate) struct Ports(pub(crate) Arc<Life>);

fn failure(operation: &'static str, key: &str, fault: Fault) -> storage::Error {
    let (key, reason) = (key.to_owned(), format!("scripted {fault:?}"));
    match fault {
        Fault::Refuse => storage::Error::Refused { operation, key, reason },
        Fault::Conflict => storage::Error::Conflict { key },
        _ => storage::Error::Transient { operation, key, reason },
    }
}

#[async_trait]
impl ObjectStorage for Ports {
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, storage::Error> {
        let effect = self.0.shared.storage.get(key, range, if_match);
        let answer = self.0.pass("get", key.to_string(), effect).await;
        answer.unwrap_or_else(|fault| Err(failure("get", key.as_str(), fault)))
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, storage::Error> {
        let effect = self.0.shared.storage.list(prefix);
        let answer = self.0.pass("list", prefix.to_string(), effect).await;
        answer.unwrap_or_else(|fault| Err(failure("list", prefix.as_str(), fault)))
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        content_type: &'static str,
        condition: PutCondition,
    ) -> Result<ETag, storage::Error> {
        let effect = async {
            let answer = self.0.shared.storage.put(key, body, content_type, condition).await;
            if answer.is_ok() {
                judge::put(&self.0.shared, key);
            }
            answer
        };
        let answer = self.0.pass("put", key.to_string(), effect).await;
        answer.unwrap_or_else(|fault| Err(failure("put", key.as_str(), fault)))
    }

    async fn begin_upload(&self, key: &Key, content_type: &'static str) -> Result<Upload, storage::Error> {
        let effect = self.0.shared.storage.begin_upload(key, content_type);
        let answer = self.0.pass("begin", key.to_string(), effect).await;
        let answer = answer.unwrap_or_else(|fault| Err(failure("begin", key.as_str(), fault)));
        self.0.state.lock().unwrap().open_uploads.extend(answer.iter().cloned());
        answer
    }

    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, storage::Error> {
        let effect = self.0.shared.storage.upload_part(upload, number, body);
        let answer = self.0.pass("part", upload.key.to_string(), effect).await;
        answer.unwrap_or_else(|fault| Err(failure("part", upload.key.as_str(), fault)))
    }

    async fn complete_upload(
        &self,
        upload: &Upload,
        parts: &[Part],
        condition: PutCondition,
    ) -> Result<ETag, storage::Error> {
        let effect = async {
            let answer = self.0.shared.storage.complete_upload(upload, parts, condition).await;
            if answer.is_ok() {
                self.0.ended(upload);
                judge::put(&self.0.shared, &upload.key);
            }
            answer
        };
        let answer = self.0.pass("complete", upload.key.to_string(), effect).await;
        answer.unwrap_or_else(|fault| Err(failure("complete", upload.key.as_str(), fault)))
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), storage::Error> {
        let effect = async {
            self.0.ended(upload);
            self.0.shared.storage.abort_upload(upload).await
        };
        let answer = self.0.pass("abort", upload.key.to_string(), effect).await;
        answer.unwrap_or_else(|fault| Err(failure("abort", upload.key.as_str(), fault)))
    }

    fn part_size_bytes(&self) -> usize {
        self.0.shared.storage.part_size_bytes()
    }
}

#[async_trait]
impl Publisher for Ports {
    async fn publish(&self, event: &Event, attempt: &Attempt, sequence: u64) -> Result<(), publish::Error> {
        let (type_name, run_id) = (event.type_name(), event.run_id().to_string());
        let status = match event {
            Event::MetricRunCompleted { outcome: Outcome::Success { .. }, .. } => " SUCCESS",
            Event::MetricRunCompleted { outcome: Outcome::Failure { .. }, .. } => " FAILURE",
            _ => "",
        };
        let effect = async {
            judge::publication(&self.0.shared, event, attempt, self.0.is_blind(&run_id));
            self.0.shared.publisher.publish(event, attempt, sequence).await
        };
        match self.0.pass("publish", format!("{type_name}{status} of {run_id}"), effect).await {
            Ok(answer) => answer,
            Err(fault) => {
                let (topic, reason) = ("topic".to_owned(), format!("scripted {fault:?}"));
                Err(match fault {
                    Fault::Refuse => publish::Error::Refused { event: type_name, run_id, topic, reason },
                    _ => publish::Error::Transient { event: type_name, run_id, topic, reason },
                })
            }
        }
    }
}

impl Ports {
    async fn ask(
        &self,
        operation: &'static str,
        message_ids: Vec<String>,
        effect: impl Future<Output = Result<(), queue::Error>> + Send,
    ) -> Result<(), queue::Error> {
        match self.0.pass(operation, message_ids.join(","), effect).await {
            Ok(answer) => answer,
            Err(fault) => {
                let reason = format!("scripted {fault:?}");
                Err(match fault {
                    Fault::Refuse => queue::Error::Refused { operation, message_ids, reason },
                    _ => queue::Error::Transient { operation, message_ids, reason },
                })
            }
        }
    }
}

#[async_trait]
impl Queue for Ports {
    async fn change_visibility(&self, records: &[ReceivedRecord], timeout: Duration) -> Result<(), queue::Error> {
        let message_ids = records.iter().map(|record| record.message_id.clone()).collect();
        self.ask("visibility", message_ids, self.0.shared.queue.change_visibility(records, timeout)).await
    }

    async fn dead_letter(&self, record: &ReceivedRecord, reason: &str) -> Result<(), queue::Error> {
        let message_ids = vec![record.message_id.clone()];
        self.ask("dead letter", message_ids, self.0.shared.queue.dead_letter(record, reason)).await
    }

    fn has_dead_letter_queue(&self) -> bool {
        true
    }
}
