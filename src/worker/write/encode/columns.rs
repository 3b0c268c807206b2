//! Parquet: observations come in; the bytes of a file go out, as soon as a row group of it is full.
//!
//! The file is one of two columns that are known beforehand, so their chunks are made here, of `pages`: times as
//! differences, values as they are. A writer for any column would look at each value several times more.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{
    BrotliLevel, Compression, GzipLevel, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel,
};
use parquet::column::page::PageWriter;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedPageWriter, TrackedWrite};
use parquet::schema::types::{ColumnDescPtr, Type};

use super::pages::{Column, Pages, Times, Values};
use crate::config::OutputCompression;
use crate::series::{Series, TimeNs};

/// The rows of a row group. They wait here, and are written when all of them are there: so the file is the same however
/// the rows come in. Of more rows, writing a row group would keep the next slice waiting.
const ROW_GROUP_ROWS: usize = 1 << 17;

/// The rows of a page: what a reader has to decode for one of them, and as many values as a processor's cache holds.
const PAGE_ROWS: usize = 1 << 14;

const CREATED_BY: &str = concat!("metrics-engine version ", env!("CARGO_PKG_VERSION"));

/// Writes `obs_time` timestamp[ns, UTC] and `value` double; null is null, infinities are what they are.
pub(super) struct Columns {
    times: Vec<TimeNs>,
    values: Vec<f64>,
    compression: Compression,
    pages: Pages,
    /// The chunk of a column while it is made.
    chunk: Vec<u8>,
    writer: SerializedFileWriter<Vec<u8>>,
}

impl Columns {
    /// Before the first row.
    pub(super) fn new(compression: OutputCompression) -> Result<Self, ParquetError> {
        let properties = WriterProperties::builder().set_created_by(CREATED_BY.to_owned()).build();
        Ok(Self {
            times: Vec::new(),
            values: Vec::new(),
            compression: codec(compression),
            pages: Pages::new(compression)?,
            chunk: Vec::new(),
            writer: SerializedFileWriter::new(Vec::new(), Arc::new(schema()?), Arc::new(properties))?,
        })
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
        let schema = self.writer.schema_descr();
        let (of_times, of_values) = (schema.column(0), schema.column(1));
        let mut row_group = self.writer.next_row_group()?;
        let mut chunks = Chunks { compression: self.compression, pages: &mut self.pages };
        for (descriptor, column) in
            [(of_times, &Times(&self.times) as &dyn Column), (of_values, &Values(&self.values) as &dyn Column)]
        {
            let (bytes, facts) = chunks.chunk(descriptor, column, std::mem::take(&mut self.chunk))?;
            row_group.append_column(&bytes, facts)?;
            // Its memory is there for the next one, as nobody else has it.
            self.chunk = Vec::from(bytes);
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

/// Makes the chunks of a row group.
struct Chunks<'a> {
    compression: Compression,
    pages: &'a mut Pages,
}

impl Chunks<'_> {
    /// All pages of a column, one after the other, in the memory of `room`; and what is told of them.
    fn chunk(
        &mut self,
        descriptor: ColumnDescPtr,
        column: &dyn Column,
        mut room: Vec<u8>,
    ) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        room.clear();
        let mut chunk = TrackedWrite::new(room);
        let (mut bounds, mut places) = (ColumnIndexBuilder::new(descriptor.physical_type()), OffsetIndexBuilder::new());
        let mut uncompressed_bytes = 0;
        for start in (0..column.len()).step_by(PAGE_ROWS) {
            let rows = start..column.len().min(start + PAGE_ROWS);
            places.append_row_count(number(rows.len())?);
            let (page, of_page) = self.pages.page(column, rows)?;
            of_page.add_to(&mut bounds)?;
            let written = SerializedPageWriter::new(&mut chunk).write_page(page)?;
            places.append_offset_and_size(number(written.offset)?, number(written.compressed_size)?);
            uncompressed_bytes += written.uncompressed_size;
        }
        chunk.flush()?;
        let bytes = Bytes::from(chunk.into_inner()?);
        let metadata = ColumnChunkMetaData::builder(descriptor)
            .set_encodings(column.encodings().to_vec())
            .set_compression(self.compression)
            .set_num_values(number(column.len())?)
            .set_total_compressed_size(number(bytes.len())?)
            .set_total_uncompressed_size(number(uncompressed_bytes)?)
            .set_data_page_offset(0)
            .set_statistics(column.bounds(0..column.len()).statistics())
            .build()?;
        let facts = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: column.len() as u64,
            metadata,
            bloom_filter: None,
            column_index: Some(bounds.build()?),
            offset_index: Some(places.build()),
        };
        Ok((bytes, facts))
    }
}

/// A count as Parquet's metadata holds it.
pub(super) fn number<To: TryFrom<From>, From: Copy + std::fmt::Display>(count: From) -> Result<To, ParquetError> {
    To::try_from(count).map_err(|_| ParquetError::General(format!("{count} is more than a Parquet file can hold")))
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
