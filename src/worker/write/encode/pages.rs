//! The pages of a result's columns: rows of a column come in; a page goes out, encoded and compressed, and its bounds.
//!
//! Encodings and levels are as in the definition of the format, github.com/apache/parquet-format: `Encodings.md`.

use std::ops::Range;

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{CompressedPage, Page};
use parquet::data_type::SliceAsBytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnIndexBuilder;
use parquet::file::statistics::{Statistics, ValueStatistics};

use super::columns::number;
use super::compressor::Compressor;
use super::deltas;
use crate::config::OutputCompression;
use crate::series::TimeNs;

/// Comparisons that the processor makes at once.
const LANES: usize = 8;

/// A column of a row group.
pub(super) trait Column {
    /// Its rows.
    fn len(&self) -> usize;

    /// How it is encoded, levels first.
    fn encodings(&self) -> &'static [Encoding];

    /// What these rows lie between.
    fn bounds(&self, rows: Range<usize>) -> Bounds;

    /// Appends these rows, as a page holds them before it is compressed.
    fn encode(&self, rows: Range<usize>, bounds: &Bounds, page: &mut Vec<u8>) -> Result<(), ParquetError>;
}

/// What the values of some rows lie between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bounds {
    /// Times, which ascend: the first and the last.
    Times(TimeNs, TimeNs),
    /// The least and the greatest value where there is one, and how many rows are null.
    Values(Option<(f64, f64)>, usize),
}

impl Bounds {
    /// What the rows of both lie between, of which these are the earlier.
    pub(super) fn join(self, later: Self) -> Self {
        match (self, later) {
            (Self::Times(first, _), Self::Times(_, last)) => Self::Times(first, last),
            (Self::Values(earlier, nulls), Self::Values(later, more_nulls)) => {
                let both = earlier.zip(later).map(|(earlier, later)| (earlier.0.min(later.0), earlier.1.max(later.1)));
                Self::Values(both.or(earlier).or(later), nulls + more_nulls)
            }
            (_, later) => later,
        }
    }

    /// As the footer tells them.
    pub(super) fn statistics(self) -> Statistics {
        match self {
            Self::Times(first, last) => {
                Statistics::Int64(ValueStatistics::new(Some(first), Some(last), None, Some(0), false))
            }
            Self::Values(found, null_count) => {
                let (least, greatest) = found.unzip();
                let values = ValueStatistics::new(least, greatest, None, Some(null_count as u64), false);
                // A zero may be either of the two.
                let values = values.with_min_is_exact(least.is_some_and(|least| least != 0.0));
                let values = values.with_max_is_exact(greatest.is_some_and(|greatest| greatest != 0.0));
                Statistics::Double(values.with_nan_count(Some(0)))
            }
        }
    }

    /// As a page's entry in the index.
    pub(super) fn add_to(self, index: &mut ColumnIndexBuilder) -> Result<(), ParquetError> {
        match self {
            Self::Times(first, last) => {
                index.append(false, first.to_le_bytes().to_vec(), last.to_le_bytes().to_vec(), 0, None);
            }
            Self::Values(found, null_count) => {
                let bytes = |value: f64| value.to_le_bytes().to_vec();
                let (least, greatest) = found.map(|(least, greatest)| (bytes(least), bytes(greatest))).unzip();
                let (least, greatest) = (least.unwrap_or_default(), greatest.unwrap_or_default());
                index.append(found.is_none(), least, greatest, number(null_count)?, Some(0));
            }
        }
        Ok(())
    }
}

/// `obs_time`, which is never null.
pub(super) struct Times<'a>(pub(super) &'a [TimeNs]);

impl Column for Times<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    /// Times ascend and never repeat: their differences take little, a dictionary would hold all of them.
    fn encodings(&self) -> &'static [Encoding] {
        &[Encoding::RLE, Encoding::DELTA_BINARY_PACKED]
    }

    fn bounds(&self, rows: Range<usize>) -> Bounds {
        let times = &self.0[rows];
        Bounds::Times(times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default())
    }

    fn encode(&self, rows: Range<usize>, _: &Bounds, page: &mut Vec<u8>) -> Result<(), ParquetError> {
        deltas::encode(&self.0[rows], page);
        Ok(())
    }
}

/// `value`, where a NaN is null.
pub(super) struct Values<'a>(pub(super) &'a [f64]);

impl Column for Values<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    /// Means and rates hardly repeat; where values do, compression finds it.
    fn encodings(&self) -> &'static [Encoding] {
        &[Encoding::RLE, Encoding::PLAIN]
    }

    fn bounds(&self, rows: Range<usize>) -> Bounds {
        let (mut least, mut greatest, mut nulls) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES], [0; LANES]);
        let mut look = |lane: usize, value: f64| {
            // Neither holds for a null.
            least[lane] = if value < least[lane] { value } else { least[lane] };
            greatest[lane] = if value > greatest[lane] { value } else { greatest[lane] };
            nulls[lane] += usize::from(value.is_nan());
        };
        let (eights, rest) = self.0[rows.clone()].as_chunks::<LANES>();
        for eight in eights {
            for (lane, value) in eight.iter().enumerate() {
                look(lane, *value);
            }
        }
        for (lane, value) in rest.iter().enumerate() {
            look(lane, *value);
        }
        let null_count = nulls.iter().sum();
        if null_count == rows.len() {
            return Bounds::Values(None, null_count);
        }
        let least = least.into_iter().fold(f64::INFINITY, f64::min);
        let greatest = greatest.into_iter().fold(f64::NEG_INFINITY, f64::max);
        // The format's rule: the two zeros are equal, so the bounds are to hold both.
        let least = if least == 0.0 { -0.0 } else { least };
        let greatest = if greatest == 0.0 { 0.0 } else { greatest };
        Bounds::Values(Some((least, greatest)), null_count)
    }

    fn encode(&self, rows: Range<usize>, bounds: &Bounds, page: &mut Vec<u8>) -> Result<(), ParquetError> {
        let values = &self.0[rows];
        let has_nulls = !matches!(bounds, Bounds::Values(_, 0));
        let levels = if has_nulls { mixed_levels(values) } else { all_present(values.len()) };
        page.extend_from_slice(&number::<u32, _>(levels.len())?.to_le_bytes());
        page.extend_from_slice(&levels);
        if has_nulls {
            page.extend(values.iter().filter(|value| !value.is_nan()).flat_map(|value| value.to_le_bytes()));
        } else if cfg!(target_endian = "little") {
            page.extend_from_slice(SliceAsBytes::slice_as_bytes(values));
        } else {
            page.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Ok(())
    }
}

/// The levels of rows that are all there: one run of the level 1.
fn all_present(count: usize) -> Vec<u8> {
    let mut levels = Vec::new();
    deltas::put_varint((count as u64) << 1, &mut levels);
    levels.push(1);
    levels
}

/// The levels of rows with nulls among them: one run of a bit for each.
fn mixed_levels(values: &[f64]) -> Vec<u8> {
    let mut levels = Vec::with_capacity(values.len() / 8 + 8);
    deltas::put_varint((values.len().div_ceil(8) as u64) << 1 | 1, &mut levels);
    let bits = |eight: &[f64]| eight.iter().rev().fold(0, |bits, value| bits << 1 | u8::from(!value.is_nan()));
    levels.extend(values.chunks(8).map(bits));
    levels
}

/// Makes pages, in memory that it keeps for the next.
pub(super) struct Pages {
    encoded: Vec<u8>,
    compressor: Compressor,
}

impl Pages {
    pub(super) fn new(compression: OutputCompression) -> Result<Self, ParquetError> {
        Ok(Self { encoded: Vec::new(), compressor: Compressor::new(compression)? })
    }

    /// The page of these rows, and what they lie between.
    pub(super) fn page(
        &mut self,
        column: &dyn Column,
        rows: Range<usize>,
    ) -> Result<(CompressedPage, Bounds), ParquetError> {
        let bounds = column.bounds(rows.clone());
        self.encoded.clear();
        column.encode(rows.clone(), &bounds, &mut self.encoded)?;
        let page = Page::DataPage {
            buf: Bytes::from(self.compressor.compress(&self.encoded)?),
            num_values: number(rows.len())?,
            encoding: column.encodings().last().copied().unwrap_or(Encoding::PLAIN),
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        Ok((CompressedPage::new(page, self.encoded.len()), bounds))
    }

    /// Takes back the memory of a page that was written.
    pub(super) fn take_back(&mut self, page: Bytes) {
        // Nobody else has it, so nothing is copied.
        self.compressor.take_back(Vec::from(page));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::NULL;

    #[test]
    fn bounds_leave_nulls_out_and_hold_both_zeros() {
        let of = |values: &[f64]| Values(values).bounds(0..values.len());
        assert_eq!(of(&[NULL; 9]), Bounds::Values(None, 9));
        assert_eq!(of(&[NULL, 2.0, -1.0, NULL]), Bounds::Values(Some((-1.0, 2.0)), 2));
        assert_eq!(
            of(&[f64::NEG_INFINITY, f64::INFINITY]),
            Bounds::Values(Some((f64::NEG_INFINITY, f64::INFINITY)), 0)
        );
        let many: Vec<f64> = (0..1_000).map(|row| f64::from(row * 7_919 % 1_009)).collect();
        assert_eq!(of(&many), Bounds::Values(Some((0.0, 1_008.0)), 0));
        let Bounds::Values(Some((least, greatest)), 0) = of(&[0.0, -0.0]) else { panic!("it has values") };
        assert!(least.is_sign_negative() && greatest.is_sign_positive());
    }
}
