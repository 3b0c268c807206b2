//! Evaluated metrics in, the bytes of each form out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Evaluated;
use crate::cli::chart;
use crate::cli::plot::plot;
use crate::cli::screen::{Colour, Screen};
use crate::cli::table::{Times, grouped, number};
use crate::config::OutputCompression;
use crate::expression::text;
use crate::keys::DataFile;
use crate::series::{NULL, Series, TimeNs};
use crate::worker::write::encode;

/// Rows of a table whose length nobody chose.
const SHOWN_ROWS: usize = 20;

/// Every time that a metric has, with the value of each metric; nothing where it has no row.
fn joined(metrics: &[Evaluated]) -> BTreeMap<TimeNs, Vec<Option<f64>>> {
    let mut rows: BTreeMap<TimeNs, Vec<Option<f64>>> = BTreeMap::new();
    for (index, metric) in metrics.iter().enumerate() {
        for (time, value) in metric.series.iter() {
            let row = rows.entry(time).or_insert_with(|| vec![None; metrics.len()]);
            row[index] = Some(value.unwrap_or(NULL));
        }
    }
    rows
}

fn times(metrics: &[Evaluated]) -> Times {
    let is_days = |metric: &Evaluated| Times::of(&metric.series) == Times::Days;
    if metrics.iter().all(is_days) { Times::Days } else { Times::Seconds }
}

/// Rows in columns.
pub(super) fn rows(metrics: &[Evaluated], limit: Option<usize>) -> String {
    let (rows, times) = (joined(metrics), times(metrics));
    let shown = limit.unwrap_or(SHOWN_ROWS);
    let skipped = if limit.is_some() { 0 } else { rows.len().saturating_sub(shown) };
    let mut lines: Vec<Vec<String>> = vec![vec!["time".to_owned()]];
    lines[0].extend(metrics.iter().map(|metric| metric.label.clone()));
    for (&time, values) in rows.iter().skip(skipped) {
        let mut line = vec![times.text(time)];
        line.extend(values.iter().map(|value| value.map_or(".".to_owned(), number)));
        lines.push(line);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=metrics.len()).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
        if number == 0 && skipped > 0 {
            text.push_str(&format!("… {} rows before; --limit shows more\n", grouped(skipped)));
        }
    }
    text
}

/// Comma-separated values with every digit.
pub(super) fn csv(metrics: &[Evaluated]) -> anyhow::Result<Vec<u8>> {
    let times = times(metrics);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(std::iter::once("obs_time").chain(metrics.iter().map(|metric| metric.label.as_str())))?;
    for (time, values) in joined(metrics) {
        let exact = |value: Option<f64>| value.filter(|value| !value.is_nan()).map(|value| value.to_string());
        let cells = values.into_iter().map(|value| exact(value).unwrap_or_default());
        writer.write_record(std::iter::once(times.text(time)).chain(cells))?;
    }
    Ok(writer.into_inner()?)
}

/// The bytes that a run would store.
pub(super) fn as_the_worker_does(series: &Series, parquet: bool) -> anyhow::Result<Vec<u8>> {
    if !parquet {
        return Ok(encode::jsonl(series).to_vec());
    }
    let draft = encode::encode(series, &[DataFile::Parquet], OutputCompression::Snappy)?;
    Ok(draft.files.first().map(|(_, body)| body.to_vec()).unwrap_or_default())
}

/// A curve for each metric.
pub(super) fn plots(metrics: &[Evaluated], screen: Screen) -> String {
    let one = |metric: &Evaluated| {
        let label = screen.paint(Colour::Bold, &metric.label);
        format!("{label}\n\n{}\n", plot(&metric.series, screen).join("\n"))
    };
    metrics.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// All metrics in one picture.
pub(super) fn svg(metrics: &[Evaluated], unit: &str) -> anyhow::Result<Vec<u8>> {
    let curves: Vec<(&str, &Series)> = metrics.iter().map(|metric| (metric.label.as_str(), &metric.series)).collect();
    Ok(chart::svg(&curves, unit)?.into_bytes())
}

/// Everything, for machines: infinite values as text, which JSON has no number for.
pub(super) fn json(metrics: &[Evaluated]) -> anyhow::Result<Vec<u8>> {
    let value = |value: Option<f64>| match value {
        Some(value) if value.is_infinite() => json!(value.to_string()),
        other => json!(other),
    };
    let document = metrics.iter().map(|metric| {
        let rows: Vec<Value> =
            metric.series.iter().map(|(time, one)| json!([Times::Seconds.text(time), value(one)])).collect();
        json!({
            "label": metric.label,
            "text": text::print(&metric.expression),
            "expressionJson": metric.expression.to_json(),
            "series": metric.expression.series_codes().into_iter().collect::<BTreeSet<_>>(),
            "objects": metric.object_count,
            "readBytes": metric.read_bytes,
            "requests": metric.request_count,
            "rows": rows,
        })
    });
    let mut bytes = serde_json::to_vec(&document.collect::<Vec<_>>())?;
    bytes.push(b'\n');
    Ok(bytes)
}
