//! The laws of the deployment template: what CloudFormation accepts and a production queue would still suffer from.
//!
//! The template is read by `tools/template.py`, which expands it as SAM does. Every law is a function from the
//! expansion to what breaks it, so that each is also shown to find its own breach.

#![expect(clippy::unwrap_used, reason = "a test stops where the template is not what it should be")]

mod laws;
mod rights;
#[path = "../support/rights.rs"]
mod rights_of_the_role;
mod settings;
#[path = "../support/template.rs"]
mod template;

use laws::violations;
use serde_json::json;
use template::expanded;

#[test]
fn the_template_keeps_every_law() {
    let broken = violations(&expanded());
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_law_finds_its_breach() {
    let template = expanded();
    let breaches = [
        ("/Mappings/TimeoutLaw/300/VisibilitySeconds", json!(1_799), "less than 1800"),
        ("/Resources/RunRequestQueue/Properties/VisibilityTimeout", json!(30), "not the mapping's"),
        ("/Resources/WorkerFunction/Properties/Timeout", json!(900), "not FunctionTimeoutSeconds"),
        ("/Parameters/MaxReceiveCount/MinValue", json!(1), "maxReceiveCount of RunRequestQueue"),
        ("/Resources/RunRequestQueue/Properties/RedrivePolicy/maxReceiveCount", json!(7), "the worker is told"),
        (
            "/Resources/RunRequestDeadLetterQueue/Properties/MessageRetentionPeriod",
            json!(345_600),
            "dead letters are kept",
        ),
        ("/Resources/RunCompletedTopic/Properties/FifoTopic", json!(false), "RunCompletedTopic is not FIFO"),
        (
            "/Resources/RunRequestQueuePolicy/Properties/PolicyDocument/Statement/0/Condition",
            json!({}),
            "somebody else",
        ),
        ("/Resources/RunRequestSubscription/Properties/FilterPolicy/type", json!(["metric_run"]), "the subscription"),
        (
            "/Resources/WorkerFunctionRunRequests/Properties/FunctionResponseTypes",
            json!(["ReportBatchItemFailure"]),
            "answers",
        ),
        ("/Parameters/BatchSize/MaxValue", json!(11), "BatchSize"),
        ("/Parameters/MaximumConcurrency/MinValue", json!(1), "MaximumConcurrency"),
        ("/Resources/WorkerFunctionRunRequests/Properties/Enabled", json!(true), "switched off"),
        (
            "/Resources/WorkerRole/Properties/Policies/0/PolicyDocument/Statement/0/Action",
            json!("s3:*"),
            "ReadInputsAndOwnOutputs of WorkerRole has a wildcard action",
        ),
        (
            "/Resources/WorkerRole/Properties/Policies/0/PolicyDocument/Statement/1/Resource",
            json!("*"),
            "WriteOutputs of WorkerRole has every resource",
        ),
        ("/Resources/WorkerRole/Properties/Policies/0/PolicyDocument/Statement/2/Condition", json!({}), "lists more"),
        (
            "/Resources/WorkerRole/Properties/Policies/0/PolicyDocument/Statement/1/Action/0",
            json!("s3:DeleteObject"),
            "may not",
        ),
        (
            "/Resources/DataBucket/Properties/PublicAccessBlockConfiguration/BlockPublicPolicy",
            json!(false),
            "DataBucket may become public",
        ),
        (
            "/Resources/RunStartedTopicPolicy/Properties/PolicyDocument/Statement/0/Effect",
            json!("Allow"),
            "without TLS",
        ),
    ];
    for (pointer, value, expected) in breaches {
        let mut broken = template.clone();
        *broken.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not in the template")) = value;
        let found = violations(&broken);
        assert!(found.iter().any(|violation| violation.contains(expected)), "{pointer}: {found:#?}");
    }
}

#[test]
fn every_parameter_says_what_it_is_for() {
    let template = expanded();
    for (name, parameter) in template["Parameters"].as_object().unwrap() {
        assert!(parameter["Description"].as_str().is_some_and(|text| !text.is_empty()), "{name} has no description");
    }
}
