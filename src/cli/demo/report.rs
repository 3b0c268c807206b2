//! What the demo shows once everything has run: a story in, text out. Nothing is computed or read here.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::cli::events::{self, indented, wrap};
use crate::cli::plot::plot;
use crate::cli::screen::{Colour, Screen};
use crate::cli::table::table;
use crate::event::Event;
use crate::readback::Metric;

/// Everything that happened.
#[derive(Debug)]
pub(super) struct Story {
    /// The sample batches, in order.
    pub(super) batches: Vec<Batch>,
    /// What was published, in order.
    pub(super) events: Vec<Event>,
    /// What went to the dead-letter queue, in order.
    pub(super) dead_letters: Vec<DeadLetter>,
    /// The metrics that have a current version, in the order of their requests.
    pub(super) metrics: Vec<ShownMetric>,
    /// The folder that stands for the bucket.
    pub(super) bucket: PathBuf,
}

/// One batch and its response.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) name: String,
    pub(super) record_count: usize,
    /// The message ids that the response gives back to the queue.
    pub(super) failed_items: Vec<String>,
    pub(super) elapsed_ms: u128,
}

/// A message that no run came of.
#[derive(Debug)]
pub(super) struct DeadLetter {
    pub(super) group: String,
    pub(super) reason: String,
    pub(super) body: String,
}

/// A metric as it is now.
#[derive(Debug)]
pub(super) struct ShownMetric {
    pub(super) formula: String,
    pub(super) metric: Metric,
}

/// Where the figures end and the plot begins.
const FIGURES_WIDTH: u16 = 36;

/// A plot narrower than this goes below the figures instead of beside them.
const NARROWEST_BESIDE: u16 = 50;

/// A formula that repeats its parts may fill a screen; its beginning tells what it is.
const FORMULA_LINES: usize = 3;

/// So much of a dead letter's body is shown.
const SHOWN_CHARACTERS: usize = 120;

/// Writes the whole story.
pub(super) fn show(story: &Story, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    for shown in &story.metrics {
        show_metric(shown, screen, out)?;
    }
    show_batches(&story.batches, screen, out)?;
    show_events(&story.events, screen, out)?;
    show_dead_letters(&story.dead_letters, screen, out)?;
    show_files(story, screen, out)
}

fn heading(text: &str, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    let rule = usize::from(screen.width).saturating_sub(text.chars().count() + 4);
    writeln!(out, "\n{}\n", screen.paint(Colour::Bold, &format!("━━ {text} {}", "━".repeat(rule))))
}

fn show_metric(shown: &ShownMetric, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    let manifest = &shown.metric.manifest;
    heading(manifest.metric_code.as_str(), screen, out)?;
    let formula = wrap(&shown.formula, screen.width.saturating_sub(2));
    for (index, line) in formula.iter().take(FORMULA_LINES).enumerate() {
        let is_cut = index + 1 == FORMULA_LINES && formula.len() > FORMULA_LINES;
        writeln!(out, "{line}{}", if is_cut { " …" } else { "" })?;
    }
    let source = format!("version {}, run {}", manifest.version_ts, manifest.run_id);
    writeln!(out, "{}\n", screen.paint(Colour::Dim, &source))?;

    let figures = table(&shown.metric.series);
    let beside = screen.width.saturating_sub(FIGURES_WIDTH);
    if beside < NARROWEST_BESIDE {
        let curve = plot(&shown.metric.series, screen);
        return figures.iter().chain([&String::new()]).chain(&curve).try_for_each(|line| writeln!(out, "{line}"));
    }
    let curve = plot(&shown.metric.series, Screen { width: beside, ..screen });
    for row in 0..figures.len().max(curve.len()) {
        let figure = figures.get(row).map_or("", String::as_str);
        let curve = curve.get(row).map_or("", String::as_str);
        let line = format!("{figure:<width$}{curve}", width = usize::from(FIGURES_WIDTH));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn show_batches(batches: &[Batch], screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    heading("batches and their responses", screen, out)?;
    let name_width = batches.iter().map(|batch| batch.name.len()).max().unwrap_or(0);
    for batch in batches {
        let records = if batch.record_count == 1 { "record" } else { "records" };
        let response = if batch.failed_items.is_empty() {
            screen.paint(Colour::Green, "no failed items")
        } else {
            screen.paint(Colour::Red, &format!("failed: {}", batch.failed_items.join(", ")))
        };
        let (name, count, elapsed_ms) = (&batch.name, batch.record_count, batch.elapsed_ms);
        writeln!(out, "{name:<name_width$}  {count:>2} {records:<7}  {elapsed_ms:>6} ms  {response}")?;
    }
    Ok(())
}

fn show_events(happened: &[Event], screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    heading("events published, in order", screen, out)?;
    let code_width = happened.iter().map(|event| event.metric_code().as_str().len()).max().unwrap_or(0);
    for event in happened {
        events::show(event, code_width, screen, out)?;
    }
    Ok(())
}

fn show_dead_letters(dead_letters: &[DeadLetter], screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    heading("dead letters", screen, out)?;
    if dead_letters.is_empty() {
        writeln!(out, "none")?;
    }
    for dead_letter in dead_letters {
        writeln!(out, "{}", screen.paint(Colour::Red, &format!("group {}", dead_letter.group)))?;
        indented(&dead_letter.reason, screen, out)?;
        let mut body: String = dead_letter.body.chars().take(SHOWN_CHARACTERS).collect();
        if body.len() < dead_letter.body.len() {
            body.push('…');
        }
        writeln!(out, "    {}", screen.paint(Colour::Dim, &body))?;
    }
    Ok(())
}

fn show_files(story: &Story, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    heading("files", screen, out)?;
    let bucket = story.bucket.display();
    writeln!(out, "bucket     {bucket}")?;
    writeln!(out, "dataset    {bucket}/datasets/")?;
    for shown in &story.metrics {
        writeln!(out, "rows       {bucket}/{}/", shown.metric.manifest.outputs.data_prefix)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{ErrorCode, Outcome, SCHEMA};
    use crate::ids::{MetricCode, RunId};
    use crate::keys::VersionTs;
    use crate::series::{NULL, Series};

    const DAY_NS: i64 = 86_400_000_000_000;

    fn story() -> Story {
        let (run_id, metric_code) = (RunId::parse("run-1").unwrap(), MetricCode::parse("fx.usd_jpy").unwrap());
        let version_ts = VersionTs::parse("2026-10-30T16-05-00").unwrap();
        let manifest = serde_json::from_value(json!({
            "run_id": run_id, "metric_code": metric_code, "version_ts": version_ts, "row_count": 40,
            "created_at": "2026-10-30T16:05:00Z", "inputs": [],
            "outputs": { "data_prefix": "metrics/fx.usd_jpy/2026-10-30T16-05-00/data",
                         "files": ["metrics.jsonl", "metrics.parquet"], "sha256": {} },
        }));
        let values = (0..40_u8).map(|day| if (15..20).contains(&day) { NULL } else { 100.0 + f64::from(day) });
        let series = Series::new((0..40).map(|day| day * DAY_NS).collect(), values.collect()).unwrap();
        let formula = "ECB_EUR_JPY_D / ECB_EUR_USD_D".to_owned();
        let metrics = vec![ShownMetric { formula, metric: Metric { manifest: manifest.unwrap(), series } }];

        let started_at = "2026-10-30T16:05:00Z".to_owned();
        let started = |run_id: &RunId, metric_code: &MetricCode| Event::MetricRunStarted {
            schema: SCHEMA,
            run_id: run_id.clone(),
            metric_code: metric_code.clone(),
            started_at: started_at.clone(),
        };
        let outcome = Outcome::Success {
            version_ts,
            output_manifest: "metrics/fx.usd_jpy/2026-10-30T16-05-00/manifest.json".to_owned(),
            output_manifest_uri: "s3://demo/metrics/fx.usd_jpy/2026-10-30T16-05-00/manifest.json".to_owned(),
            row_count: 40,
        };
        let (other_run, other_code) = (RunId::parse("run-2").unwrap(), MetricCode::parse("fx.eur_xau").unwrap());
        let reason = "no series ECB_EUR_XAU_D in dataset ecb_fx".to_owned();
        let events = vec![
            started(&run_id, &metric_code),
            Event::MetricRunCompleted { schema: SCHEMA, run_id, metric_code, outcome },
            started(&other_run, &other_code),
            Event::failure(other_run, other_code, ErrorCode::InputReadError, reason),
        ];
        let batch = |name: &str, record_count, failed_items: &[&str]| Batch {
            name: name.to_owned(),
            record_count,
            failed_items: failed_items.iter().map(|&id| id.to_owned()).collect(),
            elapsed_ms: 120,
        };
        let dead_letter = DeadLetter {
            group: "fx.eur_bgn_sum_5".to_owned(),
            reason:
                "the body is not the JSON object of an event: EOF while parsing a value at line 1 column 39, and so on"
                    .to_owned(),
            body: "x".repeat(200),
        };
        Story {
            batches: vec![batch("01-cross-rate", 1, &[]), batch("02", 12, &["a", "b"])],
            events,
            dead_letters: vec![dead_letter],
            metrics,
            bucket: PathBuf::from("target/demo/bucket"),
        }
    }

    fn shown(screen: Screen) -> String {
        let mut out = Vec::new();
        show(&story(), screen, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_whole_story() {
        insta::assert_snapshot!(shown(Screen::plain(100)));
    }

    #[test]
    fn a_narrow_screen_has_the_plot_below_the_figures() {
        insta::assert_snapshot!(shown(Screen::plain(60)));
    }

    #[test]
    fn colours_add_no_text() {
        let painted = shown(Screen { width: 100, colours: true });
        assert_eq!(console::strip_ansi_codes(&painted), shown(Screen::plain(100)));
    }
}
