//! GETs past the SDK's orchestrator: an object's key, range and tag in; the object, a refusal, or a request to ask the
//! SDK out.
//!
//! A run reads hundreds of small objects, and for each of them the orchestrator's own work, its configuration, hooks
//! and retries, costs several times what HTTP and the signature do. Here a request is one URL, a few headers, a
//! signature and one attempt on the same connections. What is not a whole object or a plain refusal is the SDK's: it
//! knows how to wait, to correct and to try again. `docs/decisions/0011-gets-without-the-orchestrator.md` weighs this.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_checksums::ChecksumAlgorithm;
use aws_smithy_checksums::http::{
    CRC_32_C_HEADER_NAME, CRC_32_HEADER_NAME, CRC_64_NVME_HEADER_NAME, SHA_1_HEADER_NAME, SHA_256_HEADER_NAME,
};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_runtime_api::http::Headers;
use bytes::{Bytes, BytesMut};
use tokio::sync::OnceCell;

use super::rehearsal::{Route, rehearse};
use super::{Wanted, quoted, total_bytes, unquoted};
use crate::aws::failure::{Failure, chain};
use crate::storage::Object;

/// The room that is made ahead for a body in several pieces. What an answer says of its length is not believed beyond
/// it.
const MOST_AHEAD_BYTES: usize = 32 << 20;

/// S3's refusals take some hundred bytes.
const LONGEST_REFUSAL_BYTES: usize = 64 << 10;

/// The checksums that are looked for, in the SDK's order: the cheapest to compute is verified.
const CHECKSUMS: [(&str, ChecksumAlgorithm); 5] = [
    (CRC_64_NVME_HEADER_NAME, ChecksumAlgorithm::Crc64Nvme),
    (CRC_32_C_HEADER_NAME, ChecksumAlgorithm::Crc32c),
    (CRC_32_HEADER_NAME, ChecksumAlgorithm::Crc32),
    (SHA_1_HEADER_NAME, ChecksumAlgorithm::Sha1),
    (SHA_256_HEADER_NAME, ChecksumAlgorithm::Sha256),
];

/// What one attempt came to.
pub(super) enum Answer {
    /// The object.
    Object(Object),
    /// What another request would be told as well.
    Refused(Failure),
    /// The body broke off, stood still, or is not what its checksum says.
    Broken(String),
    /// The request was made and got no answer that counts.
    Unanswered(String),
    /// No request was made.
    NotAsked,
}

/// The light way to the objects of a bucket, looked for when the first is asked for. What was found stays: where it is
/// closed at first, the SDK makes all requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Direct(Arc<OnceCell<Option<Route>>>);

impl Direct {
    /// Asks once.
    pub(super) async fn get(&self, client: &Client, bucket: &str, wanted: &Wanted<'_>) -> Answer {
        let route = match self.0.get() {
            Some(route) => route,
            None => self.0.get_or_init(|| Box::pin(rehearse(client, bucket))).await,
        };
        let Some(route) = route else { return Answer::NotAsked };
        let range = wanted.range.map(|range| ("range", range.to_owned()));
        let if_match = wanted.if_match.map(|etag| ("if-match", quoted(etag)));
        match route.request(wanted.key.as_str(), range.into_iter().chain(if_match)).await {
            Ok(request) => route.ask(request).await,
            Err(error) => {
                tracing::debug!(key = %wanted.key, reason = chain(&*error), "a get could not be signed");
                Answer::NotAsked
            }
        }
    }
}

impl Route {
    async fn ask(&self, request: HttpRequest) -> Answer {
        let response = match within(self.attempt_timeout, self.connector.call(request)).await {
            Some(Ok(response)) => response,
            Some(Err(error)) => return Answer::Unanswered(chain(&error)),
            None => return Answer::Unanswered("no answer in time".to_owned()),
        };
        match response.status().as_u16() {
            200 | 206 => match self.object(response).await {
                Ok(object) => Answer::Object(object),
                Err(reason) => Answer::Broken(reason),
            },
            status @ (403 | 404 | 412 | 416) => match self.refusal(status, response).await {
                Some(failure) if !failure.transient && !is_of_signature(&failure) => Answer::Refused(failure),
                _ => Answer::Unanswered(format!("status {status}")),
            },
            // The connection is closed with the body unread: whatever the server's trouble is, the next attempt takes
            // another.
            status => Answer::Unanswered(format!("status {status}")),
        }
    }

    async fn object(&self, mut response: HttpResponse) -> Result<Object, String> {
        let body = response.take_body();
        let headers = response.headers();
        let length = headers.get("content-length").and_then(|length| length.parse().ok());
        let bytes = collect(body, length, usize::MAX, self.grace).await?;
        if self.verifies && !is_intact(headers, &bytes) {
            return Err("the body is not what its checksum says".to_owned());
        }
        let size_bytes = headers.get("content-range").and_then(total_bytes).or(length).unwrap_or(0);
        Ok(Object { bytes, etag: unquoted(headers.get("etag")), size_bytes })
    }

    /// What the SDK makes of a refusal. None if its body cannot be read.
    async fn refusal(&self, status: u16, mut response: HttpResponse) -> Option<Failure> {
        let body = collect(response.take_body(), None, LONGEST_REFUSAL_BYTES, self.grace).await.ok()?;
        *response.body_mut() = SdkBody::from(body);
        let deserializer = self.operation.load::<SharedResponseDeserializer>()?;
        let error = deserializer.deserialize_nonstreaming_with_config(&response, &self.nothing).err()?;
        let error = error.as_operation_error()?.downcast_ref::<GetObjectError>()?;
        Some(Failure::answered(Some(status), error))
    }
}

/// Whether the request itself was at fault, its signature or its time. The SDK puts its own right by the server's clock.
fn is_of_signature(failure: &Failure) -> bool {
    let code = failure.code.as_deref();
    matches!(code, Some("SignatureDoesNotMatch" | "RequestExpired" | "RequestInTheFuture"))
}

/// Reads a body whole: at most so many bytes, and no pause that is longer than `grace`.
async fn collect(
    body: SdkBody,
    length: Option<u64>,
    most_bytes: usize,
    grace: Option<Duration>,
) -> Result<Bytes, String> {
    let mut body = ByteStream::new(body);
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    loop {
        let piece = match within(grace, body.next()).await {
            Some(Some(Ok(piece))) => piece,
            Some(Some(Err(error))) => return Err(chain(&error)),
            Some(None) => break,
            None => return Err("the body stands still".to_owned()),
        };
        if first.is_empty() && joined.is_empty() {
            first = piece; // Most bodies are one piece, which needs no copy.
            continue;
        }
        if joined.is_empty() {
            let ahead = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
            joined.reserve(ahead.min(MOST_AHEAD_BYTES));
            joined.extend_from_slice(&std::mem::take(&mut first));
        }
        joined.extend_from_slice(&piece);
        if joined.len() > most_bytes {
            return Err(format!("the body is longer than {most_bytes} bytes"));
        }
    }
    let bytes = if joined.is_empty() { first } else { joined.freeze() };
    match length {
        Some(length) if u64::try_from(bytes.len()) != Ok(length) => {
            Err(format!("the body has {} of {length} bytes", bytes.len()))
        }
        _ => Ok(bytes),
    }
}

/// Whether the bytes are those that were stored, as far as the answer tells. A checksum of parts cannot be verified;
/// it alone ends in a dash and their number.
fn is_intact(headers: &Headers, bytes: &[u8]) -> bool {
    let told = CHECKSUMS.iter().find_map(|(name, algorithm)| Some((headers.get(name)?, *algorithm)));
    match told {
        Some((told, algorithm)) if !told.contains('-') => {
            let mut checksum = algorithm.into_impl();
            checksum.update(bytes);
            checksum.header_value() == told
        }
        _ => true,
    }
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}
