//! Batches of every sort: records that can be done and records that cannot, in groups and alone, with ids and without.

use std::collections::BTreeSet;

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{collection, option};
use serde_json::{Value, json};

use crate::world;

/// What a record asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A run that is computed.
    Fresh,
    /// A run that is done.
    Finished(u8),
    /// A run that is done, with another request.
    Conflict(u8),
    /// A run that fails: no such operation.
    Invalid,
    /// A run that fails: no such input.
    NoInput,
    /// A run whose store fails for now.
    Broken,
    /// A run whose store makes the code panic.
    Panicking,
    /// A run that fails and whose event cannot be published.
    Mute,
    /// No request at all.
    Poison(u8),
}

/// How many runs are done before.
pub(crate) const FINISHED: u8 = 3;

const POISON: [&str; 8] = [
    "",
    "not json",
    "[]",
    "{}",
    r#"{"type":"metric_run_requested"}"#,
    r#"{"type":"metric_run_requested","runId":"..","metricCode":"m"}"#,
    r#"{"type":"metric_run_completed","runId":"r","metricCode":"m"}"#,
    r#"{"Type":"Notification","Message":"{\"type\":\"metric_run_requested\",\"runId\":7}"}"#,
];

/// A record of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) kind: Kind,
    pub(crate) message_id: Option<u8>,
    pub(crate) group: Option<u8>,
    pub(crate) receive_count: Option<u32>,
    pub(crate) is_wrapped: bool,
}

/// The dead-letter queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeadLetters {
    Taken,
    Failing,
    Missing,
}

/// A batch and its surroundings.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Spec>,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) visibility_fails: bool,
}

pub(crate) fn batch() -> impl Strategy<Value = Batch> {
    let kind = prop_oneof![
        1 => Just(Kind::Fresh),
        16 => (0..FINISHED).prop_map(Kind::Finished),
        2 => (0..FINISHED).prop_map(Kind::Conflict),
        8 => Just(Kind::Invalid),
        4 => Just(Kind::NoInput),
        5 => Just(Kind::Broken),
        3 => Just(Kind::Panicking),
        3 => Just(Kind::Mute),
        6 => (0..8_u8).prop_map(Kind::Poison),
    ];
    // A message that comes twice in a batch, and one without an id, are rare.
    let message_id = prop_oneof![60 => (10..=255_u8).prop_map(Some), 4 => (0..3_u8).prop_map(Some), 1 => Just(None)];
    let group = option::weighted(0.9, 0..3_u8);
    let receive_count = option::weighted(0.95, prop_oneof![3 => Just(1_u32), 1 => 1..7_u32]);
    let spec = (kind, message_id, group, receive_count, any::<bool>());
    let spec = spec.prop_map(|(kind, message_id, group, receive_count, is_wrapped)| Spec {
        kind,
        message_id,
        group,
        receive_count,
        is_wrapped,
    });
    let dead_letters =
        prop_oneof![6 => Just(DeadLetters::Taken), 1 => Just(DeadLetters::Failing), 2 => Just(DeadLetters::Missing)];
    (collection::vec(spec, 0..=7), dead_letters, proptest::bool::weighted(0.1))
        .prop_map(|(records, dead_letters, visibility_fails)| Batch { records, dead_letters, visibility_fails })
}

impl Spec {
    /// The run that the record is about, where it is about one.
    pub(crate) fn run_id(&self, index: usize) -> Option<String> {
        match self.kind {
            Kind::Poison(_) => None,
            Kind::Finished(run) | Kind::Conflict(run) => Some(format!("finished{run}")),
            _ => Some(format!("r{index}")),
        }
    }

    pub(crate) fn message_id(&self) -> Option<String> {
        self.message_id.map(|number| format!("message {number}"))
    }

    pub(crate) fn body(&self, index: usize) -> String {
        let run_id = self.run_id(index).unwrap_or_default();
        let request = match self.kind {
            Kind::Poison(number) => return POISON[usize::from(number) % POISON.len()].to_owned(),
            Kind::Fresh => world::request(&run_id, "fresh"),
            Kind::Finished(_) => world::request(&run_id, "done"),
            Kind::Conflict(_) => with(world::request(&run_id, "done"), "/expressionJson/scale", json!(3)),
            Kind::Invalid => with(world::request(&run_id, "wrong"), "/expressionJson/op", json!("pow")),
            Kind::Mute => with(world::request(&run_id, "mute"), "/expressionJson/op", json!("pow")),
            Kind::NoInput => with(
                world::request(&run_id, "wrong"),
                "/catalog/datasets/d/manifestPath",
                json!("datasets/d/versions/none/manifest.json"),
            ),
            Kind::Broken => world::request(&run_id, "broken"),
            Kind::Panicking => world::request(&run_id, "panic"),
        };
        match self.is_wrapped {
            false => request.to_string(),
            true => json!({ "Type": "Notification", "Message": request.to_string() }).to_string(),
        }
    }

    pub(crate) fn is_last_receive(&self) -> bool {
        self.receive_count.is_some_and(|count| count >= 5)
    }
}

fn with(mut request: Value, pointer: &str, value: Value) -> Value {
    if let Some(place) = request.pointer_mut(pointer) {
        *place = value;
    } else {
        request["expressionJson"]["scale"] = value;
    }
    request
}

impl Batch {
    /// The event as Lambda sends it.
    pub(crate) fn event(&self) -> Value {
        let records = self.records.iter().enumerate().map(|(index, spec)| {
            let mut attributes = json!({});
            if let Some(group) = spec.group {
                attributes["MessageGroupId"] = json!(format!("g{group}"));
            }
            if let Some(count) = spec.receive_count {
                attributes["ApproximateReceiveCount"] = json!(count.to_string());
            }
            let mut record = json!({
                "receiptHandle": format!("handle {index}"), "body": spec.body(index), "attributes": attributes,
                "messageAttributes": {}, "eventSource": "aws:sqs", "awsRegion": "us-east-1",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:requests.fifo"
            });
            if let Some(message_id) = spec.message_id() {
                record["messageId"] = json!(message_id);
            }
            record
        });
        json!({ "Records": records.collect::<Vec<_>>() })
    }

    pub(crate) fn message_ids(&self) -> BTreeSet<String> {
        self.records.iter().filter_map(Spec::message_id).collect()
    }

    /// The indexes of the records of each group, in order; a record without a group is one of its own, one without an
    /// id of none.
    pub(crate) fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (index, spec) in self.records.iter().enumerate().filter(|(_, spec)| spec.message_id.is_some()) {
            let same = groups.iter_mut().find(|group| {
                spec.group.is_some() && group.first().is_some_and(|first| self.records[*first].group == spec.group)
            });
            match same {
                Some(group) => group.push(index),
                None => groups.push(vec![index]),
            }
        }
        groups
    }
}
