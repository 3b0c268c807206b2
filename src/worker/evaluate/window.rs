//! Sliding windows: values in, slice by slice, one aggregate of the last N of them for each out.
//!
//! No value is ever taken back out of a sum: after a large one leaves, such a sum is wrong for good. Instead the values
//! are cut into blocks of N. A window is the end of one block and the beginning of the next, so its aggregate is a
//! suffix aggregate of the one and a prefix aggregate of the other: three operations a value, whatever N is
//! (M. van Herk 1992; J. Gil and M. Werman 1993, for maxima; any associative operation will do).
//!
//! Blocks are counted from the first value of the series, so it makes no difference how the values are cut into slices.

use super::compensated::{CompensatedSum, DOWNSCALE, UPSCALE};
use crate::expression::WindowLength;
use crate::series::NULL;

/// What is known of the values of a window: how two neighbouring stretches of values are made one.
pub(super) trait Aggregate {
    /// The aggregate of a stretch of values.
    type Partial: Copy + std::fmt::Debug;
    /// That of no values.
    const EMPTY: Self::Partial;

    /// That of one value.
    fn lift(value: f64) -> Self::Partial;
    /// That of two stretches, the earlier first.
    fn combine(earlier: Self::Partial, later: Self::Partial) -> Self::Partial;
    /// That of a stretch and one value more, at whichever of its ends.
    #[inline]
    fn extend(stretch: Self::Partial, value: f64) -> Self::Partial {
        Self::combine(stretch, Self::lift(value))
    }
    /// The result for a full window. Infinite only where a partial result was too large.
    fn finish(&self, partial: Self::Partial) -> f64;
}

/// The greatest value.
#[derive(Debug, Clone)]
pub(super) struct Greatest;

impl Aggregate for Greatest {
    type Partial = f64;
    const EMPTY: f64 = f64::NEG_INFINITY;

    #[inline]
    fn lift(value: f64) -> f64 {
        value
    }

    #[inline]
    fn combine(earlier: f64, later: f64) -> f64 {
        // A null is not greater: it is left out, as `f64::max` would, for one instruction instead of three.
        if later > earlier { later } else { earlier }
    }

    #[inline]
    fn finish(&self, greatest: f64) -> f64 {
        greatest
    }
}

/// The least value.
#[derive(Debug, Clone)]
pub(super) struct Least;

impl Aggregate for Least {
    type Partial = f64;
    const EMPTY: f64 = f64::INFINITY;

    #[inline]
    fn lift(value: f64) -> f64 {
        value
    }

    #[inline]
    fn combine(earlier: f64, later: f64) -> f64 {
        if later < earlier { later } else { earlier }
    }

    #[inline]
    fn finish(&self, least: f64) -> f64 {
        least
    }
}

/// The sum of the values.
#[derive(Debug, Clone)]
pub(super) struct Total;

impl Aggregate for Total {
    type Partial = CompensatedSum;
    const EMPTY: CompensatedSum = CompensatedSum::EMPTY;

    #[inline]
    fn lift(value: f64) -> CompensatedSum {
        CompensatedSum::of(value)
    }

    #[inline]
    fn combine(earlier: CompensatedSum, later: CompensatedSum) -> CompensatedSum {
        earlier.combine(later)
    }

    #[inline]
    fn extend(stretch: CompensatedSum, value: f64) -> CompensatedSum {
        stretch.plus(value)
    }

    #[inline]
    fn finish(&self, sum: CompensatedSum) -> f64 {
        overflow_is_infinite(sum.total())
    }
}

/// The mean of so many values.
#[derive(Debug, Clone)]
pub(super) struct Mean {
    count: f64,
}

impl Aggregate for Mean {
    type Partial = CompensatedSum;
    const EMPTY: CompensatedSum = CompensatedSum::EMPTY;

    #[inline]
    fn lift(value: f64) -> CompensatedSum {
        CompensatedSum::of(value)
    }

    #[inline]
    fn combine(earlier: CompensatedSum, later: CompensatedSum) -> CompensatedSum {
        earlier.combine(later)
    }

    #[inline]
    fn extend(stretch: CompensatedSum, value: f64) -> CompensatedSum {
        stretch.plus(value)
    }

    #[inline]
    fn finish(&self, sum: CompensatedSum) -> f64 {
        overflow_is_infinite(sum.mean(self.count))
    }
}

#[inline]
fn overflow_is_infinite(result: f64) -> f64 {
    if result.abs() < f64::INFINITY { result } else { f64::INFINITY }
}

/// A window that slides over a series. Null until there are N values, and while any of the last N is null or not
/// finite.
///
/// Holds the values of two blocks and the partial results of one; nothing is taken for a block before it is there, so
/// a window that is longer than the series takes no more than the series.
#[derive(Debug)]
pub(super) struct Window<A: Aggregate> {
    aggregate: A,
    length: usize,
    /// The values of the block before; none before the first block is full.
    before: Vec<f64>,
    /// The values of this block so far.
    block: Vec<f64>,
    /// How many values up to here are finite without a break.
    finite_run_length: usize,
    plain: Partials<A>,
    /// The same of downscaled values; from the first result on that was too large.
    downscaled: Option<Partials<A>>,
}

/// The sum of the last N values.
pub(super) fn sum(window: WindowLength) -> Window<Total> {
    Window::new(Total, window)
}

/// The mean of the last N values.
pub(super) fn sma(window: WindowLength) -> Window<Mean> {
    Window::new(Mean { count: f64::from(window.get()) }, window)
}

/// The greatest of the last N values.
pub(super) fn max(window: WindowLength) -> Window<Greatest> {
    Window::new(Greatest, window)
}

/// The least of the last N values.
pub(super) fn min(window: WindowLength) -> Window<Least> {
    Window::new(Least, window)
}

impl<A: Aggregate> Window<A> {
    fn new(aggregate: A, window: WindowLength) -> Self {
        Self {
            aggregate,
            length: usize::try_from(window.get()).unwrap_or(usize::MAX),
            before: Vec::new(),
            block: Vec::new(),
            finite_run_length: 0,
            plain: Partials::new(1.0),
            downscaled: None,
        }
    }

    /// The results for the next values of the series.
    pub(super) fn next(&mut self, values: &[f64]) -> Vec<f64> {
        let mut results = vec![NULL; values.len()];
        let (mut values_left, mut results_left) = (values, &mut results[..]);
        while !values_left.is_empty() {
            let count = values_left.len().min(self.length - self.block.len());
            let (piece, later_values) = values_left.split_at(count);
            let (piece_results, later_results) = results_left.split_at_mut(count);
            self.next_of_block(piece, piece_results);
            (values_left, results_left) = (later_values, later_results);
        }
        results
    }

    /// The same for values that are all of the block that is being filled.
    fn next_of_block(&mut self, piece: &[f64], results: &mut [f64]) {
        let place = Place { position: self.block.len(), length: self.length, run_length: self.finite_run_length };
        let aggregate = &self.aggregate;
        self.finite_run_length = self.plain.slide(piece, place, results, |partial| aggregate.finish(partial));
        let is_too_large = results.iter().fold(false, |any, result| any | (result.abs() == f64::INFINITY));
        if is_too_large && self.downscaled.is_none() {
            self.downscaled = Some(Partials::of(&self.before, &self.block, DOWNSCALE));
        }
        if let Some(downscaled) = &mut self.downscaled {
            // All values of a window are finite, so an infinity means that a partial sum overflowed. The sum itself,
            // and the mean all the more, may still be a float.
            let mut second = vec![NULL; piece.len()];
            downscaled.slide(piece, place, &mut second, |partial| aggregate.finish(partial) * UPSCALE);
            for (result, second) in results.iter_mut().zip(second).filter(|(result, _)| result.is_infinite()) {
                *result = second;
            }
        }
        self.block.extend_from_slice(piece);
        if self.block.len() == self.length {
            self.plain.close(&self.block);
            if let Some(downscaled) = &mut self.downscaled {
                downscaled.close(&self.block);
            }
            std::mem::swap(&mut self.before, &mut self.block);
            self.block.clear();
        }
    }
}

/// Values that are taken step by step: what depends on the one before, then all that does not.
const STRIDE: usize = 64;

/// Where a piece of a block begins.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Its place in the block.
    position: usize,
    /// The length of a block.
    length: usize,
    /// How many values before it are finite without a break.
    run_length: usize,
}

/// The partial results of two neighbouring blocks whose values are multiplied by a power of two.
#[derive(Debug)]
struct Partials<A: Aggregate> {
    scale: f64,
    /// `suffixes[i]`: the values of the block before from its i-th to its end. None before the first block is full.
    suffixes: Vec<A::Partial>,
    /// The values of this block so far.
    prefix: A::Partial,
}

impl<A: Aggregate> Partials<A> {
    fn new(scale: f64) -> Self {
        Self { scale, suffixes: Vec::new(), prefix: A::EMPTY }
    }

    /// As if these two blocks had come by, the second of them not full yet.
    fn of(before: &[f64], block: &[f64], scale: f64) -> Self {
        let mut partials = Self::new(scale);
        if !before.is_empty() {
            partials.close(before);
        }
        partials.prefix = block.iter().fold(A::EMPTY, |prefix, &value| A::extend(prefix, value * scale));
        partials
    }

    /// Puts `finish` of each full window into `results`; the answer is how many values up to the end of the piece are
    /// finite without a break.
    fn slide(&mut self, piece: &[f64], place: Place, results: &mut [f64], finish: impl Fn(A::Partial) -> f64) -> usize {
        // A window that ends at the i-th value of a block starts at the (i + 1)-th of the block before; the one that
        // ends with the block is the block.
        let mut suffixes = self.suffixes.get(place.position + 1..).unwrap_or_default();
        let mut run_length = place.run_length;
        for (values, results) in piece.chunks(STRIDE).zip(results.chunks_mut(STRIDE)) {
            let mut partials = [A::EMPTY; STRIDE];
            let partials = &mut partials[..values.len()];
            for (&value, partial) in values.iter().zip(&mut *partials) {
                self.prefix = A::extend(self.prefix, value * self.scale);
                *partial = self.prefix;
            }
            let (known, later) = suffixes.split_at(suffixes.len().min(values.len()));
            suffixes = later;
            for (&suffix, partial) in known.iter().zip(&mut *partials) {
                *partial = A::combine(suffix, *partial);
            }
            // Suffix and prefix hold nothing but their window, so what is not finite spoils only results that are null
            // anyway.
            let are_all_finite = values.iter().fold(true, |all, value| all & (value.abs() < f64::INFINITY));
            if are_all_finite && run_length + 1 >= place.length {
                results.iter_mut().zip(&*partials).for_each(|(result, &partial)| *result = finish(partial));
                run_length += values.len();
                continue;
            }
            for ((&value, result), &partial) in values.iter().zip(results).zip(&*partials) {
                run_length = if value.is_finite() { run_length + 1 } else { 0 };
                if run_length >= place.length {
                    *result = finish(partial);
                }
            }
        }
        run_length
    }

    /// A block is full: it becomes the one before.
    fn close(&mut self, block: &[f64]) {
        self.suffixes.resize(block.len(), A::EMPTY);
        let mut suffix = A::EMPTY;
        for (slot, &value) in self.suffixes.iter_mut().zip(block).rev() {
            suffix = A::extend(suffix, value * self.scale);
            *slot = suffix;
        }
        self.prefix = A::EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::{Aggregate, Window};
    use crate::expression::WindowLength;
    use crate::series::NULL;

    const INF: f64 = f64::INFINITY;

    fn length(window: u32) -> WindowLength {
        WindowLength::new(window).unwrap()
    }

    /// The results, which are the same however the values are cut.
    fn uncut<A: Aggregate>(window: impl Fn() -> Window<A>, values: &[f64]) -> Vec<f64> {
        let results = window().next(values);
        for cut in 0..=values.len().min(9) {
            let (mut halves, mut singles) = (window(), window());
            let (first, second) = values.split_at(cut);
            let in_halves = [halves.next(first), halves.next(second)].concat();
            let in_singles: Vec<f64> = values.iter().flat_map(|&value| singles.next(&[value])).collect();
            let bits = |results: &[f64]| results.iter().map(|result| result.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&in_halves), bits(&results), "cut at {cut}");
            assert_eq!(bits(&in_singles), bits(&results));
        }
        results
    }

    fn sum(values: &[f64], window: WindowLength) -> Vec<f64> {
        uncut(|| super::sum(window), values)
    }

    fn sma(values: &[f64], window: WindowLength) -> Vec<f64> {
        uncut(|| super::sma(window), values)
    }

    fn max(values: &[f64], window: WindowLength) -> Vec<f64> {
        uncut(|| super::max(window), values)
    }

    fn min(values: &[f64], window: WindowLength) -> Vec<f64> {
        uncut(|| super::min(window), values)
    }

    fn check(results: &[f64], expected: &[f64]) {
        let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
        assert!(
            results.len() == expected.len() && results.iter().zip(expected).all(same),
            "{results:?}, not {expected:?}"
        );
    }

    #[test]
    fn a_window_is_null_until_it_is_full() {
        let values = [1.0, 5.0, 3.0, 2.0, 4.0, 0.0, 7.0];
        check(&sum(&values, length(3)), &[NULL, NULL, 9.0, 10.0, 9.0, 6.0, 11.0]);
        check(&sma(&values, length(2)), &[NULL, 3.0, 4.0, 2.5, 3.0, 2.0, 3.5]);
        check(&max(&values, length(3)), &[NULL, NULL, 5.0, 5.0, 4.0, 4.0, 7.0]);
        check(&min(&values, length(4)), &[NULL, NULL, NULL, 1.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn a_window_of_one_is_the_value_unless_it_is_not_finite() {
        let values = [1.0, NULL, INF, -INF, -2.0];
        for results in [sum(&values, length(1)), sma(&values, length(1)), max(&values, length(1))] {
            check(&results, &[1.0, NULL, NULL, NULL, -2.0]);
        }
    }

    #[test]
    fn a_null_or_an_infinity_blanks_the_windows_that_hold_it_and_no_other() {
        for odd in [NULL, INF, -INF] {
            let values = [odd, 1.0, 2.0, odd, 3.0, 4.0, 5.0, odd];
            check(&sum(&values, length(2)), &[NULL, NULL, 3.0, NULL, NULL, 7.0, 9.0, NULL]);
            check(&max(&values, length(3)), &[NULL, NULL, NULL, NULL, NULL, NULL, 5.0, NULL]);
            check(&min(&values, length(3)), &[NULL, NULL, NULL, NULL, NULL, NULL, 3.0, NULL]);
        }
    }

    #[test]
    fn the_empty_series_and_windows_longer_than_the_series_have_no_values() {
        check(&sum(&[], length(1)), &[]);
        check(&max(&[], length(1_000_000)), &[]);
        check(&sma(&[1.0, 2.0], length(3)), &[NULL, NULL]);
        check(&min(&[1.0, 2.0], length(u32::MAX)), &[NULL, NULL]);
        check(&sum(&[1.0, 2.0], length(2)), &[NULL, 3.0]);
    }

    #[test]
    fn a_large_value_leaves_no_trace_after_it_has_left() {
        let values = [1e300, 1.0, 1e16, 1.0, 1.0, 0.1, 0.2, 0.3];
        check(&sum(&values[1..], length(2)), &[NULL, 1e16, 1e16, 2.0, 1.1, 0.1 + 0.2, 0.5]);
        check(&sum(&values, length(3))[5..], &[2.1, 1.3, 0.6]);
        check(&sma(&[0.1; 9], length(7))[6..], &[0.1; 3]);
    }

    #[test]
    fn sums_that_cancel_are_exact() {
        let values = [1e16, 1.0, -1e16, 1.0, 1e16];
        check(&sum(&values, length(3)), &[NULL, NULL, 1.0, -1e16 + 2.0, 1.0]);
    }

    #[test]
    fn only_a_sum_that_is_too_large_is_infinite() {
        let values = [1e308, 1e308, -1e308, -1e308, 1e308, 1e308, 1e308];
        check(&sum(&values, length(3)), &[NULL, NULL, 1e308, -1e308, -1e308, 1e308, INF]);
        check(&sma(&values[4..], length(3)), &[NULL, NULL, 1e308]);
        check(&sum(&[-f64::MAX, -f64::MAX], length(2)), &[NULL, -INF]);
        check(&sma(&[f64::MAX; 4], length(3)), &[NULL, NULL, f64::MAX, f64::MAX]);
        // What is summed a second time disturbs nobody else.
        check(&sum(&[5e-324, 1e-320, 1e308, 1e308], length(2)), &[NULL, 1e-320 + 5e-324, 1e308, INF]);
    }

    #[test]
    fn every_length_agrees_with_adding_up() {
        let values: Vec<f64> = (0..50_u32).map(|index| f64::from(index * 7919 % 101) - 50.0).collect();
        for window in 1..=51_u32 {
            let of = |fold: fn(&[f64]) -> f64| -> Vec<f64> {
                let size = window as usize;
                let full = values.windows(size).map(fold);
                std::iter::repeat_n(NULL, (size - 1).min(50)).chain(full).collect()
            };
            check(&sum(&values, length(window)), &of(|full| full.iter().sum()));
            check(&max(&values, length(window)), &of(|full| full.iter().copied().fold(-INF, f64::max)));
            check(&min(&values, length(window)), &of(|full| full.iter().copied().fold(INF, f64::min)));
        }
    }
}
