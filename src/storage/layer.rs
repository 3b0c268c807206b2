//! A store around a store: what a layer does not change goes through to the store below.
//!
//! Whoever counts, remembers, shares or repeats some requests says so for these alone.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage, Part, PutCondition, Upload};
use crate::keys::{Key, Prefix};

/// A store around another one. Every layer is an [`ObjectStorage`]; each method does what the one of the same name
/// there does.
#[async_trait]
pub trait Layer: Send + Sync + 'static {
    /// The kind of store that it is around.
    type Inner: ObjectStorage + ?Sized;

    /// The store that it is around.
    fn inner(&self) -> &Self::Inner;

    /// [`ObjectStorage::get`]
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        self.inner().get(key, range, if_match).await
    }

    /// [`ObjectStorage::list`]
    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        self.inner().list(prefix).await
    }

    /// [`ObjectStorage::put`]
    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        content_type: &'static str,
        condition: PutCondition,
    ) -> Result<ETag, Error> {
        self.inner().put(key, body, content_type, condition).await
    }

    /// [`ObjectStorage::begin_upload`]
    async fn begin_upload(&self, key: &Key, content_type: &'static str) -> Result<Upload, Error> {
        self.inner().begin_upload(key, content_type).await
    }

    /// [`ObjectStorage::upload_part`]
    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error> {
        self.inner().upload_part(upload, number, body).await
    }

    /// [`ObjectStorage::complete_upload`]
    async fn complete_upload(&self, upload: &Upload, parts: &[Part], condition: PutCondition) -> Result<ETag, Error> {
        self.inner().complete_upload(upload, parts, condition).await
    }

    /// [`ObjectStorage::abort_upload`]
    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        self.inner().abort_upload(upload).await
    }

    /// [`ObjectStorage::part_size_bytes`]
    fn part_size_bytes(&self) -> usize {
        self.inner().part_size_bytes()
    }
}

/// A store that is shared is the store itself.
impl<S: ObjectStorage + ?Sized> Layer for Arc<S> {
    type Inner = S;

    fn inner(&self) -> &S {
        self
    }
}

#[async_trait]
impl<L: Layer> ObjectStorage for L {
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        Layer::get(self, key, range, if_match).await
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        Layer::list(self, prefix).await
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        content_type: &'static str,
        condition: PutCondition,
    ) -> Result<ETag, Error> {
        Layer::put(self, key, body, content_type, condition).await
    }

    async fn begin_upload(&self, key: &Key, content_type: &'static str) -> Result<Upload, Error> {
        Layer::begin_upload(self, key, content_type).await
    }

    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error> {
        Layer::upload_part(self, upload, number, body).await
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part], condition: PutCondition) -> Result<ETag, Error> {
        Layer::complete_upload(self, upload, parts, condition).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        Layer::abort_upload(self, upload).await
    }

    fn part_size_bytes(&self) -> usize {
        Layer::part_size_bytes(self)
    }
}
