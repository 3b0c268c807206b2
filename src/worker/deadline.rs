//! The function's deadline: when work must stop, and when the answer must leave.
//!
//! In Lambda it is known at the start of an invocation. A worker that polls may be told to end while a batch is in
//! hand: then a [`Stop`] brings the deadline forward.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The answer is on its way this long before the function's limit, for whatever the runtime still has to do.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);

/// The last part of the time is kept for giving back what is unfinished: failure events, dead letters, visibility.
const LARGEST_RESERVE: Duration = Duration::from_secs(5);

/// Until when an invocation may work.
#[derive(Debug, Clone)]
pub struct Deadline {
    limits: Limits,
    /// What may bring the limits forward.
    stop: Option<watch::Receiver<Limits>>,
}

/// Brings deadlines forward, once.
#[derive(Debug)]
pub struct Stop {
    limits: watch::Sender<Limits>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    /// When runs are cancelled. None: the limit is not known.
    work_until: Option<Instant>,
    /// When everything else is, too.
    answer_at: Option<Instant>,
}

impl Limits {
    const UNKNOWN: Self = Self { work_until: None, answer_at: None };

    /// The limit is so far away. Of what is left before the answer, a fifth, and at most 5 s, is kept for giving back.
    fn after(remaining: Duration) -> Self {
        let until_answer = remaining.saturating_sub(ANSWER_MARGIN);
        let reserve = (until_answer / 5).min(LARGEST_RESERVE);
        let now = Instant::now();
        Self { work_until: Some(now + (until_answer - reserve)), answer_at: Some(now + until_answer) }
    }

    fn earliest(self, other: Self) -> Self {
        let earliest = |one: Option<Instant>, other: Option<Instant>| one.into_iter().chain(other).min();
        Self {
            work_until: earliest(self.work_until, other.work_until),
            answer_at: earliest(self.answer_at, other.answer_at),
        }
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self { limits: watch::Sender::new(Limits::UNKNOWN) }
    }
}

impl Stop {
    /// Every deadline that looks at this stop is now at most so far away.
    pub fn within(&self, remaining: Duration) {
        self.limits.send_replace(Limits::after(remaining));
    }

    /// Waits until somebody has asked for a stop.
    pub async fn requested(&self) {
        // It fails only where the sender is gone, and the sender is here.
        let _ = self.limits.subscribe().wait_for(|limits| *limits != Limits::UNKNOWN).await;
    }
}

impl Deadline {
    /// No limit is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self { limits: Limits::UNKNOWN, stop: None }
    }

    /// The limit is so far away. Of what is left before the answer, a fifth, and at most 5 s, is kept for giving back.
    #[must_use]
    pub fn after(remaining: Duration) -> Self {
        Self { limits: Limits::after(remaining), stop: None }
    }

    /// The same deadline, or the stop's where that comes before, also while work is under way.
    #[must_use]
    pub fn or_stop(self, stop: &Stop) -> Self {
        Self { stop: Some(stop.limits.subscribe()), ..self }
    }

    /// From a Lambda context: milliseconds since the epoch. A local emulator sends a deadline of 1970, so one that has
    /// passed before the start is taken as unknown.
    #[must_use]
    pub fn from_unix_ms(deadline_ms: u64, now: jiff::Timestamp) -> Self {
        let now_ms = u64::try_from(now.as_millisecond()).unwrap_or(0);
        match deadline_ms.checked_sub(now_ms) {
            Some(remaining_ms) if remaining_ms > 0 => Self::after(Duration::from_millis(remaining_ms)),
            _ => Self::unknown(),
        }
    }

    /// The work's answer, or nothing when the time for work is up before.
    pub async fn work<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.until(|limits| limits.work_until, work).await
    }

    /// The answer, or nothing when the invocation's own answer is due before.
    pub async fn finish<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.until(|limits| limits.answer_at, work).await
    }

    /// The answer, or nothing when half of what is left before the invocation's own answer is over.
    pub async fn finish_by_half<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let now = Instant::now();
        let half = |limits: Limits| Some(now + limits.answer_at?.saturating_duration_since(now) / 2);
        self.until(half, work).await
    }

    async fn until<T>(&self, instant: impl Fn(Limits) -> Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.clone();
        let mut work = pin!(work);
        loop {
            let limits = stop.as_mut().map_or(self.limits, |stop| self.limits.earliest(*stop.borrow_and_update()));
            let limit = instant(limits);
            // A future that is ready at once would be answered even after the instant; after it, nothing may begin.
            if limit.is_some_and(|limit| Instant::now() >= limit) {
                return None;
            }
            tokio::select! {
                biased;
                answer = &mut work => return Some(answer),
                () = sleep_until(limit) => return None,
                () = changed(&mut stop) => {}
            }
        }
    }
}

async fn sleep_until(limit: Option<Instant>) {
    match limit {
        Some(limit) => tokio::time::sleep_until(limit).await,
        None => std::future::pending().await,
    }
}

/// Waits for the stop; for ever where there is none, or none any more.
async fn changed(stop: &mut Option<watch::Receiver<Limits>>) {
    if let Some(stop) = stop
        && stop.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_answer_leaves_before_any_limit() {
        for remaining_ms in [0, 1, 249, 500, 600, 1_000, 3_000, 30_000, 900_000] {
            let start = Instant::now();
            let deadline = Deadline::after(Duration::from_millis(remaining_ms));
            assert_eq!(deadline.work(std::future::pending::<()>()).await, None);
            assert_eq!(deadline.finish(std::future::pending::<()>()).await, None);
            let took = start.elapsed();
            assert!(took.as_millis() + 250 <= u128::from(remaining_ms).max(250), "{remaining_ms} ms: {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_of_1970_is_unknown() {
        let now = jiff::Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(Deadline::from_unix_ms(600_000, now).limits, Limits::UNKNOWN);
        assert_ne!(Deadline::from_unix_ms(1_700_000_060_000, now).limits, Limits::UNKNOWN);
        assert_eq!(Deadline::unknown().work(async { 1 }).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_brings_a_deadline_forward_while_work_is_under_way_and_never_back() {
        for (remaining_seconds, stopped_after_seconds, grace_seconds, expected_ms) in
            [(900, 10, 25, 10_000 + 19_600), (20, 10, 25, 15_600), (900, 900, 25, 894_500)]
        {
            let start = Instant::now();
            let stop = Stop::default();
            let deadline = Deadline::after(Duration::from_secs(remaining_seconds)).or_stop(&stop);
            let stopping = async {
                tokio::time::sleep(Duration::from_secs(stopped_after_seconds)).await;
                stop.within(Duration::from_secs(grace_seconds));
                std::future::pending::<()>().await
            };
            let work = deadline.work(std::future::pending::<()>());
            let answer = tokio::select! {
                () = stopping => Some(()),
                answer = work => answer,
            };
            assert_eq!((answer, start.elapsed().as_millis()), (None, expected_ms));
        }
    }
}
