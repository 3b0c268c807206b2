//! What may happen around the workers: the queue delivers, a worker dies, an answer is lost, a timeout expires.
//!
//! The queue is FIFO: while a message of a group is in flight, no other message of the group is delivered; a batch
//! is acknowledged as a whole when it ends, as the function's answer does.

use super::guards::{Guard, Guards};
use super::world::{Action, Answer, Claim, Events, METRICS, Phase, RUNS, Request, Scenario, Store};
use super::world::{VERSIONS, WORKERS, Worker, World, Wrongs};

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
