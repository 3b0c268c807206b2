//! The commands of `metrics`, each over a small dataset in a folder, through the arguments that a person would type.

#![expect(clippy::unwrap_used, reason = "a test that cannot run a command should fail at once")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use metrics_engine::cli::screen::Screen;
use metrics_engine::cli::{self, Arguments, Verdict};
use tempfile::TempDir;

/// What a command says, at a fixed time.
async fn metrics(arguments: &[&str]) -> anyhow::Result<(String, Verdict)> {
    let arguments = Arguments::try_parse_from(std::iter::once(&"metrics").chain(arguments))?;
    let now = "2026-10-30T16:06:00Z".parse().unwrap();
    let mut out = Vec::new();
    let verdict = cli::run(arguments, Arc::new(move || now), Screen::plain(80), &mut out).await?;
    Ok((String::from_utf8_lossy(&out).into_owned(), verdict))
}

async fn said(arguments: &[&str]) -> String {
    let (said, verdict) = metrics(arguments).await.unwrap();
    assert_eq!(verdict, Verdict::Well, "{said}");
    said
}

async fn refused(arguments: &[&str]) -> String {
    format!("{:#}", metrics(arguments).await.unwrap_err())
}

const RATES: &str = "Date,USD,JPY
2024-01-02,1.0956,156.2
2024-01-03,1.0919,155.5
2024-01-04,1.0953,N/A
2024-01-05,1.0921,158.4
2024-02-01,1.0814,158.9
";

/// A bucket with one dataset of two series.
async fn bucket() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("rates.csv");
    fs::write(&csv, RATES).unwrap();
    said(&["dataset", "build", "--csv", csv.to_str().unwrap(), "--into", path(folder.path(), "bucket").as_str()]).await;
    folder
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_expression_goes_from_text_to_json_and_back() {
    let json = said(&["expr", "100 * (A / lag(`B-C`, 30d))"]).await;
    insta::assert_snapshot!("expr", json);
    assert_eq!(said(&["expr", "--to", "text", &json]).await, "100 * (A / lag(`B-C`, 30d))\n");
    let error = refused(&["expr", "A / (B"]).await;
    assert!(error.ends_with("    A / (B\n          ^"), "{error}");
}

#[tokio::test]
async fn eval_shows_metrics_side_by_side() {
    let folder = bucket().await;
    let data = path(folder.path(), "bucket");
    let eval = |more: &'static [&'static str]| {
        let (data, ratio) = (data.clone(), "usd_jpy = ECB_EUR_JPY_D / ECB_EUR_USD_D");
        async move { said(&[&["eval", "--data", &data, ratio, "sma(ECB_EUR_USD_D, 2)"][..], more].concat()).await }
    };
    insta::assert_snapshot!("eval_table", eval(&[]).await);
    insta::assert_snapshot!("eval_csv", eval(&["--output", "csv", "--from", "2024-01-03", "--limit", "3"]).await);
    insta::assert_snapshot!("eval_plot", eval(&["--output", "plot", "--to", "2024-01-05"]).await);
    insta::assert_snapshot!("eval_svg", eval(&["--output", "svg"]).await);
    insta::assert_snapshot!("eval_json", eval(&["--json", "--limit", "1"]).await);
}

#[tokio::test]
async fn eval_writes_what_the_worker_would() {
    let folder = bucket().await;
    let data = path(folder.path(), "bucket");
    let jsonl = said(&["eval", "--data", &data, "sum(ECB_EUR_JPY_D, 2)", "--output", "jsonl", "--limit", "2"]).await;
    let expected = "{\"obs_time\":\"2024-01-05T00:00:00\",\"value\":313.9}\n{\"obs_time\":\"2024-02-01T00:00:00\",\"value\":317.3}\n";
    assert_eq!(jsonl, expected);
    let file = path(folder.path(), "metric.parquet");
    let ratio = "ECB_EUR_JPY_D / ECB_EUR_USD_D";
    said(&["eval", "--data", &data, ratio, "--output", "parquet", "--out", &file, "--dataset", "ecb_fx"]).await;
    assert_eq!(&fs::read(&file).unwrap()[..4], b"PAR1");
    let expression = path(folder.path(), "metric.txt");
    fs::write(&expression, "ECB_EUR_JPY_D / ECB_EUR_USD_D # yen for a dollar\n").unwrap();
    let (by_file, by_text) =
        (said(&["eval", "--data", &data, "--file", &expression]).await, said(&["eval", "--data", &data, ratio]).await);
    assert_eq!(by_file, by_text);
}

#[tokio::test]
async fn what_eval_cannot_do_is_said_plainly() {
    let folder = bucket().await;
    let data = path(folder.path(), "bucket");
    let missing = refused(&["eval", "--data", &data, "sma(usd, 3)"]).await;
    assert_eq!(missing, "no dataset has a series usd; there is ECB_EUR_USD_D");
    let nowhere = path(folder.path(), "nowhere");
    assert!(refused(&["eval", "--data", &nowhere, "A"]).await.ends_with("nowhere: no such folder"));
    let other = refused(&["eval", "--data", &data, "A", "--dataset", "other"]).await;
    assert_eq!(other, "no dataset under datasets/other/versions/: no manifest of a version");
    assert!(!Path::new(&nowhere).exists(), "a location is not made by looking at it");
}
