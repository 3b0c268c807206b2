//! The deployment template as tests read it: expanded by `tools/template.py` as SAM does it, and its policy statements.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where the template is not what it should be")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The template after the SAM transform.
pub fn expanded() -> Value {
    read()["expanded"].take()
}

/// The template as it is written, short tags written out.
pub fn source() -> Value {
    read()["source"].take()
}

fn read() -> Value {
    let python = root().join(".venv/bin/python");
    assert!(python.exists(), "{} is missing: run make venv", python.display());
    let output = Command::new(python).arg(root().join("tools/template.py")).arg("json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn of_type<'a>(template: &'a Value, kind: &str) -> Vec<(&'a str, &'a Value)> {
    let resources = template["Resources"].as_object().unwrap().iter();
    let wanted = resources.filter(|(_, resource)| resource["Type"] == kind);
    wanted.map(|(name, resource)| (name.as_str(), &resource["Properties"])).collect()
}

pub fn property<'a>(template: &'a Value, resource: &str, name: &str) -> &'a Value {
    &template["Resources"][resource]["Properties"][name]
}

pub fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

pub struct Statement<'a> {
    pub value: &'a Value,
}

impl<'a> Statement<'a> {
    pub fn allows(&self) -> bool {
        self.value["Effect"] == "Allow"
    }

    pub fn sid(&self) -> &'a str {
        self.value["Sid"].as_str().unwrap_or("a statement without a name")
    }

    pub fn actions(&self) -> Vec<&'a str> {
        listed(&self.value["Action"]).into_iter().filter_map(Value::as_str).collect()
    }

    pub fn resources(&self) -> Vec<&'a Value> {
        listed(&self.value["Resource"])
    }

    /// Every action on every resource.
    pub fn rights(&self) -> Vec<(String, String)> {
        let resources: Vec<_> = self.resources().into_iter().map(resource_name).collect();
        let actions = self.actions().into_iter();
        actions.flat_map(|action| resources.iter().map(move |name| (action.to_owned(), name.clone()))).collect()
    }
}

pub fn listed(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |values| values.iter().collect())
}

pub fn resource_name(resource: &Value) -> String {
    let name = resource.as_str().or(resource["Ref"].as_str()).or(resource["Fn::GetAtt"][0].as_str());
    name.or(resource["Fn::Sub"][0].as_str()).map_or_else(|| resource.to_string(), str::to_owned)
}

/// Every policy statement below a value, those under conditions too.
pub fn statements(value: &Value) -> Vec<Statement<'_>> {
    match value {
        Value::Object(fields) if fields.contains_key("Effect") => vec![Statement { value }],
        Value::Object(fields) => fields.values().flat_map(statements).collect(),
        Value::Array(values) => values.iter().flat_map(statements).collect(),
        _ => vec![],
    }
}
