//! Parquet: observations come in; the bytes of a file go out, as soon as a row group of it is full.

use std::sync::Arc;

use parquet::basic::{
    BrotliLevel, Compression, Encoding, GzipLevel, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel,
};
use parquet::data_type::{DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::config::OutputCompression;
use crate::series::{Series, TimeNs};

/// The rows of a row group. They wait here, and are written when all of them are there: so the file is the same however
/// the rows come in. Of more rows, writing a row group would keep the next slice waiting.
const ROW_GROUP_ROWS: usize = 1 << 17;

/// Values of which more differ are written as they are: a dictionary of means and rates would hold nearly all of them, and
/// take longer to make than all else.
const DICTIONARY_BYTES: usize = 64 << 10;

/// Levels and present values are made for so many rows at a time.
const BATCH_ROWS: usize = 8 << 10;

/// The levels of rows without a null.
static ALL_PRESENT: [i16; BATCH_ROWS] = [1; BATCH_ROWS];

/// Writes `obs_time` timestamp[ns, UTC] and `value` double; null is null, infinities are what they are.
pub(super) struct Columns {
    times: Vec<TimeNs>,
    values: Vec<f64>,
    /// The levels and the values that are not null, of rows with nulls among them.
    levels: Vec<i16>,
    present: Vec<f64>,
    writer: SerializedFileWriter<Vec<u8>>,
}

impl Columns {
    /// Before the first row.
    pub(super) fn new(compression: OutputCompression) -> Result<Self, ParquetError> {
        // Times ascend and never repeat: their differences take a byte or two, a dictionary of them would be all of them.
        let properties = WriterProperties::builder()
            .set_compression(codec(compression))
            .set_column_dictionary_enabled("obs_time".into(), false)
            .set_column_encoding("obs_time".into(), Encoding::DELTA_BINARY_PACKED)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .build();
        let writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema()?), Arc::new(properties))?;
        Ok(Self { times: Vec::new(), values: Vec::new(), levels: Vec::new(), present: Vec::new(), writer })
    }

    /// Adds rows; the answer is what became complete of the file.
    pub(super) fn write(&mut self, series: &Series) -> Result<Vec<u8>, ParquetError> {
        let (mut times, mut values) = (series.times(), series.values());
        while !times.is_empty() {
            let count = times.len().min(ROW_GROUP_ROWS - self.times.len());
            self.times.extend_from_slice(&times[..count]);
            self.values.extend_from_slice(&values[..count]);
            (times, values) = (&times[count..], &values[count..]);
            if self.times.len() == ROW_GROUP_ROWS {
                self.write_row_group()?;
            }
        }
        Ok(std::mem::take(self.writer.inner_mut()))
    }

    fn write_row_group(&mut self) -> Result<(), ParquetError> {
        let mut row_group = self.writer.next_row_group()?;
        if let Some(mut column) = row_group.next_column()? {
            column.typed::<Int64Type>().write_batch(&self.times, None, None)?;
            column.close()?;
        }
        if let Some(mut column) = row_group.next_column()? {
            let writer = column.typed::<DoubleType>();
            for values in self.values.chunks(BATCH_ROWS) {
                if values.iter().any(|value| value.is_nan()) {
                    self.present.clear();
                    self.present.extend(values.iter().filter(|value| !value.is_nan()));
                    self.levels.clear();
                    self.levels.extend(values.iter().map(|value| i16::from(!value.is_nan())));
                    writer.write_batch(&self.present, Some(&self.levels), None)?;
                } else {
                    writer.write_batch(values, Some(&ALL_PRESENT[..values.len()]), None)?;
                }
            }
            column.close()?;
        }
        row_group.close()?;
        self.times.clear();
        self.values.clear();
        Ok(())
    }

    /// The rest of the file.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, ParquetError> {
        if !self.times.is_empty() {
            self.write_row_group()?;
        }
        self.writer.into_inner()
    }
}

fn schema() -> Result<Type, ParquetError> {
    let utc_nanoseconds = LogicalType::timestamp(true, TimeUnit::NANOS);
    let time = Type::primitive_type_builder("obs_time", Physical::INT64)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(utc_nanoseconds))
        .build()?;
    let value =
        Type::primitive_type_builder("value", Physical::DOUBLE).with_repetition(Repetition::OPTIONAL).build()?;
    Type::group_type_builder("schema").with_fields(vec![Arc::new(time), Arc::new(value)]).build()
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
