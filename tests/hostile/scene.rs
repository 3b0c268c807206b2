//! One hostile record between honest ones, through the handler.

use metrics_engine::keys::Key;
use metrics_engine::worker::deadline::Deadline;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::measure::bounded;
use crate::world::{self, World, record, request};

/// What must become of a hostile record.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// Its run fails with this code, and the message holds this text.
    Fails(&'static str, &'static str),
    /// It goes to the dead-letter queue, and the reason holds this text.
    DeadLettered(&'static str),
    /// It is harmless.
    Succeeds,
}

/// The metric that hostile requests are about.
pub(crate) const METRIC: &str = "hostile";

/// A runtime as Lambda's.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A world in a function of 256 MB.
pub(crate) fn small_world() -> World {
    let mut world = World::new();
    world.config = world::config(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")]);
    world
}

/// A request for `A / B` as text in which `REPLACED`, a string, is replaced by what may be no JSON at all.
pub(crate) fn request_with(pointer: &str, text: &str) -> String {
    let mut request = request("h", METRIC);
    *request.pointer_mut(pointer).unwrap() = Value::from("REPLACED");
    request.to_string().replace("\"REPLACED\"", text)
}

/// Hands the worker the hostile body between two honest records of its group, beside another group; says what became
/// of it. The honest runs succeed, nothing outside their place and the hostile run's is written, nothing goes back.
pub(crate) async fn check(name: &str, world: &World, body: &str, fate: Fate) {
    check_within(name, world, body, fate, Deadline::unknown()).await;
}

pub(crate) async fn check_within(name: &str, world: &World, body: &str, fate: Fate, deadline: Deadline) {
    // The honest ones read B alone, so that the files of A may be as hostile as they like.
    let honest = |run: &str| {
        let mut honest = request(run, "honest");
        honest["expressionJson"]["left"]["series_code"] = Value::from("B");
        honest
    };
    let records = [
        record("m1", "g", &honest("r1")),
        record("m2", "g", body),
        record("m3", "g", &honest("r3")),
        record("m4", "other", &honest("r4")),
    ];
    let before = world.storage.snapshot();
    let returned = bounded(name, world.handle_within(&records, deadline)).await;
    assert!(returned.is_empty(), "{name}: {returned:?} went back");
    let completed = world.completed();
    for run in ["r1", "r3", "r4"] {
        let event = completed.iter().find(|event| event["runId"] == run).unwrap_or_else(|| panic!("{name}: no {run}"));
        assert_eq!(event["status"], "SUCCESS", "{name}: {event}");
    }
    let hostile: Vec<&Value> =
        completed.iter().filter(|event| !["r1", "r3", "r4"].iter().any(|run| event["runId"] == *run)).collect();
    let letters = world.queue.dead_letters();
    match fate {
        Fate::Fails(code, text) => {
            assert_eq!(hostile.len(), 1, "{name}: {hostile:?} {letters:?}");
            assert_eq!(hostile[0]["status"], "FAILURE", "{name}: {}", hostile[0]);
            assert_eq!(hostile[0]["errorCode"], code, "{name}: {}", shown(hostile[0]["error"].as_str().unwrap()));
            let message = hostile[0]["errorMessage"].as_str().unwrap();
            assert!(message.contains(text), "{name}: {}", shown(message));
            assert!(message.len() < 16 << 10, "{name}: a message of {} bytes", message.len());
            assert!(letters.is_empty(), "{name}: {}", letters[0].1);
        }
        Fate::DeadLettered(text) => {
            assert!(hostile.is_empty(), "{name}: {hostile:?}");
            assert_eq!(letters.len(), 1, "{name}");
            assert!(letters[0].1.contains(text), "{name}: {}", shown(&letters[0].1));
        }
        Fate::Succeeds => {
            assert_eq!(hostile.len(), 1, "{name}: {:?}", letters.first().map(|letter| shown(&letter.1)));
            assert_eq!(hostile[0]["status"], "SUCCESS", "{name}: {}", hostile[0]);
            assert!(letters.is_empty(), "{name}: {}", letters[0].1);
        }
    }
    check_confined(name, world, &before);
}

fn check_confined(name: &str, world: &World, before: &std::collections::BTreeMap<String, bytes::Bytes>) {
    let own = ["metrics/honest/".to_owned(), format!("metrics/{METRIC}/")];
    for (key, bytes) in world.storage.snapshot() {
        assert!(Key::parse(&key).is_ok(), "{name}: {key:?}");
        if before.get(&key) != Some(&bytes) {
            assert!(own.iter().any(|prefix| key.starts_with(prefix)), "{name}: {key} was written");
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(300).collect()
}
