//! The world around the workers: the object store, the queue, the topic, and what may go wrong.
//!
//! Everything is a small copyable value, so that a state of the whole system is a few hundred bytes and the search
//! can visit all of them. Versions are small numbers: 0 is "none", 1 the first second.

use super::guards::{Guard, Guards};

pub(crate) const RUNS: usize = 3;
pub(crate) const METRICS: usize = 2;
pub(crate) const WORKERS: usize = 3;
/// Versions 1 to 9; the search is bounded well below, the rest is room to finish from the border.
pub(crate) const VERSIONS: usize = 10;

pub(crate) type Version = u8;

/// The digest of what an attempt computed. Inputs are live: an attempt may compute either.
pub(crate) type Bytes = u8;

/// One message of the queue: a request for a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) run: usize,
    pub(crate) metric: usize,
    pub(crate) group: usize,
    pub(crate) digest: u8,
}

/// A bounded piece of the world that is searched to the end.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// In the order of the queue.
    pub(crate) requests: &'static [Request],
    pub(crate) workers: usize,
    /// Whether a worker may receive several records of a group at once.
    pub(crate) batches: bool,
    /// The seconds a clock may show; clocks of two workers need not agree, nor advance.
    pub(crate) seconds: &'static [Version],
    /// How many different bytes an attempt may compute.
    pub(crate) bytes: u8,
    pub(crate) budget: Budget,
    /// States in which a claim is beyond this version are not explored further.
    pub(crate) last_version: Version,
    /// Whether a message is sent again only after every worker that had it is gone.
    pub(crate) patient_redrive: bool,
    /// Whether it is checked from every state that everything can still finish.
    pub(crate) check_progress: bool,
}

/// How often each thing may still go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Budget {
    /// A worker dies, or gives its records back.
    pub(crate) crashes: u8,
    /// A request takes effect and its answer is lost.
    pub(crate) lost_answers: u8,
    /// A conditional request is answered with 409 and has no effect.
    pub(crate) refusals: u8,
    /// A visibility timeout expires while the worker runs on.
    pub(crate) expiries: u8,
    /// An acknowledged message arrives again.
    pub(crate) redrives: u8,
    /// A finished run's claim is removed by a lifecycle rule.
    pub(crate) sweeps: u8,
    /// An attempt fails for good.
    pub(crate) failures: u8,
}

/// The object `runs/<runId>.claim`. Its entity tag is its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Claim {
    Absent,
    /// The version is the run's; nothing is decided yet.
    Open {
        version: Version,
        digest: u8,
    },
    /// The data under the version is complete: this manifest and no other may be committed.
    Sealed {
        version: Version,
        digest: u8,
        bytes: Bytes,
    },
    /// The run failed for this delivery of this message.
    Failed {
        version: Version,
        digest: u8,
        message: u8,
    },
}

impl Claim {
    pub(crate) fn version(self) -> Version {
        match self {
            Self::Absent => 0,
            Self::Open { version, .. } | Self::Sealed { version, .. } | Self::Failed { version, .. } => version,
        }
    }

    pub(crate) fn digest(self) -> Option<u8> {
        match self {
            Self::Absent => None,
            Self::Open { digest, .. } | Self::Sealed { digest, .. } | Self::Failed { digest, .. } => Some(digest),
        }
    }
}

/// The object `<version>/manifest.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Manifest {
    pub(crate) run: u8,
    pub(crate) bytes: Bytes,
}

/// The object `runs/<runId>.ok`, and the SUCCESS that is built from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Marker {
    pub(crate) version: Version,
    pub(crate) bytes: Bytes,
    pub(crate) digest: u8,
}

/// The object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) claims: [Claim; RUNS],
    pub(crate) markers: [Option<Marker>; RUNS],
    pub(crate) data: [[Option<Bytes>; VERSIONS]; METRICS],
    pub(crate) manifests: [[Option<Manifest>; VERSIONS]; METRICS],
    pub(crate) current: [Version; METRICS],
}

/// What was published for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Events {
    pub(crate) success: Option<Marker>,
    pub(crate) failure: bool,
}

/// What a state alone cannot show: something that happened on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Wrongs {
    pub(crate) current_went_back: bool,
    pub(crate) committed_changed: bool,
    pub(crate) successes_differ: bool,
    pub(crate) failure_after_success: bool,
    pub(crate) conflict_had_effect: bool,
    pub(crate) finished_run_begun_again: bool,
}

/// Where a worker is: the request it makes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    Idle,
    GetMarker,
    GetCurrentForVersion,
    PutClaim,
    GetClaim,
    PutData,
    Seal,
    PutManifest,
    Move,
    GetCurrent,
    PutCurrent,
    PutMarker,
    PublishSuccess,
    Fail,
    Reopen,
    PublishFailure,
    DeadLetter,
    Acknowledge,
}

/// One worker and its attempt. What a later step does not need is forgotten, so that equal futures are equal states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Worker {
    pub(crate) phase: Phase,
    pub(crate) message: u8,
    /// Later records of the batch, a bit for each message.
    pub(crate) later: u8,
    /// Records of the batch to be acknowledged when it ends.
    pub(crate) finished: u8,
    /// The claim as this attempt knows it: its entity tag.
    pub(crate) claim: Claim,
    /// The version this attempt would claim, or the version of `current` that it saw.
    pub(crate) version: Version,
    pub(crate) bytes: Option<Bytes>,
    pub(crate) marker: Option<Marker>,
    /// Whether the visibility timeout has expired.
    pub(crate) stale: bool,
    /// Whether the run was finished when this attempt began.
    pub(crate) late: bool,
}

impl Worker {
    pub(crate) const IDLE: Self = Self {
        phase: Phase::Idle,
        message: 0,
        later: 0,
        finished: 0,
        claim: Claim::Absent,
        version: 0,
        bytes: None,
        marker: None,
        stale: false,
        late: false,
    };

    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Whether the message is in this worker's batch.
    pub(crate) fn holds(&self, message: usize) -> bool {
        let held = self.later | self.finished | (1 << self.message);
        !self.is_idle() && held & (1 << message) != 0
    }
}

/// A state of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) events: [Events; RUNS],
    /// Messages deleted from the queue, a bit for each.
    pub(crate) acknowledged: u8,
    /// Messages sent to the dead-letter queue.
    pub(crate) dead: u8,
    /// Messages that were sent again: a redrive gives a message a new id.
    pub(crate) redriven: u8,
    pub(crate) workers: [Worker; WORKERS],
    pub(crate) budget: Budget,
    pub(crate) wrongs: Wrongs,
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A worker receives the first message of a group, or with `whole` every one that is left.
    Receive { group: usize, whole: bool },
    /// A worker makes its next request. `choice` settles what the worker cannot foresee: the clock, the inputs.
    Step { worker: usize, choice: u8, answer: Answer },
    /// A worker dies.
    Crash { worker: usize },
    /// A worker gives its records back to the queue because a request keeps failing.
    GiveBack { worker: usize },
    /// The visibility timeout of a worker's batch expires; the worker runs on.
    Expire { worker: usize },
    /// An acknowledged message arrives again.
    Redrive { message: usize },
    /// A lifecycle rule removes a finished run's claim.
    Sweep { run: usize },
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Arrives,
    IsLost,
    Refused,
}

/// The system to search: a scenario under a set of guards.
#[derive(Debug, Clone)]
pub(crate) struct System {
    pub(crate) scenario: Scenario,
    pub(crate) guards: Guards,
}

impl System {
    pub(crate) fn start(&self) -> World {
        World {
            store: Store {
                claims: [Claim::Absent; RUNS],
                markers: [None; RUNS],
                data: [[None; VERSIONS]; METRICS],
                manifests: [[None; VERSIONS]; METRICS],
                current: [0; METRICS],
            },
            events: [Events::default(); RUNS],
            acknowledged: 0,
            dead: 0,
            redriven: 0,
            workers: [Worker::IDLE; WORKERS],
            budget: self.scenario.budget,
            wrongs: Wrongs::default(),
        }
    }

    pub(crate) fn request(&self, message: u8) -> &Request {
        &self.scenario.requests[usize::from(message)]
    }

    /// What may happen next in this world.
    pub(crate) fn possible(&self, world: &World, actions: &mut Vec<Action>) {
        for (worker, attempt) in world.workers.iter().enumerate().filter(|(_, attempt)| !attempt.is_idle()) {
            // Two workers in equal states have equal futures.
            if worker > 0 && world.workers[worker - 1] == *attempt {
                continue;
            }
            for choice in 0..self.choices(world, attempt) {
                actions.push(Action::Step { worker, choice, answer: Answer::Arrives });
                if world.budget.lost_answers > 0 {
                    actions.push(Action::Step { worker, choice, answer: Answer::IsLost });
                }
            }
            if world.budget.refusals > 0 && matches!(attempt.phase, Phase::Seal | Phase::Move | Phase::PutCurrent) {
                actions.push(Action::Step { worker, choice: 0, answer: Answer::Refused });
            }
            if world.budget.crashes > 0 {
                actions.push(Action::Crash { worker });
                let gives_rest_back = self.guards.has(Guard::LaterRecordsReturned);
                if !gives_rest_back && attempt.later != 0 {
                    actions.push(Action::GiveBack { worker });
                }
            }
            if world.budget.expiries > 0 && !attempt.stale {
                actions.push(Action::Expire { worker });
            }
        }
        self.possible_around(world, actions);
    }

    fn possible_around(&self, world: &World, actions: &mut Vec<Action>) {
        let has_idle_worker = world.workers[..self.scenario.workers].iter().any(Worker::is_idle);
        for group in 0..RUNS {
            let left = self.left_of_group(world, group);
            if left == 0 || !has_idle_worker || self.is_in_flight(world, group) {
                continue;
            }
            actions.push(Action::Receive { group, whole: false });
            if self.scenario.batches && left.count_ones() > 1 {
                actions.push(Action::Receive { group, whole: true });
            }
        }
        for message in 0..self.scenario.requests.len() {
            let is_busy = world.workers.iter().any(|worker| worker.holds(message));
            let may_redrive = world.budget.redrives > 0 && !(self.scenario.patient_redrive && is_busy);
            if may_redrive && world.acknowledged & (1 << message) != 0 && world.redriven & (1 << message) == 0 {
                actions.push(Action::Redrive { message });
            }
        }
        for run in 0..RUNS {
            let is_finished = world.store.markers[run].is_some() && world.store.claims[run] != Claim::Absent;
            let is_busy = world.workers.iter().any(|worker| self.works_on(worker, run));
            if world.budget.sweeps > 0 && is_finished && !is_busy {
                actions.push(Action::Sweep { run });
            }
        }
    }

    fn works_on(&self, worker: &Worker, run: usize) -> bool {
        let requests = self.scenario.requests.iter().enumerate();
        requests.into_iter().any(|(message, request)| request.run == run && worker.holds(message))
    }

    /// The messages of a group that are not acknowledged.
    fn left_of_group(&self, world: &World, group: usize) -> u8 {
        let requests = self.scenario.requests.iter().enumerate();
        requests
            .filter(|(message, request)| request.group == group && world.acknowledged & (1 << message) == 0)
            .fold(0, |left, (message, _)| left | (1 << message))
    }

    /// Whether the queue holds the group back: one of its messages is in flight.
    fn is_in_flight(&self, world: &World, group: usize) -> bool {
        let mut busy = world.workers.iter().filter(|worker| !worker.is_idle() && !worker.stale);
        busy.any(|worker| self.request(worker.message).group == group)
    }

    /// The world after an action; nothing if the action changes nothing.
    pub(crate) fn after(&self, world: &World, action: Action) -> Option<World> {
        let mut next = *world;
        match action {
            Action::Receive { group, whole } => self.receive(&mut next, group, whole),
            Action::Step { worker, choice, answer } => match answer {
                Answer::Arrives => self.step(&mut next, worker, choice),
                Answer::IsLost => {
                    self.step(&mut next, worker, choice);
                    if next.store == world.store && next.events == world.events {
                        return None;
                    }
                    next.budget.lost_answers -= 1;
                    // The worker knows what it computed, and not that the request took effect.
                    let bytes = next.workers[worker].bytes.or(world.workers[worker].bytes);
                    next.workers[worker] = Worker { bytes, ..world.workers[worker] };
                }
                Answer::Refused => {
                    next.budget.refusals -= 1;
                    Self::refused(&mut next.workers[worker]);
                }
            },
            Action::Crash { worker } => {
                next.budget.crashes -= 1;
                next.workers[worker] = Worker::IDLE;
            }
            Action::GiveBack { worker } => {
                next.budget.crashes -= 1;
                self.next_record(&mut next, worker);
            }
            Action::Expire { worker } => {
                next.budget.expiries -= 1;
                next.workers[worker].stale = true;
            }
            Action::Redrive { message } => {
                next.budget.redrives -= 1;
                next.acknowledged &= !(1 << message);
                next.redriven |= 1 << message;
            }
            Action::Sweep { run } => {
                next.budget.sweeps -= 1;
                next.store.claims[run] = Claim::Absent;
            }
        }
        // Workers are interchangeable: one order stands for all.
        next.workers.sort_unstable();
        next.workers.reverse();
        (next != *world).then_some(next)
    }

    fn receive(&self, next: &mut World, group: usize, whole: bool) {
        let left = self.left_of_group(next, group);
        let first = left.trailing_zeros().try_into().unwrap_or(0_u8);
        let later = if whole { left & !(1 << first) } else { 0 };
        let Some(worker) = next.workers[..self.scenario.workers].iter().position(Worker::is_idle) else {
            return;
        };
        next.workers[worker] = Worker { later, ..self.begun(next, first, Worker::IDLE) };
    }

    fn begun(&self, world: &World, message: u8, worker: Worker) -> Worker {
        let late = world.store.markers[self.request(message).run].is_some();
        let phase = if self.guards.has(Guard::MarkerFirst) { Phase::GetMarker } else { Phase::GetCurrentForVersion };
        let Worker { later, finished, stale, .. } = worker;
        Worker { phase, message, later, finished, stale, late, ..Worker::IDLE }
    }

    /// Goes on to the next record of the batch, or to its end.
    pub(crate) fn next_record(&self, next: &mut World, index: usize) {
        let worker = next.workers[index];
        if worker.later != 0 {
            let message = worker.later.trailing_zeros().try_into().unwrap_or(0_u8);
            let rest = Worker { later: worker.later & !(1 << message), ..worker };
            next.workers[index] = self.begun(next, message, rest);
        } else if worker.finished != 0 {
            let Worker { message, finished, stale, .. } = worker;
            next.workers[index] = Worker { phase: Phase::Acknowledge, message, finished, stale, ..Worker::IDLE };
        } else {
            next.workers[index] = Worker::IDLE;
        }
    }
}
