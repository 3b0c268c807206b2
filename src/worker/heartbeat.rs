//! Heartbeats: a run at work in, its progress published at intervals, the run's own answer out.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{Either, select};
use tokio::sync::oneshot;

/// How far a run is, from 0 to 1. It never falls.
#[derive(Debug, Default)]
pub struct Progress(AtomicU64);

/// The progress at which each step ends, by its usual share of a run's time.
pub mod share {
    /// The datasets are resolved and the reads planned.
    pub const PLANNED: f64 = 0.05;
    /// All objects are read.
    pub const READ: f64 = 0.75;
    /// The expression is evaluated and the files are encoded.
    pub const EVALUATED: f64 = 0.85;
    /// The data is written.
    pub const WRITTEN: f64 = 0.95;
    /// The run is marked as done.
    pub const MARKED: f64 = 1.0;
}

impl Progress {
    /// Raises the progress to `fraction`, if that is further.
    pub fn advance(&self, fraction: f64) {
        // The bit patterns of non-negative floats are ordered as the floats are.
        self.0.fetch_max(fraction.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
    }

    /// The progress.
    #[must_use]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Whether the run was seen marked as done.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.get() >= share::MARKED
    }
}

/// A heartbeat that is under way when its run is done is on the topic within milliseconds. One that takes longer is
/// not answered at all, and a finished run does not wait for it.
const LAST_BEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `work`, and `beat` with the numbers 1, 2, … once each interval while it runs. A heartbeat that is under way when
/// the work ends is waited for, within limits, so that none is published after the answer.
pub async fn during<T: Send, B: Future<Output = ()> + Send>(
    interval: Option<Duration>,
    beat: impl Fn(u64) -> B + Send + Sync,
    work: impl Future<Output = T> + Send,
) -> T {
    let Some(interval) = interval else { return work.await };
    let (ended, end) = oneshot::channel::<()>();
    let work = async {
        let answer = work.await;
        drop(ended);
        answer
    };
    let beats = async {
        let mut end = pin!(end);
        let mut sequence = 0;
        loop {
            tokio::select! {
                biased;
                _ = &mut end => return,
                () = tokio::time::sleep(interval) => {}
            }
            sequence += 1;
            beat(sequence).await;
        }
    };
    match select(pin!(work), pin!(beats)).await {
        Either::Left((answer, beats)) => {
            if tokio::time::timeout(LAST_BEAT_TIMEOUT, beats).await.is_err() {
                tracing::warn!("a heartbeat was not answered when its run was done");
            }
            answer
        }
        // The beats end when the work has, which is ready by now.
        Either::Right(((), work)) => work.await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn progress_never_falls() {
        let progress = Progress::default();
        for (fraction, expected) in [(0.0, 0.0), (0.5, 0.5), (0.2, 0.5), (f64::INFINITY, 1.0), (0.9, 1.0)] {
            progress.advance(fraction);
            assert!((progress.get() - expected).abs() < f64::EPSILON, "{fraction}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn beats_come_while_the_work_runs_and_none_after() {
        let log = Mutex::new(Vec::new());
        let beat = |sequence| {
            let log = &log;
            async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                log.lock().unwrap().push(format!("beat {sequence}"));
            }
        };
        let work = async {
            tokio::time::sleep(Duration::from_secs(25)).await;
            log.lock().unwrap().push("work".to_owned());
            "answer"
        };
        assert_eq!(during(Some(Duration::from_secs(10)), beat, work).await, "answer");
        log.lock().unwrap().push("completed".to_owned());
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(*log.lock().unwrap(), ["beat 1", "beat 2", "work", "completed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_under_way_is_waited_for() {
        let log = Mutex::new(Vec::new());
        let beat = |sequence| {
            let log = &log;
            async move {
                tokio::time::sleep(Duration::from_secs(4)).await;
                log.lock().unwrap().push(sequence);
            }
        };
        during(Some(Duration::from_secs(10)), beat, tokio::time::sleep(Duration::from_secs(11))).await;
        assert_eq!(*log.lock().unwrap(), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_that_is_never_answered_does_not_hold_a_finished_run() {
        let start = tokio::time::Instant::now();
        let work = tokio::time::sleep(Duration::from_secs(45));
        during(Some(Duration::from_secs(10)), |_| std::future::pending(), work).await;
        assert_eq!(start.elapsed(), Duration::from_secs(45) + LAST_BEAT_TIMEOUT);
    }
}
