//! Every problem of a document, from parsers that stop at the first: what a parser refuses is noted, mended in a copy,
//! and the copy parsed again, until nothing is refused any more. So the command line has no rules of its own.

use serde_json::{Map, Value, json};

use super::Problem;
use crate::expression::{self, Expr, Limits};
use crate::keys::{Prefix, Prefixes};
use crate::request::{self, Invalid, Rules, RunRequest, Unreadable};

/// More than anybody mends at once.
const MOST_PROBLEMS: usize = 100;

/// What stands for what was refused. Its name occurs in no message: whatever is refused is mended before.
const PLACEHOLDER: &str = "X";

fn reference() -> Value {
    json!({ "series_code": PLACEHOLDER })
}

/// Everything that is wrong with an expression.
pub(super) fn expression(json: &Value, limits: &Limits) -> Vec<Problem> {
    mended(json, limits).0
}

/// The problems of an expression, and the expression without them.
fn mended(json: &Value, limits: &Limits) -> (Vec<Problem>, Value) {
    let (mut problems, mut copy) = (Vec::new(), json.clone());
    while problems.len() < MOST_PROBLEMS {
        let Err(error) = Expr::parse(&copy, limits) else { break };
        problems.push(Problem::new(&error.path, &error.problem));
        mend(&mut copy, &error);
    }
    (problems, copy)
}

/// Mends the one field that is refused, so that the others of its node are still looked at.
fn mend(json: &mut Value, error: &expression::Error) {
    use expression::Problem as P;
    // `$.left.window` is about a field of `$.left`; other paths are those of nodes.
    let (parent, field) = match error.path.rsplit_once('.') {
        Some((parent, field @ ("window" | "scale" | "nulls" | "operands"))) => (parent, field),
        _ => (error.path.as_str(), ""),
    };
    let Some(node) = json.pointer_mut(&pointer(parent)) else { return };
    let Some(fields) = node.as_object_mut() else {
        *node = reference();
        return;
    };
    match (&error.problem, field) {
        (P::Window { .. } | P::Missing { .. } | P::TooMuch { .. }, "window") => {
            fields.insert("window".to_owned(), json!(1));
        }
        (_, "scale" | "nulls") => {
            fields.remove(field);
        }
        (P::TooFewOperands { .. }, _) => {
            if let Some(Value::Array(operands)) = fields.get_mut("operands") {
                operands.resize_with(2, reference);
            }
        }
        (P::Missing { field: "op" } | P::UnknownOp { .. } | P::WrongType { field: "op", .. }, _) => {
            let op = if fields.contains_key("left") || fields.contains_key("right") { "add" } else { "sum" };
            fields.insert("op".to_owned(), json!(op));
        }
        (P::Missing { field }, _) if matches!(*field, "left" | "right" | "series") => {
            fields.insert((*field).to_owned(), reference());
        }
        _ => *node = reference(),
    }
}

/// `$.left.operands[1]` as a JSON pointer: `/left/operands/1`.
fn pointer(path: &str) -> String {
    path.trim_start_matches('$').replace(['.', '['], "/").replace(']', "")
}

/// Everything that is wrong with a request, bare or in an SNS envelope.
pub(super) fn request(body: &str, rules: &Rules) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut copy = match serde_json::from_str::<Value>(body) {
        Ok(json) if json.is_object() => json,
        _ => return request::decode(body, rules).err().map(|error| Problem::new("$", error)).into_iter().collect(),
    };
    while problems.len() < MOST_PROBLEMS {
        let before = copy.clone();
        match request::decode(&copy.to_string(), rules) {
            Err(unreadable) => {
                problems.push(Problem::new("$", &unreadable));
                mend_run(&mut copy, &unreadable);
            }
            Ok(RunRequest { work: Err(invalid), .. }) => mend_work(&mut copy, &invalid, rules, &mut problems),
            Ok(RunRequest { work: Ok(_), .. }) => break,
        }
        // What cannot be mended hides what is behind it.
        if copy == before {
            break;
        }
    }
    problems
}

fn mend_run(event: &mut Value, unreadable: &Unreadable) {
    let field = match unreadable {
        Unreadable::Missing { field } | Unreadable::NotText { field } => *field,
        Unreadable::OtherType { .. } => "type",
        Unreadable::Id(crate::ids::Error::Empty { kind })
        | Unreadable::Id(crate::ids::Error::TooLong { kind, .. })
        | Unreadable::Id(crate::ids::Error::Forbidden { kind, .. }) => *kind,
        Unreadable::TooLarge { .. } | Unreadable::NotAnEvent { .. } | Unreadable::NoPlace(_) => return,
    };
    let good = if field == "type" { "metric_run_requested" } else { PLACEHOLDER };
    event[field] = json!(good);
}

fn mend_work(event: &mut Value, invalid: &Invalid, rules: &Rules, problems: &mut Vec<Problem>) {
    let (place, problem) = (place(invalid), invalid.to_string());
    match invalid {
        Invalid::Expression(expression::Error { problem: expression::Problem::ContradictsType { .. }, .. })
        | Invalid::UnknownExpressionType { .. } => {
            problems.push(Problem::new(place, problem));
            let parsed = Expr::parse(&mended(&event["expressionJson"], &rules.expression).1, &rules.expression);
            let kind = parsed.ok().and_then(|expr| expr.kind()).map(|kind| kind.as_str());
            event["expressionType"] = json!(kind.unwrap_or("series_math"));
            if kind.is_none() {
                event["expressionJson"] = json!({ "op": "add", "left": reference(), "right": reference() });
            }
        }
        Invalid::Expression(_) => {
            let (found, copy) = mended(&event["expressionJson"], &rules.expression);
            let below = |one: Problem| Problem::new(one.place.replacen('$', "$.expressionJson", 1), one.problem);
            problems.extend(found.into_iter().map(below));
            event["expressionJson"] = copy;
        }
        Invalid::SeriesNotInInputs { series_code } => {
            // A placeholder of an earlier repair is nothing to tell of.
            if series_code.as_str() != PLACEHOLDER {
                problems.push(Problem::new(place, problem));
            }
            push(&mut event["inputs"], json!({ "datasetId": PLACEHOLDER, "seriesCode": series_code.as_str() }));
            mend_dataset(event, PLACEHOLDER, rules);
        }
        Invalid::DatasetNotInCatalog { dataset_id } => {
            problems.push(Problem::new(place, problem));
            mend_dataset(event, dataset_id.as_str(), rules);
        }
        Invalid::SeriesOfTwoDatasets { series_code, first, .. } => {
            problems.push(Problem::new(place, problem));
            if let Some(inputs) = event["inputs"].as_array_mut() {
                inputs.retain(|one| {
                    let names = one["seriesCode"] == series_code.as_str() || one["series_code"] == series_code.as_str();
                    !names || one["datasetId"] == first.as_str()
                });
            }
        }
        Invalid::Missing { field }
        | Invalid::WrongType { field, .. }
        | Invalid::Id { field, .. }
        | Invalid::Path { field, .. } => {
            problems.push(Problem::new(place, problem));
            mend_field(event, field, rules);
        }
        Invalid::NotJson { field, .. } => {
            problems.push(Problem::new(place, problem));
            mend_field(event, field, rules);
        }
        Invalid::ExpressionNotJson { .. } => problems.push(Problem::new(place, problem)),
    }
}

fn place(invalid: &Invalid) -> String {
    match invalid {
        Invalid::Missing { field }
        | Invalid::WrongType { field, .. }
        | Invalid::Id { field, .. }
        | Invalid::Path { field, .. } => format!("$.{field}"),
        Invalid::NotJson { field, .. } => format!("$.{field}"),
        Invalid::UnknownExpressionType { .. } => "$.expressionType".to_owned(),
        Invalid::Expression(_) | Invalid::ExpressionNotJson { .. } => "$.expressionJson".to_owned(),
        Invalid::DatasetNotInCatalog { .. } => "$.catalog.datasets".to_owned(),
        Invalid::SeriesNotInInputs { .. } | Invalid::SeriesOfTwoDatasets { .. } => "$.inputs".to_owned(),
    }
}

/// Mends the part of the event that a path such as `inputs[1].datasetId` leads to.
fn mend_field(event: &mut Value, field: &str, rules: &Rules) {
    let part = field.split(['.', '[']).next().unwrap_or(field);
    match part {
        "output" => event["output"] = json!({ "basePath": format!("{}{PLACEHOLDER}/", first(&rules.output_prefixes)) }),
        "inputs" => {
            let index = field.split(['[', ']']).nth(1).and_then(|index| index.parse::<usize>().ok());
            match (index, event["inputs"].as_array_mut()) {
                (Some(index), Some(inputs)) if index < inputs.len() => {
                    inputs.remove(index);
                }
                _ => event["inputs"] = json!([]),
            }
        }
        "catalog" => match field.strip_prefix("catalog.datasets.") {
            // The id may hold points itself; the field behind it does not.
            Some(rest) => {
                let id = ["manifestPath", "projectionsPath"]
                    .iter()
                    .find_map(|name| rest.strip_suffix(&format!(".{name}")))
                    .unwrap_or(rest);
                mend_dataset(event, id, rules);
            }
            None => event["catalog"] = json!({ "datasets": {} }),
        },
        "expressionType" => event["expressionType"] = json!("?"),
        "expressionJson" => {
            event["expressionJson"] = json!({ "op": "add", "left": reference(), "right": reference() });
        }
        _ => {}
    }
}

fn mend_dataset(event: &mut Value, dataset_id: &str, rules: &Rules) {
    let folder = first(&rules.input_prefixes);
    let manifest = format!("{folder}{dataset_id}/versions/{PLACEHOLDER}/manifest.json");
    if !event["catalog"]["datasets"].is_object() {
        event["catalog"] = json!({ "datasets": Map::new() });
    }
    event["catalog"]["datasets"][dataset_id] = json!({ "manifestPath": manifest });
}

/// A place that is allowed.
fn first(prefixes: &Prefixes) -> &str {
    prefixes.iter().next().map_or("", Prefix::as_str)
}

fn push(array: &mut Value, item: Value) {
    match array.as_array_mut() {
        Some(items) => items.push(item),
        None => *array = json!([item]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let prefixes = |list: &str| Prefixes::parse(list).unwrap();
        Rules {
            bucket: "bucket".to_owned(),
            input_prefixes: prefixes("datasets/"),
            output_prefixes: prefixes("metrics/"),
            body_bytes: 1 << 20,
            expression: Limits::default(),
        }
    }

    fn expression(json: &Value) -> Vec<Problem> {
        super::expression(json, &Limits::default())
    }

    fn request(body: &str) -> Vec<Problem> {
        super::request(body, &rules())
    }

    fn lines(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(|one| format!("{}: {}", one.place, one.problem)).collect()
    }

    #[test]
    fn every_problem_of_an_expression_is_found() {
        let json = json!({
            "op": "plus", "scale": "1",
            "left": { "op": "sma", "series": { "series_code": "../x" }, "window": 0 },
            "right": { "op": "sum", "operands": [1], "nulls": "zero" },
        });
        let expected = [
            "$: unknown op \"plus\" for series_math, expected one of add, subtract, multiply, ratio",
            "$.left.window: window must be an integer of at least 1, found 0",
            "$.left.series: seriesCode \"../x\" may hold only letters, digits and . _ : - and may not be . or ..",
            "$.right.operands: a composite needs at least 2 operands, found 1",
            "$.right.operands[0]: expected an object, found a number",
            "$.right.nulls: nulls must be \"skip\" or \"propagate\"",
            "$.scale: scale must be a number, found a string",
        ];
        assert_eq!(lines(&expression(&json)), expected);
        assert!(expression(&json!({ "series_code": "A" })).is_empty());
        assert_eq!(lines(&expression(&json!(5))), ["$: expected an object, found a number"]);
    }

    #[test]
    fn every_problem_of_a_request_is_found() {
        let body = json!({
            "type": "metric_run_requested", "metricCode": "m", "expressionType": "window_op",
            "expressionJson": { "op": "add", "left": { "series_code": "A" }, "right": { "op": "lag", "series": 1, "window": 2.5 } },
            "inputs": [{ "datasetId": "d", "seriesCode": "A" }, { "datasetId": "e" }, { "datasetId": "f", "seriesCode": "A" }],
            "catalog": { "datasets": { "d": { "manifestPath": "secrets/manifest.json" } } },
            "output": { "basePath": "s3://other/metrics/m/" },
        });
        let found = lines(&request(&body.to_string()));
        insta::assert_snapshot!(found.join("\n"));
        assert_eq!(lines(&request("[]")).len(), 1);
        assert_eq!(lines(&request("{")).len(), 1);
        assert!(lines(&request("{}")).len() > 4);
    }
}
