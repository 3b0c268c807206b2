//! `metrics validate`: documents and datasets in; everything that is wrong with them, each with its place, out.

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::Verdict;
use super::location::{self, DATASETS, DataArguments};
use super::screen::{Colour, Screen};
use crate::expression::text;
use crate::ids::DatasetId;
use crate::request::Rules;

mod dataset;
mod manifest;
mod repair;
mod rows;

/// The arguments of `metrics validate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  metrics validate events/08-invalid-expression.json
  metrics validate 'sma(A, 20' request.json manifest.json
  metrics validate --data target/demo/bucket --dataset ecb_fx
  metrics validate --data s3://my-bucket/team --dataset shop --json

What requests and expressions are held against are the limits, prefixes and the bucket that the environment sets, as for the
worker; without them, the defaults. Every object of a dataset is read.")]
pub struct Command {
    /// A batch, a request, an expression or a manifest: a file, or the text of an expression
    #[arg(value_name = "DOCUMENT", required_unless_present = "dataset")]
    documents: Vec<String>,
    /// A dataset, by its id: manifest, listing, schema, order, duplicates, overlaps, corrupt files
    #[arg(long, value_name = "ID", requires = "data")]
    dataset: Option<String>,
    /// Where the dataset is: a folder that stands for a bucket, s3://BUCKET, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "LOCATION")]
    data: Option<String>,
    /// The folder of datasets within the location
    #[arg(long, value_name = "PREFIX", default_value = DATASETS)]
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
    let (mut checked, rules) = (Vec::new(), location::rules()?);
    for given in &command.documents {
        checked.push(document(given, &rules).with_context(|| given.clone())?);
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
fn document(given: &str, rules: &Rules) -> anyhow::Result<(String, Vec<Problem>)> {
    if !Path::new(given).is_file() {
        let is_path = given.ends_with(".json") || given.ends_with(".txt");
        ensure!(!is_path, "no such file");
        return Ok(("expression".to_owned(), expression(given, rules)));
    }
    let content = fs::read_to_string(given)?;
    let json = match serde_json::from_str::<Value>(&content) {
        Ok(json) => json,
        Err(error) if content.trim_start().starts_with('{') => {
            return Ok((given.to_owned(), vec![Problem::new("$", format!("no JSON: {error}"))]));
        }
        Err(_) => return Ok((format!("{given}, an expression"), expression(&content, rules))),
    };
    let has = |field: &str| json.get(field).is_some();
    let (kind, problems) = if has("Records") {
        ("a batch", batch(&json, rules))
    } else if has("type") || has("Type") || has("expressionJson") {
        ("a request", repair::request(&content, rules))
    } else if has("outputs") {
        ("a metric's manifest", manifest::output(&json))
    } else if has("parquet_files") || has("version_id") {
        ("a dataset's manifest", manifest::dataset(&json))
    } else {
        ("an expression", repair::expression(&json, &rules.expression))
    };
    Ok((format!("{given}, {kind}"), problems))
}

fn expression(given: &str, rules: &Rules) -> Vec<Problem> {
    if let Ok(json) = serde_json::from_str::<Value>(given)
        && json.is_object()
    {
        return repair::expression(&json, &rules.expression);
    }
    let error = text::parse(given, &rules.expression).err();
    let place = |error: &text::Error| format!("line {}, column {}", error.line, error.column);
    error.map(|error| Problem::new(place(&error), error.problem)).into_iter().collect()
}

fn batch(json: &Value, rules: &Rules) -> Vec<Problem> {
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
                repair::request(body, rules)
                    .into_iter()
                    .map(|one| Problem::new(format!("{place}.body: {}", one.place), one.problem)),
            ),
        }
    }
    problems
}
