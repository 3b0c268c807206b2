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

use std::process::Command;

use laws::violations;
use serde_json::{Value, json};
use template::{expanded, of_type, root, source};

#[test]
fn the_template_keeps_every_law() {
    let broken = violations(&expanded());
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Where the template is broken, how, and what its law says then.
type Breach = (&'static str, Value, &'static str);

/// Of the way of a message.
fn breaches_of_delivery() -> Vec<Breach> {
    vec![
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
            "somebody else than RunRequestedTopic",
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
        ("/Resources/RunCompletedSubscription/Properties/TopicArn/Ref", json!("RunStartedTopic"), "the subscription"),
        ("/Resources/ControlFunctionRunStarteds/Properties/FunctionResponseTypes", json!([]), "answers"),
        ("/Resources/ControlFunction/Properties/Timeout", json!(61), "hides a batch for less"),
        ("/Resources/RunHeartbeatQueue/Properties/RedrivePolicy/maxReceiveCount", json!(6), "another time"),
        (
            "/Resources/ProjectionUpdateDeadLetterQueue/Properties/MessageRetentionPeriod",
            json!(1),
            "ProjectionUpdateDeadLetterQueue keeps",
        ),
        ("/Parameters/ControlRunStartedQueueName/AllowedPattern", json!("^x$"), "RunStartedQueue is not FIFO"),
    ]
}

/// Of rights, privacy, and what is kept.
fn breaches_of_safety() -> Vec<Breach> {
    vec![
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
        ("/Resources/RunRequestQueue/Properties/SqsManagedSseEnabled", json!(false), "is encrypted with"),
        (
            "/Resources/RunCompletedTopic/Properties/KmsMasterKeyId",
            json!({"Ref": "AWS::NoValue"}),
            "RunCompletedTopic is encrypted with",
        ),
        ("/Resources/WorkerLogGroup/Properties/KmsKeyId", json!(null), "WorkerLogGroup is encrypted with"),
        ("/Resources/EncryptionKey/Properties/EnableKeyRotation", json!(false), "EncryptionKey is encrypted with"),
        ("/Resources/DataBucket/Properties/VersioningConfiguration/Status", json!("Suspended"), "keeps no versions"),
        (
            "/Resources/DataBucket/Properties/LifecycleConfiguration/Rules/0/Status",
            json!("Disabled"),
            "unfinished uploads stay in DataBucket",
        ),
        ("/Resources/DataBucket/DeletionPolicy", json!("Delete"), "goes with its stack"),
        ("/Resources/WorkerFunction/Properties/TracingConfig/Mode", json!("PassThrough"), "tracing is"),
        ("/Resources/WorkerLogGroup/Properties/RetentionInDays", json!(30), "is not kept"),
        (
            "/Resources/ControlRole/Properties/Policies/0/PolicyDocument/Statement/0/Action",
            json!("s3:PutObject"),
            "the control plane may",
        ),
        (
            "/Resources/ControlRole/Properties/Policies/0/PolicyDocument/Statement/1/Condition",
            json!({}),
            "than outputs",
        ),
        ("/Resources/ControlLogGroup/Condition", json!("CreateKey"), "ControlLogGroup is there without a database"),
        ("/Parameters/ControlApiAuthType/Default", json!("NONE"), "asks for no signature"),
        ("/Parameters/Architecture/Default", json!("x86_64"), "the function is built for"),
    ]
}

#[test]
fn every_law_finds_its_breach() {
    let template = expanded();
    for (pointer, value, expected) in breaches_of_delivery().into_iter().chain(breaches_of_safety()) {
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

/// What `sam build` and `cargo lambda build` are told is what there is: one function resource for each deployed binary.
#[test]
fn every_function_is_built_from_the_binary_of_its_name() {
    let template = source();
    let functions = of_type(&template, "AWS::Serverless::Function");
    let names: Vec<_> = functions.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["ControlFunction", "WorkerFunction"]);
    for (name, function) in functions {
        let binary = name.strip_suffix("Function").unwrap().to_lowercase();
        assert!(root().join(format!("src/bin/{binary}.rs")).exists(), "{name} has no binary");
        let metadata = &template["Resources"][name]["Metadata"];
        assert_eq!(*metadata, json!({"BuildMethod": "rust-cargolambda", "BuildProperties": {"Binary": binary}}));
        assert_eq!((&function["CodeUri"], &function["Handler"]), (&json!("."), &json!("bootstrap")));
        assert_eq!(function["Runtime"], "provided.al2023");
    }
}

/// The commands that a target of the Makefile would run.
fn dry_run(arguments: &[&str]) -> Vec<String> {
    // The tools of .venv are installed by a target that is none of this test's business.
    let mut make = Command::new("make");
    make.args(["--dry-run", "--assume-old=target/venv.stamp"]).args(arguments).current_dir(root());
    // The tests may have been started by `make`, and this is another one.
    let output = make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_makefile_builds_and_deploys_by_sam_and_by_cargo_lambda() {
    assert_eq!(
        dry_run(&["deploy", "STACK=mine", "ARCH=arm64"]),
        [
            "sam build --parameter-overrides Architecture=arm64",
            "sam deploy --stack-name mine --parameter-overrides Architecture=arm64"
        ]
    );
    let built = dry_run(&["build", "ARCH=arm64"]);
    let build = "cargo lambda build --release --no-default-features --bin worker --target aarch64-unknown-linux-gnu \
                 --skip-target-check --lambda-dir target/lambda/arm64";
    assert_eq!(built, [build]);
    let deployed = dry_run(&["deploy-cargo", "STACK=mine", "ARCH=arm64"]);
    let deploy = "cargo lambda deploy --lambda-dir target/lambda/arm64 --binary-name worker mine-worker";
    assert_eq!(deployed, [build, deploy]);
}
