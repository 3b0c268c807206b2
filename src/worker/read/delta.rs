//! What the delta encodings of byte arrays will take once decoded: the bytes of a page come in, a size goes out.
//!
//! The decoder takes memory for as many lengths as the page claims, and builds every value by copying the front of
//! the one before. Both can be far more than the page's own bytes, so they are added up before it may begin.

use super::packed::{varint, zigzag};

/// The lengths that a run of delta-packed integers holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lengths {
    /// How many there are.
    count: u64,
    /// Their sum.
    total: u64,
    /// How many bytes the run takes.
    end: usize,
}

/// How many bytes the values take that are encoded as `DELTA_LENGTH_BYTE_ARRAY`. Nothing, if the bytes are not such
/// values or are more than `value_count`.
pub(super) fn length_encoded_bytes(bytes: &[u8], value_count: u64) -> Option<u64> {
    length_encoded(bytes, value_count).map(|lengths| lengths.total)
}

/// The same for `DELTA_BYTE_ARRAY`: the shared fronts, and then the rest of each value.
pub(super) fn front_encoded_bytes(bytes: &[u8], value_count: u64) -> Option<u64> {
    let fronts = read_lengths(bytes, value_count)?;
    let rests_and_data = bytes.get(fronts.end..)?;
    let rests = length_encoded(rests_and_data, value_count)?;
    (fronts.count == rests.count).then_some(fronts.total.saturating_add(rests.total))
}

/// Lengths, and behind them as many bytes as they say.
fn length_encoded(bytes: &[u8], value_count: u64) -> Option<Lengths> {
    let lengths = read_lengths(bytes, value_count)?;
    let data_bytes = u64::try_from(bytes.len() - lengths.end).ok()?;
    (lengths.total <= data_bytes).then_some(lengths)
}

fn read_lengths(bytes: &[u8], max_count: u64) -> Option<Lengths> {
    let mut position = 0;
    let block_size = varint(bytes, &mut position)?;
    let parts_per_block = varint(bytes, &mut position)?;
    let count = varint(bytes, &mut position)?;
    let first = zigzag(varint(bytes, &mut position)?);
    let part_size = block_size.checked_div(parts_per_block)?;
    let sizes_fit = part_size > 0 && part_size % 32 == 0 && part_size * parts_per_block == block_size;
    if count > max_count || !sizes_fit || block_size > u64::from(u32::MAX) {
        return None;
    }
    if count == 0 {
        return Some(Lengths { count, total: 0, end: position });
    }
    let mut last = i32::try_from(first).ok()?;
    let mut total = u64::try_from(last).ok()?;
    let mut left = count - 1;
    while left > 0 {
        let smallest_delta = i32::try_from(zigzag(varint(bytes, &mut position)?)).ok()?;
        let widths_end = position.checked_add(usize::try_from(parts_per_block).ok()?)?;
        let widths = bytes.get(position..widths_end)?;
        position = widths_end;
        for &width in widths {
            if left == 0 {
                break;
            }
            let part_bytes = usize::try_from(u64::from(width) * part_size / 8).ok()?;
            let part = bytes.get(position..position.checked_add(part_bytes)?)?;
            position += part_bytes;
            let mut deltas = Bits { bytes: part, width: u32::from(width), buffered: 0, buffered_bits: 0 };
            for _ in 0..part_size.min(left) {
                last = last.wrapping_add(smallest_delta).wrapping_add(deltas.next()?);
                total = total.checked_add(u64::try_from(last).ok()?)?;
            }
            left -= part_size.min(left);
        }
    }
    Some(Lengths { count, total, end: position })
}

/// Numbers of a fixed width, packed from the lowest bit on.
struct Bits<'a> {
    bytes: &'a [u8],
    width: u32,
    buffered: u64,
    buffered_bits: u32,
}

impl Bits<'_> {
    fn next(&mut self) -> Option<i32> {
        if self.width > 32 {
            return None;
        }
        while self.buffered_bits < self.width {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            self.buffered |= u64::from(byte) << self.buffered_bits;
            self.buffered_bits += 8;
        }
        let number = self.buffered & ((1u64 << self.width) - 1);
        self.buffered >>= self.width;
        self.buffered_bits -= self.width;
        Some(u32::try_from(number).ok()?.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_added_up() {
        // Blocks of 128 in 4 parts; three lengths, 5, 6 and 8: deltas 1 and 2, the smallest 1, so 0 and 1 in one bit.
        let bytes = [0x80, 0x01, 0x04, 0x03, 0x0a, 0x02, 1, 0, 0, 0, 0b10, 0, 0, 0];
        let lengths = read_lengths(&bytes, 3).unwrap();
        assert_eq!(lengths, Lengths { count: 3, total: 19, end: bytes.len() });
        assert_eq!(read_lengths(&bytes, 2), None);
        for end in 0..bytes.len() {
            assert_eq!(read_lengths(&bytes[..end], 3), None, "cut at {end}");
        }
    }

    #[test]
    fn a_claim_of_more_values_than_the_page_has_is_refused() {
        let bytes = [0x80, 0x01, 0x04, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00, 0x00, 0, 0, 0, 0];
        assert_eq!(length_encoded_bytes(&bytes, 1_000), None);
    }
}
