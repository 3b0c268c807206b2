//! The same API behind a function URL.

use lambda_http::lambda_runtime::Context;
use metrics_engine::control::api::lambda;
use serde_json::{Value, json};

use crate::caller::{Caller, KEY, ratio};

fn event(method: &str, path: &str, headers: &Value, body: Option<&str>) -> Value {
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "limit=1", "headers": headers,
        "isBase64Encoded": false, "body": body,
        "requestContext": {
            "accountId": "anonymous", "apiId": "id", "domainName": "id.lambda-url.us-east-1.on.aws",
            "domainPrefix": "id", "requestId": "r", "routeKey": "$default", "stage": "$default",
            "time": "12/Mar/2026:19:03:58 +0000", "timeEpoch": 1_583_348_638_390_i64,
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "t" },
        },
    })
}

#[expect(clippy::future_not_send, reason = "a test is one task")]
async fn call(caller: &Caller, event: Value) -> Value {
    lambda::serve(caller.router.clone(), event, Context::default()).await.unwrap()
}

#[tokio::test]
async fn a_function_url_reads_and_writes() {
    let caller = Caller::new().await;
    caller.register(&["a", "b"]).await;
    let answer = call(&caller, event("GET", "/metrics", &json!({}), None)).await;
    assert_eq!((&answer["statusCode"], &answer["isBase64Encoded"]), (&json!(200), &json!(false)));
    assert_eq!(answer["headers"]["content-type"], "application/json");
    let page: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!((&page["items"][0]["code"], page["items"].as_array().unwrap().len()), (&json!("a"), 1));

    let headers = json!({ "x-api-key": KEY, "content-type": "application/json" });
    let body = ratio().to_string();
    let answer = call(&caller, event("PUT", "/metrics/c", &headers, Some(&body))).await;
    assert_eq!(answer["statusCode"], 201, "{answer}");
    let answer = call(&caller, event("PUT", "/metrics/c", &json!({}), Some(&body))).await;
    assert_eq!(
        (&answer["statusCode"], &answer["headers"]["content-type"]),
        (&json!(401), &json!("application/problem+json"))
    );
    assert_eq!(answer["isBase64Encoded"], false);
}

#[tokio::test]
async fn what_is_no_call_is_an_error() {
    let caller = Caller::new().await;
    assert!(lambda::serve(caller.router.clone(), json!({ "Records": [] }), Context::default()).await.is_err());
}
