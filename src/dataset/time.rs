//! Times as people write them in tables: a text in, nanoseconds since the epoch out. Without a zone they are UTC.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::series::TimeNs;

/// A day in UTC.
pub(super) const DAY_NS: TimeNs = 86_400_000_000_000;

/// What a time looks like, for messages.
pub(super) const EXPECTED: &str =
    "a day such as 2024-01-31, or a time such as 2024-01-31T14:30:00, with or without a zone";

/// Reads a day or a time; nothing where it could be misread, or lies outside the years 1677 to 2262.
pub(super) fn parse(text: &str) -> Option<TimeNs> {
    // Years come first, and are written out: 01/02/2024 is somebody's January and somebody else's February.
    let bytes = text.as_bytes();
    if bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return None;
    }
    let timestamp = if bytes.len() == "2024-01-31".len() {
        let date = Date::strptime("%Y-%m-%d", text).ok()?;
        TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?
    } else {
        let with_zone = text.parse::<Timestamp>().ok();
        with_zone.or_else(|| TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok())?
    };
    TimeNs::try_from(timestamp.as_nanosecond()).ok()
}

/// The start of a day in UTC.
pub(super) fn midnight_ns(date: Date) -> TimeNs {
    let midnight = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).map_or(0, Timestamp::as_nanosecond);
    TimeNs::try_from(midnight).unwrap_or_default()
}

/// The time as the calendar knows it: every time of a series has one.
pub(super) fn timestamp(time: TimeNs) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(time)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_times_are_utc_unless_they_say_otherwise() {
        for (text, expected) in [
            ("1970-01-02", Some(DAY_NS)),
            ("1970-01-01T00:00:00.000000007", Some(7)),
            ("1970-01-01 00:00:01", Some(1_000_000_000)),
            ("1970-01-01T00:01", Some(60_000_000_000)),
            ("1970-01-01T02:00:00+02:00", Some(0)),
            ("1970-01-01T00:00:01Z", Some(1_000_000_000)),
            ("01/02/2024", None),
            ("20240131", None),
            ("2024-02-30", None),
            ("2024-01-31T25:00:00", None),
            ("1500-01-01", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
