//! Parquet files, written by the library; and forged ones, written byte by byte.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

/// A file of these columns.
pub(crate) fn file(columns: &[(&str, ArrayRef)], properties: WriterProperties) -> Bytes {
    let with_nullability = columns.iter().map(|(name, array)| (*name, Arc::clone(array), true));
    file_of(&RecordBatch::try_from_iter_with_nullable(with_nullability).unwrap(), properties)
}

pub(crate) fn file_of(batch: &RecordBatch, properties: WriterProperties) -> Bytes {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    Bytes::from(writer.into_inner().unwrap())
}

/// The columns of a file with a series column; times in nanoseconds.
pub(crate) fn observations(rows: &[(&str, i64, f64)]) -> Vec<(&'static str, ArrayRef)> {
    let codes: StringArray = rows.iter().map(|(code, _, _)| Some(*code)).collect();
    let times: TimestampNanosecondArray = rows.iter().map(|(_, time, _)| *time).collect::<Vec<_>>().into();
    let values: Float64Array = rows.iter().map(|(_, _, value)| *value).collect::<Vec<_>>().into();
    vec![
        ("obs_time", Arc::new(times.with_timezone("UTC"))),
        ("value", Arc::new(values)),
        ("internal_series_code", Arc::new(codes)),
    ]
}

/// A file with a series column, as ordinary writers make it.
pub(crate) fn series_file(rows: &[(&str, i64, f64)]) -> Bytes {
    file(&observations(rows), WriterProperties::default())
}

/// A Thrift structure in the compact protocol, written field by field.
#[derive(Default, Clone)]
pub(crate) struct Thrift {
    bytes: Vec<u8>,
    last_id: u8,
}

impl Thrift {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn head(&mut self, id: u8, kind: u8) {
        self.bytes.push(((id - self.last_id) << 4) | kind);
        self.last_id = id;
    }

    fn varint(bytes: &mut Vec<u8>, mut number: u64) {
        while number >= 0x80 {
            bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).unwrap());
    }

    fn zigzag(bytes: &mut Vec<u8>, number: i64) {
        Self::varint(bytes, ((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    pub(crate) fn i32(mut self, id: u8, number: i64) -> Self {
        self.head(id, 5);
        Self::zigzag(&mut self.bytes, number);
        self
    }

    pub(crate) fn i64(mut self, id: u8, number: i64) -> Self {
        self.head(id, 6);
        Self::zigzag(&mut self.bytes, number);
        self
    }

    pub(crate) fn text(mut self, id: u8, text: &str) -> Self {
        self.head(id, 8);
        Self::varint(&mut self.bytes, text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    pub(crate) fn structure(mut self, id: u8, structure: Self) -> Self {
        self.head(id, 12);
        self.bytes.extend(structure.end());
        self
    }

    pub(crate) fn structures(mut self, id: u8, structures: Vec<Self>) -> Self {
        self.head(id, 9);
        self.bytes.push(0xfc);
        Self::varint(&mut self.bytes, structures.len() as u64);
        for structure in structures {
            self.bytes.extend(structure.end());
        }
        self
    }

    /// A list that claims more elements than there are.
    pub(crate) fn endless_list(mut self, id: u8) -> Self {
        self.head(id, 9);
        self.bytes.push(0xfc);
        Self::varint(&mut self.bytes, 0x7fff_ffff);
        self
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

/// A forged column: its type, and the pages as they are in the file.
#[derive(Clone)]
pub(crate) struct ForgedColumn {
    pub(crate) name: &'static str,
    pub(crate) physical: i64,
    pub(crate) converted: Option<i64>,
    pub(crate) is_nullable: bool,
    pub(crate) codec: i64,
    pub(crate) pages: Vec<u8>,
    pub(crate) value_count: i64,
}

impl ForgedColumn {
    /// `obs_time` of so many rows, all at the epoch.
    pub(crate) fn times(row_count: usize) -> Self {
        let pages = page(&data_header(row_count, row_count * 8, row_count * 8, 0), &vec![0; row_count * 8]);
        let value_count = i64::try_from(row_count).unwrap();
        Self { name: "obs_time", physical: 2, converted: Some(9), is_nullable: false, codec: 0, pages, value_count }
    }

    /// `value` with these pages.
    pub(crate) fn values(row_count: i64, codec: i64, pages: Vec<u8>) -> Self {
        Self { name: "value", physical: 5, converted: None, is_nullable: false, codec, pages, value_count: row_count }
    }

    /// The series column with these pages.
    pub(crate) fn codes(row_count: i64, codec: i64, pages: Vec<u8>) -> Self {
        Self {
            name: "series_code",
            physical: 6,
            converted: Some(0),
            is_nullable: false,
            codec,
            pages,
            value_count: row_count,
        }
    }
}

/// The header of a data page, of which every claim can be a lie.
pub(crate) fn data_header(value_count: usize, uncompressed: usize, compressed: usize, encoding: i64) -> Vec<u8> {
    let number = |number: usize| i64::try_from(number).unwrap();
    let content = Thrift::new().i32(1, number(value_count)).i32(2, encoding).i32(3, 3).i32(4, 3);
    Thrift::new().i32(1, 0).i32(2, number(uncompressed)).i32(3, number(compressed)).structure(5, content).end()
}

/// The header of a dictionary page.
pub(crate) fn dictionary_header(value_count: i64, uncompressed: i64, compressed: i64) -> Vec<u8> {
    let content = Thrift::new().i32(1, value_count).i32(2, 0);
    Thrift::new().i32(1, 2).i32(2, uncompressed).i32(3, compressed).structure(7, content).end()
}

pub(crate) fn page(header: &[u8], body: &[u8]) -> Vec<u8> {
    [header, body].concat()
}

/// A file of one row group with these columns.
pub(crate) fn forged(columns: &[ForgedColumn], row_count: i64) -> Bytes {
    let mut bytes = b"PAR1".to_vec();
    let root = Thrift::new().text(4, "schema").i32(5, i64::try_from(columns.len()).unwrap());
    let mut schema = vec![root];
    let mut chunks = Vec::new();
    for column in columns {
        let element = Thrift::new().i32(1, column.physical).i32(3, i64::from(column.is_nullable)).text(4, column.name);
        schema.push(match column.converted {
            Some(converted) => element.i32(6, converted),
            None => element,
        });
        let start = i64::try_from(bytes.len()).unwrap();
        bytes.extend_from_slice(&column.pages);
        let length = i64::try_from(column.pages.len()).unwrap();
        let metadata = Thrift::new()
            .i32(1, column.physical)
            .i32(4, column.codec)
            .i64(5, column.value_count)
            .i64(6, length)
            .i64(7, length)
            .i64(9, start);
        chunks.push(Thrift::new().i64(2, start).structure(3, metadata));
    }
    let row_group = Thrift::new().structures(1, chunks).i64(2, 0).i64(3, row_count);
    let footer = Thrift::new().i32(1, 1).structures(2, schema).i64(3, row_count).structures(4, vec![row_group]);
    with_footer(bytes, footer)
}

/// The bytes, then the footer.
pub(crate) fn with_footer(mut bytes: Vec<u8>, footer: Thrift) -> Bytes {
    let footer = footer.end();
    bytes.extend_from_slice(&footer);
    bytes.extend_from_slice(&u32::try_from(footer.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(b"PAR1");
    Bytes::from(bytes)
}
