//! What the records of a batch read in common is asked of the store once: reads go in, the first of each is made, and
//! the others get its answer, while it is under way and afterwards.
//!
//! A batch's records come from one change of a dataset and mostly share its manifest and series. Only what is read is
//! shared, never what is written: the wrapper has one batch's inputs to look after and is dropped with it. Answers
//! larger than [`KEPT_ANSWER_BYTES`], and all beyond [`KEPT_BYTES`] together, are passed on without being kept.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::{ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage, Part, PutCondition, Upload};
use crate::keys::{Key, Prefix};

/// The small objects that decide by their number are kept, and parts of large ones are not: these are read in
/// turns that differ between records, and memory is what they would cost.
const KEPT_ANSWER_BYTES: usize = 1 << 20;

/// All answers that are kept together: eight thousand objects of 2 KB, and little beside the smallest function.
const KEPT_BYTES: usize = 16 << 20;

/// What a listed object takes in memory, roughly.
const LISTED_OBJECT_BYTES: usize = 256;

type Answer<T> = Arc<OnceCell<T>>;

/// A store whose answers are shared.
pub struct SharedReads {
    inner: Arc<dyn ObjectStorage>,
    objects: Mutex<HashMap<(Key, Asked), Answer<Object>>>,
    listings: Mutex<HashMap<String, Answer<Arc<Vec<ObjectMeta>>>>>,
    kept_bytes: AtomicUsize,
}

/// A range as part of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asked {
    Whole,
    Bounded(u64, u64),
    Suffix(u64),
}

impl From<&ByteRange> for Asked {
    fn from(range: &ByteRange) -> Self {
        match range {
            ByteRange::Whole => Self::Whole,
            ByteRange::Bounded(bounds) => Self::Bounded(bounds.start, bounds.end),
            ByteRange::Suffix(length_bytes) => Self::Suffix(*length_bytes),
        }
    }
}

impl SharedReads {
    /// Nothing has been asked yet.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStorage>) -> Self {
        Self { inner, objects: Mutex::default(), listings: Mutex::default(), kept_bytes: AtomicUsize::new(0) }
    }

    /// Whether an answer of this size may stay.
    fn is_kept(&self, size_bytes: usize) -> bool {
        size_bytes <= KEPT_ANSWER_BYTES
            && self.kept_bytes.fetch_add(size_bytes, Ordering::Relaxed).saturating_add(size_bytes) <= KEPT_BYTES
    }
}

/// The cell of a question: the one that is there, or a new one.
fn cell<K: Eq + std::hash::Hash, T>(cells: &Mutex<HashMap<K, Answer<T>>>, question: K) -> Answer<T> {
    let mut cells = cells.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(cells.entry(question).or_default())
}

/// Forgets an answer; whoever holds its cell still has it.
fn forget<K: Eq + std::hash::Hash, T>(cells: &Mutex<HashMap<K, Answer<T>>>, question: &K) {
    cells.lock().unwrap_or_else(PoisonError::into_inner).remove(question);
}

#[async_trait]
impl ObjectStorage for SharedReads {
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        // Parts of a version that is known belong to a large object.
        if if_match.is_some() {
            return self.inner.get(key, range, if_match).await;
        }
        let question = (key.clone(), Asked::from(&range));
        let cell = cell(&self.objects, question.clone());
        let mut is_first = false;
        // An error answers only who asked; whoever waited beside asks anew.
        let object = cell
            .get_or_try_init(|| {
                is_first = true;
                self.inner.get(key, range, None)
            })
            .await?
            .clone();
        if is_first && !self.is_kept(object.bytes.len()) {
            forget(&self.objects, &question);
        }
        Ok(object)
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        let question = prefix.as_str().to_owned();
        let cell = cell(&self.listings, question.clone());
        let mut is_first = false;
        let objects = cell
            .get_or_try_init(async || {
                is_first = true;
                self.inner.list(prefix).await.map(Arc::new)
            })
            .await?
            .clone();
        if is_first && !self.is_kept(objects.len().saturating_mul(LISTED_OBJECT_BYTES)) {
            forget(&self.listings, &question);
        }
        Ok(Vec::clone(&objects))
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        content_type: &'static str,
        condition: PutCondition,
    ) -> Result<ETag, Error> {
        self.inner.put(key, body, content_type, condition).await
    }

    async fn begin_upload(&self, key: &Key, content_type: &'static str) -> Result<Upload, Error> {
        self.inner.begin_upload(key, content_type).await
    }

    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error> {
        self.inner.upload_part(upload, number, body).await
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part], condition: PutCondition) -> Result<ETag, Error> {
        self.inner.complete_upload(upload, parts, condition).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        self.inner.abort_upload(upload).await
    }

    fn part_size_bytes(&self) -> usize {
        self.inner.part_size_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;

    use super::super::memory::{Fault, MemoryStorage};
    use super::*;

    fn key() -> Key {
        Key::parse("a/b").unwrap()
    }

    fn shared(store: &Arc<MemoryStorage>) -> SharedReads {
        SharedReads::new(Arc::clone(store) as _)
    }

    async fn read(shared: &SharedReads) -> Result<Object, Error> {
        shared.get(&key(), ByteRange::Whole, None).await
    }

    #[tokio::test(start_paused = true)]
    async fn reads_at_once_and_afterwards_are_one_request() {
        let store = Arc::new(MemoryStorage::new().with_latency(Duration::from_millis(30)));
        store.insert(&key(), "12345");
        let shared = shared(&store);
        let all = join_all((0..10).map(|_| read(&shared))).await;
        assert!(all.iter().all(|object| object.as_ref().unwrap().bytes == "12345"));
        shared.get(&key(), ByteRange::Whole, None).await.unwrap();
        let folder = Prefix::parse("a").unwrap();
        join_all((0..10).map(|_| shared.list(&folder))).await;
        assert_eq!(store.trace().len(), 2);
        assert_eq!(shared.get(&key(), ByteRange::Suffix(2), None).await.unwrap().bytes, "45");
        assert_eq!(store.trace().len(), 3, "another range is another question");
    }

    #[tokio::test]
    async fn a_failure_answers_only_who_asked() {
        let faults = |call: &super::super::memory::Call| match call.sequence {
            0 => Fault::FailBefore,
            _ => Fault::Proceed,
        };
        let store = Arc::new(MemoryStorage::with_faults(faults));
        store.insert(&key(), "12345");
        let shared = shared(&store);
        let both = join_all((0..2).map(|_| read(&shared))).await;
        assert!(both[0].is_err());
        assert_eq!(both[1].as_ref().unwrap().bytes, "12345");
    }

    #[tokio::test]
    async fn large_answers_are_not_kept() {
        let store = Arc::new(MemoryStorage::new());
        store.insert(&key(), vec![0; KEPT_ANSWER_BYTES + 1]);
        let shared = shared(&store);
        for _ in 0..2 {
            shared.get(&key(), ByteRange::Whole, None).await.unwrap();
        }
        assert_eq!(store.trace().len(), 2);
        assert!(shared.objects.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_version_that_is_wanted_by_its_tag_is_asked_for_each_time() {
        let store = Arc::new(MemoryStorage::new());
        store.insert(&key(), "1");
        let shared = shared(&store);
        let tag = shared.get(&key(), ByteRange::Whole, None).await.unwrap().etag;
        store.insert(&key(), "2");
        let error = shared.get(&key(), ByteRange::Whole, Some(&tag)).await.unwrap_err();
        assert!(matches!(error, Error::Precondition { .. }));
    }
}
