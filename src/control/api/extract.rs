//! The parts of a call as values that were checked: path, query and body in, or a problem.

use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::Problem;
use crate::ids;
use crate::series::TimeNs;

/// A body is a few kilobytes: who takes longer is not sending it.
const BODY_PATIENCE: Duration = Duration::from_secs(20);

/// The one parameter of a path, as an identifier.
#[derive(Debug)]
pub struct Id<T>(pub T);

impl<S: Send + Sync, T: TryFrom<String, Error = ids::Error>> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::parameter(rejection.body_text()))?;
        T::try_from(text).map(Self).map_err(|error| Problem::parameter(error.to_string()))
    }
}

/// The parameters of the query. Those that nobody knows are ignored.
#[derive(Debug)]
pub struct Parameters<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(value)| Self(value)).map_err(|rejection| Problem::parameter(rejection.body_text()))
    }
}

/// A JSON body.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let reading = tokio::time::timeout(BODY_PATIENCE, Json::<Value>::from_request(request, state));
        let Ok(read) = reading.await else {
            return Err(Problem::body(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"));
        };
        match read {
            Ok(Json(value)) => decode(value).map(Self),
            Err(JsonRejection::BytesRejection(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Problem::body(rejection.status(), "the body is larger than LIMIT_BODY_BYTES allows"))
            }
            Err(rejection) => Err(Problem::body(rejection.status(), rejection.body_text())),
        }
    }
}

/// An object alone: the types of bodies would be read from a list of their fields, too.
fn decode<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    let wrong = |detail: String| Problem::body(StatusCode::UNPROCESSABLE_ENTITY, detail);
    if !value.is_object() {
        return Err(wrong("the body must be an object".to_owned()));
    }
    serde_json::from_value(value).map_err(|error| wrong(error.to_string()))
}

/// A number of the query within its bounds; `default` where there is none.
///
/// # Errors
/// When it is no such number.
pub fn number<T>(name: &str, text: Option<&str>, default: T, most: T) -> Result<T, Problem>
where
    T: FromStr + PartialOrd + Copy + From<u8> + std::fmt::Display,
{
    let Some(text) = text else { return Ok(default) };
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if is_digits && number >= T::from(1) && number <= most => Ok(number),
        _ => Err(Problem::parameter(format!("{name} must be an integer from 1 to {most}"))),
    }
}

/// Which end of a day is meant by a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Its first nanosecond.
    Start,
    /// Its last.
    End,
}

/// A time of the query: RFC 3339, a time without a zone, which is UTC, or a date, which is the whole day.
///
/// # Errors
/// When it is none.
pub fn time(name: &str, text: Option<&str>, edge: Edge) -> Result<Option<TimeNs>, Problem> {
    const DAY_NS: i128 = 86_400_000_000_000;
    let Some(text) = text else { return Ok(None) };
    let wrong = || Problem::parameter(format!("{name} must be a time such as 2025-01-15T10:30:00Z, or a date"));
    let utc = |datetime: DateTime| TimeZone::UTC.to_timestamp(datetime).ok();
    let time_ns = if let Ok(timestamp) = text.parse::<Timestamp>() {
        timestamp.as_nanosecond()
    } else if !text.contains(['T', 't', ' ']) {
        let date: Date = text.parse().map_err(|_| wrong())?;
        let start = utc(date.to_datetime(jiff::civil::Time::midnight())).ok_or_else(wrong)?.as_nanosecond();
        if edge == Edge::Start { start } else { start + DAY_NS - 1 }
    } else {
        text.parse().ok().and_then(utc).ok_or_else(wrong)?.as_nanosecond()
    };
    // Beyond the range of the data there is nothing, on either side.
    let clamped = time_ns.clamp(TimeNs::MIN.into(), TimeNs::MAX.into());
    TimeNs::try_from(clamped).map(Some).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_within_bounds() {
        assert_eq!(number("limit", None, 50u32, 200).unwrap(), 50);
        assert_eq!(number("limit", Some("200"), 50u32, 200).unwrap(), 200);
        for text in ["", "0", "201", "+1", "-1", "1.0", "1e2", " 1", "99999999999999999999"] {
            let problem = number("limit", Some(text), 50u32, 200).unwrap_err();
            assert_eq!(problem.detail, "limit must be an integer from 1 to 200", "{text}");
        }
    }

    fn check_time(text: &str, edge: Edge, expected: &str) {
        let expected: Timestamp = expected.parse().unwrap();
        let found = time("from", Some(text), edge).unwrap().unwrap();
        assert_eq!(i128::from(found), expected.as_nanosecond(), "{text}");
    }

    #[test]
    fn a_time_is_rfc_3339_or_utc_or_a_day() {
        check_time("2025-01-15T10:30:00Z", Edge::Start, "2025-01-15T10:30:00Z");
        check_time("2025-01-15T10:30:00+02:00", Edge::End, "2025-01-15T08:30:00Z");
        check_time("2025-01-15T10:30:00", Edge::End, "2025-01-15T10:30:00Z");
        check_time("2025-01-15", Edge::Start, "2025-01-15T00:00:00Z");
        check_time("2025-01-15", Edge::End, "2025-01-15T23:59:59.999999999Z");
        check_time("9999-01-01", Edge::Start, "2262-04-11T23:47:16.854775807Z");
        assert_eq!(time("to", None, Edge::End).unwrap(), None);
        for text in ["", "yesterday", "2025-13-01", "2025-01-15T25:00:00Z", "2025-01"] {
            assert!(time("to", Some(text), Edge::End).is_err(), "{text}");
        }
    }
}
