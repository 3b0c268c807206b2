//! The values of metrics, as dashboards read them: a code and a span of time in; the points of the current version out.
//!
//! They come from the bucket, where the worker put them: the database knows runs, not values.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::extract::{Edge, Id, Parameters, number, time};
use super::problem::Problem;
use crate::ids::MetricCode;
use crate::keys::VersionTs;
use crate::readback::{self, Metric};
use crate::series::{Series, TimeNs};
use crate::storage;

/// Points where nothing is said: thirteen years of days.
const DEFAULT_POINTS: usize = 5_000;

/// Most points of an answer: a Lambda function answers with at most 6 MB, and a point takes up to a hundred bytes.
const MOST_POINTS: usize = 50_000;

/// Most metrics of a summary.
const MOST_METRICS: usize = 100;

/// Objects read at a time for a summary.
const CONCURRENCY: usize = 16;

/// One value.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Point {
    /// Its time, in UTC.
    #[schemars(extend("format" = "date-time"))]
    pub ts: String,
    /// The value; null where there is none, or where it is not finite.
    pub value: Option<f64>,
}

/// The values of a metric.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Values {
    /// The metric.
    pub metric_id: MetricCode,
    /// The version that they are of.
    pub version_ts: VersionTs,
    /// The values, ascending by time.
    pub points: Vec<Point>,
    /// How many.
    pub count: usize,
    /// Whether older values of the span were left out because of the limit.
    pub is_truncated: bool,
}

/// Which values are wanted.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ValueParameters {
    /// None before it: a time, UTC where it names no zone, or a date.
    #[schemars(extend("anyOf" = [{ "format": "date" }, { "format": "date-time" }]))]
    pub from: Option<String>,
    /// None after it: a time, UTC where it names no zone, or a date, which is meant to its end.
    #[schemars(extend("anyOf" = [{ "format": "date" }, { "format": "date-time" }]))]
    pub to: Option<String>,
    /// At most so many, the newest; 5000 where nothing is said.
    #[schemars(with = "Option<u32>", range(min = 1, max = 50_000))]
    pub limit: Option<String>,
}

/// The newest value of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SummaryItem {
    /// The metric.
    pub metric_id: MetricCode,
    /// Its time, in UTC.
    #[schemars(extend("format" = "date-time"))]
    pub ts: String,
    /// The value.
    pub value: f64,
}

/// The newest values of some metrics.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Summary {
    /// Those that have a value, in the order in which they were asked for.
    pub items: Vec<SummaryItem>,
    /// Those that have none.
    pub missing: Vec<MetricCode>,
}

/// Which metrics are wanted.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SummaryParameters {
    /// Codes of metrics, with commas between them; at most 100.
    #[schemars(length(min = 1))]
    pub ids: String,
}

/// The values of a metric's current version.
pub(super) async fn values(
    State(api): State<Api>,
    Id(code): Id<MetricCode>,
    Parameters(wanted): Parameters<ValueParameters>,
) -> Result<Json<Values>, Problem> {
    let from = time("from", wanted.from.as_deref(), Edge::Start)?.unwrap_or(TimeNs::MIN);
    let to = time("to", wanted.to.as_deref(), Edge::End)?.unwrap_or(TimeNs::MAX);
    let limit = number("limit", wanted.limit.as_deref(), DEFAULT_POINTS, MOST_POINTS)?;
    let metric = current(&api, &code).await?;
    let no_version = || Problem::unknown("version", format!("metric {code} has no version"));
    let Metric { manifest, series } = metric.ok_or_else(no_version)?;
    let (points, is_truncated) = newest(&series, from, to, limit);
    let count = points.len();
    Ok(Json(Values { metric_id: code, version_ts: manifest.version_ts, points, count, is_truncated }))
}

/// The newest value of each metric.
pub(super) async fn summary(
    State(api): State<Api>,
    Parameters(wanted): Parameters<SummaryParameters>,
) -> Result<Json<Summary>, Problem> {
    let codes = codes(&wanted.ids)?;
    let read = stream::iter(codes).map(|code| {
        let api = api.clone();
        async move {
            let metric = current(&api, &code).await?;
            Ok::<_, Problem>((metric.and_then(|metric| latest(&code, &metric.series)), code))
        }
    });
    let read: Vec<_> = read.buffered(CONCURRENCY).try_collect().await?;
    let (mut items, mut missing) = (Vec::new(), Vec::new());
    for (item, code) in read {
        match item {
            Some(item) => items.push(item),
            None => missing.push(code),
        }
    }
    Ok(Json(Summary { items, missing }))
}

/// Each code once, in the order of its first mention.
fn codes(ids: &str) -> Result<Vec<MetricCode>, Problem> {
    let mut seen = BTreeSet::new();
    let mut codes = Vec::new();
    for text in ids.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let code = MetricCode::parse(text).map_err(|error| Problem::parameter(format!("ids: {error}")))?;
        if seen.insert(code.clone()) {
            codes.push(code);
        }
        if codes.len() > MOST_METRICS {
            return Err(Problem::parameter(format!("ids must name at most {MOST_METRICS} metrics")));
        }
    }
    match codes.is_empty() {
        true => Err(Problem::parameter("ids must name a metric")),
        false => Ok(codes),
    }
}

/// The current version of a metric, if it has one.
async fn current(api: &Api, code: &MetricCode) -> Result<Option<Metric>, Problem> {
    let Some(metrics) = api.rules.output_prefixes.iter().next() else { return Ok(None) };
    match readback::read(&*api.storage, metrics, code).await {
        Ok(metric) => Ok(Some(metric)),
        Err(readback::Error::Storage(storage::Error::NotFound { .. })) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The newest points of a span, and whether there are older ones in it.
fn newest(series: &Series, from: TimeNs, to: TimeNs, limit: usize) -> (Vec<Point>, bool) {
    let begin = series.times().partition_point(|time| *time < from);
    let end = series.times().partition_point(|time| *time <= to).max(begin);
    let start = begin.max(end.saturating_sub(limit));
    let points = series
        .iter()
        .take(end)
        .skip(start)
        .map(|(time, value)| Point { ts: text(time), value: value.filter(|value| value.is_finite()) });
    (points.collect(), start > begin)
}

fn latest(code: &MetricCode, series: &Series) -> Option<SummaryItem> {
    let pairs = series.times().iter().zip(series.values()).rev();
    let (time, value) = pairs.into_iter().find(|(_, value)| value.is_finite())?;
    Some(SummaryItem { metric_id: code.clone(), ts: text(*time), value: *value })
}

/// RFC 3339, in UTC; a fraction of a second only where there is one.
fn text(time: TimeNs) -> String {
    Timestamp::from_nanosecond(time.into()).map_or_else(|_| String::new(), |timestamp| timestamp.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: TimeNs = 86_400_000_000_000;

    fn series() -> Series {
        Series::new(vec![0, DAY, 2 * DAY, 3 * DAY], vec![1.0, f64::NAN, 3.0, f64::INFINITY]).unwrap()
    }

    fn check(from: TimeNs, to: TimeNs, limit: usize, expected: &[(&str, Option<f64>)], is_truncated: bool) {
        let (points, truncated) = newest(&series(), from, to, limit);
        let points: Vec<_> = points.iter().map(|point| (&point.ts[..10], point.value)).collect();
        assert_eq!((points.as_slice(), truncated), (expected, is_truncated));
    }

    #[test]
    fn a_span_has_both_its_ends_and_its_newest_points() {
        let all = [("1970-01-01", Some(1.0)), ("1970-01-02", None), ("1970-01-03", Some(3.0)), ("1970-01-04", None)];
        check(TimeNs::MIN, TimeNs::MAX, 4, &all, false);
        check(DAY, 2 * DAY, 4, &all[1..3], false);
        check(TimeNs::MIN, 2 * DAY, 2, &all[1..3], true);
        check(2 * DAY, DAY, 4, &[], false);
        check(4 * DAY, TimeNs::MAX, 4, &[], false);
    }

    #[test]
    fn the_newest_value_is_a_number() {
        let code = MetricCode::parse("m").unwrap();
        let item = latest(&code, &series()).unwrap();
        assert_eq!((item.ts.as_str(), item.value.to_string()), ("1970-01-03T00:00:00Z", "3".to_owned()));
        assert_eq!(latest(&code, &Series::empty()), None);
    }

    #[test]
    fn a_summary_names_each_metric_once() {
        let codes = codes(" a,b, a,").unwrap();
        assert_eq!(codes.iter().map(MetricCode::as_str).collect::<Vec<_>>(), ["a", "b"]);
        for ids in ["", ",", "a/b", &(0..101).map(|number| format!("m{number},")).collect::<String>()] {
            assert_eq!(super::codes(ids).unwrap_err().status, 400, "{ids}");
        }
    }
}
