//! One series while it is read: what its objects hold comes in, in whatever order it arrives; its observations go out in
//! order of time.

use std::collections::{BTreeMap, VecDeque};

use sha2::{Digest, Sha256};

use super::decode::Rows;
use super::error::Error;
use super::{SeriesFacts, series_of};
use crate::series::{Series, SeriesBuilder, TimeNs};
use crate::storage::ETag;
use crate::worker::plan::{Content, PlannedObject, PlannedSeries};

/// What an object is taken to have whose size nobody told.
const ASSUMED_BYTES: u64 = 64 << 10;

/// Of a long object no more than this is ahead of its turn.
const MOST_BYTES: u64 = 1 << 20;

/// What an object counts for, from when it is begun until it is done.
pub(super) fn bytes_ahead(object: &PlannedObject) -> u64 {
    object.size_bytes.unwrap_or(ASSUMED_BYTES).min(MOST_BYTES)
}

/// A series being read.
#[derive(Default)]
pub(super) struct Lane {
    /// The objects that were not begun, in path order.
    pub(super) waiting: VecDeque<usize>,
    /// The objects that were begun and are not done, in path order.
    pub(super) begun: VecDeque<usize>,
    /// What was read of them before its turn came.
    early: BTreeMap<usize, Arrived>,
    /// Observations that were read and not given out.
    held: SeriesBuilder,
    /// Bytes of objects that were done since somebody asked.
    done_bytes: u64,
    /// The latest time that was read.
    latest: Option<TimeNs>,
    observation_count: u64,
    object_count: u64,
    objects_digest: Sha256,
    dropped_duplicates: u64,
    out_of_order: u64,
    foreign_rows: u64,
    has_own_object: bool,
}

/// What was read of an object for one series.
pub(super) struct Arrived {
    etag: ETag,
    observations: SeriesBuilder,
    foreign_rows: u64,
}

impl Arrived {
    /// The same for each series that the object holds.
    pub(super) fn of_each(object: &PlannedObject, etag: &ETag, rows: Rows) -> impl Iterator<Item = (usize, Self)> {
        let is_own = matches!(object.content, Content::Own(_));
        let foreign_rows = if is_own { rows.foreign_rows } else { 0 };
        let of_one = move |(&index, observations)| (index, Self { etag: etag.clone(), observations, foreign_rows });
        series_of(&object.content).iter().zip(rows.builders).map(of_one)
    }
}

impl Lane {
    /// Whether everything was read.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.begun.is_empty()
    }

    /// The observations that were read and not given out.
    pub(super) fn held_count(&self) -> usize {
        self.held.len()
    }

    /// The latest time that was read; nothing before the first.
    pub(super) fn latest(&self) -> Option<TimeNs> {
        self.latest
    }

    /// An object was read whole: its turn may have come. False where one of its times is before `end`.
    pub(super) fn arrive(
        &mut self,
        index: usize,
        arrived: Arrived,
        objects: &[PlannedObject],
        end: Option<TimeNs>,
    ) -> bool {
        self.early.insert(index, arrived);
        self.catch_up(objects, end)
    }

    /// Takes in the objects whose turn has come. False where one of their times is before `end`.
    pub(super) fn catch_up(&mut self, objects: &[PlannedObject], end: Option<TimeNs>) -> bool {
        let mut is_in_order = true;
        while let Some(arrived) = self.begun.front().and_then(|first| self.early.remove(first)) {
            is_in_order &= self.add(arrived.observations, arrived.foreign_rows, end);
            self.complete(objects, &arrived.etag);
        }
        is_in_order
    }

    /// Adds a part of the object whose turn it is. False where one of its times is before `end`.
    pub(super) fn add(&mut self, observations: SeriesBuilder, foreign_rows: u64, end: Option<TimeNs>) -> bool {
        self.foreign_rows = self.foreign_rows.saturating_add(foreign_rows);
        let Some((first, last)) = observations.span() else { return true };
        self.latest = self.latest.max(Some(last));
        let descents_before = self.held.descents();
        self.held.append(observations);
        self.out_of_order += (self.held.descents() - descents_before) as u64;
        end.is_none_or(|end| end <= first)
    }

    /// The object whose turn it was is read.
    pub(super) fn complete(&mut self, objects: &[PlannedObject], etag: &ETag) {
        let Some(object) = self.begun.pop_front().and_then(|index| objects.get(index)) else { return };
        self.object_count += 1;
        self.done_bytes += bytes_ahead(object);
        self.has_own_object |= matches!(object.content, Content::Own(_));
        for text in [object.key.as_str(), &etag.0] {
            self.objects_digest.update((text.len() as u64).to_be_bytes());
            self.objects_digest.update(text.as_bytes());
        }
    }

    /// The bytes of the objects that were done since the last call, as [`bytes_ahead`] has them.
    pub(super) fn take_done_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.done_bytes)
    }

    /// Gives out the observations before `end`, or all.
    pub(super) fn take(&mut self, end: Option<TimeNs>) -> Series {
        let (series, dropped_count) = match end {
            Some(end) => self.held.take_before(end),
            None => std::mem::take(&mut self.held).finish(),
        };
        self.dropped_duplicates += dropped_count as u64;
        self.observation_count += series.len() as u64;
        series
    }

    /// What is known of the series when all of it was given out.
    pub(super) fn facts(self, series: &PlannedSeries) -> Result<SeriesFacts, Error> {
        if self.observation_count == 0 && !self.has_own_object {
            let PlannedSeries { series_code, dataset_id } = series.clone();
            return Err(Error::NoObservations { series_code, dataset_id });
        }
        Ok(SeriesFacts {
            series: series.clone(),
            observation_count: self.observation_count,
            object_count: self.object_count,
            objects_digest: hex::encode(self.objects_digest.finalize()),
            dropped_duplicates: self.dropped_duplicates,
            out_of_order: self.out_of_order,
            foreign_rows: self.foreign_rows,
        })
    }
}
