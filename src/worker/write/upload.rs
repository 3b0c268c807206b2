//! A large file in parts: its bytes in, an object that was not there before out, or nothing.
//!
//! A part that is lost on the way costs a part and not the file, and parts travel at once. Readers see the object when
//! the upload is completed, and only where there was none, exactly as with a single put.

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use crate::keys::Key;
use crate::storage::{self, ByteRange, ObjectStorage, Part, PutCondition, Upload};
use crate::worker::write::{Error, MOST_CONDITIONAL_ATTEMPTS, get_if_present};

/// Parts of one file that travel at once. They are slices of what is in memory anyway; more of them would only share
/// the function's bandwidth.
pub(super) const PARTS_IN_FLIGHT: usize = 4;

/// Whether this made the object; false where there is one already. An upload that does not come to its end is aborted;
/// one whose attempt is stopped meanwhile, by whoever began the attempt (`storage::open_uploads`).
pub(super) async fn put_if_absent(
    key: &Key,
    body: &Bytes,
    content_type: &'static str,
    storage: &dyn ObjectStorage,
) -> Result<bool, Error> {
    for _ in 0..MOST_CONDITIONAL_ATTEMPTS {
        let upload = storage.begin_upload(key, content_type).await?;
        let Err(error) = fill(&upload, body, storage).await else { return Ok(true) };
        if let Err(error) = storage.abort_upload(&upload).await {
            tracing::warn!(%key, %error, "an upload could not be aborted");
        }
        match error {
            storage::Error::Precondition { .. } => return Ok(false),
            // A concurrent write is under way: S3 wants the whole upload once more.
            storage::Error::Conflict { .. } => {}
            // The upload is gone: completed, and the answer was lost and the completion sent again; or ended by the
            // bucket's lifecycle rule.
            storage::Error::NotFound { .. } => {
                if get_if_present(storage, key).await?.is_some() {
                    return Ok(false);
                }
            }
            error => return Err(error.into()),
        }
    }
    Err(Error::Contended { key: key.to_string() })
}

/// What became of an upload whose parts were sent ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completion {
    /// It is the object.
    Made,
    /// There was an object already.
    Exists,
    /// The upload is gone, and there is no object: its parts have to be sent once more.
    Gone,
}

/// Makes the parts the object, if there is none. An upload that does not become the object is aborted.
pub(super) async fn complete_if_absent(
    upload: &Upload,
    parts: &[Part],
    storage: &dyn ObjectStorage,
) -> Result<Completion, Error> {
    let Err(error) = storage.complete_upload(upload, parts, PutCondition::IfAbsent).await else {
        return Ok(Completion::Made);
    };
    if let Err(error) = storage.abort_upload(upload).await {
        tracing::warn!(key = %upload.key, %error, "an upload could not be aborted");
    }
    match error {
        storage::Error::Precondition { .. } => Ok(Completion::Exists),
        storage::Error::Conflict { .. } => Ok(Completion::Gone),
        storage::Error::NotFound { .. } => match storage.get(&upload.key, ByteRange::Bounded(0..1), None).await {
            Ok(_) => Ok(Completion::Exists),
            Err(storage::Error::NotFound { .. }) => Ok(Completion::Gone),
            Err(error) => Err(error.into()),
        },
        error => Err(error.into()),
    }
}

/// Whether the object has this SHA-256, read a part at a time.
pub(super) async fn has_digest(key: &Key, digest: &str, storage: &dyn ObjectStorage) -> Result<bool, Error> {
    let part_bytes = storage.part_size_bytes().max(1) as u64;
    let (mut read, mut start) = (Sha256::new(), 0);
    let mut etag = None;
    loop {
        let range = ByteRange::Bounded(start..start + part_bytes);
        let object = storage.get(key, range, etag.as_ref()).await?;
        read.update(&object.bytes);
        start += object.bytes.len() as u64;
        if object.bytes.is_empty() || start >= object.size_bytes {
            return Ok(hex::encode(read.finalize()) == digest);
        }
        etag = Some(object.etag);
    }
}

/// Sends the parts and completes the upload.
async fn fill(upload: &Upload, body: &Bytes, storage: &dyn ObjectStorage) -> Result<(), storage::Error> {
    let parts = parts(body, storage.part_size_bytes());
    let sent = parts.map(|(number, bytes)| storage.upload_part(upload, number, bytes));
    let parts: Vec<Part> = stream::iter(sent).buffered(PARTS_IN_FLIGHT).try_collect().await?;
    storage.complete_upload(upload, &parts, PutCondition::IfAbsent).await?;
    Ok(())
}

/// The parts with their numbers: all of one size, the last of what is left.
fn parts(body: &Bytes, size_bytes: usize) -> impl Iterator<Item = (u16, Bytes)> {
    let starts = (0..body.len()).step_by(size_bytes.max(1));
    let slices = starts.map(move |start| body.slice(start..body.len().min(start.saturating_add(size_bytes.max(1)))));
    (1..=u16::MAX).zip(slices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::{Call, Fault, MemoryStorage, Operation};

    const BODY: &[u8] = b"0123456789";

    fn key() -> Key {
        Key::parse("a/b").unwrap()
    }

    async fn upload(store: &MemoryStorage) -> Result<bool, Error> {
        put_if_absent(&key(), &Bytes::from_static(BODY), "text/plain", store).await
    }

    fn operations(store: &MemoryStorage) -> Vec<Operation> {
        store.trace().iter().map(|step| step.call.operation).collect()
    }

    #[test]
    fn the_parts_are_the_body() {
        for size_bytes in [0, 1, 2, 3, 4, 5, 9, 10, 11, usize::MAX] {
            let parts: Vec<(u16, Bytes)> = parts(&Bytes::from_static(BODY), size_bytes).collect();
            let all_but_last = parts.iter().rev().skip(1);
            assert!(all_but_last.clone().all(|(_, part)| part.len() == size_bytes.max(1)), "{size_bytes}: {parts:?}");
            assert!(parts.iter().zip(1..).all(|((number, _), expected)| *number == expected));
            assert_eq!(parts.iter().flat_map(|(_, part)| part.to_vec()).collect::<Vec<u8>>(), BODY, "{size_bytes}");
        }
    }

    #[tokio::test]
    async fn a_second_upload_finds_the_first_and_leaves_nothing() {
        let store = MemoryStorage::new().with_part_size(4);
        assert!(upload(&store).await.unwrap());
        assert!(!upload(&store).await.unwrap());
        assert_eq!(store.history(&key()), [BODY]);
        assert_eq!(store.open_uploads(), []);
    }

    #[tokio::test]
    async fn an_upload_that_fails_is_aborted() {
        for (operation, fault) in [
            (Operation::UploadPart, Fault::FailBefore),
            (Operation::UploadPart, Fault::Refuse),
            (Operation::CompleteUpload, Fault::FailBefore),
            (Operation::CompleteUpload, Fault::Refuse),
        ] {
            let faults = move |call: &Call| if call.operation == operation { fault } else { Fault::Proceed };
            let store = MemoryStorage::with_faults(faults).with_part_size(4);
            assert!(upload(&store).await.is_err());
            assert_eq!((store.peek(&key()), store.open_uploads()), (None, Vec::new()), "{operation:?} {fault:?}");
        }
    }

    #[tokio::test]
    async fn a_completion_beside_another_one_is_begun_anew() {
        let faults = |call: &Call| match (call.operation, call.sequence) {
            (Operation::CompleteUpload, 0..=4) => Fault::Conflict,
            _ => Fault::Proceed,
        };
        let store = MemoryStorage::with_faults(faults).with_part_size(5);
        assert!(upload(&store).await.unwrap());
        let (begin, part, complete, abort) =
            (Operation::BeginUpload, Operation::UploadPart, Operation::CompleteUpload, Operation::AbortUpload);
        assert_eq!(operations(&store), [begin, part, part, complete, abort, begin, part, part, complete]);
    }

    #[tokio::test]
    async fn an_upload_that_is_gone_is_begun_anew_unless_the_object_is_there() {
        for was_completed in [true, false] {
            let store = MemoryStorage::new().with_part_size(5).with_latency(std::time::Duration::from_millis(20));
            // Another one ends the upload between its parts and its completion.
            let other = async {
                while store.open_uploads().is_empty() {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                let uploads = store.open_uploads();
                if was_completed {
                    store.insert(&key(), BODY);
                }
                store.abort_upload(&uploads[0]).await.unwrap();
            };
            let (made, ()) = tokio::join!(upload(&store), other);
            assert_eq!(made.unwrap(), !was_completed);
            assert_eq!(store.history(&key()), [BODY]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_parts_travel_at_once() {
        let latency = std::time::Duration::from_secs(1);
        let store = MemoryStorage::new().with_part_size(1).with_latency(latency);
        let start = tokio::time::Instant::now();
        assert!(upload(&store).await.unwrap());
        // Begin, ten parts by four, completion.
        assert_eq!(start.elapsed(), latency * 5);
    }
}
