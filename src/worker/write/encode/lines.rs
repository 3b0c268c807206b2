//! JSONL: observations come in; one line of text for each goes out.
//!
//! A line is the same as the one before but for some digits of the time and the value, so it is written once and only
//! the digits are replaced: most of the time that a run over millions of rows takes is spent here.

use jiff::civil::Date;

use super::parts::Parts;
use crate::series::{Series, TimeNs};

/// A line up to the value, in whole seconds.
const LINE: [u8; 42] = *b"{\"obs_time\":\"0000-00-00T00:00:00\",\"value\":";

/// Where in the line the day, the hour, the minute, the second, and the end of the time are.
const DAY: usize = 13;
const HOUR: usize = DAY + 11;
const MINUTE: usize = HOUR + 3;
const SECOND: usize = MINUTE + 3;
const TIME_END: usize = SECOND + 2;

/// A line with a fraction, a long value and its end has some bytes more than this, most have less.
const TYPICAL_LINE_BYTES: usize = 72;

/// The lines that are written before it is seen whether a part is full: what is over has to be copied.
const ROWS_AT_ONCE: usize = 1 << 13;

const NS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
const NS_PER_DAY: i64 = SECONDS_PER_DAY * NS_PER_SECOND;

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [*b"00"; 100];
    let (mut index, mut tens, mut ones) = (0, b'0', b'0');
    while index < 100 {
        pairs[index] = [tens, ones];
        if ones == b'9' {
            (tens, ones) = (tens + 1, b'0');
        } else {
            ones += 1;
        }
        index += 1;
    }
    pairs
};

/// Writes lines. Keeps the text of the day, which rows in order share.
pub(super) struct Lines {
    /// When the day of the line before began; before any line, what no time is a day's length after.
    day_start_ns: i128,
    line: [u8; 42],
    value: zmij::Buffer,
}

impl Lines {
    /// Before the first line.
    pub(super) fn new() -> Self {
        Self { day_start_ns: i128::MIN, line: LINE, value: zmij::Buffer::new() }
    }

    /// A line for each of the next observations.
    pub(super) fn write(&mut self, series: &Series, parts: &mut Parts) {
        let pieces = series.times().chunks(ROWS_AT_ONCE).zip(series.values().chunks(ROWS_AT_ONCE));
        for (times, values) in pieces {
            parts.add(|text| self.write_to(times, values, text));
        }
    }

    /// Times are ISO 8601 UTC without a suffix, values the shortest text that reads back to the same f64. JSON has no
    /// infinity: a value that is not finite is `null`, as null is.
    pub(super) fn write_to(&mut self, times: &[TimeNs], values: &[f64], text: &mut Vec<u8>) {
        text.reserve(times.len() * TYPICAL_LINE_BYTES);
        for (&time, &value) in times.iter().zip(values) {
            self.write_time(time, text);
            let value = if value.is_finite() { self.value.format_finite(value) } else { "null" };
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"}\n");
        }
    }

    /// Everything before the value.
    fn write_time(&mut self, time: TimeNs, text: &mut Vec<u8>) {
        let in_day = i128::from(time).wrapping_sub(self.day_start_ns);
        let ns_of_day = match i64::try_from(in_day) {
            Ok(in_day @ 0..NS_PER_DAY) => in_day,
            _ => self.begin_day(time),
        };
        let (second_of_day, fraction) = (ns_of_day / NS_PER_SECOND, ns_of_day % NS_PER_SECOND);
        self.line[HOUR..HOUR + 2].copy_from_slice(&pair(second_of_day / 3_600));
        self.line[MINUTE..MINUTE + 2].copy_from_slice(&pair(second_of_day / 60 % 60));
        self.line[SECOND..SECOND + 2].copy_from_slice(&pair(second_of_day % 60));
        if fraction == 0 {
            text.extend_from_slice(&self.line);
        } else {
            text.extend_from_slice(&self.line[..TIME_END]);
            push_fraction(fraction, text);
            text.extend_from_slice(&self.line[TIME_END..]);
        }
    }

    /// Puts the day of this time into the line; the answer is how far into it the time is. Nanoseconds in an i64 reach
    /// from 1677 to 2262, so every day has a date.
    #[cold]
    fn begin_day(&mut self, time: TimeNs) -> i64 {
        const EPOCH: Date = Date::constant(1970, 1, 1);
        let day = time.div_euclid(NS_PER_DAY);
        let date = EPOCH.checked_add(jiff::Span::new().days(day)).unwrap_or(EPOCH);
        let year = i64::from(date.year());
        let parts = [year / 100, year % 100, i64::from(date.month()), i64::from(date.day())].map(pair);
        for (place, part) in [0, 2, 5, 8].into_iter().zip(parts) {
            self.line[DAY + place..DAY + place + 2].copy_from_slice(&part);
        }
        // The day that holds the first nanosecond of the range begins before it.
        self.day_start_ns = i128::from(day) * i128::from(NS_PER_DAY);
        time.rem_euclid(NS_PER_DAY)
    }
}

/// The two digits of a number below 100.
fn pair(number: i64) -> [u8; 2] {
    usize::try_from(number).ok().and_then(|number| PAIRS.get(number)).copied().unwrap_or(*b"00")
}

/// Three, six or nine digits, as few as tell all of it.
fn push_fraction(fraction_ns: i64, text: &mut Vec<u8>) {
    let (mut number, digits) = match fraction_ns {
        fraction if fraction % 1_000_000 == 0 => (fraction / 1_000_000, 3),
        fraction if fraction % 1_000 == 0 => (fraction / 1_000, 6),
        fraction => (fraction, 9),
    };
    text.push(b'.');
    let start = text.len();
    text.resize(start + digits, b'0');
    for place in text[start..].iter_mut().rev() {
        // A digit is 0 to 9, so the conversion always holds.
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}
