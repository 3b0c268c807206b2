//! The rights of the worker's role, as the template grants them and as `docs/iam.md` lists them: (action, resource) pairs.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where the document is not what it should be")]

use std::collections::BTreeSet;

use serde_json::Value;

use crate::template::{Statement, root, statements};

/// An action, and the name of what it is allowed on.
pub type Right = (String, String);

/// What the role of the expanded template allows; the bucket and its two prefixes by the document's names.
pub fn granted(template: &Value) -> BTreeSet<Right> {
    let policies = &template["Resources"]["WorkerRole"]["Properties"]["Policies"];
    let rights = statements(policies).into_iter().filter(Statement::allows).flat_map(|statement| statement.rights());
    rights.map(|(action, resource)| (action, place(&resource))).collect()
}

fn place(resource: &str) -> String {
    match resource {
        "arn:${AWS::Partition}:s3:::${Bucket}" => "bucket".to_owned(),
        "arn:${AWS::Partition}:s3:::${Bucket}/${InputPrefix}*" => "inputs".to_owned(),
        "arn:${AWS::Partition}:s3:::${Bucket}/${OutputPrefix}*" => "outputs".to_owned(),
        other => other.to_owned(),
    }
}

/// The rows of a table of `docs/iam.md`: rights, each with its reason.
pub fn documented(heading: &str) -> Vec<(Right, String)> {
    let text = std::fs::read_to_string(root().join("docs/iam.md")).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`').to_owned());
        let mut cell = || cells.next().unwrap_or_else(|| panic!("{row} is too short"));
        ((cell(), cell()), cell())
    })
    .collect()
}

/// The first table: what the worker itself calls.
pub const OWN: &str = "What the worker itself calls";

/// The second: what others do with its role.
pub const OTHERS: &str = "What others do with the role";
