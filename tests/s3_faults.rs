//! S3 when the connection, the answer or the body is not as it should be: the real client against a server that
//! plays a script.
#![allow(clippy::unwrap_used, reason = "a script that cannot be played stops the test")]

#[path = "s3_faults/direct.rs"]
mod direct;
#[path = "s3_faults/signatures.rs"]
mod signatures;
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use bytes::Bytes;
use metrics_engine::keys::Key;
use metrics_engine::storage::s3::S3Storage;
use metrics_engine::storage::{ByteRange, ETag, Error, ObjectStorage, PutCondition};

/// Answers one connection after the other with these bytes and closes it. Gives back the head of every request, in
/// small letters.
fn play(script: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let (endpoint, server) = play_as_it_is(script, 0);
    (endpoint, std::thread::spawn(move || server.join().unwrap().iter().map(|head| head.to_lowercase()).collect()))
}

/// The same with the heads as they came, and with as many of the first connections left open until the script's end.
fn play_as_it_is(script: Vec<String>, left_open: usize) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut heads, mut open) = (Vec::new(), Vec::new());
        for (index, answer) in script.into_iter().enumerate() {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).unwrap();
            }
            let lines = head.to_lowercase();
            let length = lines.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            reader.read_exact(&mut vec![0; length.unwrap_or(0)]).unwrap();
            heads.push(head);
            (&stream).write_all(answer.as_bytes()).unwrap();
            open.extend((index < left_open).then_some(stream));
        }
        heads
    });
    (endpoint, server)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

fn error(status: &str, code: &str) -> String {
    answer(status, "", &format!("<Error><Code>{code}</Code><Message>scripted</Message></Error>"))
}

async fn store(endpoint: &str) -> S3Storage {
    S3Storage::new(support::local_aws::clients(endpoint).await.s3, "bucket")
}

fn key() -> Key {
    Key::parse("a/b").unwrap()
}

#[tokio::test]
async fn a_body_that_breaks_off_is_fetched_again() {
    let whole = answer("200 OK", "etag: \"e\"\r\n", "0123456789");
    let broken = whole.strip_suffix("6789").unwrap().to_owned();
    let (endpoint, server) = play(vec![broken.clone(), broken, whole]);
    let object = store(&endpoint).await.get(&key(), ByteRange::Whole, None).await.unwrap();
    assert_eq!((object.bytes.as_ref(), object.etag.0.as_str()), (b"0123456789".as_slice(), "e"));
    assert_eq!(server.join().unwrap().len(), 3);
}

#[tokio::test]
async fn a_body_that_always_breaks_off_fails_for_now() {
    let broken = answer("200 OK", "", "0123456789").strip_suffix("6789").unwrap().to_owned();
    let (endpoint, server) = play(vec![broken; 3]);
    let failure = store(&endpoint).await.get(&key(), ByteRange::Whole, None).await.unwrap_err();
    assert!(matches!(failure, Error::Transient { .. }), "{failure}");
    assert_eq!(server.join().unwrap().len(), 3);
}

#[tokio::test]
async fn a_busy_store_is_asked_four_times() {
    let (endpoint, server) = play(vec![error("503 Slow Down", "SlowDown"); 4]);
    let failure = store(&endpoint).await.get(&key(), ByteRange::Whole, None).await.unwrap_err();
    assert!(matches!(&failure, Error::Transient { reason, .. } if reason.contains("SlowDown")), "{failure}");
    assert_eq!(server.join().unwrap().len(), 4);
}

#[tokio::test]
async fn a_lost_connection_is_tried_again() {
    let (endpoint, server) = play(vec![String::new(), answer("200 OK", "etag: \"e\"\r\n", "x")]);
    let object = store(&endpoint).await.get(&key(), ByteRange::Whole, None).await.unwrap();
    assert_eq!(object.bytes.as_ref(), b"x");
    assert_eq!(server.join().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_refused_is_asked_once() {
    for (status, code) in [("403 Forbidden", "AccessDenied"), ("404 Not Found", "NoSuchBucket")] {
        let (endpoint, server) = play(vec![error(status, code)]);
        let failure = store(&endpoint).await.get(&key(), ByteRange::Whole, None).await.unwrap_err();
        assert!(matches!(&failure, Error::Refused { reason, .. } if reason.contains(code)), "{failure}");
        assert_eq!(server.join().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_concurrent_conditional_request_is_a_conflict() {
    // The SDK itself may try a conflict again; whatever it does, the port says what S3 said last.
    let (endpoint, _server) = play(vec![error("409 Conflict", "ConditionalRequestConflict"); 4]);
    let put = store(&endpoint).await.put(&key(), Bytes::new(), "text/plain", PutCondition::IfAbsent).await;
    assert!(matches!(put, Err(Error::Conflict { .. })), "{put:?}");
}

#[tokio::test]
async fn an_object_that_is_not_there_has_no_tag_to_match() {
    for (code, is_precondition) in [("NoSuchKey", true), ("NoSuchBucket", false)] {
        let (endpoint, server) = play(vec![error("404 Not Found", code)]);
        let condition = PutCondition::IfMatch(ETag("e".to_owned()));
        let put = store(&endpoint).await.put(&key(), Bytes::new(), "text/plain", condition).await;
        assert_eq!(matches!(put, Err(Error::Precondition { .. })), is_precondition, "{put:?}");
        assert_eq!(matches!(put, Err(Error::Refused { .. })), !is_precondition, "{put:?}");
        assert!(server.join().unwrap()[0].contains("if-match: \"e\"\r\n"));
    }
}

#[tokio::test]
async fn an_upload_is_one_plain_body_with_its_checksum_in_a_header() {
    let (endpoint, server) = play(vec![answer("200 OK", "etag: \"e\"\r\n", "")]);
    let body = Bytes::from_static(b"0123456789");
    let etag = store(&endpoint).await.put(&key(), body, "text/plain", PutCondition::IfAbsent).await.unwrap();
    assert_eq!(etag.0, "e");
    let heads = server.join().unwrap();
    assert!(heads[0].contains("content-length: 10\r\n"), "{}", heads[0]);
    assert!(heads[0].contains("x-amz-checksum-crc32: "), "{}", heads[0]);
    assert!(heads[0].contains("if-none-match: *\r\n"), "{}", heads[0]);
    assert!(!heads[0].contains("aws-chunked") && !heads[0].contains("x-amz-trailer"), "{}", heads[0]);
}

#[tokio::test]
async fn an_https_endpoint_is_greeted_in_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut greeting = [0; 2];
        listener.accept().unwrap().0.read_exact(&mut greeting).unwrap();
        greeting
    });
    let store = store(&endpoint).await;
    let failure = store.get(&key(), ByteRange::Whole, None).await.unwrap_err();
    assert!(matches!(failure, Error::Transient { .. }), "{failure}");
    assert_eq!(server.join().unwrap(), [0x16, 0x03], "a handshake record of tls");
}
