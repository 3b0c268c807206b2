//! Answers that several want: a question comes in, and with it a way to ask; its answer goes out, asked for once.
//!
//! A question that is under way belongs to all who wait for its answer: whoever is polled carries it on, and it ends with
//! the last of them. So nobody waits for somebody who was cancelled, or who is busy with something else. An answer stays
//! afterwards, until others that came later need its place. A failure answers the one who asked first and does not stay;
//! the others then ask for themselves, at once and not in turn.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};

use super::Error;

/// What a question and its place take in memory beside the answer, roughly: three keys and their nodes.
const PLACE_BYTES: usize = 768;

/// An answer under way. A failure is nothing where asking panicked.
type Asking<T> = BoxFuture<'static, Result<T, Option<Error>>>;

/// Answers to questions, of those that came the latest within a number of bytes.
pub(super) struct Answers<Q, T> {
    places: Mutex<Places<Q, T>>,
    most_bytes: usize,
    size_bytes: fn(&T) -> usize,
}

struct Places<Q, T> {
    under_way: HashMap<Q, WeakShared<Asking<T>>>,
    kept: HashMap<Q, Kept<T>>,
    /// The questions whose answers are kept, by when they were asked last.
    order: BTreeMap<u64, Q>,
    next_time: u64,
    kept_bytes: usize,
}

struct Kept<T> {
    answer: T,
    size_bytes: usize,
    time: u64,
}

/// What there is already.
enum Known<T> {
    Answer(T),
    UnderWay(Shared<Asking<T>>),
    Nothing,
}

impl<Q, T> Answers<Q, T>
where
    Q: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Nothing was asked. Kept are `most_bytes`, in answers of at most half as many, by what `size_bytes` says of each.
    pub(super) fn new(most_bytes: usize, size_bytes: fn(&T) -> usize) -> Arc<Self> {
        let places = Places {
            under_way: HashMap::new(),
            kept: HashMap::new(),
            order: BTreeMap::new(),
            next_time: 0,
            kept_bytes: 0,
        };
        Arc::new(Self { places: Mutex::new(places), most_bytes, size_bytes })
    }

    /// The answer to the question: one that is kept or under way, or what asking brings.
    pub(super) async fn get(
        self: &Arc<Self>,
        question: Q,
        ask: impl Fn() -> BoxFuture<'static, Result<T, Error>> + Send + Sync,
    ) -> Result<T, Error> {
        let (shared, is_first) = {
            let mut places = self.places();
            match places.known(&question) {
                Known::Answer(answer) => return Ok(answer),
                Known::UnderWay(shared) => (shared, false),
                Known::Nothing => {
                    let shared = self.asking(question.clone(), ask()).shared();
                    if let Some(weak) = shared.downgrade() {
                        places.under_way.insert(question, weak);
                    }
                    (shared, true)
                }
            }
        };
        match shared.await {
            Ok(answer) => Ok(answer),
            Err(Some(error)) if is_first => Err(error),
            Err(_) => ask().await,
        }
    }

    /// Forgets the answers to these questions; those under way will be kept all the same.
    pub(super) fn forget(&self, is_meant: impl Fn(&Q) -> bool) {
        let mut places = self.places();
        let meant: Vec<Q> = places.kept.keys().filter(|question| is_meant(question)).cloned().collect();
        meant.iter().for_each(|question| places.forget(question));
    }

    fn asking(self: &Arc<Self>, question: Q, asked: BoxFuture<'static, Result<T, Error>>) -> Asking<T> {
        // It is held by those who wait for it: to hold what they hold would keep it for ever.
        let answers = Arc::downgrade(self);
        async move {
            let answer = match AssertUnwindSafe(asked).catch_unwind().await {
                Ok(answer) => answer.map_err(Some),
                Err(_) => Err(None),
            };
            if let Some(answers) = answers.upgrade() {
                answers.settle(question, answer.as_ref().ok());
            }
            answer
        }
        .boxed()
    }

    fn settle(&self, question: Q, answer: Option<&T>) {
        let mut places = self.places();
        places.under_way.remove(&question);
        let Some(answer) = answer else { return };
        let size_bytes = (self.size_bytes)(answer).saturating_add(PLACE_BYTES);
        if size_bytes > self.most_bytes / 2 {
            return;
        }
        places.keep(question, answer.clone(), size_bytes);
        while places.kept_bytes > self.most_bytes {
            let Some((_, oldest)) = places.order.pop_first() else { return };
            places.forget(&oldest);
        }
    }

    fn places(&self) -> MutexGuard<'_, Places<Q, T>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Clone + Eq + Hash, T: Clone> Places<Q, T> {
    fn known(&mut self, question: &Q) -> Known<T> {
        let time = self.tick();
        if let Some(kept) = self.kept.get_mut(question) {
            let before = std::mem::replace(&mut kept.time, time);
            let answer = kept.answer.clone();
            self.order.remove(&before);
            self.order.insert(time, question.clone());
            return Known::Answer(answer);
        }
        match self.under_way.get(question).and_then(WeakShared::upgrade) {
            Some(shared) => Known::UnderWay(shared),
            None => Known::Nothing,
        }
    }

    fn keep(&mut self, question: Q, answer: T, size_bytes: usize) {
        self.forget(&question);
        let time = self.tick();
        self.kept_bytes += size_bytes;
        self.order.insert(time, question.clone());
        self.kept.insert(question, Kept { answer, size_bytes, time });
    }

    fn forget(&mut self, question: &Q) {
        if let Some(kept) = self.kept.remove(question) {
            self.kept_bytes -= kept.size_bytes;
            self.order.remove(&kept.time);
        }
    }

    fn tick(&mut self) -> u64 {
        self.next_time += 1;
        self.next_time
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::future::{join, join_all};
    use tokio::time::{Instant, sleep, timeout};

    use super::*;

    const LATENCY: Duration = Duration::from_millis(30);

    /// Answers of so many bytes with their number, after a while; the first `failing` fail.
    struct Asked {
        answers: Arc<Answers<&'static str, (usize, usize)>>,
        count: Arc<AtomicUsize>,
        failing: usize,
    }

    impl Asked {
        fn new(most_bytes: usize, failing: usize) -> Self {
            Self { answers: Answers::new(most_bytes, |(size_bytes, _)| *size_bytes), count: Arc::default(), failing }
        }

        fn count(&self) -> usize {
            self.count.load(Ordering::Relaxed)
        }

        async fn get(&self, question: &'static str, size_bytes: usize) -> Result<usize, Error> {
            let (count, failing) = (Arc::clone(&self.count), self.failing);
            let ask = move || {
                let number = count.fetch_add(1, Ordering::Relaxed);
                async move {
                    sleep(LATENCY).await;
                    let (operation, key, reason) = ("get", question.to_owned(), "scripted".to_owned());
                    match number < failing {
                        true => Err(Error::Transient { operation, key, reason }),
                        false => Ok((size_bytes, number)),
                    }
                }
                .boxed()
            };
            self.answers.get(question, ask).await.map(|(_, number)| number)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_question_is_asked_once_at_once_and_afterwards() {
        let asked = Asked::new(10_000, 0);
        let all = join_all((0..10).map(|_| asked.get("a", 1))).await;
        assert!(all.into_iter().all(|number| number.unwrap() == 0));
        assert_eq!(asked.get("a", 1).await.unwrap(), 0);
        assert_eq!(asked.get("b", 1).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_answers_who_asked_first_and_the_others_ask_for_themselves_at_once() {
        let (asked, began) = (Asked::new(10_000, 1), Instant::now());
        let all = join_all((0..10).map(|_| asked.get("a", 1))).await;
        assert_eq!(all.iter().map(Result::is_err).collect::<Vec<_>>(), [&[true][..], &[false; 9]].concat());
        assert_eq!(began.elapsed(), LATENCY * 2);
        assert_eq!(asked.count(), 10);
        asked.get("a", 1).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_carries_on_what_the_first_gave_up() {
        let (asked, began) = (Asked::new(10_000, 0), Instant::now());
        let (first, second) = join(timeout(LATENCY / 2, asked.get("a", 1)), asked.get("a", 1)).await;
        assert!(first.is_err());
        assert_eq!((second.unwrap(), asked.count(), began.elapsed()), (0, 1, LATENCY));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_one_who_is_busy_elsewhere() {
        let asked = Asked::new(10_000, 0);
        let mut first = Box::pin(asked.get("a", 1));
        assert!(futures::poll!(&mut first).is_pending());
        // The first is there, and is not polled.
        assert_eq!(timeout(LATENCY, asked.get("a", 1)).await.unwrap().unwrap(), 0);
        assert_eq!(first.await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_all_gave_up_is_asked_anew() {
        let asked = Asked::new(10_000, 0);
        assert!(timeout(LATENCY / 2, asked.get("a", 1)).await.is_err());
        assert_eq!(asked.get("a", 1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_panic_stays_with_who_asks() {
        let answers: Arc<Answers<u8, usize>> = Answers::new(10_000, |_| 1);
        let is_first = std::sync::atomic::AtomicBool::new(true);
        let ask = || {
            let panics = is_first.swap(false, Ordering::Relaxed);
            async move {
                assert!(!panics, "a bug of the store");
                Ok(7)
            }
            .boxed()
        };
        let (one, other) = join(answers.get(1, ask), answers.get(1, ask)).await;
        assert_eq!((one.unwrap(), other.unwrap()), (7, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_asked_for_the_longest_makes_room() {
        let asked = Asked::new(3 * (1_000 + PLACE_BYTES), 0);
        for question in ["a", "b", "c", "a", "d"] {
            asked.get(question, 1_000).await.unwrap();
        }
        assert_eq!(asked.count(), 4);
        asked.get("a", 1_000).await.unwrap();
        assert_eq!(asked.count(), 4, "it was asked for again before the last one came");
        asked.get("b", 1_000).await.unwrap();
        assert_eq!(asked.count(), 5);
        assert_eq!(asked.answers.places().kept_bytes, 3 * (1_000 + PLACE_BYTES));
        asked.get("large", 3_000).await.unwrap();
        asked.get("large", 3_000).await.unwrap();
        assert_eq!(asked.count(), 7, "what would take more than half of the room is not kept");
        asked.answers.forget(|question| *question == "a");
        assert_eq!(asked.answers.places().kept_bytes, 2 * (1_000 + PLACE_BYTES));
    }
}
