//! One object: its place in the plan comes in; the observations of the wanted series in it go out.
//!
//! A small object is in memory after one request. Of a large one the footer is read first, then what prunes (bloom
//! filters and page indexes), and then one row group after the other, only the columns and pages that are needed.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join;

use super::decode::{Budget, RowGroupInput, Rows, Wanted, decode_row_group};
use super::error::{Error, Problem};
use super::fetch::OpenObject;
use super::footer::{Chunk, Footer, RowGroup, SMALLEST_FILE_BYTES, TAIL_BYTES, footer_length, read_footer};
use super::page_guard::Source;
use super::prune::{
    PageLocation, bloom_may_hold_any, holds_only, may_hold_any, page_locations, pages_that_may_hold, selected_rows,
};
use crate::keys::Key;

/// Indexes and filters of more bytes than this, all row groups together, cost more than they save.
const PRUNING_BYTES_LIMIT: u64 = 32 << 20;

/// How many of the largest pages a row group's needed columns may take together.
const ROW_GROUP_PAGES: u64 = 8;

/// What is read of a row group: some rows, and where their pages are.
struct Part {
    index: usize,
    selection: Vec<Range<u64>>,
    /// The pages of time, value and series, where an offset index places them.
    pages: Option<[Vec<PageLocation>; 3]>,
}

/// Reads the wanted series of an object that was opened.
pub(super) async fn read_file(
    key: &Key,
    object: &OpenObject<'_>,
    footer: Arc<Footer>,
    wanted: Arc<Wanted>,
    budget: Arc<Budget>,
) -> Result<Rows, Error> {
    let mut rows = Rows::none(wanted.codes.len());
    if footer.columns.series.is_none() && !wanted.is_own {
        return Err(Error::unreadable(key, Problem::NoColumn { column: "internal_series_code or series_code" }));
    }
    let parts = if wanted.is_own {
        let (groups, foreign_rows) = own_row_groups(&footer, &wanted);
        rows.foreign_rows += foreign_rows;
        groups.into_iter().map(|index| whole_part(&footer.row_groups[index])).collect()
    } else {
        shared_parts(object, &footer, &wanted).await?
    };
    let fetch = |part| fetch_part(key, object, &footer, part, &wanted, &budget);
    let mut parts = parts.into_iter();
    let mut fetched = match parts.next() {
        Some(part) => Some(fetch(part).await?),
        None => None,
    };
    // While one row group is decoded, the next is on its way.
    while let Some(input) = fetched {
        let next = async {
            match parts.next() {
                Some(part) => fetch(part).await.map(Some),
                None => Ok(None),
            }
        };
        let (decoded, next) = join(decode(input, &footer, &wanted, &budget), next).await;
        rows.append(decoded.map_err(|problem| Error::unreadable(key, problem))?);
        fetched = next?;
    }
    Ok(rows)
}

/// Decodes at once, or beside other work where it may take long.
async fn decode(
    input: RowGroupInput,
    footer: &Arc<Footer>,
    wanted: &Arc<Wanted>,
    budget: &Arc<Budget>,
) -> Result<Rows, Problem> {
    if !input.is_long() {
        return decode_row_group(footer, input, wanted, budget);
    }
    // A semaphore that is never closed always gives its permit.
    let _turn = budget.long_decodes.acquire().await.ok();
    let (footer, wanted, budget) = (Arc::clone(footer), Arc::clone(wanted), Arc::clone(budget));
    let computing = budget.computing;
    let decoded = computing.run(move || decode_row_group(&footer, input, &wanted, &budget)).await;
    decoded.unwrap_or(Err(Problem::DecoderPanicked))
}

/// Reads the footer.
pub(super) async fn open_footer(key: &Key, object: &OpenObject<'_>) -> Result<Footer, Error> {
    let unreadable = |problem| Error::unreadable(key, problem);
    if let Some(bytes) = object.whole() {
        return whole_footer(bytes).map_err(unreadable);
    }
    let size_bytes = object.size_bytes;
    if size_bytes < SMALLEST_FILE_BYTES {
        return Err(unreadable(Problem::TooShort { size_bytes }));
    }
    let tail_start = size_bytes - TAIL_BYTES as u64;
    let tail = one(object, tail_start..size_bytes).await?;
    let length = footer_length(&tail, size_bytes).map_err(unreadable)?;
    let footer_start = tail_start - length;
    let bytes = one(object, footer_start..tail_start).await?;
    parse_footer(&bytes, footer_start).map_err(unreadable)
}

/// The same of an object that is in memory.
fn whole_footer(object: &[u8]) -> Result<Footer, Problem> {
    let size_bytes = object.len() as u64;
    let Some((before, tail)) = object.split_last_chunk::<TAIL_BYTES>().filter(|_| size_bytes >= SMALLEST_FILE_BYTES)
    else {
        return Err(Problem::TooShort { size_bytes });
    };
    let length = footer_length(tail, size_bytes)?;
    if !object.starts_with(b"PAR1") {
        return Err(Problem::Magic);
    }
    let footer_start = before.len() as u64 - length;
    parse_footer(
        usize::try_from(footer_start).ok().and_then(|start| before.get(start..)).unwrap_or_default(),
        footer_start,
    )
}

fn parse_footer(bytes: &[u8], footer_start: u64) -> Result<Footer, Problem> {
    catch_unwind(AssertUnwindSafe(|| read_footer(bytes, footer_start))).unwrap_or(Err(Problem::DecoderPanicked))
}

/// Reads a series' own object that is in memory, without waiting for anything. Nothing, where that may take longer than
/// others should wait, or it has more rows than `row_limit`.
pub(super) fn read_in_memory(
    object: &Bytes,
    wanted: &Wanted,
    row_limit: u64,
    budget: &Budget,
) -> Result<Option<Rows>, Problem> {
    let footer = whole_footer(object)?;
    if footer.row_groups.iter().fold(0u64, |sum, group| sum.saturating_add(group.row_count)) > row_limit {
        return Ok(None);
    }
    let (groups, foreign_rows) = own_row_groups(&footer, wanted);
    let mut inputs = Vec::with_capacity(groups.len());
    for index in groups {
        let part = whole_part(&footer.row_groups[index]);
        let (mut size_bytes, mut sources) = (0u64, Vec::with_capacity(3));
        for chunk in needed_chunks(&footer, &footer.row_groups[index], wanted).into_iter().flatten() {
            let Range { start, end } = chunk.bytes;
            let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            let bytes = range.map(|(start, end)| object.slice(start..end));
            sources.push(Source::Whole(bytes.ok_or(Problem::MissingBytes { start, end })?));
            size_bytes = size_bytes.saturating_add(end - start);
        }
        check_size(index, size_bytes, budget)?;
        inputs.push(part.input(size_bytes, sources.into_iter()));
    }
    // Before anything is decoded: what is decoded counts, and must not be decoded once more.
    if inputs.iter().any(RowGroupInput::is_long) {
        return Ok(None);
    }
    let mut rows = Rows { foreign_rows, ..Rows::none(wanted.codes.len()) };
    for input in inputs {
        rows.append(decode_row_group(&footer, input, wanted, budget)?);
    }
    Ok(Some(rows))
}

async fn one(object: &OpenObject<'_>, range: Range<u64>) -> Result<Bytes, Error> {
    match object.in_memory(&range) {
        Some(bytes) => Ok(bytes),
        None => Ok(object.ranges(&[range]).await?.pop().unwrap_or_default()),
    }
}

/// The indexes of the row groups of a series' own object that may hold it, and the rows that statistics show to be of
/// other series.
pub(super) fn own_row_groups(footer: &Footer, wanted: &Wanted) -> (Vec<usize>, u64) {
    let mut foreign_rows = 0;
    let mut groups = Vec::with_capacity(footer.row_groups.len());
    for row_group in &footer.row_groups {
        if row_group.series.as_ref().is_some_and(|series| !may_hold_any(series, &wanted.texts())) {
            foreign_rows += row_group.row_count;
        } else if row_group.row_count > 0 {
            groups.push(row_group.index);
        }
    }
    (groups, foreign_rows)
}

fn whole_part(row_group: &RowGroup) -> Part {
    let all_rows = 0..row_group.row_count;
    Part { index: row_group.index, selection: vec![all_rows], pages: None }
}

/// The row groups and pages of an object of many series that may hold one that is wanted: by statistics, then by
/// bloom filters, then by page indexes.
async fn shared_parts(object: &OpenObject<'_>, footer: &Footer, wanted: &Wanted) -> Result<Vec<Part>, Error> {
    let codes = wanted.texts();
    let mut groups: Vec<(&RowGroup, &Chunk)> =
        footer.row_groups.iter().filter_map(|row_group| Some((row_group, row_group.series.as_ref()?))).collect();
    groups.retain(|(row_group, series)| row_group.row_count > 0 && may_hold_any(series, &codes));

    let filters: Vec<_> = groups.iter().map(|(_, series)| series.bloom_filter.clone()).collect();
    let filters = optional_ranges(object, &filters).await?;
    let may_hold = |filter: &Option<Bytes>| filter.as_ref().is_none_or(|bytes| bloom_may_hold_any(bytes, &codes));
    let groups: Vec<(&RowGroup, &Chunk)> =
        groups.into_iter().zip(&filters).filter(|(_, filter)| may_hold(filter)).map(|(group, _)| group).collect();

    let indexes: Vec<_> = groups
        .iter()
        .flat_map(|(row_group, series)| {
            let chunks = [&row_group.time, &row_group.value, series];
            let has_all = series.column_index.is_some() && chunks.iter().all(|chunk| chunk.offset_index.is_some());
            let [time, value, series_offsets] = chunks.map(|chunk| chunk.offset_index.clone().filter(|_| has_all));
            [time, value, series_offsets, series.column_index.clone().filter(|_| has_all)]
        })
        .collect();
    let indexes = optional_ranges(object, &indexes).await?;
    let parts = groups.iter().zip(indexes.chunks_exact(4));
    Ok(parts.filter_map(|((row_group, series), indexes)| indexed_part(row_group, series, indexes, &codes)).collect())
}

/// The selected pages of a row group; all of it where it has no index that can be used. Nothing where the index
/// excludes every page.
fn indexed_part(row_group: &RowGroup, series: &Chunk, indexes: &[Option<Bytes>], codes: &[&str]) -> Option<Part> {
    let select = || {
        let [Some(time), Some(value), Some(offsets), Some(bounds)] = indexes else {
            return None;
        };
        let row_count = row_group.row_count;
        let time = page_locations(time, &row_group.time, row_count)?;
        let value = page_locations(value, &row_group.value, row_count)?;
        let series = page_locations(offsets, series, row_count)?;
        let is_selected = pages_that_may_hold(bounds, series.len(), codes)?;
        let selection = selected_rows(&series, &is_selected);
        Some((selection, [time, value, series]))
    };
    match select() {
        None => Some(whole_part(row_group)),
        Some((selection, _)) if selection.is_empty() => None,
        Some((selection, pages)) => Some(Part { index: row_group.index, selection, pages: Some(pages) }),
    }
}

/// Bytes that only save work: none of them, where they are too many.
async fn optional_ranges(object: &OpenObject<'_>, ranges: &[Option<Range<u64>>]) -> Result<Vec<Option<Bytes>>, Error> {
    let present: Vec<Range<u64>> = ranges.iter().flatten().cloned().collect();
    let size_bytes = present.iter().fold(0u64, |sum, range| sum.saturating_add(range.end - range.start));
    if size_bytes > PRUNING_BYTES_LIMIT {
        return Ok(vec![None; ranges.len()]);
    }
    let mut fetched = object.ranges(&present).await?.into_iter();
    Ok(ranges.iter().map(|range| range.as_ref().and_then(|_| fetched.next())).collect())
}

/// Fetches what is needed of a row group.
async fn fetch_part(
    key: &Key,
    object: &OpenObject<'_>,
    footer: &Footer,
    part: Part,
    wanted: &Wanted,
    budget: &Budget,
) -> Result<RowGroupInput, Error> {
    let chunks = needed_chunks(footer, &footer.row_groups[part.index], wanted);
    let mut layouts = Vec::with_capacity(chunks.len());
    let mut ranges = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        let Some(chunk) = chunk else { continue };
        let layout = Layout::of(chunk, part.pages.as_ref().map(|pages| &pages[index][..]), &part.selection);
        ranges.extend(layout.ranges());
        layouts.push(layout);
    }
    let size_bytes = ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.end - range.start));
    check_size(part.index, size_bytes, budget).map_err(|problem| Error::unreadable(key, problem))?;
    let mut fetched = object.ranges(&ranges).await?.into_iter();
    let sources = layouts.into_iter().map(|layout| layout.source(&mut fetched));
    Ok(part.input(size_bytes, sources))
}

impl Part {
    /// The part with its pages, which come in the order of [`needed_chunks`].
    fn input(self, size_bytes: u64, mut sources: impl Iterator<Item = Source>) -> RowGroupInput {
        let empty = || Source::Whole(Bytes::new());
        RowGroupInput {
            index: self.index,
            size_bytes,
            selection: self.selection,
            time: sources.next().unwrap_or_else(empty),
            value: sources.next().unwrap_or_else(empty),
            series: sources.next(),
        }
    }
}

/// The chunks that are read of a row group: times, values, and where rows are to be told apart by it, the series column.
pub(super) fn needed_chunks<'a>(footer: &Footer, row_group: &'a RowGroup, wanted: &Wanted) -> [Option<&'a Chunk>; 3] {
    let nullable = footer.columns.series.as_ref().is_some_and(|column| column.nullable);
    let is_proven = matches!(&wanted.codes[..], [code] if holds_only(row_group, code.as_str(), nullable));
    let series = row_group.series.as_ref().filter(|_| !is_proven);
    [Some(&row_group.time), Some(&row_group.value), series]
}

/// Whether what is needed of a row group is within the limit.
pub(super) fn check_size(index: usize, size_bytes: u64, budget: &Budget) -> Result<(), Problem> {
    let limit_bytes = budget.page_bytes_limit.saturating_mul(ROW_GROUP_PAGES);
    if size_bytes > limit_bytes {
        return Err(Problem::TooLarge { what: format!("row group {index}"), size_bytes, limit_bytes });
    }
    Ok(())
}

/// How a chunk is fetched.
enum Layout {
    Whole(Range<u64>),
    Pages {
        dictionary: Option<Range<u64>>,
        /// The rows of every page, and its bytes where it is needed.
        pages: Vec<(u64, Option<Range<u64>>)>,
    },
}

impl Layout {
    fn of(chunk: &Chunk, pages: Option<&[PageLocation]>, selection: &[Range<u64>]) -> Self {
        let Some(pages) = pages else {
            return Self::Whole(chunk.bytes.clone());
        };
        let first_page_start = pages.first().map_or(chunk.bytes.end, |page| page.bytes.start);
        let dictionary = (first_page_start > chunk.bytes.start).then_some(chunk.bytes.start..first_page_start);
        let is_needed =
            |page: &PageLocation| selection.iter().any(|rows| rows.start < page.rows.end && page.rows.start < rows.end);
        let of_page =
            |page: &PageLocation| (page.rows.end - page.rows.start, is_needed(page).then(|| page.bytes.clone()));
        Self::Pages { dictionary, pages: pages.iter().map(of_page).collect() }
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        match self {
            Self::Whole(range) => vec![range.clone()],
            Self::Pages { dictionary, pages } => {
                dictionary.iter().chain(pages.iter().filter_map(|(_, range)| range.as_ref())).cloned().collect()
            }
        }
    }

    /// The same with the bytes, which come in the order of [`Self::ranges`].
    fn source(self, fetched: &mut impl Iterator<Item = Bytes>) -> Source {
        match self {
            Self::Whole(_) => Source::Whole(fetched.next().unwrap_or_default()),
            Self::Pages { dictionary, pages } => {
                let dictionary = dictionary.and_then(|_| fetched.next());
                let with_bytes = |(rows, range): (u64, Option<Range<u64>>)| (rows, range.and_then(|_| fetched.next()));
                let pages: VecDeque<_> = pages.into_iter().map(with_bytes).collect();
                Source::Located { dictionary, pages }
            }
        }
    }
}
