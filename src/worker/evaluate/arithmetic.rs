//! `series_math`: two series in, one value for each time that either has out.

use super::align::outer_join;
use crate::expression::MathOp;
use crate::series::{Error, Series};

/// `(left op right) · scale` at each time that either operand has. IEEE 754 throughout: null with anything is null,
/// a ratio by zero is infinite, and what has no value, such as 0 ÷ 0, is null.
pub(super) fn series_math(op: MathOp, left: &Series, right: &Series, scale: f64) -> Result<Series, Error> {
    match op {
        MathOp::Add => scaled_join(left, right, scale, |left, right| left + right),
        MathOp::Subtract => scaled_join(left, right, scale, |left, right| left - right),
        MathOp::Multiply => scaled_join(left, right, scale, |left, right| left * right),
        MathOp::Ratio => scaled_join(left, right, scale, |left, right| left / right),
    }
}

fn scaled_join(left: &Series, right: &Series, scale: f64, combine: impl Fn(f64, f64) -> f64) -> Result<Series, Error> {
    if scale == 1.0 {
        return outer_join(left, right, combine);
    }
    outer_join(left, right, |left, right| combine(left, right) * scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::NULL;

    const INF: f64 = f64::INFINITY;

    fn check(op: MathOp, scale: f64, operands: (f64, f64), expected: f64) {
        let one = |value| Series::new(vec![7], vec![value]).unwrap();
        let result = series_math(op, &one(operands.0), &one(operands.1), scale).unwrap();
        assert_eq!(result, one(expected), "{op:?} of {operands:?} times {scale}");
    }

    #[test]
    fn the_four_operators() {
        check(MathOp::Add, 1.0, (6.0, 3.0), 9.0);
        check(MathOp::Subtract, 1.0, (6.0, 3.0), 3.0);
        check(MathOp::Multiply, 1.0, (6.0, 3.0), 18.0);
        check(MathOp::Ratio, 1.0, (6.0, 3.0), 2.0);
    }

    #[test]
    fn null_with_anything_is_null() {
        for op in [MathOp::Add, MathOp::Subtract, MathOp::Multiply, MathOp::Ratio] {
            for other in [0.0, 1.0, INF, -INF, NULL] {
                check(op, 1.0, (NULL, other), NULL);
                check(op, 0.0, (other, NULL), NULL);
            }
        }
    }

    #[test]
    fn a_ratio_by_zero_is_that_of_ieee_754() {
        check(MathOp::Ratio, 1.0, (1.0, 0.0), INF);
        check(MathOp::Ratio, 1.0, (-1.0, 0.0), -INF);
        check(MathOp::Ratio, 1.0, (1.0, -0.0), -INF);
        check(MathOp::Ratio, 1.0, (0.0, 0.0), NULL);
        check(MathOp::Ratio, 1.0, (1.0, INF), 0.0);
    }

    #[test]
    fn what_has_no_value_is_null() {
        check(MathOp::Subtract, 1.0, (INF, INF), NULL);
        check(MathOp::Add, 1.0, (INF, -INF), NULL);
        check(MathOp::Multiply, 1.0, (INF, 0.0), NULL);
        check(MathOp::Ratio, 1.0, (INF, INF), NULL);
        check(MathOp::Ratio, 0.0, (1.0, 0.0), NULL);
    }

    #[test]
    fn scale_multiplies_the_result() {
        check(MathOp::Ratio, 100.0, (1.0, 4.0), 25.0);
        check(MathOp::Add, 0.0, (1.0, 4.0), 0.0);
        check(MathOp::Subtract, -2.5, (1.0, 4.0), 7.5);
        check(MathOp::Multiply, 2.0, (1e308, 1.0), INF);
    }

    #[test]
    fn an_operand_with_other_times_is_joined() {
        let left = Series::new(vec![-2, 0, 2], vec![1.0, 2.0, 3.0]).unwrap();
        let right = Series::new(vec![0, 1], vec![10.0, 20.0]).unwrap();
        let result = series_math(MathOp::Multiply, &left, &right, 0.5).unwrap();
        assert_eq!(result, Series::new(vec![-2, 0, 1, 2], vec![NULL, 10.0, NULL, NULL]).unwrap());
    }
}
