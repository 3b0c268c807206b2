//! A client that says nothing, at the built program as it is.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::program::Program;

#[tokio::test]
async fn whoever_begins_a_request_and_says_no_more_is_cut_off() {
    let program = Program::start().await;
    let mut stream = TcpStream::connect(program.url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\n").await.unwrap();
    let start = Instant::now();
    let mut said = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut said)).await;
    assert!(read.is_ok(), "the connection stays open");
    assert!(start.elapsed() > Duration::from_secs(5), "who is merely slow has some seconds: {:?}", start.elapsed());
}
