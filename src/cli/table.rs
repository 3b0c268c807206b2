//! A series in figures: a series in, lines of text out. How many rows, how many without a value, the extremes, and
//! the first and last rows.

use super::axis::civil;
use crate::series::{Series, TimeNs};

/// Rows shown from each end.
const SHOWN: usize = 3;

/// Digits of a value: a rate has five or six.
const SIGNIFICANT_DIGITS: i32 = 7;

/// The figures of a series.
#[must_use]
pub fn table(series: &Series) -> Vec<String> {
    let times = Times::of(series);
    let mut lines = vec![format!("rows      {}", grouped(series.len()))];
    let null_count = series.values().iter().filter(|value| value.is_nan()).count();
    lines.push(format!("nulls     {}", grouped(null_count)));
    let infinite_count = series.values().iter().filter(|value| value.is_infinite()).count();
    if infinite_count > 0 {
        lines.push(format!("infinite  {}", grouped(infinite_count)));
    }
    if let Some((least, greatest)) = extremes(series) {
        lines.push(format!("min       {:<12} {}", number(least.1), times.text(least.0)));
        lines.push(format!("max       {:<12} {}", number(greatest.1), times.text(greatest.0)));
    }
    if !series.is_empty() {
        lines.push(String::new());
        lines.extend(rows(series, times));
    }
    lines
}

/// The first and the last rows, and dots between them where rows are left out.
fn rows(series: &Series, times: Times) -> Vec<String> {
    let rows: Vec<(TimeNs, f64)> = series.times().iter().copied().zip(series.values().iter().copied()).collect();
    let line = |&(time, value): &(TimeNs, f64)| format!("{}  {}", times.text(time), number(value));
    if rows.len() <= 2 * SHOWN + 1 {
        return rows.iter().map(line).collect();
    }
    let mut lines: Vec<String> = rows[..SHOWN].iter().map(line).collect();
    lines.push("…".to_owned());
    lines.extend(rows[rows.len() - SHOWN..].iter().map(line));
    lines
}

/// The least and the greatest finite value, each with the first time that has it.
fn extremes(series: &Series) -> Option<((TimeNs, f64), (TimeNs, f64))> {
    let mut finite = series.iter().filter_map(|(time, value)| Some((time, value.filter(|value| value.is_finite())?)));
    let first = finite.next()?;
    Some(finite.fold((first, first), |(least, greatest), one| {
        (if one.1 < least.1 { one } else { least }, if one.1 > greatest.1 { one } else { greatest })
    }))
}

/// How the times of a series are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    Days,
    Seconds,
}

impl Times {
    /// Days where every time is a midnight.
    pub(super) fn of(series: &Series) -> Self {
        const DAY_NS: TimeNs = 86_400_000_000_000;
        if series.times().iter().all(|time| time % DAY_NS == 0) { Self::Days } else { Self::Seconds }
    }

    /// The time in UTC.
    pub(super) fn text(self, time: TimeNs) -> String {
        let format = match self {
            Self::Days => "%Y-%m-%d",
            Self::Seconds => "%Y-%m-%dT%H:%M:%S",
        };
        civil(time).map_or_else(|| format!("{time} ns"), |at| at.strftime(format).to_string())
    }
}

/// A value, rounded to what a reader can take in; the files have every digit.
pub(super) fn number(value: f64) -> String {
    if value.is_nan() {
        return "null".to_owned();
    }
    if value.is_infinite() || value == 0.0 {
        return value.abs().to_string().replace("inf", if value < 0.0 { "-inf" } else { "inf" });
    }
    let magnitude = (0..7).take_while(|&digits| value.abs() >= 10_f64.powi(digits)).count();
    if value.abs() < 1e-4 || magnitude >= 7 {
        return format!("{value:.3e}");
    }
    let decimals = (SIGNIFICANT_DIGITS - i32::try_from(magnitude).unwrap_or(0)).max(0);
    let text = format!("{value:.*}", usize::try_from(decimals).unwrap_or(0));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A count with a comma between thousands.
#[must_use]
pub fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::NULL;

    #[test]
    fn numbers_are_short_and_honest() {
        for (value, expected) in [
            (1.1172, "1.1172"),
            (0.0, "0"),
            (-0.0, "0"),
            (157.250_626_566_416, "157.2506"),
            (20_275.17, "20275.17"),
            (100.0, "100"),
            (0.000_123_456_789, "0.0001235"),
            (1.5e-9, "1.500e-9"),
            (372_816_000.0, "3.728e8"),
            (NULL, "null"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!([0, 999, 1_000, 7_126, 1_234_567].map(grouped), ["0", "999", "1,000", "7,126", "1,234,567"]);
    }

    fn days(values: &[f64]) -> Series {
        let times = (0..i64::try_from(values.len()).unwrap()).map(|day| day * 86_400_000_000_000).collect();
        Series::new(times, values.to_vec()).unwrap()
    }

    #[test]
    fn a_long_series_shows_its_ends() {
        let mut values: Vec<f64> = (0..20).map(f64::from).collect();
        values[0] = NULL;
        values[5] = f64::INFINITY;
        values[19] = -3.25;
        insta::assert_snapshot!(table(&days(&values)).join("\n"));
    }

    #[test]
    fn a_short_series_shows_every_row() {
        insta::assert_snapshot!(table(&days(&[1.0, 2.0, NULL])).join("\n"));
    }

    #[test]
    fn series_without_values_have_no_extremes() {
        insta::assert_snapshot!(table(&days(&[NULL, NULL])).join("\n"));
        assert_eq!(table(&Series::empty()), ["rows      0", "nulls     0"]);
    }

    #[test]
    fn times_within_a_day_are_written_in_full() {
        let series = Series::new(vec![0, 5_400_000_000_000], vec![1.0, 2.0]).unwrap();
        assert_eq!(table(&series).last().unwrap(), "1970-01-01T01:30:00  2");
    }
}
