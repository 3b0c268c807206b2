//! What the protocol promises, each a property that is checked in every state that can be reached.

use stateright::{Model, Property};

use super::system::System;
use super::world::{Action, Answer, Budget, METRICS, RUNS, VERSIONS, Worker, World};

pub(crate) const NO_RUN_IS_LOST: &str = "an acknowledged message has its SUCCESS, its FAILURE, or a conflict";
pub(crate) const ONE_VERSION: &str = "a run commits one version";
pub(crate) const OWN_VERSION: &str = "a version belongs to one run";
pub(crate) const NOTHING_COMMITTED_CHANGES: &str = "a manifest or marker never changes";
pub(crate) const MANIFEST_DESCRIBES_DATA: &str = "a manifest describes the data under it";
pub(crate) const CURRENT_IS_MONOTONE: &str = "current never goes back";
pub(crate) const CURRENT_IS_COMMITTED: &str = "current names a committed version";
pub(crate) const MARKER_IS_BACKED: &str = "a marker has its manifest, its data, and a current no older";
pub(crate) const SUCCESS_IS_BACKED: &str = "a SUCCESS has its marker";
pub(crate) const SUCCESSES_ARE_EQUAL: &str = "every SUCCESS of a run is the same";
pub(crate) const GROUP_IN_ORDER: &str = "a group is settled in order, in ascending versions";
pub(crate) const CONFLICT_HAS_NO_EFFECT: &str = "a conflicting request changes and publishes nothing";
pub(crate) const FINISHED_STAYS_FINISHED: &str = "a finished run is not computed again";
pub(crate) const NO_FAILURE_AFTER_SUCCESS: &str = "no FAILURE follows a SUCCESS";
pub(crate) const CAN_FINISH: &str = "from everywhere everything can finish";

pub(crate) const EVERYTHING_FINISHES: &str = "everything finishes";
pub(crate) const TROUBLE_IS_SURVIVED: &str = "everything finishes although all that may go wrong went wrong";

impl Model for System {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.start()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.possible(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        self.after(world, action)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.store.claims.iter().all(|claim| claim.version() <= self.scenario.last_version)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NO_RUN_IS_LOST, no_run_is_lost),
            Property::always(ONE_VERSION, a_run_commits_one_version),
            Property::always(OWN_VERSION, a_version_belongs_to_one_run),
            Property::always(NOTHING_COMMITTED_CHANGES, |_, world: &World| !world.wrongs.committed_changed),
            Property::always(MANIFEST_DESCRIBES_DATA, a_manifest_describes_its_data),
            Property::always(CURRENT_IS_MONOTONE, |_, world: &World| !world.wrongs.current_went_back),
            Property::always(CURRENT_IS_COMMITTED, current_is_committed),
            Property::always(MARKER_IS_BACKED, a_marker_is_backed),
            Property::always(SUCCESS_IS_BACKED, a_success_is_backed),
            Property::always(SUCCESSES_ARE_EQUAL, |_, world: &World| !world.wrongs.successes_differ),
            Property::always(GROUP_IN_ORDER, a_group_is_in_order),
            Property::always(CONFLICT_HAS_NO_EFFECT, |_, world: &World| !world.wrongs.conflict_had_effect),
            Property::always(FINISHED_STAYS_FINISHED, |_, world: &World| !world.wrongs.finished_run_begun_again),
            Property::always(NO_FAILURE_AFTER_SUCCESS, |_, world: &World| !world.wrongs.failure_after_success),
            Property::always(CAN_FINISH, can_finish),
            Property::sometimes(EVERYTHING_FINISHES, is_finished),
            Property::sometimes(TROUBLE_IS_SURVIVED, |system, world: &World| {
                world.budget == Budget::default() && is_finished(system, world)
            }),
        ]
    }
}

/// Whether a message was dealt with: its event is published or it is a conflict in the dead-letter queue.
fn is_settled(system: &System, world: &World, message: usize) -> bool {
    let request = &system.scenario.requests[message];
    let events = &world.events[request.run];
    let has_success = events.success.is_some_and(|success| success.digest == request.digest);
    has_success || events.failure || world.dead & (1 << message) != 0
}

fn no_run_is_lost(system: &System, world: &World) -> bool {
    let requests = system.scenario.requests.iter().enumerate();
    requests.into_iter().all(|(message, request)| {
        let is_acknowledged = world.acknowledged & (1 << message) != 0;
        let is_dead = world.dead & (1 << message) != 0;
        let owner = world.store.markers[request.run].map(|marker| marker.digest);
        let is_conflict = owner.or(world.store.claims[request.run].digest()).is_some_and(|it| it != request.digest);
        (!is_acknowledged || is_settled(system, world, message)) && (!is_dead || is_conflict)
    })
}

fn a_run_commits_one_version(_: &System, world: &World) -> bool {
    (0..RUNS).all(|run| {
        let manifests = world.store.manifests.iter().flatten().flatten();
        manifests.filter(|manifest| usize::from(manifest.run) == run).count() <= 1
    })
}

fn a_version_belongs_to_one_run(system: &System, world: &World) -> bool {
    let requests = system.scenario.requests;
    let version_of = |run: usize| world.store.markers[run].map(|marker| marker.version);
    requests.iter().all(|one| {
        let others = requests.iter().filter(|other| other.metric == one.metric && other.run != one.run);
        version_of(one.run).is_none() || others.into_iter().all(|other| version_of(one.run) != version_of(other.run))
    })
}

fn a_manifest_describes_its_data(_: &System, world: &World) -> bool {
    (0..METRICS).all(|metric| {
        (0..VERSIONS).all(|version| {
            let manifest = world.store.manifests[metric][version];
            manifest.is_none_or(|manifest| world.store.data[metric][version] == Some(manifest.bytes))
        })
    })
}

fn current_is_committed(_: &System, world: &World) -> bool {
    (0..METRICS).all(|metric| {
        let version = usize::from(world.store.current[metric]);
        version == 0 || world.store.manifests[metric][version].is_some()
    })
}

fn a_marker_is_backed(system: &System, world: &World) -> bool {
    system.scenario.requests.iter().all(|request| {
        let Some(marker) = world.store.markers[request.run] else {
            return true;
        };
        let version = usize::from(marker.version);
        let manifest = world.store.manifests[request.metric][version];
        let is_own = manifest.is_some_and(|it| usize::from(it.run) == request.run && it.bytes == marker.bytes);
        let is_whole = world.store.data[request.metric][version] == Some(marker.bytes);
        is_own && is_whole && world.store.current[request.metric] >= marker.version
    })
}

fn a_success_is_backed(_: &System, world: &World) -> bool {
    (0..RUNS).all(|run| world.events[run].success.is_none() || world.events[run].success == world.store.markers[run])
}

fn a_group_is_in_order(system: &System, world: &World) -> bool {
    let requests = system.scenario.requests;
    requests.iter().enumerate().all(|(later, request)| {
        let earlier = requests[..later]
            .iter()
            .enumerate()
            .filter(|(_, earlier)| earlier.group == request.group && earlier.run != request.run);
        let has_success = world.events[request.run].success.is_some_and(|success| success.digest == request.digest);
        !has_success
            || earlier.into_iter().all(|(message, earlier)| {
                let version_of = |run: usize| world.store.markers[run].map_or(0, |marker| marker.version);
                let went_wrong = world.dead & (1 << message) != 0 || world.events[earlier.run].failure;
                let is_comparable = !went_wrong && earlier.metric == request.metric;
                let ascends = !is_comparable || version_of(earlier.run) < version_of(request.run);
                is_settled(system, world, message) && ascends
            })
    })
}

fn is_finished(system: &System, world: &World) -> bool {
    let requests = system.scenario.requests;
    (0..requests.len()).all(|message| {
        let is_acknowledged = world.acknowledged & (1 << message) != 0;
        is_acknowledged && is_settled(system, world, message)
    }) && world.workers.iter().all(Worker::is_idle)
}

/// Lets every worker run on alone, without further trouble, then receives what is left.
fn can_finish(system: &System, world: &World) -> bool {
    if !system.scenario.check_progress {
        return true;
    }
    const ENOUGH_STEPS: usize = 200;
    let mut now = *world;
    now.budget.failures = 0;
    for _ in 0..ENOUGH_STEPS {
        if is_finished(system, &now) {
            return true;
        }
        let action = if now.workers[0].is_idle() {
            let mut actions = Vec::new();
            system.possible(&now, &mut actions);
            actions.into_iter().find(|action| matches!(action, Action::Receive { .. }))
        } else {
            Some(Action::Step { worker: 0, choice: 0, answer: Answer::Arrives })
        };
        match action.and_then(|action| system.after(&now, action)) {
            Some(next) => now = next,
            None => return false,
        }
    }
    false
}
