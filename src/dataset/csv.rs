//! Reference rates as the European Central Bank publishes them: a CSV file in, one list of observations for each
//! currency out. A file that could be misread is refused, and the error says which line and column to look at.

use std::collections::BTreeMap;
use std::io;

use jiff::civil::Date;

/// How the file marks a day without a rate.
const ABSENT: &str = "N/A";

/// What the header of the first column must be.
const DATE_HEADER: &str = "Date";

/// The rates of a file.
///
/// Invariants: no currency occurs twice; each has at least one observation; dates ascend strictly.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates(Vec<CurrencyRates>);

impl Rates {
    /// The currencies, in the order of the file's columns.
    #[must_use]
    pub fn currencies(&self) -> &[CurrencyRates] {
        &self.0
    }
}

/// One currency's rates.
#[derive(Debug, Clone, PartialEq)]
pub struct CurrencyRates {
    /// The ISO 4217 code: three capital letters.
    pub currency: String,
    /// Units of the currency for one euro, by day. A day without a rate is absent.
    pub observations: Vec<(Date, f64)>,
}

/// Why a file is not understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read, or its bytes are no CSV.
    #[error("the CSV file cannot be read")]
    Read(#[from] csv::Error),
    /// The first line is not a header.
    #[error("line 1, column 1: expected the header {DATE_HEADER:?}, found {found:?}")]
    NoDateHeader {
        /// What is there.
        found: String,
    },
    /// A header is no currency.
    #[error("line 1, column {column}: expected a currency of three capital letters, found {found:?}")]
    Currency {
        /// The column, counted from 1.
        column: usize,
        /// What is there.
        found: String,
    },
    /// A currency has two columns.
    #[error("line 1, column {column}: currency {currency} has a column already")]
    CurrencyTwice {
        /// The second column, counted from 1.
        column: usize,
        /// The currency.
        currency: String,
    },
    /// A row is shorter or longer than the header.
    #[error("line {line}: {found} columns, the header has {expected}")]
    Ragged {
        /// The line, counted from 1.
        line: u64,
        /// How many columns the header has.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A date is none.
    #[error("line {line}, column Date: expected a date such as 2024-01-31, found {found:?}")]
    Date {
        /// The line, counted from 1.
        line: u64,
        /// What is there.
        found: String,
    },
    /// A day has two rows.
    #[error("line {line}, column Date: {date} has a row already, on line {first_line}")]
    DateTwice {
        /// The second line.
        line: u64,
        /// The day.
        date: Date,
        /// The first line.
        first_line: u64,
    },
    /// A rate is no positive number.
    #[error("line {line}, column {column}: expected a positive number or {ABSENT}, found {found:?}")]
    Rate {
        /// The line, counted from 1.
        line: u64,
        /// The header of the column.
        column: String,
        /// What is there.
        found: String,
    },
    /// There is not a single rate.
    #[error("the CSV file has no rate at all")]
    NoRates,
}

/// Reads a file of reference rates. Rows may come in any order; currencies without a single rate are left out.
///
/// # Errors
/// The first thing that is wrong, with its line and column.
pub fn parse(input: impl io::Read) -> Result<Rates, Error> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(input);
    let header = reader.headers()?.clone();
    let currencies = currencies(&header)?;
    let mut days: BTreeMap<Date, Day> = BTreeMap::new();
    for record in reader.records() {
        let day = day(&record?, header.len(), &currencies)?;
        let (line, date) = (day.line, day.date);
        if let Some(first) = days.insert(date, day) {
            return Err(Error::DateTwice { line, date, first_line: first.line });
        }
    }
    let rates: Vec<CurrencyRates> = currencies
        .iter()
        .enumerate()
        .map(|(index, currency)| CurrencyRates {
            currency: currency.clone(),
            observations: days.values().filter_map(|day| Some((day.date, day.rates[index]?))).collect(),
        })
        .filter(|rates| !rates.observations.is_empty())
        .collect();
    if rates.is_empty() { Err(Error::NoRates) } else { Ok(Rates(rates)) }
}

/// One row: a rate, or none, for each currency.
struct Day {
    line: u64,
    date: Date,
    rates: Vec<Option<f64>>,
}

fn currencies(header: &csv::StringRecord) -> Result<Vec<String>, Error> {
    let first = header.get(0).unwrap_or_default();
    if first != DATE_HEADER {
        return Err(Error::NoDateHeader { found: first.to_owned() });
    }
    let mut currencies: Vec<String> = Vec::with_capacity(header.len());
    for (index, currency) in header.iter().enumerate().skip(1) {
        let column = index + 1;
        // The publisher ends every line with a comma, which reads as one more, nameless column.
        if currency.is_empty() && column == header.len() {
            continue;
        }
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(Error::Currency { column, found: currency.to_owned() });
        }
        if currencies.iter().any(|known| known == currency) {
            return Err(Error::CurrencyTwice { column, currency: currency.to_owned() });
        }
        currencies.push(currency.to_owned());
    }
    Ok(currencies)
}

fn day(record: &csv::StringRecord, column_count: usize, currencies: &[String]) -> Result<Day, Error> {
    let line = record.position().map_or(0, csv::Position::line);
    if record.len() != column_count {
        return Err(Error::Ragged { line, expected: column_count, found: record.len() });
    }
    let mut cells = record.iter();
    let text = cells.next().unwrap_or_default();
    let date = Date::strptime("%Y-%m-%d", text).map_err(|_| Error::Date { line, found: text.to_owned() })?;
    let mut rates = Vec::with_capacity(currencies.len());
    for (currency, cell) in currencies.iter().zip(cells) {
        rates.push(rate(cell).ok_or_else(|| Error::Rate { line, column: currency.clone(), found: cell.to_owned() })?);
    }
    Ok(Day { line, date, rates })
}

/// A rate, or that there is none; nothing where the text is neither.
#[expect(clippy::option_option, reason = "absent and unreadable are two answers, and the caller tells them apart")]
fn rate(cell: &str) -> Option<Option<f64>> {
    if cell == ABSENT {
        return Some(None);
    }
    let value: f64 = cell.parse().ok()?;
    (value.is_finite() && value > 0.0).then_some(Some(value))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn check_error(text: &str, expected: &str) {
        assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), expected);
    }

    #[test]
    fn rows_become_ascending_observations_and_absent_days_are_left_out() {
        let rates = parse("Date,USD,ISK,XXX,\n2024-01-03,1.5,N/A,N/A,\n2024-01-02,1.25,140,N/A,\n".as_bytes()).unwrap();
        let usd = vec![(date(2024, 1, 2), 1.25), (date(2024, 1, 3), 1.5)];
        let isk = vec![(date(2024, 1, 2), 140.0)];
        let expected = [("USD", usd), ("ISK", isk)]
            .map(|(currency, observations)| CurrencyRates { currency: currency.to_owned(), observations });
        assert_eq!(rates.currencies(), expected);
    }

    #[test]
    fn a_bad_header_is_named_with_its_column() {
        check_error("", r#"line 1, column 1: expected the header "Date", found """#);
        check_error("2024-01-02,1\n", r#"line 1, column 1: expected the header "Date", found "2024-01-02""#);
        check_error("Date,usd\n", r#"line 1, column 2: expected a currency of three capital letters, found "usd""#);
        check_error("Date,,USD\n", r#"line 1, column 2: expected a currency of three capital letters, found """#);
        check_error("Date,USD,GBP,USD\n", "line 1, column 4: currency USD has a column already");
    }

    #[test]
    fn a_bad_row_is_named_with_its_line_and_column() {
        let after_a_good_row = |row: &str| format!("Date,USD,JPY\n2024-01-02,1,2\n{row}\n");
        let check_row = |row: &str, expected: &str| check_error(&after_a_good_row(row), expected);
        check_row("2024-01-03,1", "line 3: 2 columns, the header has 3");
        check_row("2024-01-03,1,2,3", "line 3: 4 columns, the header has 3");
        check_row("2024-02-30,1,2", r#"line 3, column Date: expected a date such as 2024-01-31, found "2024-02-30""#);
        check_row("03/01/2024,1,2", r#"line 3, column Date: expected a date such as 2024-01-31, found "03/01/2024""#);
        check_row("2024-01-02,1,2", "line 3, column Date: 2024-01-02 has a row already, on line 2");
        for cell in ["x", "", "1,5e", "0", "-1", "inf", "NaN", "n/a"].map(|cell| cell.replace(',', ".")) {
            check_row(
                &format!("2024-01-03,1,{cell}"),
                &format!("line 3, column JPY: expected a positive number or N/A, found {cell:?}"),
            );
        }
    }

    #[test]
    fn a_file_without_a_rate_is_refused() {
        check_error("Date,USD\n", "the CSV file has no rate at all");
        check_error("Date,USD\n2024-01-02,N/A\n", "the CSV file has no rate at all");
    }
}
