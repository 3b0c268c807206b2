//! The laws of the deployment template: what CloudFormation accepts and a production queue would still suffer from.
//!
//! The template is read by `tools/template.py`, which expands it as SAM does. Every law is a function from the
//! expansion to what breaks it, so that each is also shown to find its own breach.

#![expect(clippy::unwrap_used, reason = "a test stops where the template is not what it should be")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use metrics_engine::config::{Config, VARIABLES};
use serde_json::{Value, json};

/// Key policies speak of their own key as `*`; X-Ray has no resources.
const MAY_NAME_EVERY_RESOURCE: [&str; 4] =
    ["AccountAdministersKey", "TopicsDeliverToEncryptedQueue", "LogGroupIsEncrypted", "SendTraces"];

/// Without it nobody could manage the key.
const MAY_NAME_EVERY_ACTION: [&str; 1] = ["AccountAdministersKey"];

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

type Law = fn(&Value) -> Vec<String>;

const LAWS: [Law; 9] = [
    the_queue_hides_a_batch_for_six_timeouts,
    a_message_is_received_five_times_before_it_is_dead,
    dead_letters_outlive_the_queue,
    queues_and_topics_are_fifo,
    only_the_request_topic_sends_to_the_queue,
    the_mapping_reports_single_records,
    no_statement_allows_everything,
    the_role_has_the_rights_of_the_contract,
    what_holds_data_is_private,
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn expanded() -> Value {
    let python = root().join(".venv/bin/python");
    assert!(python.exists(), "{} is missing: run make venv", python.display());
    let output = Command::new(python).arg(root().join("tools/template.py")).arg("json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let both: Value = serde_json::from_slice(&output.stdout).unwrap();
    both["expanded"].clone()
}

fn violations(template: &Value) -> Vec<String> {
    LAWS.iter().flat_map(|law| law(template)).collect()
}

fn of_type<'a>(template: &'a Value, kind: &str) -> Vec<(&'a str, &'a Value)> {
    let resources = template["Resources"].as_object().unwrap().iter();
    let wanted = resources.filter(|(_, resource)| resource["Type"] == kind);
    wanted.map(|(name, resource)| (name.as_str(), &resource["Properties"])).collect()
}

fn property<'a>(template: &'a Value, resource: &str, name: &str) -> &'a Value {
    &template["Resources"][resource]["Properties"][name]
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

/// The smallest and largest value that a property can take, whatever its parameter is set to.
fn bounds(template: &Value, value: &Value) -> Option<(u64, u64)> {
    if let Some(fixed) = number(value) {
        return Some((fixed, fixed));
    }
    let parameter = &template["Parameters"][value["Ref"].as_str()?];
    Some((number(&parameter["MinValue"])?, number(&parameter["MaxValue"])?))
}

fn within(template: &Value, resource: &str, value: &Value, what: &str, least: u64, most: u64) -> Vec<String> {
    match bounds(template, value) {
        Some((low, high)) if low >= least && high <= most => vec![],
        found => vec![format!("{what} of {resource} is {found:?}, not within {least} and {most}")],
    }
}

fn the_queue_hides_a_batch_for_six_timeouts(template: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    if property(template, "WorkerFunction", "Timeout") != &json!({"Ref": "FunctionTimeoutSeconds"}) {
        broken.push("the timeout of the function is not FunctionTimeoutSeconds".to_owned());
    }
    let looked_up = json!({"Fn::FindInMap": ["TimeoutLaw", {"Ref": "FunctionTimeoutSeconds"}, "VisibilitySeconds"]});
    if property(template, "RunRequestQueue", "VisibilityTimeout") != &looked_up {
        broken.push("the visibility timeout of the queue is not the mapping's".to_owned());
    }
    for timeout in template["Parameters"]["FunctionTimeoutSeconds"]["AllowedValues"].as_array().unwrap() {
        let visible_after = number(&template["Mappings"]["TimeoutLaw"][timeout.as_str().unwrap()]["VisibilitySeconds"]);
        let needed = 6 * number(timeout).unwrap();
        if visible_after.is_none_or(|seconds| seconds < needed) {
            broken.push(format!("visibility {visible_after:?} for timeout {timeout} is less than {needed}"));
        }
    }
    broken
}

fn a_message_is_received_five_times_before_it_is_dead(template: &Value) -> Vec<String> {
    let redrive = property(template, "RunRequestQueue", "RedrivePolicy");
    let mut broken = within(template, "RunRequestQueue", &redrive["maxReceiveCount"], "maxReceiveCount", 5, 1_000);
    if redrive["deadLetterTargetArn"] != json!({"Fn::GetAtt": ["RunRequestDeadLetterQueue", "Arn"]}) {
        broken.push("the queue has no dead-letter queue".to_owned());
    }
    let told = &property(template, "WorkerFunction", "Environment")["Variables"]["MAX_RECEIVE_COUNT"];
    if told != &redrive["maxReceiveCount"] {
        broken.push(format!("the worker is told {told} receives, the queue allows {}", redrive["maxReceiveCount"]));
    }
    broken
}

fn dead_letters_outlive_the_queue(template: &Value) -> Vec<String> {
    let [source, dead] = ["RunRequestQueue", "RunRequestDeadLetterQueue"]
        .map(|queue| property(template, queue, "MessageRetentionPeriod"));
    match (number(source), number(dead)) {
        (Some(source), Some(dead)) if dead > source => vec![],
        _ => vec![format!("dead letters are kept for {dead} s, requests for {source} s")],
    }
}

fn queues_and_topics_are_fifo(template: &Value) -> Vec<String> {
    let queues = of_type(template, "AWS::SQS::Queue").into_iter().map(|queue| (queue, "FifoQueue", "QueueName"));
    let topics = of_type(template, "AWS::SNS::Topic").into_iter().map(|topic| (topic, "FifoTopic", "TopicName"));
    let named_fifo = |name: &Value| name["Fn::Sub"].as_str().is_some_and(|name| name.ends_with(".fifo"));
    queues
        .chain(topics)
        .filter(|((_, properties), flag, name)| properties[flag] != true || !named_fifo(&properties[name]))
        .map(|((resource, _), ..)| format!("{resource} is not FIFO"))
        .collect()
}

fn only_the_request_topic_sends_to_the_queue(template: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let policies = of_type(template, "AWS::SQS::QueuePolicy");
    let allowed = policies.iter().flat_map(|(_, policy)| statements(policy)).filter(Statement::allows);
    let from_topic = json!({"ArnEquals": {"aws:SourceArn": {"Ref": "RunRequestedTopic"}}});
    let mut senders = 0;
    for statement in allowed {
        senders += 1;
        if statement.value["Condition"] != from_topic || statement.actions() != ["sqs:SendMessage"] {
            broken.push(format!("{} lets somebody else than the request topic send", statement.sid()));
        }
    }
    if senders != 1 {
        broken.push(format!("{senders} statements let the request topic send to the queue, not one"));
    }
    let subscription = &template["Resources"]["RunRequestSubscription"]["Properties"];
    if subscription["FilterPolicy"] != json!({"type": ["metric_run_requested"]})
        || subscription["FilterPolicyScope"] != "MessageAttributes"
        || subscription["Endpoint"] != json!({"Fn::GetAtt": ["RunRequestQueue", "Arn"]})
    {
        broken
            .push("the subscription does not deliver metric_run_requested, and nothing else, to the queue".to_owned());
    }
    broken
}

fn the_mapping_reports_single_records(template: &Value) -> Vec<String> {
    let mappings = of_type(template, "AWS::Lambda::EventSourceMapping");
    let [(name, mapping)] = mappings[..] else { return vec![format!("{} event source mappings", mappings.len())] };
    let mut broken = within(template, name, &mapping["BatchSize"], "BatchSize", 1, 10);
    let concurrency = &mapping["ScalingConfig"]["MaximumConcurrency"];
    broken.extend(within(template, name, concurrency, "MaximumConcurrency", 2, 1_000));
    if mapping["FunctionResponseTypes"] != json!(["ReportBatchItemFailures"]) {
        broken.push(format!("the mapping answers to {}", mapping["FunctionResponseTypes"]));
    }
    if mapping["EventSourceArn"] != json!({"Fn::GetAtt": ["RunRequestQueue", "Arn"]}) {
        broken.push("the mapping reads another queue".to_owned());
    }
    if mapping["Enabled"] != json!({"Ref": "RunRequestQueueEnabled"}) {
        broken.push("the mapping cannot be switched off by its parameter".to_owned());
    }
    if mapping.get("FilterCriteria").is_some() {
        broken.push("the mapping filters: records that do not match would be deleted unseen".to_owned());
    }
    broken
}

fn no_statement_allows_everything(template: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, resource) in template["Resources"].as_object().unwrap() {
        for statement in statements(resource).into_iter().filter(Statement::allows) {
            let sid = statement.sid();
            let every_action = statement.actions().iter().any(|action| action.contains('*'));
            if every_action && !MAY_NAME_EVERY_ACTION.contains(&sid) {
                broken.push(format!("{sid} of {name} has a wildcard action"));
            }
            let every_resource = statement.resources().iter().any(|resource| **resource == "*");
            if every_resource && !MAY_NAME_EVERY_RESOURCE.contains(&sid) {
                broken.push(format!("{sid} of {name} has every resource"));
            }
            if statement.value.get("NotAction").is_some() || statement.value.get("NotResource").is_some() {
                broken.push(format!("{sid} of {name} allows by exclusion"));
            }
        }
    }
    broken
}

fn the_role_has_the_rights_of_the_contract(template: &Value) -> Vec<String> {
    let role = &template["Resources"]["WorkerRole"]["Properties"];
    let mut broken = Vec::new();
    if role.get("ManagedPolicyArns").is_some() || !of_type(template, "AWS::IAM::Policy").is_empty() {
        broken.push("the role has rights from elsewhere".to_owned());
    }
    let bucket = |suffix: &str| format!("arn:${{AWS::Partition}}:s3:::${{Bucket}}{suffix}");
    let (inputs, outputs) = (bucket("/${InputPrefix}*"), bucket("/${OutputPrefix}*"));
    let topics = ["RunStartedTopic", "RunHeartbeatTopic", "RunCompletedTopic"];
    let requests = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"];
    let mut expected = BTreeSet::new();
    let mut expect = |action: &str, resource: &str| expected.insert((action.to_owned(), resource.to_owned()));
    expect("s3:GetObject", &inputs);
    expect("s3:GetObject", &outputs);
    expect("s3:PutObject", &outputs);
    expect("s3:AbortMultipartUpload", &outputs);
    expect("s3:ListBucket", &bucket(""));
    topics.iter().for_each(|topic| _ = expect("sns:Publish", topic));
    requests.iter().for_each(|action| _ = expect(action, "RunRequestQueue"));
    expect("sqs:SendMessage", "RunRequestDeadLetterQueue");
    ["logs:CreateLogStream", "logs:PutLogEvents"].iter().for_each(|action| _ = expect(action, "WorkerLogGroup"));
    for key in ["EncryptionKey", "ExistingBucketKeyArn"] {
        ["kms:Decrypt", "kms:GenerateDataKey"].iter().for_each(|action| _ = expect(action, key));
    }
    ["xray:PutTraceSegments", "xray:PutTelemetryRecords"].iter().for_each(|action| _ = expect(action, "*"));

    let found: BTreeSet<_> = statements(&role["Policies"]).iter().flat_map(Statement::rights).collect();
    broken.extend(
        found.difference(&expected).map(|right| format!("the role may {right:?}, the contract does not say so")),
    );
    broken.extend(expected.difference(&found).map(|right| format!("the role may not {right:?}")));

    let listed =
        json!({"StringLike": {"s3:prefix": [{"Fn::Sub": "${InputPrefix}*"}, {"Fn::Sub": "${OutputPrefix}*"}]}});
    for statement in statements(&role["Policies"]) {
        if statement.actions().contains(&"s3:ListBucket") && statement.value["Condition"] != listed {
            broken.push("the role lists more than its prefixes".to_owned());
        }
    }
    for (parameter, prefix) in [("InputPrefix", "datasets/"), ("OutputPrefix", "metrics/")] {
        if template["Parameters"][parameter]["Default"] != prefix {
            broken.push(format!("{parameter} is not {prefix} by default"));
        }
    }
    broken
}

fn what_holds_data_is_private(template: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, bucket) in of_type(template, "AWS::S3::Bucket") {
        let block = &bucket["PublicAccessBlockConfiguration"];
        let parts = ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"];
        if parts.iter().any(|part| block[part] != true) || bucket.get("BucketEncryption").is_none() {
            broken.push(format!("{name} may become public"));
        }
    }
    let plain = json!({"Bool": {"aws:SecureTransport": "false"}});
    let refuses = |policy: &Value| {
        let all = statements(policy);
        all.iter().any(|statement| statement.value["Effect"] == "Deny" && statement.value["Condition"] == plain)
    };
    let guarded = [
        ("AWS::S3::Bucket", "AWS::S3::BucketPolicy", "Bucket"),
        ("AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "Queues"),
        ("AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "Topics"),
    ];
    for (kind, policy_kind, target) in guarded {
        let policies = of_type(template, policy_kind);
        for (name, _) in of_type(template, kind) {
            let own = json!({"Ref": name});
            let is_own = |policy: &Value| policy[target] == own || policy[target] == json!([own]);
            if !policies.iter().any(|(_, policy)| is_own(policy) && refuses(policy)) {
                broken.push(format!("{name} accepts requests without TLS"));
            }
        }
    }
    broken
}

struct Statement<'a> {
    value: &'a Value,
}

impl<'a> Statement<'a> {
    fn allows(&self) -> bool {
        self.value["Effect"] == "Allow"
    }

    fn sid(&self) -> &'a str {
        self.value["Sid"].as_str().unwrap_or("a statement without a name")
    }

    fn actions(&self) -> Vec<&'a str> {
        listed(&self.value["Action"]).into_iter().filter_map(Value::as_str).collect()
    }

    fn resources(&self) -> Vec<&'a Value> {
        listed(&self.value["Resource"])
    }

    /// Every action on every resource.
    fn rights(&self) -> Vec<(String, String)> {
        let resources: Vec<_> = self.resources().into_iter().map(resource_name).collect();
        let actions = self.actions().into_iter();
        actions.flat_map(|action| resources.iter().map(move |name| (action.to_owned(), name.clone()))).collect()
    }
}

fn listed(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |values| values.iter().collect())
}

fn resource_name(resource: &Value) -> String {
    let name = resource.as_str().or(resource["Ref"].as_str()).or(resource["Fn::GetAtt"][0].as_str());
    name.or(resource["Fn::Sub"][0].as_str()).map_or_else(|| resource.to_string(), str::to_owned)
}

/// Every policy statement below a value, those under conditions too.
fn statements(value: &Value) -> Vec<Statement<'_>> {
    match value {
        Value::Object(fields) if fields.contains_key("Effect") => vec![Statement { value }],
        Value::Object(fields) => fields.values().flat_map(statements).collect(),
        Value::Array(values) => values.iter().flat_map(statements).collect(),
        _ => vec![],
    }
}

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
    assert_eq!(set, &read - &not_deployed);
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
