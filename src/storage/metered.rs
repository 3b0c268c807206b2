//! A store that counts: requests go through unchanged, their number and bytes come out for the metrics.
//!
//! Wrapped around a shared store once for each run, it tells what that run cost.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::{ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage, Part, PutCondition, Upload};
use crate::keys::{Key, Prefix};

/// S3 lists so many keys with each request.
const KEYS_PER_PAGE: u64 = 1_000;

/// What was asked of a store so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Requests, failed ones included: one for each get, put, part and other step of an upload, one for each page of a
    /// listing. Attempts that the store's client makes by itself are not seen here.
    pub requests: u64,
    /// Bytes of objects that were read.
    pub read_bytes: u64,
    /// Bytes of objects and of parts that were written.
    pub written_bytes: u64,
}

/// A store with counters.
#[derive(Debug, Default)]
pub struct Metered<S> {
    inner: S,
    requests: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    told_requests: AtomicU64,
}

impl<S> Metered<S> {
    /// Counts from zero.
    #[must_use]
    pub fn new(inner: S) -> Self {
        let zero = AtomicU64::default;
        Self { inner, requests: zero(), read_bytes: zero(), written_bytes: zero(), told_requests: zero() }
    }

    /// The requests since this was asked last.
    pub fn new_requests(&self) -> u64 {
        let requests = self.requests.load(Ordering::Relaxed);
        requests - self.told_requests.swap(requests, Ordering::Relaxed)
    }

    /// What was asked so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            requests: self.requests.load(Ordering::Relaxed),
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
        }
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}

#[async_trait]
impl<S: ObjectStorage> ObjectStorage for Metered<S> {
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        add(&self.requests, 1);
        let object = self.inner.get(key, range, if_match).await?;
        add(&self.read_bytes, object.bytes.len());
        Ok(object)
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        add(&self.requests, 1);
        let objects = self.inner.list(prefix).await?;
        let count = u64::try_from(objects.len()).unwrap_or(u64::MAX);
        let further_pages = count.saturating_sub(1) / KEYS_PER_PAGE;
        self.requests.fetch_add(further_pages, Ordering::Relaxed);
        Ok(objects)
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        content_type: &'static str,
        condition: PutCondition,
    ) -> Result<ETag, Error> {
        add(&self.requests, 1);
        let length_bytes = body.len();
        let etag = self.inner.put(key, body, content_type, condition).await?;
        add(&self.written_bytes, length_bytes);
        Ok(etag)
    }

    async fn begin_upload(&self, key: &Key, content_type: &'static str) -> Result<Upload, Error> {
        add(&self.requests, 1);
        self.inner.begin_upload(key, content_type).await
    }

    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error> {
        add(&self.requests, 1);
        let length_bytes = body.len();
        let part = self.inner.upload_part(upload, number, body).await?;
        add(&self.written_bytes, length_bytes);
        Ok(part)
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part], condition: PutCondition) -> Result<ETag, Error> {
        add(&self.requests, 1);
        self.inner.complete_upload(upload, parts, condition).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        add(&self.requests, 1);
        self.inner.abort_upload(upload).await
    }

    fn part_size_bytes(&self) -> usize {
        self.inner.part_size_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::memory::MemoryStorage;
    use super::*;

    #[tokio::test]
    async fn requests_and_bytes_are_counted() {
        let shared: Arc<dyn ObjectStorage> = Arc::new(MemoryStorage::new());
        let store = Metered::new(shared);
        let key = Key::parse("a/b").unwrap();
        store.put(&key, Bytes::from_static(b"12345"), "text/plain", PutCondition::Always).await.unwrap();
        store.put(&key, Bytes::from_static(b"1"), "text/plain", PutCondition::IfAbsent).await.unwrap_err();
        store.get(&key, ByteRange::Suffix(2), None).await.unwrap();
        store.list(&Prefix::parse("a").unwrap()).await.unwrap();
        assert_eq!((store.new_requests(), store.new_requests()), (4, 0));
        assert_eq!(store.usage(), Usage { requests: 4, read_bytes: 2, written_bytes: 5 });
        let upload = store.begin_upload(&key, "text/plain").await.unwrap();
        let part = store.upload_part(&upload, 1, Bytes::from_static(b"123")).await.unwrap();
        store.complete_upload(&upload, &[part], PutCondition::Always).await.unwrap();
        store.abort_upload(&upload).await.unwrap();
        assert_eq!(store.usage(), Usage { requests: 8, read_bytes: 2, written_bytes: 8 });
    }
}
