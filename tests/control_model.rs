//! Concurrent updates and the locks that they take, searched exhaustively.
//!
//! In goes a scenario: transactions that each record an update of a dataset, and one metric that needs two datasets. Each
//! transaction takes its steps in order, and they interleave in every possible way; what is written is visible to others
//! after the commit, and a statement sees what was committed when it began. Out comes a proof that every ending is a right
//! one, or the steps that lead to a wrong one. Without any one of the guards there is such an ending, so each is needed.

use stateright::{Checker, Model, Property};

/// What keeps concurrent updates apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Guards {
    /// An update holds its dataset from before it is written until the commit.
    dataset_lock: bool,
    /// A decision about a metric is taken while the metric is held.
    metric_lock: bool,
    /// The decision looks with a statement of its own, after the lock was taken.
    fresh_look: bool,
}

const ALL: Guards = Guards { dataset_lock: true, metric_lock: true, fresh_look: true };

/// How far a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Step {
    LockDataset,
    Insert,
    LockMetric,
    Decide,
    Commit,
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Transaction {
    step: Step,
    /// The sequence of its update, when it is written.
    sequence: u8,
    /// What the statement that locks the metric saw: the committed transactions.
    seen: Vec<usize>,
    /// What it decided: the updates of a run, or that it waits.
    decided: Option<Decision>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Decision {
    /// Released with the newest update of each dataset; whether a waiting run was taken for it.
    Released([u8; 2], bool),
    /// A run waits that did not before.
    Waits,
    /// A run waits that waited before.
    StillWaits,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    transactions: Vec<Transaction>,
    next_sequence: u8,
    dataset_held_by: [Option<usize>; 2],
    metric_held_by: Option<usize>,
    /// Committed transactions in the order of their commits.
    committed: Vec<usize>,
}

/// The dataset, 0 or 1, of each transaction.
struct System {
    datasets: Vec<usize>,
    guards: Guards,
}

impl System {
    /// The newest update of each dataset among these transactions.
    fn newest(&self, state: &State, of: &[usize]) -> [u8; 2] {
        let newest = |dataset: usize| {
            let updates = of.iter().filter(|one| self.datasets[**one] == dataset);
            updates.map(|one| state.transactions[*one].sequence).max().unwrap_or(0)
        };
        [newest(0), newest(1)]
    }

    /// How many runs wait after these commits.
    fn waiting(state: &State, committed: &[usize]) -> i32 {
        let change = |one: &usize| match &state.transactions[*one].decided {
            Some(Decision::Waits) => 1,
            Some(Decision::Released(_, true)) => -1,
            _ => 0,
        };
        committed.iter().map(change).sum()
    }

    fn decide(&self, state: &State, number: usize) -> Decision {
        let seen = if self.guards.fresh_look { &state.committed } else { &state.transactions[number].seen };
        let waits = Self::waiting(state, seen) > 0;
        let mut visible = seen.clone();
        visible.push(number);
        let newest = self.newest(state, &visible);
        match newest.iter().all(|sequence| *sequence > 0) {
            true => Decision::Released(newest, waits),
            false if waits => Decision::StillWaits,
            false => Decision::Waits,
        }
    }

    fn is_over(state: &State) -> bool {
        state.transactions.iter().all(|one| one.step == Step::Done)
    }

    /// The runs in the order of their commits: from the first on, each goes one update further, in one dataset.
    fn releases_are_right(&self, state: &State) -> bool {
        let mut order: Vec<Vec<u8>> = vec![Vec::new(), Vec::new()];
        for one in &state.committed {
            order[self.datasets[*one]].push(state.transactions[*one].sequence);
        }
        let place = |dataset: usize, sequence: u8| order[dataset].iter().position(|one| *one == sequence);
        let runs = state.committed.iter().filter_map(|one| match &state.transactions[*one].decided {
            Some(Decision::Released(updates, _)) => Some([place(0, updates[0]), place(1, updates[1])]),
            _ => None,
        });
        let Some(runs) = runs.map(|[a, b]| Some([a?, b?])).collect::<Option<Vec<_>>>() else { return false };
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return order.iter().any(Vec::is_empty) };
        let is_one_step = |pair: &[[usize; 2]]| {
            let steps = [pair[1][0].checked_sub(pair[0][0]), pair[1][1].checked_sub(pair[0][1])];
            steps == [Some(0), Some(1)] || steps == [Some(1), Some(0)]
        };
        first.contains(&0)
            && runs.windows(2).all(is_one_step)
            && last.iter().zip(&order).all(|(place, order)| place + 1 == order.len())
    }
}

impl Model for System {
    type State = State;
    type Action = usize;

    fn init_states(&self) -> Vec<State> {
        let transaction = Transaction { step: Step::LockDataset, sequence: 0, seen: Vec::new(), decided: None };
        vec![State {
            transactions: vec![transaction; self.datasets.len()],
            next_sequence: 1,
            dataset_held_by: [None; 2],
            metric_held_by: None,
            committed: Vec::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<usize>) {
        for (number, transaction) in state.transactions.iter().enumerate() {
            let is_possible = match transaction.step {
                Step::LockDataset => {
                    !self.guards.dataset_lock || state.dataset_held_by[self.datasets[number]].is_none()
                }
                // The statement began before it got the lock: what it sees then is older.
                Step::LockMetric => {
                    !self.guards.metric_lock || state.metric_held_by.is_none() || !transaction.seen.contains(&number)
                }
                Step::Insert | Step::Decide | Step::Commit => true,
                Step::Done => false,
            };
            if is_possible {
                actions.push(number);
            }
        }
    }

    fn next_state(&self, before: &State, number: usize) -> Option<State> {
        let mut state = before.clone();
        let dataset = self.datasets[number];
        let next = match before.transactions[number].step {
            Step::LockDataset => {
                state.dataset_held_by[dataset] = self.guards.dataset_lock.then_some(number);
                Step::Insert
            }
            Step::Insert => {
                state.transactions[number].sequence = before.next_sequence;
                state.next_sequence += 1;
                Step::LockMetric
            }
            // First the statement begins and looks; its own number among what it saw marks that it did.
            Step::LockMetric if !before.transactions[number].seen.contains(&number) => {
                state.transactions[number].seen = before.committed.clone();
                state.transactions[number].seen.push(number);
                Step::LockMetric
            }
            Step::LockMetric => {
                state.metric_held_by = self.guards.metric_lock.then_some(number);
                state.transactions[number].seen.retain(|one| *one != number);
                Step::Decide
            }
            Step::Decide => {
                state.transactions[number].decided = Some(self.decide(before, number));
                Step::Commit
            }
            Step::Commit => {
                state.committed.push(number);
                if state.metric_held_by == Some(number) {
                    state.metric_held_by = None;
                }
                if state.dataset_held_by[dataset] == Some(number) {
                    state.dataset_held_by[dataset] = None;
                }
                Step::Done
            }
            Step::Done => return None,
        };
        state.transactions[number].step = next;
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("at most one run waits", |_, state: &State| Self::waiting(state, &state.committed) <= 1),
            Property::always("no run waits for ever", |system, state| {
                let newest = system.newest(state, &state.committed);
                let is_complete = newest.iter().all(|sequence| *sequence > 0);
                !(Self::is_over(state) && is_complete) || Self::waiting(state, &state.committed) == 0
            }),
            Property::always("every run is released once, with the right updates", |system, state| {
                !Self::is_over(state) || system.releases_are_right(state)
            }),
            Property::always("nobody waits for somebody who waits for them", |system, state| {
                let mut actions = Vec::new();
                system.actions(state, &mut actions);
                Self::is_over(state) || !actions.is_empty()
            }),
            Property::sometimes("all come to their end", |_, state| Self::is_over(state)),
        ]
    }
}

/// The promises that break.
fn broken(datasets: &[usize], guards: Guards) -> Vec<&'static str> {
    let checker = System { datasets: datasets.to_vec(), guards }.checker().spawn_bfs().join();
    assert!(checker.unique_state_count() > 50, "the search covers the interleavings");
    let mut found: Vec<_> = checker.discoveries().into_keys().collect();
    assert!(found.contains(&"all come to their end"));
    found.retain(|name| *name != "all come to their end");
    found.sort_unstable();
    found
}

#[test]
fn with_every_guard_no_interleaving_breaks_a_promise() {
    for datasets in [&[0, 1][..], &[0, 0, 1], &[0, 1, 0, 1]] {
        assert_eq!(broken(datasets, ALL), Vec::<&str>::new());
    }
}

#[test]
fn without_any_one_of_the_guards_a_promise_breaks() {
    let without_dataset_lock = broken(&[0, 0, 1], Guards { dataset_lock: false, ..ALL });
    assert!(without_dataset_lock.contains(&"every run is released once, with the right updates"));
    let without_metric_lock = broken(&[0, 1], Guards { metric_lock: false, ..ALL });
    assert!(without_metric_lock.contains(&"no run waits for ever"));
    let without_fresh_look = broken(&[0, 1], Guards { fresh_look: false, ..ALL });
    assert!(without_fresh_look.contains(&"no run waits for ever"));
}
