//! The rows of one object of a dataset: read by the worker's own reader; their times by series, and what is wrong with
//! them, out.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bytes::Bytes;
use jiff::civil::Date;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Problem;
use crate::cli::axis::civil;
use crate::cli::location::Location;
use crate::cli::lookup::Found;
use crate::ids::SeriesCode;
use crate::keys::Key;
use crate::series::TimeNs;
use crate::storage::{ByteRange, ObjectMeta};
use crate::worker;
use crate::worker::plan::{Content, PlannedObject, PlannedSeries, ReadPlan};
use crate::worker::read::SeriesRead;

/// What was found in an object.
#[derive(Default)]
pub(super) struct Read {
    pub(super) problems: Vec<Problem>,
    pub(super) spans: Vec<(SeriesCode, Span)>,
}

/// The times of a series in an object, ascending.
pub(super) struct Span {
    place: String,
    times: Vec<TimeNs>,
}

/// Reads an object in a series' own folder.
pub(super) async fn own(found: &Found, code: &SeriesCode, meta: &ObjectMeta, location: &Location) -> Read {
    read(found, vec![code.clone()], Content::Own(0), meta, location).await
}

/// Reads an object of many series: all that it holds.
pub(super) async fn shared(found: &Found, meta: &ObjectMeta, location: &Location) -> Read {
    let named = found.manifest.series_codes.iter().map(String::as_str).filter(|code| !code.is_empty());
    let named: BTreeSet<&str> = named.collect();
    let mut problems = Vec::new();
    let mut codes: BTreeSet<SeriesCode> =
        found.manifest.series_codes.iter().filter_map(|code| SeriesCode::parse(code).ok()).collect();
    let held = match location.storage.get(&meta.key, ByteRange::Whole, None).await {
        Ok(object) => codes_in(object.bytes).unwrap_or_default(),
        Err(_) => BTreeMap::new(),
    };
    if !held.is_empty() {
        codes.retain(|code| held.contains_key(code.as_str()));
    }
    for (text, count) in &held {
        match SeriesCode::parse(text) {
            Err(error) => problems.push(Problem::new(meta.key.as_str(), format!("{}: {error}", counted(*count)))),
            Ok(code) => {
                if !named.is_empty() && !named.contains(text.as_str()) {
                    let problem = format!("{} of {text}, which series_codes does not name", counted(*count));
                    problems.push(Problem::new(meta.key.as_str(), problem));
                }
                codes.insert(code);
            }
        }
    }
    let content = Content::Shared((0..codes.len()).collect());
    let mut read = read(found, codes.into_iter().collect(), content, meta, location).await;
    read.problems.splice(0..0, problems);
    read
}

fn counted(count: usize) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

/// The codes in the series column, each with its rows; nothing where they cannot be told. Whether the file is sound is said
/// by the worker's reader.
fn codes_in(bytes: Bytes) -> Option<BTreeMap<String, usize>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).ok()?;
    let fields = builder.schema().fields();
    let column = ["internal_series_code", "series_code"];
    let index = column.iter().find_map(|name| fields.iter().position(|field| field.name() == name))?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), [index]);
    let mut codes = BTreeMap::new();
    for batch in builder.with_projection(mask).build().ok()? {
        let texts = cast(batch.ok()?.column(0), &DataType::Utf8).ok()?;
        for text in texts.as_string::<i32>().iter().flatten() {
            match codes.get_mut(text) {
                Some(count) => *count += 1,
                None => {
                    codes.insert(text.to_owned(), 1);
                }
            }
        }
    }
    Some(codes)
}

async fn read(found: &Found, codes: Vec<SeriesCode>, content: Content, meta: &ObjectMeta, location: &Location) -> Read {
    let place = meta.key.as_str();
    let is_own = matches!(content, Content::Own(_));
    let (size_bytes, etag) = (Some(meta.size_bytes), Some(meta.etag.clone()));
    let planned = PlannedObject { key: meta.key.clone(), size_bytes, etag, content };
    let series = |series_code| PlannedSeries { dataset_id: found.dataset_id.clone(), series_code };
    let plan = ReadPlan { series: codes.into_iter().map(series).collect(), objects: vec![planned] };
    let mut read = Read::default();
    match worker::read_planned(&plan, &*location.storage, &location.config, &|_| ()).await {
        Err(error) => read.problems.push(Problem::new(place, error)),
        Ok(outcome) => {
            for series in outcome.series {
                read.problems.extend(of_series(&series, is_own, &meta.key));
                let times = series.observations.times().to_vec();
                if !times.is_empty() {
                    read.spans.push((series.series.series_code, Span { place: place.to_owned(), times }));
                }
            }
            if read.spans.is_empty() && read.problems.is_empty() {
                read.problems.push(Problem::new(place, "no rows"));
            }
        }
    }
    read
}

fn of_series(read: &SeriesRead, is_own: bool, key: &Key) -> Vec<Problem> {
    let of = if is_own { String::new() } else { format!(" of {}", read.series.series_code) };
    let mut problems = Vec::new();
    let mut tell = |count: u64, one: &str, many: &str| {
        if count > 0 {
            let rows = if count == 1 { "row" } else { "rows" };
            let what = if count == 1 { one } else { many };
            problems.push(Problem::new(key.as_str(), format!("{count} {rows}{of} {what}")));
        }
    };
    tell(read.out_of_order, "is earlier than the row before it", "are earlier than the row before them");
    tell(read.dropped_duplicates, "has the time of a later one", "have the time of a later one");
    tell(read.foreign_rows, "belongs to another series", "belong to other series");
    if let Some((year, month)) = partition(key) {
        let is_inside = |time: TimeNs| civil(time).is_some_and(|at| (at.year(), at.month()) == (year, month));
        let outside = read.observations.times().iter().filter(|&&time| !is_inside(time)).count();
        let what = format!("not of {year}-{month:02}");
        tell(outside as u64, &format!("is {what}"), &format!("are {what}"));
    }
    problems
}

/// The month that a path names: `year=2024/month=01`.
fn partition(key: &Key) -> Option<(i16, i8)> {
    let value = |name: &str| key.segments().find_map(|segment| segment.strip_prefix(name)?.parse::<i16>().ok());
    let (year, month) = (value("year=")?, i8::try_from(value("month=")?).ok()?);
    Date::new(year, month, 1).ok().map(|_| (year, month))
}

/// Objects of one series that reach into each other in time.
pub(super) fn overlaps(spans: BTreeMap<SeriesCode, Vec<Span>>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (code, mut spans) in spans {
        spans.sort_by(|one, other| (one.times.first(), &one.place).cmp(&(other.times.first(), &other.place)));
        // The one that reaches furthest so far.
        let mut furthest = 0;
        for index in 1..spans.len() {
            let (before, span) = (&spans[furthest], &spans[index]);
            if span.times.first() <= before.times.last() {
                let common = span.times.iter().filter(|time| before.times.binary_search(time).is_ok()).count();
                let times = if common == 1 { "1 time is".to_owned() } else { format!("{common} times are") };
                let problem = format!("{code} overlaps in time with {}, {times} in both", before.place);
                problems.push(Problem::new(&span.place, problem));
            }
            if span.times.last() > before.times.last() {
                furthest = index;
            }
        }
    }
    problems
}
