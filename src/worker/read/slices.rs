//! The series of a plan, read side by side and given out in slices: all observations of every series up to some time,
//! then those up to a later one. So a run holds a slice of its input, however long the history is.
//!
//! Files are read in path order. Where they are also in order of time, as nearly all are, nothing that is read later can
//! belong to a slice given out before. Times within a slice may be in any order: it is sorted. A time that comes too
//! late is told, and the caller reads everything into one slice instead.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, poll_fn};
use futures::stream::{FuturesUnordered, StreamExt};

use super::decode::Rows;
use super::error::Error;
use super::fetch::{OpenObject, Requests, Source, requests};
use super::lane::{Arrived, Lane, bytes_ahead};
use super::long_file::{LongFile, Sizes};
use super::small::{self, Fetched, Waiting};
use super::{Facts, ReadSettings, Run, file, series_of, wanted};
use crate::series::{Series, TimeNs};
use crate::storage::{ETag, ObjectStorage};
use crate::telemetry::STEPS;
use crate::worker::plan::{Content, PlannedObject, ReadPlan};

/// Each series may hold so many, however many series there are.
const LEAST_SHARE: usize = 512;

/// A series is not to be given less: what has its latest time stays, so that of one observation nothing is given out.
const SMALLEST_SHARE: usize = 2;

/// Bytes of objects that are on their way or wait for their turn, but for the first of each series.
const AHEAD_BYTES: u64 = 8 << 20;

/// Pieces of long objects that are on their way or being cut into pages, all objects together.
const PIECES_BYTES: u64 = 6 << 20;
const LEAST_PIECE_BYTES: u64 = 256 << 10;

/// From so many on, the parts that long objects are read in are shorter.
const MANY_SERIES: usize = 4;

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// The next observations of each series, in the order of the plan.
    Slice(Vec<Series>),
    /// Nothing: all was given out.
    End,
    /// An observation came that belongs to a slice given out before: files are not in order of time, or overlap.
    OutOfOrder,
}

/// How a plan is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// As soon as enough of every series is there.
    Slices,
    /// Not at all: one slice of everything, which the limit of observations is for.
    Whole,
}

/// A plan being read.
pub struct Slices<'a> {
    plan: &'a ReadPlan,
    settings: &'a ReadSettings,
    progress: &'a (dyn Fn(f64) + Sync),
    source: Arc<Source>,
    requests: Requests<'a>,
    run: Arc<Run>,
    cut: Cut,
    lanes: Vec<Lane>,
    /// Whether each object was begun.
    is_begun: Vec<bool>,
    /// Where to look first for an object to begin.
    next_lane: usize,
    done_count: usize,
    ahead_bytes: u64,
    work: FuturesUnordered<BoxFuture<'a, Result<Done<'a>, Error>>>,
    /// Small objects that were fetched and are to be decoded.
    fetched: Waiting<'a>,
    /// Long objects whose turn has not come, or whose series has enough for now.
    parked: Vec<Long<'a>>,
    /// All before this time was given out.
    given_out: Option<TimeNs>,
    is_out_of_order: bool,
    is_ended: bool,
    /// What is wrong with the plan itself.
    problem: Option<Error>,
}

/// A long object of one series.
struct Long<'a> {
    index: usize,
    etag: ETag,
    file: LongFile<'a>,
}

/// A piece of work that is done.
enum Done<'a> {
    Fetched(Fetched<'a>),
    Whole { index: usize, etag: ETag, rows: Rows },
    Together(Vec<Self>),
    Opened(Long<'a>),
    Part { long: Long<'a>, rows: Option<Rows> },
}

/// How objects are read once they are open.
struct Opening<'a> {
    run: Arc<Run>,
    settings: &'a ReadSettings,
    cut: Cut,
    sizes: Sizes,
}

impl<'a> Opening<'a> {
    /// Reads an object by itself: all of it, or, where it is long, only its footer for now.
    async fn read(&self, object: &'a PlannedObject, fetched: Fetched<'a>) -> Result<Done<'a>, Error> {
        let Fetched { index, opened, wanted } = fetched;
        let (etag, budget, key) = (opened.etag.clone(), Arc::clone(&self.run.budget), &object.key);
        let footer = Arc::new(file::open_footer(key, &opened).await?);
        let row_count = footer.row_groups.iter().fold(0u64, |sum, group| sum.saturating_add(group.row_count));
        let slice_rows = self.settings.slice_observations as u64;
        let is_long = !opened.is_whole() || row_count > slice_rows;
        if is_long && self.cut == Cut::Slices && is_own(object) {
            let file = LongFile::new(key, Arc::new(opened), footer, wanted, budget, self.sizes);
            return Ok(Done::Opened(Long { index, etag, file }));
        }
        // A semaphore that is never closed always gives its permit.
        let _permit = if opened.is_whole() { None } else { self.run.large_objects.acquire().await.ok() };
        let rows = file::read_file(key, &opened, footer, wanted, budget).await?;
        Ok(Done::Whole { index, etag, rows })
    }
}

/// Whether the object is of one series alone.
fn is_own(object: &PlannedObject) -> bool {
    matches!(object.content, Content::Own(_))
}

impl<'a> Slices<'a> {
    /// Nothing read yet. `progress` is told the fraction of objects done, from 0 to 1.
    #[must_use]
    pub fn new(
        plan: &'a ReadPlan,
        storage: &'a dyn ObjectStorage,
        settings: &'a ReadSettings,
        cut: Cut,
        progress: &'a (dyn Fn(f64) + Sync),
    ) -> Self {
        let (source, requests) = requests(storage, settings.concurrency);
        let mut lanes: Vec<Lane> = plan.series.iter().map(|_| Lane::default()).collect();
        let mut problem = None;
        for (index, object) in plan.objects.iter().enumerate() {
            if series_of(&object.content).iter().any(|&series| series >= plan.series.len()) {
                problem = problem.or_else(|| wanted(plan, object).err());
            }
            for &series in series_of(&object.content) {
                if let Some(lane) = lanes.get_mut(series) {
                    lane.waiting.push_back(index);
                }
            }
        }
        // A long object of many series would have to be read in many places at once.
        let is_long = |object: &PlannedObject| object.size_bytes.is_some_and(|size| size > settings.whole_object_bytes);
        let is_long_shared = |object| is_long(object) && matches!(object.content, Content::Shared(_));
        let cut = if plan.objects.iter().any(is_long_shared) { Cut::Whole } else { cut };
        Self {
            plan,
            settings,
            progress,
            source: Arc::new(source),
            requests,
            run: Arc::new(Run::new(settings)),
            cut,
            lanes,
            is_begun: vec![false; plan.objects.len()],
            next_lane: 0,
            done_count: 0,
            ahead_bytes: 0,
            work: FuturesUnordered::new(),
            fetched: Waiting::default(),
            parked: Vec::new(),
            given_out: None,
            is_out_of_order: false,
            is_ended: false,
            problem,
        }
    }

    /// Reads until there is a slice to give out. May be called at any time, also while the slice before is being worked
    /// on; given up, it goes on where it was.
    ///
    /// # Errors
    /// When an object is missing or unreadable, or a limit is passed.
    pub async fn fill(&mut self) -> Result<(), Error> {
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        if self.is_ready() { Ok(()) } else { self.read_on().await }
    }

    #[tracing::instrument(target = STEPS, level = "debug", name = "read", skip_all, fields(objects = self.plan.objects.len()))]
    async fn read_on(&mut self) -> Result<(), Error> {
        while !self.is_ready() {
            self.begin_work()?;
            match poll_fn(|context| self.poll_work(context)).await {
                Some(done) => self.settle(done?),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// The next piece of work that is done; whoever waits for an answer goes on with it as soon as it is there.
    fn poll_work(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Done<'a>, Error>>> {
        loop {
            if let Poll::Ready(done) = self.work.poll_next_unpin(context) {
                return Poll::Ready(done);
            }
            let Poll::Ready(Some(())) = self.requests.poll_next_unpin(context) else { return Poll::Pending };
        }
    }

    /// The next slice.
    ///
    /// # Errors
    /// When an object is missing or unreadable, or a limit is passed.
    pub async fn next(&mut self) -> Result<Next, Error> {
        if self.is_ended {
            return Ok(Next::End);
        }
        self.fill().await?;
        if self.is_out_of_order {
            return Ok(Next::OutOfOrder);
        }
        // What of a series that is not done has its latest time may still be replaced.
        let unfinished = self.lanes.iter().filter(|lane| !lane.is_done());
        let end = unfinished.map(|lane| lane.latest().unwrap_or(TimeNs::MIN)).min();
        self.is_ended = self.lanes.iter().all(Lane::is_done);
        self.given_out = end;
        let slice: Vec<Series> = self.lanes.iter_mut().map(|lane| lane.take(end)).collect();
        self.run.budget.release_observations(slice.iter().map(Series::len).sum());
        Ok(Next::Slice(slice))
    }

    /// What was read, when all of it was given out.
    ///
    /// # Errors
    /// When a series has no observation where one must be.
    pub fn finish(self) -> Result<Facts, Error> {
        let facts = self.plan.series.iter().zip(self.lanes).map(|(series, lane)| lane.facts(series));
        Ok(Facts {
            series: facts.collect::<Result<_, _>>()?,
            read_bytes: self.source.read_bytes.load(Ordering::Relaxed),
            request_count: self.source.request_count.load(Ordering::Relaxed),
        })
    }

    /// How many observations of each series make a slice.
    fn share(&self) -> usize {
        match self.cut {
            Cut::Slices => {
                let all = self.settings.slice_observations;
                (all / self.lanes.len().max(1)).max(LEAST_SHARE.min(all)).max(SMALLEST_SHARE)
            }
            Cut::Whole => usize::MAX,
        }
    }

    fn has_enough(&self, lane: &Lane) -> bool {
        lane.held_count() >= self.share()
    }

    /// Whether there is a slice to give out, or none will ever be.
    fn is_ready(&self) -> bool {
        let has_enough = |lane: &Lane| lane.is_done() || self.has_enough(lane);
        self.is_out_of_order || self.lanes.iter().all(has_enough)
    }

    /// Begins objects, series by series in turn, as far as there is room, and goes on with long ones.
    fn begin_work(&mut self) -> Result<(), Error> {
        let (parked, share) = (std::mem::take(&mut self.parked), self.share());
        for long in parked {
            let Content::Own(series) = self.plan.objects[long.index].content else { continue };
            let lane = &self.lanes[series];
            let is_its_turn = lane.begun.front() == Some(&long.index);
            if is_its_turn && lane.held_count() < share { self.go_on(long) } else { self.parked.push(long) }
        }
        if self.fetched.are_enough() {
            self.decode_fetched();
        }
        let mut idle_count = 0;
        while idle_count < self.lanes.len() && self.work.len() < self.settings.concurrency.get() {
            let series = self.next_lane % self.lanes.len();
            self.next_lane = series + 1;
            match self.begin_object_of(series)? {
                ControlFlow::Continue(()) => idle_count = 0,
                ControlFlow::Break(()) => idle_count += 1,
            }
        }
        // Nothing else is on its way that could join them.
        if self.work.is_empty() && !self.fetched.is_empty() {
            self.decode_fetched();
        }
        Ok(())
    }

    /// Begins the next object of a series, if there is one and room for it.
    fn begin_object_of(&mut self, series: usize) -> Result<ControlFlow<()>, Error> {
        let (most_begun, share) = (self.settings.concurrency.get(), self.share());
        let lane = &mut self.lanes[series];
        let Some(&index) = lane.waiting.front() else { return Ok(ControlFlow::Break(())) };
        let object: &'a PlannedObject = &self.plan.objects[index];
        let size_bytes = bytes_ahead(object);
        let has_room = self.cut == Cut::Whole || self.ahead_bytes + size_bytes <= AHEAD_BYTES;
        let is_first = lane.begun.is_empty();
        if lane.held_count() >= share || lane.begun.len() >= most_begun || !(is_first || has_room) {
            return Ok(ControlFlow::Break(()));
        }
        lane.waiting.pop_front();
        lane.begun.push_back(index);
        self.ahead_bytes += size_bytes;
        if std::mem::replace(&mut self.is_begun[index], true) {
            // It was begun for another series, and may have arrived already.
            self.is_out_of_order |= !lane.catch_up(&self.plan.objects, self.given_out);
            self.ahead_bytes = self.ahead_bytes.saturating_sub(lane.take_done_bytes());
            return Ok(ControlFlow::Continue(()));
        }
        let wanted = Arc::new(wanted(self.plan, object)?);
        let (source, opening) = (Arc::clone(&self.source), self.opening());
        let read = async move {
            let limit_bytes = opening.settings.whole_object_bytes;
            let opened = OpenObject::open(source, &object.key, object.size_bytes, limit_bytes).await?;
            let fetched = Fetched { index, opened, wanted };
            match is_own(object) && fetched.opened.is_whole() {
                true => Ok(Done::Fetched(fetched)),
                false => opening.read(object, fetched).await,
            }
        };
        self.work.push(read.boxed());
        Ok(ControlFlow::Continue(()))
    }

    /// Decodes the small objects that were fetched, those that are not so small after all one by one.
    fn decode_fetched(&mut self) {
        let (plan, fetched, opening) = (self.plan, self.fetched.take(), self.opening());
        let decode = async move {
            let row_limit = match opening.cut {
                Cut::Slices => opening.settings.slice_observations as u64,
                Cut::Whole => u64::MAX,
            };
            let decoded = small::decode(&fetched, row_limit, &opening.run.budget).await;
            let mut done = Vec::with_capacity(fetched.len());
            for (fetched, decoded) in fetched.into_iter().zip(decoded) {
                let (index, object) = (fetched.index, &plan.objects[fetched.index]);
                done.push(match decoded.map_err(|problem| Error::unreadable(&object.key, problem))? {
                    Some(rows) => Done::Whole { index, etag: fetched.opened.etag, rows },
                    None => opening.read(object, fetched).await?,
                });
            }
            Ok(Done::Together(done))
        };
        self.work.push(decode.boxed());
    }

    fn opening(&self) -> Opening<'a> {
        // A slice is as long as the longest part of a series in it: of many series, parts are shorter.
        let parts = if self.lanes.len() < MANY_SERIES { 1 } else { 4 };
        let sizes =
            Sizes { chunk_rows: self.settings.slice_observations as u64 / parts, piece_bytes: self.piece_bytes() };
        Opening { run: Arc::clone(&self.run), settings: self.settings, cut: self.cut, sizes }
    }

    /// Each series may have a long object open, of two columns, each with a piece at hand and one on its way.
    fn piece_bytes(&self) -> u64 {
        (PIECES_BYTES / (self.lanes.len().max(1) as u64 * 4)).max(LEAST_PIECE_BYTES).min(self.settings.piece_bytes)
    }

    fn go_on(&self, mut long: Long<'a>) {
        let next = async move {
            let rows = long.file.next().await?;
            Ok(Done::Part { long, rows })
        };
        self.work.push(next.boxed());
    }

    fn settle(&mut self, done: Done<'a>) {
        let (plan, end) = (self.plan, self.given_out);
        match done {
            Done::Fetched(fetched) => self.fetched.push(fetched),
            Done::Together(all) => all.into_iter().for_each(|done| self.settle(done)),
            Done::Opened(long) => self.parked.push(long),
            Done::Whole { index, etag, rows } => {
                let object = &plan.objects[index];
                for (series, arrived) in Arrived::of_each(object, &etag, rows) {
                    let Some(lane) = self.lanes.get_mut(series) else { continue };
                    self.is_out_of_order |= !lane.arrive(index, arrived, &plan.objects, end);
                }
                self.count_done(index);
            }
            Done::Part { long, rows } => {
                let Content::Own(series) = plan.objects[long.index].content else { return };
                let Some(lane) = self.lanes.get_mut(series) else { return };
                match rows {
                    Some(rows) => {
                        let foreign_rows = rows.foreign_rows;
                        let observations = rows.builders.into_iter().next().unwrap_or_default();
                        self.is_out_of_order |= !lane.add(observations, foreign_rows, end);
                        self.parked.push(long);
                    }
                    None => {
                        lane.complete(&plan.objects, &long.etag);
                        self.is_out_of_order |= !lane.catch_up(&plan.objects, end);
                        self.count_done(long.index);
                    }
                }
            }
        }
    }

    fn count_done(&mut self, index: usize) {
        for &series in series_of(&self.plan.objects[index].content) {
            let done_bytes = self.lanes.get_mut(series).map_or(0, Lane::take_done_bytes);
            self.ahead_bytes = self.ahead_bytes.saturating_sub(done_bytes);
        }
        self.done_count += 1;
        (self.progress)(self.done_count as f64 / self.plan.objects.len() as f64);
    }
}
