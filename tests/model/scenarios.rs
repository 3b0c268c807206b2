//! The pieces of the world that are searched to the end.
//!
//! Each is small enough to visit every state, and together they bring every pair of troubles that may meet: what
//! one run's attempts do to each other, what two runs of a metric do, and what the queue does.

use super::world::{Budget, Request, Scenario};

const fn request(run: usize, metric: usize, group: usize, digest: u8) -> Request {
    Request { run, metric, group, digest }
}

const NO_TROUBLE: Budget =
    Budget { crashes: 0, lost_answers: 0, refusals: 0, expiries: 0, redrives: 0, sweeps: 0, failures: 0 };

/// Two runs of one metric in the same second, in groups of their own, with equal or different bytes.
pub(crate) const SAME_SECOND: Scenario = Scenario {
    name: "two runs of a metric in the same second",
    requests: &[request(0, 0, 0, 0), request(1, 0, 1, 0)],
    workers: 2,
    batches: false,
    seconds: &[1, 2],
    bytes: 2,
    budget: Budget { crashes: 1, lost_answers: 1, refusals: 1, ..NO_TROUBLE },
    last_version: 5,
    patient_redrive: false,
    check_progress: true,
};

/// One run that three workers attempt at once, with equal or different bytes.
pub(crate) const SEVERAL_HANDS: Scenario = Scenario {
    name: "one run in three hands",
    requests: &[request(0, 0, 0, 0)],
    workers: 3,
    batches: false,
    seconds: &[1],
    bytes: 2,
    budget: Budget { lost_answers: 1, expiries: 2, ..NO_TROUBLE },
    last_version: 3,
    patient_redrive: false,
    check_progress: false,
};

/// Two attempts of one run beside another run of its metric.
pub(crate) const CROSSED: Scenario = Scenario {
    name: "one run in two hands beside another of its metric",
    requests: &[request(0, 0, 0, 0), request(1, 0, 1, 0)],
    workers: 3,
    batches: false,
    seconds: &[1],
    bytes: 2,
    budget: Budget { expiries: 1, ..NO_TROUBLE },
    last_version: 4,
    patient_redrive: false,
    check_progress: false,
};

/// A request for the same run that asks for something else, a message that arrives again, a claim that is removed
/// once its run is finished.
pub(crate) const CONFLICT: Scenario = Scenario {
    name: "a conflicting request and a redrive",
    requests: &[request(0, 0, 0, 0), request(0, 0, 1, 1)],
    workers: 2,
    batches: false,
    seconds: &[1],
    bytes: 2,
    budget: Budget { crashes: 1, redrives: 1, sweeps: 1, expiries: 1, ..NO_TROUBLE },
    last_version: 4,
    patient_redrive: false,
    check_progress: true,
};

/// A group of two runs of a metric and a run of another metric, received one by one or in batches.
pub(crate) const BATCHES: Scenario = Scenario {
    name: "a group in batches beside another metric",
    requests: &[request(0, 0, 0, 0), request(1, 0, 0, 0), request(2, 1, 1, 0)],
    workers: 2,
    batches: true,
    seconds: &[1, 2],
    bytes: 1,
    budget: Budget { crashes: 1, expiries: 1, ..NO_TROUBLE },
    last_version: 5,
    patient_redrive: false,
    check_progress: false,
};

/// Attempts of one run, one of which fails for good.
pub(crate) const FAILURE: Scenario = Scenario {
    name: "an attempt that fails for good",
    requests: &[request(0, 0, 0, 0)],
    workers: 2,
    batches: false,
    seconds: &[1],
    bytes: 2,
    budget: Budget { lost_answers: 1, expiries: 2, redrives: 1, failures: 1, ..NO_TROUBLE },
    last_version: 4,
    patient_redrive: true,
    check_progress: true,
};
