//! Calls over HTTP on this machine, one connection each.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// GETs from `http://HOST:PORT/…`; status and body, or nothing where nobody listens.
pub async fn get(url: &str) -> Option<(u16, String)> {
    call("GET", url, None, "").await
}

/// Calls `http://HOST:PORT/…` with a key, where there is one, and a body of JSON.
pub async fn call(method: &str, url: &str, key: Option<&str>, body: &str) -> Option<(u16, String)> {
    let (authority, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let key = key.map(|key| format!("X-Api-Key: {key}\r\n")).unwrap_or_default();
    let content = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    let call = async {
        let mut stream = TcpStream::connect(authority).await.ok()?;
        // 1.0: the answer ends with the connection, and has no chunks.
        let request = format!("{method} /{path} HTTP/1.0\r\nHost: {authority}\r\n{key}{content}\r\n{body}");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    };
    tokio::time::timeout(PATIENCE, call).await.ok().flatten()
}

/// GETs JSON; the answer has to be a good one.
pub async fn json(url: &str) -> Value {
    let (status, body) = get(url).await.unwrap_or_else(|| panic!("nobody answers at {url}"));
    assert_eq!(status, 200, "{url}: {body}");
    serde_json::from_str(&body).unwrap()
}
