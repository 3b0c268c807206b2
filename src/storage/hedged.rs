//! A read that takes much longer than the others is asked a second time, and the answer that comes first counts.
//!
//! Of thousands of small reads a run waits for the slowest, and a slow one is slow by chance: a busy disk, a lost packet.
//! Only small inputs are asked for twice, only when they are late by what was measured before, and only
//! [`MOST_EXTRA_PERCENT`] of them, so that a store which is slow altogether is not asked twice as much.
//! After "The tail at scale", J. Dean and L. A. Barroso, Communications of the ACM 56 (2013), "hedged requests".

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, select};
use tokio::time::{Instant, sleep_until};

use super::inputs::Inputs;
use super::{ByteRange, ETag, Error, Object, ObjectStorage};
use crate::keys::Key;

/// Of a hundred reads so many are asked twice at most: of fewer than fifty, none.
const MOST_EXTRA_PERCENT: u64 = 2;

/// A larger read takes long for its size, and is not compared with the others.
const SMALL_READ_BYTES: u64 = 1 << 20;

/// Until so many have answered nobody is late.
const FEWEST_SAMPLES: usize = 16;

/// The latest answers that lateness is told by.
const MOST_SAMPLES: usize = 128;

/// Late is who takes so many times as long as nine of ten others: hardly one of a hundred, unless by chance.
const LATE_FACTOR: u32 = 3;

/// Nobody is late before: within a region the first byte takes some 20 ms, and twice that is ordinary.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(60);

/// A store whose late reads are asked twice.
pub struct Hedged {
    inner: Arc<dyn ObjectStorage>,
    inputs: Inputs,
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
            self.samples[self.next] = latency;
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
    pub fn new(inner: Arc<dyn ObjectStorage>, inputs: Inputs) -> Self {
        let zero = AtomicU64::default;
        Self { inner, inputs, latencies: Mutex::default(), read_count: zero(), extra_count: zero() }
    }

    /// How many reads were asked a second time.
    #[must_use]
    pub fn extra_count(&self) -> u64 {
        self.extra_count.load(Ordering::Relaxed)
    }

    fn patience(&self) -> Option<Duration> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).patience()
    }

    fn measured(&self, latency: Duration) {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).add(latency);
    }

    /// Takes one of the reads that may be asked twice.
    fn take_extra(&self) -> bool {
        let most = self.read_count.load(Ordering::Relaxed) * MOST_EXTRA_PERCENT / 100;
        let take = |taken| (taken < most).then_some(taken + 1);
        self.extra_count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Comes back when the read that began then is late and may be asked twice. What is late and may not, because too
    /// little is known or too much was asked, is looked at again after twice the time.
    async fn late(&self, began: Instant) {
        let mut waited = SHORTEST_PATIENCE;
        loop {
            sleep_until(began + waited).await;
            match self.patience() {
                Some(patience) if waited < patience => waited = patience.min(waited * 2),
                Some(_) if self.take_extra() => return,
                Some(_) | None => waited *= 2,
            }
        }
    }

    /// Small objects, and the ends of large ones: what a read of an object begins with.
    fn may_be_late(&self, key: &Key, range: &ByteRange, if_match: Option<&ETag>) -> bool {
        let is_small = match range {
            // Objects are read whole where they are known to be small.
            ByteRange::Whole => true,
            ByteRange::Suffix(length_bytes) => *length_bytes <= SMALL_READ_BYTES,
            ByteRange::Bounded(_) => false,
        };
        is_small && if_match.is_none() && self.inputs.have(key)
    }
}

#[async_trait]
impl super::layer::Layer for Hedged {
    type Inner = dyn ObjectStorage;

    fn inner(&self) -> &dyn ObjectStorage {
        &*self.inner
    }

    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        if !self.may_be_late(key, &range, if_match) {
            return self.inner().get(key, range, if_match).await;
        }
        self.read_count.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let first = self.inner().get(key, range.clone(), None);
        let answer = match select(first, Box::pin(self.late(began))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), first)) => {
                tracing::debug!(%key, "a read is late and asked again");
                match select(first, self.inner().get(key, range, None)).await {
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
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use futures::stream::{self, StreamExt};

    use super::super::memory::{Call, Fault, MemoryStorage};
    use super::*;
    use crate::keys::Prefixes;

    const USUAL: Duration = Duration::from_millis(30);

    fn key() -> Key {
        Key::parse("a/b").unwrap()
    }

    /// A store that answers after 30 ms, or as the plan says.
    fn hedged(plan: impl Fn(&Call) -> Fault + Send + Sync + 'static) -> (Arc<MemoryStorage>, Hedged) {
        let store = Arc::new(MemoryStorage::with_faults(plan).with_latency(USUAL));
        let inputs = Inputs::new(Prefixes::parse("a/").unwrap(), Prefixes::parse("a/metrics/").unwrap());
        store.insert(&key(), "12345");
        (Arc::clone(&store), Hedged::new(store, inputs))
    }

    /// Reads objects so many at a time; those that the plan names by their number do not answer the first time.
    async fn read(count: usize, at_a_time: usize, is_slow: fn(usize) -> bool) -> (Duration, usize) {
        let key = |number: usize| Key::parse(&format!("a/{number}")).unwrap();
        let slow: Vec<String> =
            (0..count).filter(|number| is_slow(*number)).map(|number| key(number).to_string()).collect();
        let slow = Mutex::new(HashSet::<String>::from_iter(slow));
        let (store, hedged) = hedged(move |call| match slow.lock().unwrap().remove(&call.key) {
            true => Fault::Hang,
            false => Fault::Proceed,
        });
        (0..count).for_each(|number| store.insert(&key(number), "12345"));
        let began = Instant::now();
        let read = async |number: usize| drop(hedged.get(&key(number), ByteRange::Whole, None).await.unwrap());
        let all = stream::iter(0..count).map(read).buffer_unordered(at_a_time).collect::<Vec<()>>();
        tokio::time::timeout(Duration::from_secs(60), all).await.ok();
        assert_eq!(store.trace().len() as u64, count as u64 + hedged.extra_count());
        (began.elapsed(), store.trace().len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_tail_of_one_percent_costs_little_time_and_few_requests() {
        for at_a_time in [16, 64, 128] {
            let (untailed, requests) = read(550, at_a_time, |_| false).await;
            assert_eq!(requests, 550);
            // One of a hundred does not answer, the first of them early.
            let (tailed, requests) = read(550, at_a_time, |number| number % 100 == 5).await;
            assert!(tailed <= untailed * 3, "{tailed:?} beside {untailed:?}, {at_a_time} at a time");
            assert!((551..=561).contains(&requests), "{requests}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_slow_altogether_is_not_asked_twice_as_much() {
        let (store, hedged) = hedged(|call| if call.sequence >= 1_000 { Fault::Hang } else { Fault::Proceed });
        let key = key();
        let reads = stream::iter(0..1_100).map(|_| hedged.get(&key, ByteRange::Whole, None));
        let all = reads.buffer_unordered(100).for_each(|_| futures::future::ready(()));
        assert!(tokio::time::timeout(Duration::from_secs(3_600), all).await.is_err());
        assert_eq!((hedged.extra_count(), store.trace().len()), (22, 1_122));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_reads_are_never_asked_twice() {
        let (took, requests) = read(49, 8, |number| number == 48).await;
        assert_eq!((took, requests), (Duration::from_secs(60), 49));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_fails_leaves_the_other() {
        let (store, hedged) = hedged(|call| match call.sequence {
            50 => Fault::Hang,
            51 => Fault::FailBefore,
            _ => Fault::Proceed,
        });
        for _ in 0..50 {
            assert_eq!(hedged.get(&key(), ByteRange::Whole, None).await.unwrap().bytes, "12345");
        }
        let key = key();
        let last = hedged.get(&key, ByteRange::Whole, None);
        let late = tokio::time::timeout(Duration::from_secs(60), last).await;
        assert!(late.is_err(), "the first one may still answer");
        assert_eq!(store.trace().len(), 52);
    }

    #[tokio::test(start_paused = true)]
    async fn only_small_inputs_are_asked_for_twice() {
        let (store, hedged) = hedged(|call| if call.sequence < 100 { Fault::Proceed } else { Fault::Hang });
        for _ in 0..100 {
            hedged.get(&key(), ByteRange::Whole, None).await.unwrap();
        }
        let tag = ETag("1".to_owned());
        let output = Key::parse("a/metrics/m/current/manifest.json").unwrap();
        let asked = [
            (key(), ByteRange::Bounded(0..10), None),
            (key(), ByteRange::Suffix(SMALL_READ_BYTES + 1), None),
            (key(), ByteRange::Whole, Some(&tag)),
            (output, ByteRange::Whole, None),
        ];
        for (key, range, if_match) in asked {
            let read = hedged.get(&key, range, if_match);
            assert!(tokio::time::timeout(Duration::from_secs(60), read).await.is_err());
        }
        assert_eq!((hedged.extra_count(), store.trace().len()), (0, 104));
        let key = key();
        let read = hedged.get(&key, ByteRange::Suffix(SMALL_READ_BYTES), None);
        assert!(tokio::time::timeout(Duration::from_secs(60), read).await.is_err());
        assert_eq!((hedged.extra_count(), store.trace().len()), (1, 106));
    }
}
