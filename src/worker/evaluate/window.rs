//! Sliding windows: values in, one aggregate of the last N of them for each out.
//!
//! No value is ever taken back out of a sum: after a large one leaves, such a sum is wrong for good. Instead the values
//! are cut into blocks of N. A window is the end of one block and the beginning of the next, so its aggregate is a
//! suffix aggregate of the one and a prefix aggregate of the other: three operations a value, whatever N is
//! (M. van Herk 1992; J. Gil and M. Werman 1993, for maxima; any associative operation will do).

use super::compensated::{CompensatedSum, DOWNSCALE, UPSCALE};
use crate::expression::WindowLength;
use crate::series::NULL;

/// The sum of the last N values. Null until there are N, and while any of them is null or not finite.
pub(super) fn sum(values: &[f64], window: WindowLength) -> Vec<f64> {
    total(values, window, CompensatedSum::total)
}

/// The mean of the last N values. Null until there are N, and while any of them is null or not finite.
pub(super) fn sma(values: &[f64], window: WindowLength) -> Vec<f64> {
    let count = f64::from(window.get());
    total(values, window, |sum| sum.mean(count))
}

/// The greatest of the last N values. Null until there are N, and while any of them is null or not finite.
pub(super) fn max(values: &[f64], window: WindowLength) -> Vec<f64> {
    slide(values, window, f64::NEG_INFINITY, |value| value, f64::max, |greatest| greatest)
}

/// The least of the last N values. Null until there are N, and while any of them is null or not finite.
pub(super) fn min(values: &[f64], window: WindowLength) -> Vec<f64> {
    slide(values, window, f64::INFINITY, |value| value, f64::min, |least| least)
}

/// `finish` of the sum of the last N values.
fn total(values: &[f64], window: WindowLength, finish: impl Fn(CompensatedSum) -> f64) -> Vec<f64> {
    let mark_overflow = |sum| {
        let result = finish(sum);
        if result.is_finite() { result } else { f64::INFINITY }
    };
    let mut results =
        slide(values, window, CompensatedSum::EMPTY, CompensatedSum::of, CompensatedSum::combine, mark_overflow);
    if results.iter().any(|result| result.is_infinite()) {
        // All values of a window are finite, so an infinity means that a partial sum overflowed. The sum itself, and
        // the mean all the more, may still be a float.
        let downscaled = |value| CompensatedSum::of(value * DOWNSCALE);
        let upscaled = |sum| finish(sum) * UPSCALE;
        let second = slide(values, window, CompensatedSum::EMPTY, downscaled, CompensatedSum::combine, upscaled);
        for (result, second) in results.iter_mut().zip(second) {
            if result.is_infinite() {
                *result = second;
            }
        }
    }
    results
}

/// `finish` of the last N values, combined in order from `empty`; null where they are not N finite ones.
///
/// Takes memory for N partial results, and none for a window that is longer than the series.
fn slide<P: Copy>(
    values: &[f64],
    window: WindowLength,
    empty: P,
    lift: impl Fn(f64) -> P,
    combine: impl Fn(P, P) -> P,
    finish: impl Fn(P) -> f64,
) -> Vec<f64> {
    let mut results = vec![NULL; values.len()];
    let length = usize::try_from(window.get()).unwrap_or(usize::MAX);
    if length > values.len() {
        return results;
    }
    // suffixes[i]: the values of the block before from its i-th to its end.
    let mut suffixes = vec![empty; length];
    // Suffix and prefix hold nothing but their window, so what is not finite spoils only results that are null anyway.
    let mut finite_run_length = 0;
    for (block, block_results) in values.chunks(length).zip(results.chunks_mut(length)) {
        let mut prefix = empty;
        // A window that ends at the i-th value of a block starts at the (i + 1)-th of the block before; the one that
        // ends with the block is the block.
        let suffixes_before = suffixes.iter().skip(1).copied().chain([empty]);
        for ((&value, result), suffix) in block.iter().zip(block_results).zip(suffixes_before) {
            prefix = combine(prefix, lift(value));
            finite_run_length = if value.is_finite() { finite_run_length + 1 } else { 0 };
            let window_is_full = finite_run_length >= length;
            if window_is_full {
                *result = finish(combine(suffix, prefix));
            }
        }
        if block.len() == length {
            let mut suffix = empty;
            for (slot, &value) in suffixes.iter_mut().zip(block).rev() {
                suffix = combine(lift(value), suffix);
                *slot = suffix;
            }
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    fn length(window: u32) -> WindowLength {
        WindowLength::new(window).unwrap()
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
