//! The topics and messages as an AsyncAPI 3.0 document, which refers to the schemas beside it.

use serde_json::{Map, Value, json};

/// The name of the document's file.
pub const FILE_NAME: &str = "asyncapi.json";

/// A channel: its name, what it is, the direction seen from the worker, and its message.
const CHANNELS: [(&str, &str, &str, &str); 4] = [
    (
        "runRequested",
        "FIFO topic and queue of requests, grouped by metric, one message for each run.",
        "receive",
        "metric_run_requested",
    ),
    ("runStarted", "AWS_SNS_METRIC_RUN_STARTED_TOPIC_ARN", "send", "metric_run_started"),
    ("runHeartbeat", "AWS_SNS_METRIC_RUN_HEARTBEAT_TOPIC_ARN", "send", "metric_run_heartbeat"),
    ("runCompleted", "AWS_SNS_METRIC_RUN_COMPLETED_TOPIC_ARN", "send", "metric_run_completed"),
];

/// The document.
#[must_use]
pub fn document() -> Value {
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for (channel, description, action, message) in CHANNELS {
        let reference = json!({ "$ref": format!("#/components/messages/{message}") });
        channels
            .insert(channel.to_owned(), json!({ "description": description, "messages": { (message): reference } }));
        operations.insert(
            format!("{action}_{message}"),
            json!({ "action": action, "channel": { "$ref": format!("#/channels/{channel}") } }),
        );
        messages.insert(
            message.to_owned(),
            json!({
                "name": message,
                "contentType": "application/json",
                "headers": { "$ref": "#/components/schemas/attributes" },
                "payload": { "schemaFormat": "application/schema+json;version=draft-2020-12",
                             "schema": { "$ref": format!("{message}.schema.json") } },
            }),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": { "title": "Metrics engine worker", "version": "metrics.run.v1",
                  "description": "Runs of metrics: requests in, started, heartbeat and completed events out." },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": { "attributes": {
                "description": "Message attributes, each of type String.",
                "type": "object",
                "properties": { "type": { "type": "string" }, "metricCode": { "type": "string" } }
            } },
        },
    })
}
