//! A folder of a store as a store of its own: keys come in relative to it, requests for whole keys go out.
//!
//! For the command line, where `s3://bucket/team/data` stands for a bucket. A key that grows too long for the store below
//! is refused, as the store itself would do.

use async_trait::async_trait;
use bytes::Bytes;

use super::{ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage, Part, PutCondition, Upload};
use crate::keys::{self, Key, Prefix};

/// A folder of a store.
#[derive(Debug, Clone)]
pub struct Below<S> {
    inner: S,
    root: Prefix,
}

impl<S> Below<S> {
    /// The folder `root` of that store.
    #[must_use]
    pub fn new(inner: S, root: Prefix) -> Self {
        Self { inner, root }
    }

    fn key(&self, operation: &'static str, key: &Key) -> Result<Key, Error> {
        self.root.join(key.as_str()).map_err(|error| refused(operation, key.as_str(), &error))
    }
}

impl<S> Below<S> {
    /// The upload as the store below knows it.
    fn upload(&self, upload: &Upload) -> Result<Upload, Error> {
        Ok(Upload { key: self.key("upload", &upload.key)?, id: upload.id.clone() })
    }
}

fn refused(operation: &'static str, key: &str, error: &keys::Error) -> Error {
    Error::Refused { operation, key: key.to_owned(), reason: error.to_string() }
}

/// The key as it was asked for: whoever asked knows no other.
fn relative(error: Error, asked: &str) -> Error {
    let key = asked.to_owned();
    match error {
        Error::NotFound { .. } => Error::NotFound { key },
        Error::Precondition { .. } => Error::Precondition { key },
        Error::Conflict { .. } => Error::Conflict { key },
        Error::Refused { operation, reason, .. } => Error::Refused { operation, key, reason },
        Error::Transient { operation, reason, .. } => Error::Transient { operation, key, reason },
    }
}

#[async_trait]
impl<S: ObjectStorage> ObjectStorage for Below<S> {
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        let whole = self.key("get", key)?;
        self.inner.get(&whole, range, if_match).await.map_err(|error| relative(error, key.as_str()))
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        let folder = self.root.folder(prefix.as_str().trim_end_matches('/'));
        let folder = folder.map_err(|error| refused("list", prefix.as_str(), &error))?;
        let listed = self.inner.list(&folder).await.map_err(|error| relative(error, prefix.as_str()))?;
        let below = |meta: ObjectMeta| Some(ObjectMeta { key: self.root.relative(&meta.key)?, ..meta });
        Ok(listed.into_iter().filter_map(below).collect())
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        content_type: &'static str,
        condition: PutCondition,
    ) -> Result<ETag, Error> {
        let whole = self.key("put", key)?;
        let answer = self.inner.put(&whole, body, content_type, condition).await;
        answer.map_err(|error| relative(error, key.as_str()))
    }

    async fn begin_upload(&self, key: &Key, content_type: &'static str) -> Result<Upload, Error> {
        let whole = self.key("begin of an upload", key)?;
        let begun = self.inner.begin_upload(&whole, content_type).await;
        let begun = begun.map_err(|error| relative(error, key.as_str()))?;
        Ok(Upload { key: key.clone(), id: begun.id })
    }

    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error> {
        let answer = self.inner.upload_part(&self.upload(upload)?, number, body).await;
        answer.map_err(|error| relative(error, upload.key.as_str()))
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part], condition: PutCondition) -> Result<ETag, Error> {
        let answer = self.inner.complete_upload(&self.upload(upload)?, parts, condition).await;
        answer.map_err(|error| relative(error, upload.key.as_str()))
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        let answer = self.inner.abort_upload(&self.upload(upload)?).await;
        answer.map_err(|error| relative(error, upload.key.as_str()))
    }

    fn part_size_bytes(&self) -> usize {
        self.inner.part_size_bytes()
    }
}
