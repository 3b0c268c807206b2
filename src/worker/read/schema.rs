//! The schema of a file: Thrift's schema elements come in; the three columns that are read, where they are and what
//! their bits mean, go out. Every other column is passed over.
//!
//! Types are taken from the Parquet schema alone, so an absent or odd `ARROW:schema` changes nothing; the one
//! exception are times in whole seconds, which only that metadata can tell (see [`super::footer`]).

use super::error::Problem;
use super::thrift::{Field, Kind, Malformed, Reader};

/// The columns of a file that are read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Columns {
    /// `obs_time`.
    pub(super) time: Column,
    /// `value`.
    pub(super) value: Column,
    /// `internal_series_code`, or else `series_code`.
    pub(super) series: Option<Column>,
}

/// A column that is read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: &'static str,
    /// Its index among the leaves of the schema.
    pub(super) leaf: usize,
    /// How its values are stored.
    pub(super) physical: Physical,
    /// How long each value of a column of fixed length is.
    pub(super) length: i32,
    /// Whether it may hold nulls.
    pub(super) nullable: bool,
    /// What its values mean.
    pub(super) meaning: Meaning,
}

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Physical {
    Boolean,
    Int32,
    Int64,
    Int96,
    Float,
    Double,
    ByteArray,
    FixedLengthByteArray,
}

impl Physical {
    /// The type of that number in Parquet's definition.
    pub(super) fn of(code: i32) -> Option<Self> {
        Some(match code {
            0 => Self::Boolean,
            1 => Self::Int32,
            2 => Self::Int64,
            3 => Self::Int96,
            4 => Self::Float,
            5 => Self::Double,
            6 => Self::ByteArray,
            7 => Self::FixedLengthByteArray,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Boolean => "Boolean",
            Self::Int32 => "Int32",
            Self::Int64 => "Int64",
            Self::Int96 => "Int96",
            Self::Float => "Float32",
            Self::Double => "Float64",
            Self::ByteArray => "Binary",
            Self::FixedLengthByteArray => "FixedSizeBinary",
        }
    }
}

/// What the values of a column mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Meaning {
    /// A count of units since the epoch.
    Ticks {
        /// Nanoseconds in a unit.
        unit_ns: i64,
    },
    /// Whole numbers that may be seconds: only the Arrow schema can tell.
    UnlabelledTicks,
    /// A Julian day and the nanoseconds in it.
    JulianDay,
    /// A number as it is stored.
    Number,
    /// A whole number without a sign.
    Unsigned,
    /// A floating point number of 16 bits.
    Half,
    /// A whole number, the point so many digits from its right.
    Decimal {
        /// The number of digits.
        scale: i32,
    },
    /// A text.
    Text,
}

/// What the schema says a stored value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Logical {
    #[default]
    None,
    Text,
    Decimal,
    Date,
    Timestamp(TimeUnit),
    Int {
        signed: bool,
    },
    Half,
    /// The type of a column in which every value is null.
    Unknown,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeUnit {
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

const DAY_NS: i64 = 86_400_000_000_000;

/// One element of the schema, borrowed from the footer.
#[derive(Debug, Clone, Default)]
struct Element<'a> {
    name: &'a [u8],
    physical: Option<Physical>,
    length: i32,
    repetition: i32,
    child_count: usize,
    logical: Logical,
    converted: Logical,
    scale: i32,
}

impl Element<'_> {
    fn logical(&self) -> Logical {
        if self.logical == Logical::None { self.converted } else { self.logical }
    }

    fn type_name(&self) -> String {
        let Some(physical) = self.physical else {
            return "Struct".to_owned();
        };
        match self.logical() {
            Logical::None | Logical::Unknown | Logical::Other => physical.name().to_owned(),
            Logical::Text => "Utf8".to_owned(),
            Logical::Decimal => "Decimal".to_owned(),
            Logical::Date => "Date32".to_owned(),
            Logical::Timestamp(_) => "Timestamp".to_owned(),
            Logical::Int { signed: true } => physical.name().to_owned(),
            Logical::Int { signed: false } => format!("U{}", physical.name()),
            Logical::Half => "Float16".to_owned(),
        }
    }
}

/// Reads the list of schema elements that the field holds.
pub(super) fn read_columns(reader: &mut Reader<'_>, field: Field) -> Result<Columns, Problem> {
    let malformed = |source| Problem::Footer { source };
    let content = |reason: &str| Problem::FooterContent { reason: reason.to_owned() };
    let element_count = reader.list(field, Kind::Struct).map_err(malformed)?;
    let mut found = Found::default();
    // How many children are still to come, for each group that is open; the root first.
    let mut open_groups: Vec<usize> = Vec::new();
    let mut leaf = 0;
    for index in 0..element_count {
        let element = read_element(reader).map_err(malformed)?;
        if index == 0 {
            open_groups.push(element.child_count);
            continue;
        }
        while open_groups.last() == Some(&0) {
            open_groups.pop();
        }
        let depth = open_groups.len();
        let Some(children_left) = open_groups.last_mut() else {
            return Err(content("the schema has more columns than its root"));
        };
        *children_left -= 1;
        let is_leaf = element.child_count == 0;
        if depth == 1 {
            found.look_at(&element, leaf)?;
        }
        if is_leaf {
            leaf += 1;
        } else {
            open_groups.push(element.child_count);
        }
    }
    if open_groups.iter().any(|&children_left| children_left > 0) {
        return Err(content("the schema has fewer columns than its root"));
    }
    found.finish()
}

/// The columns found so far.
#[derive(Debug, Default)]
struct Found {
    time: Option<Column>,
    value: Option<Column>,
    internal_series_code: Option<Column>,
    series_code: Option<Column>,
}

impl Found {
    fn look_at(&mut self, element: &Element<'_>, leaf: usize) -> Result<(), Problem> {
        type MeaningOf = fn(&Element<'_>) -> Option<Meaning>;
        let (slot, name, meaning, expected): (_, _, MeaningOf, _) = match element.name {
            b"obs_time" => (&mut self.time, "obs_time", time_meaning, "a time"),
            b"value" => (&mut self.value, "value", number_meaning, "a number"),
            b"internal_series_code" => (&mut self.internal_series_code, "internal_series_code", text_meaning, "a text"),
            b"series_code" => (&mut self.series_code, "series_code", text_meaning, "a text"),
            _ => return Ok(()),
        };
        if slot.is_some() {
            return Err(Problem::FooterContent { reason: format!("column {name} appears twice") });
        }
        let type_error = |found| Problem::ColumnType { column: name.to_owned(), found, expected };
        if element.repetition == REPEATED {
            return Err(type_error(format!("List({})", element.type_name())));
        }
        let physical = element.physical.filter(|_| element.child_count == 0);
        let (Some(physical), Some(meaning)) = (physical, meaning(element)) else {
            return Err(type_error(element.type_name()));
        };
        let nullable = element.repetition == OPTIONAL;
        *slot = Some(Column { name, leaf, physical, length: element.length, nullable, meaning });
        Ok(())
    }

    fn finish(self) -> Result<Columns, Problem> {
        Ok(Columns {
            time: self.time.ok_or(Problem::NoColumn { column: "obs_time" })?,
            value: self.value.ok_or(Problem::NoColumn { column: "value" })?,
            series: self.internal_series_code.or(self.series_code),
        })
    }
}

const OPTIONAL: i32 = 1;
const REPEATED: i32 = 2;

fn time_meaning(element: &Element<'_>) -> Option<Meaning> {
    let unit_ns = match (element.physical?, element.logical()) {
        (Physical::Int96, _) => return Some(Meaning::JulianDay),
        (Physical::Int64, Logical::None) => return Some(Meaning::UnlabelledTicks),
        (Physical::Int32, Logical::Date) => DAY_NS,
        (Physical::Int64, Logical::Timestamp(TimeUnit::Milliseconds)) => 1_000_000,
        (Physical::Int64, Logical::Timestamp(TimeUnit::Microseconds)) => 1_000,
        (Physical::Int64, Logical::Timestamp(TimeUnit::Nanoseconds)) => 1,
        _ => return None,
    };
    Some(Meaning::Ticks { unit_ns })
}

fn number_meaning(element: &Element<'_>) -> Option<Meaning> {
    use Physical::{ByteArray, Double, FixedLengthByteArray, Float, Int32, Int64};
    let stores_decimal = matches!(element.physical?, Int32 | Int64 | ByteArray | FixedLengthByteArray);
    let decimal_is_sane = element.scale.unsigned_abs() <= MAX_DECIMAL_DIGITS
        && (element.physical? != FixedLengthByteArray || (1..=MAX_DECIMAL_BYTES).contains(&element.length));
    match (element.physical?, element.logical()) {
        (Int32 | Int64, Logical::None | Logical::Int { signed: true } | Logical::Unknown) | (Float | Double, _) => {
            Some(Meaning::Number)
        }
        (Int32 | Int64, Logical::Int { signed: false }) => Some(Meaning::Unsigned),
        (FixedLengthByteArray, Logical::Half) if element.length == 2 => Some(Meaning::Half),
        (_, Logical::Decimal) if stores_decimal && decimal_is_sane => Some(Meaning::Decimal { scale: element.scale }),
        _ => None,
    }
}

/// The digits of the widest decimal that Arrow has, 256 bits.
const MAX_DECIMAL_DIGITS: u32 = 76;
const MAX_DECIMAL_BYTES: i32 = 32;

fn text_meaning(element: &Element<'_>) -> Option<Meaning> {
    let is_text =
        element.physical == Some(Physical::ByteArray) && matches!(element.logical(), Logical::None | Logical::Text);
    is_text.then_some(Meaning::Text)
}

fn read_element<'a>(reader: &mut Reader<'a>) -> Result<Element<'a>, Malformed> {
    let mut element = Element::default();
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id)? {
        match field.id {
            1 => element.physical = Some(Physical::of(reader.int32(field)?).ok_or(Malformed::Type)?),
            2 => element.length = reader.int32(field)?,
            3 => element.repetition = reader.int32(field)?,
            4 => element.name = reader.binary(field)?,
            5 => element.child_count = usize::try_from(reader.int32(field)?).map_err(|_| Malformed::Number)?,
            6 => element.converted = converted(reader.int32(field)?),
            7 => element.scale = reader.int32(field)?,
            10 => element.logical = read_logical(reader, field, &mut element.scale)?,
            _ => reader.skip(field)?,
        }
    }
    Ok(element)
}

/// The older way to say what a value is.
fn converted(code: i32) -> Logical {
    match code {
        0 | 4 | 19 => Logical::Text,
        5 => Logical::Decimal,
        6 => Logical::Date,
        9 => Logical::Timestamp(TimeUnit::Milliseconds),
        10 => Logical::Timestamp(TimeUnit::Microseconds),
        11..=14 => Logical::Int { signed: false },
        15..=18 => Logical::Int { signed: true },
        _ => Logical::Other,
    }
}

fn read_logical(reader: &mut Reader<'_>, field: Field, scale: &mut i32) -> Result<Logical, Malformed> {
    Reader::enter(field)?;
    let mut logical = Logical::None;
    let mut last_id = 0;
    while let Some(choice) = reader.field(&mut last_id)? {
        logical = match choice.id {
            1 | 4 | 12 => skipped(reader, choice, Logical::Text)?,
            5 => read_decimal(reader, choice, scale)?,
            6 => skipped(reader, choice, Logical::Date)?,
            8 => read_timestamp(reader, choice)?,
            10 => read_integer(reader, choice)?,
            11 => skipped(reader, choice, Logical::Unknown)?,
            15 => skipped(reader, choice, Logical::Half)?,
            _ => skipped(reader, choice, Logical::Other)?,
        };
    }
    Ok(logical)
}

fn skipped(reader: &mut Reader<'_>, field: Field, logical: Logical) -> Result<Logical, Malformed> {
    reader.skip(field)?;
    Ok(logical)
}

fn read_decimal(reader: &mut Reader<'_>, field: Field, scale: &mut i32) -> Result<Logical, Malformed> {
    Reader::enter(field)?;
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id)? {
        match field.id {
            1 => *scale = reader.int32(field)?,
            _ => reader.skip(field)?,
        }
    }
    Ok(Logical::Decimal)
}

fn read_timestamp(reader: &mut Reader<'_>, field: Field) -> Result<Logical, Malformed> {
    Reader::enter(field)?;
    let mut logical = Logical::Other;
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id)? {
        // Field 1 tells times with a zone from naive ones: naive times are UTC, so both read alike.
        if field.id != 2 {
            reader.skip(field)?;
            continue;
        }
        Reader::enter(field)?;
        let mut last_unit_id = 0;
        while let Some(unit) = reader.field(&mut last_unit_id)? {
            logical = match unit.id {
                1 => Logical::Timestamp(TimeUnit::Milliseconds),
                2 => Logical::Timestamp(TimeUnit::Microseconds),
                3 => Logical::Timestamp(TimeUnit::Nanoseconds),
                _ => Logical::Other,
            };
            reader.skip(unit)?;
        }
    }
    Ok(logical)
}

fn read_integer(reader: &mut Reader<'_>, field: Field) -> Result<Logical, Malformed> {
    Reader::enter(field)?;
    let mut signed = true;
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id)? {
        match field.id {
            2 => signed = Reader::boolean(field)?,
            _ => reader.skip(field)?,
        }
    }
    Ok(Logical::Int { signed })
}
