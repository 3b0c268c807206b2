//! The whole engine on this machine, as `make up` starts it: real worker, real control plane, Postgres, S3, SNS and SQS.
//! A version of a dataset goes in, and its values come out through the API, also when workers are killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "../support/http.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support")]
mod http;
#[path = "../support/local_aws.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support")]
mod local_aws;
#[path = "../support/runtime_api.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support")]
mod runtime_api;
#[path = "../support/scene.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support")]
mod scene;
#[path = "../support/tls_postgres.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support")]
mod tls_postgres;
mod deployed;
mod up;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use up::Up;

/// A loaded machine needs it; an idle one is done in seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// Version and newest point of each metric.
type Served = BTreeMap<String, (String, String)>;

async fn served(up: &Up) -> Served {
    let mut served = Served::new();
    for metric in http::json(&format!("{}/metrics", up.url)).await["items"].as_array().unwrap() {
        let code = metric["code"].as_str().unwrap().to_owned();
        let values = http::json(&format!("{}/api/v1/metrics/{code}?limit=1", up.url)).await;
        let point = values["points"][0]["ts"].as_str().unwrap().to_owned();
        served.insert(code, (values["version_ts"].as_str().unwrap().to_owned(), point));
    }
    served
}

/// What is served as soon as every metric has a newer version and a newer point than before.
async fn renewed(up: &Up, before: &Served) -> Served {
    let start = Instant::now();
    loop {
        let now = served(up).await;
        let is_newer = |(code, (version, point)): (&String, &(String, String))| {
            before.get(code).is_some_and(|(old_version, old_point)| version > old_version && point > old_point)
        };
        if now.len() == before.len() && now.iter().all(is_newer) {
            return now;
        }
        assert!(start.elapsed() < PATIENCE, "{before:#?}\nis still\n{now:#?}\nruns: {:#?}", runs(up).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn runs(up: &Up) -> Vec<Value> {
    http::json(&format!("{}/runs?limit=200", up.url)).await["items"].as_array().unwrap().clone()
}

/// The runs that were begun and have not ended: a claim without a marker.
async fn under_way(up: &Up) -> BTreeSet<String> {
    let keys = up.keys("metrics/").await;
    let of = |suffix: &str| -> BTreeSet<String> {
        keys.iter().filter_map(|key| key.strip_suffix(suffix)).map(str::to_owned).collect()
    };
    &of(".claim") - &of(".ok")
}

/// Kills workers in the middle of a run, the next one as soon as it is at it.
async fn kill_workers(up: &Up, times: usize) -> usize {
    let start = Instant::now();
    let mut killed = 0;
    while killed < times && start.elapsed() < Duration::from_secs(60) {
        if !under_way(up).await.is_empty() && up.kill_worker() {
            // It stays as it is until another worker takes the message: the run was hit in the middle.
            killed += usize::from(!under_way(up).await.is_empty());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    killed
}

#[tokio::test]
async fn a_new_version_of_the_dataset_becomes_values_of_every_metric_also_when_workers_are_killed() {
    let up = Up::start().await;
    let first = served(&up).await;
    assert_eq!(first.len(), 6);

    up.change().await;
    let second = renewed(&up, &first).await;

    let (killed, ()) = tokio::join!(kill_workers(&up, 2), up.change());
    assert!(killed >= 1, "no worker was killed in the middle of a run");
    renewed(&up, &second).await;

    let runs = runs(&up).await;
    let mut of_metric: BTreeMap<&str, usize> = BTreeMap::new();
    for run in &runs {
        assert_eq!(run["status"], "succeeded", "{run:#}");
        *of_metric.entry(run["metric_code"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!(of_metric.values().copied().collect::<Vec<_>>(), [3; 6], "one run for each version: {of_metric:?}");

    let url = up.url.clone();
    up.interrupt();
    assert!(http::get(&format!("{url}/health")).await.is_none(), "the API is still there");
}
