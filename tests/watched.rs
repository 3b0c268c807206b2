//! What watches the worker refers to what exists: alarms, dashboard and saved queries to metrics and log lines, their
//! descriptions and the documents to sections of the runbook.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where the tree is not as it must be")]

#[path = "support/template.rs"]
mod template;

use std::collections::BTreeSet;
use std::fs;

use metrics_engine::event::ErrorCode;
use metrics_engine::telemetry::{METRICS, NAMESPACE};
use serde_json::{Value, json};
use template::{expanded, of_type, root};

/// The metrics of AWS that the template may use, by namespace.
const NATIVE: [(&str, &[&str]); 3] = [
    (
        "AWS/SQS",
        &[
            "ApproximateNumberOfMessagesVisible",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateAgeOfOldestMessage",
            "NumberOfMessagesSent",
            "NumberOfMessagesReceived",
            "NumberOfMessagesDeleted",
        ],
    ),
    ("AWS/Lambda", &["Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions"]),
    (
        "AWS/SNS",
        &[
            "NumberOfMessagesPublished",
            "NumberOfNotificationsDelivered",
            "NumberOfNotificationsFailed",
            "NumberOfNotificationsFilteredOut",
        ],
    ),
];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The headings of a document, as links name them.
fn anchors(document: &str) -> BTreeSet<String> {
    let titles = document.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#'));
    let slug = |title: &str| {
        let kept = title.trim().to_lowercase();
        let kept = kept.chars().filter(|one| one.is_alphanumeric() || " -_".contains(*one));
        kept.map(|one| if one == ' ' { '-' } else { one }).collect()
    };
    titles.filter(|title| title.starts_with(' ')).map(slug).collect()
}

/// Every link from `text` to a section of `document`.
fn links<'a>(text: &'a str, document: &str) -> BTreeSet<&'a str> {
    let is_of_link = |one: char| one.is_ascii_alphanumeric() || "-_".contains(one);
    text.match_indices(&format!("{document}#"))
        .map(|(start, matched)| {
            let rest = &text[start + matched.len()..];
            &rest[..rest.find(|one| !is_of_link(one)).unwrap_or(rest.len())]
        })
        .collect()
}

fn metric_is_known(namespace: &str, name: &str) -> bool {
    let is_native = NATIVE.iter().any(|(native, names)| *native == namespace && names.contains(&name));
    is_native || (namespace == NAMESPACE && METRICS.contains(&name))
}

/// Namespace and name of every metric of an alarm, those of its expressions too.
fn alarm_metrics(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("MetricName").and_then(Value::as_str).map(|name| {
                (fields.get("Namespace").and_then(Value::as_str).unwrap_or_default().to_owned(), name.to_owned())
            });
            own.into_iter().chain(fields.values().flat_map(alarm_metrics)).collect()
        }
        Value::Array(items) => items.iter().flat_map(alarm_metrics).collect(),
        _ => vec![],
    }
}

/// The text between `before` and the next double quote.
fn quoted<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split('"').next()
}

/// Namespace and name of every metric of a dashboard; what names none is a metric without a name.
fn dashboard_metrics(body: &Value) -> Vec<(String, String)> {
    let mut metrics = Vec::new();
    for widget in body["widgets"].as_array().unwrap().iter().filter(|widget| widget["type"] == "metric") {
        let listed = widget["properties"]["metrics"].as_array().unwrap();
        for metric in listed {
            let of_expression = metric[0]["expression"].as_str();
            let (namespace, name) = match of_expression {
                Some(expression) => match (quoted(expression, "Namespace=\""), quoted(expression, "MetricName=\"")) {
                    // An expression over other lines of the widget, which are looked at themselves.
                    (None, None) if !expression.contains("SEARCH") => continue,
                    (namespace, name) => (namespace.unwrap_or_default(), name.unwrap_or_default()),
                },
                None => (metric[0].as_str().unwrap_or_default(), metric[1].as_str().unwrap_or_default()),
            };
            metrics.push((namespace.to_owned(), name.to_owned()));
        }
    }
    metrics
}

fn dashboard_body(dashboard: &Value) -> Value {
    let body = &dashboard["DashboardBody"];
    let sub = &body["Fn::Sub"];
    let text = body.as_str().or(sub.as_str()).or(sub[0].as_str()).unwrap();
    serde_json::from_str(text).unwrap()
}

/// What a template's watchers refer to in vain.
fn broken(template: &Value, runbook: &str) -> Vec<String> {
    let sections = anchors(runbook);
    let mut broken = Vec::new();
    for (name, alarm) in of_type(template, "AWS::CloudWatch::Alarm") {
        let metrics = alarm_metrics(alarm);
        if metrics.is_empty() {
            broken.push(format!("{name} has no metric"));
        }
        for (namespace, metric) in metrics.iter().filter(|(namespace, metric)| !metric_is_known(namespace, metric)) {
            broken.push(format!("{name} watches {namespace} {metric}, which nobody emits"));
        }
        let description = alarm["AlarmDescription"].as_str().unwrap_or_default();
        let linked = links(description, "docs/runbook.md");
        if linked.is_empty() || !linked.iter().all(|section| sections.contains(*section)) {
            broken.push(format!("{name} links to {linked:?}, the runbook has no such section"));
        }
        if !sections.contains(&name.to_lowercase()) {
            broken.push(format!("the runbook has no section {name}"));
        }
    }
    for (name, dashboard) in of_type(template, "AWS::CloudWatch::Dashboard") {
        let metrics = dashboard_metrics(&dashboard_body(dashboard));
        for (namespace, metric) in metrics.iter().filter(|(namespace, metric)| !metric_is_known(namespace, metric)) {
            broken.push(format!("{name} shows {namespace} {metric}, which nobody emits"));
        }
    }
    broken
}

#[test]
fn alarms_and_dashboard_refer_to_metrics_and_sections_that_exist() {
    let template = expanded();
    assert!(of_type(&template, "AWS::CloudWatch::Alarm").len() >= 6);
    let dashboards = of_type(&template, "AWS::CloudWatch::Dashboard");
    assert!(dashboards.iter().all(|(_, dashboard)| dashboard_metrics(&dashboard_body(dashboard)).len() >= 10));
    let broken = broken(&template, &read("docs/runbook.md"));
    assert!(broken.is_empty(), "{broken:#?}");
}

/// What has to wake somebody up, as namespace, metric and, where it matters, whose.
const WATCHED: [(&str, &str, &str); 9] = [
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "RunRequestDeadLetterQueue"),
    ("AWS/SQS", "ApproximateAgeOfOldestMessage", "RunRequestQueue"),
    ("AWS/SQS", "NumberOfMessagesDeleted", "RunRequestQueue"),
    ("AWS/Lambda", "Errors", "WorkerFunction"),
    ("AWS/Lambda", "Throttles", "WorkerFunction"),
    ("AWS/Lambda", "Duration", "WorkerFunction"),
    ("MetricsEngine", "metric_runs_failed_total", "worker"),
    ("AWS/SNS", "NumberOfNotificationsFailed", "RunRequestedTopic"),
    ("AWS/SNS", "NumberOfNotificationsFailed", "RunCompletedTopic"),
];

#[test]
fn everything_that_has_to_wake_somebody_up_has_its_alarm() {
    let template = expanded();
    let alarms = of_type(&template, "AWS::CloudWatch::Alarm");
    for (namespace, metric, whose) in WATCHED {
        let is_watched = alarms.iter().any(|(_, alarm)| {
            let names_it = alarm_metrics(alarm).contains(&(namespace.to_owned(), metric.to_owned()));
            names_it && alarm.to_string().contains(&format!("\"{whose}\""))
        });
        assert!(is_watched, "nobody watches {metric} of {whose}");
    }
    let codes: BTreeSet<_> = alarms
        .iter()
        .filter(|(_, alarm)| alarm["MetricName"] == "metric_runs_failed_total")
        .flat_map(|(_, alarm)| alarm["Dimensions"].as_array().unwrap())
        .filter(|dimension| dimension["Name"] == "error_code")
        .map(|dimension| dimension["Value"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ErrorCode::ALL.map(ErrorCode::as_str).into_iter().collect());
}

#[test]
fn every_check_finds_its_breach() {
    let (whole, runbook) = (expanded(), read("docs/runbook.md"));
    let alarm = "/Resources/InternalErrorsAlarm/Properties";
    for (pointer, value, expected) in [
        (format!("{alarm}/MetricName"), json!("metric_runs_failed"), "nobody emits"),
        (format!("{alarm}/Namespace"), json!("Metrics"), "nobody emits"),
        (format!("{alarm}/AlarmDescription"), json!("Runs fail."), "links to"),
        (format!("{alarm}/AlarmDescription"), json!("See docs/runbook.md#nowhere"), "links to"),
    ] {
        let mut template = whole.clone();
        *template.pointer_mut(&pointer).unwrap() = value;
        let found = broken(&template, &runbook);
        assert!(found.iter().any(|one| one.contains(expected)), "{pointer}: {found:?}");
    }
    let without = runbook.replace("## InternalErrorsAlarm", "## Other");
    assert!(broken(&whole, &without).iter().any(|one| one.contains("no section InternalErrorsAlarm")));
    let text = whole.to_string().replace("metric_runs_skipped_total", "metric_runs_skip_total");
    let found = broken(&serde_json::from_str(&text).unwrap(), &runbook);
    assert!(found.iter().any(|one| one.contains("Dashboard shows")), "{found:?}");
}

#[test]
fn saved_queries_filter_on_messages_that_are_logged() {
    let template = expanded();
    let queries = of_type(&template, "AWS::Logs::QueryDefinition");
    assert!(queries.len() >= 4);
    let source = read("src/worker/batch.rs");
    let runbook = read("docs/runbook.md");
    for (name, query) in queries {
        let text = query["QueryString"].as_str().unwrap();
        if let Some(message) = quoted(text, "message = \"") {
            assert!(source.contains(&format!("\"{message}\"")), "{name}: nobody logs {message}");
        }
        let title = query["Name"]["Fn::Sub"].as_str().unwrap().split('/').next_back().unwrap();
        assert!(runbook.contains(title), "the runbook does not name the query {title}");
    }
}

#[test]
fn every_link_between_documents_leads_to_a_section() {
    let documents = ["docs/runbook.md", "docs/errors.md", "docs/migrating.md", "docs/contracts.md", "README.md"];
    let mut count = 0;
    for from in documents {
        let text = read(from);
        for to in ["runbook.md", "errors.md"] {
            let sections = anchors(&read(&format!("docs/{to}")));
            for link in links(&text, to) {
                assert!(sections.contains(link), "{from} links to {to}#{link}");
                count += 1;
            }
        }
        let own = anchors(&text);
        for link in links(&text, "](") {
            assert!(own.contains(link), "{from} links to its own section {link}");
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}
