//! What the poller of an SQS event source mapping with `ReportBatchItemFailures` does with the answer to a batch, after
//! its documentation: a message that the answer does not name is deleted from the queue.

use std::collections::BTreeSet;

use serde_json::Value;

/// What becomes of the messages of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// These come back, all others are deleted.
    Returned(BTreeSet<String>),
    /// All come back.
    AllReturned,
}

/// Reads an answer as the poller does.
pub(crate) fn verdict(batch: &BTreeSet<String>, answer: &str) -> Verdict {
    let Ok(answer) = serde_json::from_str::<Value>(answer) else { return Verdict::AllReturned };
    let failures = match &answer {
        // An empty answer, a null one, and one without failures are complete successes.
        Value::Null => return Verdict::Returned(BTreeSet::new()),
        Value::Object(fields) => match fields.get("batchItemFailures") {
            None | Some(Value::Null) => return Verdict::Returned(BTreeSet::new()),
            Some(Value::Array(failures)) => failures,
            Some(_) => return Verdict::AllReturned,
        },
        _ => return Verdict::AllReturned,
    };
    let mut returned = BTreeSet::new();
    for failure in failures {
        // A misspelt key, null, an empty text and an id that the batch does not have fail the batch as a whole.
        let Some(identifier) = failure.get("itemIdentifier").and_then(Value::as_str) else {
            return Verdict::AllReturned;
        };
        if identifier.is_empty() || !batch.contains(identifier) {
            return Verdict::AllReturned;
        }
        returned.insert(identifier.to_owned());
    }
    Verdict::Returned(returned)
}

#[test]
fn the_poller_reads_answers_as_documented() {
    let batch: BTreeSet<String> = ["a", "b"].map(str::to_owned).into();
    let returned = |ids: &[&str]| Verdict::Returned(ids.iter().map(|id| (*id).to_owned()).collect());
    for (answer, expected) in [
        ("null", returned(&[])),
        ("{}", returned(&[])),
        (r#"{"batchItemFailures":null}"#, returned(&[])),
        (r#"{"batchItemFailures":[]}"#, returned(&[])),
        (r#"{"batch_item_failures":[{"itemIdentifier":"a"}]}"#, returned(&[])),
        (r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"a"}]}"#, returned(&["a"])),
        (r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#, Verdict::AllReturned),
        (r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#, Verdict::AllReturned),
        (r#"{"batchItemFailures":[{"itemIdentifier":"c"}]}"#, Verdict::AllReturned),
        (r#"{"batchItemFailures":[{"item_identifier":"a"}]}"#, Verdict::AllReturned),
        ("", Verdict::AllReturned),
        ("[]", Verdict::AllReturned),
    ] {
        assert_eq!(verdict(&batch, answer), expected, "{answer}");
    }
}
