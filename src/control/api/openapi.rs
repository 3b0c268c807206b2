//! The `OpenAPI` 3.1 document: the table of operations and the types of their bodies in, the document out.

use std::collections::BTreeSet;

use axum::Json;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::access::KEY_HEADER;
use super::operations::{Described, Link, Operation, operations};
use super::problem::{self, Problem};

/// Where the document is.
pub const PATH: &str = "/openapi.json";

/// Problems that any call may meet: the database or the bucket is away, or something is broken.
const ALWAYS: [u16; 2] = [500, 503];

/// Problems of whoever may not write.
const DENIED: [u16; 2] = [401, 403];

/// Serves the document.
pub(super) async fn serve() -> Json<Value> {
    Json(document())
}

/// Schemas of what comes in and of what goes out: a field with a default is optional in one and always there in the
/// other.
struct Schemas {
    incoming: SchemaGenerator,
    outgoing: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            let mut settings = SchemaSettings::draft2020_12();
            settings.definitions_path = "/components/schemas".into();
            settings
        };
        Self {
            incoming: settings().for_deserialize().into_generator(),
            outgoing: settings().for_serialize().into_generator(),
        }
    }

    fn components(mut self) -> Map<String, Value> {
        let mut all = self.outgoing.take_definitions(true);
        all.extend(self.incoming.take_definitions(true));
        all
    }
}

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    let problem = schemas.outgoing.subschema_for::<Problem>();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations() {
        let described = describe(&operation, &mut schemas, problem.as_value());
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Metrics engine: control plane",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Datasets change, the right metrics run, once",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas.components(),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "header": { "type": "apiKey", "in": "header", "name": KEY_HEADER },
            },
        },
    })
}

fn describe(operation: &Operation, schemas: &mut Schemas, problem: &Value) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters(operation, schemas),
        "responses": responses(operation, schemas, problem),
    });
    if let Some(body) = operation.body {
        let schema = body(&mut schemas.incoming);
        described["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    if operation.writes() {
        described["security"] = json!([{ "bearer": [] }, { "header": [] }]);
    }
    described
}

fn parameters(operation: &Operation, schemas: &mut Schemas) -> Vec<Value> {
    let name = operation.path.split(['{', '}']).nth(1);
    let path = name.zip(operation.path_parameter).map(|(name, schema)| {
        json!({ "name": name, "in": "path", "required": true, "schema": schema(&mut schemas.incoming) })
    });
    path.into_iter().chain(operation.query.into_iter().flat_map(|query| of_query(query, schemas))).collect()
}

/// One parameter for each property of the object.
fn of_query(query: Described, schemas: &mut Schemas) -> Vec<Value> {
    let object = query(&mut schemas.incoming).to_value();
    let required: BTreeSet<&str> =
        object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = object["properties"].as_object().into_iter().flatten();
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = without_null(schema);
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        json!({
            "name": name, "in": "query", "required": required.contains(name.as_str()),
            "description": description, "schema": schema,
        })
    };
    properties.map(parameter).collect()
}

/// A query has no null: a parameter that is optional is left out.
fn without_null(schema: &Value) -> Value {
    let is_null = |value: &Value| *value == json!("null") || *value == json!({ "type": "null" });
    let mut schema = schema.clone();
    for name in ["type", "anyOf"] {
        let Some(choices) = schema.get(name).and_then(Value::as_array) else { continue };
        let others: Vec<Value> = choices.iter().filter(|choice| !is_null(choice)).cloned().collect();
        match others.as_slice() {
            [Value::Object(only)] => {
                let Some(object) = schema.as_object_mut() else { continue };
                object.remove(name);
                object.extend(only.clone());
            }
            [only] => schema[name] = only.clone(),
            _ => schema[name] = others.into(),
        }
    }
    schema
}

fn responses(operation: &Operation, schemas: &mut Schemas, problem: &Value) -> Value {
    let mut responses = Map::new();
    for (status, meaning, schema) in &operation.answers {
        let schema = schema(&mut schemas.outgoing);
        let content = json!({ "application/json": { "schema": schema } });
        let mut response = json!({ "description": meaning, "content": content });
        for Link { to, parameter, value } in &operation.links {
            response["links"][*to] = json!({ "operationId": to, "parameters": { (*parameter): value } });
        }
        responses.insert(status.to_string(), response);
    }
    let denied = if operation.writes() { &DENIED[..] } else { &[] };
    let statuses: BTreeSet<u16> = operation.problems.iter().chain(&ALWAYS).chain(denied).copied().collect();
    for status in statuses {
        let content = json!({ (problem::MEDIA_TYPE): { "schema": problem } });
        let reason = axum::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        responses.insert(status.to_string(), json!({ "description": reason, "content": content }));
    }
    responses.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let references: BTreeSet<&str> =
            text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(references.len() > 10, "{references:?}");
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }

    #[test]
    fn what_writes_asks_for_a_key_and_nothing_else_does() {
        let document = document();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                assert_eq!(operation.get("security").is_some(), method != "get", "{method} {path}");
                assert_eq!(operation["responses"].get("401").is_some(), method != "get", "{method} {path}");
            }
        }
    }

    #[test]
    fn parameters_of_a_query_are_never_null() {
        let document = document();
        let runs = document["paths"]["/runs"]["get"]["parameters"].as_array().unwrap();
        let names: Vec<&str> = runs.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["cursor", "limit", "metric", "status"]);
        assert!(!json!(runs).to_string().contains("null"), "{runs:#?}");
    }

    /// The schema of a property, through references and the items of a list.
    fn at<'a>(document: &'a Value, schema: &'a Value, pointer: &str) -> Option<&'a Value> {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => document.pointer(reference.strip_prefix('#')?)?,
            None => schema,
        };
        let Some((name, rest)) = pointer.strip_prefix('/')?.split_once('/') else {
            return schema["properties"].get(&pointer[1..]);
        };
        match name {
            "0" => at(document, &schema["items"], &format!("/{rest}")),
            _ => at(document, &schema["properties"][name], &format!("/{rest}")),
        }
    }

    #[test]
    fn every_link_leads_to_a_call_with_what_is_there() {
        let (document, all) = (document(), operations());
        let mut count = 0;
        for operation in &all {
            let described = &document["paths"][operation.path][operation.method.as_str().to_ascii_lowercase()];
            for (Link { to, parameter, value }, (status, ..)) in
                operation.links.iter().flat_map(|link| operation.answers.iter().map(move |answer| (link, answer)))
            {
                let there = all.iter().find(|other| other.id == *to).unwrap_or_else(|| panic!("no call {to}"));
                assert!(there.path.contains(&format!("{{{parameter}}}")), "{to} has no {parameter}");
                let response = &described["responses"][status.to_string()];
                assert_eq!(response["links"][to]["parameters"][parameter], *value);
                let schema = &response["content"]["application/json"]["schema"];
                let is_there = match value.strip_prefix("$response.body#") {
                    Some(pointer) => at(&document, schema, pointer).is_some(),
                    None => *value == format!("$request.path.{parameter}") && operation.path.contains(parameter),
                };
                assert!(is_there, "{}: {value} is nowhere in {schema}", operation.id);
                count += 1;
            }
        }
        assert!(count > 15, "{count}");
    }
}
