//! Every type of time, value and code that is accepted, in every layout; and the types that are not.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal32Array, Decimal64Array,
    Decimal128Array, Decimal256Array, DictionaryArray, Float16Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, LargeStringArray, ListArray, NullArray, StringArray, StringViewArray, StructArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Float16Type, Int32Type, i256};
use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};

use crate::files::{file, observations};
use crate::store::read_own;

const DAY_NS: i64 = 86_400_000_000_000;

fn plain() -> WriterProperties {
    WriterProperties::default()
}

fn two_values() -> ArrayRef {
    Arc::new(Float64Array::from(vec![1.5, 2.5]))
}

fn two_days() -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(vec![0, DAY_NS]))
}

#[test]
fn times_of_every_unit_naive_or_zoned_are_read() {
    let days: Vec<ArrayRef> = vec![
        Arc::new(TimestampSecondArray::from(vec![0, 86_400])),
        Arc::new(TimestampSecondArray::from(vec![0, 86_400]).with_timezone("America/New_York")),
        Arc::new(TimestampMillisecondArray::from(vec![0, 86_400_000])),
        Arc::new(TimestampMillisecondArray::from(vec![0, 86_400_000]).with_timezone("+02:00")),
        Arc::new(TimestampMicrosecondArray::from(vec![0, 86_400_000_000])),
        Arc::new(TimestampMicrosecondArray::from(vec![0, 86_400_000_000]).with_timezone("UTC")),
        two_days(),
        Arc::new(TimestampNanosecondArray::from(vec![0, DAY_NS]).with_timezone("Asia/Tokyo")),
        Arc::new(Date32Array::from(vec![0, 1])),
        Arc::new(Date64Array::from(vec![0, 86_400_000])),
    ];
    for times in days {
        for coerce_types in [false, true] {
            let properties = WriterProperties::builder().set_coerce_types(coerce_types).build();
            let bytes = file(&[("obs_time", Arc::clone(&times)), ("value", two_values())], properties);
            let series = read_own(bytes).unwrap_or_else(|error| panic!("{:?}: {error}", times.data_type()));
            assert_eq!(series.times(), [0, DAY_NS], "{:?}", times.data_type());
            assert_eq!(series.values(), [1.5, 2.5]);
        }
    }
}

#[test]
fn values_of_every_numeric_type_are_read() {
    let half = |number: f32| <Float16Type as ArrowPrimitiveType>::Native::from_f32(number);
    let numbers: Vec<(ArrayRef, [f64; 2])> = vec![
        (Arc::new(Int8Array::from(vec![-1, 2])), [-1.0, 2.0]),
        (Arc::new(Int16Array::from(vec![-1, 2])), [-1.0, 2.0]),
        (Arc::new(Int32Array::from(vec![-1, 2])), [-1.0, 2.0]),
        (Arc::new(Int64Array::from(vec![-1, 2])), [-1.0, 2.0]),
        (Arc::new(UInt8Array::from(vec![1, u8::MAX])), [1.0, 255.0]),
        (Arc::new(UInt16Array::from(vec![1, u16::MAX])), [1.0, 65_535.0]),
        (Arc::new(UInt32Array::from(vec![1, u32::MAX])), [1.0, 4_294_967_295.0]),
        (Arc::new(UInt64Array::from(vec![1, 1 << 63])), [1.0, 9_223_372_036_854_775_808.0]),
        (Arc::new(Float16Array::from(vec![half(1.5), half(-0.25)])), [1.5, -0.25]),
        (Arc::new(Float32Array::from(vec![1.5, -0.25])), [1.5, -0.25]),
        (Arc::new(Float64Array::from(vec![0.1, f64::INFINITY])), [0.1, f64::INFINITY]),
        (Arc::new(Decimal32Array::from(vec![123, -5]).with_precision_and_scale(9, 2).unwrap()), [1.23, -0.05]),
        (Arc::new(Decimal64Array::from(vec![123, -5]).with_precision_and_scale(18, 2).unwrap()), [1.23, -0.05]),
        (Arc::new(Decimal128Array::from(vec![123, -5]).with_precision_and_scale(8, 2).unwrap()), [1.23, -0.05]),
        (Arc::new(Decimal128Array::from(vec![123, -5]).with_precision_and_scale(38, 10).unwrap()), [1.23e-8, -5e-10]),
        (
            Arc::new(
                Decimal256Array::from(vec![i256::from(123), i256::from(-5)]).with_precision_and_scale(76, 2).unwrap(),
            ),
            [1.23, -0.05],
        ),
    ];
    for (values, expected) in numbers {
        let name = format!("{:?}", values.data_type());
        let bytes = file(&[("obs_time", two_days()), ("value", values)], plain());
        let series = read_own(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(series.values(), expected, "{name}");
    }
}

#[test]
fn null_and_nan_are_null_and_a_column_of_nulls_is_all_null() {
    let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), None]));
    for values in [values, Arc::new(NullArray::new(2)) as ArrayRef] {
        let series = read_own(file(&[("obs_time", two_days()), ("value", values)], plain())).unwrap();
        assert_eq!(series.iter().collect::<Vec<_>>(), [(0, None), (DAY_NS, None)]);
    }
}

#[test]
fn codes_of_every_text_type_are_told_apart() {
    let dictionary: DictionaryArray<Int32Type> = vec!["A", "A_B"].into_iter().collect();
    let codes: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["A", "A_B"])),
        Arc::new(StringArray::from(vec![Some("A"), None])),
        Arc::new(LargeStringArray::from(vec!["A", "A_B"])),
        Arc::new(StringViewArray::from(vec!["A", "A_B"])),
        Arc::new(BinaryArray::from(vec![b"A" as &[u8], b"A_B"])),
        Arc::new(dictionary),
    ];
    for name in ["internal_series_code", "series_code"] {
        for codes in &codes {
            // The columns in another order, and one more that is not read.
            let columns =
                [("unit", two_values()), (name, Arc::clone(codes)), ("value", two_values()), ("obs_time", two_days())];
            let series = read_own(file(&columns, plain())).unwrap();
            assert_eq!(series.values(), [1.5], "{:?}", codes.data_type());
        }
    }
}

#[test]
fn the_internal_code_counts_where_there_are_two() {
    let codes = |texts: [&'static str; 2]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
    let columns = [
        ("series_code", codes(["X", "A"])),
        ("internal_series_code", codes(["A", "X"])),
        ("obs_time", two_days()),
        ("value", two_values()),
    ];
    assert_eq!(read_own(file(&columns, plain())).unwrap().values(), [1.5]);
}

fn many_rows() -> Vec<(String, i64, f64)> {
    (0..20_000u32)
        .map(|row| {
            let code = if row % 3 == 0 { "A".to_owned() } else { format!("A_{}", row % 7) };
            (code, i64::from(row) * 1_000_000_007, f64::from(row % 100) / 4.0)
        })
        .collect()
}

fn check_layout(name: &str, properties: WriterProperties) {
    let rows = many_rows();
    let borrowed: Vec<(&str, i64, f64)> = rows.iter().map(|(code, time, value)| (&code[..], *time, *value)).collect();
    let series =
        read_own(file(&observations(&borrowed), properties)).map_err(|error| format!("{name}: {error}")).unwrap();
    let expected: Vec<(i64, f64)> =
        borrowed.iter().filter(|(code, _, _)| *code == "A").map(|(_, time, value)| (*time, *value)).collect();
    let found: Vec<(i64, f64)> = series.times().iter().copied().zip(series.values().iter().copied()).collect();
    assert!(found == expected, "{name}: {} of {} observations", found.len(), expected.len());
}

#[test]
fn every_codec_and_page_version_is_read() {
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for codec in codecs {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for dictionary in [true, false] {
                let properties = WriterProperties::builder()
                    .set_compression(codec)
                    .set_writer_version(version)
                    .set_dictionary_enabled(dictionary)
                    .set_data_page_row_count_limit(3_000)
                    .set_max_row_group_row_count(Some(7_000))
                    .build();
                check_layout(&format!("{codec:?} {version:?} dictionary {dictionary}"), properties);
            }
        }
    }
}

#[test]
fn every_encoding_is_read() {
    let encodings = [
        ("obs_time", Encoding::DELTA_BINARY_PACKED),
        ("obs_time", Encoding::BYTE_STREAM_SPLIT),
        ("value", Encoding::BYTE_STREAM_SPLIT),
        ("internal_series_code", Encoding::DELTA_LENGTH_BYTE_ARRAY),
        ("internal_series_code", Encoding::DELTA_BYTE_ARRAY),
        ("internal_series_code", Encoding::PLAIN),
    ];
    for (column, encoding) in encodings {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let properties = WriterProperties::builder()
                .set_writer_version(version)
                .set_dictionary_enabled(false)
                .set_column_encoding(column.into(), encoding)
                .build();
            check_layout(&format!("{column} {encoding:?} {version:?}"), properties);
        }
    }
}

fn check_error(columns: &[(&str, ArrayRef)], expected: &str) {
    let error = read_own(file(columns, plain())).unwrap_err();
    assert_eq!(error.to_string(), format!("p/A/data.parquet: {expected}"));
    assert!(!error.is_transient());
}

#[test]
fn a_column_of_another_type_is_named() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["1", "2"]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let booleans: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
    let item = Arc::new(Field::new("item", DataType::Float64, true));
    let lists: ArrayRef = Arc::new(ListArray::new_null(item, 2));
    let inner = Arc::new(Field::new("value", DataType::Float64, true));
    let nested: ArrayRef = Arc::new(StructArray::from(vec![(inner, two_values())]));
    check_error(
        &[("obs_time", two_days()), ("value", Arc::clone(&texts))],
        "column value has type Utf8, expected a number",
    );
    check_error(&[("obs_time", two_days()), ("value", booleans)], "column value has type Boolean, expected a number");
    check_error(
        &[("obs_time", two_days()), ("value", two_days())],
        "column value has type Timestamp, expected a number",
    );
    check_error(&[("obs_time", two_days()), ("value", lists)], "column value has type Struct, expected a number");
    check_error(
        &[("obs_time", two_days()), ("value", Arc::clone(&nested))],
        "column value has type Struct, expected a number",
    );
    check_error(&[("obs_time", two_days()), ("other", nested)], "no column value");
    check_error(&[("obs_time", texts), ("value", two_values())], "column obs_time has type Utf8, expected a time");
    check_error(
        &[("obs_time", Arc::clone(&numbers)), ("value", two_values())],
        "column obs_time has type Int64, expected a time",
    );
    check_error(
        &[("obs_time", two_days()), ("value", two_values()), ("series_code", numbers)],
        "column series_code has type Int64, expected a text",
    );
    check_error(&[("value", two_values())], "no column obs_time");
}

#[test]
fn a_time_that_is_null_or_out_of_range_is_named_by_its_row() {
    let missing: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![Some(0), None]));
    check_error(&[("obs_time", missing), ("value", two_values())], "obs_time in row 1 is null");
    let far: ArrayRef = Arc::new(TimestampSecondArray::from(vec![0, 10_000_000_000]));
    let expected = "obs_time in row 1 is outside the years 1677 to 2262";
    check_error(&[("obs_time", far), ("value", two_values())], expected);
    let far: ArrayRef = Arc::new(Date32Array::from(vec![0, 200_000]));
    check_error(&[("obs_time", far), ("value", two_values())], expected);
    // What is wrong in rows of another series is none of this one's business.
    let far: ArrayRef = Arc::new(Date32Array::from(vec![0, 200_000]));
    let codes: ArrayRef = Arc::new(StringArray::from(vec!["A", "X"]));
    let columns = [("obs_time", far), ("value", two_values()), ("series_code", codes)];
    assert_eq!(read_own(file(&columns, plain())).unwrap().times(), [0]);
}

#[test]
fn a_file_without_rows_is_an_empty_series() {
    let empty: ArrayRef = Arc::new(TimestampNanosecondArray::from(Vec::<i64>::new()));
    let none: ArrayRef = Arc::new(Float64Array::from(Vec::<f64>::new()));
    assert!(read_own(file(&[("obs_time", empty), ("value", none)], plain())).unwrap().is_empty());
}
