//! Bodies that are too deep, too wide, too large, or that ask for what is not theirs.

use serde_json::{Value, json};

use crate::measure::in_a_process_of_its_own;
use crate::scene::Fate::{DeadLettered, Fails, Succeeds};
use crate::scene::{Fate, METRIC, check, request_with, runtime, small_world};
use crate::world::request;

const CONFIG: &str = "CONFIG_ERROR";
const EXPRESSION: &str = "EXPRESSION_EVAL_ERROR";
const INPUT: &str = "INPUT_READ_ERROR";

fn check_all(test_name: &str, cases: impl FnOnce() -> Vec<(String, String, Fate)>) {
    in_a_process_of_its_own(test_name, || {
        for (name, body, fate) in cases() {
            runtime().block_on(check(&name, &small_world(), &body, fate));
        }
    });
}

/// A case with one part of the request replaced by this text.
fn case(pointer: &str, name: &str, text: &str, fate: Fate) -> (String, String, Fate) {
    (format!("{pointer} {name}"), request_with(pointer, text), fate)
}

fn arrays(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

fn objects(depth: usize) -> String {
    "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth)
}

fn windows(depth: usize) -> String {
    "{\"op\":\"sma\",\"window\":1,\"series\":".repeat(depth) + "{\"series_code\":\"A\"}" + &"}".repeat(depth)
}

fn list(item: &str, count: usize) -> String {
    format!("[{}]", vec![item; count].join(","))
}

#[test]
fn depth_costs_no_stack() {
    check_all("requests::depth_costs_no_stack", || {
        let mut cases = Vec::new();
        for (pointer, fate) in [
            ("/type", DeadLettered("type must be a string")),
            ("/runId", DeadLettered("runId must be a string")),
            ("/metricCode", DeadLettered("metricCode must be a string")),
            ("/schema", Succeeds),
            ("/expressionType", Fails(CONFIG, "expressionType")),
            ("/expressionJson", Fails(EXPRESSION, "recursion limit")),
            ("/expressionJson/left", Fails(EXPRESSION, "recursion limit")),
            ("/inputs", Fails(CONFIG, "inputs")),
            ("/inputs/0/seriesCode", Fails(CONFIG, "inputs")),
            ("/catalog", Fails(CONFIG, "catalog")),
            ("/catalog/datasets/d/manifestPath", Fails(CONFIG, "catalog")),
            ("/output", Fails(CONFIG, "output")),
            ("/output/basePath", Fails(CONFIG, "output")),
        ] {
            cases.push(case(pointer, "in 100,000 arrays", &arrays(100_000), fate));
            cases.push(case(pointer, "in 100,000 objects", &objects(100_000), fate));
        }
        cases.push(case("/expressionJson", "in 20,000 windows", &windows(20_000), Fails(EXPRESSION, "recursion")));
        cases.push(case("/expressionJson", "in 62 windows", &windows(62), Fails(EXPRESSION, "depth exceeds")));
        cases.push(case("/expressionJson", "in 100,000 windows", &windows(100_000), DeadLettered("at most 1048576")));
        let mut bare = request("h", METRIC);
        bare["Message"] = json!("REPLACED");
        let body = bare.to_string().replace("\"REPLACED\"", &arrays(100_000));
        cases.push(("a field Message in 100,000 arrays".to_owned(), body, DeadLettered("recursion limit")));
        let wrapped = |message: &str| json!({ "Type": "Notification", "Message": message }).to_string();
        cases.push(("wrapped arrays".to_owned(), wrapped(&arrays(100_000)), DeadLettered("SNS message")));
        let message = request_with("/expressionJson", &arrays(100_000));
        cases.push(("a wrapped expression".to_owned(), wrapped(&message), Fails(EXPRESSION, "recursion limit")));
        cases
    });
}

#[test]
fn width_costs_little_memory() {
    check_all("requests::width_costs_little_memory", || {
        let mut cases = Vec::new();
        for (pointer, fate) in [
            ("/schema", Succeeds),
            ("/expressionJson", Fails(EXPRESSION, "")),
            ("/inputs", Fails(CONFIG, "")),
            ("/catalog", Fails(CONFIG, "")),
            ("/output", Fails(CONFIG, "")),
            ("/expressionType", Fails(CONFIG, "")),
        ] {
            cases.push(case(pointer, "of half a million zeros", &list("0", 520_000), fate));
            cases.push(case(pointer, "of 340,000 arrays", &list("[]", 340_000), fate));
            cases.push(case(pointer, "of 130,000 objects", &list("{\"\":0}", 130_000), fate));
            cases.push(case(pointer, "of 26,000 nests", &list(&objects(6), 26_000), fate));
        }
        let operands = |item: &str, count| format!("{{\"op\":\"sum\",\"operands\":{}}}", list(item, count));
        let too_many = Fails(EXPRESSION, "operands exceeds the limit of 1024");
        cases.push(case("/expressionJson", "of half a million operands", &operands("0", 500_000), too_many));
        cases.push(case("/expressionJson", "of 340,000 operands", &operands("{}", 340_000), too_many));
        let million = operands("0", 1_000_000);
        cases.push(case("/expressionJson", "of a million operands", &million, DeadLettered("at most 1048576")));
        let pairs = operands(&operands("{\"series_code\":\"A\"}", 40), 40);
        cases.push(case("/expressionJson", "of 1,600 nodes", &pairs, Fails("EXPRESSION_EVAL_ERROR", "expressionType")));
        let text = format!("\"{}\"", "x".repeat(1_000_000));
        let fields = [("/type", DeadLettered("type is")), ("/runId", DeadLettered("runId has 1000000 bytes"))];
        for (pointer, fate) in fields.into_iter().chain([
            ("/metricCode", DeadLettered("metricCode has 1000000 bytes")),
            ("/expressionType", Fails(EXPRESSION, "expressionType is \"xxx")),
            ("/expressionJson", Fails(EXPRESSION, "expected an object")),
            ("/expressionJson/op", Fails(EXPRESSION, "unknown op")),
            ("/expressionJson/left/series_code", Fails(EXPRESSION, "1000000 bytes")),
            ("/inputs/0/seriesCode", Fails(CONFIG, "1000000 bytes")),
            ("/inputs/0/datasetId", Fails(CONFIG, "1000000 bytes")),
            ("/catalog/datasets/d/manifestPath", Fails(CONFIG, "1000000 bytes")),
            ("/output/basePath", Fails(CONFIG, "1000000 bytes")),
            ("/schema", Succeeds),
        ]) {
            cases.push(case(pointer, "a megabyte long", &text, fate));
        }
        let foreign = format!("\"s3://{}/metrics/m/\"", "b".repeat(1_000_000));
        cases.push(case("/output/basePath", "a bucket a megabyte long", &foreign, Fails(CONFIG, "is not this")));
        cases
    });
}

#[test]
fn numbers_that_are_no_window_or_scale_are_refused() {
    check_all("requests::numbers_that_are_no_window_or_scale_are_refused", || {
        let window = |text: &str, fate| {
            let json = format!(r#"{{"op":"sma","series":{{"series_code":"B"}},"window":{text}}}"#);
            let body = request_with("/expressionJson", &json).replace("series_math", "window_op");
            (format!("window {}", &text[..text.len().min(40)]), body, fate)
        };
        let refused = Fails(EXPRESSION, "window");
        let mut cases = Vec::new();
        for text in ["0", "-1", "2.0", "1.5", "1e3", "-0", "\"2\"", "true", "null", "[]", "{}", "4294967296"] {
            cases.push(window(text, refused));
        }
        cases.push(window("1000001", Fails(EXPRESSION, "window exceeds the limit of 1000000")));
        cases.push(window("1000000", Succeeds));
        cases.push(window("1e999", Fails(EXPRESSION, "number out of range")));
        cases.push(window(&"9".repeat(1_000), Fails(EXPRESSION, "")));
        cases.push(window(&"9".repeat(900_000), Fails(EXPRESSION, "")));
        for text in ["NaN", "Infinity", "-Infinity", "01", "+1", ".5", "0x10", "1_000"] {
            cases.push(window(text, DeadLettered("is not the JSON object of an event")));
        }
        let scale = |text: &str, fate| {
            let json =
                format!(r#"{{"op":"add","left":{{"series_code":"B"}},"right":{{"series_code":"B"}},"scale":{text}}}"#);
            case("/expressionJson", &format!("scale {text}"), &json, fate)
        };
        cases.push(scale("1e400", Fails(EXPRESSION, "number out of range")));
        cases.push(scale("\"1\"", Fails(EXPRESSION, "scale must be")));
        cases.push(scale("1e308", Succeeds));
        cases.push(scale("-0.0", Succeeds));
        cases
    });
}

const NAMES: [&str; 18] = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "a b",
    "é",
    "А",
    "\u{202e}abc",
    "a\u{0}b",
    "a\nb",
    "\u{7f}",
    "a\u{feff}",
    "%2e%2e",
    "a?b",
    "a*b",
    "${x}",
];

#[test]
fn names_that_are_no_names_are_refused() {
    check_all("requests::names_that_are_no_names_are_refused", || {
        let mut cases = Vec::new();
        let long = "x".repeat(129);
        for name in NAMES.into_iter().chain([&*long]) {
            let text = Value::from(name).to_string();
            let shown: String = format!("{name:?}").chars().take(20).collect();
            cases.push(case("/runId", &shown, &text, DeadLettered("runId")));
            cases.push(case("/metricCode", &shown, &text, DeadLettered("metricCode")));
            cases.push(case("/inputs/0/datasetId", &shown, &text, Fails(CONFIG, "inputs[0].datasetId")));
            cases.push(case("/inputs/0/seriesCode", &shown, &text, Fails(CONFIG, "inputs[0].seriesCode")));
            cases.push(case("/expressionJson/left/series_code", &shown, &text, Fails(EXPRESSION, "$.left")));
        }
        // Half a surrogate pair is text to a scanner, and none to a parser.
        cases.push(case("/runId", "half a pair", r#""\ud800""#, DeadLettered("runId")));
        cases.push(case("/schema", "half a pair", r#""\ud800""#, Succeeds));
        cases.push(case("/catalog/datasets/d/manifestPath", "half a pair", r#""\ud800""#, Fails(CONFIG, "catalog")));
        let attribute = |value: &str| {
            let attributes = json!({ "metricCode": { "Type": "String", "Value": value } });
            let message = request("h", METRIC).to_string();
            json!({ "Type": "Notification", "Message": message, "MessageAttributes": attributes }).to_string()
        };
        cases.push(("an attribute".to_owned(), attribute("../../datasets"), DeadLettered("metricCode")));
        cases
    });
}

#[test]
fn paths_lead_nowhere_else() {
    check_all("requests::paths_lead_nowhere_else", || {
        let mut cases = Vec::new();
        let manifest = "/catalog/datasets/d/manifestPath";
        let projections = "/catalog/datasets/d/projectionsPath";
        for path in [
            "",
            "/",
            "//",
            "/etc/passwd",
            "datasets",
            "datasets/",
            "datasets/../metrics/m",
            "datasets/./x",
            "datasets//x",
            "../datasets/x",
            "secrets/x",
            "datasets2/x",
            "datasets\\x",
            "datasets/é",
            "datasets/a\u{0}b",
            "datasets/\n",
            "s3://foreign/datasets/x",
            "s3://",
            "s3:///datasets/x",
            "S3://bucket/datasets/x",
            "file:///datasets/x",
            "https://own.s3.amazonaws.com/datasets/x",
            "s3://bucket/../datasets/x",
            "s3://bucket//datasets/x",
            "s3://bucket/s3://bucket/datasets/x",
        ] {
            let text = Value::from(path).to_string();
            // A prefix may end in a slash, or be the allowed one itself.
            cases.push(case(manifest, &format!("{path:?}"), &text, Fails(CONFIG, "manifestPath")));
            if path != "datasets" && path != "datasets/" {
                cases.push(case(projections, &format!("{path:?}"), &text, Fails(CONFIG, "projectionsPath")));
            }
            cases.push(case("/output/basePath", &format!("{path:?}"), &text, Fails(CONFIG, "output.basePath")));
        }
        for path in ["datasets/d/", "metrics/../datasets/d", "metrics/hostile/../honest/", "s3://own2/metrics/x/"] {
            let text = Value::from(path).to_string();
            cases.push(case("/output/basePath", &format!("{path:?}"), &text, Fails(CONFIG, "output.basePath")));
        }
        for path in
            ["datasets/%2e%2e/manifest.json", "datasets/d/versions/v1/manifest.json ", "datasets/~/x", "datasets/d"]
        {
            cases.push(case(manifest, path, &Value::from(path).to_string(), Fails(INPUT, "dataset d")));
        }
        cases
    });
}

#[test]
fn text_that_is_no_event_is_dead_lettered_and_odd_text_is_read() {
    check_all("requests::text_that_is_no_event_is_dead_lettered_and_odd_text_is_read", || {
        let valid = request("h", METRIC).to_string();
        let mut cases: Vec<(String, String, Fate)> = Vec::new();
        let not_an_event = DeadLettered("is not the JSON object of an event");
        for body in ["", " ", "null", "1", "\"x\"", "[]", "{}x", "{", "}", "{\"type\"", "\u{0}", "<xml/>"] {
            cases.push((format!("{body:?}"), body.to_owned(), not_an_event));
        }
        cases.push(("an empty object".to_owned(), "{}".to_owned(), DeadLettered("missing field type")));
        cases.push(("a byte order mark".to_owned(), format!("\u{feff}{valid}"), not_an_event));
        cases.push(("two events".to_owned(), format!("{valid}{valid}"), not_an_event));
        cases.push(("a list of one event".to_owned(), format!("[{valid}]"), not_an_event));
        cases.push(("a cut event".to_owned(), valid[..valid.len() - 1].to_owned(), not_an_event));
        cases.push(("spaces around".to_owned(), format!("\r\n\t {valid} \n"), Succeeds));
        cases.push(("a megabyte of spaces".to_owned(), valid.clone() + &" ".repeat(1_000_000), Succeeds));
        let twice = |field: &str| valid.replacen('{', &format!("{{\"{field}\":\"x\","), 1);
        for field in ["type", "runId", "metricCode", "expressionJson", "inputs", "catalog", "output"] {
            cases.push((format!("{field} twice"), twice(field), DeadLettered("duplicate field")));
        }
        cases.push((
            "an unknown field twice".to_owned(),
            twice("unknown").replacen('{', "{\"unknown\":1,", 1),
            Succeeds,
        ));
        // Of equal keys within a part the last one counts, as with every parser of the control plane.
        let op_twice = valid.replace(r#""op":"ratio""#, r#""op":"pow","op":"ratio""#);
        cases.push(("op twice, the last one good".to_owned(), op_twice, Succeeds));
        let op_twice = valid.replace(r#""op":"ratio""#, r#""op":"ratio","op":"pow""#);
        cases.push(("op twice, the last one bad".to_owned(), op_twice, Fails(EXPRESSION, "unknown op")));
        let both = valid.replace(r#"{"series_code":"A"}"#, r#"{"series_code":"A","seriesCode":"B"}"#);
        cases.push(("two codes".to_owned(), both, Fails(EXPRESSION, "two different series")));
        cases
    });
}
