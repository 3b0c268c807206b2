//! An expression tree in; a list of steps, operands before their users, out: a tree may hold one sub-expression many
//! times, the list holds it once, so it is evaluated once. Running the list needs no recursion and keeps no result
//! longer than its last user needs it.

use std::collections::{BTreeMap, HashMap};

use super::{Calendar, Error, arithmetic, composite, ema, window};
use crate::expression::{CompositeOp, Expr, MathOp, NullPolicy, WindowLength, WindowOp};
use crate::ids::SeriesCode;
use crate::series::Series;

/// The index of a step in its program.
type StepIndex = usize;

/// One operation. Two steps are equal when they do the same to the same operands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Step {
    Input(SeriesCode),
    /// `scale_bits`: the bits of the scale, so that steps can be hashed.
    Math {
        op: MathOp,
        left: StepIndex,
        right: StepIndex,
        scale_bits: u64,
    },
    Window {
        op: WindowOp,
        series: StepIndex,
        window: WindowLength,
    },
    Composite {
        op: CompositeOp,
        operands: Vec<StepIndex>,
        nulls: NullPolicy,
    },
}

/// The steps of an expression.
///
/// Invariants: no two steps are equal; a step's operands come before it; the last step is the expression itself.
#[derive(Debug)]
pub(super) struct Program {
    steps: Vec<Step>,
}

impl Program {
    /// The steps of `expr`. The depth of the recursion is that of the tree, which its parser limits.
    pub(super) fn compile(expr: &Expr) -> Self {
        let mut compiler = Compiler::default();
        compiler.step_of(expr);
        Self { steps: compiler.steps }
    }

    /// Runs the steps in order. `observe` sees the results that are held after each step, empty where there is none.
    pub(super) fn run(
        &self,
        mut series: BTreeMap<SeriesCode, Series>,
        calendar: &Calendar,
        mut observe: impl FnMut(&[Series]),
    ) -> Result<Series, Error> {
        let mut remaining_uses = self.use_counts();
        let mut results: Vec<Series> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let result = match step {
                Step::Input(code) => {
                    series.remove(code).ok_or_else(|| Error::MissingSeries { series_code: code.clone() })?
                }
                _ => step.apply(&results, calendar)?,
            };
            for operand in step.operands() {
                remaining_uses[operand] -= 1;
                if remaining_uses[operand] == 0 {
                    results[operand] = Series::empty();
                }
            }
            results.push(result);
            observe(&results);
        }
        Ok(results.pop().unwrap_or_else(Series::empty))
    }

    fn use_counts(&self) -> Vec<usize> {
        let mut use_counts = vec![0; self.steps.len()];
        for operand in self.steps.iter().flat_map(Step::operands) {
            use_counts[operand] += 1;
        }
        use_counts
    }
}

#[derive(Default)]
struct Compiler {
    steps: Vec<Step>,
    known: HashMap<Step, StepIndex>,
}

impl Compiler {
    fn step_of(&mut self, expr: &Expr) -> StepIndex {
        let step = match expr {
            Expr::Series(code) => Step::Input(code.clone()),
            Expr::Math { op, left, right, scale } => Step::Math {
                op: *op,
                left: self.step_of(left),
                right: self.step_of(right),
                scale_bits: scale.to_bits(),
            },
            Expr::Window { op, series, window } => {
                Step::Window { op: *op, series: self.step_of(series), window: *window }
            }
            Expr::Composite { op, operands, nulls } => Step::Composite {
                op: *op,
                operands: operands.iter().map(|operand| self.step_of(operand)).collect(),
                nulls: *nulls,
            },
        };
        if let Some(&index) = self.known.get(&step) {
            return index;
        }
        let index = self.steps.len();
        self.known.insert(step.clone(), index);
        self.steps.push(step);
        index
    }
}

impl Step {
    fn operands(&self) -> Vec<StepIndex> {
        match self {
            Self::Input(_) => Vec::new(),
            Self::Math { left, right, .. } => vec![*left, *right],
            Self::Window { series, .. } => vec![*series],
            Self::Composite { operands, .. } => operands.clone(),
        }
    }

    /// The result of the step; `results` holds those of its operands.
    fn apply(&self, results: &[Series], calendar: &Calendar) -> Result<Series, Error> {
        match self {
            Self::Input(code) => Err(Error::MissingSeries { series_code: code.clone() }),
            Self::Math { op, left, right, scale_bits } => {
                Ok(arithmetic::series_math(*op, &results[*left], &results[*right], f64::from_bits(*scale_bits))?)
            }
            Self::Window { op, series, window } => {
                let operand = &results[*series];
                let values = match op {
                    WindowOp::Sma => window::sma(operand.values(), *window),
                    WindowOp::Ema => ema::ema(operand.values(), *window),
                    WindowOp::Sum => window::sum(operand.values(), *window),
                    WindowOp::Max => window::max(operand.values(), *window),
                    WindowOp::Min => window::min(operand.values(), *window),
                    WindowOp::Lag => calendar.lag(operand, *window),
                };
                Ok(operand.with_values(values)?)
            }
            Self::Composite { op, operands, nulls } => {
                let operands: Vec<&Series> = operands.iter().map(|&operand| &results[operand]).collect();
                Ok(composite::composite(*op, &operands, *nulls)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::expression::Limits;

    fn parse(json: &Value) -> Expr {
        Expr::parse(json, &Limits::default()).unwrap()
    }

    fn a() -> Value {
        json!({ "series_code": "A" })
    }

    fn one_series() -> BTreeMap<SeriesCode, Series> {
        BTreeMap::from([(SeriesCode::parse("A").unwrap(), Series::new(vec![1, 2], vec![3.0, 5.0]).unwrap())])
    }

    /// The last value of the expression over A = 3, 5; how many steps ran; the most results held at once.
    fn observed(json: &Value) -> (f64, usize, usize) {
        let mut evaluations = 0;
        let mut most_held = 0;
        let observe = |results: &[Series]| {
            evaluations += 1;
            most_held = most_held.max(results.iter().filter(|result| !result.is_empty()).count());
        };
        let series = Program::compile(&parse(json)).run(one_series(), &Calendar::utc(), observe).unwrap();
        (series.values()[1], evaluations, most_held)
    }

    #[test]
    fn equal_sub_expressions_are_evaluated_once() {
        let sum = json!({ "op": "sum", "series": a(), "window": 2 });
        let both = json!({ "op": "add", "left": sum, "right": sum });
        let all = json!({ "op": "sum", "operands": [both, both, sum] });
        // A, sum, both, all; after `both`, only `sum` is still needed beside it.
        assert_eq!(observed(&all), (40.0, 4, 2));
    }

    #[test]
    fn a_tree_that_doubles_at_each_level_takes_one_step_a_level() {
        let mut tree = a();
        for _ in 0..12 {
            tree = json!({ "op": "add", "left": tree, "right": tree });
        }
        // A result and the one operand it is made of are all that is ever held.
        assert_eq!(observed(&tree), (5.0 * 4096.0, 13, 1));
    }

    #[test]
    fn steps_that_differ_in_any_part_are_told_apart() {
        let add = |scale: f64| json!({ "op": "add", "left": a(), "right": a(), "scale": scale });
        let sum = |window: u32| json!({ "op": "sum", "series": a(), "window": window });
        let pair = |nulls: &str| json!({ "op": "sum", "operands": [a(), a()], "nulls": nulls });
        let operands = [add(1.0), add(2.0), sum(1), sum(2), pair("skip"), pair("propagate")];
        let (_, evaluations, _) = observed(&json!({ "op": "max", "operands": operands }));
        assert_eq!(evaluations, 8);
    }

    #[test]
    fn results_are_dropped_after_their_last_use() {
        let mut chain = a();
        for window in 1..=20 {
            chain = json!({ "op": "max", "series": chain, "window": window % 2 + 1 });
        }
        let (_, evaluations, most_held) = observed(&chain);
        assert_eq!((evaluations, most_held), (21, 1));
    }

    #[test]
    fn a_missing_series_is_named() {
        let expr = parse(&json!({ "op": "add", "left": a(), "right": { "series_code": "B" } }));
        let error = super::super::evaluate(&expr, one_series(), &Calendar::utc()).unwrap_err();
        assert_eq!(error.to_string(), "no series B among the series read");
    }

    #[test]
    fn what_keeps_the_timeline_shares_it() {
        let series = one_series();
        let input = series.values().next().unwrap().clone();
        for op in ["sma", "ema", "sum", "max", "min", "lag"] {
            let expr = parse(&json!({ "op": op, "series": a(), "window": 1 }));
            let result = super::super::evaluate(&expr, series.clone(), &Calendar::utc()).unwrap();
            assert!(std::ptr::eq(result.times(), input.times()), "{op}");
        }
        let result = super::super::evaluate(&parse(&a()), series, &Calendar::utc()).unwrap();
        assert_eq!(result, input);
        assert!(std::ptr::eq(result.times(), input.times()));
    }
}
