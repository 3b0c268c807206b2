//! A store that remembers its open uploads: requests go through unchanged, and whoever began uploads and was stopped
//! can abort them afterwards.
//!
//! Wrapped around the shared store once for each attempt of a run. An upload costs its space until it is completed or
//! aborted. What no attempt can abort, because its process was killed or the answer that names the upload was lost,
//! is left to the bucket's lifecycle rule.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;

use super::{ETag, Error, ObjectStorage, Part, PutCondition, Upload};
use crate::keys::Key;

/// Tidying up may delay what the run has to say by so much.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// A store with a list of its open uploads.
#[derive(Debug)]
pub struct OpenUploads<S> {
    inner: S,
    open: Mutex<Vec<Upload>>,
}

impl<S: ObjectStorage> OpenUploads<S> {
    /// Nothing is open.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner, open: Mutex::default() }
    }

    /// Aborts what was begun and neither completed nor aborted.
    pub async fn abort_all(&self) {
        let open = self.open().clone();
        if open.is_empty() {
            return;
        }
        let aborts = join_all(open.iter().map(|upload| self.abort_upload(upload)));
        if tokio::time::timeout(ABORT_TIMEOUT, aborts).await.is_err() || !self.open().is_empty() {
            tracing::warn!(
                uploads = self.open().len(),
                "uploads stay open until the bucket's lifecycle rule ends them"
            );
        }
    }

    fn open(&self) -> MutexGuard<'_, Vec<Upload>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, upload: &Upload) {
        self.open().retain(|open| open != upload);
    }
}

#[async_trait]
impl<S: ObjectStorage> super::layer::Layer for OpenUploads<S> {
    type Inner = S;

    fn inner(&self) -> &S {
        &self.inner
    }

    async fn begin_upload(&self, key: &Key, content_type: &'static str) -> Result<Upload, Error> {
        let upload = self.inner.begin_upload(key, content_type).await?;
        self.open().push(upload.clone());
        Ok(upload)
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part], condition: PutCondition) -> Result<ETag, Error> {
        let etag = self.inner.complete_upload(upload, parts, condition).await?;
        self.close(upload);
        Ok(etag)
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        self.inner.abort_upload(upload).await?;
        self.close(upload);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::memory::{Call, Fault, MemoryStorage, Operation};
    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    #[tokio::test]
    async fn what_was_neither_completed_nor_aborted_is_aborted() {
        let memory = Arc::new(MemoryStorage::new());
        let store = OpenUploads::new(memory.clone());
        let mut uploads = Vec::new();
        for name in ["a/completed", "a/aborted", "a/open"] {
            uploads.push(store.begin_upload(&key(name), "text/plain").await.unwrap());
        }
        let part = store.upload_part(&uploads[0], 1, Bytes::from_static(b"x")).await.unwrap();
        store.complete_upload(&uploads[0], &[part], PutCondition::Always).await.unwrap();
        store.abort_upload(&uploads[1]).await.unwrap();
        assert_eq!(memory.open_uploads(), [uploads[2].clone()]);
        store.abort_all().await;
        store.abort_all().await;
        assert_eq!(memory.open_uploads(), []);
        let aborts = memory.trace().iter().filter(|step| step.call.operation == Operation::AbortUpload).count();
        assert_eq!(aborts, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn tidying_up_is_bounded_in_time() {
        let hangs = |call: &Call| match call.operation {
            Operation::AbortUpload => Fault::Hang,
            _ => Fault::Proceed,
        };
        let store = OpenUploads::new(MemoryStorage::with_faults(hangs));
        store.begin_upload(&key("a/b"), "text/plain").await.unwrap();
        let start = tokio::time::Instant::now();
        store.abort_all().await;
        assert_eq!(start.elapsed(), ABORT_TIMEOUT);
    }
}
