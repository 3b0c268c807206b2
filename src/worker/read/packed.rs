//! Whole numbers as Parquet packs them: the values of a page come in with each call, numbers go out, as many as were
//! asked for. What the bytes claim takes no memory and no time before it is asked for.
//!
//! Formats: <https://parquet.apache.org/docs/file-format/data-pages/encodings/>.

use std::ops::Range;

/// Numbers unpacked at a time: they stay in the processor's nearest memory.
const AT_A_TIME: usize = 256;

/// Why numbers cannot be read on.
pub(super) type Malformed = &'static str;

const ENDS_EARLY: Malformed = "ends before its values do";

/// Runs of equal numbers and runs of packed ones by turns, of at most 32 bits each (`RLE`).
#[derive(Debug)]
pub(super) struct Hybrid {
    /// Where the next run begins.
    position: usize,
    /// Where the last one ends.
    end: usize,
    width: u32,
    run: Run,
}

#[derive(Debug)]
enum Run {
    Repeated { number: u32, left: usize },
    Packed { start: usize, taken: usize, left: usize },
}

/// Numbers that come one after the other.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
    Repeated(u32, usize),
    Different(&'a [u32]),
}

impl Hybrid {
    /// Runs that are there.
    pub(super) fn new(place: Range<usize>, width: u32) -> Result<Self, Malformed> {
        if width > 32 {
            return Err("packs numbers of more than 32 bits");
        }
        Ok(Self { position: place.start, end: place.end, width, run: Run::Repeated { number: 0, left: 0 } })
    }

    /// Gives the next `count` numbers to `take`, piece by piece.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        mut count: usize,
        mut take: impl FnMut(Piece<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let bytes = bytes.get(..self.end).ok_or(ENDS_EARLY)?;
        let mut room = [0; AT_A_TIME];
        while count > 0 {
            match &mut self.run {
                Run::Repeated { left: 0, .. } | Run::Packed { left: 0, .. } => self.begin_run(bytes)?,
                Run::Repeated { number, left } => {
                    let now = count.min(*left);
                    *left -= now;
                    count -= now;
                    take(Piece::Repeated(*number, now))?;
                }
                Run::Packed { start, taken, left } => {
                    let now = count.min(*left).min(AT_A_TIME);
                    let packed = bytes.get(*start..).ok_or(ENDS_EARLY)?;
                    unpack(packed, self.width, *taken, &mut room[..now], short)?;
                    *taken += now;
                    *left -= now;
                    count -= now;
                    take(Piece::Different(&room[..now]))?;
                }
            }
        }
        Ok(())
    }

    fn begin_run(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let header = varint(bytes, &mut self.position).ok_or(ENDS_EARLY)?;
        let count = usize::try_from(header >> 1).map_err(|_| ENDS_EARLY)?;
        let start = self.position;
        let size_bytes =
            if header & 1 == 1 { count.checked_mul(self.width as usize) } else { Some(self.number_bytes()) };
        self.position = size_bytes.and_then(|size| start.checked_add(size)).ok_or(ENDS_EARLY)?;
        self.run = if header & 1 == 1 {
            Run::Packed { start, taken: 0, left: count.saturating_mul(8) }
        } else {
            let stored = bytes.get(start..self.position).ok_or(ENDS_EARLY)?;
            let number = stored.iter().rev().fold(0, |number, &byte| (number << 8) | u32::from(byte));
            Run::Repeated { number, left: count }
        };
        Ok(())
    }

    /// How many bytes a number takes that is repeated.
    fn number_bytes(&self) -> usize {
        self.width.div_ceil(8) as usize
    }
}

/// Numbers of 64 bits as differences to the one before (`DELTA_BINARY_PACKED`).
#[derive(Debug)]
pub(super) struct Deltas {
    /// Where what follows the part begins: the next part, or the next block.
    position: usize,
    part_size: usize,
    parts_per_block: usize,
    /// Numbers that were not given out, the first included.
    left: usize,
    is_begun: bool,
    last: i64,
    smallest_delta: i64,
    /// Where the widths of the parts of this block are that have not begun.
    widths: Range<usize>,
    part: Part,
}

/// The part that is being read.
#[derive(Debug, Default)]
struct Part {
    start: usize,
    width: u32,
    taken: usize,
    left: usize,
}

impl Deltas {
    /// Numbers whose header begins there.
    pub(super) fn new(bytes: &[u8], mut position: usize) -> Result<Self, Malformed> {
        let mut header = || varint(bytes, &mut position).ok_or("has no complete header of its differences");
        let [block_size, parts_per_block, count, first] = [header()?, header()?, header()?, header()?];
        let part_size = block_size.checked_div(parts_per_block).unwrap_or(0);
        let sizes_fit = part_size > 0 && part_size % 8 == 0 && part_size * parts_per_block == block_size;
        if !sizes_fit || block_size > u64::from(u32::MAX) {
            return Err("divides its differences into blocks of an impossible size");
        }
        let size = |number: u64| usize::try_from(number).map_err(|_| "claims too many values");
        Ok(Self {
            position,
            part_size: size(part_size)?,
            parts_per_block: size(parts_per_block)?,
            left: size(count)?,
            is_begun: false,
            last: zigzag(first),
            smallest_delta: 0,
            widths: 0..0,
            part: Part::default(),
        })
    }

    /// Gives the next `count` numbers to `take`.
    pub(super) fn read(&mut self, bytes: &[u8], mut count: usize, mut take: impl FnMut(i64)) -> Result<(), Malformed> {
        self.left = self.left.checked_sub(count).ok_or(ENDS_EARLY)?;
        if count > 0 && !self.is_begun {
            self.is_begun = true;
            take(self.last);
            count -= 1;
        }
        let mut room = [0; AT_A_TIME];
        while count > 0 {
            if self.part.left == 0 {
                self.begin_part(bytes)?;
            }
            let part = &mut self.part;
            let now = count.min(part.left).min(AT_A_TIME);
            let packed = bytes.get(part.start..).ok_or(ENDS_EARLY)?;
            unpack(packed, part.width, part.taken, &mut room[..now], |number| number.cast_signed())?;
            part.taken += now;
            part.left -= now;
            count -= now;
            for delta in &room[..now] {
                self.last = self.last.wrapping_add(self.smallest_delta).wrapping_add(*delta);
                take(self.last);
            }
        }
        Ok(())
    }

    fn begin_part(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.widths.is_empty() {
            self.smallest_delta = zigzag(varint(bytes, &mut self.position).ok_or(ENDS_EARLY)?);
            let end = self.position.checked_add(self.parts_per_block).ok_or(ENDS_EARLY)?;
            self.widths = self.position..end;
            self.position = end;
        }
        let width = self.widths.next().and_then(|place| bytes.get(place)).copied().ok_or(ENDS_EARLY)?;
        if width > 64 {
            return Err("packs differences of more than 64 bits");
        }
        let width = u32::from(width);
        self.part = Part { start: self.position, width, taken: 0, left: self.part_size };
        let size_bytes = self.part_size / 8 * width as usize;
        self.position = self.position.checked_add(size_bytes).ok_or(ENDS_EARLY)?;
        Ok(())
    }
}

/// Unpacks numbers of so many bits, at most 64, packed from the lowest bit on, from the one at `first` on.
fn unpack<N>(
    bytes: &[u8],
    width: u32,
    first: usize,
    numbers: &mut [N],
    number_of: impl Fn(u64) -> N,
) -> Result<(), Malformed> {
    let width_bits = width as usize;
    let end_bit = first.checked_add(numbers.len()).and_then(|end| end.checked_mul(width_bits)).ok_or(ENDS_EARLY)?;
    if end_bit.div_ceil(8) > bytes.len() {
        return Err(ENDS_EARLY);
    }
    let mask = u64::MAX.checked_shr(64 - width).unwrap_or(0);
    let mut bit = first * width_bits;
    for number in numbers {
        let (at, shift) = (bit / 8, bit % 8);
        // Eight bytes hold a number of 57 bits wherever it begins.
        let packed = match bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
            Some(eight) if width <= 57 => u64::from_le_bytes(*eight) >> shift,
            _ => spread(&bytes[at..], shift),
        };
        *number = number_of(packed & mask);
        bit += width_bits;
    }
    Ok(())
}

/// The 64 bits from there on; those behind the end are 0.
#[cold]
#[expect(clippy::cast_possible_truncation, reason = "the rest belongs to the numbers behind")]
fn spread(bytes: &[u8], shift: usize) -> u64 {
    let mut wide = [0; 16];
    let length = bytes.len().min(9);
    wide[..length].copy_from_slice(&bytes[..length]);
    (u128::from_le_bytes(wide) >> shift) as u64
}

#[expect(clippy::cast_possible_truncation, reason = "it has 32 bits at most")]
fn short(number: u64) -> u32 {
    number as u32
}

/// A number of seven bits a byte, the lowest first. Nothing where it does not end, or has more than 64 bits.
pub(super) fn varint(bytes: &[u8], position: &mut usize) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*position)?;
        *position += 1;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Signs in the lowest bit.
pub(super) fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hybrid(bytes: &[u8], width: u32, counts: &[usize]) -> Result<Vec<u32>, Malformed> {
        let mut runs = Hybrid::new(0..bytes.len(), width)?;
        let mut numbers = Vec::new();
        for &count in counts {
            runs.read(bytes, count, |piece| {
                match piece {
                    Piece::Repeated(number, count) => numbers.extend(std::iter::repeat_n(number, count)),
                    Piece::Different(different) => numbers.extend_from_slice(different),
                }
                Ok(())
            })?;
        }
        Ok(numbers)
    }

    #[test]
    fn runs_of_both_kinds_are_read_in_pieces_of_any_size() {
        // The example of the format's definition: 0 to 7 in three bits each; before it, five times 4.
        let bytes = [5 << 1, 4, (1 << 1) | 1, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        let all = [4, 4, 4, 4, 4, 0, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(hybrid(&bytes, 3, &[13]).unwrap(), all);
        assert_eq!(hybrid(&bytes, 3, &[1; 13]).unwrap(), all);
        assert_eq!(hybrid(&bytes, 3, &[4, 2, 0, 7]).unwrap(), all);
        assert_eq!(hybrid(&bytes, 3, &[14]), Err(ENDS_EARLY));
        assert_eq!(hybrid(&bytes[..5], 3, &[13]), Err(ENDS_EARLY));
        assert_eq!(hybrid(&bytes, 33, &[1]).unwrap_err(), "packs numbers of more than 32 bits");
    }

    #[test]
    fn numbers_of_no_bits_take_no_bytes() {
        assert_eq!(hybrid(&[(1 << 1) | 1], 0, &[8]).unwrap(), [0; 8]);
        assert_eq!(hybrid(&[3 << 1], 0, &[3]).unwrap(), [0; 3]);
    }

    #[test]
    fn numbers_of_every_width_are_unpacked() {
        for width in 0..=64u32 {
            let mask = u64::MAX.checked_shr(64 - width).unwrap_or(0);
            let expected: Vec<u64> = (0..40u64).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask).collect();
            let mut packed = vec![0u8; (40 * width as usize).div_ceil(8)];
            for (at, number) in expected.iter().enumerate() {
                for bit in 0..width as usize {
                    let place = at * width as usize + bit;
                    packed[place / 8] |= (((number >> bit) & 1) as u8) << (place % 8);
                }
            }
            for first in [0, 1, 8, 39] {
                let mut numbers = vec![0; 40 - first];
                unpack(&packed, width, first, &mut numbers, |number| number).unwrap();
                assert_eq!(numbers, expected[first..], "{width} bits from {first} on");
            }
            let beyond = unpack(&packed, width, 1, &mut [0; 41], |number| number);
            assert_eq!(beyond.is_err(), width > 0, "{width} bits");
        }
    }

    #[test]
    fn differences_are_added_up() {
        // Blocks of 128 in 4 parts; three numbers, 5, 6 and 8: differences 1 and 2, the smallest 1, so 0 and 1 in one bit.
        let bytes = [9, 0x80, 0x01, 0x04, 0x03, 0x0a, 0x02, 1, 0, 0, 0, 0b10, 0, 0, 0];
        for counts in [&[3][..], &[1, 1, 1], &[0, 2, 1]] {
            let mut deltas = Deltas::new(&bytes, 1).unwrap();
            let mut numbers = Vec::new();
            counts.iter().for_each(|&count| deltas.read(&bytes, count, |number| numbers.push(number)).unwrap());
            assert_eq!(numbers, [5, 6, 8]);
            assert_eq!(deltas.read(&bytes, 1, |_| {}), Err(ENDS_EARLY));
        }
        for end in 1..6 {
            assert!(Deltas::new(&bytes[..end], 1).is_err(), "cut at {end}");
        }
        for end in 6..12 {
            let mut deltas = Deltas::new(&bytes[..end], 1).unwrap();
            assert_eq!(deltas.read(&bytes[..end], 3, |_| {}), Err(ENDS_EARLY), "cut at {end}");
        }
    }

    #[test]
    fn blocks_of_impossible_sizes_are_refused() {
        for sizes in [[0x80, 0x01, 0x00], [0x80, 0x01, 0x03], [0x04, 0x01, 0x00], [0x00, 0x00, 0x04]] {
            let bytes = [&sizes[..], &[1, 0, 0, 0, 0]].concat();
            assert!(Deltas::new(&bytes, 0).is_err(), "{sizes:?}");
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_none() {
        let mut longest = [0xff; 10];
        longest[9] = 1;
        assert_eq!(varint(&longest, &mut 0), Some(u64::MAX));
        longest[9] = 2;
        assert_eq!(varint(&longest, &mut 0), None);
        assert_eq!(varint(&[0xff; 11], &mut 0), None);
    }
}
