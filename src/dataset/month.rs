//! One month of one series as Parquet: a few observations in, about two kilobytes out. The same observations always
//! give the same bytes, so that two builds of a dataset can be compared by digest.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::series::TimeNs;

/// Named in every file. Without the library's version, so that an update of it does not change the bytes by itself.
const CREATED_BY: &str = "metrics-engine dataset builder";

/// What all rows of a file have in common.
pub(super) struct Constants<'a> {
    pub(super) series_code: &'a str,
    pub(super) unit: &'a str,
    pub(super) frequency: &'a str,
}

/// Encodes observations as `obs_time, value, internal_series_code, unit, frequency`. Times are microseconds where no
/// digit is lost by it: more programs read them.
pub(super) fn encode(constants: &Constants<'_>, observations: &[(TimeNs, f64)]) -> Result<Bytes, ParquetError> {
    let row_count = observations.len();
    let repeated = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; row_count])) };
    let times = || observations.iter().map(|&(time, _)| time);
    let values = observations.iter().map(|&(_, value)| Some(value).filter(|value| !value.is_nan()));
    let (unit, times): (_, ArrayRef) = if times().all(|time| time % 1_000 == 0) {
        let microseconds = TimestampMicrosecondArray::from_iter_values(times().map(|time| time / 1_000));
        (TimeUnit::Microsecond, Arc::new(microseconds.with_timezone("UTC")))
    } else {
        (TimeUnit::Nanosecond, Arc::new(TimestampNanosecondArray::from_iter_values(times()).with_timezone("UTC")))
    };
    let columns: Vec<ArrayRef> = vec![
        times,
        Arc::new(Float64Array::from_iter(values)),
        repeated(constants.series_code),
        repeated(constants.unit),
        repeated(constants.frequency),
    ];
    let batch = RecordBatch::try_new(schema(unit), columns)?;
    let options = ArrowWriterOptions::new()
        .with_properties(properties())
        // The Parquet types say all there is to know; the Arrow schema would double the size of the file.
        .with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema(unit), options)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?.into())
}

fn schema(unit: TimeUnit) -> Arc<Schema> {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        Field::new("obs_time", DataType::Timestamp(unit, Some("UTC".into())), false),
        Field::new("value", DataType::Float64, true),
        text("internal_series_code"),
        text("unit"),
        text("frequency"),
    ]))
}

fn properties() -> WriterProperties {
    // Times and values hardly repeat within a month: a dictionary would only add a page.
    let plain = |name: &str| ColumnPath::from(name);
    WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::SNAPPY)
        // A month is one page of each column: an index of pages has nothing to skip.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_column_dictionary_enabled(plain("obs_time"), false)
        .set_column_dictionary_enabled(plain("value"), false)
        .build()
}
