//! What of a row group can hold the wanted series: statistics, a bloom filter and a page index come in; yes, no, or
//! some ranges of rows go out. Whatever cannot be understood excludes nothing.

use std::ops::Range;

use parquet::bloom_filter::Sbbf;

use super::footer::{Chunk, RowGroup};
use super::thrift::{Kind, Malformed, Reader};

/// A page of a column chunk, as the offset index places it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageLocation {
    /// Its bytes in the file, its header included.
    pub(super) bytes: Range<u64>,
    /// Its rows in the row group.
    pub(super) rows: Range<u64>,
}

/// Whether the statistics leave room for one of the codes.
pub(super) fn may_hold_any(series: &Chunk, codes: &[&str]) -> bool {
    match (&series.min, &series.max) {
        (Some(min), Some(max)) => codes.iter().any(|code| within(code.as_bytes(), min, max)),
        _ => true,
    }
}

/// Whether the statistics prove that every row has this code.
pub(super) fn holds_only(row_group: &RowGroup, code: &str, nullable: bool) -> bool {
    let Some(series) = &row_group.series else {
        return false;
    };
    let is_code = |bound: &Option<Vec<u8>>| bound.as_deref() == Some(code.as_bytes());
    let has_no_null = !nullable || series.null_count == Some(0);
    !series.bounds_may_be_inexact && has_no_null && is_code(&series.min) && is_code(&series.max)
}

/// Codes are compared by their bytes, as Parquet orders texts. An empty upper bound bounds nothing: some writers
/// leave it so when every value was too long.
fn within(code: &[u8], min: &[u8], max: &[u8]) -> bool {
    min <= code && (code <= max || max.is_empty())
}

/// Whether the bloom filter in these bytes leaves room for one of the codes.
pub(super) fn bloom_may_hold_any(bytes: &[u8], codes: &[&str]) -> bool {
    // The bit set is a whole number of 32-byte blocks, which the decoder takes for granted.
    let has_whole_blocks = bloom_bits(bytes).is_ok_and(|bits| !bits.is_empty() && bits.len().is_multiple_of(32));
    if !has_whole_blocks {
        return true;
    }
    match bloom_bits(bytes) {
        Ok(bits) => {
            let filter = Sbbf::new(bits);
            codes.iter().any(|code| filter.check(*code))
        }
        Err(_) => true,
    }
}

/// The bits of a filter of the one kind there is: split blocks, xxHash, uncompressed.
fn bloom_bits(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(bytes);
    let mut size_bytes = None;
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id)? {
        match field.id {
            1 => size_bytes = usize::try_from(reader.int32(field)?).ok(),
            2..=4 => {
                Reader::enter(field)?;
                let mut last_choice = 0;
                while let Some(choice) = reader.field(&mut last_choice)? {
                    if choice.id != 1 {
                        return Err(Malformed::Type);
                    }
                    reader.skip(choice)?;
                }
            }
            _ => reader.skip(field)?,
        }
    }
    let bits = &bytes[reader.position()..];
    size_bytes.and_then(|size_bytes| bits.get(..size_bytes)).ok_or(Malformed::Length)
}

/// The pages that an offset index lists. Nothing, if they are not the chunk's and the row group's, in order and
/// without a gap in the rows.
pub(super) fn page_locations(bytes: &[u8], chunk: &Chunk, row_count: u64) -> Option<Vec<PageLocation>> {
    let firsts = read_offset_index(bytes).ok()?;
    let mut locations: Vec<PageLocation> = Vec::with_capacity(firsts.len());
    let mut next_byte = chunk.bytes.start;
    for (index, &(offset, length, first_row)) in firsts.iter().enumerate() {
        let rows_end = firsts.get(index + 1).map_or(row_count, |&(_, _, first_row)| first_row);
        let end = offset.checked_add(length)?;
        let follows = offset >= next_byte && end <= chunk.bytes.end && first_row < rows_end;
        if !follows || (index == 0 && first_row != 0) {
            return None;
        }
        next_byte = end;
        locations.push(PageLocation { bytes: offset..end, rows: first_row..rows_end });
    }
    (!locations.is_empty()).then_some(locations)
}

/// The offset, length and first row of each page.
fn read_offset_index(bytes: &[u8]) -> Result<Vec<(u64, u64, u64)>, Malformed> {
    let unsigned = |number: i64| u64::try_from(number).map_err(|_| Malformed::Number);
    let mut reader = Reader::new(bytes);
    let mut pages = Vec::new();
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id)? {
        if field.id != 1 {
            reader.skip(field)?;
            continue;
        }
        for _ in 0..reader.list(field, Kind::Struct)? {
            let mut page = (0, 0, 0);
            let mut last_page_id = 0;
            while let Some(field) = reader.field(&mut last_page_id)? {
                match field.id {
                    1 => page.0 = unsigned(reader.int(field)?)?,
                    2 => page.1 = unsigned(reader.int(field)?)?,
                    3 => page.2 = unsigned(reader.int(field)?)?,
                    _ => reader.skip(field)?,
                }
            }
            pages.push(page);
        }
    }
    Ok(pages)
}

/// For each page of the series column, whether it may hold one of the codes. Nothing, if the index is not one of so
/// many pages.
pub(super) fn pages_that_may_hold(bytes: &[u8], page_count: usize, codes: &[&str]) -> Option<Vec<bool>> {
    let index = read_column_index(bytes).ok()?;
    let lengths = [index.null_pages.len(), index.mins.len(), index.maxes.len()];
    if lengths != [page_count; 3] {
        return None;
    }
    let pages = index.null_pages.iter().zip(index.mins.iter().zip(&index.maxes));
    let may_hold = |(only_nulls, (min, max)): (&bool, (&&[u8], &&[u8]))| {
        !only_nulls && codes.iter().any(|code| within(code.as_bytes(), min, max))
    };
    Some(pages.map(may_hold).collect())
}

#[derive(Default)]
struct ColumnIndex<'a> {
    null_pages: Vec<bool>,
    mins: Vec<&'a [u8]>,
    maxes: Vec<&'a [u8]>,
}

fn read_column_index(bytes: &[u8]) -> Result<ColumnIndex<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut index = ColumnIndex::default();
    let mut last_id = 0;
    while let Some(field) = reader.field(&mut last_id)? {
        match field.id {
            1 => {
                for _ in 0..reader.list(field, Kind::True)? {
                    index.null_pages.push(reader.element_boolean()?);
                }
            }
            2 | 3 => {
                for _ in 0..reader.list(field, Kind::Binary)? {
                    let bound = reader.element_binary()?;
                    if field.id == 2 { index.mins.push(bound) } else { index.maxes.push(bound) }
                }
            }
            _ => reader.skip(field)?,
        }
    }
    Ok(index)
}

/// The rows of the selected pages, neighbours joined.
pub(super) fn selected_rows(pages: &[PageLocation], is_selected: &[bool]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for (page, _) in pages.iter().zip(is_selected).filter(|&(_, &is_selected)| is_selected) {
        match ranges.last_mut() {
            Some(last) if last.end == page.rows.start => last.end = page.rows.end,
            _ => ranges.push(page.rows.clone()),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(min: &str, max: &str) -> Chunk {
        Chunk { min: Some(min.into()), max: Some(max.into()), null_count: Some(0), ..Chunk::default() }
    }

    #[test]
    fn statistics_exclude_only_what_is_outside_them() {
        let chunk = chunk("B", "D");
        for (code, expected) in [("A", false), ("B", true), ("C_1", true), ("D", true), ("D_1", false), ("E", false)] {
            assert_eq!(may_hold_any(&chunk, &[code]), expected, "{code}");
        }
        assert!(may_hold_any(&Chunk::default(), &["A"]));
    }

    #[test]
    fn only_exact_statistics_without_nulls_prove_a_series() {
        let row_group = |series| RowGroup {
            index: 0,
            first_row: 0,
            row_count: 1,
            time: Chunk::default(),
            value: Chunk::default(),
            series: Some(series),
        };
        assert!(holds_only(&row_group(chunk("A", "A")), "A", true));
        assert!(!holds_only(&row_group(chunk("A", "A_B")), "A", true));
        assert!(!holds_only(&row_group(Chunk { bounds_may_be_inexact: true, ..chunk("A", "A") }), "A", true));
        let unknown_nulls = Chunk { null_count: None, ..chunk("A", "A") };
        assert!(!holds_only(&row_group(unknown_nulls.clone()), "A", true));
        assert!(holds_only(&row_group(unknown_nulls), "A", false));
    }

    #[test]
    fn selected_pages_that_touch_are_one_range() {
        let page = |rows: Range<u64>| PageLocation { bytes: 0..1, rows };
        let pages = [page(0..10), page(10..20), page(20..30), page(30..40)];
        assert_eq!(selected_rows(&pages, &[true, true, false, true]), [0..20, 30..40]);
    }

    #[test]
    fn odd_filters_and_indexes_exclude_nothing() {
        assert!(bloom_may_hold_any(&[], &["A"]));
        assert!(bloom_may_hold_any(&[0x15, 0x02, 0x00], &["A"]));
        assert_eq!(pages_that_may_hold(&[0xff; 10], 3, &["A"]), None);
        assert_eq!(page_locations(&[0x00], &Chunk::default(), 10), None);
    }
}
