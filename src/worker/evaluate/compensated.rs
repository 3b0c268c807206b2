//! Sums that keep what rounding takes away: values in, their sum or mean out, right to the last bit or two however
//! large the values are beside the result.
//!
//! A plain running sum loses the small beside the large: `1e16 + 1 - 1e16` is 0. Here each addition's rounding error,
//! which is itself a float, is kept and added at the end (A. Neumaier, "Rundungsfehleranalyse einiger Verfahren zur
//! Summation endlicher Summen", ZAMM 54, 1974; the error term by D. Knuth's branch-free `TwoSum`, TAOCP 2, 4.2.2).

/// Sums near the largest float are redone with all values multiplied by this power of two, which is exact.
pub(super) const DOWNSCALE: f64 = 1.0 / UPSCALE;

/// Takes [`DOWNSCALE`] back. 2^64 leaves room for the sum of 2^64 values.
pub(super) const UPSCALE: f64 = 18_446_744_073_709_551_616.0;

/// A sum of values, or of other such sums.
///
/// `sum` is what plain IEEE 754 addition gives, so infinities are right without being looked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CompensatedSum {
    sum: f64,
    lost: f64,
}

impl CompensatedSum {
    /// The sum of nothing.
    pub(super) const EMPTY: Self = Self { sum: 0.0, lost: 0.0 };

    /// The sum of one value.
    #[inline]
    pub(super) fn of(value: f64) -> Self {
        Self { sum: value, lost: 0.0 }
    }

    /// This sum and one more value.
    #[inline]
    pub(super) fn plus(self, value: f64) -> Self {
        let (sum, lost) = two_sum(self.sum, value);
        Self { sum, lost: self.lost + lost }
    }

    /// The sum of both sums.
    #[inline]
    pub(super) fn combine(self, other: Self) -> Self {
        let (sum, lost) = two_sum(self.sum, other.sum);
        Self { sum, lost: lost + (self.lost + other.lost) }
    }

    /// The sum, rounded once. Not finite where a value was not, or where a partial sum overflowed.
    #[inline]
    pub(super) fn total(self) -> f64 {
        // Beyond an infinity the error terms are NaN and mean nothing; before it they are finite.
        if self.sum.abs() < f64::INFINITY { self.sum + self.lost } else { self.sum }
    }

    /// The sum divided by `count`, a whole number below 2^26, with the remainder of the division carried: the mean of
    /// equal values is that value.
    #[inline]
    pub(super) fn mean(self, count: f64) -> f64 {
        /// Clears the low 27 bits of a float: what is left has 26, and times a `count` below 2^26 it is exact.
        const HIGH_BITS: u64 = !((1 << 27) - 1);
        // Beyond an infinity the error terms are NaN and mean nothing.
        let is_finite = self.sum.abs() < f64::INFINITY;
        let (rounded, low) = two_sum(self.sum, self.lost);
        let high = if is_finite { rounded } else { self.sum };
        let quotient = high / count;
        let coarse = f64::from_bits(quotient.to_bits() & HIGH_BITS);
        let fine = quotient - coarse;
        let remainder = ((high - coarse * count) - fine * count) + low;
        // The remainder is far below the quotient: what the reciprocal's rounding takes from it is nothing beside the sum.
        let mean = quotient + remainder * (1.0 / count);
        if mean.abs() < f64::INFINITY { mean } else { quotient }
    }
}

/// `a + b` rounded, and exactly what the rounding took away.
#[inline]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_rounded = sum - a;
    let a_rounded = sum - b_rounded;
    (sum, (a - a_rounded) + (b - b_rounded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of(values: &[f64]) -> CompensatedSum {
        values.iter().fold(CompensatedSum::EMPTY, |sum, &value| sum.plus(value))
    }

    #[test]
    fn the_small_beside_the_large_is_kept() {
        assert_eq!(sum_of(&[1e16, 1.0, -1e16]).total(), 1.0);
        assert_eq!(sum_of(&[1.0, 1e100, 1.0, -1e100]).total(), 2.0);
        assert_eq!(sum_of(&[0.1; 10]).total(), 1.0);
    }

    #[test]
    fn sums_of_sums_keep_it_too() {
        let left = sum_of(&[1e16, 1.0]);
        let right = sum_of(&[1.0, -1e16]);
        assert_eq!(left.combine(right).total(), 2.0);
        assert_eq!(CompensatedSum::EMPTY.combine(left).total(), left.total());
    }

    #[test]
    fn the_mean_of_equal_values_is_that_value() {
        for value in [0.1, 1.0 / 3.0, -123.456, 1e-300, 1e300, 5e-324] {
            for count in [1_u32, 2, 3, 7, 10, 49, 1000] {
                let mean = sum_of(&vec![value; count as usize]).mean(f64::from(count));
                assert_eq!(mean, value, "{count} times {value}");
            }
        }
    }

    #[test]
    fn infinities_are_those_of_ieee_754() {
        assert_eq!(sum_of(&[1.0, f64::INFINITY, 2.0]).total(), f64::INFINITY);
        assert_eq!(sum_of(&[f64::NEG_INFINITY, f64::NEG_INFINITY]).total(), f64::NEG_INFINITY);
        assert!(sum_of(&[f64::INFINITY, 1.0, f64::NEG_INFINITY]).total().is_nan());
        assert_eq!(sum_of(&[1.0, f64::INFINITY]).mean(2.0), f64::INFINITY);
        assert_eq!(sum_of(&[f64::MAX, f64::MAX]).total(), f64::INFINITY);
    }
}
