//! One row group: its pages in memory come in; the observations of the wanted series go out. No waiting here.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Semaphore;

use super::columns::ColumnReader;
use super::error::{Place, Problem};
use super::footer::{Chunk, Footer, RowGroup};
use super::page_guard::{Pages, Source};
use super::schema::Column;
use crate::ids::SeriesCode;
use crate::series::SeriesBuilder;
use crate::worker::computing::Computing;

/// Rows decoded at a time: three columns of so many values stay in the processor's cache.
const BATCH_ROWS: u64 = 8_192;

/// Decoding more than this may take longer than a millisecond.
const LONG_DECODE_BYTES: u64 = 128 << 10;
const LONG_DECODE_ROWS: u64 = 100_000;

/// Rows that may be decoded for each observation that may be read. A few bytes can stand for thousands of millions of
/// rows; the more so, rows of other series cost time although they take no memory.
const ROWS_FOR_EACH_OBSERVATION: u64 = 100;

/// Which series are wanted of an object.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Their codes.
    pub(super) codes: Vec<SeriesCode>,
    /// Whether the object lies in the one series' own folder.
    pub(super) is_own: bool,
}

impl Wanted {
    /// The codes as texts.
    pub(super) fn texts(&self) -> Vec<&str> {
        self.codes.iter().map(SeriesCode::as_str).collect()
    }
}

/// What was read of an object, or of a part of it.
#[derive(Debug)]
pub(super) struct Rows {
    /// The observations of each wanted series.
    pub(super) builders: Vec<SeriesBuilder>,
    /// Rows of no wanted series.
    pub(super) foreign_rows: u64,
}

impl Rows {
    /// Nothing yet, of so many series.
    pub(super) fn none(series_count: usize) -> Self {
        Self { builders: (0..series_count).map(|_| SeriesBuilder::new()).collect(), foreign_rows: 0 }
    }

    /// Adds what was read after this.
    pub(super) fn append(&mut self, later: Self) {
        self.foreign_rows = self.foreign_rows.saturating_add(later.foreign_rows);
        for (builder, later) in self.builders.iter_mut().zip(later.builders) {
            builder.append(later);
        }
    }
}

/// What the run may take, and whether it goes on.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) page_bytes_limit: u64,
    pub(super) observation_limit: u64,
    pub(super) observation_count: AtomicU64,
    pub(super) row_count: AtomicU64,
    pub(super) is_abandoned: AtomicBool,
    /// Long decodes take turns: each has pages in memory that may be much larger than their file.
    pub(super) long_decodes: Semaphore,
    /// Where they run.
    pub(super) computing: Computing,
}

impl Budget {
    /// Before rows are decoded.
    fn take_rows(&self, row_count: u64) -> Result<(), Problem> {
        if self.is_abandoned.load(Ordering::Relaxed) {
            return Err(Problem::Abandoned);
        }
        let before = self.row_count.fetch_add(row_count, Ordering::Relaxed);
        let limit = self.observation_limit.saturating_mul(ROWS_FOR_EACH_OBSERVATION);
        if before.saturating_add(row_count) > limit { Err(Problem::TooManyRows { limit }) } else { Ok(()) }
    }

    /// After observations were passed on and are kept no longer.
    pub(super) fn release_observations(&self, observation_count: usize) {
        self.observation_count.fetch_sub(observation_count as u64, Ordering::Relaxed);
    }

    /// Before observations are kept.
    fn take_observations(&self, observation_count: usize) -> Result<(), Problem> {
        let taken = observation_count as u64;
        let before = self.observation_count.fetch_add(taken, Ordering::Relaxed);
        let limit = self.observation_limit;
        if before.saturating_add(taken) > limit { Err(Problem::TooManyObservations { limit }) } else { Ok(()) }
    }
}

/// A row group with the pages that are needed of it.
#[derive(Debug)]
pub(super) struct RowGroupInput {
    /// How many bytes the pages have.
    pub(super) size_bytes: u64,
    /// Its index in the file.
    pub(super) index: usize,
    /// The rows that are read, ascending.
    pub(super) selection: Vec<Range<u64>>,
    /// The pages of `obs_time`.
    pub(super) time: Source,
    /// The pages of `value`.
    pub(super) value: Source,
    /// The pages of the series column; nothing where every row is known to be of the one wanted series.
    pub(super) series: Option<Source>,
}

impl RowGroupInput {
    /// Whether decoding may take longer than other work should wait.
    pub(super) fn is_long(&self) -> bool {
        let row_count = self.selection.iter().fold(0u64, |sum, rows| sum.saturating_add(rows.end - rows.start));
        self.size_bytes > LONG_DECODE_BYTES || row_count > LONG_DECODE_ROWS
    }
}

/// Decodes a row group. The decoder library may panic on malformed values: that is an error like any other.
pub(super) fn decode_row_group(
    footer: &Footer,
    input: RowGroupInput,
    wanted: &Wanted,
    budget: &Budget,
) -> Result<Rows, Problem> {
    catch_unwind(AssertUnwindSafe(|| decode(footer, input, wanted, budget))).unwrap_or(Err(Problem::DecoderPanicked))
}

fn decode(footer: &Footer, input: RowGroupInput, wanted: &Wanted, budget: &Budget) -> Result<Rows, Problem> {
    let sources = [Some(input.time), Some(input.value), input.series];
    let mut decoder = RowGroupDecoder::open(footer, input.index, sources, budget)?;
    let mut rows = Rows::none(wanted.codes.len());
    for range in input.selection {
        decoder.read(range, wanted, budget, &mut rows)?;
    }
    Ok(rows)
}

/// A row group being decoded, from its first row to its last.
pub(super) struct RowGroupDecoder {
    time: Cursor,
    value: Cursor,
    series: Option<Cursor>,
    /// The index of its first row in the file.
    first_row: u64,
    batch: Batch,
}

impl RowGroupDecoder {
    /// Before the first row. The sources are those of `obs_time`, `value` and, where rows are to be told apart by it,
    /// the series column.
    pub(super) fn open(
        footer: &Footer,
        index: usize,
        sources: [Option<Source>; 3],
        budget: &Budget,
    ) -> Result<Self, Problem> {
        let missing = |what: &str| Problem::FooterContent { reason: format!("there is no {what} {index}") };
        let row_group = footer.row_groups.get(index).ok_or_else(|| missing("row group"))?;
        let columns = &footer.columns;
        let open =
            |column: &Column, chunk: &Chunk, source: Source| Cursor::open(column, chunk, source, row_group, budget);
        let [time, value, series] = sources;
        let time = open(&columns.time, &row_group.time, time.ok_or_else(|| missing("time in row group"))?)?;
        let value = open(&columns.value, &row_group.value, value.ok_or_else(|| missing("value in row group"))?)?;
        let series = match (&columns.series, &row_group.series, series) {
            (Some(column), Some(chunk), Some(source)) => Some(open(column, chunk, source)?),
            _ => None,
        };
        Ok(Self { time, value, series, first_row: row_group.first_row, batch: Batch::default() })
    }

    /// Adds these rows of the row group to `rows`, passing over those before.
    fn read(&mut self, range: Range<u64>, wanted: &Wanted, budget: &Budget, rows: &mut Rows) -> Result<(), Problem> {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + BATCH_ROWS);
            budget.take_rows(end - start)?;
            let batch = &mut self.batch;
            let wanted_count = match &mut self.series {
                Some(series) => batch.tell_apart(series, start..end, wanted)?,
                None => batch.take_all(start..end),
            };
            rows.foreign_rows += (end - start).saturating_sub(wanted_count as u64);
            budget.take_observations(wanted_count)?;
            if wanted_count > 0 {
                batch.read(&mut self.time, &mut self.value, start..end, self.first_row)?;
                batch.add_to(rows);
            }
            start = end;
        }
        Ok(())
    }

    /// The same by itself. The decoder library may panic on malformed values: that is an error like any other.
    pub(super) fn rows(&mut self, range: Range<u64>, wanted: &Wanted, budget: &Budget) -> Result<Rows, Problem> {
        let mut rows = Rows::none(wanted.codes.len());
        if let ([only], None) = (&mut rows.builders[..], &self.series) {
            only.reserve(row_count(range.clone()));
        }
        let read = catch_unwind(AssertUnwindSafe(|| self.read(range, wanted, budget, &mut rows)));
        read.unwrap_or(Err(Problem::DecoderPanicked)).map(|()| rows)
    }
}

/// A column and how far it was read.
struct Cursor {
    reader: ColumnReader,
    row: u64,
}

impl Cursor {
    fn open(
        column: &Column,
        chunk: &Chunk,
        source: Source,
        row_group: &RowGroup,
        budget: &Budget,
    ) -> Result<Self, Problem> {
        let place = Place { column: column.name.to_owned(), row_group: row_group.index };
        let pages =
            Pages::new(source, column, place.clone(), chunk.codec, row_group.row_count, budget.page_bytes_limit)?;
        Ok(Self { reader: ColumnReader::new(column, place, pages)?, row: 0 })
    }

    /// Reads these rows, passing over those before.
    fn read(&mut self, rows: Range<u64>) -> Result<(), Problem> {
        self.reader.skip(row_count(self.row..rows.start))?;
        self.reader.read(row_count(rows.clone()))?;
        self.row = rows.end;
        Ok(())
    }
}

fn row_count(rows: Range<u64>) -> usize {
    usize::try_from(rows.end.saturating_sub(rows.start)).unwrap_or(usize::MAX)
}

/// Rows being decoded; the memory is used again for the next.
#[derive(Default)]
struct Batch {
    /// For each row, the wanted series it belongs to; nothing where all rows belong to the one that is wanted.
    slots: Option<Vec<Option<usize>>>,
    times: Vec<i64>,
    numbers: Vec<f64>,
}

impl Batch {
    /// Every row belongs to the one series that is wanted.
    fn take_all(&mut self, rows: Range<u64>) -> usize {
        self.slots = None;
        row_count(rows)
    }

    /// Finds each row's series; the number of rows that have one.
    fn tell_apart(&mut self, series: &mut Cursor, rows: Range<u64>, wanted: &Wanted) -> Result<usize, Problem> {
        series.read(rows)?;
        let slots = self.slots.get_or_insert_default();
        slots.clear();
        let mut wanted_count = 0;
        // Equal neighbours, and all that a dictionary gives, share their bytes: then nothing is compared.
        let mut last: Option<(*const u8, usize, Option<usize>)> = None;
        series.reader.texts(|_, text| {
            let slot = text.and_then(|text| {
                let bytes = text.data();
                let slot = match last {
                    Some((start, length, slot)) if start == bytes.as_ptr() && length == bytes.len() => slot,
                    _ => wanted.codes.iter().position(|code| code.as_str().as_bytes() == bytes),
                };
                last = Some((bytes.as_ptr(), bytes.len(), slot));
                slot
            });
            wanted_count += usize::from(slot.is_some());
            slots.push(slot);
        });
        Ok(wanted_count)
    }

    fn read(
        &mut self,
        time: &mut Cursor,
        value: &mut Cursor,
        rows: Range<u64>,
        group_first_row: u64,
    ) -> Result<(), Problem> {
        time.read(rows.clone())?;
        value.read(rows.clone())?;
        let slots = self.slots.as_deref();
        let is_wanted = |row: usize| slots.is_none_or(|slots| slots.get(row).is_some_and(Option::is_some));
        time.reader.times(group_first_row + rows.start, is_wanted, &mut self.times)?;
        value.reader.numbers(&mut self.numbers)
    }

    fn add_to(&self, rows: &mut Rows) {
        let Some(slots) = &self.slots else {
            if let Some(builder) = rows.builders.first_mut() {
                builder.extend(&self.times, &self.numbers);
            }
            return;
        };
        for ((&slot, &time), &number) in slots.iter().zip(&self.times).zip(&self.numbers) {
            if let Some(builder) = slot.and_then(|slot| rows.builders.get_mut(slot)) {
                builder.push(time, number);
            }
        }
    }
}
