//! S3 as the object storage: requests of the port in, requests over `aws-sdk-s3` out.
//!
//! What is read most, objects, is first asked for past the SDK's orchestrator (`direct.rs`), and by the SDK if that
//! brings nothing. Everything else is the SDK's alone.
//!
//! What S3 says in statuses and codes becomes the port's errors here and nowhere else. Bodies are sent from memory:
//! the SDK then puts its CRC32 into a header, which S3 verifies and stand-ins accept, instead of the `aws-chunked`
//! trailer of a streamed body, which many stand-ins do not understand.

mod direct;
mod rehearsal;
mod signature;

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, EncodingType};
use bytes::Bytes;

use self::direct::{Answer, Direct};
use super::{ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage, Part, PutCondition, Upload};
use crate::aws::failure::{Failure, chain};
use crate::keys::{Key, Prefix};

/// The SDK retries a request until the answer's first byte; a body that breaks after it is fetched again here.
const BODY_ATTEMPTS: u32 = 3;

/// The longest that a get may take, with all its attempts and bodies. The SDK gives up a body that stands still, not
/// one that trickles; 90 s are a slow request and a large body after it.
const GET_TIMEOUT: Duration = Duration::from_secs(90);

/// No object is larger, and a server may not read a larger number.
const LARGEST_OFFSET: u64 = i64::MAX.unsigned_abs();

/// A bucket.
#[derive(Debug, Clone)]
pub struct S3Storage {
    client: Client,
    bucket: String,
    direct: Direct,
}

/// What a GET asks for.
struct Wanted<'a> {
    key: &'a Key,
    range: Option<&'a str>,
    if_match: Option<&'a ETag>,
}

impl S3Storage {
    /// The bucket of that name.
    #[must_use]
    pub fn new(client: Client, bucket: impl Into<String>) -> Self {
        Self { client, bucket: bucket.into(), direct: Direct::default() }
    }

    /// An object, or why its body did not come whole. The first attempt takes the light way.
    async fn attempt(&self, number: u32, wanted: &Wanted<'_>) -> Result<Result<Object, String>, Failure> {
        if number > 1 {
            return Box::pin(self.ask_sdk(wanted, None)).await;
        }
        match self.direct.get(&self.client, &self.bucket, wanted).await {
            Answer::Object(object) => Ok(Ok(object)),
            Answer::Refused(failure) => Err(failure),
            Answer::Broken(reason) => Ok(Err(reason)),
            Answer::NotAsked => Box::pin(self.ask_sdk(wanted, None)).await,
            Answer::Unanswered(reason) => {
                tracing::debug!(key = %wanted.key, reason, "a get is left to the sdk");
                let retries = self.client.config().retry_config().cloned().unwrap_or_else(RetryConfig::standard);
                // As long as the SDK itself would wait between its first attempt and its second.
                tokio::time::sleep(retries.initial_backoff().mul_f64(rand::random())).await;
                // The first of the attempts is made.
                let others = retries.max_attempts().saturating_sub(1);
                let others = Builder::new().retry_config(retries.with_max_attempts(others));
                Box::pin(self.ask_sdk(wanted, Some(others))).await
            }
        }
    }

    /// An object through the SDK, with all its attempts, or what these settings say instead.
    async fn ask_sdk(&self, wanted: &Wanted<'_>, settings: Option<Builder>) -> Result<Result<Object, String>, Failure> {
        let request = self.client.get_object().bucket(&self.bucket).key(wanted.key.as_str());
        let request = request.set_range(wanted.range.map(str::to_owned)).set_if_match(wanted.if_match.map(quoted));
        let output = match settings {
            Some(settings) => request.customize().config_override(settings).send().await,
            None => request.send().await,
        };
        Ok(body(output.map_err(|error| Failure::of(&error))?).await)
    }

    /// No bytes, but tag and size: HTTP has no empty range, and S3 answers 416 to one that begins at the end.
    async fn no_bytes(&self, key: &Key, if_match: Option<&ETag>) -> Result<Object, Error> {
        let request = self.client.head_object().bucket(&self.bucket).key(key.as_str());
        let head = request.set_if_match(if_match.map(quoted)).send().await;
        let head = head.map_err(|error| classified("head", key.as_str(), Failure::of(&error)))?;
        let size_bytes = non_negative(head.content_length());
        Ok(Object { bytes: Bytes::new(), etag: unquoted(head.e_tag()), size_bytes })
    }

    /// The range, whatever it takes.
    async fn fetch(&self, key: &Key, range: &ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        let header = match range {
            ByteRange::Whole => None,
            ByteRange::Bounded(bounds) if bounds.start < bounds.end => {
                Some(format!("bytes={}-{}", bounds.start, (bounds.end - 1).min(LARGEST_OFFSET)))
            }
            ByteRange::Suffix(length_bytes) if *length_bytes > 0 => Some(format!("bytes=-{length_bytes}")),
            ByteRange::Bounded(_) | ByteRange::Suffix(_) => return self.no_bytes(key, if_match).await,
        };
        let wanted = Wanted { key, range: header.as_deref(), if_match };
        let mut attempt = 1;
        loop {
            match self.attempt(attempt, &wanted).await {
                Ok(Ok(object)) => return Ok(object),
                Ok(Err(reason)) if attempt < BODY_ATTEMPTS => {
                    tracing::debug!(%key, attempt, reason, "the body broke off");
                    attempt += 1;
                }
                Ok(Err(reason)) => return Err(Error::Transient { operation: "get", key: key.to_string(), reason }),
                Err(failure) if failure.status == Some(416) => return self.no_bytes(key, if_match).await,
                Err(failure) => return Err(classified("get", key.as_str(), failure)),
            }
        }
    }
}

#[async_trait]
impl ObjectStorage for S3Storage {
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        match tokio::time::timeout(GET_TIMEOUT, self.fetch(key, &range, if_match)).await {
            Ok(answer) => answer,
            Err(_) => {
                let reason = format!("no whole answer within {} s", GET_TIMEOUT.as_secs());
                Err(Error::Transient { operation: "get", key: key.to_string(), reason })
            }
        }
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        // Encoded, because a key may hold characters that no XML document can.
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix.as_str());
        let mut pages = request.encoding_type(EncodingType::Url).into_paginator().send();
        let mut objects = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| classified("list", prefix.as_str(), Failure::of(&error)))?;
            let is_encoded = page.encoding_type() == Some(&EncodingType::Url);
            for object in page.contents() {
                let text = object.key().unwrap_or_default();
                let key = if is_encoded { url_decoded(text) } else { text.to_owned() };
                if key.ends_with('/') && object.size() == Some(0) {
                    continue; // The console's marker of an empty folder.
                }
                match Key::parse(&key) {
                    Ok(key) => objects.push(ObjectMeta {
                        key,
                        size_bytes: non_negative(object.size()),
                        etag: unquoted(object.e_tag()),
                    }),
                    Err(error) => tracing::warn!(%prefix, %error, "a listed object is left out"),
                }
            }
        }
        // General purpose buckets list in this order, directory buckets in none.
        objects.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Ok(objects)
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        content_type: &'static str,
        condition: PutCondition,
    ) -> Result<ETag, Error> {
        let request = self.client.put_object().bucket(&self.bucket).key(key.as_str()).content_type(content_type);
        let (if_none_match, if_match) = headers(&condition);
        let request = request.set_if_none_match(if_none_match).set_if_match(if_match);
        let output = request.body(ByteStream::from(body)).send().await;
        let output = output.map_err(|error| conditional("put", key, Failure::of(&error), &condition))?;
        Ok(unquoted(output.e_tag()))
    }

    async fn begin_upload(&self, key: &Key, content_type: &'static str) -> Result<Upload, Error> {
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(key.as_str());
        // The checksum that the SDK gives each part: S3 wants to hear of it first, and again at the end. It makes one of
        // the whole object out of them, which readers can verify; one of parts they cannot.
        let request = request.content_type(content_type).checksum_algorithm(ChecksumAlgorithm::Crc32);
        let request = request.checksum_type(ChecksumType::FullObject);
        let output = request.send().await;
        let output = output.map_err(|error| classified(BEGIN, key.as_str(), Failure::of(&error)))?;
        match output.upload_id() {
            Some(id) => Ok(Upload { key: key.clone(), id: id.to_owned() }),
            None => Err(unnamed(BEGIN, key, "the answer names no upload")),
        }
    }

    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error> {
        let request = self.client.upload_part().bucket(&self.bucket).key(upload.key.as_str()).upload_id(&upload.id);
        let request = request.part_number(i32::from(number)).checksum_algorithm(ChecksumAlgorithm::Crc32);
        let output = request.body(ByteStream::from(body)).send().await;
        let output =
            output.map_err(|error| classified("upload of a part", upload.key.as_str(), Failure::of(&error)))?;
        let checksum = output.checksum_crc32().map(str::to_owned);
        Ok(Part { number, etag: unquoted(output.e_tag()), checksum })
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part], condition: PutCondition) -> Result<ETag, Error> {
        let parts = parts.iter().map(|part| {
            let completed = CompletedPart::builder().part_number(i32::from(part.number)).e_tag(quoted(&part.etag));
            completed.set_checksum_crc32(part.checksum.clone()).build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let (if_none_match, if_match) = headers(&condition);
        let request = self.client.complete_multipart_upload().bucket(&self.bucket).key(upload.key.as_str());
        let request = request.upload_id(&upload.id).set_if_none_match(if_none_match).set_if_match(if_match);
        let output = request.multipart_upload(parts).send().await;
        let output = output.map_err(|error| {
            let failure = Failure::of(&error);
            match failure.code.as_deref() {
                Some("NoSuchUpload") => Error::NotFound { key: upload.key.to_string() },
                _ => conditional(COMPLETE, &upload.key, failure, &condition),
            }
        })?;
        match output.e_tag() {
            Some(etag) => Ok(unquoted(Some(etag))),
            // The status comes before the work; what failed in it is told by the body.
            None => Err(unnamed(COMPLETE, &upload.key, "the answer names no tag")),
        }
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(upload.key.as_str());
        let output = request.upload_id(&upload.id).send().await;
        match output.map_err(|error| classified("abort of an upload", upload.key.as_str(), Failure::of(&error))) {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

const BEGIN: &str = "begin of an upload";

const COMPLETE: &str = "completion of an upload";

/// `If-None-Match` and `If-Match`.
fn headers(condition: &PutCondition) -> (Option<String>, Option<String>) {
    match condition {
        PutCondition::Always => (None, None),
        PutCondition::IfAbsent => (Some("*".to_owned()), None),
        PutCondition::IfMatch(etag) => (None, Some(quoted(etag))),
    }
}

/// What a conditional write failed of.
fn conditional(operation: &'static str, key: &Key, failure: Failure, condition: &PutCondition) -> Error {
    match (classified(operation, key.as_str(), failure), condition) {
        // There is no object that could have the tag.
        (Error::NotFound { key }, PutCondition::IfMatch(_)) => Error::Precondition { key },
        (error, _) => error,
    }
}

fn unnamed(operation: &'static str, key: &Key, reason: &str) -> Error {
    Error::Transient { operation, key: key.to_string(), reason: reason.to_owned() }
}

/// Reads the body whole.
async fn body(output: GetObjectOutput) -> Result<Object, String> {
    let etag = unquoted(output.e_tag());
    let total = output.content_range().and_then(total_bytes);
    let size_bytes = total.unwrap_or_else(|| non_negative(output.content_length()));
    match output.body.collect().await {
        Ok(body) => Ok(Object { bytes: body.into_bytes(), etag, size_bytes }),
        Err(error) => Err(chain(&error)),
    }
}

/// The size of the whole object, as `Content-Range` tells it.
fn total_bytes(content_range: &str) -> Option<u64> {
    content_range.rsplit_once('/')?.1.parse().ok()
}

fn classified(operation: &'static str, key: &str, failure: Failure) -> Error {
    let key = key.to_owned();
    let no_bucket = failure.code.as_deref() == Some("NoSuchBucket");
    match failure.status {
        _ if failure.transient => Error::Transient { operation, key, reason: failure.reason },
        Some(404) if !no_bucket => Error::NotFound { key },
        Some(412) => Error::Precondition { key },
        Some(409) => Error::Conflict { key },
        _ => Error::Refused { operation, key, reason: failure.reason },
    }
}

fn quoted(etag: &ETag) -> String {
    format!("\"{etag}\"")
}

fn unquoted(etag: Option<&str>) -> ETag {
    ETag(etag.unwrap_or_default().trim_matches('"').to_owned())
}

fn non_negative(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

/// Undoes `encoding-type=url`: `+` is a space, `%XX` a byte. What is no such sequence stays as it is.
fn url_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex_byte(*high, *low),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let mut byte = [0];
    hex::decode_to_slice([high, low], &mut byte).ok()?;
    Some(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: u16, code: &str, transient: bool) -> Failure {
        Failure { status: Some(status), code: Some(code.to_owned()), transient, reason: String::new() }
    }

    #[test]
    fn a_status_is_one_error_of_the_port() {
        let of = |status, code, transient| classified("get", "k", failure(status, code, transient));
        assert!(matches!(of(404, "NoSuchKey", false), Error::NotFound { .. }));
        assert!(matches!(of(404, "NoSuchBucket", false), Error::Refused { .. }));
        assert!(matches!(of(412, "PreconditionFailed", false), Error::Precondition { .. }));
        assert!(matches!(of(409, "ConditionalRequestConflict", false), Error::Conflict { .. }));
        assert!(matches!(of(403, "AccessDenied", false), Error::Refused { .. }));
        assert!(matches!(of(503, "SlowDown", true), Error::Transient { .. }));
    }

    #[test]
    fn listed_keys_are_decoded() {
        for (encoded, decoded) in
            [("a/b", "a/b"), ("a+b%2Bc%3Dd%25", "a b+c=d%"), ("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("%01", "\u{1}")]
        {
            assert_eq!(url_decoded(encoded), decoded);
        }
    }
}
