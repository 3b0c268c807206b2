//! Series of one's own, one below the other: rows of time, series and value in; each series' code and observations out.
//! A row without a value is an observation of null: whoever wants none leaves the row out.

use std::collections::BTreeMap;
use std::io;

use super::columns::{Names, NoColumn, Role};
use super::{SeriesRows, time, wide};
use crate::ids::{self, SeriesCode};
use crate::series::{NULL, TimeNs};

/// Why rows do not make series.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read, or its bytes are no CSV.
    #[error("the CSV file cannot be read")]
    Read(#[from] csv::Error),
    /// A column is missing.
    #[error("line 1: {0}")]
    NoColumn(#[from] NoColumn),
    /// A code is none.
    #[error("row {row}: {source}")]
    Code {
        /// The row, counted from 1, without the header.
        row: u64,
        /// Why.
        source: ids::Error,
    },
    /// A time is none.
    #[error("row {row}: expected {}, found {found:?}", time::EXPECTED)]
    Time {
        /// The row, counted from 1, without the header.
        row: u64,
        /// What is there.
        found: String,
    },
    /// A series has two rows of one time.
    #[error("row {row}: {code} has a row at {time} already")]
    Twice {
        /// The second row, counted from 1, without the header.
        row: u64,
        /// The series.
        code: SeriesCode,
        /// The time.
        time: jiff::Timestamp,
    },
    /// A value is none.
    #[error("row {row}: expected a number, nothing or N/A, found {found:?}")]
    Value {
        /// The row, counted from 1, without the header.
        row: u64,
        /// What is there.
        found: String,
    },
    /// There is not a single row.
    #[error("there is no row at all")]
    NoRows,
}

/// Collects rows in any order.
#[derive(Debug, Default)]
pub(super) struct Collected(BTreeMap<SeriesCode, BTreeMap<TimeNs, f64>>);

impl Collected {
    /// Adds a row; refuses a second one of the same series and time.
    pub(super) fn add(&mut self, row: u64, code: &str, time: TimeNs, value: Option<f64>) -> Result<(), Error> {
        let code = SeriesCode::parse(code).map_err(|source| Error::Code { row, source })?;
        if self.0.get(&code).is_some_and(|series| series.contains_key(&time)) {
            return Err(Error::Twice { row, code, time: time::timestamp(time) });
        }
        self.0.entry(code).or_default().insert(time, value.unwrap_or(NULL));
        Ok(())
    }

    /// The series, in the order of their codes.
    pub(super) fn finish(self) -> Result<Vec<SeriesRows>, Error> {
        if self.0.is_empty() {
            return Err(Error::NoRows);
        }
        let rows =
            |(code, series): (_, BTreeMap<_, _>)| SeriesRows { code, observations: series.into_iter().collect() };
        Ok(self.0.into_iter().map(rows).collect())
    }
}

/// Reads a CSV file.
///
/// # Errors
/// The first thing that is wrong, with its row.
pub fn parse(input: impl io::Read, names: &Names) -> Result<Vec<SeriesRows>, Error> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
    let headers: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    let [time, series, value] = [Role::Time, Role::Series, Role::Value].map(|role| names.find(role, &headers));
    let (time, series, value) = (time?, series?, value?);
    let mut collected = Collected::default();
    for (row, record) in (1..).zip(reader.records()) {
        let record = record?;
        let cell = |column: usize| record.get(column).unwrap_or_default();
        let at = time::parse(cell(time)).ok_or_else(|| Error::Time { row, found: cell(time).to_owned() })?;
        let value = wide::value(cell(value)).map_err(|()| Error::Value { row, found: cell(value).to_owned() })?;
        collected.add(row, cell(series), at, value)?;
    }
    collected.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_series() {
        let text = "value,code,time\n2,B,1970-01-01\n1,A,1970-01-01T00:00:00.000000001\n,A,1970-01-01\n";
        let series = parse(text.as_bytes(), &Names::default()).unwrap();
        let codes: Vec<&str> = series.iter().map(|one| one.code.as_str()).collect();
        assert_eq!(codes, ["A", "B"]);
        assert!(series[0].observations[0].1.is_nan(), "a row without a value is null");
        assert_eq!(series[0].observations[1], (1, 1.0));
    }

    fn check_error(text: &str, expected: &str) {
        assert_eq!(parse(text.as_bytes(), &Names::default()).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        check_error(
            "time,value\n",
            "line 1: no column internal_series_code, nor series_code, nor seriescode, nor series, nor code; there is time, value",
        );
        let header = "time,series,value\n";
        check_error(header, "there is no row at all");
        check_error(&format!("{header}2024-01-01,A,one\n"), "row 1: expected a number, nothing or N/A, found \"one\"");
        check_error(
            &format!("{header}2024-01-01,A,1\n2024-01-01,A,2\n"),
            "row 2: A has a row at 2024-01-01T00:00:00Z already",
        );
        assert!(parse(format!("{header}1.1.2024,A,1\n").as_bytes(), &Names::default()).is_err());
    }
}
