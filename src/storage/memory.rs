//! An in-memory store with scripted faults, for simulations: requests in, and out come answers, a trace of what
//! happened, and every version that a key ever had.
//!
//! A [`FaultPlan`] decides over each request by its number, so a test can stop or confuse a run at every point in
//! turn. Waiting is done by `tokio::time`, so a paused clock makes latency free.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::{
    ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage, PART_SIZE_BYTES, Part, PutCondition, Upload,
    no_such_part,
};
use crate::keys::{Key, Prefix};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`ObjectStorage::get`]
    Get,
    /// [`ObjectStorage::list`]
    List,
    /// [`ObjectStorage::put`]
    Put,
    /// [`ObjectStorage::begin_upload`]
    BeginUpload,
    /// [`ObjectStorage::upload_part`]
    UploadPart,
    /// [`ObjectStorage::complete_upload`]
    CompleteUpload,
    /// [`ObjectStorage::abort_upload`]
    AbortUpload,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Put => "put",
            Self::BeginUpload => "begin of an upload",
            Self::UploadPart => "upload of a part",
            Self::CompleteUpload => "completion of an upload",
            Self::AbortUpload => "abort of an upload",
        }
    }
}

/// A request, as a [`FaultPlan`] sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its number: the store's first request is 0.
    pub sequence: u64,
    /// What it asks for.
    pub operation: Operation,
    /// The object's key, or the prefix of a listing.
    pub key: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It is answered.
    Proceed,
    /// It fails for now, without effect.
    FailBefore,
    /// It takes effect, and its answer is lost: it seems to fail for now.
    LoseAnswer,
    /// It has no effect and is never answered.
    Hang,
    /// It takes effect and is never answered.
    HangAfter,
    /// It is refused for good, without effect.
    Refuse,
    /// A concurrent conditional request is under way: 409, without effect.
    Conflict,
}

/// Decides what becomes of each request. Closures are plans.
pub trait FaultPlan: Send + Sync + 'static {
    /// What becomes of this request.
    fn fault(&self, call: &Call) -> Fault;
}

impl<F: Fn(&Call) -> Fault + Send + Sync + 'static> FaultPlan for F {
    fn fault(&self, call: &Call) -> Fault {
        self(call)
    }
}

/// What a request did to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that a reader sees: it was not let through, it only read, its condition did not hold, or it was a step
    /// of an upload before its completion.
    None,
    /// It wrote a version with this tag.
    Written(ETag),
}

/// A request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The request.
    pub call: Call,
    /// What the plan decided.
    pub fault: Fault,
    /// What it did to the store.
    pub effect: Effect,
}

#[derive(Default)]
struct State {
    next_sequence: u64,
    objects: BTreeMap<String, Bytes>,
    history: BTreeMap<String, Vec<Bytes>>,
    trace: Vec<Step>,
    next_upload: u64,
    uploads: BTreeMap<String, OpenUpload>,
}

struct OpenUpload {
    key: Key,
    parts: BTreeMap<u16, Bytes>,
}

impl State {
    fn write(&mut self, key: &str, body: &Bytes) {
        self.objects.insert(key.to_owned(), body.clone());
        self.history.entry(key.to_owned()).or_default().push(body.clone());
    }

    fn keep(&mut self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error> {
        let Some(open) = self.uploads.get_mut(&upload.id) else {
            return Err(Error::NotFound { key: upload.key.to_string() });
        };
        let etag = ETag::of(&body);
        open.parts.insert(number, body);
        Ok(Part { number, etag, checksum: None })
    }

    fn complete(&mut self, upload: &Upload, parts: &[Part], condition: &PutCondition) -> Result<ETag, Error> {
        let Some(open) = self.uploads.get(&upload.id) else {
            return Err(Error::NotFound { key: upload.key.to_string() });
        };
        let mut body = BytesMut::new();
        for part in parts {
            let kept = open.parts.get(&part.number).filter(|bytes| ETag::of(bytes) == part.etag);
            body.extend_from_slice(kept.ok_or_else(|| no_such_part(upload, part))?);
        }
        let body = body.freeze();
        let etag = written(self, &upload.key, &body, condition)?;
        self.uploads.remove(&upload.id);
        Ok(etag)
    }
}

/// The store.
pub struct MemoryStorage {
    state: Mutex<State>,
    plan: Box<dyn FaultPlan>,
    latency: Duration,
    part_size_bytes: usize,
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStorage {
    /// An empty store without faults and without latency.
    #[must_use]
    pub fn new() -> Self {
        Self::with_faults(|_: &Call| Fault::Proceed)
    }

    /// An empty store whose requests pass this plan.
    #[must_use]
    pub fn with_faults(plan: impl FaultPlan) -> Self {
        let (plan, latency) = (Box::new(plan), Duration::ZERO);
        Self { state: Mutex::default(), plan, latency, part_size_bytes: PART_SIZE_BYTES }
    }

    /// The same store, whose requests take this long: half of it before the effect, half after, so that a request
    /// that is cancelled may have taken effect or not.
    #[must_use]
    pub fn with_latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// The same store, where uploads in parts begin at another size: small objects have parts, too.
    #[must_use]
    pub fn with_part_size(mut self, part_size_bytes: usize) -> Self {
        self.part_size_bytes = part_size_bytes;
        self
    }

    /// The same objects and history behind another plan, with numbers and trace from the start: the world after a
    /// crash.
    #[must_use]
    pub fn restarted(&self, plan: impl FaultPlan) -> Self {
        let state = self.state();
        let kept = State { objects: state.objects.clone(), history: state.history.clone(), ..State::default() };
        Self {
            state: Mutex::new(kept),
            plan: Box::new(plan),
            latency: self.latency,
            part_size_bytes: self.part_size_bytes,
        }
    }

    /// Puts an object there, outside of plan and trace.
    pub fn insert(&self, key: &Key, body: impl Into<Bytes>) {
        self.state().write(key.as_str(), &body.into());
    }

    /// Takes an object away, outside of plan and trace.
    pub fn remove(&self, key: &Key) {
        self.state().objects.remove(key.as_str());
    }

    /// The object, if there is one, outside of plan and trace.
    #[must_use]
    pub fn peek(&self, key: &Key) -> Option<Bytes> {
        self.state().objects.get(key.as_str()).cloned()
    }

    /// Every version that the key ever had, oldest first.
    #[must_use]
    pub fn history(&self, key: &Key) -> Vec<Bytes> {
        self.state().history.get(key.as_str()).cloned().unwrap_or_default()
    }

    /// All objects by key.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, Bytes> {
        self.state().objects.clone()
    }

    /// The uploads that were begun and neither completed nor aborted.
    #[must_use]
    pub fn open_uploads(&self) -> Vec<Upload> {
        let state = self.state();
        state.uploads.iter().map(|(id, open)| Upload { key: open.key.clone(), id: id.clone() }).collect()
    }

    /// The requests so far, in the order in which they took effect.
    #[must_use]
    pub fn trace(&self) -> Vec<Step> {
        self.state().trace.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request through, or not, and traces it. `effect` does the work and says what it did to the store.
    async fn pass<T: Send>(
        &self,
        operation: Operation,
        key: &str,
        effect: impl FnOnce(&mut State) -> (Result<T, Error>, Effect) + Send,
    ) -> Result<T, Error> {
        let call = self.number(operation, key);
        let fault = self.plan.fault(&call);
        self.wait().await;
        let answer = match fault {
            Fault::Proceed | Fault::LoseAnswer | Fault::HangAfter => {
                let mut state = self.state();
                let (answer, effect) = effect(&mut state);
                state.trace.push(Step { call, fault, effect });
                Some(answer)
            }
            Fault::FailBefore | Fault::Hang | Fault::Refuse | Fault::Conflict => {
                self.state().trace.push(Step { call, fault, effect: Effect::None });
                None
            }
        };
        let (name, key) = (operation.name(), key.to_owned());
        match (fault, answer) {
            (Fault::Hang | Fault::HangAfter, _) => std::future::pending().await,
            (Fault::Proceed, Some(answer)) => {
                self.wait().await;
                answer
            }
            (Fault::Refuse, _) => Err(Error::Refused { operation: name, key, reason: "scripted refusal".to_owned() }),
            (Fault::Conflict, _) => Err(Error::Conflict { key }),
            (Fault::LoseAnswer, _) => {
                self.wait().await;
                Err(Error::Transient { operation: name, key, reason: "scripted loss of the answer".to_owned() })
            }
            (Fault::FailBefore | Fault::Proceed, _) => {
                Err(Error::Transient { operation: name, key, reason: "scripted failure".to_owned() })
            }
        }
    }

    fn number(&self, operation: Operation, key: &str) -> Call {
        let mut state = self.state();
        let sequence = state.next_sequence;
        state.next_sequence += 1;
        Call { sequence, operation, key: key.to_owned() }
    }

    async fn wait(&self) {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency / 2).await;
        }
    }
}

#[async_trait]
impl ObjectStorage for MemoryStorage {
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        let read = |state: &mut State| (read(state, key, &range, if_match), Effect::None);
        self.pass(Operation::Get, key.as_str(), read).await
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        let list = |state: &mut State| (Ok(listed(state, prefix)), Effect::None);
        self.pass(Operation::List, prefix.as_str(), list).await
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        _content_type: &'static str,
        condition: PutCondition,
    ) -> Result<ETag, Error> {
        let write = |state: &mut State| match written(state, key, &body, &condition) {
            Ok(etag) => (Ok(etag.clone()), Effect::Written(etag)),
            Err(error) => (Err(error), Effect::None),
        };
        self.pass(Operation::Put, key.as_str(), write).await
    }

    async fn begin_upload(&self, key: &Key, _content_type: &'static str) -> Result<Upload, Error> {
        let begin = |state: &mut State| {
            state.next_upload += 1;
            let upload = Upload { key: key.clone(), id: state.next_upload.to_string() };
            let open = OpenUpload { key: key.clone(), parts: BTreeMap::new() };
            state.uploads.insert(upload.id.clone(), open);
            (Ok(upload), Effect::None)
        };
        self.pass(Operation::BeginUpload, key.as_str(), begin).await
    }

    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error> {
        let keep = |state: &mut State| (state.keep(upload, number, body), Effect::None);
        self.pass(Operation::UploadPart, upload.key.as_str(), keep).await
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part], condition: PutCondition) -> Result<ETag, Error> {
        let complete = |state: &mut State| match state.complete(upload, parts, &condition) {
            Ok(etag) => (Ok(etag.clone()), Effect::Written(etag)),
            Err(error) => (Err(error), Effect::None),
        };
        self.pass(Operation::CompleteUpload, upload.key.as_str(), complete).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        let abort = |state: &mut State| {
            state.uploads.remove(&upload.id);
            (Ok(()), Effect::None)
        };
        self.pass(Operation::AbortUpload, upload.key.as_str(), abort).await
    }

    fn part_size_bytes(&self) -> usize {
        self.part_size_bytes
    }
}

fn read(state: &State, key: &Key, range: &ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
    let Some(body) = state.objects.get(key.as_str()) else {
        return Err(Error::NotFound { key: key.to_string() });
    };
    let etag = ETag::of(body);
    if if_match.is_some_and(|wanted| *wanted != etag) {
        return Err(Error::Precondition { key: key.to_string() });
    }
    let size_bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
    Ok(Object { bytes: body.slice(range.within(body.len())), etag, size_bytes })
}

fn listed(state: &State, prefix: &Prefix) -> Vec<ObjectMeta> {
    let under = state.objects.range(prefix.as_str().to_owned()..).take_while(|(key, _)| prefix.contains(key));
    under
        .filter_map(|(key, body)| {
            let size_bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
            Some(ObjectMeta { key: Key::parse(key).ok()?, size_bytes, etag: ETag::of(body) })
        })
        .collect()
}

fn written(state: &mut State, key: &Key, body: &Bytes, condition: &PutCondition) -> Result<ETag, Error> {
    let current = state.objects.get(key.as_str());
    if !condition.holds(current.map(|body| ETag::of(body)).as_ref()) {
        return Err(Error::Precondition { key: key.to_string() });
    }
    state.write(key.as_str(), body);
    Ok(ETag::of(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::parse("a/b").unwrap()
    }

    async fn put(store: &MemoryStorage, body: &'static str, condition: PutCondition) -> Result<ETag, Error> {
        store.put(&key(), Bytes::from_static(body.as_bytes()), "text/plain", condition).await
    }

    #[tokio::test]
    async fn a_lost_answer_has_taken_effect_and_a_failure_before_has_not() {
        let store = MemoryStorage::with_faults(|call: &Call| match call.sequence {
            0 => Fault::FailBefore,
            1 => Fault::LoseAnswer,
            2 => Fault::Refuse,
            3 => Fault::Conflict,
            _ => Fault::Proceed,
        });
        assert!(put(&store, "0", PutCondition::IfAbsent).await.unwrap_err().is_transient());
        assert_eq!(store.peek(&key()), None);
        assert!(put(&store, "1", PutCondition::IfAbsent).await.unwrap_err().is_transient());
        assert_eq!(store.peek(&key()).unwrap(), "1");
        assert!(matches!(put(&store, "2", PutCondition::Always).await, Err(Error::Refused { .. })));
        assert!(matches!(put(&store, "3", PutCondition::Always).await, Err(Error::Conflict { .. })));
        put(&store, "4", PutCondition::Always).await.unwrap();
        assert_eq!(store.history(&key()), ["1", "4"]);
        let effects: Vec<bool> = store.trace().iter().map(|step| step.effect != Effect::None).collect();
        assert_eq!(effects, [false, true, false, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_request_is_never_answered() {
        for (fault, left) in [(Fault::Hang, None), (Fault::HangAfter, Some(Bytes::from_static(b"x")))] {
            let store = MemoryStorage::with_faults(move |_: &Call| fault);
            let waited = tokio::time::timeout(Duration::from_secs(86_400), put(&store, "x", PutCondition::Always));
            assert!(waited.await.is_err());
            assert_eq!(store.peek(&key()), left);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn latency_is_virtual_and_a_cancelled_request_may_have_taken_effect() {
        let store = MemoryStorage::new().with_latency(Duration::from_secs(10));
        let cancelled = tokio::time::timeout(Duration::from_secs(4), put(&store, "early", PutCondition::Always));
        assert!(cancelled.await.is_err());
        assert_eq!(store.peek(&key()), None);
        let cancelled = tokio::time::timeout(Duration::from_secs(6), put(&store, "late", PutCondition::Always));
        assert!(cancelled.await.is_err());
        assert_eq!(store.peek(&key()).unwrap(), "late");
    }

    #[tokio::test]
    async fn a_restart_keeps_objects_and_history_and_numbers_anew() {
        let store = MemoryStorage::new();
        put(&store, "1", PutCondition::Always).await.unwrap();
        let store = store.restarted(|_: &Call| Fault::Proceed);
        put(&store, "2", PutCondition::Always).await.unwrap();
        assert_eq!(store.history(&key()), ["1", "2"]);
        assert_eq!(store.trace().len(), 1);
        assert_eq!(store.trace()[0].call.sequence, 0);
    }
}
