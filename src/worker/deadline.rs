//! The function's deadline: when work must stop, and when the answer must leave.

use std::time::Duration;

use tokio::time::Instant;

/// The answer is on its way this long before the function's limit, for whatever the runtime still has to do.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);

/// The last part of the time is kept for giving back what is unfinished: failure events, dead letters, visibility.
const LARGEST_RESERVE: Duration = Duration::from_secs(5);

/// Until when an invocation may work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// When runs are cancelled. None: the limit is not known.
    work_until: Option<Instant>,
    /// When everything else is, too.
    answer_at: Option<Instant>,
}

impl Deadline {
    /// No limit is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self { work_until: None, answer_at: None }
    }

    /// The limit is so far away. Of what is left before the answer, a fifth, and at most 5 s, is kept for giving back.
    #[must_use]
    pub fn after(remaining: Duration) -> Self {
        let until_answer = remaining.saturating_sub(ANSWER_MARGIN);
        let reserve = (until_answer / 5).min(LARGEST_RESERVE);
        let now = Instant::now();
        Self { work_until: Some(now + (until_answer - reserve)), answer_at: Some(now + until_answer) }
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
        until(self.work_until, work).await
    }

    /// The answer, or nothing when the invocation's own answer is due before.
    pub async fn finish<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        until(self.answer_at, work).await
    }

    /// The answer, or nothing when half of what is left before the invocation's own answer is over.
    pub async fn finish_by_half<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let now = Instant::now();
        until(self.answer_at.map(|answer_at| now + answer_at.saturating_duration_since(now) / 2), work).await
    }
}

async fn until<T>(instant: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match instant {
        None => Some(work.await),
        // A future that is ready at once would be answered even after the instant; after it, nothing may begin.
        Some(instant) if Instant::now() >= instant => None,
        Some(instant) => tokio::time::timeout_at(instant, work).await.ok(),
    }
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
        assert_eq!(Deadline::from_unix_ms(600_000, now), Deadline::unknown());
        assert_ne!(Deadline::from_unix_ms(1_700_000_060_000, now), Deadline::unknown());
        assert_eq!(Deadline::unknown().work(async { 1 }).await, Some(1));
    }
}
