//! A call that a function URL or an HTTP API hands to the function: an event in, the answer as they expect it out.

use axum::Router;
use lambda_http::Adapter;
use lambda_http::lambda_runtime::{Context, LambdaEvent};
use lambda_http::request::LambdaRequest;
use lambda_http::tower::ServiceExt;
use serde_json::Value;

/// Serves one call.
///
/// # Errors
/// When the event is no call of HTTP, or the answer is no JSON.
#[expect(clippy::future_not_send, reason = "a function has one call at a time, on the task of its runtime")]
pub async fn serve(router: Router, event: Value, context: Context) -> Result<Value, serde_json::Error> {
    let payload: LambdaRequest = serde_json::from_value(event)?;
    let answer = Adapter::from(router).oneshot(LambdaEvent::new(payload, context)).await;
    match answer {
        Ok(answer) => serde_json::to_value(answer),
        Err(never) => match never {},
    }
}

/// Whether the call may have released a run, whose request then waits in the outbox.
#[must_use]
pub fn may_release(event: &Value) -> bool {
    let method = event.pointer("/requestContext/http/method").and_then(Value::as_str);
    !matches!(method, Some("GET" | "HEAD"))
}
