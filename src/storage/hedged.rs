//! A read that takes much longer than the others is asked a second time, and the answer that comes first counts.
//!
//! Of thousands of small reads a run waits for the slowest, and a slow one is slow by chance: a busy disk, a lost packet.
//! Only small reads are asked twice, only when they are late by what was measured before, and only [`MOST_EXTRA_PERCENT`]
//! of them, so that a store which is slow altogether is not asked twice as much.
//! After "The tail at scale", J. Dean and L. A. Barroso, Communications of the ACM 56 (2013), "hedged requests".

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{Either, select};
use tokio::time::{Instant, sleep};

use super::{ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage, Part, PutCondition, Upload};
use crate::keys::{Key, Prefix};

/// Of a hundred reads so many are asked twice at most; the first may be at any time.
const MOST_EXTRA_PERCENT: u64 = 2;

/// A larger read takes long for its size, and is not compared with the others.
const SMALL_READ_BYTES: u64 = 1 << 20;

/// Until so many have answered nobody is late.
const FEWEST_SAMPLES: usize = 16;

/// The latest answers that lateness is told by.
const MOST_SAMPLES: usize = 128;

/// Late is who takes so many times as long as nine of ten others.
const LATE_FACTOR: u32 = 3;

/// Nobody is late before: within a region the first byte takes some 20 ms, and twice that is ordinary.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(60);

/// How often a read that was not answered yet is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A store whose late reads are asked twice.
pub struct Hedged {
    inner: Arc<dyn ObjectStorage>,
    latencies: Mutex<Latencies>,
    read_count: AtomicU64,
    extra_count: AtomicU64,
}

/// How long the latest reads took.
#[derive(Default)]
struct Latencies {
    samples: Vec<Duration>,
    next: usize,
}

impl Latencies {
    fn add(&mut self, latency: Duration) {
        if self.samples.len() < MOST_SAMPLES {
            self.samples.push(latency);
        } else {
            self.samples[self.next % MOST_SAMPLES] = latency;
        }
        self.next = (self.next + 1) % MOST_SAMPLES;
    }

    /// How long a read may take before it is late; not known at first.
    fn patience(&self) -> Option<Duration> {
        if self.samples.len() < FEWEST_SAMPLES {
            return None;
        }
        let mut sorted = self.samples.clone();
        let (_, ninth_decile, _) = sorted.select_nth_unstable(self.samples.len() * 9 / 10);
        Some((*ninth_decile * LATE_FACTOR).max(SHORTEST_PATIENCE))
    }
}

impl Hedged {
    /// Nothing has been measured yet.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStorage>) -> Self {
        Self { inner, latencies: Mutex::default(), read_count: AtomicU64::new(0), extra_count: AtomicU64::new(0) }
    }

    fn patience(&self) -> Option<Duration> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).patience()
    }

    fn measured(&self, latency: Duration) {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).add(latency);
    }

    /// Takes one of the reads that may be asked twice.
    fn take_extra(&self) -> bool {
        let most = (self.read_count.load(Ordering::Relaxed) * MOST_EXTRA_PERCENT / 100).max(1);
        let take = |taken| (taken < most).then_some(taken + 1);
        self.extra_count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Comes back when the read that began then is late and may be asked twice.
    async fn late(&self, began: Instant) {
        loop {
            sleep(LOOK_EVERY).await;
            if self.patience().is_some_and(|patience| began.elapsed() >= patience) && self.take_extra() {
                return;
            }
        }
    }
}

fn is_small(range: &ByteRange) -> bool {
    match range {
        // Whole objects are read where they are known to be small.
        ByteRange::Whole => true,
        ByteRange::Bounded(bounds) => bounds.end.saturating_sub(bounds.start) <= SMALL_READ_BYTES,
        ByteRange::Suffix(length_bytes) => *length_bytes <= SMALL_READ_BYTES,
    }
}

#[async_trait]
impl ObjectStorage for Hedged {
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        if !is_small(&range) {
            return self.inner.get(key, range, if_match).await;
        }
        self.read_count.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let first = self.inner.get(key, range.clone(), if_match);
        let answer = match select(first, Box::pin(self.late(began))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), first)) => {
                tracing::debug!(%key, "a read is late and asked again");
                match select(first, self.inner.get(key, range, if_match)).await {
                    // The one that failed tells nothing about the other.
                    Either::Left((Err(_), other)) | Either::Right((Err(_), other)) => other.await,
                    Either::Left((answer, _)) | Either::Right((answer, _)) => answer,
                }
            }
        };
        if answer.is_ok() {
            self.measured(began.elapsed());
        }
        answer
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        self.inner.list(prefix).await
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        content_type: &'static str,
        condition: PutCondition,
    ) -> Result<ETag, Error> {
        self.inner.put(key, body, content_type, condition).await
    }

    async fn begin_upload(&self, key: &Key, content_type: &'static str) -> Result<Upload, Error> {
        self.inner.begin_upload(key, content_type).await
    }

    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error> {
        self.inner.upload_part(upload, number, body).await
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part], condition: PutCondition) -> Result<ETag, Error> {
        self.inner.complete_upload(upload, parts, condition).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        self.inner.abort_upload(upload).await
    }

    fn part_size_bytes(&self) -> usize {
        self.inner.part_size_bytes()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream::{self, StreamExt};

    use super::super::memory::{Call, Fault, MemoryStorage};
    use super::*;

    const USUAL: Duration = Duration::from_millis(30);

    fn key() -> Key {
        Key::parse("a/b").unwrap()
    }

    /// A store that answers after 30 ms, or as the plan says.
    fn hedged(plan: impl Fn(&Call) -> Fault + Send + Sync + 'static) -> (Arc<MemoryStorage>, Hedged) {
        let store = Arc::new(MemoryStorage::with_faults(plan).with_latency(USUAL));
        store.insert(&key(), "12345");
        (Arc::clone(&store), Hedged::new(store))
    }

    /// Reads a thousand objects, 64 at a time, of which those never answer that the plan names by their number.
    async fn read(never_answers: fn(u64) -> bool) -> (Duration, usize) {
        let (store, hedged) =
            hedged(move |call| if never_answers(call.sequence) { Fault::Hang } else { Fault::Proceed });
        let began = Instant::now();
        let key = key();
        let reads = stream::iter(0..1_000).map(|_| hedged.get(&key, ByteRange::Whole, None)).buffer_unordered(64);
        let all = reads.for_each(|answer| futures::future::ready(drop(answer.unwrap())));
        tokio::time::timeout(Duration::from_secs(60), all).await.ok();
        (began.elapsed(), store.trace().len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_tail_of_one_percent_costs_little_time_and_few_requests() {
        let (untailed, requests) = read(|_| false).await;
        assert_eq!(requests, 1_000);
        let (tailed, requests) = read(|sequence| sequence % 100 == 50).await;
        assert!(tailed <= untailed * 3, "{tailed:?} beside {untailed:?}");
        assert!((1_001..=1_020).contains(&requests), "{requests}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_slow_altogether_is_not_asked_twice_as_much() {
        let (_, requests) = read(|sequence| sequence >= 100).await;
        assert!((100..=170).contains(&requests), "{requests}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_fails_leaves_the_other() {
        let (store, hedged) = hedged(|call| match call.sequence {
            30 => Fault::Hang,
            31 => Fault::FailBefore,
            _ => Fault::Proceed,
        });
        for _ in 0..30 {
            assert_eq!(hedged.get(&key(), ByteRange::Whole, None).await.unwrap().bytes, "12345");
        }
        let late = tokio::time::timeout(Duration::from_secs(60), hedged.get(&key(), ByteRange::Whole, None)).await;
        assert!(late.is_err(), "the first one may still answer");
        assert_eq!(store.trace().len(), 32);
    }
}
