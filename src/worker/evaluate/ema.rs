//! The exponential moving average: values in, slice by slice, as many means out.

use crate::expression::WindowLength;
use crate::series::NULL;

/// The exponential moving average of span N: `alpha = 2 / (N + 1)`, started at the first value.
///
/// A value x gives `(w·mean + alpha·x) / (w + alpha)`, where the weight w of the mean is `1 − alpha` right after a
/// value and decays by that factor at each observation that is null or not finite; at those the mean is repeated.
/// Null before the first value. The recursion is that of pandas' `ewm(span=N, adjust=False, ignore_na=False).mean()`.
#[derive(Debug)]
pub(super) struct Ema {
    alpha: f64,
    decay: f64,
    mean: f64,
    weight: f64,
}

impl Ema {
    /// Nothing seen yet.
    pub(super) fn new(window: WindowLength) -> Self {
        let alpha = 2.0 / (f64::from(window.get()) + 1.0);
        let decay = 1.0 - alpha;
        Self { alpha, decay, mean: NULL, weight: decay }
    }

    /// The means at the next values of the series.
    pub(super) fn next(&mut self, values: &[f64]) -> Vec<f64> {
        let Self { alpha, decay, mut mean, mut weight } = *self;
        // Right after a value the weights nearly always add up to one; then dividing by them changes nothing, and each
        // mean waits for the one before it.
        let adds_up = decay + alpha == 1.0;
        let next_mean = |&value: &f64| {
            if !value.is_finite() {
                weight *= decay;
                return mean;
            }
            if mean.is_nan() {
                mean = value;
            } else {
                let sum = weight * mean + alpha * value;
                let next = if adds_up && weight == decay { sum } else { sum / (weight + alpha) };
                // A mean lies between what it is the mean of. Rounding does not know: it moves a constant series in
                // its last bits and carries the largest floats to infinity. All three are numbers here.
                let (least, greatest) = if mean < value { (mean, value) } else { (value, mean) };
                let raised = if next > least { next } else { least };
                mean = if raised < greatest { raised } else { greatest };
            }
            weight = decay;
            mean
        };
        let means = values.iter().map(next_mean).collect();
        (self.mean, self.weight) = (mean, weight);
        means
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The means, which are the same however the values are cut.
    fn ema(values: &[f64], window: WindowLength) -> Vec<f64> {
        let means = Ema::new(window).next(values);
        let mut in_singles = Ema::new(window);
        let singles = values.iter().flat_map(|&value| in_singles.next(&[value]));
        assert!(singles.map(f64::to_bits).eq(means.iter().map(|mean| mean.to_bits())));
        means
    }

    fn check(window: u32, values: &[f64], expected: &[f64]) {
        let means = ema(values, WindowLength::new(window).unwrap());
        assert_eq!(means.len(), expected.len());
        for (mean, expected) in means.iter().zip(expected) {
            let is_close = (mean - expected).abs() <= 1e-15 * expected.abs();
            assert!(is_close || (mean.is_nan() && expected.is_nan()), "{values:?}: {means:?}");
        }
    }

    #[test]
    fn it_starts_at_the_first_value() {
        check(3, &[2.0, 4.0, 8.0], &[2.0, 3.0, 5.5]);
        check(3, &[NULL, NULL, 2.0, 4.0], &[NULL, NULL, 2.0, 3.0]);
        check(3, &[], &[]);
        check(3, &[NULL, NULL], &[NULL, NULL]);
    }

    #[test]
    fn at_a_null_the_mean_is_repeated_and_its_weight_decays() {
        // alpha = 1/2. After one null the mean weighs 1/4, after two 1/8, and 1/2 again after a value.
        check(3, &[2.0, NULL, 8.0, 8.0], &[2.0, 2.0, 6.0, 7.0]);
        check(3, &[2.0, NULL, NULL, 12.0, 0.0], &[2.0, 2.0, 2.0, 10.0, 5.0]);
    }

    #[test]
    fn what_is_not_finite_counts_as_null() {
        for odd in [f64::INFINITY, f64::NEG_INFINITY] {
            check(3, &[odd, 2.0, odd, 8.0], &[NULL, 2.0, 2.0, 6.0]);
        }
    }

    #[test]
    fn a_span_of_one_is_the_value_itself() {
        check(1, &[3.0, NULL, -5.0, f64::INFINITY], &[3.0, 3.0, -5.0, -5.0]);
    }

    #[test]
    fn a_constant_stays_constant_and_the_largest_floats_stay_finite() {
        for value in [0.1, 1.0 / 3.0, f64::MAX, f64::MIN] {
            for window in 1..50 {
                let means = ema(&[value; 100], WindowLength::new(window).unwrap());
                assert!(means.iter().all(|&mean| mean == value), "{value} with a span of {window}");
            }
        }
        check(2, &[f64::MAX, f64::MIN], &[f64::MAX, -f64::MAX / 3.0]);
    }

    #[test]
    fn a_weight_that_decayed_to_nothing_forgets_the_mean() {
        let mut values = vec![1.0];
        values.extend(vec![NULL; 5_000]);
        values.push(7.0);
        let means = ema(&values, WindowLength::new(3).unwrap());
        assert_eq!((means[5_000], means[5_001]), (1.0, 7.0));
    }
}
