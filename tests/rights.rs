//! The role allows what the worker asks for, and nothing else: the built worker is led through everything that it does,
//! a proxy logs what it sends, and the rights that these requests need are held against the template's.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where the worker did not do its part")]

mod support;

#[path = "support/rights.rs"]
mod rights;
#[path = "support/template.rs"]
mod template;

use std::collections::BTreeSet;
use std::time::Duration;

use metrics_engine::storage::PART_SIZE_BYTES;
use rights::{OTHERS, OWN, Right, documented, granted};
use serde_json::{Value, json};
use support::request_log::{Request, RequestLog, Way, form};
use support::scene::{BUCKET, Scene, Sent, parquet_of, ratio, request};

const LONG_MANIFEST: &str = "datasets/long/versions/v1/manifest.json";

/// So many lines of JSON are larger than a part.
const LONG_ROWS: usize = 200_000;

/// What a request needs: an action on a resource by the document's names. What has no name there is named as it is.
fn needed(request: &Request, scene: &Scene) -> Right {
    if let Some(target) = request.headers.get("x-amz-target") {
        let action = target.strip_prefix("AmazonSQS.").unwrap_or_else(|| panic!("{target}"));
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let resource = match body["QueueUrl"].as_str().unwrap() {
            url if url == scene.requests.url => "RunRequestQueue",
            url if url == scene.dead_letters.url => "RunRequestDeadLetterQueue",
            other => other,
        };
        return (format!("sqs:{}", action.trim_end_matches("Batch")), resource.to_owned());
    }
    if request.path == "/" {
        let fields = form(&request.body);
        let action = fields["Action"].trim_end_matches("Batch");
        let environment = scene.environment();
        let topics = [
            ("AWS_SNS_METRIC_RUN_STARTED_TOPIC_ARN", "RunStartedTopic"),
            ("AWS_SNS_METRIC_RUN_HEARTBEAT_TOPIC_ARN", "RunHeartbeatTopic"),
            ("AWS_SNS_METRIC_RUN_COMPLETED_TOPIC_ARN", "RunCompletedTopic"),
        ];
        let topic = topics.iter().find(|(variable, _)| environment[*variable] == fields["TopicArn"]);
        return (format!("sns:{action}"), topic.map_or(fields["TopicArn"].clone(), |(_, name)| (*name).to_owned()));
    }
    let (bucket, key) = request.path.trim_start_matches('/').split_once('/').unwrap_or((&request.path[1..], ""));
    assert_eq!(bucket, BUCKET, "{request:?}");
    let has = |name: &str| request.query.contains_key(name);
    let action = match request.method.as_str() {
        "GET" if has("list-type") => "s3:ListBucket",
        "GET" | "HEAD" if !key.is_empty() => "s3:GetObject",
        "PUT" if !has("partNumber") || has("uploadId") => "s3:PutObject",
        "POST" if has("uploads") || has("uploadId") => "s3:PutObject",
        "DELETE" if has("uploadId") => "s3:AbortMultipartUpload",
        _ => panic!("{request:?} is none of the worker's requests"),
    };
    let listed = request.query.get("prefix").map_or("", String::as_str);
    // A listing is allowed on the bucket, on the condition that its prefix is one of the two.
    let place = match (key, action) {
        ("", "s3:ListBucket") if listed.starts_with("datasets/") || listed.starts_with("metrics/") => "bucket",
        (key, _) if key.starts_with("datasets/") => "inputs",
        (key, _) if key.starts_with("metrics/") => "outputs",
        _ => panic!("{request:?} is outside of the prefixes"),
    };
    (action.to_owned(), place.to_owned())
}

/// A dataset whose runs take a while, and one that is not to be had.
fn way(request: &Request) -> Way {
    let is_read = request.method == "GET" && !request.query.contains_key("list-type");
    match request.path.as_str() {
        path if is_read && path.ends_with(LONG_MANIFEST) => Way::Slow(Duration::from_millis(1_500)),
        path if path.contains("/datasets/unavailable/") => Way::Unavailable,
        _ => Way::Free,
    }
}

/// A dataset whose moving averages are larger than a part.
async fn put_long_dataset(scene: &Scene) {
    let times = (0..).take(LONG_ROWS).map(|second: i64| second * 1_000_000_000).collect();
    let values = (0..).take(LONG_ROWS).map(|row: i32| f64::from(row) / 7.0).collect();
    let file = "LONG/year=1970/month=01/data.parquet";
    scene.aws.put(BUCKET, &format!("datasets/long/projections/{file}"), parquet_of("LONG", times, values)).await;
    let manifest = json!({"version_id": "v1", "series_codes": ["LONG"], "parquet_files": [file]});
    scene.aws.put(BUCKET, LONG_MANIFEST, manifest.to_string()).await;
}

fn long(run_id: &str) -> String {
    let expression = json!({"op": "sma", "series": {"seriesCode": "LONG"}, "window": 2});
    let mut request = request(run_id, "m.long", "window_op", &expression);
    request["inputs"] = json!([{"datasetId": "long", "seriesCode": "LONG"}]);
    request["catalog"] = json!({"datasets": {"long": {"manifestPath": LONG_MANIFEST}}});
    request.to_string()
}

/// What a worker leaves that dies between its data and its seal.
async fn forget_the_commit(scene: &Scene, run_id: &str) {
    let claim_key = format!("metrics/m.long/runs/{run_id}.claim");
    let mut claim = scene.json(&claim_key).await;
    claim.as_object_mut().unwrap().remove("sealed");
    scene.aws.put(BUCKET, &claim_key, claim.to_string()).await;
    for key in scene.outputs().await {
        if key.contains("m.long") && (key.ends_with("manifest.json") || key.ends_with(".ok")) {
            scene.aws.clients.s3.delete_object().bucket(BUCKET).key(key).send().await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_role_allows_what_the_worker_asks_for_and_nothing_else() {
    let scene = Scene::new().await;
    put_long_dataset(&scene).await;
    let log = RequestLog::start(&scene.aws.endpoint, way).await;
    let settings = [("AWS_ENDPOINT_URL", log.endpoint.as_str()), ("WORKER_HEARTBEAT_INTERVAL_SECONDS", "1")];
    let mut worker = scene.worker_with(&settings).await;

    let mut unavailable = ratio("run-3", "m.unavailable");
    unavailable["catalog"]["datasets"]["rates"]["manifestPath"] = json!("datasets/unavailable/manifest.json");
    let bodies = [
        ("one", ratio("run-1", "m.one").to_string()),
        ("two", long("run-2")),
        ("three", unavailable.to_string()),
        ("four", "this is no request".to_owned()),
    ];
    let batch = scene.batch(&bodies.map(|(group, body)| Sent { group, body })).await;
    let returned = scene.deliver(&mut worker, &batch).await;
    assert_eq!(returned["batchItemFailures"].as_array().unwrap().len(), 1, "{returned}");
    forget_the_commit(&scene, "run-2").await;
    let again = scene.batch(&[Sent { group: "two", body: long("run-2") }]).await;
    scene.deliver(&mut worker, &again).await;
    assert!(scene.outputs().await.contains(&"metrics/m.long/runs/run-2.ok".to_owned()));
    let sizes = scene.aws.clients.s3.list_objects_v2().bucket(BUCKET).prefix("metrics/m.long/").send().await.unwrap();
    let largest = sizes.contents().iter().filter_map(aws_sdk_s3::types::Object::size).max();
    assert!(largest.unwrap() > i64::try_from(PART_SIZE_BYTES).unwrap(), "no output is larger than a part");
    let open = scene.aws.clients.s3.list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
    assert!(open.uploads().is_empty(), "{:?}", open.uploads());

    let observed: BTreeSet<Right> = log.requests().iter().map(|request| needed(request, &scene)).collect();
    let others: BTreeSet<Right> = documented(OTHERS).into_iter().map(|(right, _)| right).collect();
    let allowed: BTreeSet<Right> = granted(&template::expanded()).difference(&others).cloned().collect();
    let ungranted: Vec<_> = observed.difference(&allowed).collect();
    assert!(ungranted.is_empty(), "the worker asks for what its role does not allow: {ungranted:?}");
    let unobserved: Vec<_> = allowed.difference(&observed).collect();
    assert!(unobserved.is_empty(), "the role allows what the worker never asks for: {unobserved:?}");
    let own: BTreeSet<Right> = documented(OWN).into_iter().map(|(right, _)| right).collect();
    assert_eq!(own, observed, "docs/iam.md");
}
