//! Parts of one object: ranges come in; their bytes go out, by as few requests as seem worth it, all of the same
//! version of the object.
//!
//! Whoever wants something asks for it, and one place makes the requests of a run, so many at a time. A long object that
//! waits for its turn is polled by nobody: were its requests its own, they would hold their places and not come to an end.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::future::{Either, select, try_join_all};
use futures::stream::{BoxStream, StreamExt};

use super::error::{Error, Problem};
use crate::keys::Key;
use crate::storage::{self, ByteRange, ETag, Object, ObjectStorage};

/// Ranges closer than this are one request: to wait for another answer takes longer than so many bytes.
const WORTHWHILE_GAP_BYTES: u64 = 64 << 10;

/// The end of a large file that is read first. It holds the footer, and mostly the page indexes, of ordinary files.
const TAIL_BYTES: u64 = 64 << 10;

/// What is asked of the store, and what was taken from it.
pub(super) struct Source {
    asked: mpsc::UnboundedSender<Ask>,
    pub(super) read_bytes: AtomicU64,
    pub(super) request_count: AtomicU64,
}

/// The requests of a run: polled, it makes them, and comes back with each that has been answered.
pub(super) type Requests<'a> = BoxStream<'a, ()>;

struct Ask {
    key: Key,
    range: ByteRange,
    if_match: Option<ETag>,
    answer: oneshot::Sender<Result<Object, storage::Error>>,
}

/// Where to ask, and what makes the requests, so many at a time.
pub(super) fn requests(storage: &dyn ObjectStorage, at_a_time: NonZeroUsize) -> (Source, Requests<'_>) {
    let (asked, asks) = mpsc::unbounded();
    let make = move |ask| make(storage, ask);
    let source = Source { asked, read_bytes: AtomicU64::new(0), request_count: AtomicU64::new(0) };
    (source, asks.map(make).buffer_unordered(at_a_time.get()).boxed())
}

/// Makes a request, unless nobody waits for its answer any more.
async fn make(storage: &dyn ObjectStorage, ask: Ask) {
    let Ask { key, range, if_match, mut answer } = ask;
    let answered = match select(storage.get(&key, range, if_match.as_ref()), answer.cancellation()).await {
        Either::Left((answered, _)) => answered,
        Either::Right(_) => return,
    };
    // Whoever gave up in the meantime misses nothing.
    let _ = answer.send(answered);
}

impl Source {
    async fn ask(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, storage::Error> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { key: key.clone(), range, if_match: if_match.cloned(), answer };
        // What makes the requests is there as long as anybody who asks: to find it gone is to find nobody answering.
        let _ = self.asked.unbounded_send(ask);
        answered.await.unwrap_or_else(|_| {
            let (operation, reason) = ("get", "the run was given up".to_owned());
            Err(storage::Error::Transient { operation, key: key.to_string(), reason })
        })
    }

    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        self.request_count.fetch_add(1, Ordering::Relaxed);
        let object = self.ask(key, range, if_match).await.map_err(|source| match source {
            storage::Error::Precondition { key } => Error::Changed { key },
            source => Error::Storage { key: key.to_string(), source },
        })?;
        self.read_bytes.fetch_add(object.bytes.len() as u64, Ordering::Relaxed);
        Ok(object)
    }
}

/// An object of which at least the end is in memory.
pub(super) struct OpenObject<'a> {
    source: Arc<Source>,
    key: &'a Key,
    /// The tag of the version that is read.
    pub(super) etag: ETag,
    /// The size of the whole object.
    pub(super) size_bytes: u64,
    tail: Bytes,
}

impl<'a> OpenObject<'a> {
    /// The first request: all of a small object, the end of a large one.
    pub(super) async fn open(
        source: Arc<Source>,
        key: &'a Key,
        size_bytes: Option<u64>,
        whole_object_bytes: u64,
    ) -> Result<Self, Error> {
        let range = match size_bytes {
            Some(size_bytes) if size_bytes <= whole_object_bytes => ByteRange::Whole,
            Some(_) => ByteRange::Suffix(TAIL_BYTES),
            None => ByteRange::Suffix(whole_object_bytes.max(TAIL_BYTES)),
        };
        let object = source.get(key, range, None).await?;
        if object.bytes.len() as u64 > object.size_bytes {
            let problem = Problem::TooShort { size_bytes: object.size_bytes };
            return Err(Error::unreadable(key, problem));
        }
        Ok(Self { source, key, etag: object.etag, size_bytes: object.size_bytes, tail: object.bytes })
    }

    /// Whether all of it is in memory.
    pub(super) fn is_whole(&self) -> bool {
        self.tail.len() as u64 == self.size_bytes
    }

    /// All of it, if it is in memory.
    pub(super) fn whole(&self) -> Option<&Bytes> {
        self.is_whole().then_some(&self.tail)
    }

    /// The range, if it is in memory.
    pub(super) fn in_memory(&self, range: &Range<u64>) -> Option<Bytes> {
        let tail_start = self.size_bytes - self.tail.len() as u64;
        let start = usize::try_from(range.start.checked_sub(tail_start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(tail_start)?).ok()?;
        (start <= end && end <= self.tail.len()).then(|| self.tail.slice(start..end))
    }

    /// The bytes of each range.
    pub(super) async fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        let missing = ranges.iter().filter(|range| self.in_memory(range).is_none());
        let joined = join_neighbours(missing.cloned().collect());
        let fetched = try_join_all(joined.iter().map(|range| self.fetch(range.clone()))).await?;
        let find = |range: &Range<u64>| {
            self.in_memory(range).or_else(|| {
                let index = joined.iter().position(|joined| joined.start <= range.start && range.end <= joined.end)?;
                let start = usize::try_from(range.start - joined[index].start).ok()?;
                let length = usize::try_from(range.end - range.start).ok()?;
                Some(fetched[index].slice(start..start + length))
            })
        };
        let missing = |range: &Range<u64>| {
            Error::unreadable(self.key, Problem::MissingBytes { start: range.start, end: range.end })
        };
        ranges.iter().map(|range| find(range).ok_or_else(|| missing(range))).collect()
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, Error> {
        let object = self.source.get(self.key, ByteRange::Bounded(range.clone()), Some(&self.etag)).await?;
        if object.bytes.len() as u64 != range.end - range.start {
            return Err(Error::unreadable(self.key, Problem::MissingBytes { start: range.start, end: range.end }));
        }
        Ok(object.bytes)
    }
}

/// The ranges in order, those that touch or nearly do as one.
fn join_neighbours(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(WORTHWHILE_GAP_BYTES) => {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ranges_become_one_request_and_far_ones_do_not() {
        let far = 10 * WORTHWHILE_GAP_BYTES;
        let ranges = vec![far..far + 5, 0..10, 10..20, 30..40, 5..12];
        assert_eq!(join_neighbours(ranges), [0..40, far..far + 5]);
    }
}
