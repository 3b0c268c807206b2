//! Every command that takes a data location, over a bucket and over a part of one, through a real S3 on this machine; each
//! says what it says over a folder.
#![allow(clippy::unwrap_used, reason = "a command that fails stops the test")]

mod support;

use std::path::Path;

use support::local_aws::LocalAws;
use tokio::process::Command;

const BUCKET: &str = "locations";

/// What a command says, and its exit code.
async fn metrics(aws: &LocalAws, folder: &Path, arguments: &[&str]) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metrics"));
    let output = command.args(arguments).current_dir(folder).envs(aws.environment()).output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (said, output.status.code().unwrap())
}

async fn said(aws: &LocalAws, folder: &Path, arguments: &[&str]) -> String {
    let (said, code) = metrics(aws, folder, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {said}");
    said
}

/// What the commands say of one location, its name and the time of the run taken out.
async fn tour(aws: &LocalAws, folder: &Path, location: &str) -> Vec<String> {
    let at = ["--data", location];
    let mut answers = Vec::new();
    for arguments in [
        vec!["dataset", "build", "--csv", "shop.csv", "--into", location],
        vec!["dataset", "build", "--csv", "shop.csv", "--into", location],
        [&["eval", "A / B", "sma(A, 2)"], &at[..]].concat(),
        [&["eval", "A", "--json"], &at[..]].concat(),
        [&["explain", "request.json"], &at[..]].concat(),
        [&["validate", "--dataset", "shop"], &at[..]].concat(),
        [&["run", "request.json"], &at[..]].concat(),
        [&["run", "request.json"], &at[..]].concat(),
        [&["inspect", "shop.rate"], &at[..]].concat(),
    ] {
        answers.push(said(aws, folder, &arguments).await.replace(location, "LOCATION"));
    }
    let inspected = answers.last().unwrap().clone();
    let version = inspected.split(' ').next().unwrap();
    answers.push(said(aws, folder, &[&["diff", "shop.rate", version, version], &at[..]].concat()).await);
    answers.into_iter().map(|answer| answer.replace(version, "VERSION")).collect()
}

#[tokio::test]
async fn a_bucket_and_a_part_of_one_are_as_good_as_a_folder() {
    let aws = LocalAws::start().await;
    aws.bucket(BUCKET).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.csv"), "day,A,B\n2024-01-31,1,2\n2024-02-01T12:30:00,3,4\n").unwrap();
    let request = serde_json::json!({
        "type": "metric_run_requested", "runId": "run-1", "metricCode": "shop.rate", "expressionType": "series_math",
        "expressionJson": { "op": "ratio", "left": { "series_code": "A" }, "right": { "series_code": "B" } },
        "inputs": [{ "datasetId": "shop", "seriesCode": "A" }, { "datasetId": "shop", "seriesCode": "B" }],
        "catalog": { "datasets": { "shop": { "manifestPath": "datasets/shop/current/manifest.json" } } },
        "output": { "basePath": "s3://bucket/metrics/shop.rate/" },
    });
    std::fs::write(folder.path().join("request.json"), request.to_string()).unwrap();
    let local = tour(&aws, folder.path(), "bucket").await;
    assert!(local[2].contains("2024-02-01T12:30:00") && local[6].contains("SUCCESS  2 rows"), "{local:?}");
    assert!(local[5].ends_with("valid\n") && local[8].contains("current"), "{local:?}");
    for location in ["s3://locations", "s3://locations/team/data"] {
        assert_eq!(tour(&aws, folder.path(), location).await, local, "{location}");
    }
    let keys = aws.keys(BUCKET, "").await;
    let below = keys.iter().filter_map(|key| key.strip_prefix("team/data/")).count();
    assert_eq!(below * 2, keys.len(), "the same objects at the root and below the prefix: {keys:?}");
    std::fs::write(folder.path().join("bad.csv"), "day,a b\n2024-01-31,1\n").unwrap();
    let answers = [
        (vec!["eval", "A", "--data", "s3://nowhere"], "nowhere"),
        (vec!["eval", "A", "--data", "s3://locations/other"], "no dataset under datasets/ in s3://locations/other"),
        (
            vec!["dataset", "build", "--csv", "bad.csv", "--into", "b"],
            "error: bad.csv: line 1, column 2: seriesCode \"a b\" may hold only letters, digits and . _ : - and may not be . or ..\n",
        ),
        (vec!["eval", "A", "--data", "gs://locations"], "a location is a folder or begins with s3://"),
    ];
    for (arguments, expected) in answers {
        let (said, code) = metrics(&aws, folder.path(), &arguments).await;
        assert!(code == 1 && said.contains(expected), "{arguments:?}: {said}");
    }
}
