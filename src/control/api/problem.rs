//! What is answered when a call has no effect: an error in, a problem document of RFC 9457 out.

use axum::Json;
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::control::rejection::{Error, Rejection};
use crate::readback;

/// The media type of problem documents.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What every problem's type begins with.
const TYPE: &str = "urn:metrics-engine:problem:";

/// A problem document of RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words, the same each time.
    pub title: String,
    /// The status of the answer.
    #[schemars(range(min = 400, max = 599))]
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        let kind = format!("{TYPE}{kind}");
        Self { kind, title: title.to_owned(), status: status.as_u16(), detail: detail.into() }
    }

    /// Nothing is served there.
    #[must_use]
    pub fn no_such_path() -> Self {
        let detail = "nothing is served at this path; /openapi.json says what is";
        Self::new(StatusCode::NOT_FOUND, "no-such-path", "No such path", detail)
    }

    /// What is served there is not called so.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let detail = format!("what is served at this path has other methods: see the header {ALLOW}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
    }

    /// A parameter of the path or the query is not what it has to be.
    #[must_use]
    pub fn parameter(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-parameter", "Invalid parameter", detail)
    }

    /// The body cannot be read.
    #[must_use]
    pub fn body(status: StatusCode, detail: impl Into<String>) -> Self {
        let (kind, title) = match status {
            StatusCode::REQUEST_TIMEOUT => ("body-too-slow", "Body too slow"),
            StatusCode::PAYLOAD_TOO_LARGE => ("body-too-large", "Body too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ("not-json", "Not JSON"),
            StatusCode::UNPROCESSABLE_ENTITY => ("invalid-body", "Invalid body"),
            _ => ("malformed-body", "Malformed body"),
        };
        Self::new(status, kind, title, detail)
    }

    /// There is no such thing.
    #[must_use]
    pub fn unknown(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, &format!("unknown-{kind}"), &format!("Unknown {kind}"), detail)
    }

    /// Whoever writes has to show a key.
    #[must_use]
    pub fn no_key() -> Self {
        let detail = "whoever writes shows the key: Authorization: Bearer KEY, or X-Api-Key: KEY";
        Self::new(StatusCode::UNAUTHORIZED, "no-key", "No key", detail)
    }

    /// The key is another one.
    #[must_use]
    pub fn wrong_key() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "wrong-key", "Wrong key", "this is not the key")
    }

    /// No key is configured, so that no one can show it.
    #[must_use]
    pub fn no_key_configured() -> Self {
        let detail = "nothing is written through this API: no API_KEY is configured";
        Self::new(StatusCode::FORBIDDEN, "no-key-configured", "No key configured", detail)
    }

    /// A page of another site called.
    #[must_use]
    pub fn foreign_site() -> Self {
        let detail = "pages of other sites may not write here";
        Self::new(StatusCode::FORBIDDEN, "foreign-site", "Foreign site", detail)
    }

    fn unprocessable(kind: &str, title: &str, rejection: &Rejection) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind, title, rejection.to_string())
    }

    fn conflict(kind: &str, title: &str, rejection: &Rejection) -> Self {
        Self::new(StatusCode::CONFLICT, kind, title, rejection.to_string())
    }

    fn unavailable(what: &str) -> Self {
        let detail = format!("the {what} does not answer; another attempt may succeed");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Unavailable", detail)
    }

    fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        match &rejection {
            Rejection::UnknownDataset { .. } => Self::unknown("dataset", rejection.to_string()),
            Rejection::UnknownMetric { .. } => Self::unknown("metric", rejection.to_string()),
            Rejection::UnknownRun { .. } | Rejection::UnknownRunOfMetric { .. } => {
                Self::unknown("run", rejection.to_string())
            }
            Rejection::SeriesOfOtherDataset { .. } => {
                Self::conflict("series-of-other-dataset", "Series of another dataset", &rejection)
            }
            Rejection::SeriesWithoutDataset { .. } => {
                Self::conflict("series-without-dataset", "Series without a dataset", &rejection)
            }
            Rejection::NoUpdate { .. } => Self::conflict("no-update", "No update", &rejection),
            Rejection::RunIsOver { .. } => Self::conflict("run-is-over", "Run is over", &rejection),
            Rejection::UnknownSeries { .. } => Self::unprocessable("unknown-series", "Unknown series", &rejection),
            Rejection::ReservedCode { .. } => Self::unprocessable("reserved-code", "Reserved code", &rejection),
            Rejection::Expression(_) | Rejection::UnknownExpressionType { .. } => {
                Self::unprocessable("invalid-expression", "Invalid expression", &rejection)
            }
            Rejection::Unreadable(_)
            | Rejection::UnknownEvent { .. }
            | Rejection::Missing { .. }
            | Rejection::Malformed { .. }
            | Rejection::Id(_)
            | Rejection::Path { .. }
            | Rejection::ForeignBucket { .. } => Self::unprocessable("invalid-body", "Invalid body", &rejection),
        }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!(%error, "a call failed at the database");
        match error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => {
                Self::unavailable("database")
            }
            _ => Self::internal("the database did not do what it was asked; the log says why"),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Rejected(rejection) => rejection.into(),
            Error::Database(error) => error.into(),
        }
    }
}

impl From<readback::Error> for Problem {
    fn from(error: readback::Error) -> Self {
        tracing::error!(%error, "the values of a metric cannot be read");
        match &error {
            readback::Error::Storage(storage) if storage.is_transient() => Self::unavailable("bucket"),
            _ => Self::internal("the metric's current version cannot be read; the log says why"),
        }
    }
}

/// The path that was asked for, for the log.
#[must_use]
pub fn shown(uri: &Uri) -> String {
    uri.path().chars().take(200).collect()
}
