//! Series of one's own, side by side: a CSV file with a column of times and a series in every other in; each series' code
//! and observations out. A file that could be misread is refused, and the error says which line and column to look at.

use std::collections::BTreeMap;
use std::io;

use super::columns::{Names, NoColumn, Role};
use super::{SeriesRows, time};
use crate::ids::{self, SeriesCode};
use crate::series::TimeNs;

/// Why a file is not understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read, or its bytes are no CSV.
    #[error("the CSV file cannot be read")]
    Read(#[from] csv::Error),
    /// The named column of times is not there.
    #[error("line 1: {0}")]
    NoColumn(#[from] NoColumn),
    /// A header is no series code.
    #[error("line 1, column {column}: {source}")]
    Code {
        /// The column, counted from 1.
        column: usize,
        /// Why.
        source: ids::Error,
    },
    /// A series has two columns.
    #[error("line 1, column {column}: {code} has a column already")]
    CodeTwice {
        /// The second column, counted from 1.
        column: usize,
        /// The series.
        code: SeriesCode,
    },
    /// A time is none.
    #[error("line {line}, column {column}: expected {}, found {found:?}", time::EXPECTED)]
    Time {
        /// The line, counted from 1.
        line: u64,
        /// The column, counted from 1.
        column: usize,
        /// What is there.
        found: String,
    },
    /// A time has two rows.
    #[error("line {line}, column {column}: {time} has a row already")]
    TimeTwice {
        /// The second line.
        line: u64,
        /// The column, counted from 1.
        column: usize,
        /// The time.
        time: String,
    },
    /// A value is none.
    #[error("line {line}, column {code}: expected a number, nothing or N/A, found {found:?}")]
    Value {
        /// The line, counted from 1.
        line: u64,
        /// The series.
        code: SeriesCode,
        /// What is there.
        found: String,
    },
    /// There is not a single value.
    #[error("the CSV file has no value at all")]
    NoValues,
}

/// Reads a file. Times are in the first column, or in the one that is named. Rows may come in any order; a time without a
/// value is no observation, and series without a single value are left out.
///
/// # Errors
/// The first thing that is wrong, with its line and column.
pub fn parse(input: impl io::Read, names: &Names) -> Result<Vec<SeriesRows>, Error> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
    let headers: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    let time_column = if names.time.is_some() { names.find(Role::Time, &headers)? } else { 0 };
    let codes = codes(&headers, time_column)?;
    let mut rows: BTreeMap<TimeNs, Vec<Option<f64>>> = BTreeMap::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let (text, column) = (record.get(time_column).unwrap_or_default(), time_column + 1);
        let time = time::parse(text).ok_or_else(|| Error::Time { line, column, found: text.to_owned() })?;
        let mut values = Vec::with_capacity(codes.len());
        for (column, code) in &codes {
            let cell = record.get(*column).unwrap_or_default();
            values.push(value(cell).map_err(|()| Error::Value { line, code: code.clone(), found: cell.to_owned() })?);
        }
        if rows.insert(time, values).is_some() {
            return Err(Error::TimeTwice { line, column, time: text.to_owned() });
        }
    }
    let observations = |index: usize| rows.iter().filter_map(move |(&time, values)| Some((time, values[index]?)));
    let series = codes.into_iter().enumerate();
    let series = series.map(|(index, (_, code))| SeriesRows { code, observations: observations(index).collect() });
    let series: Vec<SeriesRows> = series.filter(|series| !series.observations.is_empty()).collect();
    if series.is_empty() { Err(Error::NoValues) } else { Ok(series) }
}

/// A cell's value; nothing where it is empty or `N/A`.
pub(super) fn value(cell: &str) -> Result<Option<f64>, ()> {
    match cell {
        "" | "N/A" => Ok(None),
        _ => cell.parse::<f64>().ok().filter(|value| value.is_finite()).map(Some).ok_or(()),
    }
}

/// The series with their columns.
fn codes(headers: &[String], time_column: usize) -> Result<Vec<(usize, SeriesCode)>, Error> {
    let mut codes: Vec<(usize, SeriesCode)> = Vec::with_capacity(headers.len());
    for (index, text) in headers.iter().enumerate().filter(|(index, _)| *index != time_column) {
        let column = index + 1;
        let code = SeriesCode::parse(text).map_err(|source| Error::Code { column, source })?;
        if codes.iter().any(|(_, other)| *other == code) {
            return Err(Error::CodeTwice { column, code });
        }
        codes.push((index, code));
    }
    Ok(codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, names: &Names) -> Vec<String> {
        let series = parse(text.as_bytes(), names).unwrap();
        let shown = |series: &SeriesRows| {
            let rows = series.observations.iter().map(|(time, value)| format!(" {}:{value}", time::timestamp(*time)));
            format!("{}{}", series.code, rows.collect::<String>())
        };
        series.iter().map(shown).collect()
    }

    #[test]
    fn columns_become_series() {
        let found = parsed("day,sales,returns,none\n2024-01-02,-1.5,,\n2024-01-01,3,N/A,\n", &Names::default());
        assert_eq!(found, ["sales 2024-01-01T00:00:00Z:3 2024-01-02T00:00:00Z:-1.5"], "empty series are left out");
        let names = Names { time: Some("at".to_owned()), ..Names::default() };
        let found = parsed("load,at\n0.5,2024-01-01T12:00:00+02:00\n0.25,2024-01-01 09:59:59.5\n", &names);
        assert_eq!(found, ["load 2024-01-01T09:59:59.5Z:0.25 2024-01-01T10:00:00Z:0.5"]);
    }

    fn check_error(text: &str, expected: &str) {
        assert_eq!(parse(text.as_bytes(), &Names::default()).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        check_error("day,a,a\n", "line 1, column 3: a has a column already");
        check_error(
            "day,a b\n",
            "line 1, column 2: seriesCode \"a b\" may hold only letters, digits and . _ : - and may not be . or ..",
        );
        check_error(
            "day,a\n01/02/2024,1\n",
            "line 2, column 1: expected a day such as 2024-01-31, or a time such as 2024-01-31T14:30:00, with or without a zone, found \"01/02/2024\"",
        );
        check_error("day,a\n2024-01-01,1\n2024-01-01,2\n", "line 3, column 1: 2024-01-01 has a row already");
        check_error("day,a\n2024-01-01,1.000,5\n", "the CSV file cannot be read");
        check_error("day,a\n2024-01-01,NaN\n", "line 2, column a: expected a number, nothing or N/A, found \"NaN\"");
        check_error("day,a\n", "the CSV file has no value at all");
    }
}
