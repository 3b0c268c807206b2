//! Series of one's own: a CSV file with a day in its first column and a series in every other in; each series' code and
//! observations out. A file that could be misread is refused, and the error says which line and column to look at.

use std::collections::BTreeMap;
use std::io;

use jiff::civil::Date;

use crate::ids::{self, SeriesCode};

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesRows {
    /// Its code: the header of its column.
    pub code: SeriesCode,
    /// Days and values, ascending. A day without a value is absent.
    pub observations: Vec<(Date, f64)>,
}

/// Why a file is not understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read, or its bytes are no CSV.
    #[error("the CSV file cannot be read")]
    Read(#[from] csv::Error),
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
    /// A date is none.
    #[error("line {line}, column 1: expected a day such as 2024-01-31, found {found:?}")]
    Date {
        /// The line, counted from 1.
        line: u64,
        /// What is there.
        found: String,
    },
    /// A day has two rows.
    #[error("line {line}, column 1: {date} has a row already")]
    DateTwice {
        /// The second line.
        line: u64,
        /// The day.
        date: Date,
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

/// Reads a file. Rows may come in any order; series without a single value are left out.
///
/// # Errors
/// The first thing that is wrong, with its line and column.
pub fn parse(input: impl io::Read) -> Result<Vec<SeriesRows>, Error> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
    let codes = codes(reader.headers()?)?;
    let mut days: BTreeMap<Date, Vec<Option<f64>>> = BTreeMap::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let text = record.get(0).unwrap_or_default();
        let date = Date::strptime("%Y-%m-%d", text).map_err(|_| Error::Date { line, found: text.to_owned() })?;
        let mut values = Vec::with_capacity(codes.len());
        for (code, cell) in codes.iter().zip(record.iter().skip(1)) {
            values.push(match cell {
                "" | "N/A" => None,
                _ => match cell.parse::<f64>() {
                    Ok(value) if value.is_finite() => Some(value),
                    _ => return Err(Error::Value { line, code: code.clone(), found: cell.to_owned() }),
                },
            });
        }
        if days.insert(date, values).is_some() {
            return Err(Error::DateTwice { line, date });
        }
    }
    let observations = |index: usize| days.iter().filter_map(move |(&date, values)| Some((date, values[index]?)));
    let series = codes.into_iter().enumerate();
    let series = series.map(|(index, code)| SeriesRows { code, observations: observations(index).collect() });
    let series: Vec<SeriesRows> = series.filter(|series| !series.observations.is_empty()).collect();
    if series.is_empty() { Err(Error::NoValues) } else { Ok(series) }
}

fn codes(header: &csv::StringRecord) -> Result<Vec<SeriesCode>, Error> {
    let mut codes: Vec<SeriesCode> = Vec::with_capacity(header.len());
    for (index, text) in header.iter().enumerate().skip(1) {
        let column = index + 1;
        let code = SeriesCode::parse(text).map_err(|source| Error::Code { column, source })?;
        if codes.contains(&code) {
            return Err(Error::CodeTwice { column, code });
        }
        codes.push(code);
    }
    Ok(codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_series() {
        let series = parse("day,sales,returns,none\n2024-01-02,-1.5,,\n2024-01-01,3,N/A,\n".as_bytes()).unwrap();
        assert_eq!(series.len(), 1, "series without a value are left out");
        assert_eq!(series[0].code.as_str(), "sales");
        let days: Vec<String> = series[0].observations.iter().map(|(day, value)| format!("{day} {value}")).collect();
        assert_eq!(days, ["2024-01-01 3", "2024-01-02 -1.5"]);
    }

    fn check_error(text: &str, expected: &str) {
        assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), expected);
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
            "line 2, column 1: expected a day such as 2024-01-31, found \"01/02/2024\"",
        );
        check_error("day,a\n2024-01-01,1\n2024-01-01,2\n", "line 3, column 1: 2024-01-01 has a row already");
        check_error("day,a\n2024-01-01,1.000,5\n", "the CSV file cannot be read");
        check_error("day,a\n2024-01-01,NaN\n", "line 2, column a: expected a number, nothing or N/A, found \"NaN\"");
        check_error("day,a\n", "the CSV file has no value at all");
    }
}
