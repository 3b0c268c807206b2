//! The footer of a file: its bytes come in; the columns that are read and where their chunks lie go out, every claim
//! checked against the file's size and against the other claims.

use std::ops::Range;

use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::ParquetMetaDataReader;

use super::error::{Place, Problem};
use super::schema::{Column, Columns, Meaning, Physical, read_columns};
use super::thrift::{Field, Kind, Malformed, Reader};

/// `PAR1`, a footer's length, and `PAR1` again.
pub(super) const SMALLEST_FILE_BYTES: u64 = 12;

/// The footer's length and `PAR1`.
pub(super) const TAIL_BYTES: usize = 8;

/// A footer larger than this is refused: ten thousand row groups of ten columns take less.
pub(super) const FOOTER_LIMIT_BYTES: u64 = 32 << 20;

/// A footer larger than this is not searched for the Arrow schema: the search decodes all of it.
const ARROW_SCHEMA_FOOTER_LIMIT_BYTES: usize = 256 << 10;

/// What a footer says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Footer {
    /// The columns that are read.
    pub(super) columns: Columns,
    /// The row groups, in file order.
    pub(super) row_groups: Vec<RowGroup>,
}

/// A row group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RowGroup {
    /// Its index in the file.
    pub(super) index: usize,
    /// The index of its first row in the file.
    pub(super) first_row: u64,
    /// How many rows it has.
    pub(super) row_count: u64,
    /// The chunk of `obs_time`.
    pub(super) time: Chunk,
    /// The chunk of `value`.
    pub(super) value: Chunk,
    /// The chunk of the series column.
    pub(super) series: Option<Chunk>,
}

/// One column of one row group.
///
/// Invariant: `bytes` and the index ranges lie within the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Chunk {
    /// Where its pages are.
    pub(super) bytes: Range<u64>,
    /// How the pages are compressed: a number of Parquet's definition.
    pub(super) codec: i32,
    /// The smallest and greatest value, or bounds of them.
    pub(super) min: Option<Vec<u8>>,
    pub(super) max: Option<Vec<u8>>,
    /// Whether `min` and `max` may be shortened.
    pub(super) bounds_may_be_inexact: bool,
    /// How many nulls it holds.
    pub(super) null_count: Option<i64>,
    /// Where its bloom filter, offset index and column index are.
    pub(super) bloom_filter: Option<Range<u64>>,
    pub(super) offset_index: Option<Range<u64>>,
    pub(super) column_index: Option<Range<u64>>,
}

/// How many bytes the footer has, told by the last eight bytes of a file.
pub(super) fn footer_length(tail: &[u8], file_size: u64) -> Result<u64, Problem> {
    let &[a, b, c, d, ref magic @ ..] = tail else {
        return Err(Problem::TooShort { size_bytes: file_size });
    };
    match magic {
        b"PAR1" => {}
        b"PARE" => return Err(Problem::Encrypted { what: "the footer".to_owned() }),
        _ => return Err(Problem::Magic),
    }
    let claimed_bytes = u64::from(u32::from_le_bytes([a, b, c, d]));
    let allowed_bytes = file_size.saturating_sub(SMALLEST_FILE_BYTES).min(FOOTER_LIMIT_BYTES);
    if claimed_bytes > allowed_bytes {
        return Err(Problem::FooterLength { claimed_bytes, allowed_bytes });
    }
    Ok(claimed_bytes)
}

/// Reads the footer. `data_end` is where it begins in the file: all that it points to ends before.
pub(super) fn read_footer(bytes: &[u8], data_end: u64) -> Result<Footer, Problem> {
    let malformed = |source| Problem::Footer { source };
    let content = |reason: &str| Problem::FooterContent { reason: reason.to_owned() };
    let mut reader = Reader::new(bytes);
    let mut columns: Option<Columns> = None;
    let mut row_groups = None;
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id).map_err(malformed)? {
        match field.id {
            2 => columns = Some(read_columns(&mut reader, field)?),
            4 => {
                let columns = columns.as_ref().ok_or_else(|| content("it has no schema"))?;
                row_groups = Some(read_row_groups(&mut reader, field, columns, data_end)?);
            }
            8 => return Err(Problem::Encrypted { what: "a column".to_owned() }),
            _ => reader.skip(field).map_err(malformed)?,
        }
    }
    let mut columns = columns.ok_or_else(|| content("it has no schema"))?;
    if columns.time.meaning == Meaning::UnlabelledTicks {
        columns.time.meaning = arrow_time_meaning(bytes)?;
    }
    let row_groups = row_groups.ok_or_else(|| content("it has no row groups"))?;
    Ok(Footer { columns, row_groups })
}

/// Whole seconds, and dates counted in milliseconds, have no type of their own in Parquet: the Arrow schema beside
/// it tells them from plain numbers.
fn arrow_time_meaning(footer: &[u8]) -> Result<Meaning, Problem> {
    use arrow::datatypes::{DataType, TimeUnit};
    let no_time =
        || Problem::ColumnType { column: "obs_time".to_owned(), found: "Int64".to_owned(), expected: "a time" };
    if footer.len() > ARROW_SCHEMA_FOOTER_LIMIT_BYTES {
        return Err(no_time());
    }
    let metadata = ParquetMetaDataReader::decode_metadata(footer).map_err(|_| no_time())?;
    let metadata = metadata.file_metadata();
    let schema =
        parquet_to_arrow_schema(metadata.schema_descr(), metadata.key_value_metadata()).map_err(|_| no_time())?;
    match schema.field_with_name("obs_time").map(arrow::datatypes::Field::data_type) {
        Ok(DataType::Timestamp(TimeUnit::Second, _)) => Ok(Meaning::Ticks { unit_ns: 1_000_000_000 }),
        Ok(DataType::Date64) => Ok(Meaning::Ticks { unit_ns: 1_000_000 }),
        _ => Err(no_time()),
    }
}

fn read_row_groups(
    reader: &mut Reader<'_>,
    field: Field,
    columns: &Columns,
    data_end: u64,
) -> Result<Vec<RowGroup>, Problem> {
    let group_count = reader.list(field, Kind::Struct).map_err(|source| Problem::Footer { source })?;
    // What a footer claims is only a claim; most files have one.
    let mut row_groups = Vec::with_capacity(group_count.min(MOST_GROUPS_AT_ONCE));
    let mut first_row = 0u64;
    for index in 0..group_count {
        let row_group = read_row_group(reader, columns, index, first_row, data_end)?;
        first_row = first_row
            .checked_add(row_group.row_count)
            .ok_or_else(|| Problem::FooterContent { reason: "the row counts overflow".to_owned() })?;
        row_groups.push(row_group);
    }
    Ok(row_groups)
}

/// Room is made at once for no more row groups than this.
const MOST_GROUPS_AT_ONCE: usize = 64;

/// The place of the series column among the columns that are read: the one whose bounds tell anything.
const SERIES: usize = 2;

fn read_row_group(
    reader: &mut Reader<'_>,
    columns: &Columns,
    index: usize,
    first_row: u64,
    data_end: u64,
) -> Result<RowGroup, Problem> {
    let malformed = |source| Problem::Footer { source };
    let content = |reason: String| Problem::FooterContent { reason: format!("row group {index} {reason}") };
    let wanted = [Some(&columns.time), Some(&columns.value), columns.series.as_ref()];
    let mut raw_chunks: [Option<RawChunk>; 3] = [None, None, None];
    let mut row_count = None;
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id).map_err(malformed)? {
        match field.id {
            1 => {
                for leaf in 0..reader.list(field, Kind::Struct).map_err(malformed)? {
                    let place = wanted.iter().position(|column| column.is_some_and(|column| column.leaf == leaf));
                    match place {
                        Some(place) => {
                            raw_chunks[place] = Some(read_chunk(reader, place == SERIES).map_err(malformed)?)
                        }
                        None => reader.skip_struct().map_err(malformed)?,
                    }
                }
            }
            3 => row_count = u64::try_from(reader.int(field).map_err(malformed)?).ok(),
            _ => reader.skip(field).map_err(malformed)?,
        }
    }
    let row_count = row_count.ok_or_else(|| content("has no row count".to_owned()))?;
    let [time, value, series] = raw_chunks;
    let check = |raw: Option<RawChunk>, column: &Column| {
        let raw = raw.ok_or_else(|| content(format!("has no column {}", column.name)))?;
        raw.check(column, row_count, data_end)
            .map_err(|problem| problem.at(Place { column: column.name.to_owned(), row_group: index }))
    };
    Ok(RowGroup {
        index,
        first_row,
        row_count,
        time: check(time, &columns.time)?,
        value: check(value, &columns.value)?,
        series: columns.series.as_ref().map(|column| check(series, column)).transpose()?,
    })
}

/// A column chunk as the footer describes it, nothing checked yet.
#[derive(Debug, Default)]
struct RawChunk {
    in_another_file: bool,
    encrypted: bool,
    physical: Option<i32>,
    value_count: i64,
    compressed_bytes: i64,
    data_page_offset: Option<i64>,
    dictionary_page_offset: Option<i64>,
    offset_index: (Option<i64>, i32),
    column_index: (Option<i64>, i32),
    bloom_filter: (Option<i64>, i32),
    chunk: Chunk,
}

/// What is wrong with a chunk, its place still open.
enum ChunkProblem {
    Encrypted,
    Content(String),
}

impl ChunkProblem {
    fn at(self, place: Place) -> Problem {
        match self {
            Self::Encrypted => Problem::Encrypted { what: format!("column {}", place.column) },
            Self::Content(reason) => Problem::Chunk { place, reason },
        }
    }
}

impl RawChunk {
    fn check(self, column: &Column, row_count: u64, data_end: u64) -> Result<Chunk, ChunkProblem> {
        let refuse = |reason: String| Err(ChunkProblem::Content(reason));
        if self.encrypted {
            return Err(ChunkProblem::Encrypted);
        }
        if self.in_another_file {
            return refuse("its pages are in another file".to_owned());
        }
        if self.physical.and_then(Physical::of) != Some(column.physical) {
            return refuse("its type differs from the schema's".to_owned());
        }
        if u64::try_from(self.value_count) != Ok(row_count) {
            return refuse(format!("it claims {} values for {row_count} rows", self.value_count));
        }
        // Some writers say 0 where there is no dictionary.
        let dictionary_offset = self.dictionary_page_offset.filter(|&offset| offset > 0);
        let Some(data_offset) = self.data_page_offset else {
            return refuse("it has no data page offset".to_owned());
        };
        let start = dictionary_offset.map_or(data_offset, |offset| offset.min(data_offset));
        let Some(bytes) = range_within(start, self.compressed_bytes, data_end) else {
            let length = self.compressed_bytes;
            return refuse(format!("its {length} bytes at {start} are not within the file"));
        };
        // What only saves work is left unused where it cannot be true.
        let optional = |(offset, length): (Option<i64>, i32)| {
            range_within(offset?, i64::from(length), data_end).filter(|range| !range.is_empty())
        };
        Ok(Chunk {
            bytes,
            bloom_filter: optional(self.bloom_filter),
            offset_index: optional(self.offset_index),
            column_index: optional(self.column_index),
            ..self.chunk
        })
    }
}

/// The range, if it begins after the file's first four bytes and ends before its footer.
fn range_within(start: i64, length: i64, data_end: u64) -> Option<Range<u64>> {
    let start = u64::try_from(start).ok().filter(|&start| start >= 4)?;
    let end = start.checked_add(u64::try_from(length).ok()?)?;
    (end <= data_end).then_some(start..end)
}

fn read_chunk(reader: &mut Reader<'_>, keeps_bounds: bool) -> Result<RawChunk, Malformed> {
    let mut raw = RawChunk::default();
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id)? {
        match field.id {
            1 => raw.in_another_file = !reader.binary(field)?.is_empty(),
            3 => {
                Reader::enter(field)?;
                read_chunk_metadata(reader, &mut raw, keeps_bounds)?;
            }
            4 => raw.offset_index.0 = Some(reader.int(field)?),
            5 => raw.offset_index.1 = reader.int32(field)?,
            6 => raw.column_index.0 = Some(reader.int(field)?),
            7 => raw.column_index.1 = reader.int32(field)?,
            8 | 9 => {
                raw.encrypted = true;
                reader.skip(field)?;
            }
            _ => reader.skip(field)?,
        }
    }
    Ok(raw)
}

fn read_chunk_metadata(reader: &mut Reader<'_>, raw: &mut RawChunk, keeps_bounds: bool) -> Result<(), Malformed> {
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id)? {
        match field.id {
            1 => raw.physical = Some(reader.int32(field)?),
            4 => raw.chunk.codec = reader.int32(field)?,
            5 => raw.value_count = reader.int(field)?,
            7 => raw.compressed_bytes = reader.int(field)?,
            9 => raw.data_page_offset = Some(reader.int(field)?),
            11 => raw.dictionary_page_offset = Some(reader.int(field)?),
            12 if keeps_bounds => {
                Reader::enter(field)?;
                read_statistics(reader, &mut raw.chunk)?;
            }
            14 => raw.bloom_filter.0 = Some(reader.int(field)?),
            15 => raw.bloom_filter.1 = reader.int32(field)?,
            _ => reader.skip(field)?,
        }
    }
    Ok(())
}

/// The bounds come from fields 5 and 6 alone: the older fields 1 and 2 were ordered differently by different writers.
fn read_statistics(reader: &mut Reader<'_>, chunk: &mut Chunk) -> Result<(), Malformed> {
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id)? {
        match field.id {
            3 => chunk.null_count = Some(reader.int(field)?),
            5 => chunk.max = Some(reader.binary(field)?.to_vec()),
            6 => chunk.min = Some(reader.binary(field)?.to_vec()),
            7 | 8 => chunk.bounds_may_be_inexact |= !Reader::boolean(field)?,
            _ => reader.skip(field)?,
        }
    }
    Ok(())
}
