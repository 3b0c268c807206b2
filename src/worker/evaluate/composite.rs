//! `composite`: two or more series in, one value for each time that any of them has out.

use super::align::Union;
use super::compensated::{CompensatedSum, DOWNSCALE, UPSCALE};
use crate::expression::{CompositeOp, NullPolicy};
use crate::series::{Error, NULL, Series};

/// The aggregate of the values present at each time that any operand has.
///
/// Null where none is present; with [`NullPolicy::Propagate`] null unless every operand is. IEEE 754 on infinities.
pub(super) fn composite(op: CompositeOp, operands: &[&Series], nulls: NullPolicy) -> Result<Series, Error> {
    let union = Union::of(operands);
    let present_counts = present_counts(&union, operands);
    let mut values = match op {
        CompositeOp::Sum => totals(&union, operands, &present_counts, |sum, _| sum.total()),
        CompositeOp::Avg => totals(&union, operands, &present_counts, |sum, count| sum.mean(f64::from(count))),
        CompositeOp::Max => extremes(&union, operands, f64::max),
        CompositeOp::Min => extremes(&union, operands, f64::min),
    };
    for (value, &present_count) in values.iter_mut().zip(&present_counts) {
        let is_null = match nulls {
            NullPolicy::Skip => present_count == 0,
            NullPolicy::Propagate => usize::try_from(present_count) != Ok(operands.len()),
        };
        if is_null {
            *value = NULL;
        }
    }
    union.into_series(values, operands)
}

/// How many operands have a value at each time.
fn present_counts(union: &Union<'_>, operands: &[&Series]) -> Vec<u32> {
    let mut counts = vec![0; union.len()];
    for operand in operands {
        union.scatter(operand, &mut counts, |count, value| *count += u32::from(!value.is_nan()));
    }
    counts
}

/// The greatest or least value present at each time.
fn extremes(union: &Union<'_>, operands: &[&Series], pick: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let mut extremes = vec![NULL; union.len()];
    for operand in operands {
        // `f64::max` and `f64::min` answer with the other value where one is NaN.
        union.scatter(operand, &mut extremes, |extreme, value| *extreme = pick(*extreme, value));
    }
    extremes
}

/// `finish` of the sum, and number, of the values present at each time.
fn totals(
    union: &Union<'_>,
    operands: &[&Series],
    present_counts: &[u32],
    finish: impl Fn(CompensatedSum, u32) -> f64,
) -> Vec<f64> {
    let scaled = |scale: f64| {
        let mut sums = vec![CompensatedSum::EMPTY; union.len()];
        for operand in operands {
            let add = |sum: &mut CompensatedSum, value: f64| {
                let value_or_zero = if value.is_nan() { 0.0 } else { value };
                *sum = sum.plus(value_or_zero * scale);
            };
            union.scatter(operand, &mut sums, add);
        }
        sums
    };
    let finished = |(&sum, &count): (&CompensatedSum, &u32)| finish(sum, count);
    let mut totals: Vec<f64> = scaled(1.0).iter().zip(present_counts).map(finished).collect();
    let may_have_overflowed = |total: f64, count: u32| count > 0 && !total.is_finite();
    if totals.iter().zip(present_counts).any(|(&total, &count)| may_have_overflowed(total, count)) {
        // Either a value is infinite, then the second sum is what the first was; or only a partial sum was too large.
        for ((total, &count), &sum) in totals.iter_mut().zip(present_counts).zip(&scaled(DOWNSCALE)) {
            if may_have_overflowed(*total, count) {
                *total = finish(sum, count) * UPSCALE;
            }
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;
    const OPS: [CompositeOp; 4] = [CompositeOp::Sum, CompositeOp::Avg, CompositeOp::Max, CompositeOp::Min];

    fn check_with(nulls: NullPolicy, values: &[f64], expected: [f64; 4]) {
        let one = |value: f64| Series::new(vec![7], vec![value]).unwrap();
        let operands: Vec<Series> = values.iter().map(|&value| one(value)).collect();
        for (op, expected) in OPS.into_iter().zip(expected) {
            let result = composite(op, &operands.iter().collect::<Vec<_>>(), nulls).unwrap();
            assert_eq!(result, one(expected), "{op:?} of {values:?}");
        }
    }

    fn check(values: &[f64], expected: [f64; 4]) {
        check_with(NullPolicy::Skip, values, expected);
    }

    #[test]
    fn sum_avg_max_and_min_of_the_values_present() {
        check(&[1.0, 2.0, 6.0], [9.0, 3.0, 6.0, 1.0]);
        check(&[1.0, NULL, 6.0], [7.0, 3.5, 6.0, 1.0]);
        check(&[NULL, -4.0], [-4.0; 4]);
        check(&[-2.0, 2.0], [0.0, 0.0, 2.0, -2.0]);
    }

    #[test]
    fn all_nulls_are_null_and_their_sum_is_not_zero() {
        check(&[NULL, NULL], [NULL; 4]);
    }

    #[test]
    fn propagating_needs_every_operand() {
        check_with(NullPolicy::Propagate, &[1.0, NULL, 6.0], [NULL; 4]);
        check_with(NullPolicy::Propagate, &[NULL, NULL], [NULL; 4]);
        check_with(NullPolicy::Propagate, &[1.0, 3.0], [4.0, 2.0, 3.0, 1.0]);
        check_with(NullPolicy::Propagate, &[1.0, INF], [INF, INF, INF, 1.0]);
    }

    #[test]
    fn infinities_are_those_of_ieee_754() {
        check(&[INF, 1.0, NULL], [INF, INF, INF, 1.0]);
        check(&[-INF, 1.0, -INF], [-INF, -INF, 1.0, -INF]);
        check(&[INF, -INF, 1.0], [NULL, NULL, INF, -INF]);
        check(&[INF, f64::MAX, f64::MAX], [INF, INF, INF, f64::MAX]);
    }

    #[test]
    fn only_a_sum_that_is_too_large_is_infinite() {
        check(&[1e308, 1e308, -1e308], [1e308, 1e308 / 3.0, 1e308, -1e308]);
        check(&[f64::MAX; 3], [INF, f64::MAX, f64::MAX, f64::MAX]);
        check(&[-f64::MAX; 3], [-INF, -f64::MAX, -f64::MAX, -f64::MAX]);
    }

    #[test]
    fn the_small_beside_the_large_is_kept() {
        check(&[1e16, 1.0, -1e16, 2.0], [3.0, 0.75, 1e16, -1e16]);
        check(&[0.1; 10], [1.0, 0.1, 0.1, 0.1]);
    }

    #[test]
    fn a_time_that_an_operand_lacks_is_null_there() {
        let first = Series::new(vec![-5, 1, 2], vec![1.0, 2.0, NULL]).unwrap();
        let second = Series::new(vec![1, 3], vec![10.0, 30.0]).unwrap();
        let third = Series::new(vec![1, 2], vec![100.0, NULL]).unwrap();
        let operands = [&first, &second, &third];
        let times = vec![-5, 1, 2, 3];
        let skipping = composite(CompositeOp::Sum, &operands, NullPolicy::Skip).unwrap();
        assert_eq!(skipping, Series::new(times.clone(), vec![1.0, 112.0, NULL, 30.0]).unwrap());
        let propagating = composite(CompositeOp::Sum, &operands, NullPolicy::Propagate).unwrap();
        assert_eq!(propagating, Series::new(times, vec![NULL, 112.0, NULL, NULL]).unwrap());
    }

    #[test]
    fn empty_operands_are_missing_everywhere() {
        let empty = Series::empty();
        assert!(composite(CompositeOp::Sum, &[&empty, &empty], NullPolicy::Skip).unwrap().is_empty());
        let one = Series::new(vec![1], vec![5.0]).unwrap();
        assert_eq!(composite(CompositeOp::Avg, &[&empty, &one], NullPolicy::Skip).unwrap(), one);
    }

    #[test]
    fn a_series_counts_as_often_as_it_is_named() {
        let one = Series::new(vec![1, 2], vec![5.0, NULL]).unwrap();
        let result = composite(CompositeOp::Sum, &[&one, &one, &one], NullPolicy::Propagate).unwrap();
        assert_eq!(result, Series::new(vec![1, 2], vec![15.0, NULL]).unwrap());
    }
}
