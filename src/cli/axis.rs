//! Where the marks of an axis go: the range of the data in; round numbers, or the first days of years, months and
//! days, out. Pure.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::series::TimeNs;

/// The ends of a value axis and the marks on it, evenly spaced from end to end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ValueAxis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) labels: Vec<String>,
}

/// At most so many spaces between marks: a plot is a dozen rows high.
const MOST_SPACES: f64 = 4.0;

/// An axis that holds every value from `least` to `greatest`, both finite.
pub(super) fn value_axis(least: f64, greatest: f64) -> ValueAxis {
    // Values that are all equal, or too close for a double to be told apart, lie in the middle of an axis.
    let margin = if greatest - least > least.abs().max(greatest.abs()) * 1e-12 {
        0.0
    } else {
        (greatest.abs() * 0.05).max(f64::MIN_POSITIVE.sqrt())
    };
    let margin = if least == 0.0 && greatest == 0.0 { 1.0 } else { margin };
    let (least, greatest) = (least - margin, greatest + margin);
    let step = round_step(greatest / MOST_SPACES - least / MOST_SPACES, least, greatest);
    let (first, last) = ((least / step).floor(), (greatest / step).ceil());
    let mut labels = Vec::new();
    let mut index = first;
    while index <= last {
        labels.push(label(index * step, step));
        index += 1.0;
    }
    ValueAxis { low: first * step, high: last * step, labels }
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that needs no more than [`MOST_SPACES`].
fn round_step(smallest: f64, least: f64, greatest: f64) -> f64 {
    let mut power = 10_f64.powf(smallest.log10().floor());
    loop {
        for factor in [1.0, 2.0, 2.5, 5.0] {
            let step = factor * power;
            if (greatest / step).ceil() - (least / step).floor() <= MOST_SPACES {
                return step;
            }
        }
        power *= 10.0;
    }
}

/// The value with as many digits as the step needs, so that no two marks read the same.
fn label(value: f64, step: f64) -> String {
    let value = if value == 0.0 { 0.0 } else { value };
    let magnitude = value.abs().max(step);
    if !(1e-4..1e7).contains(&magnitude) || step < 1e-6 {
        return format!("{value:.2e}");
    }
    let decimals = (0..=7).find(|&digits| is_whole(step * 10_f64.powi(digits))).unwrap_or(7);
    format!("{value:.*}", usize::try_from(decimals).unwrap_or(0))
}

fn is_whole(value: f64) -> bool {
    (value - value.round()).abs() < 1e-6 * value.abs().max(1.0)
}

/// A mark on a time axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeMark {
    pub(super) time: TimeNs,
    pub(super) label: String,
}

/// Marks between two times on an axis of so many columns: the first days of years or months, days, or times of day; where
/// no cadence fits, the two ends.
pub(super) fn time_marks(first: TimeNs, last: TimeNs, columns: usize) -> Vec<TimeMark> {
    let (Some(from), Some(to)) = (civil(first), civil(last)) else { return Vec::new() };
    let days = from.date().duration_until(to.date()).as_hours() / 24;
    if days < 3 {
        let end = |time, at: DateTime| TimeMark { time, label: at.strftime("%Y-%m-%d %H:%M").to_string() };
        if first == last {
            return vec![end(first, from)];
        }
        let most = columns / ("01-31 14:30".len() + SPACE_BETWEEN_LABELS);
        let steps = MINUTES.iter().map(|minutes| times_of_day(*minutes, first, last, most));
        let fitting = steps.into_iter().find(|marks| marks.len() >= 2 && marks.len() <= most);
        return fitting.unwrap_or_else(|| vec![end(first, from), end(last, to)]);
    }
    for cadence in CADENCES {
        let most = columns / (cadence.label_width() + SPACE_BETWEEN_LABELS);
        let marks = marks(*cadence, from.date(), to.date(), first, last, most);
        if marks.len() >= 2 && marks.len() <= most {
            return marks;
        }
    }
    let ends = [(first, from), (last, to)];
    ends.map(|(time, at)| TimeMark { time, label: at.strftime("%Y-%m-%d").to_string() }).to_vec()
}

/// Minutes between marks that are times of day, from the closest to the widest.
const MINUTES: [i64; 9] = [1, 5, 15, 30, 60, 180, 360, 720, 1_440];

/// The whole multiples of so many minutes between two times; one more than `most` where there are too many.
fn times_of_day(minutes: i64, first: TimeNs, last: TimeNs, most: usize) -> Vec<TimeMark> {
    let step = minutes * 60_000_000_000;
    let start = first.div_euclid(step) + i64::from(first.rem_euclid(step) > 0);
    let times = (start..=last.div_euclid(step)).take(most + 1).filter_map(|count| count.checked_mul(step));
    let label = |time| civil(time).map(|at| at.strftime("%m-%d %H:%M").to_string());
    times.filter_map(|time| Some(TimeMark { time, label: label(time)? })).collect()
}

/// Labels closer than this read as one.
const SPACE_BETWEEN_LABELS: usize = 4;

/// How far marks are apart.
#[derive(Debug, Clone, Copy)]
enum Cadence {
    Days(i16),
    Months(i8),
    Years(i16),
}

impl Cadence {
    fn label_width(self) -> usize {
        match self {
            Self::Days(_) => "2024-01-31".len(),
            Self::Months(_) => "2024-01".len(),
            Self::Years(_) => "2024".len(),
        }
    }
}

/// From the closest to the widest: the first that leaves room for its labels is taken.
const CADENCES: &[Cadence] = &[
    Cadence::Days(1),
    Cadence::Days(5),
    Cadence::Days(7),
    Cadence::Days(14),
    Cadence::Months(1),
    Cadence::Months(3),
    Cadence::Months(6),
    Cadence::Years(1),
    Cadence::Years(2),
    Cadence::Years(5),
    Cadence::Years(10),
    Cadence::Years(25),
    Cadence::Years(100),
];

/// The marks of a cadence from one day to another; one more than `most` where there are too many.
fn marks(cadence: Cadence, from: Date, to: Date, first: TimeNs, last: TimeNs, most: usize) -> Vec<TimeMark> {
    let (start, step, format) = match cadence {
        Cadence::Days(count) => (Some(from), i32::from(count).days(), "%Y-%m-%d"),
        Cadence::Months(count) => {
            let month = (from.month() - 1) / count * count + 1;
            (Date::new(from.year(), month, 1).ok(), i32::from(count).months(), "%Y-%m")
        }
        Cadence::Years(count) => {
            let year = from.year().div_euclid(count) * count;
            (Date::new(year, 1, 1).ok(), i32::from(count).years(), "%Y")
        }
    };
    let Some(start) = start else { return Vec::new() };
    let is_inside = |date: &Date| ns(*date).is_some_and(|time| first <= time && time <= last);
    let mark = |date: Date| Some(TimeMark { time: ns(date)?, label: date.strftime(format).to_string() });
    start.series(step).take_while(|date| *date <= to).filter(is_inside).take(most + 1).filter_map(mark).collect()
}

/// The UTC date and time; nothing outside the years that a calendar has.
pub(super) fn civil(time: TimeNs) -> Option<DateTime> {
    Timestamp::from_nanosecond(i128::from(time)).ok().map(|timestamp| TimeZone::UTC.to_datetime(timestamp))
}

fn ns(date: Date) -> Option<TimeNs> {
    let timestamp = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
    TimeNs::try_from(timestamp.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn check_values(least: f64, greatest: f64, expected: &[&str]) {
        let axis = value_axis(least, greatest);
        assert_eq!(axis.labels, expected, "{least} to {greatest}");
        assert!(axis.low <= least && greatest <= axis.high, "{least} to {greatest}: {axis:?}");
        assert!(axis.low < axis.high);
    }

    #[test]
    fn value_marks_are_round_and_hold_the_data() {
        check_values(0.83, 1.59, &["0.8", "1.0", "1.2", "1.4", "1.6"]);
        check_values(1.0, 4.0, &["1", "2", "3", "4"]);
        check_values(-0.021, 0.034, &["-0.04", "-0.02", "0.00", "0.02", "0.04"]);
        check_values(81.0, 305.0, &["0", "100", "200", "300", "400"]);
        check_values(1.0e9, 3.9e9, &["1.00e9", "2.00e9", "3.00e9", "4.00e9"]);
    }

    #[test]
    fn equal_values_lie_inside_their_axis() {
        for value in [0.0, 1.0, 1.95583, -7.5, 1e-300, 1e300, 123_456_789.0] {
            let axis = value_axis(value, value);
            assert!(axis.low < value && value < axis.high, "{value}: {axis:?}");
            assert!((2..=5).contains(&axis.labels.len()), "{value}: {axis:?}");
        }
        let axis = value_axis(f64::MIN, f64::MAX);
        assert!((2..=5).contains(&axis.labels.len()), "{axis:?}");
    }

    fn check_times(from: Date, to: Date, columns: usize, expected: &[&str]) {
        let marks = time_marks(ns(from).unwrap(), ns(to).unwrap(), columns);
        let labels: Vec<&str> = marks.iter().map(|mark| mark.label.as_str()).collect();
        assert_eq!(labels, expected);
    }

    #[test]
    fn time_marks_are_the_first_days_of_years_months_or_days() {
        let (opening, newest) = (date(1999, 1, 4), date(2026, 10, 30));
        check_times(opening, newest, 60, &["2000", "2005", "2010", "2015", "2020", "2025"]);
        check_times(opening, newest, 40, &["2000", "2010", "2020"]);
        let (autumn, spring) = (date(2023, 11, 2), date(2024, 5, 30));
        check_times(autumn, spring, 66, &["2023-12", "2024-01", "2024-02", "2024-03", "2024-04", "2024-05"]);
        check_times(autumn, spring, 60, &["2024-01", "2024-04"]);
        let leap_day = ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01"];
        check_times(date(2024, 2, 27), date(2024, 3, 1), 60, &leap_day);
        check_times(date(2024, 2, 27), date(2024, 2, 27), 60, &["2024-02-27 00:00"]);
        check_times(date(2024, 2, 27), date(2024, 2, 28), 40, &["02-27 00:00", "02-28 00:00"]);
        check_times(date(2024, 2, 27), date(2024, 2, 28), 60, &["02-27 00:00", "02-27 12:00", "02-28 00:00"]);
        check_times(date(2024, 2, 3), date(2024, 2, 20), 20, &["2024-02-03", "2024-02-20"]);
    }
}
