//! The contracts as JSON Schema 2020-12: the wire types in, one document for each message and each small object out.
//!
//! The documents lie in `schemas/`, written by `metrics schemas`, for whoever publishes requests or reads events and
//! objects in another language. The worker itself never looks at them: what it accepts is decided by `request::decode`,
//! and a test holds the two against each other.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::event::Event;
use crate::manifest::{Claim, DatasetManifest, Marker, OutputManifest};

pub mod asyncapi;
pub mod request;

mod identifiers;

/// What the documents are called, wherever they lie.
const BASE: &str = "urn:metrics-engine:";

/// A contract: the name of its document, without the suffix, and the document.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    /// `metric_run_requested`, `output_manifest`, …
    pub name: &'static str,
    /// The JSON Schema.
    pub document: Value,
}

impl Contract {
    /// The name of the document's file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.schema.json", self.name)
    }
}

/// Every contract, messages first.
#[must_use]
pub fn contracts() -> Vec<Contract> {
    vec![
        read::<request::MetricRunRequested>("metric_run_requested", "Request of a run, as the control plane sends it"),
        event("metric_run_started", "Event: a worker began to work on a run"),
        event("metric_run_heartbeat", "Event: a worker is still working on a run"),
        event("metric_run_completed", "Event: a run ended"),
        read::<DatasetManifest>("dataset_manifest", "Manifest of a dataset version, as far as a run needs it"),
        written::<OutputManifest>("output_manifest", "Manifest of a metric version; current is a copy"),
        written::<Claim>("run_claim", "Claim of a run: its version, until it is done"),
        written::<Marker>("run_marker", "Marker of a run that is done"),
    ]
}

/// What the worker reads.
fn read<T: JsonSchema>(name: &'static str, title: &str) -> Contract {
    contract(
        name,
        title,
        &SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>(),
    )
}

/// What the worker writes.
fn written<T: JsonSchema>(name: &'static str, title: &str) -> Contract {
    contract(name, title, &SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>())
}

/// One of the events, which are variants of one type.
fn event(name: &'static str, title: &str) -> Contract {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let all = settings.into_generator().into_root_schema_for::<Event>().to_value();
    let is_named = |variant: &&Value| variant["properties"]["type"]["const"] == name;
    let variant = all["oneOf"].as_array().and_then(|variants| variants.iter().find(is_named));
    let mut document = variant.and_then(Value::as_object).cloned().unwrap_or_default();
    document.insert("$defs".to_owned(), all["$defs"].clone());
    contract(name, title, &Schema::from(document))
}

fn contract(name: &'static str, title: &str, schema: &Schema) -> Contract {
    let mut document = Map::new();
    document.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    document.insert("$id".to_owned(), json!(format!("{BASE}{name}")));
    document.insert("title".to_owned(), json!(title));
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        document.entry(keyword).or_insert_with(|| value.clone());
    }
    let mut document = Value::Object(document);
    one_line_descriptions(&mut document);
    drop_unused_definitions(&mut document);
    Contract { name, document }
}

/// The types' documentation is broken into lines for the code's sake alone.
fn one_line_descriptions(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "description" => *text = text.replace('\n', " "),
                    other => one_line_descriptions(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(one_line_descriptions),
        _ => {}
    }
}

/// The definitions of all events come with each; those that nothing refers to go again.
fn drop_unused_definitions(document: &mut Value) {
    loop {
        let text = document.to_string();
        let Some(definitions) = document.get_mut("$defs").and_then(Value::as_object_mut) else { return };
        let before = definitions.len();
        definitions.retain(|name, _| text.contains(&format!("\"#/$defs/{name}\"")));
        if definitions.len() == before {
            return;
        }
    }
}
