//! The commit protocol: what a worker does next, one request at a time.
//!
//! A step is one request to the store, the topic or the queue. Reading an object that never changes once it is there
//! is one step with the conditional put that found it there.

use super::guards::Guard;
use super::system::System;
use super::world::{Claim, Manifest, Marker, Phase, VERSIONS, Version, Worker, World};

impl System {
    /// The order of effects. The guards on it exchange two neighbours.
    fn order(&self) -> Vec<Phase> {
        let mut order = vec![
            Phase::PutData,
            Phase::Seal,
            Phase::PutManifest,
            Phase::GetCurrent,
            Phase::PutMarker,
            Phase::PublishSuccess,
        ];
        let exchanged = [
            (Guard::DataBeforeSeal, 0),
            (Guard::ManifestBeforeCurrent, 2),
            (Guard::CurrentBeforeMarker, 3),
            (Guard::MarkerBeforeSuccess, 4),
        ];
        for (_, first) in exchanged.into_iter().filter(|(guard, _)| !self.guards.has(*guard)) {
            order.swap(first, first + 1);
        }
        order.retain(|phase| *phase != Phase::Seal || self.guards.has(Guard::Seal));
        order
    }

    /// Goes on to the effect that follows the one just made.
    fn advance(&self, next: &mut World, index: usize, made: Phase) {
        let order = self.order();
        let position = order.iter().position(|phase| *phase == made);
        match position.and_then(|position| order.get(position + 1)) {
            Some(phase) => {
                next.workers[index].phase = *phase;
                if *phase == Phase::PublishSuccess {
                    self.before_success(next, index);
                }
            }
            None => self.finish_record(next, index),
        }
    }

    fn before_success(&self, next: &mut World, index: usize) {
        let worker = &mut next.workers[index];
        if self.guards.has(Guard::MarkerBeforeSuccess) {
            (worker.claim, worker.version, worker.bytes) = (Claim::Absent, 0, None);
        }
        if !self.guards.has(Guard::PublishBeforeAcknowledge) {
            next.acknowledged |= 1 << worker.message;
        }
    }

    fn finish_record(&self, next: &mut World, index: usize) {
        let worker = &mut next.workers[index];
        worker.finished |= 1 << worker.message;
        self.next_record(next, index);
    }

    /// In how many ways the next step may turn out, by what the worker cannot foresee.
    pub(crate) fn choices(&self, world: &World, worker: &Worker) -> u8 {
        match worker.phase {
            Phase::GetCurrentForVersion => self.scenario.seconds.len().try_into().unwrap_or(1),
            Phase::PutData | Phase::Seal => self.outcomes(worker) + u8::from(world.budget.failures > 0),
            Phase::Acknowledge if worker.stale => 2,
            _ => 1,
        }
    }

    /// How many outcomes computing may have here. The choice after the last one is to fail for good.
    fn outcomes(&self, worker: &Worker) -> u8 {
        if self.computes(worker) { self.scenario.bytes } else { 1 }
    }

    /// Whether the worker has nothing to write yet and must compute it.
    fn computes(&self, worker: &Worker) -> bool {
        let is_decided = matches!(worker.claim, Claim::Sealed { .. }) && self.guards.has(Guard::SealedIsFinished);
        worker.bytes.is_none() && !is_decided
    }

    /// The worker's next request takes effect and is answered.
    pub(crate) fn step(&self, next: &mut World, index: usize, choice: u8) {
        let before = *next;
        let Worker { message, phase, .. } = next.workers[index];
        let may_fail = matches!(phase, Phase::PutData | Phase::Seal);
        if may_fail && choice == self.outcomes(&next.workers[index]) {
            next.budget.failures -= 1;
            next.workers[index].phase = Phase::Fail;
            return;
        }
        self.make_request(next, index, choice);
        let request = self.request(message);
        let marker_digest = before.store.markers[request.run].map(|marker| marker.digest);
        let owner = marker_digest.or(before.store.claims[request.run].digest());
        let has_effect = before.store != next.store || before.events != next.events;
        if has_effect && owner.is_some_and(|digest| digest != request.digest) {
            next.wrongs.conflict_had_effect = true;
        }
    }

    fn make_request(&self, next: &mut World, index: usize, choice: u8) {
        match next.workers[index].phase {
            Phase::Idle => {}
            Phase::GetMarker => self.get_marker(next, index),
            Phase::GetCurrentForVersion => self.get_current_for_version(next, index, choice),
            Phase::PutClaim => self.put_claim(next, index),
            Phase::GetClaim => self.get_claim(next, index),
            Phase::PutData => self.put_data(next, index, choice),
            Phase::Seal => self.seal(next, index, choice),
            Phase::PutManifest => self.put_manifest(next, index),
            Phase::Move => self.move_to_fresh_version(next, index),
            Phase::GetCurrent => self.get_current(next, index),
            Phase::PutCurrent => self.put_current(next, index),
            Phase::PutMarker => self.put_marker(next, index),
            Phase::PublishSuccess => self.publish_success(next, index),
            Phase::Fail => self.fail(next, index),
            Phase::Reopen => self.reopen(next, index),
            Phase::PublishFailure => self.publish_failure(next, index),
            Phase::DeadLetter => {
                next.dead |= 1 << next.workers[index].message;
                self.finish_record(next, index);
            }
            Phase::Acknowledge => {
                // A receipt handle that has expired may or may not still delete.
                if choice == 0 {
                    next.acknowledged |= next.workers[index].finished;
                }
                next.workers[index] = Worker::IDLE;
            }
        }
    }

    fn get_marker(&self, next: &mut World, index: usize) {
        let request = self.request(next.workers[index].message);
        let Some(marker) = next.store.markers[request.run] else {
            next.workers[index].phase = Phase::GetCurrentForVersion;
            return;
        };
        if marker.digest != request.digest && self.guards.has(Guard::MarkerDigest) {
            next.workers[index].phase = Phase::DeadLetter;
            return;
        }
        next.workers[index].marker = Some(marker);
        next.workers[index].phase = Phase::PublishSuccess;
        self.before_success(next, index);
    }

    fn get_current_for_version(&self, next: &mut World, index: usize, choice: u8) {
        let request = self.request(next.workers[index].message);
        let now = self.scenario.seconds[usize::from(choice)];
        let above =
            if self.guards.has(Guard::VersionAboveCurrent) { next.store.current[request.metric] + 1 } else { 1 };
        next.workers[index].version = now.max(above);
        next.workers[index].phase = Phase::PutClaim;
    }

    fn put_claim(&self, next: &mut World, index: usize) {
        let worker = &mut next.workers[index];
        let request = self.request(worker.message);
        let claim = &mut next.store.claims[request.run];
        if *claim == Claim::Absent || !self.guards.has(Guard::ClaimIfAbsent) {
            *claim = Claim::Open { version: worker.version, digest: request.digest };
            worker.claim = *claim;
            worker.phase = self.order()[0];
        } else {
            worker.phase = Phase::GetClaim;
        }
        worker.version = 0;
    }

    fn get_claim(&self, next: &mut World, index: usize) {
        let message_id = self.message_id(next, index);
        let worker = &mut next.workers[index];
        let request = self.request(worker.message);
        let claim = next.store.claims[request.run];
        let is_conflict = claim.digest().is_some_and(|digest| digest != request.digest);
        worker.claim = claim;
        worker.phase = match claim {
            _ if is_conflict && self.guards.has(Guard::ClaimDigest) => Phase::DeadLetter,
            Claim::Absent => Phase::GetCurrentForVersion,
            Claim::Open { .. } => self.order()[0],
            Claim::Sealed { .. } if !self.guards.has(Guard::SealedIsFinished) => self.order()[0],
            Claim::Sealed { .. } => {
                worker.bytes = None;
                Phase::PutManifest
            }
            Claim::Failed { message, .. }
                if message == message_id && self.guards.has(Guard::FailureIsFinalForMessage) =>
            {
                Phase::PublishFailure
            }
            Claim::Failed { .. } => Phase::Reopen,
        };
    }

    /// What tells one delivery of a message from its redrive.
    fn message_id(&self, world: &World, index: usize) -> u8 {
        let message = world.workers[index].message;
        message | ((world.redriven >> message & 1) << 3)
    }

    fn put_data(&self, next: &mut World, index: usize, choice: u8) {
        let worker = &mut next.workers[index];
        let request = self.request(worker.message);
        if self.computes(worker) {
            next.wrongs.finished_run_begun_again |= worker.late;
            worker.bytes = Some(choice);
        }
        let own = Self::bytes_of(worker);
        let data = &mut next.store.data[request.metric][usize::from(worker.claim.version())];
        let is_other = data.is_some() && *data != own;
        if data.is_none() || !self.guards.has(Guard::DataIfAbsent) {
            *data = own;
        } else if is_other && self.guards.has(Guard::DataCompared) {
            worker.phase = Phase::Move;
            return;
        }
        self.advance(next, index, Phase::PutData);
    }

    /// What the attempt writes: what it computed, or what the claim it finishes was sealed with.
    fn bytes_of(worker: &Worker) -> Option<u8> {
        match worker.claim {
            Claim::Sealed { bytes, .. } => worker.bytes.or(Some(bytes)),
            _ => worker.bytes,
        }
    }

    fn seal(&self, next: &mut World, index: usize, choice: u8) {
        let worker = &mut next.workers[index];
        let request = self.request(worker.message);
        let bytes = Self::bytes_of(worker).unwrap_or(choice);
        let version = worker.claim.version();
        let claim = &mut next.store.claims[request.run];
        if *claim == worker.claim || !self.guards.has(Guard::SealIfMatch) {
            *claim = Claim::Sealed { version, digest: request.digest, bytes };
            worker.claim = *claim;
            worker.bytes = None;
            self.advance(next, index, Phase::Seal);
        } else {
            worker.bytes = Some(bytes);
            worker.phase = Phase::GetClaim;
        }
    }

    fn put_manifest(&self, next: &mut World, index: usize) {
        let worker = &mut next.workers[index];
        let request = self.request(worker.message);
        let own = Manifest { run: narrow(request.run), bytes: Self::bytes_of(worker).unwrap_or(0) };
        let manifest = &mut next.store.manifests[request.metric][usize::from(worker.claim.version())];
        match manifest {
            Some(there) if self.guards.has(Guard::ManifestIfAbsent) => {
                if there.run != own.run && self.guards.has(Guard::ManifestCompared) {
                    worker.phase = Phase::Move;
                    return;
                }
            }
            _ => {
                next.wrongs.committed_changed |= manifest.is_some_and(|there| there != own);
                *manifest = Some(own);
            }
        }
        self.advance(next, index, Phase::PutManifest);
    }

    fn move_to_fresh_version(&self, next: &mut World, index: usize) {
        let worker = &mut next.workers[index];
        let request = self.request(worker.message);
        let version: Version = worker.claim.version() + 1;
        if usize::from(version) >= VERSIONS {
            *worker = Worker::IDLE;
            return;
        }
        let claim = &mut next.store.claims[request.run];
        if *claim == worker.claim || !self.guards.has(Guard::MoveIfMatch) {
            *claim = Claim::Open { version, digest: request.digest };
            worker.claim = *claim;
            worker.phase = self.order()[0];
        } else {
            worker.phase = Phase::GetClaim;
        }
    }

    fn get_current(&self, next: &mut World, index: usize) {
        let worker = &mut next.workers[index];
        let seen = next.store.current[self.request(worker.message).metric];
        let own = worker.claim.version();
        let is_behind = if self.guards.has(Guard::CurrentForwardOnly) { seen < own } else { seen != own };
        if is_behind {
            worker.version = seen;
            worker.phase = Phase::PutCurrent;
        } else {
            self.advance(next, index, Phase::GetCurrent);
        }
    }

    fn put_current(&self, next: &mut World, index: usize) {
        let worker = &mut next.workers[index];
        let current = &mut next.store.current[self.request(worker.message).metric];
        let is_as_seen = *current == worker.version;
        worker.version = 0;
        if !is_as_seen && self.guards.has(Guard::CurrentIfMatch) {
            worker.phase = Phase::GetCurrent;
            return;
        }
        next.wrongs.current_went_back |= worker.claim.version() < *current;
        *current = worker.claim.version();
        self.advance(next, index, Phase::GetCurrent);
    }

    fn put_marker(&self, next: &mut World, index: usize) {
        let worker = &mut next.workers[index];
        let request = self.request(worker.message);
        let own = Self::marker_of(worker, request.digest);
        let marker = &mut next.store.markers[request.run];
        if marker.is_none() || !self.guards.has(Guard::MarkerIfAbsent) {
            next.wrongs.committed_changed |= marker.is_some_and(|there| there != own);
            *marker = Some(own);
        }
        worker.marker = if self.guards.has(Guard::SuccessFromStoredMarker) { *marker } else { Some(own) };
        self.advance(next, index, Phase::PutMarker);
    }

    fn marker_of(worker: &Worker, digest: u8) -> Marker {
        Marker { version: worker.claim.version(), bytes: Self::bytes_of(worker).unwrap_or(0), digest }
    }

    fn publish_success(&self, next: &mut World, index: usize) {
        let worker = &next.workers[index];
        let request = self.request(worker.message);
        let success = worker.marker.unwrap_or_else(|| Self::marker_of(worker, request.digest));
        let was_found = worker.marker.is_some();
        let events = &mut next.events[request.run];
        match events.success {
            None => events.success = Some(success),
            Some(earlier) => next.wrongs.successes_differ |= earlier != success,
        }
        next.wrongs.conflict_had_effect |= success.digest != request.digest;
        if was_found { self.finish_record(next, index) } else { self.advance(next, index, Phase::PublishSuccess) }
    }

    fn fail(&self, next: &mut World, index: usize) {
        let message_id = self.message_id(next, index);
        let worker = &mut next.workers[index];
        let request = self.request(worker.message);
        let claim = &mut next.store.claims[request.run];
        worker.bytes = None;
        if !self.guards.has(Guard::FailureThroughClaim) {
            worker.phase = Phase::PublishFailure;
        } else if *claim == worker.claim && matches!(claim, Claim::Open { .. }) {
            *claim = Claim::Failed { version: claim.version(), digest: request.digest, message: message_id };
            worker.claim = *claim;
            worker.phase = Phase::PublishFailure;
        } else {
            worker.phase = Phase::GetClaim;
        }
    }

    fn reopen(&self, next: &mut World, index: usize) {
        let worker = &mut next.workers[index];
        let request = self.request(worker.message);
        let claim = &mut next.store.claims[request.run];
        if *claim == worker.claim {
            *claim = Claim::Open { version: claim.version(), digest: request.digest };
            worker.claim = *claim;
            worker.phase = self.order()[0];
        } else {
            worker.phase = Phase::GetClaim;
        }
    }

    fn publish_failure(&self, next: &mut World, index: usize) {
        let request = self.request(next.workers[index].message);
        let events = &mut next.events[request.run];
        next.wrongs.failure_after_success |= events.success.is_some();
        events.failure = true;
        self.finish_record(next, index);
    }

    /// A conditional request is refused without effect: read again and decide anew.
    pub(crate) fn refused(worker: &mut Worker) {
        match worker.phase {
            Phase::Seal | Phase::Move => worker.phase = Phase::GetClaim,
            Phase::PutCurrent => (worker.phase, worker.version) = (Phase::GetCurrent, 0),
            _ => {}
        }
    }
}

fn narrow(index: usize) -> u8 {
    index.try_into().unwrap_or(u8::MAX)
}
