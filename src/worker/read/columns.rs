//! The values of one column of one row group: guarded pages come in; times in nanoseconds, numbers or texts go out,
//! a batch of rows at a time.

use std::cell::RefCell;
use std::sync::Arc;

use arrow::datatypes::{ArrowPrimitiveType, Float16Type, i256};
use parquet::basic::{Repetition, Type as ParquetPhysical};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArrayType, FloatType, Int32Type, Int96, Int96Type,
};
use parquet::errors::ParquetError;
use parquet::schema::types::{ColumnDescriptor, ColumnPath, Type};

use super::error::{Place, Problem};
use super::page_guard::{FoundWrong, LibraryPages, Pages};
use super::schema::{Column, Meaning, Physical};
use super::words::{Word, Words};
use crate::series::{NULL, TimeNs};

/// A column being read.
pub(super) struct ColumnReader {
    values: Values,
    meaning: Meaning,
    place: Place,
}

/// The batch read last, as it is stored.
enum Values {
    Int32(Leaf<Library<Int32Type>>),
    Int64(Leaf<Words<i64>>),
    Int96(Leaf<Library<Int96Type>>),
    Float(Leaf<Library<FloatType>>),
    Double(Leaf<Words<f64>>),
    ByteArray(Leaf<Library<ByteArrayType>>),
    FixedLengthByteArray(Leaf<Library<FixedLenByteArrayType>>),
}

/// One arm for each physical type: `$leaf` is its leaf.
macro_rules! each {
    ($values:expr, $leaf:ident => $body:expr) => {
        match $values {
            Values::Int32($leaf) => $body,
            Values::Int64($leaf) => $body,
            Values::Int96($leaf) => $body,
            Values::Float($leaf) => $body,
            Values::Double($leaf) => $body,
            Values::ByteArray($leaf) => $body,
            Values::FixedLengthByteArray($leaf) => $body,
        }
    };
}

/// What decodes the pages of a column.
trait Decoder {
    /// A value of it.
    type Value;
    /// Adds the values of so many rows, and, of a nullable column, for each row whether it has one. How many rows there
    /// were: fewer only at the end.
    fn read(
        &mut self,
        row_count: usize,
        levels: &mut Vec<i16>,
        values: &mut Vec<Self::Value>,
    ) -> Result<usize, Problem>;
    /// Passes over so many rows; how many there were.
    fn skip(&mut self, row_count: usize) -> Result<usize, Problem>;
}

impl<T: Word> Decoder for Words<T> {
    type Value = T;

    fn read(&mut self, row_count: usize, levels: &mut Vec<i16>, values: &mut Vec<T>) -> Result<usize, Problem> {
        self.read(row_count, levels, values)
    }

    fn skip(&mut self, row_count: usize) -> Result<usize, Problem> {
        self.skip(row_count)
    }
}

/// The library's decoder of a type.
struct Library<T: DataType> {
    reader: ColumnReaderImpl<T>,
    nullable: bool,
    place: Place,
    problem: FoundWrong,
}

impl<T: DataType> Library<T> {
    fn new(column: &Column, place: &Place, pages: Pages) -> Result<Self, Problem> {
        let descriptor = descriptor(column).map_err(|source| Problem::Decode { place: place.clone(), source })?;
        let (pages, problem) = LibraryPages::new(pages);
        let reader = ColumnReaderImpl::new(descriptor, Box::new(pages));
        Ok(Self { reader, nullable: column.nullable, place: place.clone(), problem })
    }

    /// What the guard of the pages found wrong, or else the decoder.
    fn problem(&self, source: ParquetError) -> Problem {
        let guarded = self.problem.lock().ok().and_then(|mut problem| problem.take());
        guarded.unwrap_or(Problem::Decode { place: self.place.clone(), source })
    }
}

impl<T: DataType> Decoder for Library<T> {
    type Value = T::T;

    fn read(&mut self, row_count: usize, levels: &mut Vec<i16>, values: &mut Vec<T::T>) -> Result<usize, Problem> {
        let mut read = 0;
        while read < row_count {
            let levels = self.nullable.then_some(&mut *levels);
            let records = self.reader.read_records(row_count - read, levels, None, values);
            let (rows, _, _) = records.map_err(|source| self.problem(source))?;
            if rows == 0 {
                break;
            }
            read += rows;
        }
        Ok(read)
    }

    fn skip(&mut self, row_count: usize) -> Result<usize, Problem> {
        self.reader.skip_records(row_count).map_err(|source| self.problem(source))
    }
}

struct Leaf<D: Decoder> {
    decoder: D,
    nullable: bool,
    /// For each row of a nullable column: 1 where there is a value.
    levels: Vec<i16>,
    /// The values that are not null.
    values: Vec<D::Value>,
}

impl<D: Decoder> Leaf<D> {
    fn new(decoder: D, nullable: bool) -> Self {
        Self { decoder, nullable, levels: Vec::new(), values: Vec::new() }
    }

    fn read(&mut self, row_count: usize) -> Result<usize, Problem> {
        self.levels.clear();
        self.values.clear();
        self.decoder.read(row_count, &mut self.levels, &mut self.values)
    }

    /// The values of all rows, where none is null.
    fn all(&self) -> Option<&[D::Value]> {
        (!self.nullable || self.values.len() == self.levels.len()).then_some(&self.values)
    }

    /// Calls back with each row's value, in order.
    fn each<E>(&self, mut visit: impl FnMut(usize, Option<&D::Value>) -> Result<(), E>) -> Result<(), E> {
        if !self.nullable {
            return self.values.iter().enumerate().try_for_each(|(row, value)| visit(row, Some(value)));
        }
        let mut values = self.values.iter();
        self.levels.iter().enumerate().try_for_each(|(row, &level)| {
            let value = if level == 0 { None } else { values.next() };
            visit(row, value)
        })
    }
}

/// Why there is no time for a row.
enum NoTime {
    Null,
    OutOfRange,
}

impl ColumnReader {
    /// Reads the chunk that the pages belong to.
    pub(super) fn new(column: &Column, place: Place, pages: Pages) -> Result<Self, Problem> {
        let nullable = column.nullable;
        let values = match column.physical {
            Physical::Int32 => Values::Int32(Leaf::new(Library::new(column, &place, pages)?, nullable)),
            Physical::Int64 => Values::Int64(Leaf::new(Words::new(pages, nullable), nullable)),
            Physical::Int96 => Values::Int96(Leaf::new(Library::new(column, &place, pages)?, nullable)),
            Physical::Float => Values::Float(Leaf::new(Library::new(column, &place, pages)?, nullable)),
            Physical::Double => Values::Double(Leaf::new(Words::new(pages, nullable), nullable)),
            Physical::ByteArray => Values::ByteArray(Leaf::new(Library::new(column, &place, pages)?, nullable)),
            Physical::FixedLengthByteArray => {
                Values::FixedLengthByteArray(Leaf::new(Library::new(column, &place, pages)?, nullable))
            }
            Physical::Boolean => {
                let found = "Boolean".to_owned();
                return Err(Problem::ColumnType { column: place.column, found, expected: "a number" });
            }
        };
        Ok(Self { values, meaning: column.meaning, place })
    }

    /// Passes over so many rows.
    pub(super) fn skip(&mut self, row_count: usize) -> Result<(), Problem> {
        if row_count == 0 {
            return Ok(());
        }
        let skipped = each!(&mut self.values, leaf => leaf.decoder.skip(row_count));
        self.complete(skipped, row_count)
    }

    /// Reads so many rows; they replace the batch read before.
    pub(super) fn read(&mut self, row_count: usize) -> Result<(), Problem> {
        let read = each!(&mut self.values, leaf => leaf.read(row_count));
        self.complete(read, row_count)
    }

    fn complete(&self, done: Result<usize, Problem>, row_count: usize) -> Result<(), Problem> {
        let done = done?;
        if done == row_count {
            return Ok(());
        }
        let reason = format!("its pages end {} rows early", row_count - done);
        Err(Problem::Chunk { place: self.place.clone(), reason })
    }

    /// Calls back with the text of each row of the batch.
    pub(super) fn texts(&self, mut visit: impl FnMut(usize, Option<&ByteArray>)) {
        if let Values::ByteArray(leaf) = &self.values {
            let visited: Result<(), std::convert::Infallible> = leaf.each(|row, text| {
                visit(row, text);
                Ok(())
            });
            debug_assert!(visited.is_ok());
        }
    }

    /// Puts the times of the batch into `times`. Rows that are not wanted may lack a time; theirs means nothing.
    /// `first_row` is where the batch begins in the file.
    pub(super) fn times(
        &self,
        first_row: u64,
        is_wanted: impl Fn(usize) -> bool,
        times: &mut Vec<TimeNs>,
    ) -> Result<(), Problem> {
        times.clear();
        if let (Values::Int64(leaf), Meaning::Ticks { unit_ns: 1 }) = (&self.values, self.meaning)
            && let Some(nanoseconds) = leaf.all()
        {
            times.extend_from_slice(nanoseconds);
            return Ok(());
        }
        let mut keep = |row: usize, time: Result<TimeNs, NoTime>| {
            match time {
                Ok(time) => times.push(time),
                Err(_) if !is_wanted(row) => times.push(0),
                Err(NoTime::Null) => return Err(Problem::NullTime { row: first_row + row as u64 }),
                Err(NoTime::OutOfRange) => return Err(Problem::TimeRange { row: first_row + row as u64 }),
            }
            Ok(())
        };
        match (&self.values, self.meaning) {
            (Values::Int64(leaf), Meaning::Ticks { unit_ns }) => {
                leaf.each(|row, ticks| keep(row, ticks_to_ns(ticks.copied(), unit_ns)))
            }
            (Values::Int32(leaf), Meaning::Ticks { unit_ns }) => {
                leaf.each(|row, ticks| keep(row, ticks_to_ns(ticks.copied().map(i64::from), unit_ns)))
            }
            (Values::Int96(leaf), _) => leaf.each(|row, day| keep(row, julian_to_ns(day))),
            _ => Err(self.type_error("a time")),
        }
    }

    /// Puts the numbers of the batch into `numbers`; null and NaN are [`NULL`].
    pub(super) fn numbers(&self, numbers: &mut Vec<f64>) -> Result<(), Problem> {
        numbers.clear();
        match (&self.values, self.meaning) {
            (Values::Double(leaf), _) => collect(leaf, numbers, |&value| value),
            (Values::Float(leaf), _) => collect(leaf, numbers, |&value| f64::from(value)),
            (Values::Int32(leaf), Meaning::Unsigned) => {
                collect(leaf, numbers, |value| f64::from(value.cast_unsigned()));
            }
            (Values::Int64(leaf), Meaning::Unsigned) => {
                collect(leaf, numbers, |value| value.cast_unsigned() as f64);
            }
            (Values::Int32(leaf), Meaning::Decimal { scale }) => {
                collect(leaf, numbers, |&value| decimal(i128::from(value), scale));
            }
            (Values::Int64(leaf), Meaning::Decimal { scale }) => {
                collect(leaf, numbers, |&value| decimal(i128::from(value), scale));
            }
            (Values::Int32(leaf), _) => collect(leaf, numbers, |&value| f64::from(value)),
            (Values::Int64(leaf), _) => collect(leaf, numbers, |&value| value as f64),
            (Values::FixedLengthByteArray(leaf), Meaning::Half) => collect(leaf, numbers, |value| half(value.data())),
            (Values::FixedLengthByteArray(leaf), Meaning::Decimal { scale }) => {
                self.collect_decimals(leaf, numbers, scale, |value| value.data())?;
            }
            (Values::ByteArray(leaf), Meaning::Decimal { scale }) => {
                self.collect_decimals(leaf, numbers, scale, ByteArray::data)?;
            }
            _ => return Err(self.type_error("a number")),
        }
        Ok(())
    }

    fn collect_decimals<D: Decoder>(
        &self,
        leaf: &Leaf<D>,
        numbers: &mut Vec<f64>,
        scale: i32,
        bytes_of: fn(&D::Value) -> &[u8],
    ) -> Result<(), Problem> {
        leaf.each(|_, value| {
            let number = value.map_or(Some(NULL), |value| decimal_of_bytes(bytes_of(value), scale));
            let reason = || "holds a decimal of more than 32 bytes".to_owned();
            numbers.push(number.ok_or_else(|| Problem::Page { place: self.place.clone(), reason: reason() })?);
            Ok(())
        })
    }

    fn type_error(&self, expected: &'static str) -> Problem {
        Problem::ColumnType { column: self.place.column.clone(), found: format!("{:?}", self.meaning), expected }
    }
}

/// What a descriptor is made of.
type Shape = (&'static str, Physical, i32, bool);

/// Kinds of columns that are remembered: files of a dataset are alike.
const MOST_DESCRIPTORS: usize = 8;

thread_local! {
    /// Of a small file it takes as long to describe its columns as to decode one of them.
    static DESCRIPTORS: RefCell<Vec<(Shape, Arc<ColumnDescriptor>)>> = const { RefCell::new(Vec::new()) };
}

/// The descriptor that the decoder wants: a column by itself, without what its values mean.
fn descriptor(column: &Column) -> parquet::errors::Result<Arc<ColumnDescriptor>> {
    let shape = (column.name, column.physical, column.length, column.nullable);
    DESCRIPTORS.with_borrow_mut(|known| {
        if let Some((_, descriptor)) = known.iter().find(|(of, _)| *of == shape) {
            return Ok(Arc::clone(descriptor));
        }
        let descriptor = Arc::new(new_descriptor(shape)?);
        known.truncate(MOST_DESCRIPTORS - 1);
        known.insert(0, (shape, Arc::clone(&descriptor)));
        Ok(descriptor)
    })
}

fn new_descriptor((name, physical, length, nullable): Shape) -> parquet::errors::Result<ColumnDescriptor> {
    let physical = match physical {
        Physical::Boolean => ParquetPhysical::BOOLEAN,
        Physical::Int32 => ParquetPhysical::INT32,
        Physical::Int64 => ParquetPhysical::INT64,
        Physical::Int96 => ParquetPhysical::INT96,
        Physical::Float => ParquetPhysical::FLOAT,
        Physical::Double => ParquetPhysical::DOUBLE,
        Physical::ByteArray => ParquetPhysical::BYTE_ARRAY,
        Physical::FixedLengthByteArray => ParquetPhysical::FIXED_LEN_BYTE_ARRAY,
    };
    let (repetition, max_level) = if nullable { (Repetition::OPTIONAL, 1) } else { (Repetition::REQUIRED, 0) };
    let leaf = Type::primitive_type_builder(name, physical).with_repetition(repetition).with_length(length).build()?;
    Ok(ColumnDescriptor::new(Arc::new(leaf), max_level, 0, ColumnPath::from(name)))
}

fn collect<D: Decoder>(leaf: &Leaf<D>, numbers: &mut Vec<f64>, number_of: impl Fn(&D::Value) -> f64) {
    if let Some(values) = leaf.all() {
        numbers.extend(values.iter().map(number_of));
        return;
    }
    let collected: Result<(), std::convert::Infallible> = leaf.each(|_, value| {
        numbers.push(value.map_or(NULL, &number_of));
        Ok(())
    });
    debug_assert!(collected.is_ok());
}

fn ticks_to_ns(ticks: Option<i64>, unit_ns: i64) -> Result<TimeNs, NoTime> {
    ticks.ok_or(NoTime::Null)?.checked_mul(unit_ns).ok_or(NoTime::OutOfRange)
}

/// The Julian day of 1970-01-01.
const EPOCH_JULIAN_DAY: i64 = 2_440_588;

const DAY_NS: i128 = 86_400_000_000_000;

/// Four bytes of Julian day behind eight bytes of nanoseconds within it.
fn julian_to_ns(time: Option<&Int96>) -> Result<TimeNs, NoTime> {
    let &[low, high, day] = time.ok_or(NoTime::Null)?.data() else {
        return Err(NoTime::Null);
    };
    let in_day = ((u64::from(high) << 32) | u64::from(low)).cast_signed();
    let days = i64::from(day.cast_signed()) - EPOCH_JULIAN_DAY;
    i64::try_from(i128::from(days) * DAY_NS + i128::from(in_day)).map_err(|_| NoTime::OutOfRange)
}

fn half(bytes: &[u8]) -> f64 {
    match bytes {
        &[low, high] => f64::from(<Float16Type as ArrowPrimitiveType>::Native::from_le_bytes([low, high])),
        _ => NULL,
    }
}

/// The largest whole number that every smaller one is exact with in an f64, and the powers of ten that are exact.
const EXACT_INTEGER: u128 = 1 << 53;
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The f64 nearest to `unscaled / 10^scale`.
fn decimal(unscaled: i128, scale: i32) -> f64 {
    let power = usize::try_from(scale).ok().and_then(|scale| EXACT_POWERS.get(scale));
    if let (Some(power), true) = (power, unscaled.unsigned_abs() <= EXACT_INTEGER) {
        // Both are exact, so the division rounds once.
        return unscaled as f64 / power;
    }
    parsed_decimal(&unscaled.to_string(), scale)
}

/// Parsing rounds once as well, however many digits there are.
fn parsed_decimal(unscaled: &str, scale: i32) -> f64 {
    format!("{unscaled}e{}", -i64::from(scale)).parse().unwrap_or(NULL)
}

/// The same of a big-endian two's complement number. Nothing, if it is wider than any decimal of Arrow.
fn decimal_of_bytes(bytes: &[u8], scale: i32) -> Option<f64> {
    let sign = if bytes.first().is_some_and(|&first| first >= 0x80) { 0xff } else { 0 };
    if bytes.len() <= 16 {
        let mut wide = [sign; 16];
        wide[16 - bytes.len()..].copy_from_slice(bytes);
        return Some(decimal(i128::from_be_bytes(wide), scale));
    }
    let mut wide = [sign; 32];
    wide.get_mut(32usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(parsed_decimal(&i256::from_be_bytes(wide).to_string(), scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_rounded_once() {
        assert_eq!(decimal(12_345, 2), 123.45);
        assert_eq!(decimal(-1, 1), -0.1);
        assert_eq!(decimal(5, -2), 500.0);
        assert_eq!(decimal(123_456_789_012_345_678_901_234_567_890, 10), 12_345_678_901_234_567_890.123_456_789);
        assert_eq!(decimal_of_bytes(&[0xff], 0), Some(-1.0));
        assert_eq!(decimal_of_bytes(&[0xff; 20], 3), Some(-0.001));
        assert_eq!(decimal_of_bytes(&[0; 33], 0), None);
        assert_eq!(decimal_of_bytes(&[], 0), Some(0.0));
    }

    #[test]
    fn julian_days_that_do_not_fit_are_refused() {
        let at = |day: u32, nanoseconds: u64| {
            let mut time = Int96::new();
            let low = u32::try_from(nanoseconds & 0xffff_ffff).unwrap();
            time.set_data(low, u32::try_from(nanoseconds >> 32).unwrap(), day);
            julian_to_ns(Some(&time)).ok()
        };
        assert_eq!(at(2_440_588, 1), Some(1));
        assert_eq!(at(2_440_589, 0), Some(86_400_000_000_000));
        assert_eq!(at(2_440_588 + 200_000, 0), None);
        assert_eq!(at(u32::MAX, 0), None);
        assert_eq!(at(0, 0), None);
    }
}
