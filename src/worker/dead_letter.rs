//! A dead letter: a record and a reason in; out comes what is sent to the dead-letter queue within the limits of SQS.
//! Pure.
//!
//! The body stays as it was, so that a redrive sends the request itself. The reason and the origin are attributes,
//! beside the record's own, as far as ten attributes and one message have room.

use std::collections::BTreeMap;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::queue::{AttributeValue, MessageAttribute, ReceivedRecord};

/// Why the record is here.
pub const REASON: &str = "dead_letter_reason";
/// The id that the message had in its queue.
pub const SOURCE_MESSAGE_ID: &str = "source_message_id";
/// The queue it came from.
pub const SOURCE_QUEUE_ARN: &str = "source_queue_arn";
/// The names of its own attributes that found no room.
pub const DROPPED_ATTRIBUTES: &str = "dropped_attributes";

/// SQS takes no more.
const MAX_ATTRIBUTES: usize = 10;

/// SQS takes a message of 1 MiB: the body, and name, type and value of each attribute.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// A reason is read by a person in a console: four kilobytes are more than enough.
const MAX_REASON_BYTES: usize = 4 * 1024;

/// The group of a record that has none, in a FIFO queue.
const FALLBACK_GROUP: &str = "dead-letter";

/// What is sent to the dead-letter queue together with the record's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// At most ten, each with a value.
    pub attributes: BTreeMap<String, MessageAttribute>,
    /// The group, for a FIFO queue.
    pub group_id: String,
    /// The deduplication id, for a FIFO queue: the same whenever this record is sent.
    pub dedup_id: String,
}

impl DeadLetter {
    /// The letter for a record.
    ///
    /// Where the room is short, the reason is cut first: it is in the log as well. A record that was a dead letter
    /// before and was redriven loses the attributes it had as such.
    #[must_use]
    pub fn new(record: &ReceivedRecord, reason: &str) -> Self {
        let origin = [
            (SOURCE_MESSAGE_ID, Some(record.message_id.as_str())),
            (SOURCE_QUEUE_ARN, record.event_source_arn.as_deref()),
        ];
        let added = origin.iter().filter(|(_, value)| value.is_some()).count() + 1;
        let (mut attributes, dropped) = own_attributes(record, added);
        let mut room =
            MAX_MESSAGE_BYTES.saturating_sub(record.body.len() + attributes.iter().map(size_bytes).sum::<usize>());
        let mut add = |name: &str, text: &str, max_bytes: usize| {
            let taken = name.len() + "String".len();
            let text = legible(text, max_bytes.min(room.saturating_sub(taken)));
            // SQS takes no empty value.
            if !text.is_empty() {
                room -= taken + text.len();
                let attribute = MessageAttribute { data_type: "String".to_owned(), value: AttributeValue::Text(text) };
                attributes.insert(name.to_owned(), attribute);
            }
        };
        for (name, value) in origin {
            add(name, value.unwrap_or_default(), MAX_REASON_BYTES);
        }
        add(DROPPED_ATTRIBUTES, &dropped.join(","), MAX_REASON_BYTES);
        add(REASON, reason, MAX_REASON_BYTES);
        Self {
            attributes,
            group_id: record.group_id.clone().unwrap_or_else(|| FALLBACK_GROUP.to_owned()),
            dedup_id: hex::encode(Sha256::digest(json!(["dead_letter", record.message_id]).to_string())),
        }
    }
}

/// The record's own attributes, as many as leave room for those that are added, and the names of the others.
fn own_attributes(record: &ReceivedRecord, added: usize) -> (BTreeMap<String, MessageAttribute>, Vec<String>) {
    let is_own = |name: &str| ![REASON, SOURCE_MESSAGE_ID, SOURCE_QUEUE_ARN, DROPPED_ATTRIBUTES].contains(&name);
    let mut own: Vec<_> = record.message_attributes.iter().filter(|(name, _)| is_own(name)).collect();
    let mut room = MAX_ATTRIBUTES - added;
    if own.len() > room {
        room -= 1; // The names of the others are an attribute too.
        // What the request's readers look at stays in any case.
        own.sort_by_key(|(name, _)| !matches!(name.as_str(), "type" | "metricCode"));
    }
    let dropped = own.split_off(room.min(own.len()));
    let kept = own.into_iter().map(|(name, attribute)| (name.clone(), attribute.clone())).collect();
    (kept, dropped.into_iter().map(|(name, _)| name.clone()).collect())
}

fn size_bytes((name, attribute): (&String, &MessageAttribute)) -> usize {
    let value = match &attribute.value {
        AttributeValue::Text(text) => text.len(),
        AttributeValue::Binary(bytes) => bytes.len(),
    };
    name.len() + attribute.data_type.len() + value
}

/// The text without the characters that SQS refuses, or that garble a console, and not longer than this.
fn legible(text: &str, max_bytes: usize) -> String {
    let replaced = |character: char| match character {
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        control if control.is_control() => ' ',
        other => other,
    };
    let mut legible: String = text.chars().map(replaced).collect();
    legible.truncate(legible.floor_char_boundary(max_bytes));
    legible
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(attributes: usize) -> ReceivedRecord {
        let attribute = |number: usize| {
            let value = AttributeValue::Text(number.to_string());
            (format!("own{number:02}"), MessageAttribute { data_type: "Number".to_owned(), value })
        };
        ReceivedRecord {
            message_id: "m".to_owned(),
            body: "body".to_owned(),
            event_source_arn: Some("arn:aws:sqs:r:1:q".to_owned()),
            message_attributes: (0..attributes).map(attribute).collect(),
            ..ReceivedRecord::default()
        }
    }

    fn text<'a>(letter: &'a DeadLetter, name: &str) -> &'a str {
        match &letter.attributes[name].value {
            AttributeValue::Text(text) => text,
            AttributeValue::Binary(_) => panic!("{name} is binary"),
        }
    }

    #[test]
    fn own_attributes_beyond_the_limit_are_named() {
        let letter = DeadLetter::new(&record(7), "why");
        assert_eq!(letter.attributes.len(), 10);
        assert!(!letter.attributes.contains_key(DROPPED_ATTRIBUTES));
        let mut full = record(9);
        full.message_attributes.insert("type".to_owned(), full.message_attributes["own00"].clone());
        let letter = DeadLetter::new(&full, "why");
        assert_eq!(letter.attributes.len(), 10);
        assert_eq!(text(&letter, DROPPED_ATTRIBUTES), "own05,own06,own07,own08");
        assert!(letter.attributes.contains_key("type"));
        assert_eq!((text(&letter, REASON), text(&letter, SOURCE_MESSAGE_ID)), ("why", "m"));
        assert_eq!(letter.group_id, FALLBACK_GROUP);
    }

    #[test]
    fn a_redriven_dead_letter_gets_the_new_reason() {
        let mut record = record(0);
        record.message_attributes = DeadLetter::new(&record, "first").attributes;
        record.message_id = "m2".to_owned();
        let letter = DeadLetter::new(&record, "second");
        assert_eq!((text(&letter, REASON), text(&letter, SOURCE_MESSAGE_ID)), ("second", "m2"));
        assert_eq!(letter.attributes.len(), 3);
    }

    #[test]
    fn the_reason_gives_way_to_a_large_body() {
        let mut record = record(0);
        record.body = "x".repeat(MAX_MESSAGE_BYTES - 100);
        let letter = DeadLetter::new(&record, &"y".repeat(1_000));
        assert!(text(&letter, REASON).len() < 100);
        record.body = "x".repeat(MAX_MESSAGE_BYTES);
        assert!(DeadLetter::new(&record, "why").attributes.is_empty());
    }

    #[test]
    fn a_reason_is_made_legible() {
        assert_eq!(legible("a\0b\nc\u{ffff}", 100), "a b c\u{fffd}");
        assert_eq!(legible("aé", 2), "a");
    }

    proptest! {
        #[test]
        fn a_letter_is_one_that_sqs_takes(own in 0_usize..11, body in 1_usize..2_000_000, reason in ".{0,300}") {
            let mut record = record(own);
            let own_bytes = record.message_attributes.iter().map(size_bytes).sum::<usize>();
            record.body = "x".repeat(body.min(MAX_MESSAGE_BYTES - own_bytes));
            let letter = DeadLetter::new(&record, &reason);
            let total = record.body.len() + letter.attributes.iter().map(size_bytes).sum::<usize>();
            prop_assert!(total <= MAX_MESSAGE_BYTES);
            prop_assert!(letter.attributes.len() <= MAX_ATTRIBUTES);
        }
    }
}
