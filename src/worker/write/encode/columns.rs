//! Parquet: observations come in; the bytes of a file go out, as soon as a row group of it is full.
//!
//! The file is one of two columns that are known beforehand, so their chunks are made here, of `pages`: times as
//! differences, values as they are. A writer for any column would look at each value several times more.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use parquet::basic::{
    BrotliLevel, Compression, GzipLevel, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel,
};
use parquet::column::page::PageWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::page_index::PageIndexBuilder;
use parquet::file::metadata::{
    ColumnChunkMetaData, ColumnIndexBuilder, FileMetaData, OffsetIndexBuilder, ParquetMetaDataBuilder,
    ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::{ColumnDescPtr, SchemaDescPtr, SchemaDescriptor, Type};

use super::pages::{Bounds, Column, Pages, Times, Values};
use super::parts::Parts;
use crate::config::OutputCompression;
use crate::series::{Series, TimeNs};

/// The rows of a row group. They wait here, and are written when all of them are there: so the file is the same however
/// the rows come in. Of more rows, writing a row group would keep the next slice waiting.
const ROW_GROUP_ROWS: usize = 1 << 17;

/// The rows of a page: what a reader has to decode for one of them, and as many values as a processor's cache holds.
const PAGE_ROWS: usize = 1 << 14;

/// How a file begins, and ends.
const MAGIC: &[u8; 4] = b"PAR1";

/// That of the format whose pages are written here.
const VERSION: i32 = 1;

const CREATED_BY: &str = concat!("metrics-engine version ", env!("CARGO_PKG_VERSION"));

/// Writes `obs_time` timestamp[ns, UTC] and `value` double; null is null, infinities are what they are.
pub(super) struct Columns {
    times: Vec<TimeNs>,
    values: Vec<f64>,
    schema: SchemaDescPtr,
    row_groups: Vec<RowGroupMetaData>,
    /// Of each row group, its columns' pages: what they lie between, and where they are.
    page_index: Vec<Vec<(ColumnIndexMetaData, OffsetIndexMetaData)>>,
    compression: Compression,
    pages: Pages,
    file: TrackedWrite<Sink>,
    sink: Sink,
}

impl Columns {
    /// Before the first row.
    pub(super) fn new(compression: OutputCompression) -> Result<Self, ParquetError> {
        let sink = Sink::default();
        Ok(Self {
            times: Vec::new(),
            values: Vec::new(),
            schema: Arc::new(SchemaDescriptor::new(Arc::new(schema()?))),
            row_groups: Vec::new(),
            page_index: Vec::new(),
            compression: codec(compression),
            pages: Pages::new(compression)?,
            file: TrackedWrite::new(sink.clone()),
            sink,
        })
    }

    /// Adds rows; what is complete of the file becomes parts.
    pub(super) fn write(&mut self, series: &Series, parts: &mut Parts) -> Result<(), ParquetError> {
        let (mut times, mut values) = (series.times(), series.values());
        while !times.is_empty() {
            let count = times.len().min(ROW_GROUP_ROWS - self.times.len());
            self.times.extend_from_slice(&times[..count]);
            self.values.extend_from_slice(&values[..count]);
            (times, values) = (&times[count..], &values[count..]);
            if self.times.len() == ROW_GROUP_ROWS {
                self.write_row_group(parts)?;
            }
        }
        Ok(())
    }

    fn write_row_group(&mut self, parts: &mut Parts) -> Result<(), ParquetError> {
        let mut row_group = RowGroupMetaData::builder(self.schema.clone())
            .set_num_rows(number(self.times.len())?)
            .set_ordinal(number(self.row_groups.len())?);
        let mut of_pages = Vec::new();
        let mut size_bytes = 0;
        let columns = [&Times(&self.times) as &dyn Column, &Values(&self.values)];
        for (place, column) in columns.into_iter().enumerate() {
            let chunk = parts.add(|waiting| {
                self.sink.swap(waiting);
                begin(&mut self.file)?;
                let mut chunks = Chunks { compression: self.compression, pages: &mut self.pages };
                let chunk = chunks.write(self.schema.column(place), column, &mut self.file);
                self.sink.swap(waiting);
                chunk
            })?;
            if place == 0 {
                row_group = row_group.set_file_offset(chunk.metadata.data_page_offset());
            }
            size_bytes += chunk.metadata.uncompressed_size();
            row_group = row_group.add_column_metadata(chunk.metadata);
            of_pages.push((chunk.bounds, chunk.places));
        }
        self.row_groups.push(row_group.set_total_byte_size(size_bytes).build()?);
        self.page_index.push(of_pages);
        self.times.clear();
        self.values.clear();
        Ok(())
    }

    /// The rest of the file.
    pub(super) fn finish(mut self, parts: &mut Parts) -> Result<(), ParquetError> {
        if !self.times.is_empty() {
            self.write_row_group(parts)?;
        }
        parts.add(|waiting| {
            self.sink.swap(waiting);
            let sink = self.sink.clone();
            let written = self.write_footer();
            sink.swap(waiting);
            written
        })
    }

    fn write_footer(mut self) -> Result<(), ParquetError> {
        begin(&mut self.file)?;
        let mut page_index = PageIndexBuilder::new(self.row_groups.len(), self.schema.num_columns());
        for (row_group, columns) in self.page_index.into_iter().enumerate() {
            for (column, (bounds, places)) in columns.into_iter().enumerate() {
                page_index.put_column_index(bounds, row_group, column);
                page_index.put_offset_index(places, row_group, column);
            }
        }
        let row_count = self.row_groups.iter().map(RowGroupMetaData::num_rows).sum();
        let file = FileMetaData::new(VERSION, row_count, Some(CREATED_BY.to_owned()), None, self.schema, None);
        let metadata = ParquetMetaDataBuilder::new(file)
            .set_row_groups(self.row_groups)
            .set_page_index(Some(Arc::new(page_index.build())))
            .build();
        ParquetMetaDataWriter::new_with_tracked(self.file, &metadata).finish()
    }
}

/// What is before everything else.
fn begin(file: &mut TrackedWrite<Sink>) -> Result<(), ParquetError> {
    if file.bytes_written() == 0 {
        file.write_all(MAGIC)?;
    }
    Ok(())
}

/// Where the library writes: the bytes are shared, as its writer of footers keeps what it was given.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    /// Puts other bytes there.
    fn swap(&self, bytes: &mut Vec<u8>) {
        std::mem::swap(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), bytes);
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes the chunks of a row group.
struct Chunks<'a> {
    compression: Compression,
    pages: &'a mut Pages,
}

/// What is told of a chunk: in the footer, and of its pages in their index.
struct Chunk {
    metadata: ColumnChunkMetaData,
    bounds: ColumnIndexMetaData,
    places: OffsetIndexMetaData,
}

impl Chunks<'_> {
    /// All pages of a column, one after the other.
    fn write(
        &mut self,
        descriptor: ColumnDescPtr,
        column: &dyn Column,
        file: &mut TrackedWrite<Sink>,
    ) -> Result<Chunk, ParquetError> {
        let start = file.bytes_written();
        let (mut bounds, mut places) = (ColumnIndexBuilder::new(descriptor.physical_type()), OffsetIndexBuilder::new());
        let (mut of_column, mut uncompressed_bytes) = (None, 0);
        for start in (0..column.len()).step_by(PAGE_ROWS) {
            let rows = start..column.len().min(start + PAGE_ROWS);
            places.append_row_count(number(rows.len())?);
            let (page, of_page) = self.pages.page(column, rows)?;
            of_page.add_to(&mut bounds)?;
            of_column = Some(of_column.map_or(of_page, |earlier: Bounds| earlier.join(of_page)));
            let bytes = page.compressed_page().buffer().clone();
            let written = SerializedPageWriter::new(file).write_page(page)?;
            self.pages.take_back(bytes);
            places.append_offset_and_size(number(written.offset)?, number(written.compressed_size)?);
            uncompressed_bytes += written.uncompressed_size;
        }
        file.flush()?;
        let metadata = ColumnChunkMetaData::builder(descriptor)
            .set_encodings(column.encodings().to_vec())
            .set_compression(self.compression)
            .set_num_values(number(column.len())?)
            .set_total_compressed_size(number(file.bytes_written() - start)?)
            .set_total_uncompressed_size(number(uncompressed_bytes)?)
            .set_data_page_offset(number(start)?)
            .set_statistics(of_column.unwrap_or_else(|| column.bounds(0..0)).statistics())
            .build()?;
        Ok(Chunk { metadata, bounds: bounds.build()?, places: places.build() })
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
