//! `metrics inspect` and `metrics diff`: a metric's code in; what the bucket holds of it, and what changed between two
//! of its versions, out.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::Verdict;
use super::location::{DataArguments, Location};
use super::progress::Waiting;
use super::screen::{Colour, Screen};
use super::table::{Times, grouped, number};
use crate::ids::MetricCode;
use crate::keys::{OutputKey, OutputKeys, Prefix, VersionTs};
use crate::manifest::OutputManifest;
use crate::readback;
use crate::series::{Series, TimeNs};
use crate::storage::ByteRange;

/// Where a metric is.
#[derive(Debug, Args)]
pub(super) struct MetricArguments {
    /// The metric's code
    #[arg(value_name = "CODE")]
    code: String,
    #[command(flatten)]
    data: DataArguments,
    /// The folder of metrics within the location
    #[arg(long, value_name = "PREFIX", default_value = "metrics/")]
    metrics: String,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// The arguments of `metrics inspect`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  metrics inspect fx.usd_jpy --data target/demo/bucket
  metrics inspect fx.usd_jpy --data s3://my-bucket/team --json")]
pub struct Inspect {
    #[command(flatten)]
    metric: MetricArguments,
}

/// The arguments of `metrics diff`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  metrics diff fx.usd_jpy 2026-10-29T16-05-00 2026-10-30T16-05-00 --data target/demo/bucket

Without a difference the exit code is 0, otherwise 3.")]
pub struct Diff {
    #[command(flatten)]
    metric: MetricArguments,
    /// The older version, such as 2026-10-30T16-05-00
    #[arg(value_name = "VERSION")]
    older: String,
    /// The newer version
    #[arg(value_name = "VERSION")]
    newer: String,
    /// Show so many times
    #[arg(long, value_name = "ROWS", default_value_t = 20)]
    limit: usize,
}

impl MetricArguments {
    async fn open(&self) -> anyhow::Result<(Location, OutputKeys)> {
        let code = MetricCode::parse(&self.code)?;
        let metrics = Prefix::parse(&self.metrics).with_context(|| format!("--metrics {:?}", self.metrics))?;
        Ok((self.data.open().await?, OutputKeys::new(metrics.folder(code.as_str())?)?))
    }
}

/// A version as the listing has it.
#[derive(Default)]
struct Listed {
    size_bytes: u64,
    has_manifest: bool,
}

/// Shows the versions of a metric, newest last.
///
/// # Errors
/// When there is none, or an object cannot be read.
pub async fn inspect(command: &Inspect, screen: Screen, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let (location, keys) = command.metric.open().await?;
    let waiting = Waiting::stderr(format!("reading the versions of {}", command.metric.code));
    let mut versions: BTreeMap<VersionTs, Listed> = BTreeMap::new();
    let (mut markers, mut claims, mut others, mut has_current) = (Vec::new(), Vec::new(), Vec::new(), false);
    for meta in location.storage.list(keys.base()).await.with_context(|| location.name())? {
        match keys.parse(&meta.key) {
            Some(OutputKey::Data(version, _)) => versions.entry(version).or_default().size_bytes += meta.size_bytes,
            Some(OutputKey::Manifest(version)) => versions.entry(version).or_default().has_manifest = true,
            Some(OutputKey::Current) => has_current = true,
            Some(OutputKey::Marker(run_id)) => markers.push(run_id),
            Some(OutputKey::Claim(run_id)) => claims.push(run_id),
            None => others.push(meta.key.to_string()),
        }
    }
    ensure!(!versions.is_empty() || !claims.is_empty(), "no metric under {} in {}", keys.base(), location.name());
    let current = match has_current {
        true => Some(manifest(&location, &keys.current()).await?.version_ts),
        false => None,
    };
    let open: Vec<_> = claims.into_iter().filter(|run_id| !markers.contains(run_id)).collect();
    let mut documents = Vec::new();
    for (&version, listed) in &versions {
        let stored = match listed.has_manifest {
            true => Some(manifest(&location, &keys.manifest(version)).await?),
            false => None,
        };
        if command.metric.json {
            documents
                .push(json!({ "version": version, "current": current == Some(version), "bytes": listed.size_bytes,
                                   "manifest": stored }));
        } else {
            waiting.suspend(|| show(version, listed, stored.as_ref(), current == Some(version), screen, out))?;
        }
    }
    drop(waiting);
    if command.metric.json {
        let document =
            json!({ "versions": documents, "markers": markers, "unfinishedClaims": open, "unknownObjects": others });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    let runs = if markers.len() == 1 { "run" } else { "runs" };
    writeln!(out, "{} {runs} marked as done", grouped(markers.len()))?;
    open.iter().try_for_each(|run_id| writeln!(out, "run {run_id} is claimed, and not done"))?;
    others.iter().try_for_each(|key| writeln!(out, "{key} is no output of a run"))?;
    Ok(())
}

fn show(
    version: VersionTs,
    listed: &Listed,
    stored: Option<&OutputManifest>,
    is_current: bool,
    screen: Screen,
    out: &mut (dyn Write + Send),
) -> std::io::Result<()> {
    let bytes = grouped(usize::try_from(listed.size_bytes).unwrap_or(usize::MAX));
    let mark = if is_current { screen.paint(Colour::Green, "  current") } else { String::new() };
    let Some(manifest) = stored else {
        return writeln!(out, "{version}  no manifest, {bytes} bytes: a run did not finish{mark}");
    };
    let rows = grouped(usize::try_from(manifest.row_count).unwrap_or(usize::MAX));
    writeln!(out, "{version}  {rows} rows, {bytes} bytes, run {}{mark}", manifest.run_id)?;
    for input in &manifest.inputs {
        let version_id = input.version_id.as_deref().unwrap_or("of no version");
        for series in &input.series {
            let (code, count) = (&series.series_code, grouped(usize::try_from(series.object_count).unwrap_or(0)));
            let objects = if series.object_count == 1 { "object" } else { "objects" };
            writeln!(out, "    {code} of {} {version_id}, {count} {objects}", input.dataset_id)?;
        }
    }
    Ok(())
}

async fn manifest(location: &Location, key: &crate::keys::Key) -> anyhow::Result<OutputManifest> {
    let object = location.storage.get(key, ByteRange::Whole, None).await?;
    serde_json::from_slice(&object.bytes).with_context(|| format!("{key} is no manifest of a metric"))
}

/// Shows which times differ between two versions.
///
/// # Errors
/// When a version cannot be read.
pub async fn diff(command: &Diff, screen: Screen, out: &mut (dyn Write + Send)) -> anyhow::Result<Verdict> {
    let (location, keys) = command.metric.open().await?;
    let waiting = Waiting::stderr(format!("reading two versions of {}", command.metric.code));
    let older = version(&command.older, &location, &keys).await?;
    let newer = version(&command.newer, &location, &keys).await?;
    drop(waiting);
    let mut rows: BTreeMap<TimeNs, (Option<f64>, Option<f64>)> = BTreeMap::new();
    older.times().iter().zip(older.values()).for_each(|(&at, &value)| rows.entry(at).or_default().0 = Some(value));
    newer.times().iter().zip(newer.values()).for_each(|(&at, &value)| rows.entry(at).or_default().1 = Some(value));
    rows.retain(|_, (one, other)| !is_same(*one, *other));
    let times = if Times::of(&older) == Times::Days { Times::of(&newer) } else { Times::Seconds };
    if command.metric.json {
        let exact = |value: Option<f64>| value.map_or(json!("absent"), |value| json!(value));
        let changed = rows.iter().map(|(&at, &(one, other))| json!([times.text(at), exact(one), exact(other)]));
        writeln!(out, "{}", Value::from(changed.collect::<Vec<_>>()))?;
    } else {
        for (&at, &(one, other)) in rows.iter().take(command.limit) {
            let shown = |value: Option<f64>| value.map_or("absent".to_owned(), number);
            let change = one.zip(other).map(|(one, other)| other - one).filter(|change| change.is_finite());
            let change = change.map_or_else(String::new, |change| format!("  {change:+}"));
            writeln!(out, "{}  {} -> {}{change}", times.text(at), shown(one), shown(other))?;
        }
        let colour = if rows.is_empty() { Colour::Green } else { Colour::Red };
        writeln!(out, "{}", screen.paint(colour, &format!("{} times differ", grouped(rows.len()))))?;
    }
    Ok(if rows.is_empty() { Verdict::Well } else { Verdict::Wrong })
}

#[expect(clippy::float_cmp, reason = "a version differs in its last digit, too")]
fn is_same(one: Option<f64>, other: Option<f64>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other || (one.is_nan() && other.is_nan()),
        (one, other) => one.is_none() && other.is_none(),
    }
}

async fn version(text: &str, location: &Location, keys: &OutputKeys) -> anyhow::Result<Series> {
    let version = VersionTs::parse(text)
        .with_context(|| format!("{text:?} is no version such as 2026-10-30T16-05-00; metrics inspect lists them"))?;
    Ok(readback::read_manifest(&*location.storage, keys, version).await?.series)
}
