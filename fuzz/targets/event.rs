//! A record's body: never a panic, and whatever is accepted leads nowhere but where it may.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use metrics_engine::config::Config;
use metrics_engine::expression::Expr;
use metrics_engine::request::{self, Rules};

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let lookup = |name: &str| match name {
        "AWS_S3_BUCKET" => Some("own".to_owned()),
        "AWS_SNS_EVENTS_TOPIC_ARN" => Some("arn:aws:sns:us-east-1:000000000000:events.fifo".to_owned()),
        _ => None,
    };
    Config::from_lookup(lookup).unwrap().rules
});

fuzz_target!(|data: &[u8]| {
    let Ok(body) = std::str::from_utf8(data) else { return };
    let Ok(request) = request::decode(body, &RULES) else { return };
    let run = &request.run;
    for key in [run.keys.current(), run.keys.marker(&run.run_id), run.keys.claim(&run.run_id)] {
        assert!(key.as_str().starts_with("metrics/"), "{key}");
        assert!(run.keys.parse(&key).is_some(), "{key}");
        assert!(key.segments().all(|segment| !matches!(segment, "" | "." | "..")), "{key}");
    }
    assert_eq!(run.request_digest.len(), 64);
    assert_eq!(request::decode(body, &RULES).unwrap().run, *run, "the same body, another run");
    let Ok(work) = &request.work else { return };
    for paths in work.datasets.values() {
        assert!(paths.manifest.as_str().starts_with("datasets/"), "{}", paths.manifest);
        assert!(paths.projections.as_str().starts_with("datasets/"), "{}", paths.projections);
    }
    for series_code in work.expression.series_codes() {
        assert!(work.datasets.contains_key(&work.inputs[series_code]), "{series_code}");
    }
    let again = Expr::parse(&work.expression.to_json(), &RULES.expression).unwrap();
    assert_eq!(again, work.expression);
});
