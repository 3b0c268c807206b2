//! The settings: what the worker reads, what the template sets, and what `.env.example` says are the same.

use std::collections::BTreeSet;

use metrics_engine::config::{Config, VARIABLES};

use crate::template::{expanded, property, root};

/// What the worker reads and the template leaves out: Lambda sets it, it belongs to the local commands, or, for the
/// topic, the stack has three of its own.
const NOT_DEPLOYED: [&str; 9] = [
    "AWS_REGION",
    "AWS_LAMBDA_LOG_LEVEL",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SNS",
    "AWS_ENDPOINT_URL_SQS",
    "PROMETHEUS_PORT",
    "AWS_SNS_EVENTS_TOPIC_ARN",
];

/// What the C library reads, and is told by the template and the image.
const OF_THE_C_LIBRARY: [&str; 1] = ["MALLOC_ARENA_MAX"];

/// The lines `NAME=value` of `.env.example`, those that are commented out too, and whether they are.
fn example() -> Vec<(String, String, bool)> {
    let text = std::fs::read_to_string(root().join(".env.example")).unwrap();
    let setting = |line: &str| {
        let (name, value) = line.strip_prefix("# ").unwrap_or(line).split_once('=')?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        is_name.then(|| (name.to_owned(), value.to_owned(), line.starts_with('#')))
    };
    text.lines().filter_map(setting).collect()
}

#[test]
fn the_example_has_the_variables_that_are_read_and_no_other() {
    let listed: Vec<_> = example().into_iter().map(|(name, ..)| name).collect();
    let names: BTreeSet<_> = listed.iter().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(VARIABLES));
    assert_eq!(listed.len(), names.len(), "a variable is listed twice");
}

#[test]
fn the_example_says_the_defaults() {
    let required = |name: &str| match name {
        "AWS_S3_BUCKET" => Some("bucket".to_owned()),
        name if name.ends_with("_TOPIC_ARN") => Some("arn:aws:sns:us-east-1:000000000000:events.fifo".to_owned()),
        _ => None,
    };
    let from_example = Config::from_lookup(|name| {
        let stated = example().into_iter().find(|(other, _, is_comment)| other == name && !is_comment);
        required(name).or(stated.map(|(_, value, _)| value))
    });
    assert_eq!(format!("{:?}", from_example.unwrap()), format!("{:?}", Config::from_lookup(required).unwrap()));
}

#[test]
fn the_template_sets_the_variables_that_are_read_and_no_other() {
    let template = expanded();
    let set = &property(&template, "WorkerFunction", "Environment")["Variables"];
    let set: BTreeSet<_> = set.as_object().unwrap().keys().map(String::as_str).collect();
    let read = BTreeSet::from(VARIABLES);
    let not_deployed = BTreeSet::from(NOT_DEPLOYED);
    assert!(not_deployed.is_subset(&read), "an exception that nobody reads");
    assert_eq!(set, &(&read - &not_deployed) | &BTreeSet::from(OF_THE_C_LIBRARY));
}

#[test]
fn the_template_s_defaults_are_the_worker_s() {
    let template = expanded();
    let set = &property(&template, "WorkerFunction", "Environment")["Variables"];
    for (name, value, is_comment) in example() {
        let default = &template["Parameters"][set[&name]["Ref"].as_str().unwrap_or_default()]["Default"];
        if !is_comment && !default.is_null() {
            assert_eq!(default.as_str().map_or_else(|| default.to_string(), str::to_owned), value, "{name}");
        }
    }
}

#[cfg(feature = "control")]
#[test]
fn the_template_sets_the_variables_that_the_control_plane_reads_and_no_other() {
    /// As `NOT_DEPLOYED`, of the control plane: queues are switched by their mappings, each has dead letters of its own,
    /// and a function has no port.
    const NOT_DEPLOYED_OF_CONTROL: [&str; 14] = [
        "AWS_REGION",
        "AWS_LAMBDA_LOG_LEVEL",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_SNS",
        "AWS_ENDPOINT_URL_SQS",
        "SQS_PROJECTION_UPDATE_QUEUE_ENABLED",
        "SQS_METRIC_RUN_STARTED_QUEUE_ENABLED",
        "SQS_METRIC_RUN_HEARTBEAT_QUEUE_ENABLED",
        "SQS_METRIC_RUN_COMPLETED_QUEUE_ENABLED",
        "DEAD_LETTER_QUEUE_URL",
        "PORT",
        "API_ADDRESS",
        "API_UNPROTECTED",
    ];

    /// What is right for every function as it is.
    const RIGHT_BY_DEFAULT: [&str; 3] = ["DB_POOL_SIZE", "DB_CONNECT_TIMEOUT_SECONDS", "DB_STATEMENT_TIMEOUT_SECONDS"];

    let template = expanded();
    let set = &property(&template, "ControlFunction", "Environment")["Variables"];
    let set: BTreeSet<_> = set.as_object().unwrap().keys().map(String::as_str).collect();
    let read = BTreeSet::from(metrics_engine::control::config::VARIABLES);
    let not_set: BTreeSet<_> = NOT_DEPLOYED_OF_CONTROL.into_iter().chain(RIGHT_BY_DEFAULT).collect();
    assert!(not_set.is_subset(&read), "an exception that nobody reads");
    assert_eq!(set, &read - &not_set);
}
