//! A failed request to AWS, as the ports need it: what the SDK's error types say in, status, code, reason and
//! whether another attempt may succeed out.

use std::error::Error;
use std::fmt;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The service's own code, where it gave one.
    pub code: Option<String>,
    /// Whether another attempt may succeed.
    pub transient: bool,
    /// What happened, on one line.
    pub reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}

impl Failure {
    /// What an SDK error says. Without an answer (no connection, no credentials, a time-out, a broken answer)
    /// another attempt may succeed; with one, its status and code decide.
    pub fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        match error {
            SdkError::ServiceError(service) => Self::answered(status, service.err()),
            // The request could not be built: the same request never will be.
            SdkError::ConstructionFailure(_) => Self { status, code: None, transient: false, reason: chain(error) },
            _ => Self { status, code: None, transient: true, reason: chain(error) },
        }
    }

    /// What the service's own error says.
    pub(crate) fn answered(status: Option<u16>, error: &impl ProvideErrorMetadata) -> Self {
        let code = error.code().map(str::to_owned);
        let message = error.message().unwrap_or("no message");
        let reason = match (&code, status) {
            (Some(code), Some(status)) => format!("{code}: {message} (status {status})"),
            (None, Some(status)) => format!("status {status}: {message}"),
            (code, None) => format!("{}: {message}", code.as_deref().unwrap_or("no code")),
        };
        let transient = status.is_some_and(is_transient_status) || code.as_deref().is_some_and(is_transient_code);
        Self { status, code, transient, reason }
    }

    /// A failure that the SDK knows only by a code, such as an entry of a batch.
    #[must_use]
    pub fn of_entry(code: &str, message: &str, sender_fault: bool) -> Self {
        let transient = !sender_fault || is_transient_code(code);
        Self { status: None, code: Some(code.to_owned()), transient, reason: format!("{code}: {message}") }
    }
}

fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// Codes that mean "later" whatever their status: S3 answers 400 to a slow upload, 403 to a clock that ran ahead
/// while the function was frozen, 400 or 403 to credentials that expired meanwhile; throttling has many names.
fn is_transient_code(code: &str) -> bool {
    matches!(
        code,
        "RequestTimeout"
            | "RequestTimeTooSkewed"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "Throttled"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestLimitExceeded"
            | "TooManyRequestsException"
            | "KMSThrottling"
            | "KMSThrottlingException"
            | "KmsThrottled"
            | "InternalError"
            | "ServiceUnavailable"
    )
}

/// The error and its sources on one line: the SDK's own text stops at the first ("dispatch failure").
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_server_errors_and_expired_credentials_are_transient() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(is_transient_status(status), "{status}");
        }
        for status in [400, 401, 403, 404, 405, 409, 412, 416] {
            assert!(!is_transient_status(status), "{status}");
        }
        for code in ["SlowDown", "ExpiredToken", "RequestTimeout", "KMSThrottlingException"] {
            assert!(is_transient_code(code), "{code}");
        }
        for code in ["AccessDenied", "NoSuchBucket", "InvalidParameter"] {
            assert!(!is_transient_code(code), "{code}");
        }
    }

    #[test]
    fn an_entry_that_the_service_itself_failed_is_transient() {
        assert!(Failure::of_entry("InternalFailure", "", false).transient);
        assert!(!Failure::of_entry("ReceiptHandleIsInvalid", "", true).transient);
    }
}
