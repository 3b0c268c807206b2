//! The laws: each is a function from the expanded template to what breaks it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::template::{Statement, number, of_type, property, statements};

/// Key policies speak of their own key as `*`; X-Ray has no resources.
const MAY_NAME_EVERY_RESOURCE: [&str; 4] =
    ["AccountAdministersKey", "TopicsDeliverToEncryptedQueue", "LogGroupIsEncrypted", "SendTraces"];

/// Without it nobody could manage the key.
const MAY_NAME_EVERY_ACTION: [&str; 1] = ["AccountAdministersKey"];

type Law = fn(&Value) -> Vec<String>;

const LAWS: [Law; 15] = [
    the_queue_hides_a_batch_for_six_timeouts,
    a_message_is_received_five_times_before_it_is_dead,
    dead_letters_outlive_the_queue,
    queues_and_topics_are_fifo,
    only_its_topic_sends_to_a_queue,
    mappings_report_single_records,
    the_control_plane_s_queues_keep_the_laws_of_the_worker_s,
    the_control_plane_s_role_has_the_rights_that_it_uses,
    the_control_plane_is_there_with_its_database_alone,
    no_statement_allows_everything,
    the_role_has_the_rights_of_the_contract,
    what_holds_data_is_private,
    everything_is_encrypted,
    the_bucket_keeps_versions_and_ends_unfinished_uploads,
    tracing_and_retention_are_parameters,
];

pub(crate) fn violations(template: &Value) -> Vec<String> {
    LAWS.iter().flat_map(|law| law(template)).collect()
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
        .map(|queue| bounds(template, property(template, queue, "MessageRetentionPeriod")));
    match (source, dead) {
        (Some((_, longest)), Some((shortest, _))) if shortest > longest => vec![],
        _ => vec![format!("dead letters are kept for {dead:?} s, requests for {source:?} s")],
    }
}

fn queues_and_topics_are_fifo(template: &Value) -> Vec<String> {
    let queues = of_type(template, "AWS::SQS::Queue").into_iter().map(|queue| (queue, "FifoQueue", "QueueName"));
    let topics = of_type(template, "AWS::SNS::Topic").into_iter().map(|topic| (topic, "FifoTopic", "TopicName"));
    let named_fifo = |name: &Value| {
        let pattern = &template["Parameters"][name["Ref"].as_str().unwrap_or_default()]["AllowedPattern"];
        let last = name["Fn::Join"][1].as_array().and_then(|parts| parts.last()).unwrap_or(&name["Fn::Sub"]);
        last.as_str().is_some_and(|name| name.ends_with(".fifo"))
            || pattern.as_str().is_some_and(|pattern| pattern.ends_with(r"\.fifo$"))
    };
    queues
        .chain(topics)
        .filter(|((_, properties), flag, name)| properties[flag] != true || !named_fifo(&properties[name]))
        .map(|((resource, _), ..)| format!("{resource} is not FIFO"))
        .collect()
}

/// What is delivered: the stem of queue and subscription, the topic, and what the subscription lets through.
fn deliveries() -> [(&'static str, &'static str, &'static str, Value); 5] {
    let of_type = |kind: &str| json!({"type": [kind]});
    [
        ("RunRequest", "RunRequestedTopic", "MessageAttributes", of_type("metric_run_requested")),
        ("RunStarted", "RunStartedTopic", "MessageAttributes", of_type("metric_run_started")),
        ("RunHeartbeat", "RunHeartbeatTopic", "MessageAttributes", of_type("metric_run_heartbeat")),
        ("RunCompleted", "RunCompletedTopic", "MessageAttributes", of_type("metric_run_completed")),
        ("ProjectionUpdate", "ProjectionUpdateTopic", "MessageBody", json!({"event": ["projection_update"]})),
    ]
}

fn only_its_topic_sends_to_a_queue(template: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let policies = of_type(template, "AWS::SQS::QueuePolicy");
    for (stem, topic, scope, filter) in deliveries() {
        let queue = format!("{stem}Queue");
        let its_own = policies.iter().filter(|(_, policy)| policy["Queues"] == json!([{"Ref": queue}]));
        let allowed: Vec<_> = its_own.flat_map(|(_, policy)| statements(policy)).filter(Statement::allows).collect();
        let from_topic = json!({"ArnEquals": {"aws:SourceArn": {"Ref": topic}}});
        let is_the_topic_s =
            |one: &Statement<'_>| one.value["Condition"] == from_topic && one.actions() == ["sqs:SendMessage"];
        if !matches!(&allowed[..], [only] if is_the_topic_s(only)) {
            broken.push(format!("somebody else than {topic} sends to {queue}, or it does not"));
        }
        let subscription = &template["Resources"][format!("{stem}Subscription")]["Properties"];
        if subscription["FilterPolicy"] != filter
            || subscription["FilterPolicyScope"] != scope
            || subscription["TopicArn"] != json!({"Ref": topic})
            || subscription["Endpoint"] != json!({"Fn::GetAtt": [queue, "Arn"]})
        {
            broken.push(format!("the subscription does not deliver {filter}, and nothing else, to {queue}"));
        }
    }
    let senders = policies.iter().flat_map(|(_, policy)| statements(policy)).filter(Statement::allows).count();
    if senders != deliveries().len() {
        broken.push(format!("{senders} statements let somebody send to a queue"));
    }
    broken
}

fn mappings_report_single_records(template: &Value) -> Vec<String> {
    let mappings = of_type(template, "AWS::Lambda::EventSourceMapping");
    let mut broken = Vec::new();
    let mut read = BTreeSet::new();
    for (name, mapping) in mappings {
        broken.extend(within(template, name, &mapping["BatchSize"], "BatchSize", 1, 10));
        let concurrency = &mapping["ScalingConfig"]["MaximumConcurrency"];
        broken.extend(within(template, name, concurrency, "MaximumConcurrency", 2, 1_000));
        if mapping["FunctionResponseTypes"] != json!(["ReportBatchItemFailures"]) {
            broken.push(format!("{name} answers to {}", mapping["FunctionResponseTypes"]));
        }
        if mapping.get("FilterCriteria").is_some() {
            broken.push(format!("{name} filters: records that do not match would be deleted unseen"));
        }
        let queue = mapping["EventSourceArn"]["Fn::GetAtt"][0].as_str().unwrap_or_default().to_owned();
        let is_switched = mapping["Enabled"] == json!({"Ref": "RunRequestQueueEnabled"});
        if is_switched != (queue == "RunRequestQueue") {
            broken.push(format!("{name} cannot be switched off by its parameter, or by another's"));
        }
        read.insert(queue);
    }
    let expected: BTreeSet<_> = deliveries().iter().map(|(stem, ..)| format!("{stem}Queue")).collect();
    if read != expected {
        broken.push(format!("mappings read {read:?}, not {expected:?}"));
    }
    broken
}

/// The stems of the queues of the control plane.
const INBOUND: [&str; 4] = ["ProjectionUpdate", "RunStarted", "RunHeartbeat", "RunCompleted"];

fn the_control_plane_s_queues_keep_the_laws_of_the_worker_s(template: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let timeout = number(property(template, "ControlFunction", "Timeout")).unwrap_or(u64::MAX / 6);
    for stem in INBOUND {
        let (queue, dead) = (format!("{stem}Queue"), format!("{stem}DeadLetterQueue"));
        let looked_up = &property(template, &queue, "VisibilityTimeout")["Fn::FindInMap"];
        let visible_after = &template["Mappings"]["TimeoutLaw"][looked_up[1].as_str().unwrap_or_default()];
        if number(&visible_after["VisibilitySeconds"]).is_none_or(|seconds| seconds < 6 * timeout) {
            broken.push(format!("{queue} hides a batch for less than six times {timeout} s"));
        }
        let redrive = property(template, &queue, "RedrivePolicy");
        broken.extend(within(template, &queue, &redrive["maxReceiveCount"], "maxReceiveCount", 5, 1_000));
        let told = &property(template, "ControlFunction", "Environment")["Variables"]["MAX_RECEIVE_COUNT"];
        if redrive["deadLetterTargetArn"] != json!({"Fn::GetAtt": [dead, "Arn"]}) || told != &redrive["maxReceiveCount"]
        {
            broken.push(format!("dead letters of {queue} go elsewhere, or at another time than its function is told"));
        }
        let [kept, kept_dead] =
            [&queue, &dead].map(|queue| bounds(template, property(template, queue, "MessageRetentionPeriod")));
        if kept.zip(kept_dead).is_none_or(|((_, longest), (shortest, _))| shortest <= longest) {
            broken.push(format!("{dead} keeps letters for {kept_dead:?} s, {queue} messages for {kept:?} s"));
        }
    }
    broken
}

fn the_control_plane_s_role_has_the_rights_that_it_uses(template: &Value) -> Vec<String> {
    let role = &template["Resources"]["ControlRole"]["Properties"];
    let bucket = |suffix: &str| format!("arn:${{AWS::Partition}}:s3:::${{Bucket}}{suffix}");
    let mut expected = BTreeSet::new();
    let mut expect = |actions: &[&str], resource: &str| {
        expected.extend(actions.iter().map(|action| ((*action).to_owned(), resource.to_owned())));
    };
    expect(&["s3:GetObject"], &bucket("/${OutputPrefix}*"));
    expect(&["s3:ListBucket"], &bucket(""));
    expect(&["sns:Publish"], "RunRequestedTopic");
    for stem in INBOUND {
        let take = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"];
        expect(&take, &format!("{stem}Queue"));
        expect(&["sqs:SendMessage"], &format!("{stem}DeadLetterQueue"));
    }
    expect(&["logs:CreateLogStream", "logs:PutLogEvents"], "ControlLogGroup");
    expect(&["kms:Decrypt", "kms:GenerateDataKey"], "EncryptionKey");
    expect(&["kms:Decrypt"], "ExistingBucketKeyArn");
    expect(&["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "*");
    let found: BTreeSet<_> = statements(&role["Policies"]).iter().flat_map(Statement::rights).collect();
    let more = found.difference(&expected).map(|right| format!("the control plane may {right:?}, and does not use it"));
    let less = expected.difference(&found).map(|right| format!("the control plane may not {right:?}"));
    let mut broken: Vec<_> = more.chain(less).collect();
    let interfaces = "arn:${AWS::Partition}:iam::aws:policy/service-role/AWSLambdaENIManagementAccess";
    let managed = json!({"Fn::If": ["HasSubnets", [{"Fn::Sub": interfaces}], {"Ref": "AWS::NoValue"}]});
    if role["ManagedPolicyArns"] != managed {
        broken.push(format!("the control plane has rights from {}", role["ManagedPolicyArns"]));
    }
    let listed = json!({"StringLike": {"s3:prefix": {"Fn::Sub": "${OutputPrefix}*"}}});
    for statement in statements(&role["Policies"]) {
        if statement.actions() == ["s3:ListBucket"] && statement.value["Condition"] != listed {
            broken.push("the control plane lists more than outputs".to_owned());
        }
    }
    broken
}

/// Without a database everything that belongs to the control plane is absent, and by default nobody calls it unsigned.
fn the_control_plane_is_there_with_its_database_alone(template: &Value) -> Vec<String> {
    let is_its_own = |name: &str| {
        let is_inbound = INBOUND.iter().any(|stem| name.starts_with(stem));
        let is_topic = ["RunStarted", "RunHeartbeat", "RunCompleted"]
            .iter()
            .any(|stem| name.strip_prefix(stem).is_some_and(|rest| rest.starts_with("Topic")));
        name.starts_with("Control") || (is_inbound && !is_topic)
    };
    let resources = template["Resources"].as_object().unwrap().iter().filter(|(name, _)| is_its_own(name));
    let conditions = ["DeployControl", "ApiIsPublic"];
    let stays = |resource: &Value| !conditions.iter().any(|condition| resource["Condition"] == *condition);
    let mut broken: Vec<_> = resources
        .filter(|(_, resource)| stays(resource))
        .map(|(name, _)| format!("{name} is there without a database"))
        .collect();
    if template["Parameters"]["ControlApiAuthType"]["Default"] != "AWS_IAM" {
        broken.push("the URL asks for no signature".to_owned());
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

fn everything_is_encrypted(template: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let own_key = |id: Value, otherwise: Value| json!({"Fn::If": ["CreateKey", id, otherwise]});
    let (key, key_arn) = (json!({"Ref": "EncryptionKey"}), json!({"Fn::GetAtt": ["EncryptionKey", "Arn"]}));
    let none = json!({"Ref": "AWS::NoValue"});
    let mut expect = |resource: &str, properties: &Value, name: &str, expected: &Value| {
        if &properties[name] != expected {
            broken.push(format!("{resource} is encrypted with {name} {}, not {expected}", properties[name]));
        }
    };
    for (name, queue) in of_type(template, "AWS::SQS::Queue") {
        expect(name, queue, "KmsMasterKeyId", &own_key(key.clone(), none.clone()));
        expect(name, queue, "SqsManagedSseEnabled", &own_key(none.clone(), json!(true)));
    }
    for (name, topic) in of_type(template, "AWS::SNS::Topic") {
        expect(name, topic, "KmsMasterKeyId", &own_key(key.clone(), json!("alias/aws/sns")));
    }
    // Without a key of their own both are encrypted with one of AWS's, always.
    for (kind, property) in [("AWS::Logs::LogGroup", "KmsKeyId"), ("AWS::Lambda::Function", "KmsKeyArn")] {
        for (name, properties) in of_type(template, kind) {
            expect(name, properties, property, &own_key(key_arn.clone(), none.clone()));
        }
    }
    let of_bucket = json!({"SSEAlgorithm": own_key(json!("aws:kms"), json!("AES256")),
        "KMSMasterKeyID": own_key(key_arn, none)});
    for (name, bucket) in of_type(template, "AWS::S3::Bucket") {
        let rule = &bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0];
        expect(name, rule, "ServerSideEncryptionByDefault", &of_bucket);
    }
    for (name, key) in of_type(template, "AWS::KMS::Key") {
        expect(name, key, "EnableKeyRotation", &json!(true));
    }
    broken
}

fn the_bucket_keeps_versions_and_ends_unfinished_uploads(template: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, bucket) in of_type(template, "AWS::S3::Bucket") {
        if bucket["VersioningConfiguration"]["Status"] != "Enabled" {
            broken.push(format!("{name} keeps no versions"));
        }
        let rules = bucket["LifecycleConfiguration"]["Rules"].as_array();
        let ends_uploads = |rule: &Value| {
            let days = bounds(template, &rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]);
            let is_everywhere = rule.get("Prefix").is_none() && rule.get("TagFilters").is_none();
            rule["Status"] == "Enabled" && is_everywhere && days.is_some_and(|(low, high)| low >= 1 && high <= 7)
        };
        if !rules.is_some_and(|rules| rules.iter().any(ends_uploads)) {
            broken.push(format!("unfinished uploads stay in {name}"));
        }
        if template["Resources"][name]["DeletionPolicy"] != "Retain" {
            broken.push(format!("{name} goes with its stack"));
        }
    }
    broken
}

fn tracing_and_retention_are_parameters(template: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let tracing = property(template, "WorkerFunction", "TracingConfig");
    let modes = &template["Parameters"]["Tracing"]["AllowedValues"];
    if tracing != &json!({"Mode": {"Ref": "Tracing"}}) || modes != &json!(["Active", "PassThrough"]) {
        broken.push(format!("tracing is {tracing} of {modes}"));
    }
    for (name, group) in of_type(template, "AWS::Logs::LogGroup") {
        if group["RetentionInDays"] != json!({"Ref": "LogRetentionDays"}) {
            broken.push(format!("{name} is not kept for LogRetentionDays"));
        }
    }
    let own = property(template, "WorkerFunction", "LoggingConfig");
    if own["LogGroup"] != json!({"Ref": "WorkerLogGroup"}) || own["LogFormat"] != "JSON" {
        broken.push(format!("the function logs to {own}"));
    }
    let architectures = property(template, "WorkerFunction", "Architectures");
    let parameter = &template["Parameters"]["Architecture"];
    if architectures != &json!([{"Ref": "Architecture"}])
        || parameter["Default"] != "arm64"
        || parameter["AllowedValues"] != json!(["arm64", "x86_64"])
    {
        broken.push(format!("the function is built for {architectures} of {parameter}"));
    }
    broken
}
