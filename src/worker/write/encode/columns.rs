//! Parquet: observations come in; the bytes of a file go out, as soon as a row group of it is full.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampNanosecondArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::config::OutputCompression;
use crate::series::{Series, TimeNs};

/// Rows are handed to the writer in batches of so many, the last one excepted, however they come in: it looks at sizes
/// after each thousand (1,024) of a batch, so where pages end depends on the batches. A row group is a whole number of
/// them.
const BATCH_ROWS: usize = 16 << 10;

/// The rows of a row group: what the writer holds back before its bytes are there.
const ROW_GROUP_ROWS: usize = 1 << 20;

/// Writes `obs_time` timestamp[ns, UTC] and `value` double; null is null, infinities are what they are.
pub(super) struct Columns {
    times: Vec<TimeNs>,
    values: Vec<f64>,
    writer: ArrowWriter<Vec<u8>>,
}

impl Columns {
    /// Before the first row.
    pub(super) fn new(compression: OutputCompression) -> Result<Self, ParquetError> {
        let properties = WriterProperties::builder()
            .set_compression(codec(compression))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let schema = batch(Vec::new(), Vec::new())?.schema();
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
        Ok(Self { times: Vec::new(), values: Vec::new(), writer })
    }

    /// Adds rows; the answer is what became complete of the file.
    pub(super) fn write(&mut self, series: &Series) -> Result<Vec<u8>, ParquetError> {
        let (mut times, mut values) = (series.times(), series.values());
        while !times.is_empty() {
            let count = times.len().min(BATCH_ROWS - self.times.len());
            self.times.extend_from_slice(&times[..count]);
            self.values.extend_from_slice(&values[..count]);
            (times, values) = (&times[count..], &values[count..]);
            if self.times.len() == BATCH_ROWS {
                self.flush()?;
            }
        }
        Ok(std::mem::take(self.writer.inner_mut()))
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        let times = std::mem::replace(&mut self.times, Vec::with_capacity(BATCH_ROWS));
        let values = std::mem::replace(&mut self.values, Vec::with_capacity(BATCH_ROWS));
        self.writer.write(&batch(times, values)?)
    }

    /// The rest of the file.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, ParquetError> {
        if !self.times.is_empty() {
            self.flush()?;
        }
        self.writer.into_inner()
    }
}

fn batch(times: Vec<TimeNs>, values: Vec<f64>) -> Result<RecordBatch, ParquetError> {
    let nulls = NullBuffer::from_iter(values.iter().map(|value| !value.is_nan()));
    let times = TimestampNanosecondArray::from(times).with_timezone("UTC");
    let values = Float64Array::new(ScalarBuffer::from(values), Some(nulls));
    let columns: [(&str, ArrayRef, bool); 2] =
        [("obs_time", Arc::new(times), false), ("value", Arc::new(values), true)];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

fn codec(compression: OutputCompression) -> Compression {
    match compression {
        OutputCompression::None => Compression::UNCOMPRESSED,
        OutputCompression::Gzip => Compression::GZIP(GzipLevel::default()),
        OutputCompression::Snappy => Compression::SNAPPY,
        OutputCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        OutputCompression::Lz4 => Compression::LZ4_RAW,
        OutputCompression::Brotli => Compression::BROTLI(BrotliLevel::default()),
    }
}
