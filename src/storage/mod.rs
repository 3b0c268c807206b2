//! The object storage port: what a run needs of a store, and nothing more.
//!
//! Three implementations keep one contract (`tests/storage_contract.rs`): S3, a folder (the command line and the
//! demo), and memory (simulations); a folder of each of them does, too. All are strongly consistent, as S3 is.
//!
//! Around them lie layers: counted (`metered`), with their open uploads remembered (`open_uploads`), and for the inputs of
//! a batch late reads asked twice (`hedged`) and common reads asked once (`shared`).

pub mod folder;
pub mod memory;
pub mod s3;
pub mod layer;
pub mod below;
pub mod metered;
pub mod open_uploads;
pub mod inputs;
mod answers;
pub mod shared;
pub mod hedged;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::keys::{Key, Prefix};

/// An opaque tag that changes whenever the object's bytes do. Without quotes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ETag(pub String);

impl fmt::Display for ETag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl ETag {
    /// The tag of these bytes, for a store that has none of its own.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(bytes)))
    }
}

/// Bytes of an object, or of a range of it.
#[derive(Debug, Clone)]
pub struct Object {
    /// The bytes asked for.
    pub bytes: Bytes,
    /// The tag of the whole object.
    pub etag: ETag,
    /// The size of the whole object.
    pub size_bytes: u64,
}

/// What a listing says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: Key,
    /// The size of the whole object.
    pub size_bytes: u64,
    /// Its tag.
    pub etag: ETag,
}

/// Which bytes of an object are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByteRange {
    /// All of them.
    Whole,
    /// From `start`, before `end`; the answer is shorter where the object ends earlier.
    Bounded(Range<u64>),
    /// The last so many; the whole object where it is shorter.
    Suffix(u64),
}

impl ByteRange {
    /// The part of an object of this size that is meant; empty where the range begins at its end or beyond.
    #[must_use]
    pub fn within(&self, size_bytes: usize) -> Range<usize> {
        let clamped = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(size_bytes);
        match self {
            Self::Whole => 0..size_bytes,
            Self::Bounded(bounds) => clamped(bounds.start)..clamped(bounds.end).max(clamped(bounds.start)),
            Self::Suffix(length_bytes) => size_bytes - clamped(*length_bytes)..size_bytes,
        }
    }
}

/// When a put takes place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutCondition {
    /// Always.
    Always,
    /// Only where there is no object.
    IfAbsent,
    /// Only where the object still has this tag.
    IfMatch(ETag),
}

impl PutCondition {
    /// Whether it holds where the object has this tag, or where there is none.
    #[must_use]
    pub fn holds(&self, current: Option<&ETag>) -> bool {
        match self {
            Self::Always => true,
            Self::IfAbsent => current.is_none(),
            Self::IfMatch(etag) => current == Some(etag),
        }
    }
}

/// What is larger than this is written in parts of this size. S3 takes no part below 5 MiB, except the last, and
/// several are in memory at a time; the largest results have some dozens of parts.
pub const PART_SIZE_BYTES: usize = 5 << 20;

/// An upload in parts that was begun: no object yet, and none at all unless it is completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The key of the object that it may become.
    pub key: Key,
    /// The store's own name for it.
    pub id: String,
}

/// A part that the store has, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its place in the object, from 1 on.
    pub number: u16,
    /// Its tag.
    pub etag: ETag,
    /// The checksum that the store wants to hear again when the upload is completed, if it has one.
    pub checksum: Option<String>,
}

/// What can go wrong with a request to the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// There is no such object, or no such upload.
    #[error("no object {key}")]
    NotFound {
        /// Its key.
        key: String,
    },
    /// The condition of the request does not hold: 412.
    #[error("the condition on {key} does not hold")]
    Precondition {
        /// The object's key.
        key: String,
    },
    /// A concurrent conditional request is under way: 409. Read again and decide anew.
    #[error("a concurrent conditional request on {key} is under way")]
    Conflict {
        /// The object's key.
        key: String,
    },
    /// The store refused for good: access denied, no such bucket, a bad request.
    #[error("the store refused {operation} of {key}: {reason}")]
    Refused {
        /// The operation, in words.
        operation: &'static str,
        /// The object's key or prefix.
        key: String,
        /// What it said.
        reason: String,
    },
    /// A time-out, a 5xx, throttling, a lost connection: another attempt may succeed.
    #[error("{operation} of {key} failed for now: {reason}")]
    Transient {
        /// The operation, in words.
        operation: &'static str,
        /// The object's key or prefix.
        key: String,
        /// What happened.
        reason: String,
    },
}

impl Error {
    /// Whether another attempt may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transient { .. } | Self::Conflict { .. } => true,
            Self::NotFound { .. } | Self::Precondition { .. } | Self::Refused { .. } => false,
        }
    }
}

/// A store of objects.
#[async_trait]
pub trait ObjectStorage: Send + Sync + 'static {
    /// Reads an object or a range of it. With `if_match`, fails with [`Error::Precondition`] where the object has
    /// another tag by now.
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error>;

    /// Lists every object under a prefix, ascending by key (bytewise). Nothing there is an empty list.
    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error>;

    /// Writes an object whole: a reader sees all of it or nothing. Fails with [`Error::Precondition`] where the
    /// condition does not hold.
    ///
    /// An answer can be lost and the request repeated on the way, so a conditional put may fail with
    /// [`Error::Precondition`] because of its own first attempt: whoever cares reads the object and compares.
    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        content_type: &'static str,
        condition: PutCondition,
    ) -> Result<ETag, Error>;

    /// Begins an upload in parts.
    async fn begin_upload(&self, key: &Key, content_type: &'static str) -> Result<Upload, Error>;

    /// Hands over a part. Parts may come in any order and at once; one with the same number replaces the one before.
    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error>;

    /// Makes these parts, ascending by number, the object: as [`ObjectStorage::put`] does, at once and under a
    /// condition. Fails with [`Error::NotFound`] where there is no such upload any more; after any failure the upload
    /// is to be aborted.
    async fn complete_upload(&self, upload: &Upload, parts: &[Part], condition: PutCondition) -> Result<ETag, Error>;

    /// Gives up an upload and what the store holds of it. One that is gone already is given up.
    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error>;

    /// What is larger than this is to be uploaded in parts of this size.
    fn part_size_bytes(&self) -> usize {
        PART_SIZE_BYTES
    }
}

/// The answer to a part that the store does not have, or has otherwise: a bad request, as it is for S3.
fn no_such_part(upload: &Upload, part: &Part) -> Error {
    let (operation, key) = ("completion of an upload", upload.key.to_string());
    Error::Refused { operation, key, reason: format!("no such part {}", part.number) }
}
