//! The statuses of a run and the ways between them: the same state machine that the database checks. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It waits for an update of every dataset that it needs. A metric has at most one such run.
    PendingDependencies,
    /// It is released, and its request waits in the outbox.
    Queued,
    /// A relay took its request to publish it.
    Dispatched,
    /// A worker works on it.
    Running,
    /// Its version is committed. Nothing comes after it.
    Succeeded,
    /// A worker gave it up. A redrive may still succeed.
    Failed,
    /// Nothing was heard of it for too long. It may still come to an end.
    TimedOut,
    /// Nobody wants it any more. Nothing comes after it.
    Canceled,
}

impl RunStatus {
    /// All statuses, in the order of a run's life.
    pub const ALL: [Self; 8] = [
        Self::PendingDependencies,
        Self::Queued,
        Self::Dispatched,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Canceled,
    ];

    /// The status in the database and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PendingDependencies => "pending_dependencies",
            Self::Queued => "queued",
            Self::Dispatched => "dispatched",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Canceled => "canceled",
        }
    }

    /// The status with that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether a run may begin so.
    #[must_use]
    pub fn may_begin(self) -> bool {
        matches!(self, Self::PendingDependencies | Self::Queued)
    }

    /// Whether a run may go from here to there. Feedback comes through separate queues, so a run may end before it
    /// starts; a redriven run may succeed after it failed.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::PendingDependencies => matches!(next, Self::Queued | Self::TimedOut | Self::Canceled),
            Self::Queued => matches!(next, Self::Dispatched | Self::TimedOut | Self::Canceled),
            Self::Dispatched => {
                matches!(next, Self::Running | Self::Succeeded | Self::Failed | Self::TimedOut | Self::Canceled)
            }
            Self::Running => matches!(next, Self::Succeeded | Self::Failed | Self::TimedOut | Self::Canceled),
            Self::Failed => matches!(next, Self::Succeeded),
            Self::TimedOut => matches!(next, Self::Succeeded | Self::Failed),
            Self::Succeeded | Self::Canceled => false,
        }
    }

    /// Whether the run is over, as far as anybody knows.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::TimedOut | Self::Canceled)
    }
}

/// A status that the database holds and this program does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no status of a run")]
pub struct UnknownStatus(pub String);

impl TryFrom<String> for RunStatus {
    type Error = UnknownStatus;
    fn try_from(name: String) -> Result<Self, UnknownStatus> {
        Self::parse(&name).ok_or(UnknownStatus(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_on_the_wire_as_it_does_in_the_code() {
        for status in RunStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
            assert_eq!(RunStatus::parse(status.as_str()), Some(status));
        }
    }

    #[test]
    fn nothing_leaves_success_and_a_canceled_run_stays_canceled() {
        for next in RunStatus::ALL {
            assert!(!RunStatus::Succeeded.may_become(next), "{next:?}");
            assert!(!RunStatus::Canceled.may_become(next), "{next:?}");
        }
    }

    #[test]
    fn every_unfinished_run_can_be_canceled_and_time_out() {
        for status in RunStatus::ALL {
            assert_eq!(status.may_become(RunStatus::Canceled), !status.is_terminal(), "{status:?}");
            assert_eq!(status.may_become(RunStatus::TimedOut), !status.is_terminal(), "{status:?}");
        }
    }
}
