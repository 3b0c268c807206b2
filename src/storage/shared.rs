//! What the records of a batch read in common is asked of the store once: reads go in, the first of each is made, and
//! the others get its answer, while it is under way and afterwards.
//!
//! A batch's records come from one change of a dataset and mostly share its manifest and series. Whatever a record of
//! the batch asks for was written before the batch was received, so an answer from any time of the batch is new enough.
//! Only what a run reads and never writes is shared. The layer belongs to one batch and is dropped with it.

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;

use super::answers::Answers;
use super::inputs::Inputs;
use super::{ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage};
use crate::keys::{Key, Prefix};

/// Small objects and the ends of large ones: eight thousand of 2 KB, and little beside the smallest function.
const KEPT_OBJECT_BYTES: usize = 16 << 20;

/// Parts of large objects: what records that read the same file are apart, not the file.
const KEPT_PART_BYTES: usize = 8 << 20;

/// Listings: of some sixteen thousand objects.
const KEPT_LISTING_BYTES: usize = 4 << 20;

/// What a listed object takes in memory, roughly.
const LISTED_OBJECT_BYTES: usize = 256;

/// A store whose answers are shared.
pub struct SharedReads {
    inner: Arc<dyn ObjectStorage>,
    inputs: Inputs,
    objects: Arc<Answers<(Key, Asked), Object>>,
    /// Of a version that is known by its tag.
    parts: Arc<Answers<(Key, Asked, ETag), Object>>,
    listings: Arc<Answers<Prefix, Arc<Vec<ObjectMeta>>>>,
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
    pub fn new(inner: Arc<dyn ObjectStorage>, inputs: Inputs) -> Self {
        let size_bytes = |object: &Object| object.bytes.len();
        Self {
            inner,
            inputs,
            objects: Answers::new(KEPT_OBJECT_BYTES, size_bytes),
            parts: Answers::new(KEPT_PART_BYTES, size_bytes),
            listings: Answers::new(KEPT_LISTING_BYTES, |listed| listed.len() * LISTED_OBJECT_BYTES),
        }
    }

    async fn part(&self, key: &Key, range: &ByteRange, etag: &ETag) -> Result<Object, Error> {
        let ask = || {
            let (inner, key, range, etag) = (Arc::clone(&self.inner), key.clone(), range.clone(), etag.clone());
            async move { inner.get(&key, range, Some(&etag)).await }.boxed()
        };
        let part = self.parts.get((key.clone(), range.into(), etag.clone()), ask).await;
        if let Err(Error::Precondition { .. }) = part {
            // There is a new version: whoever begins now begins with that one.
            self.objects.forget(|(kept, _)| kept == key);
        }
        part
    }
}

#[async_trait]
impl super::layer::Layer for SharedReads {
    type Inner = dyn ObjectStorage;

    fn inner(&self) -> &dyn ObjectStorage {
        &*self.inner
    }

    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        if !self.inputs.have(key) {
            return self.inner().get(key, range, if_match).await;
        }
        if let Some(etag) = if_match {
            return self.part(key, &range, etag).await;
        }
        let ask = || {
            let (inner, key, range) = (Arc::clone(&self.inner), key.clone(), range.clone());
            async move { (*inner).get(&key, range, None).await }.boxed()
        };
        self.objects.get((key.clone(), Asked::from(&range)), ask).await
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        if !self.inputs.have_all_of(prefix) {
            return self.inner().list(prefix).await;
        }
        let ask = || {
            let (inner, prefix) = (Arc::clone(&self.inner), prefix.clone());
            async move { (*inner).list(&prefix).await.map(Arc::new) }.boxed()
        };
        let listed = self.listings.get(prefix.clone(), ask).await?;
        Ok(Arc::unwrap_or_clone(listed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;

    use super::super::memory::{Call, Fault, MemoryStorage};
    use super::*;
    use crate::keys::Prefixes;

    fn key() -> Key {
        Key::parse("a/b").unwrap()
    }

    fn shared(store: &Arc<MemoryStorage>) -> SharedReads {
        let prefixes = |list| Prefixes::parse(list).unwrap();
        SharedReads::new(Arc::clone(store) as _, Inputs::new(prefixes("a/"), prefixes("a/metrics/")))
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
        read(&shared).await.unwrap();
        let folder = Prefix::parse("a/x").unwrap();
        join_all((0..10).map(|_| shared.list(&folder))).await;
        assert_eq!(store.trace().len(), 2);
        assert_eq!(shared.get(&key(), ByteRange::Suffix(2), None).await.unwrap().bytes, "45");
        assert_eq!(store.trace().len(), 3, "another range is another question");
    }

    #[tokio::test]
    async fn a_failure_answers_only_who_asked() {
        let faults = |call: &Call| match call.sequence {
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
    async fn what_a_run_writes_is_asked_for_each_time() {
        let store = Arc::new(MemoryStorage::new());
        let shared = shared(&store);
        for (key, requests) in [("a/metrics/m/current/manifest.json", 2), ("b/c", 4)] {
            let key = Key::parse(key).unwrap();
            store.insert(&key, "1");
            for _ in 0..2 {
                shared.get(&key, ByteRange::Whole, None).await.unwrap();
            }
            assert_eq!(store.trace().len(), requests);
        }
        for _ in 0..2 {
            shared.list(&Prefix::parse("a").unwrap()).await.unwrap();
        }
        assert_eq!(store.trace().len(), 6, "there are outputs in this folder");
    }

    #[tokio::test]
    async fn a_new_version_is_begun_with_when_somebody_has_seen_it() {
        let store = Arc::new(MemoryStorage::new());
        store.insert(&key(), "1");
        let shared = shared(&store);
        let tag = read(&shared).await.unwrap().etag;
        for _ in 0..2 {
            let part = shared.get(&key(), ByteRange::Bounded(0..1), Some(&tag)).await;
            assert_eq!(part.unwrap().bytes, "1");
        }
        assert_eq!(store.trace().len(), 2);
        store.insert(&key(), "2");
        assert_eq!(read(&shared).await.unwrap().bytes, "1");
        let other_part = shared.get(&key(), ByteRange::Bounded(0..2), Some(&tag)).await;
        assert!(matches!(other_part, Err(Error::Precondition { .. })));
        assert_eq!(read(&shared).await.unwrap().bytes, "2");
    }
}
