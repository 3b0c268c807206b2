//! Parquet files that want too much or hold what cannot be read, made from a seed or byte by byte.
//!
//! Nothing of this is stored: the files are small and made when they are needed.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, ListArray, RecordBatch, StringArray, StructArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Float64Type};
use bytes::Bytes;
use parquet::file::properties::WriterProperties;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::files::{
    ForgedColumn, Thrift, data_header, dictionary_header, file, forged, observations, page, series_file, with_footer,
};

/// Parquet's numbers of codecs.
const PLAIN: i64 = 0;
const GZIP: i64 = 2;
const BROTLI: i64 = 4;
const ZSTD: i64 = 6;

/// The encoding of indexes into a dictionary.
const RLE_DICTIONARY: i64 = 8;

/// A file, and a part of the message that it must lead to.
pub struct HostileFile {
    pub name: String,
    pub bytes: Bytes,
    pub problem: &'static str,
}

fn hostile(name: &str, bytes: Bytes, problem: &'static str) -> HostileFile {
    HostileFile { name: name.to_owned(), bytes, problem }
}

/// A valid file of the series `A`.
pub fn valid() -> Bytes {
    let rows: Vec<(&str, i64, f64)> = (0..40_u32).map(|row| ("A", i64::from(row), f64::from(row))).collect();
    series_file(&rows)
}

/// Every truncation of a valid file.
pub fn truncations() -> impl Iterator<Item = Bytes> {
    let whole = valid();
    (0..whole.len()).map(move |length| whole.slice(..length))
}

/// Copies of a valid file, each with one to eight bytes changed.
pub fn flipped(seed: u64, count: usize) -> impl Iterator<Item = Bytes> {
    let whole = valid();
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(move |_| {
        let mut bytes = whole.to_vec();
        for _ in 0..random.random_range(1..=8) {
            let index = random.random_range(0..bytes.len());
            bytes[index] ^= random.random_range(1..=u8::MAX);
        }
        Bytes::from(bytes)
    })
}

/// One value of a page after the other, repeated by the header alone.
fn one_value() -> Vec<u8> {
    page(&data_header(1, 8, 8, PLAIN), &1.5_f64.to_le_bytes())
}

fn with_values(codec: i64, pages: Vec<u8>) -> Bytes {
    forged(&[ForgedColumn::times(1), ForgedColumn::values(1, codec, pages)], 1)
}

/// Files that claim what is not there.
pub fn claims() -> Vec<HostileFile> {
    const TWO_GIB: usize = (1 << 31) - 1;
    let mut files = Vec::new();
    for codec in [PLAIN, GZIP, BROTLI, ZSTD, 1, 5, 7] {
        let bytes = with_values(codec, page(&data_header(1, TWO_GIB, 8, PLAIN), &[0; 8]));
        files.push(hostile(&format!("a page of 2 GiB in codec {codec}"), bytes, "claims 2147483647 bytes"));
    }
    let dictionary = page(&dictionary_header(0x7fff_ffff, 8, 8), &[0; 8]);
    files.push(hostile("a dictionary of 2^31 values", with_values(PLAIN, dictionary), "claims a dictionary"));
    let many = 1 << 60;
    let absurd = [
        ForgedColumn { value_count: many, ..ForgedColumn::times(1) },
        ForgedColumn { value_count: many, ..ForgedColumn::values(1, PLAIN, one_value()) },
    ];
    files.push(hostile("2^60 rows that are not there", forged(&absurd, many), "rows early"));
    files.push(hostile("a negative number of rows", forged(&absurd, -1), "has no row count"));
    let footer = Thrift::new().i32(1, 1).endless_list(2);
    files.push(hostile("a schema of 2^31 columns", with_footer(b"PAR1".to_vec(), footer), "malformed"));
    files
}

/// The pages of so many zeros of 8 bytes, in a codec, none larger than is allowed.
fn zeros(value_count: usize, codec: i64) -> Vec<u8> {
    const VALUES_OF_A_PAGE: usize = 7_500_000;
    let mut pages = Vec::new();
    let mut last = (0, Vec::new());
    for start in (0..value_count).step_by(VALUES_OF_A_PAGE) {
        let values = VALUES_OF_A_PAGE.min(value_count - start);
        if last.0 != values {
            let plain = vec![0; values * 8];
            let body = match codec {
                ZSTD => zstd::bulk::compress(&plain, 19).unwrap(),
                _ => brotli_of(&plain),
            };
            last = (values, page(&data_header(values, plain.len(), body.len(), PLAIN), &body));
        }
        pages.extend_from_slice(&last.1);
    }
    pages
}

fn brotli_of(plain: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let parameters = brotli::enc::BrotliEncoderParams { quality: 5, lgwin: 22, ..Default::default() };
    brotli::BrotliCompress(&mut &plain[..], &mut body, &parameters).unwrap();
    body
}

/// A few kilobytes that are honest about holding hundreds of megabytes: 31 million observations.
pub fn inflating() -> Vec<HostileFile> {
    const ROWS: usize = 31_250_000;
    let rows = i64::try_from(ROWS).unwrap();
    [("zstd", ZSTD), ("brotli", BROTLI)]
        .map(|(name, codec)| {
            let times = ForgedColumn { codec, pages: zeros(ROWS, codec), value_count: rows, ..ForgedColumn::times(1) };
            let values = ForgedColumn::values(rows, codec, zeros(ROWS, codec));
            let bytes = forged(&[times, values], rows);
            assert!(bytes.len() < 64_000, "{} bytes", bytes.len());
            hostile(&format!("{} bytes of {name} for 500 MB", bytes.len()), bytes, "observations")
        })
        .into()
}

/// A few kilobytes whose pages take sixteen megabytes each, for a few rows more than are decoded at once.
pub fn padded() -> Bytes {
    const ROWS: usize = 101_000;
    let rows = i64::try_from(ROWS).unwrap();
    let plain = vec![0; 16_000_000];
    let body = zstd::bulk::compress(&plain, 19).unwrap();
    let pages = page(&data_header(ROWS, plain.len(), body.len(), PLAIN), &body);
    let times = ForgedColumn { codec: ZSTD, pages: pages.clone(), value_count: rows, ..ForgedColumn::times(1) };
    forged(&[times, ForgedColumn::values(rows, ZSTD, pages)], rows)
}

/// A page of indexes into a dictionary of one value: any number of rows in a few bytes.
fn repeated(value_count: usize, dictionary_value: &[u8]) -> Vec<u8> {
    let length = i64::try_from(dictionary_value.len()).unwrap();
    let dictionary = page(&dictionary_header(1, length, length), dictionary_value);
    // Indexes of one bit; then a run of so many zeros.
    let mut body = vec![1];
    let mut head = (value_count as u64) << 1;
    while head >= 0x80 {
        body.push(u8::try_from(head & 0x7f).unwrap() | 0x80);
        head >>= 7;
    }
    body.extend([u8::try_from(head).unwrap(), 0]);
    [dictionary, page(&data_header(value_count, body.len(), body.len(), RLE_DICTIONARY), &body)].concat()
}

/// Some hundred bytes that truly hold two thousand million rows, of the wanted series or of another.
pub fn repeating(code: &str) -> Bytes {
    const ROWS: usize = (1 << 31) - 1;
    let rows = i64::try_from(ROWS).unwrap();
    let code = [&u32::try_from(code.len()).unwrap().to_le_bytes()[..], code.as_bytes()].concat();
    let columns = [
        ForgedColumn { pages: repeated(ROWS, &[0; 8]), value_count: rows, ..ForgedColumn::times(1) },
        ForgedColumn::values(rows, PLAIN, repeated(ROWS, &[0; 8])),
        ForgedColumn::codes(rows, PLAIN, repeated(ROWS, &code)),
    ];
    forged(&columns, rows)
}

/// Files of the wrong kind, or with the wrong columns.
pub fn strangers() -> Vec<HostileFile> {
    let of = |name: &str, columns: &[(&str, ArrayRef)], problem| {
        hostile(name, file(columns, WriterProperties::default()), problem)
    };
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![0, 1]));
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["1", "2"]));
    let lists: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([Some([Some(1.0)]), Some([None])]));
    let field = Arc::new(Field::new("value", DataType::Float64, true));
    let structs: ArrayRef = Arc::new(StructArray::from(vec![(field, Arc::clone(&numbers))]));
    let [mut encrypted, mut not_parquet] = [valid().to_vec(), valid().to_vec()];
    let end = encrypted.len();
    encrypted[..4].copy_from_slice(b"PARE");
    encrypted[end - 4..].copy_from_slice(b"PARE");
    not_parquet[end - 4..].copy_from_slice(b"ORC1");
    let root = |count| Thrift::new().text(4, "schema").i32(5, count);
    let no_columns = with_footer(b"PAR1".to_vec(), Thrift::new().structures(2, vec![root(0)]));
    let deep = Thrift::new().structures(2, (0..100_000).map(|_| root(1)).collect());
    vec![
        of("texts for values", &[("obs_time", Arc::clone(&times)), ("value", Arc::clone(&texts))], "column value has"),
        of("texts for times", &[("obs_time", texts), ("value", Arc::clone(&numbers))], "column obs_time has type"),
        of("lists for values", &[("obs_time", Arc::clone(&times)), ("value", lists)], "column value has type"),
        of("structs for values", &[("obs_time", times), ("value", structs)], "column value has type"),
        of("no times", &[("value", numbers)], "no column obs_time"),
        hostile("no columns", no_columns, "no column obs_time"),
        hostile("a schema 100,000 levels deep", with_footer(b"PAR1".to_vec(), deep), "the footer is malformed"),
        hostile("an encrypted file", Bytes::from(encrypted), "the footer is encrypted"),
        hostile("another magic", Bytes::from(not_parquet), "not a Parquet file"),
        hostile("an empty file", Bytes::new(), "0 bytes are no Parquet file"),
        hostile("text", Bytes::from_static(b"obs_time,value\n2024-01-01,1.0\n"), "not a Parquet file"),
        hostile("zeros", Bytes::from(vec![0; 100_000]), "not a Parquet file"),
    ]
}

/// A file whose rows belong to no series that anyone asks for.
pub fn shared_of(code: &str) -> Bytes {
    file(&observations(&[(code, 0, 1.0)]), WriterProperties::default())
}

/// A record batch is what the library makes of columns; this one has none.
pub fn no_rows() -> Bytes {
    let batch = RecordBatch::try_from_iter(observations(&[])).unwrap();
    super::files::file_of(&batch, WriterProperties::default())
}
