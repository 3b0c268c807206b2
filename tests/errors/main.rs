//! The error catalogue `docs/errors.md` and the enums, one-to-one.
//!
//! The page is rendered from the entries in `entries.rs`, the real messages, dispositions and events, and compared:
//! `UPDATE_DOCS=1 cargo test --test errors` writes it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where the catalogue is not as it must be")]

mod entries;

#[path = "../support/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use entries::{Entry, entries};
use metrics_engine::event::{ErrorCode, Event};
use metrics_engine::ids::{MetricCode, RunId};
use metrics_engine::worker::{Disposition, Error};
use serde_json::{Value, json};
use tracing_subscriber::prelude::*;
use world::{World, record, request};

const PREFACE: &str = "\
# Errors

Every way in which a run can end other than with SUCCESS, or a record be rejected: what happened, what becomes of the
record, what to do. The page is rendered from the code (`make errors`): messages, events and log lines are what the worker
writes, and a variant without an entry does not compile.

| the record | means |
|---|---|
| **failed** | FAILURE is published, the message is acknowledged. Nothing is retried, and there is no dead letter: the same request would fail again. Remove the cause and request a new run |
| **retried** | The record and every later one of its group go back with a shortened visibility. On the last receive (`MAX_RECEIVE_COUNT`) FAILURE is published with the code given, the message moves to the dead-letter queue, and its group goes on |
| **dead-lettered** | No event. The message goes to the dead-letter queue at once, with the reason in `dead_letter_reason` |

Find a run's lines with the saved query *lines of a run*, or search the log group for its `run_id`.
";

/// The place of a code, or of the records without one.
fn section(code: Option<ErrorCode>) -> (String, &'static str) {
    let Some(code) = code else {
        let text =
            "No run to fail, or none that may be failed: the message is kept for people, and no event is published.";
        return ("Dead letters".to_owned(), text);
    };
    let text = match code {
        ErrorCode::InputReadError => "The input is missing, unreadable or over a limit, or the store did not give it.",
        ErrorCode::ExpressionEvalError => "The expression cannot be evaluated. Whoever defined the metric repairs it.",
        ErrorCode::OutputWriteError => {
            "The store did not take the output. [WriteErrorsAlarm](runbook.md#writeerrorsalarm) watches this code."
        }
        ErrorCode::ManifestValidationError => "The manifest as stored is not the one that the run wrote.",
        ErrorCode::ConfigError => {
            "The request contradicts itself or the configuration. Whoever sends requests repairs it."
        }
        ErrorCode::InternalError => {
            "A bug, or no time left. [InternalErrorsAlarm](runbook.md#internalerrorsalarm) watches this code."
        }
    };
    (format!("`{}`", code.as_str()), text)
}

fn code(error: &Error) -> Option<ErrorCode> {
    match error.disposition() {
        Disposition::Fail(code) | Disposition::Retry(code) => Some(code),
        Disposition::DeadLetter => None,
    }
}

/// The log line of an error, without its time and target.
fn log_line(error: &Error) -> Value {
    let span = json!({ "name": "run", "run_id": "r1", "metric_code": "m" });
    match error.disposition() {
        Disposition::Fail(code) | Disposition::Retry(code) => json!({
            "level": "ERROR", "message": "run failed", "error": error.to_string(), "error_code": code.as_str(),
            "is_final": matches!(error.disposition(), Disposition::Fail(_)), "is_last_receive": false, "span": span,
        }),
        Disposition::DeadLetter => {
            let line = json!({ "level": "ERROR", "message": "record rejected", "error": error.to_string(), "message_id": "m1" });
            // A body that names no run has no span of one.
            if matches!(error, Error::Unreadable(_)) {
                return line;
            }
            let mut line = line;
            line["span"] = span;
            line
        }
    }
}

fn render_entry(entry: &Entry, page: &mut String) {
    let Entry { name, error, what, action } = entry;
    let record = match error.disposition() {
        Disposition::Fail(_) => "failed",
        Disposition::Retry(_) => "retried",
        Disposition::DeadLetter => "dead-lettered",
    };
    writeln!(page, "\n### `{name}`\n\n{what} **{record}**. *To do:* {action}\n\n```json").unwrap();
    if let Some(code) = code(error) {
        let (run_id, metric_code) = (RunId::parse("r1").unwrap(), MetricCode::parse("m").unwrap());
        let event = Event::failure(run_id, metric_code, code, error.to_string());
        writeln!(page, "{}", serde_json::to_string(&event).unwrap()).unwrap();
    }
    writeln!(page, "{}\n```", log_line(error)).unwrap();
}

fn render() -> String {
    let entries = entries();
    let mut page = PREFACE.to_owned();
    for place in ErrorCode::ALL.into_iter().map(Some).chain([None]) {
        let (title, text) = section(place);
        writeln!(page, "\n## {title}\n\n{text}").unwrap();
        let here: Vec<&Entry> = entries.iter().filter(|entry| code(&entry.error) == place).collect();
        assert!(!here.is_empty(), "{title} has no cause");
        here.into_iter().for_each(|entry| render_entry(entry, &mut page));
    }
    page
}

#[test]
fn the_catalogue_is_what_the_enums_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    let page = render();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(page.lines()).find(|(found, expected)| found != expected);
    assert!(found == page, "docs/errors.md is not what the code says, run `make errors`: {differs:#?}");
}

#[test]
fn every_entry_has_a_name_and_a_text_of_its_own() {
    let entries = entries();
    let names: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names.len(), entries.len(), "two entries have one name");
    let messages: BTreeSet<String> = entries.iter().map(|entry| entry.error.to_string()).collect();
    assert_eq!(messages.len(), entries.len(), "two entries have one message");
    for entry in &entries {
        assert!(entry.what.ends_with('.') && entry.action.ends_with('.'), "{} says too little", entry.name);
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The error lines and the last event of a batch with one record.
async fn really(world: &World, body: &str) -> (Vec<Value>, Option<Value>) {
    let lines = Lines::default();
    let writer = lines.clone();
    let json = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    let subscriber = tracing_subscriber::registry().with(json.with_writer(move || writer.clone()));
    let guard = tracing::subscriber::set_default(subscriber);
    world.handle(&[record("m1", "g", body)]).await;
    drop(guard);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let errors = lines.filter(|line| line["level"] == "ERROR").map(|mut line| {
        for field in ["timestamp", "target"] {
            assert!(line.as_object_mut().unwrap().remove(field).is_some(), "{line} has no {field}");
        }
        line
    });
    (errors.collect(), world.events().last().cloned())
}

fn named(name: &str) -> Error {
    entries().into_iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no entry {name}")).error
}

/// The tracing subscriber is the thread's: both kinds of lines are looked at in one test, on one thread.
#[tokio::test]
async fn the_sample_lines_and_events_are_those_that_the_worker_writes() {
    let mut missing = request("r1", "m");
    missing["expressionJson"]["right"] = json!({ "series_code": "C" });
    missing["inputs"][1]["seriesCode"] = json!("C");
    let (lines, event) = really(&World::new(), &missing.to_string()).await;
    let error = named("plan::NoSeries");
    assert_eq!(lines, [log_line(&error)]);
    assert_eq!(event.unwrap()["error"], format!("INPUT_READ_ERROR: {error}"));

    let (lines, event) = really(&World::new(), "not json").await;
    assert_eq!(lines, [log_line(&named("request::Unreadable::NotAnEvent"))]);
    assert!(event.is_none());

    let world = World::new();
    world.handle(&[record("m0", "g", &request("r1", "m"))]).await;
    let mut other = request("r1", "m");
    other["expressionJson"]["scale"] = json!(2);
    let (lines, _) = really(&world, &other.to_string()).await;
    assert_eq!(lines.len(), 1);
    let (line, sample) = (&lines[0], log_line(&named("write::OtherRequest")));
    let fields = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(line), fields(&sample));
    assert_eq!((&line["message"], &line["span"]), (&sample["message"], &sample["span"]));
}
