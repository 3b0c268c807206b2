//! An expression tree in; a list of steps, operands before their users, out: a tree may hold one sub-expression many
//! times, the list holds it once, so it is evaluated once. Running the list needs no recursion and keeps no result
//! longer than its last user needs it.
//!
//! Series come whole or in slices, one after the other in time. Every operator gives a result for the times of its
//! operands and no others, and looks back, never ahead: so the slices of the operands up to some time give the slice of
//! the result up to that time, and all that a step has to remember is its window.

use std::collections::{BTreeMap, HashMap};

use super::calendar::Lag;
use super::ema::Ema;
use super::window::{self, Greatest, Least, Mean, Total, Window};
use super::{Calendar, Error, arithmetic, composite};
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

    fn use_counts(&self) -> Vec<usize> {
        let mut use_counts = vec![0; self.steps.len()];
        for operand in self.steps.iter().flat_map(Step::operands) {
            use_counts[*operand] += 1;
        }
        use_counts
    }
}

/// A program being run over series that come in slices.
#[derive(Debug)]
pub(super) struct Running {
    program: Program,
    /// How often the result of each step is used.
    use_counts: Vec<usize>,
    /// What each step remembers of the slices before.
    memories: Vec<Memory>,
}

/// What a step remembers from one slice to the next.
#[derive(Debug)]
enum Memory {
    Nothing,
    Sma(Window<Mean>),
    Sum(Window<Total>),
    Max(Window<Greatest>),
    Min(Window<Least>),
    Ema(Ema),
    Lag(Lag),
}

impl Running {
    /// Before the first slice.
    pub(super) fn new(program: Program, calendar: &Calendar) -> Self {
        let memories = program.steps.iter().map(|step| Memory::of(step, calendar)).collect();
        Self { use_counts: program.use_counts(), program, memories }
    }

    /// The codes of the series that the program runs over.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &SeriesCode> {
        self.program.steps.iter().filter_map(|step| match step {
            Step::Input(code) => Some(code),
            _ => None,
        })
    }

    /// Runs the steps in order over the next slice of every series. `observe` sees the results that are held after each
    /// step, empty where there is none.
    pub(super) fn next(
        &mut self,
        mut slices: BTreeMap<SeriesCode, Series>,
        mut observe: impl FnMut(&[Series]),
    ) -> Result<Series, Error> {
        let mut remaining_uses = self.use_counts.clone();
        let mut results: Vec<Series> = Vec::with_capacity(self.program.steps.len());
        for (step, memory) in self.program.steps.iter().zip(&mut self.memories) {
            let result = match step {
                Step::Input(code) => {
                    slices.remove(code).ok_or_else(|| Error::MissingSeries { series_code: code.clone() })?
                }
                _ => step.apply(memory, &results)?,
            };
            for operand in step.operands() {
                remaining_uses[*operand] -= 1;
                if remaining_uses[*operand] == 0 {
                    results[*operand] = Series::empty();
                }
            }
            results.push(result);
            observe(&results);
        }
        Ok(results.pop().unwrap_or_else(Series::empty))
    }
}

impl Memory {
    fn of(step: &Step, calendar: &Calendar) -> Self {
        let Step::Window { op, window, .. } = step else { return Self::Nothing };
        match op {
            WindowOp::Sma => Self::Sma(window::sma(*window)),
            WindowOp::Ema => Self::Ema(Ema::new(*window)),
            WindowOp::Sum => Self::Sum(window::sum(*window)),
            WindowOp::Max => Self::Max(window::max(*window)),
            WindowOp::Min => Self::Min(window::min(*window)),
            WindowOp::Lag => Self::Lag(Lag::new(calendar, *window)),
        }
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
    fn operands(&self) -> impl Iterator<Item = &StepIndex> {
        let (pair, many): ([Option<&StepIndex>; 2], &[StepIndex]) = match self {
            Self::Input(_) => ([None, None], &[]),
            Self::Math { left, right, .. } => ([Some(left), Some(right)], &[]),
            Self::Window { series, .. } => ([Some(series), None], &[]),
            Self::Composite { operands, .. } => ([None, None], operands),
        };
        pair.into_iter().flatten().chain(many)
    }

    /// The next slice of the step's result; `results` holds those of its operands.
    fn apply(&self, memory: &mut Memory, results: &[Series]) -> Result<Series, Error> {
        match self {
            Self::Input(code) => Err(Error::MissingSeries { series_code: code.clone() }),
            Self::Math { op, left, right, scale_bits } => {
                Ok(arithmetic::series_math(*op, &results[*left], &results[*right], f64::from_bits(*scale_bits))?)
            }
            Self::Window { series, .. } => {
                let operand = &results[*series];
                let values = match memory {
                    Memory::Nothing => operand.values().to_vec(),
                    Memory::Sma(window) => window.next(operand.values()),
                    Memory::Sum(window) => window.next(operand.values()),
                    Memory::Max(window) => window.next(operand.values()),
                    Memory::Min(window) => window.next(operand.values()),
                    Memory::Ema(ema) => ema.next(operand.values()),
                    Memory::Lag(lag) => lag.next(operand),
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
        let mut running = Running::new(Program::compile(&parse(json)), &Calendar::utc());
        let series = running.next(one_series(), observe).unwrap();
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
