//! Who may write.

use axum::body::Body;
use axum::http::Request;
use metrics_engine::control::api::access::Writers;
use metrics_engine::control::api::operations::operations;

use crate::caller::{Caller, KEY};

/// Every call that writes, with a path that exists.
fn writing() -> Vec<(String, String)> {
    let path = |path: &str| path.replace("{code}", "m").replace("{id}", "m");
    operations()
        .iter()
        .filter(|operation| operation.writes())
        .map(|operation| (operation.method.to_string(), path(operation.path)))
        .collect()
}

async fn call(caller: &Caller, method: &str, path: &str, header: Option<(&str, &str)>) -> u16 {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = match header {
        Some((name, value)) => request.header(name, value),
        None => request,
    };
    // Not JSON: who gets as far as the body hears that it is malformed.
    caller.send(request.body(Body::from("{")).unwrap()).await.status
}

#[tokio::test]
async fn nothing_is_written_without_the_key() {
    let caller = Caller::new().await;
    assert_eq!(writing().len(), 5);
    for (method, path) in writing() {
        assert_eq!(call(&caller, &method, &path, None).await, 401, "{method} {path}");
        assert_eq!(call(&caller, &method, &path, Some(("authorization", "Bearer another"))).await, 401);
        assert_eq!(call(&caller, &method, &path, Some(("x-api-key", ""))).await, 401);
        for (name, value) in [("authorization", format!("Bearer {KEY}")), ("x-api-key", KEY.to_owned())] {
            let status = call(&caller, &method, &path, Some((name, &value))).await;
            assert!([400, 404].contains(&status), "{method} {path} with a key: {status}");
        }
    }
}

#[tokio::test]
async fn an_answer_without_a_key_says_how_to_show_one() {
    let caller = Caller::new().await;
    let answer = caller.send(Request::post("/metrics/m/runs").body(Body::empty()).unwrap()).await;
    assert_eq!((answer.problem().as_str(), answer.header("www-authenticate")), ("no-key", "Bearer"));
}

#[tokio::test]
async fn where_no_key_is_configured_nobody_writes_and_everybody_reads() {
    let caller = Caller::with(Writers::Nobody).await;
    for (method, path) in writing() {
        assert_eq!(call(&caller, &method, &path, Some(("x-api-key", KEY))).await, 403, "{method} {path}");
    }
    assert_eq!(caller.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn a_huge_body_of_a_stranger_is_not_read() {
    let caller = Caller::new().await;
    let body = Body::from(vec![b' '; 1 << 20]);
    let answer = caller.send(Request::put("/metrics/m").body(body).unwrap()).await;
    assert_eq!(answer.status, 401);
}
