//! The commands of `metrics`, each over a small dataset in a folder, through the arguments that a person would type.

#![expect(clippy::unwrap_used, reason = "a test that cannot run a command should fail at once")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use clap::Parser;
use metrics_engine::cli::screen::Screen;
use metrics_engine::cli::{self, Arguments, Verdict};
use parquet::arrow::ArrowWriter;
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
    let into = path(folder.path(), "bucket");
    said(&["dataset", "build", "--columns", "rates", "--csv", csv.to_str().unwrap(), "--into", &into]).await;
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
    let expected = format!(
        "no dataset under datasets/other/versions/ in {data}: no manifest of a version; metrics dataset build makes one"
    );
    assert_eq!(other, expected);
    assert!(!Path::new(&nowhere).exists(), "a location is not made by looking at it");
}

#[tokio::test]
async fn the_numeric_rules_hold() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rules/operators.yaml");
    assert_eq!(said(&["test", rules]).await, "60 passed, 0 failed\n");
}

/// The rows of the table of series semantics; each has tests of its own, by its group.
#[test]
fn every_numeric_rule_has_a_test() {
    let rules = include_str!("rules/operators.yaml");
    for (group, least) in [
        ("duplicates", 3),
        ("two operands", 4),
        ("ratio by zero", 2),
        ("scale", 5),
        ("sma sum max min", 9),
        ("ema", 5),
        ("arithmetic, composite, lag", 5),
        ("lag", 9),
        ("composite", 6),
        ("window", 6),
        ("nesting", 4),
        ("equal sub-expressions", 1),
    ] {
        let count = rules.matches(&format!("    group: {group}\n")).count();
        assert!(count >= least, "{group}: {count}");
    }
}

#[tokio::test]
async fn a_test_that_does_not_hold_shows_the_difference() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "wrong.yaml");
    let test =
        "tests:\n  - name: a sum\n    series: { A: '1+1x2 _' }\n    expression: sum(A, 2)\n    expect: '_ 3 6 1'\n";
    fs::write(&file, test).unwrap();
    let (said, verdict) = metrics(&["test", &file]).await.unwrap();
    assert_eq!(verdict, Verdict::Wrong);
    insta::assert_snapshot!("test_failed", said.replace(&file, "wrong.yaml"));
    let (json, _) = metrics(&["test", "--json", &file]).await.unwrap();
    assert!(json.contains(r#"["2024-01-03","6","5"]"#), "{json}");
    fs::write(
        &file,
        test.replace("'_ 3 6 1'", "'null 3 5.0001'").replace("    expect", "    tolerance: 0.001\n    expect"),
    )
    .unwrap();
    assert_eq!(metrics(&["test", &file]).await.unwrap().1, Verdict::Well);
    fs::write(&file, "tests: [{ name: n, expression: 'sma(A, 0)', error: too many }]").unwrap();
    let (not_refused, verdict) = metrics(&["test", &file]).await.unwrap();
    assert!(verdict == Verdict::Wrong && not_refused.contains("expected to be refused: too many"), "{not_refused}");
    fs::write(&file, "tests: [{ name: n, expression: A, error: e, expect: '1' }]").unwrap();
    assert!(refused(&["test", &file]).await.ends_with("a test has either expect or error"));
    fs::write(&file, test.replace("expect", "expected")).unwrap();
    assert!(refused(&["test", &file]).await.contains("expected"));
}

fn request(expression: &str) -> String {
    let inputs = r#"[{"datasetId":"ecb_fx","seriesCode":"ECB_EUR_USD_D"}]"#;
    let catalog =
        r#"{"datasets":{"ecb_fx":{"manifestPath":"datasets/ecb_fx/versions/v20240201_160000_000000/manifest.json"}}}"#;
    format!(
        r#"{{"type":"metric_run_requested","runId":"run-1","metricCode":"fx.usd","expressionType":"window_op",
            "expressionJson":{expression},"inputs":{inputs},"catalog":{catalog},"output":{{"basePath":"s3://bucket/metrics/fx.usd/"}}}}"#
    )
}

#[tokio::test]
async fn a_request_runs_as_it_would_in_the_function() {
    let folder = bucket().await;
    let (data, event) = (path(folder.path(), "bucket"), path(folder.path(), "request.json"));
    let sma = r#"{"op":"sma","series":{"series_code":"ECB_EUR_USD_D"},"window":2}"#;
    fs::write(&event, request(sma)).unwrap();
    insta::assert_snapshot!("run", said(&["run", &event, "--data", &data]).await);
    assert!(Path::new(&data).join("metrics/fx.usd/current/manifest.json").exists());
    let again = said(&["run", &event, "--data", &data, "--json"]).await;
    assert!(again.lines().count() == 1 && again.contains(r#""status":"SUCCESS""#), "{again}");

    fs::write(&event, request(r#"{"op":"sma"}"#).replace("run-1", "run-2")).unwrap();
    let (failed, verdict) = metrics(&["run", &event, "--data", &data]).await.unwrap();
    assert!(verdict == Verdict::Wrong && failed.contains("EXPRESSION_EVAL_ERROR"), "{failed}");
    fs::write(&event, "{}").unwrap();
    let (poison, verdict) = metrics(&["run", &event, "--data", &data]).await.unwrap();
    assert!(verdict == Verdict::Wrong && poison.starts_with("dead letter request.json"), "{poison}");
}

#[tokio::test]
async fn completions_know_the_commands() {
    let script = said(&["completions", "bash"]).await;
    assert!(script.contains("eval") && script.contains("--dataset"), "{script}");
}

#[tokio::test]
async fn documents_are_validated_with_all_their_problems() {
    let folder = tempfile::tempdir().unwrap();
    let event = path(folder.path(), "request.json");
    let text = request(r#"{"op":"sma","series":{"series_code":"OTHER"},"window":0}"#).replace("window_op", "windows");
    fs::write(&event, text.replace("s3://bucket/metrics", "s3://bucket/secrets")).unwrap();
    let (found, verdict) = metrics(&["validate", &event, "A / (B", "sma(A, 2)"]).await.unwrap();
    assert_eq!(verdict, Verdict::Wrong);
    insta::assert_snapshot!("validate", found.replace(&event, "request.json"));
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/events/01-cross-rate.json");
    assert!(said(&["validate", samples]).await.ends_with("a batch: valid\n"));
}

#[tokio::test]
async fn a_dataset_is_held_against_its_manifest() {
    let folder = bucket().await;
    let data = path(folder.path(), "bucket");
    let validate = ["validate", "--data", &data, "--dataset", "ecb_fx"];
    assert_eq!(said(&validate).await, "dataset ecb_fx: valid\n");
    let usd = Path::new(&data).join("datasets/ecb_fx/projections/ECB_EUR_USD_D/year=2024");
    let january = usd.join("month=01/data.parquet");
    fs::create_dir(usd.join("month=03")).unwrap();
    fs::copy(&january, usd.join("month=03/data.parquet")).unwrap();
    fs::write(usd.join("month=02/data.parquet"), "PAR1 and nothing else").unwrap();
    fs::write(usd.join("notes.txt"), "x").unwrap();
    fs::remove_dir_all(Path::new(&data).join("datasets/ecb_fx/projections/ECB_EUR_JPY_D")).unwrap();
    let (found, verdict) = metrics(&validate).await.unwrap();
    assert_eq!(verdict, Verdict::Wrong);
    insta::assert_snapshot!("validate_dataset", found);
}

/// A Parquet file of many series, its rows in this order.
fn many_series(path: &Path, rows: &[(&str, i64)]) {
    let codes: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|(code, _)| *code)));
    let days = rows.iter().map(|(_, day)| day * 86_400_000_000_000);
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter_values(days));
    let values: ArrayRef = Arc::new(Float64Array::from(vec![1.5; rows.len()]));
    let columns = [("obs_time", times), ("value", values), ("internal_series_code", codes)];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[tokio::test]
async fn files_of_many_series_are_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("datasets/d");
    let manifest = |codes: &str, files: &str| {
        fs::create_dir_all(root.join("versions/v1")).unwrap();
        let text = format!(r#"{{"version_id":"v1","series_codes":{codes},"parquet_files":{files}}}"#);
        fs::write(root.join("versions/v1/manifest.json"), text).unwrap();
    };
    let data = path(folder.path(), "");
    let validate = ["validate", "--data", &data, "--dataset", "d"];
    many_series(&root.join("projections/all.parquet"), &[("A", 0), ("B", 0), ("A", 1), ("B", 1)]);
    manifest(r#"["A","B"]"#, r#"["all.parquet"]"#);
    assert_eq!(said(&validate).await, "dataset d: valid\n");
    manifest("null", r#"["all.parquet"]"#);
    assert_eq!(said(&validate).await, "dataset d: valid\n", "a manifest need not name its series");

    many_series(&root.join("projections/all.parquet"), &[("A", 3), ("B", 0), ("A", 1), ("C", 1), ("A", 1), ("a b", 2)]);
    many_series(&root.join("projections/A/more.parquet"), &[("A", 2), ("A", 3), ("B", 9)]);
    many_series(&root.join("projections/year=2024/lost.parquet"), &[("A", 7)]);
    fs::create_dir_all(root.join("current")).unwrap();
    fs::write(root.join("current/manifest.json"), r#"{"version_id":"v0"}"#).unwrap();
    manifest(r#"["A","B","D",7]"#, r#"["all.parquet","gone.parquet"]"#);
    let (found, verdict) = metrics(&validate).await.unwrap();
    assert_eq!(verdict, Verdict::Wrong);
    insta::assert_snapshot!("validate_many_series", found);
}

#[tokio::test]
async fn limits_are_those_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "test.yaml");
    fs::write(&file, "tests: [{ name: n, series: { A: '1' }, expression: 'sma(A, 11)', expect: 'null' }]").unwrap();
    for arguments in [["expr", "sma(A, 11)"], ["validate", "sma(A, 11)"], ["test", &file]] {
        let answer = |limit: Option<&str>| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_metrics"));
            command.args(arguments).current_dir(folder.path());
            limit.iter().for_each(|limit| _ = command.env("LIMIT_WINDOW", limit));
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            (output.status.code().unwrap(), said)
        };
        assert_eq!(answer(None).0, 0, "{arguments:?}");
        let (code, said) = answer(Some("10"));
        assert!(code != 0 && said.contains("10"), "{arguments:?}: {said}");
        let (code, said) = answer(Some("many"));
        assert!(code == 1 && said.contains("LIMIT_WINDOW is \"many\""), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn datasets_are_built_from_long_and_parquet_files() {
    let folder = tempfile::tempdir().unwrap();
    let (long, table) = (path(folder.path(), "long.csv"), path(folder.path(), "table.parquet"));
    fs::write(&long, "at,code,value\n2024-01-31T10:00:00+01:00,A,1\n2024-01-31T09:30:00Z,A,\n2024-02-01,B,3\n")
        .unwrap();
    many_series(Path::new(&table), &[("B", 19_754), ("A", 19_753), ("A", 19_754)]);
    let bucket = path(folder.path(), "bucket");
    let build = ["dataset", "build", "--columns", "long", "--into", &bucket];
    let built = said(&[&build[..], &["--csv", &long, "--time", "at"]].concat()).await;
    assert!(
        built.starts_with("dataset long: 2 series, 3 observations from 2024-01-31T09:00:00Z to 2024-02-01\n"),
        "{built}"
    );
    let json = said(&[&build[..], &["--parquet", &table, "--json"]].concat()).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["datasetId"], &json["observations"], &json["current"]),
        (&"table".into(), &3.into(), &true.into())
    );
    let eval = ["eval", "A", "--data", &bucket, "--dataset"];
    let rows = said(&[&eval[..], &["long"]].concat()).await;
    assert_eq!(rows, "time                 A\n2024-01-31T09:00:00  1\n2024-01-31T09:30:00  null\n");
    assert_eq!(said(&[&eval[..], &["table"]].concat()).await, "time        A\n2024-01-31  1.5\n2024-02-01  1.5\n");
    let changed = fs::read_to_string(&long).unwrap().replace(",3", ",4");
    fs::write(&long, changed).unwrap();
    let again = said(&[&build[..], &["--csv", &long, "--time", "at"]].concat()).await;
    assert!(again.contains("v20240201_160000_000001"), "a version never changes: {again}");
    for dataset in ["long", "table"] {
        assert!(said(&["validate", "--data", &bucket, "--dataset", dataset]).await.ends_with("valid\n"));
    }
    let error = refused(&[&build[..], &["--csv", &long]].concat()).await;
    assert!(error.contains("long.csv: line 1: no column obs_time"), "{error}");
}

#[tokio::test]
async fn a_plan_is_explained_before_and_after() {
    let folder = bucket().await;
    let (data, event) = (path(folder.path(), "bucket"), path(folder.path(), "request.json"));
    fs::write(&event, request(r#"{"op":"sma","series":{"series_code":"ECB_EUR_USD_D"},"window":2}"#)).unwrap();
    insta::assert_snapshot!("explain", said(&["explain", &event, "--data", &data]).await);
    let analyzed = said(&["explain", &event, "--data", &data, "--analyze", "--json"]).await;
    let analyzed: serde_json::Value = serde_json::from_str(&analyzed).unwrap();
    let steps = analyzed[0]["measured"].as_array().unwrap();
    assert_eq!(
        steps.iter().map(|step| step["step"].as_str().unwrap()).collect::<Vec<_>>(),
        ["plan", "read", "evaluate", "encode"]
    );
    assert_eq!((&steps[0]["requests"], &steps[1]["requests"]), (&2.into(), &2.into()), "as predicted");
    assert_eq!(steps[1]["readBytes"], analyzed[0]["bytes"]);
    assert!(!Path::new(&data).join("metrics").exists(), "nothing is written");
    fs::write(&event, request("{}")).unwrap();
    assert_eq!(metrics(&["explain", &event, "--data", &data]).await.unwrap().1, Verdict::Wrong);
}

#[tokio::test]
async fn versions_are_inspected_and_compared() {
    let folder = bucket().await;
    let (data, event) = (path(folder.path(), "bucket"), path(folder.path(), "request.json"));
    let sma = |window: u8| format!(r#"{{"op":"sma","series":{{"series_code":"ECB_EUR_USD_D"}},"window":{window}}}"#);
    fs::write(&event, request(&sma(2))).unwrap();
    said(&["run", &event, "--data", &data]).await;
    fs::write(&event, request(&sma(1)).replace("run-1", "run-2")).unwrap();
    said(&["run", &event, "--data", &data]).await;
    fs::create_dir_all(Path::new(&data).join("metrics/fx.usd/2020-01-01T00-00-00/data")).unwrap();
    fs::write(Path::new(&data).join("metrics/fx.usd/2020-01-01T00-00-00/data/metrics.jsonl"), "x").unwrap();
    let inspected = said(&["inspect", "fx.usd", "--data", &data]).await;
    insta::assert_snapshot!("inspect", inspected);
    let (first, second) = ("2026-10-30T16-06-00", "2026-10-30T16-06-01");
    let (differing, verdict) = metrics(&["diff", "fx.usd", first, second, "--data", &data]).await.unwrap();
    assert_eq!(verdict, Verdict::Wrong);
    insta::assert_snapshot!("diff", differing);
    assert_eq!(said(&["diff", "fx.usd", first, first, "--data", &data]).await, "0 times differ\n");
    let other = refused(&["inspect", "other", "--data", &data]).await;
    assert_eq!(other, format!("no metric under metrics/other/ in {data}"));
}
