//! `DELTA_BINARY_PACKED`: ascending times come in; their differences go out, in as many bits as they need.
//!
//! A block begins with the least of its differences; each quarter of it holds how much the others are above that. Times
//! at one distance, which is what most series have, so take ten bytes a block.

/// The differences of a block, in so many parts.
const BLOCK: usize = 128;
const PARTS: usize = 4;
const PART: usize = BLOCK / PARTS;

/// Appends the times.
pub(super) fn encode(times: &[i64], page: &mut Vec<u8>) {
    put_varint(BLOCK as u64, page);
    put_varint(PARTS as u64, page);
    put_varint(times.len() as u64, page);
    put_signed(times.first().copied().unwrap_or_default(), page);
    let mut before = times;
    while let [_, after @ ..] = before
        && !after.is_empty()
    {
        let count = after.len().min(BLOCK);
        let mut differences = [0; BLOCK];
        for (difference, (one, next)) in differences.iter_mut().zip(before.iter().zip(&after[..count])) {
            *difference = next.wrapping_sub(*one);
        }
        put_block(&differences[..count], page);
        before = &before[count..];
    }
}

fn put_block(differences: &[i64], page: &mut Vec<u8>) {
    let first = differences.first().copied().unwrap_or_default();
    if differences.iter().fold(0, |others, difference| others | (difference ^ first)) == 0 {
        put_signed(first, page);
        page.extend_from_slice(&[0; PARTS]);
        return;
    }
    let least = differences.iter().copied().min().unwrap_or_default();
    let mut above = [0; BLOCK];
    for (above, difference) in above.iter_mut().zip(differences) {
        *above = difference.wrapping_sub(least).cast_unsigned();
    }
    put_signed(least, page);
    let (parts, _) = above.as_chunks::<PART>();
    let widths = parts.iter().map(|part| 64 - part.iter().fold(0, |all, above| all | above).leading_zeros());
    page.extend(widths.clone().flat_map(u8::try_from));
    // Of a last block that is not full, parts without a difference are left out.
    for (part, width) in parts.iter().zip(widths).take(differences.len().div_ceil(PART)) {
        put_bits(part, width, page);
    }
}

/// Each number in so many bits, the lowest first.
fn put_bits(numbers: &[u64; PART], width: u32, page: &mut Vec<u8>) {
    let (mut bits, mut waiting) = (0_u128, 0);
    for number in numbers {
        bits |= u128::from(*number) << waiting;
        waiting += width;
        if waiting >= u64::BITS {
            page.extend_from_slice(&bits.to_le_bytes()[..8]);
            bits >>= u64::BITS;
            waiting -= u64::BITS;
        }
    }
    page.extend_from_slice(&bits.to_le_bytes()[..waiting.div_ceil(8) as usize]);
}

/// Seven bits a byte, the lowest first; the others say that more come.
pub(super) fn put_varint(mut number: u64, page: &mut Vec<u8>) {
    loop {
        let [low, ..] = (number & 0x7f).to_le_bytes();
        number >>= 7;
        if number == 0 {
            page.push(low);
            return;
        }
        page.push(low | 0x80);
    }
}

/// Small numbers of either sign are small.
fn put_signed(number: i64, page: &mut Vec<u8>) {
    put_varint(((number << 1) ^ (number >> 63)).cast_unsigned(), page);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(times: &[i64]) -> Vec<u8> {
        let mut page = Vec::new();
        encode(times, &mut page);
        page
    }

    #[test]
    fn the_examples_of_the_definition_come_out() {
        // Encodings.md: 1 to 5 are five ones apart; 7, 5, 3, 1, 2, 3, 4, 5 are -2 and then 0 and 3 above it.
        assert_eq!(encoded(&[1, 2, 3, 4, 5]), [128, 1, 4, 5, 2, 2, 0, 0, 0, 0]);
        let bits = [0b11_00_00_00, 0b11_11_11, 0, 0, 0, 0, 0, 0];
        assert_eq!(encoded(&[7, 5, 3, 1, 2, 3, 4, 5]), [&[128, 1, 4, 8, 14, 3, 2, 0, 0, 0][..], &bits].concat());
    }

    #[test]
    fn times_at_one_distance_take_ten_bytes_a_block() {
        let minutes: Vec<i64> = (0..1_281).map(|minute| minute * 60_000_000_000).collect();
        assert_eq!(encoded(&minutes).len() - encoded(&minutes[..641]).len(), 5 * 10);
    }
}
