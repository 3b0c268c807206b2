//! The values of the model: the object store, the queue, the topic, the workers, and what may go wrong.
//!
//! Everything is a small copyable value, so that a state of the whole system is a few hundred bytes and the search
//! can visit all of them. Versions are small numbers: 0 is "none", 1 the first second.

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
