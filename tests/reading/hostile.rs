//! Files that are wrong: a named error, or harmless; never a panic, never an inflated memory.

use bytes::Bytes;
use metrics_engine::worker::plan::Content::{Own, Shared};
use metrics_engine::worker::read::{Error, ReadSettings};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};

use crate::files::{
    ForgedColumn, Thrift, data_header, dictionary_header, file, forged, observations, page, series_file, with_footer,
};
use crate::store::{Store, block_on, plan, read, read_own, read_with};

fn check(bytes: Bytes, expected: &str) {
    let error = read_own(bytes).unwrap_err();
    assert_eq!(error.to_string(), format!("p/A/data.parquet: {expected}"));
    assert!(!error.is_transient());
}

fn sample(version: WriterVersion, codec: Compression, dictionary: bool) -> Bytes {
    let rows: Vec<(&str, i64, f64)> =
        (0..300u32).map(|row| (["A", "A_B"][row as usize % 2], i64::from(row), f64::from(row))).collect();
    let properties = WriterProperties::builder()
        .set_writer_version(version)
        .set_compression(codec)
        .set_dictionary_enabled(dictionary)
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(50)
        .set_bloom_filter_enabled(true)
        .set_bloom_filter_max_ndv(10)
        .build();
    file(&observations(&rows), properties)
}

fn samples() -> Vec<Bytes> {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    vec![
        sample(WriterVersion::PARQUET_1_0, Compression::UNCOMPRESSED, true),
        sample(WriterVersion::PARQUET_2_0, Compression::UNCOMPRESSED, false),
        sample(WriterVersion::PARQUET_1_0, Compression::SNAPPY, true),
        sample(WriterVersion::PARQUET_2_0, zstd, true),
    ]
}

/// Reads as an own and as a shared object.
fn read_every_way(bytes: &Bytes) -> [Result<usize, Error>; 2] {
    [Own(0), Shared(vec![0])].map(|content| {
        let store = Store::with([("p/A/data.parquet", bytes.clone())]);
        let outcome = block_on(read(&plan(&["A"], &[("p/A/data.parquet", None, content)]), &store))?;
        Ok(outcome.series[0].observations.len())
    })
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    for bytes in samples() {
        assert!(read_every_way(&bytes).iter().all(|result| matches!(result, Ok(150))));
        for end in 0..bytes.len() {
            let error = read_own(bytes.slice(..end)).expect_err("a file that was cut");
            assert!(error.to_string().starts_with("p/A/data.parquet: "), "{error}");
        }
    }
}

#[test]
fn a_file_with_any_byte_changed_is_refused_or_harmless() {
    for bytes in samples() {
        for index in (0..bytes.len()).step_by(2) {
            let mut changed = bytes.to_vec();
            changed[index] ^= [0x01, 0x80, 0xff][index / 2 % 3];
            for result in read_every_way(&Bytes::from(changed)) {
                if let Err(error) = result {
                    assert!(!error.is_transient(), "byte {index}: {error}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_parquet_file_is_named() {
    check(Bytes::new(), "0 bytes are no Parquet file");
    check(Bytes::from_static(b"PAR1PAR1"), "8 bytes are no Parquet file");
    check(Bytes::from_static(b"obs_time,value\n2024-01-01,1\n"), NO_MAGIC);
    check(Bytes::from_static(b"PAR1....\0\0\0\0PARE"), "the footer is encrypted");
    check(
        Bytes::from_static(b"PAR1\xff\xff\xff\xffPAR1"),
        "the footer claims 4294967295 bytes, at most 0 are possible",
    );
    let mut wrong_start = series_file(&[("A", 1, 1.0)]).to_vec();
    wrong_start[0] = b'X';
    check(Bytes::from(wrong_start), NO_MAGIC);
}

const NO_MAGIC: &str = "not a Parquet file, or cut off: it does not begin and end with PAR1";

#[test]
fn footers_that_cannot_be_are_refused() {
    let start = || b"PAR1".to_vec();
    let root = |count| Thrift::new().text(4, "schema").i32(5, count);
    check(with_footer(start(), Thrift::new().i32(1, 1).endless_list(2)), ENDLESS);
    check(with_footer(start(), Thrift::new().structures(2, vec![root(0)])), "no column obs_time");
    check(with_footer(start(), Thrift::new().structures(2, vec![])), "no column obs_time");
    check(with_footer(start(), Thrift::new()), "the footer is malformed: it has no schema");
    check(
        with_footer(start(), Thrift::new().structures(2, vec![root(2_000_000_000)])),
        "the footer is malformed: the schema has fewer columns than its root",
    );
    let time = || Thrift::new().i32(1, 2).i32(3, 0).text(4, "obs_time").i32(6, 9);
    let value = || Thrift::new().i32(1, 5).i32(3, 0).text(4, "value");
    let schema = || Thrift::new().structures(2, vec![root(2), time(), value()]);
    check(with_footer(start(), schema()), "the footer is malformed: it has no row groups");
    check(with_footer(start(), schema().endless_list(4)), ENDLESS);
    let encrypted = schema().structure(8, Thrift::new());
    check(with_footer(start(), encrypted), "a column is encrypted");
    let twice = Thrift::new().structures(2, vec![root(2), time(), time()]);
    check(with_footer(start(), twice), "the footer is malformed: column obs_time appears twice");
    let row_group = Thrift::new().structures(1, vec![]).i64(3, 5);
    check(
        with_footer(start(), schema().structures(4, vec![row_group])),
        "the footer is malformed: row group 0 has no column obs_time",
    );
    let repeated = Thrift::new().i32(1, 5).i32(3, 2).text(4, "value");
    let lists = Thrift::new().structures(2, vec![root(2), time(), repeated]);
    check(with_footer(start(), lists), "column value has type List(Float64), expected a number");
}

const ENDLESS: &str = "the footer is malformed: a length goes beyond its end";

#[test]
fn a_column_chunk_outside_the_file_is_refused() {
    for (field, number) in [(7, 1 << 40), (7, -1), (9, -5), (9, i64::MAX), (9, 0)] {
        let mut metadata = Thrift::new().i32(1, 2).i32(4, 0).i64(5, 1);
        for (id, plain) in [(7, 1), (9, 4)] {
            metadata = metadata.i64(id, if id == field { number } else { plain });
        }
        let root = Thrift::new().text(4, "schema").i32(5, 2);
        let time = Thrift::new().i32(1, 2).i32(3, 0).text(4, "obs_time").i32(6, 9);
        let value = Thrift::new().i32(1, 5).i32(3, 0).text(4, "value");
        let chunk = Thrift::new().structure(3, metadata);
        let row_group = Thrift::new().structures(1, vec![chunk.clone(), chunk]).i64(3, 1);
        let footer = Thrift::new().structures(2, vec![root, time, value]).structures(4, vec![row_group]);
        let error = read_own(with_footer(b"PAR1....".to_vec(), footer)).unwrap_err().to_string();
        assert!(error.contains("column obs_time in row group 0: its ") && error.contains("within the file"), "{error}");
    }
}

fn forged_values(codec: i64, pages: Vec<u8>) -> Bytes {
    forged(&[ForgedColumn::times(1), ForgedColumn::values(1, codec, pages)], 1)
}

const PLACE: &str = "column value in row group 0";

#[test]
fn a_forged_file_that_is_honest_is_read() {
    let series = read_own(forged_values(0, page(&data_header(1, 8, 8, 0), &1.5f64.to_le_bytes()))).unwrap();
    assert_eq!((series.times(), series.values()), (&[0][..], &[1.5][..]));
}

#[test]
fn a_page_that_claims_two_gibibytes_is_refused() {
    let claim = 0x7fff_ffff;
    for codec in [0, 1, 2, 4, 5, 6, 7] {
        let bytes = forged_values(codec, page(&data_header(1, claim, 8, 0), &[0; 8]));
        check(bytes, &format!("{PLACE}: a page claims 2147483647 bytes uncompressed, at most 67108864 are allowed"));
    }
}

#[test]
fn a_page_that_claims_more_than_its_codec_can_make_is_refused() {
    for (codec, name, claim) in
        [(0, "None", 9), (1, "Snappy", 172), (2, "Gzip", 8_257), (5, "Lz4", 2_041), (6, "Zstd", 262_145)]
    {
        let bytes = forged_values(codec, page(&data_header(1, claim, 8, 0), &[0; 8]));
        let reason = format!("a page claims {claim} bytes uncompressed, more than 8 bytes of {name} can hold");
        check(bytes, &format!("{PLACE}: {reason}"));
    }
}

#[test]
fn a_page_that_hides_a_bomb_is_refused() {
    // A hundred megabytes of zeros behind a claim of eight bytes.
    let zeros = vec![0u8; 100_000_000];
    let gzip = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&zeros).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::bulk::compress(&zeros, 3).unwrap();
    for (codec, body) in [(2, gzip), (6, zstd)] {
        let honest = page(&data_header(1, zeros.len(), body.len(), 0), &body);
        let error = read_own(forged_values(codec, honest)).unwrap_err().to_string();
        assert!(error.ends_with("claims 100000000 bytes uncompressed, at most 67108864 are allowed"), "{error}");
        let hidden = page(&data_header(1, 8, body.len(), 0), &body);
        let error = read_own(forged_values(codec, hidden)).unwrap_err().to_string();
        assert!(error.contains("a page cannot be decompressed: "), "{error}");
    }
}

#[test]
fn value_counts_that_cannot_be_are_refused() {
    let body = 1.5f64.to_le_bytes();
    let of = |count, value_count, pages: Vec<u8>| {
        forged(&[ForgedColumn::times(1), ForgedColumn::values(value_count, 0, pages)], count)
    };
    let honest = page(&data_header(1, 8, 8, 0), &body);
    check(of(1, 5, honest.clone()), &format!("{PLACE}: it claims 5 values for 1 rows"));
    check(
        of(1, 1, page(&data_header(2, 8, 8, 0), &body)),
        &format!("{PLACE}: a page claims 2 values where the row group has 1 left"),
    );
    let repeated = [honest.clone(), honest.clone()].concat();
    assert_eq!(read_own(of(1, 1, repeated)).unwrap().len(), 1);
    check(of(1, 1, Vec::new()), &format!("{PLACE}: its pages end 1 rows early"));
    check(of(-1, 1, honest), "the footer is malformed: row group 0 has no row count");
    let many = 1 << 60;
    let absurd = forged(
        &[ForgedColumn { value_count: many, ..ForgedColumn::times(1) }, ForgedColumn::values(many, 0, Vec::new())],
        many,
    );
    check(absurd, "column obs_time in row group 0: its pages end 8191 rows early");
}

#[test]
fn dictionaries_that_claim_too_much_are_refused() {
    let of = |count, uncompressed, body: &[u8]| {
        let length = i64::try_from(body.len()).unwrap();
        forged_values(0, page(&dictionary_header(count, uncompressed, length), body))
    };
    check(of(0x7fff_ffff, 8, &[0; 8]), &format!("{PLACE}: a page claims a dictionary of 2147483647 values in 8 bytes"));
    check(of(-1, 8, &[0; 8]), &format!("{PLACE}: a page claims a negative number of values"));
    check(of(1, -8, &[0; 8]), &format!("{PLACE}: a page claims a negative size"));
    let twice = [page(&dictionary_header(1, 8, 8), &[0; 8]), page(&dictionary_header(1, 8, 8), &[0; 8])].concat();
    check(forged_values(0, twice), &format!("{PLACE}: a page holds a dictionary, but is not the first"));
}

#[test]
fn pages_that_leave_their_chunk_or_have_no_header_are_refused() {
    check(
        forged_values(0, page(&data_header(1, 8, 9, 0), &[0; 8])),
        &format!("{PLACE}: a page claims 9 bytes where 8 are left"),
    );
    check(
        forged_values(0, vec![0xff; 4]),
        &format!("{PLACE}: a page header is malformed: a field has an unexpected type"),
    );
    check(forged_values(99, vec![0; 4]), &format!("{PLACE}: its codec has the unknown number 99"));
    check(
        forged_values(0, page(&data_header(1, 8, 8, 77), &[0; 8])),
        &format!("{PLACE}: a page has the unknown encoding 77"),
    );
    check(
        forged_values(0, page(&data_header(1, 8, 8, 8), &[0; 8])),
        &format!("{PLACE}: a page needs a dictionary that is not there"),
    );
}

#[test]
fn delta_lengths_that_claim_too_much_are_refused() {
    // Two thousand million lengths of nothing, in one block of no bits.
    let lengths = [0x80, 0x01, 0x04, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00, 0x00, 0, 0, 0, 0];
    for encoding in [6, 7] {
        let pages = page(&data_header(1, lengths.len(), lengths.len(), encoding), &lengths);
        let honest = page(&data_header(1, 8, 8, 0), &[0; 8]);
        let columns = [ForgedColumn::times(1), ForgedColumn::values(1, 0, honest), ForgedColumn::codes(1, 0, pages)];
        check(forged(&columns, 1), "column series_code in row group 0: a page has malformed delta lengths");
    }
}

#[test]
fn rows_without_end_are_given_up() {
    // Sixteen pages of a few bytes, each one run of two thousand million equal codes of another series.
    let row_count = 0x7fff_ffff;
    let run = [0x01, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x00];
    let mut pages = page(&dictionary_header(1, 5, 5), &[1, 0, 0, 0, b'X']);
    for _ in 0..16 {
        pages.extend(page(&data_header(row_count, run.len(), run.len(), 8), &run));
    }
    let total = i64::try_from(row_count).unwrap() * 16;
    let columns = [
        ForgedColumn { value_count: total, ..ForgedColumn::times(1) },
        ForgedColumn::values(total, 0, Vec::new()),
        ForgedColumn::codes(total, 0, pages),
    ];
    let store = Store::with([("p/A/data.parquet", forged(&columns, total))]);
    let settings = ReadSettings { observation_limit: 1_000, ..ReadSettings::default() };
    let plan = plan(&["A"], &[("p/A/data.parquet", None, Own(0))]);
    let error = block_on(read_with(&plan, &store, &settings)).unwrap_err();
    assert_eq!(error.to_string(), "p/A/data.parquet: the run decodes more than 100000 rows");
}

#[test]
fn a_shared_file_without_codes_is_refused() {
    let bytes = forged_values(0, page(&data_header(1, 8, 8, 0), &1.5f64.to_le_bytes()));
    let store = Store::with([("p/all.parquet", bytes)]);
    let error = block_on(read(&plan(&["A"], &[("p/all.parquet", None, Shared(vec![0]))]), &store)).unwrap_err();
    assert_eq!(error.to_string(), "p/all.parquet: no column internal_series_code or series_code");
}

#[test]
fn old_times_of_96_bits_are_read_and_checked() {
    let of = |day: u32| {
        let body = [&3_000_000_000u64.to_le_bytes()[..], &day.to_le_bytes()[..]].concat();
        let pages = page(&data_header(1, 12, 12, 0), &body);
        let times = ForgedColumn { physical: 3, converted: None, pages, ..ForgedColumn::times(1) };
        forged(&[times, ForgedColumn::values(1, 0, page(&data_header(1, 8, 8, 0), &[0; 8]))], 1)
    };
    assert_eq!(read_own(of(2_440_589)).unwrap().times(), [86_403_000_000_000]);
    check(of(5_000_000), "obs_time in row 0 is outside the years 1677 to 2262");
}
