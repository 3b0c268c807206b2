//! `metrics validate`: documents and datasets in; everything that is wrong with them, each with its place, out.

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::Verdict;
use super::location::DataArguments;
use super::screen::{Colour, Screen};
use crate::expression::{Limits, text};
use crate::ids::{DatasetId, SeriesCode};
use crate::keys::Prefix;
use crate::manifest::{DatasetManifest, OutputManifest};

mod dataset;
mod repair;

/// The arguments of `metrics validate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  metrics validate events/08-invalid-expression.json
  metrics validate 'sma(A, 20' request.json manifest.json
  metrics validate --data target/demo/bucket --dataset ecb_fx")]
pub struct Command {
    /// A batch, a request, an expression or a manifest: a file, or the text of an expression
    #[arg(value_name = "DOCUMENT", required_unless_present = "dataset")]
    documents: Vec<String>,
    /// A dataset to hold against its manifest; every object of it is read
    #[arg(long, value_name = "ID", requires = "data")]
    dataset: Option<String>,
    /// Where the dataset is: a folder that stands for a bucket, or s3://BUCKET
    #[arg(long, value_name = "LOCATION")]
    data: Option<String>,
    /// The folder of datasets within the bucket
    #[arg(long, value_name = "PREFIX", default_value = "datasets/")]
    datasets: String,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Something wrong.
pub(super) struct Problem {
    /// A JSON path, or an object.
    place: String,
    problem: String,
}

impl Problem {
    fn new(place: impl Into<String>, problem: impl Display) -> Self {
        let (place, problem) = (place.into(), format!("{problem}"));
        // Many errors name their place themselves.
        let problem =
            match problem.strip_prefix(place.trim_start_matches("$.")).and_then(|rest| rest.strip_prefix(": ")) {
                Some(rest) => rest.to_owned(),
                None => problem,
            };
        Self { place, problem }
    }
}

/// Validates everything that is named.
///
/// # Errors
/// When a document cannot be read at all, or the location cannot be opened.
pub async fn run(command: &Command, screen: Screen, out: &mut (dyn Write + Send)) -> anyhow::Result<Verdict> {
    let mut checked = Vec::new();
    for given in &command.documents {
        checked.push(document(given).with_context(|| given.clone())?);
    }
    if let (Some(dataset_id), Some(data)) = (&command.dataset, &command.data) {
        let location = DataArguments::at(data, &command.datasets).open().await?;
        let problems = dataset::problems(&DatasetId::parse(dataset_id)?, &location).await?;
        checked.push((format!("dataset {dataset_id}"), problems));
    }
    let is_well = checked.iter().all(|(_, problems)| problems.is_empty());
    if command.json {
        let documents = checked.iter().map(|(name, problems)| {
            let problems = problems.iter().map(|one| json!({ "path": one.place, "problem": one.problem }));
            json!({ "document": name, "problems": problems.collect::<Vec<_>>() })
        });
        writeln!(out, "{}", Value::from(documents.collect::<Vec<_>>()))?;
    } else {
        checked.iter().try_for_each(|(name, problems)| show(name, problems, screen, out))?;
    }
    Ok(if is_well { Verdict::Well } else { Verdict::Wrong })
}

fn show(name: &str, problems: &[Problem], screen: Screen, out: &mut (dyn Write + Send)) -> std::io::Result<()> {
    if problems.is_empty() {
        return writeln!(out, "{name}: {}", screen.paint(Colour::Green, "valid"));
    }
    let count = if problems.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", problems.len()) };
    writeln!(out, "{name}: {}", screen.paint(Colour::Red, &count))?;
    problems.iter().try_for_each(|one| writeln!(out, "  {}: {}", one.place, one.problem))
}

/// What a document is, and what is wrong with it.
fn document(given: &str) -> anyhow::Result<(String, Vec<Problem>)> {
    if !Path::new(given).is_file() {
        return Ok(("expression".to_owned(), expression(given)));
    }
    let content = fs::read_to_string(given)?;
    let Ok(json) = serde_json::from_str::<Value>(&content) else {
        ensure!(!content.trim_start().starts_with('{'), "no JSON");
        return Ok((format!("{given}, an expression"), expression(&content)));
    };
    let has = |field: &str| json.get(field).is_some();
    let (kind, problems) = if has("Records") {
        ("a batch", batch(&json))
    } else if has("type") || has("Type") || has("expressionJson") {
        ("a request", repair::request(&content))
    } else if has("outputs") {
        ("a metric's manifest", output_manifest(&json))
    } else if has("parquet_files") || has("version_id") {
        ("a dataset's manifest", manifest(&json))
    } else {
        ("an expression", repair::expression(&json))
    };
    Ok((format!("{given}, {kind}"), problems))
}

fn expression(given: &str) -> Vec<Problem> {
    if let Ok(json) = serde_json::from_str::<Value>(given)
        && json.is_object()
    {
        return repair::expression(&json);
    }
    let error = text::parse(given, &Limits::default()).err();
    let place = |error: &text::Error| format!("line {}, column {}", error.line, error.column);
    error.map(|error| Problem::new(place(&error), error.problem)).into_iter().collect()
}

fn batch(json: &Value) -> Vec<Problem> {
    let Some(records) = json["Records"].as_array() else {
        return vec![Problem::new("$.Records", "must be an array")];
    };
    let mut problems = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let place = format!("$.Records[{index}]");
        if !record["messageId"].is_string() {
            problems.push(Problem::new(format!("{place}.messageId"), "must be a string"));
        }
        match record["body"].as_str() {
            None => problems.push(Problem::new(format!("{place}.body"), "must be a string")),
            Some(body) => problems.extend(
                repair::request(body)
                    .into_iter()
                    .map(|one| Problem::new(format!("{place}.body: {}", one.place), one.problem)),
            ),
        }
    }
    problems
}

fn output_manifest(json: &Value) -> Vec<Problem> {
    match serde_json::from_value::<OutputManifest>(json.clone()) {
        Err(error) => vec![Problem::new("$", error)],
        Ok(manifest) => {
            let lacks = manifest.outputs.files.iter().filter(|file| !manifest.outputs.sha256.contains_key(*file));
            let mut problems: Vec<Problem> =
                lacks.map(|file| Problem::new("$.outputs.sha256", format!("no digest of {file}"))).collect();
            if manifest.outputs.files.is_empty() {
                problems.push(Problem::new("$.outputs.files", "no files"));
            }
            problems
        }
    }
}

fn manifest(json: &Value) -> Vec<Problem> {
    match serde_json::from_value::<DatasetManifest>(json.clone()) {
        Err(error) => vec![Problem::new("$", error)],
        Ok(manifest) => entries(&manifest),
    }
}

/// What is wrong with the entries of a dataset's manifest by themselves.
fn entries(manifest: &DatasetManifest) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, file) in manifest.parquet_files.iter().enumerate() {
        let place = format!("$.parquet_files[{index}]");
        match Prefix::parse("projections").and_then(|folder| folder.join(file)) {
            Err(error) => problems.push(Problem::new(&place, error)),
            Ok(key) if !key.is_parquet() => {
                problems.push(Problem::new(&place, format!("{file:?} is no .parquet file")))
            }
            Ok(_) => {}
        }
        if manifest.parquet_files[..index].contains(file) {
            problems.push(Problem::new(&place, format!("{file:?} is listed before")));
        }
    }
    for (index, code) in manifest.series_codes.iter().enumerate() {
        let place = format!("$.series_codes[{index}]");
        if let Err(error) = SeriesCode::parse(code) {
            problems.push(Problem::new(&place, error));
        }
        if manifest.series_codes[..index].contains(code) {
            problems.push(Problem::new(&place, format!("{code:?} is listed before")));
        }
    }
    problems
}
