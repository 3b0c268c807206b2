//! Series of one's own in a Parquet file, side by side or one below the other: its columns in; each series' code and
//! observations out. Any time, number or text type of Parquet will do; times without a zone are UTC.

use std::collections::BTreeMap;
use std::fs::File;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampNanosecondType};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::columns::{Names, NoColumn, Role};
use super::{SeriesRows, long, time};
use crate::ids::{self, SeriesCode};
use crate::series::TimeNs;

/// Why a file is not understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is no Parquet file.
    #[error("the Parquet file cannot be read: {0}")]
    Open(#[from] ParquetError),
    /// Its values cannot be decoded.
    #[error("the Parquet file cannot be read: {0}")]
    Decode(#[from] ArrowError),
    /// A column is missing.
    #[error(transparent)]
    NoColumn(#[from] NoColumn),
    /// A column has a type that does not fit.
    #[error("column {column} has type {found}, expected {expected}")]
    Type {
        /// Its name.
        column: String,
        /// The type it has.
        found: DataType,
        /// What was expected, in words.
        expected: &'static str,
    },
    /// A row has no time, or none that can be told.
    #[error("row {row}: column {column} has no time within the years 1677 to 2262")]
    Time {
        /// The row, counted from 1.
        row: u64,
        /// The column's name.
        column: String,
    },
    /// A time has two rows.
    #[error("row {row}: {time} has a row already")]
    TimeTwice {
        /// The second row, counted from 1.
        row: u64,
        /// The time.
        time: jiff::Timestamp,
    },
    /// A column's name is no series code.
    #[error("column {column:?}: {source}")]
    Code {
        /// Its name.
        column: String,
        /// Why.
        source: ids::Error,
    },
    /// Rows do not make series.
    #[error(transparent)]
    Rows(#[from] long::Error),
    /// There is not a single value.
    #[error("the Parquet file has no value at all")]
    NoValues,
}

/// The batches of a file and the names of its columns.
fn open(file: File) -> Result<(Vec<String>, Vec<RecordBatch>), Error> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let headers = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    let batches = reader.build()?.collect::<Result<Vec<_>, _>>()?;
    Ok((headers, batches))
}

/// Reads rows of time, series and value. A row whose value is null is an observation of null.
///
/// # Errors
/// The first thing that is wrong, with its row.
pub fn long(file: File, names: &Names) -> Result<Vec<SeriesRows>, Error> {
    let (headers, batches) = open(file)?;
    let [time, series, value] = [Role::Time, Role::Series, Role::Value].map(|role| names.find(role, &headers));
    let (time, series, value) = (time?, series?, value?);
    let (mut collected, mut first_row) = (long::Collected::default(), 1);
    for batch in &batches {
        let times = times(&headers[time], batch.column(time), first_row)?;
        let codes = texts(&headers[series], batch.column(series))?;
        let values = numbers(&headers[value], batch.column(value))?;
        for ((row, time), (code, value)) in (first_row..).zip(times).zip(codes.iter().zip(values.iter())) {
            collected.add(row, code.unwrap_or_default(), time, value)?;
        }
        first_row += batch.num_rows() as u64;
    }
    Ok(collected.finish()?)
}

/// Reads a column of times and a series in every other. A null is no observation.
///
/// # Errors
/// The first thing that is wrong, with its row or column.
pub fn wide(file: File, names: &Names) -> Result<Vec<SeriesRows>, Error> {
    let (headers, batches) = open(file)?;
    let time_column = time_column(names, &headers, &batches)?;
    let columns: Vec<usize> = (0..headers.len()).filter(|column| *column != time_column).collect();
    let code = |column: &usize| {
        let header = &headers[*column];
        SeriesCode::parse(header).map_err(|source| Error::Code { column: header.clone(), source })
    };
    let codes = columns.iter().map(code).collect::<Result<Vec<_>, _>>()?;
    let mut rows: BTreeMap<TimeNs, Vec<Option<f64>>> = BTreeMap::new();
    let mut first_row = 1;
    for batch in &batches {
        let times = times(&headers[time_column], batch.column(time_column), first_row)?;
        let values = columns.iter().map(|&column| numbers(&headers[column], batch.column(column)));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        for (index, time) in times.into_iter().enumerate() {
            let value = |values: &Float64Array| {
                (!values.is_null(index)).then(|| values.value(index)).filter(|value| !value.is_nan())
            };
            if rows.insert(time, values.iter().map(value).collect()).is_some() {
                return Err(Error::TimeTwice { row: first_row + index as u64, time: time::timestamp(time) });
            }
        }
        first_row += batch.num_rows() as u64;
    }
    let observations = |index: usize| rows.iter().filter_map(move |(&time, values)| Some((time, values[index]?)));
    let series = codes.into_iter().enumerate();
    let series = series.map(|(index, code)| SeriesRows { code, observations: observations(index).collect() });
    let series: Vec<SeriesRows> = series.filter(|series| !series.observations.is_empty()).collect();
    if series.is_empty() { Err(Error::NoValues) } else { Ok(series) }
}

/// The column of times: by its name, or the first whose type is a time.
fn time_column(names: &Names, headers: &[String], batches: &[RecordBatch]) -> Result<usize, Error> {
    names.find(Role::Time, headers).or_else(|missing| {
        let fields = batches.first().filter(|_| names.time.is_none()).map(|batch| batch.schema());
        let is_time =
            |data_type: &DataType| matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
        let column = fields.and_then(|schema| schema.fields().iter().position(|field| is_time(field.data_type())));
        column.ok_or(Error::NoColumn(missing))
    })
}

fn times(column: &str, values: &ArrayRef, first_row: u64) -> Result<Vec<TimeNs>, Error> {
    let no_time = |index: usize| Error::Time { row: first_row + index as u64, column: column.to_owned() };
    let target = match values.data_type() {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()),
        DataType::Date32 | DataType::Date64 => DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let texts = texts(column, values)?;
            let parsed =
                texts.iter().enumerate().map(|(index, text)| text.and_then(time::parse).ok_or_else(|| no_time(index)));
            return parsed.collect();
        }
        found => {
            let expected = "a timestamp, a date, or a text of one";
            return Err(Error::Type { column: column.to_owned(), found: found.clone(), expected });
        }
    };
    // What a cast cannot tell becomes null.
    let cast = cast(values, &target)?;
    let times: &TimestampNanosecondArray = cast.as_primitive::<TimestampNanosecondType>();
    times.iter().enumerate().map(|(index, time)| time.ok_or_else(|| no_time(index))).collect()
}

fn numbers(column: &str, values: &ArrayRef) -> Result<Float64Array, Error> {
    let found = values.data_type();
    if !found.is_numeric() && *found != DataType::Null {
        return Err(Error::Type { column: column.to_owned(), found: found.clone(), expected: "a number" });
    }
    Ok(cast(values, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

fn texts(column: &str, values: &ArrayRef) -> Result<StringArray, Error> {
    let is_text = |found: &DataType| matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let found = values.data_type();
    let is_dictionary = matches!(found, DataType::Dictionary(_, of) if is_text(of));
    if !is_text(found) && !is_dictionary {
        return Err(Error::Type { column: column.to_owned(), found: found.clone(), expected: "a text" });
    }
    Ok(cast(values, &DataType::Utf8)?.as_string::<i32>().clone())
}

#[cfg(test)]
mod tests {
    use std::io::Seek;
    use std::sync::Arc;

    use arrow::array::{
        Date32Array, Decimal128Array, DictionaryArray, Int32Array, LargeStringArray, TimestampSecondArray,
    };
    use arrow::datatypes::Int8Type;
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn file(columns: Vec<(&str, ArrayRef)>) -> File {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = ArrowWriter::try_new(file.try_clone().unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        file.rewind().unwrap();
        file
    }

    fn shown(series: &[SeriesRows]) -> Vec<String> {
        let rows = |one: &SeriesRows| one.observations.iter().map(|(time, value)| format!(" {time}:{value}")).collect();
        series.iter().map(|one| format!("{}{}", one.code, Vec::<String>::from_iter([rows(one)]).concat())).collect()
    }

    #[test]
    fn columns_become_series_whatever_their_types() {
        let days: ArrayRef = Arc::new(Date32Array::from(vec![1, 0]));
        let whole: ArrayRef = Arc::new(Int32Array::from(vec![Some(5), None]));
        let exact: ArrayRef = Arc::new(Decimal128Array::from(vec![150, -25]).with_precision_and_scale(5, 2).unwrap());
        let series = wide(file(vec![("when", days), ("A", whole), ("B", exact)]), &Names::default()).unwrap();
        assert_eq!(shown(&series), ["A 86400000000000:5", "B 0:-0.25 86400000000000:1.5"]);
    }

    #[test]
    fn rows_become_series_whatever_their_types() {
        let times: ArrayRef = Arc::new(TimestampSecondArray::from(vec![2, 1, 1]).with_timezone("+02:00"));
        let codes: ArrayRef = Arc::new(vec!["A", "A", "B"].into_iter().collect::<DictionaryArray<Int8Type>>());
        let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(2.0), None, Some(3.0)]));
        let columns = vec![("obs_time", times), ("series_code", codes), ("value", values)];
        let series = long(file(columns), &Names::default()).unwrap();
        assert_eq!(shown(&series), ["A 1000000000:NaN 2000000000:2", "B 1000000000:3"]);
        let texts: ArrayRef = Arc::new(LargeStringArray::from(vec!["1970-01-01T00:00:01"]));
        let columns = vec![("at", texts.clone()), ("name", Arc::new(StringArray::from(vec!["A"])) as ArrayRef)];
        let price: ArrayRef = Arc::new(Int32Array::from(vec![7]));
        let names = ["at", "name", "price"].map(|name| Some(name.to_owned()));
        let [time, series, value] = names;
        let named = Names { time, series, value };
        let series = long(file([columns, vec![("price", price)]].concat()), &named).unwrap();
        assert_eq!(shown(&series), ["A 1000000000:7"]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 1]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let days: ArrayRef = Arc::new(Date32Array::from(vec![1, 1]));
        let error = |columns: Vec<(&str, ArrayRef)>| wide(file(columns), &Names::default()).unwrap_err().to_string();
        assert!(error(vec![("A", numbers.clone())]).starts_with("no column obs_time, nor time"));
        assert_eq!(
            error(vec![("day", numbers.clone()), ("A", numbers.clone())]),
            "column day has type Int32, expected a timestamp, a date, or a text of one"
        );
        assert_eq!(error(vec![("day", days.clone()), ("A", texts)]), "column A has type Utf8, expected a number");
        assert_eq!(error(vec![("day", days), ("A", numbers)]), "row 2: 1970-01-02T00:00:00Z has a row already");
        let far: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX / 1_000]));
        let one: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        assert_eq!(
            error(vec![("day", far), ("A", one)]),
            "row 1: column day has no time within the years 1677 to 2262"
        );
        assert!(wide(tempfile::tempfile().unwrap(), &Names::default()).is_err());
    }
}
