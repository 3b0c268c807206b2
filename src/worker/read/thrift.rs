//! Thrift's compact protocol, read from bytes nobody vouches for: footers, page headers and page indexes come in,
//! plain numbers and slices go out.
//!
//! It exists because everything that is claimed here (sizes, counts, offsets) has to be checked before memory is
//! taken for it. Nothing is allocated; nesting and every length are bounded by the bytes that are there.

/// How deep structures may nest. The deepest that Parquet defines is 7.
const MAX_DEPTH: u32 = 16;

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end within a value.
    #[error("it ends within a value")]
    End,
    /// A number has more bits than it may.
    #[error("a number has too many bits")]
    Number,
    /// A length or count is more than the bytes that follow.
    #[error("a length goes beyond its end")]
    Length,
    /// A type that does not exist, or another one than the field has.
    #[error("a field has an unexpected type")]
    Type,
    /// Structures nest too deep.
    #[error("it nests too deep")]
    Depth,
}

/// The type of a field or a list element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A boolean field that is true; as an element, any boolean.
    True,
    /// A boolean field that is false.
    False,
    /// Eight bits.
    Byte,
    /// A zigzag varint of at most 16, 32 or 64 bits.
    Int,
    /// Eight bytes.
    Double,
    /// A length and so many bytes.
    Binary,
    /// Elements of one kind; a set is written alike.
    List,
    /// Keys and values.
    Map,
    /// Fields.
    Struct,
    /// Sixteen bytes.
    Uuid,
}

impl Kind {
    fn of(code: u8) -> Result<Self, Malformed> {
        Ok(match code {
            1 => Self::True,
            2 => Self::False,
            3 => Self::Byte,
            4..=6 => Self::Int,
            7 => Self::Double,
            8 => Self::Binary,
            9 | 10 => Self::List,
            11 => Self::Map,
            12 => Self::Struct,
            13 => Self::Uuid,
            _ => return Err(Malformed::Type),
        })
    }
}

/// One field of a structure: its number and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// The number that the definition of the structure gives it.
    pub(super) id: i16,
    /// What follows.
    pub(super) kind: Kind,
}

/// A place in the bytes.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// At the beginning.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.position).ok_or(Malformed::End)?;
        self.position += 1;
        Ok(byte)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed::Number);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed::Number)
    }

    #[inline]
    fn zigzag(&mut self) -> Result<i64, Malformed> {
        let number = self.varint()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        if length > self.left() {
            return Err(Malformed::Length);
        }
        let taken = &self.bytes[self.position..self.position + length];
        self.position += length;
        Ok(taken)
    }

    /// The next field of the structure being read, or nothing at its end. `last_id` starts at 0.
    #[inline]
    pub(super) fn field(&mut self, last_id: &mut i16) -> Result<Option<Field>, Malformed> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        let kind = Kind::of(head & 0x0f)?;
        let delta = i16::from(head >> 4);
        let id = if delta == 0 {
            i16::try_from(self.zigzag()?).map_err(|_| Malformed::Number)?
        } else {
            last_id.checked_add(delta).ok_or(Malformed::Number)?
        };
        *last_id = id;
        Ok(Some(Field { id, kind }))
    }

    /// The integer that a field holds.
    #[inline]
    pub(super) fn int(&mut self, field: Field) -> Result<i64, Malformed> {
        match field.kind {
            Kind::Int => self.zigzag(),
            Kind::Byte => Ok(i64::from(self.byte()?.cast_signed())),
            _ => Err(Malformed::Type),
        }
    }

    /// The integer of at most 32 bits that a field holds.
    #[inline]
    pub(super) fn int32(&mut self, field: Field) -> Result<i32, Malformed> {
        i32::try_from(self.int(field)?).map_err(|_| Malformed::Number)
    }

    /// The boolean that a field is.
    pub(super) fn boolean(field: Field) -> Result<bool, Malformed> {
        match field.kind {
            Kind::True => Ok(true),
            Kind::False => Ok(false),
            _ => Err(Malformed::Type),
        }
    }

    /// The bytes that a field holds.
    pub(super) fn binary(&mut self, field: Field) -> Result<&'a [u8], Malformed> {
        if field.kind == Kind::Binary { self.element_binary() } else { Err(Malformed::Type) }
    }

    /// Enters the structure that a field holds.
    pub(super) fn enter(field: Field) -> Result<(), Malformed> {
        if field.kind == Kind::Struct { Ok(()) } else { Err(Malformed::Type) }
    }

    /// Enters the list that a field holds: the number of its elements. Each takes a byte at least, so a count beyond
    /// the bytes left is refused here.
    pub(super) fn list(&mut self, field: Field, elements: Kind) -> Result<usize, Malformed> {
        if field.kind != Kind::List {
            return Err(Malformed::Type);
        }
        let (count, kind) = self.list_head()?;
        let same_kind = match (kind, elements) {
            (Kind::True | Kind::False, Kind::True) => true,
            (found, wanted) => found == wanted,
        };
        if count > 0 && !same_kind {
            return Err(Malformed::Type);
        }
        Ok(count)
    }

    fn list_head(&mut self) -> Result<(usize, Kind), Malformed> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => usize::try_from(self.varint()?).map_err(|_| Malformed::Length)?,
            short => usize::from(short),
        };
        if count > self.left() {
            return Err(Malformed::Length);
        }
        // Some writers leave the kind of an empty list open.
        let kind = if count == 0 { Kind::Byte } else { Kind::of(head & 0x0f)? };
        Ok((count, kind))
    }

    /// A boolean element of a list: 1 is true; 0 and 2 are false, as writers differ.
    pub(super) fn element_boolean(&mut self) -> Result<bool, Malformed> {
        Ok(self.byte()? == 1)
    }

    /// A binary element of a list.
    pub(super) fn element_binary(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Length)?;
        self.take(length)
    }

    /// Passes over what a field holds.
    #[inline]
    pub(super) fn skip(&mut self, field: Field) -> Result<(), Malformed> {
        match field.kind {
            Kind::True | Kind::False => Ok(()),
            other => self.skip_value(other, MAX_DEPTH),
        }
    }

    /// Passes over a structure that was entered.
    pub(super) fn skip_struct(&mut self) -> Result<(), Malformed> {
        self.skip_value(Kind::Struct, MAX_DEPTH)
    }

    fn skip_value(&mut self, kind: Kind, depth_left: u32) -> Result<(), Malformed> {
        let depth_left = depth_left.checked_sub(1).ok_or(Malformed::Depth)?;
        match kind {
            Kind::True | Kind::False | Kind::Byte => self.byte().map(drop),
            Kind::Int => self.varint().map(drop),
            Kind::Double => self.take(8).map(drop),
            Kind::Uuid => self.take(16).map(drop),
            Kind::Binary => self.element_binary().map(drop),
            Kind::List => {
                let (count, elements) = self.list_head()?;
                (0..count).try_for_each(|_| self.skip_value(elements, depth_left))
            }
            Kind::Map => self.skip_map(depth_left),
            Kind::Struct => {
                let mut last_id = 0;
                while let Some(field) = self.field(&mut last_id)? {
                    if !matches!(field.kind, Kind::True | Kind::False) {
                        self.skip_value(field.kind, depth_left)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn skip_map(&mut self, depth_left: u32) -> Result<(), Malformed> {
        let count = usize::try_from(self.varint()?).map_err(|_| Malformed::Length)?;
        if count == 0 {
            return Ok(());
        }
        let kinds = self.byte()?;
        let (keys, values) = (Kind::of(kinds >> 4)?, Kind::of(kinds & 0x0f)?);
        if count > self.left() {
            return Err(Malformed::Length);
        }
        for _ in 0..count {
            self.skip_value(keys, depth_left)?;
            self.skip_value(values, depth_left)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_beyond_the_bytes_is_refused() {
        // Field 1, a list of 2,147,483,647 structures, and nothing more.
        let bytes = [0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07];
        let mut reader = Reader::new(&bytes);
        let field = reader.field(&mut 0).unwrap().unwrap();
        assert_eq!(reader.list(field, Kind::Struct), Err(Malformed::Length));
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let bytes = [0x1c; 1_000];
        assert_eq!(Reader::new(&bytes).skip_struct(), Err(Malformed::Depth));
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        assert_eq!(Reader::new(&[0xff; 12]).varint(), Err(Malformed::Number));
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader::new(&largest).varint(), Ok(u64::MAX));
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        for seed in 0..2_000u32 {
            let bytes: Vec<u8> = (0..64u32)
                .map(|index| seed.wrapping_mul(2_654_435_761).rotate_left(index).to_le_bytes()[(index % 4) as usize])
                .collect();
            let mut reader = Reader::new(&bytes);
            let _ = reader.skip_struct();
            assert!(reader.position() <= bytes.len());
        }
    }
}
