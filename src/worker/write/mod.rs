//! The commit of a run: claim, data, manifest, `current`, marker, in that order. Each step reads what the store holds,
//! does what is missing, and may be repeated by any attempt of the run at any time (docs/reliability.md).
//!
//! The claim decides. Its version moves only while it is open, its content is final once it is sealed, and every change
//! of it is conditional on the tag last seen; so two attempts of one run can never commit two versions.

pub mod claim;
pub mod encode;
pub mod marker;
pub mod outbox;
mod upload;

use bytes::Bytes;
use futures::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::ErrorCode;
use crate::keys::{DataFile, Key, VersionTs};
use crate::manifest::{self, Claim, ManifestHead, OutputManifest, Outputs};
use crate::request::Run;
use crate::storage::{self, ByteRange, ETag, Object, ObjectStorage, PutCondition};
use crate::telemetry::STEPS;
use crate::worker::write::claim::Claimed;
use crate::worker::write::encode::Summary;
use crate::worker::write::outbox::{Body, Data};
use crate::worker::write::upload::Completion;

/// A conditional update is repeated after each concurrent one; more than this many in a row is left to a redelivery.
const MOST_CONDITIONAL_ATTEMPTS: u32 = 10;

const JSON: &str = "application/json";

/// Why a run could not be committed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed or refused.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The run was, or is being, done for another request.
    #[error("run {run_id} is known with another request: {key} has digest {found}, this request has {expected}")]
    OtherRequest {
        /// The run.
        run_id: String,
        /// The object that says so.
        key: String,
        /// Its digest.
        found: String,
        /// The digest of this request.
        expected: String,
    },
    /// An earlier delivery of the same message has failed the run.
    #[error("{error_message}")]
    FailedBefore {
        /// The code on the wire.
        error_code: ErrorCode,
        /// What was wrong then.
        error_message: String,
    },
    /// An object of the run's own metadata is not what the worker writes there.
    #[error("{key} cannot be read: {reason}")]
    Unreadable {
        /// Its key.
        key: String,
        /// Why.
        reason: String,
    },
    /// The manifest just written does not validate.
    #[error(transparent)]
    Manifest(#[from] manifest::Invalid),
    /// Concurrent runs kept getting in between.
    #[error("gave up on {key} after {MOST_CONDITIONAL_ATTEMPTS} concurrent updates")]
    Contended {
        /// The object.
        key: String,
    },
    /// A value could not be written as JSON.
    #[error("{key} cannot be written as JSON: {reason}")]
    Json {
        /// The object.
        key: String,
        /// Why.
        reason: String,
    },
}

/// What an error of this step means for its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The run failed.
    Fail(ErrorCode),
    /// Another attempt may succeed.
    Retry(ErrorCode),
    /// The request is refused without an event.
    Refuse,
}

impl Error {
    /// What the error means for its record.
    #[must_use]
    pub fn meaning(&self) -> Meaning {
        match self {
            Self::Storage(error) if error.is_transient() => Meaning::Retry(ErrorCode::OutputWriteError),
            Self::Storage(_) | Self::Unreadable { .. } => Meaning::Fail(ErrorCode::OutputWriteError),
            Self::FailedBefore { error_code, .. } => Meaning::Fail(*error_code),
            Self::Contended { .. } => Meaning::Retry(ErrorCode::OutputWriteError),
            Self::Manifest(_) => Meaning::Fail(ErrorCode::ManifestValidationError),
            Self::OtherRequest { .. } => Meaning::Refuse,
            Self::Json { .. } => Meaning::Retry(ErrorCode::InternalError),
        }
    }
}

/// `current`, as it was when it was read last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Its tag; none where there is no `current` yet.
    etag: Option<ETag>,
    /// The version that it names; none where it cannot be read.
    version: Option<VersionTs>,
}

/// What the version's manifest turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// The run's own.
    Own,
    /// Another run's: the version is taken.
    Taken,
}

/// Reads `current`, once, before the work: what it names tells which version comes next, and its tag makes the update
/// at the end conditional.
///
/// # Errors
/// When the store fails.
#[tracing::instrument(target = STEPS, level = "debug", name = "lookup", skip_all, fields(part = "current"))]
pub async fn current(run: &Run, storage: &dyn ObjectStorage) -> Result<Current, Error> {
    let Some(object) = get_if_present(storage, &run.keys.current()).await? else {
        return Ok(Current { etag: None, version: None });
    };
    let head = serde_json::from_slice::<ManifestHead>(&object.bytes).ok();
    let version = head.and_then(|head| head.version_ts).as_deref().and_then(VersionTs::parse);
    if version.is_none() {
        tracing::warn!(key = %run.keys.current(), "current names no version and will be replaced");
    }
    Ok(Current { etag: Some(object.etag), version })
}

/// Writes the data under the claimed version and seals the claim with its manifest. The answer is the claim as it is
/// by then: sealed, by this attempt or another; open at a fresh version, where this one holds other bytes; or open as it
/// was, where what was sent ahead is lost and has to be computed again.
///
/// # Errors
/// When the store fails.
#[tracing::instrument(target = STEPS, level = "debug", name = "write", skip_all, fields(part = "data"))]
pub async fn data(
    run: &Run,
    claimed: &Claimed,
    data: &Data,
    inputs: Vec<manifest::InputLineage>,
    now: jiff::Timestamp,
    storage: &dyn ObjectStorage,
) -> Result<Claimed, Error> {
    let version = claimed.claim.version_ts;
    let digests = data.summary.digests.iter().map(|(_, digest)| digest);
    let files = data.files.iter().zip(digests);
    let puts = files.map(|((file, body), digest)| put_data(run, version, *file, body, digest, storage).boxed());
    let held = futures::future::try_join_all(puts).await?;
    if held.contains(&Held::Others) {
        return claim::move_on(run, claimed, now, storage).await;
    }
    if held.contains(&Held::Nothing) {
        return Ok(claimed.clone());
    }
    let manifest = output_manifest(run, &claimed.claim, &data.summary, inputs);
    claim::update(run, claimed, Claim { sealed: Some(manifest), ..claimed.claim.clone() }, storage).await
}

/// What a version holds of a file after it was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// These bytes.
    These,
    /// Other bytes.
    Others,
    /// Nothing: what was sent ahead is lost.
    Nothing,
}

/// Puts a file where there is none. What is there is another attempt's, another run's, or this attempt's own, whose
/// answer was lost: the bytes tell.
async fn put_data(
    run: &Run,
    version: VersionTs,
    file: DataFile,
    body: &Body,
    digest: &str,
    storage: &dyn ObjectStorage,
) -> Result<Held, Error> {
    let key = run.keys.data(version, file);
    let is_these = match body {
        Body::Whole(bytes) => {
            let was_absent = match bytes.len() > storage.part_size_bytes() {
                true => upload::put_if_absent(&key, bytes, file.content_type(), storage).await?,
                false => put_if_absent(&key, bytes.clone(), file.content_type(), storage).await?.is_some(),
            };
            was_absent || storage.get(&key, ByteRange::Whole, None).await?.bytes == *bytes
        }
        Body::Sent(upload, parts) => match upload::complete_if_absent(upload, parts, storage).await? {
            Completion::Made => true,
            Completion::Exists => upload::has_digest(&key, digest, storage).await?,
            Completion::Gone => return Ok(Held::Nothing),
        },
    };
    Ok(if is_these { Held::These } else { Held::Others })
}

fn output_manifest(run: &Run, claim: &Claim, summary: &Summary, inputs: Vec<manifest::InputLineage>) -> OutputManifest {
    OutputManifest {
        run_id: run.run_id.clone(),
        metric_code: run.metric_code.clone(),
        version_ts: claim.version_ts,
        created_at: claim.claimed_at.clone(),
        row_count: summary.row_count,
        outputs: Outputs {
            data_prefix: run.keys.data_prefix(claim.version_ts),
            files: summary.digests.iter().map(|(file, _)| file.name().to_owned()).collect(),
            sha256: summary.digests_by_name(),
        },
        inputs,
    }
}

/// Writes the manifest that the claim is sealed with.
///
/// # Errors
/// When the store fails.
#[tracing::instrument(target = STEPS, level = "debug", name = "write", skip_all, fields(part = "manifest"))]
pub async fn manifest(run: &Run, sealed: &OutputManifest, storage: &dyn ObjectStorage) -> Result<Committed, Error> {
    let key = run.keys.manifest(sealed.version_ts);
    if put_if_absent(&key, to_json(&key, sealed)?, JSON, storage).await?.is_some() {
        return Ok(Committed::Own);
    }
    let object = storage.get(&key, ByteRange::Whole, None).await?;
    let head = serde_json::from_slice::<ManifestHead>(&object.bytes).ok();
    let is_own = head.and_then(|head| head.run_id).as_deref() == Some(run.run_id.as_str());
    Ok(if is_own { Committed::Own } else { Committed::Taken })
}

/// Reads the manifest back and holds it against what was to be written.
///
/// # Errors
/// When it does not validate, or the store fails.
#[tracing::instrument(target = STEPS, level = "debug", name = "write", skip_all, fields(part = "validate"))]
pub async fn validate(run: &Run, sealed: &OutputManifest, storage: &dyn ObjectStorage) -> Result<(), Error> {
    let key = run.keys.manifest(sealed.version_ts);
    let object = storage.get(&key, ByteRange::Whole, None).await?;
    let stored = serde_json::from_slice::<OutputManifest>(&object.bytes).map_err(|error| manifest::Invalid {
        key: key.to_string(),
        field: "text",
        found: error.to_string(),
        expected: "an output manifest".to_owned(),
    })?;
    Ok(stored.validate(key.as_str(), sealed)?)
}

/// Moves `current` forward to the version; where it names this or a newer one already it stays.
///
/// # Errors
/// When the store fails, or other runs keep getting in between.
#[tracing::instrument(target = STEPS, level = "debug", name = "write", skip_all, fields(part = "advance_current"))]
pub async fn advance_current(
    run: &Run,
    sealed: &OutputManifest,
    seen: Current,
    storage: &dyn ObjectStorage,
) -> Result<(), Error> {
    let key = run.keys.current();
    let body = to_json(&key, sealed)?;
    let mut seen = seen;
    for _ in 0..MOST_CONDITIONAL_ATTEMPTS {
        if seen.version.is_some_and(|newest| newest >= sealed.version_ts) {
            return Ok(());
        }
        let condition = seen.etag.map_or(PutCondition::IfAbsent, PutCondition::IfMatch);
        match storage.put(&key, body.clone(), JSON, condition).await {
            Ok(_) => return Ok(()),
            Err(
                storage::Error::Precondition { .. } | storage::Error::Conflict { .. } | storage::Error::NotFound { .. },
            ) => seen = current(run, storage).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Contended { key: key.to_string() })
}

/// RFC 3339 in UTC, to the second: the form of every time in messages and metadata.
#[must_use]
pub fn rfc3339(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The tag of the new object; nothing where there is one already. A 409 decides nothing yet: it is asked again.
async fn put_if_absent(
    key: &Key,
    body: Bytes,
    content_type: &'static str,
    storage: &dyn ObjectStorage,
) -> Result<Option<ETag>, Error> {
    for _ in 0..MOST_CONDITIONAL_ATTEMPTS {
        match storage.put(key, body.clone(), content_type, PutCondition::IfAbsent).await {
            Ok(etag) => return Ok(Some(etag)),
            Err(storage::Error::Precondition { .. }) => return Ok(None),
            Err(storage::Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Contended { key: key.to_string() })
}

async fn get_if_present(storage: &dyn ObjectStorage, key: &Key) -> Result<Option<Object>, Error> {
    match storage.get(key, ByteRange::Whole, None).await {
        Ok(object) => Ok(Some(object)),
        Err(storage::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn check_digest(run: &Run, key: &Key, found: &str) -> Result<(), Error> {
    if found == run.request_digest {
        return Ok(());
    }
    Err(Error::OtherRequest {
        run_id: run.run_id.to_string(),
        key: key.to_string(),
        found: found.to_owned(),
        expected: run.request_digest.clone(),
    })
}

fn parse<T: DeserializeOwned>(key: &Key, object: &Object) -> Result<T, Error> {
    serde_json::from_slice(&object.bytes)
        .map_err(|error| Error::Unreadable { key: key.to_string(), reason: error.to_string() })
}

fn to_json(key: &Key, value: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec_pretty(value)
        .map(Bytes::from)
        .map_err(|error| Error::Json { key: key.to_string(), reason: error.to_string() })
}
