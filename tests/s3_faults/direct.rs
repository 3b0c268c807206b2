//! GETs past the SDK's orchestrator: which requests they are, and which the SDK makes instead. The SDK numbers its
//! attempts in a header that the others do not have.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::credential_fn::provide_credentials_fn;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, Credentials, ProvideCredentials, ResponseChecksumValidation, SharedCredentialsProvider,
    StalledStreamProtectionConfig,
};
use aws_smithy_async::time::TimeSource;
use metrics_engine::aws::{AwsSettings, clients_with_credentials};
use metrics_engine::keys::Key;
use metrics_engine::storage::s3::S3Storage;
use metrics_engine::storage::{ByteRange, ETag, Error, Object, ObjectStorage};

use super::{answer, error, key, play, play_as_it_is, store, support};

/// The number of the attempt that the SDK gave a request. None if it was not made by the SDK.
fn sdk_attempt(head: &str) -> Option<&str> {
    head.lines().find_map(|line| line.strip_prefix("amz-sdk-request: "))
}

async fn get(store: &S3Storage) -> Result<Object, Error> {
    store.get(&key(), ByteRange::Whole, None).await
}

/// The product's client with something changed.
async fn changed(endpoint: &str, change: impl FnOnce(Builder) -> Builder) -> S3Storage {
    let client = support::local_aws::clients(endpoint).await.s3;
    S3Storage::new(Client::from_conf(change(client.config().to_builder()).build()), "bucket")
}

fn digits(headers: &str) -> String {
    answer("200 OK", &format!("etag: \"e\"\r\n{headers}"), "0123456789")
}

#[tokio::test]
async fn a_get_is_one_signed_request_and_a_known_way_stays_open() {
    let (endpoint, server) = play(vec![digits(""), digits("")]);
    let store = store(&endpoint).await;
    for _ in 0..2 {
        let object = get(&store).await.unwrap();
        assert_eq!((object.bytes.as_ref(), object.etag.0.as_str(), object.size_bytes), (&b"0123456789"[..], "e", 10));
    }
    for head in server.join().unwrap() {
        assert!(head.starts_with("get /bucket/a/b?x-id=getobject http/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: aws4-hmac-sha256 credential=test/"), "{head}");
        assert!(head.contains("user-agent: aws-sdk-rust/"), "{head}");
        assert!(head.contains("x-amz-checksum-mode: enabled\r\n"), "{head}");
        assert_eq!(sdk_attempt(&head), None, "{head}");
    }
}

#[tokio::test]
async fn all_requests_of_a_client_take_the_same_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let open =
            |status: &str, body: &str| format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let missing = open("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>");
        for answer in [open("200 OK", ""), missing, open("200 OK", "x")] {
            while !lines.next().unwrap().unwrap().is_empty() {}
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    let store = store(&endpoint).await;
    // Nothing of an object is a HEAD, which the SDK makes.
    store.get(&key(), ByteRange::Suffix(0), None).await.unwrap();
    assert!(matches!(get(&store).await, Err(Error::NotFound { .. })));
    // A second connection is never answered.
    let object = tokio::time::timeout(Duration::from_secs(5), get(&store)).await.unwrap().unwrap();
    assert_eq!(object.bytes.as_ref(), b"x");
    server.join().unwrap();
}

#[tokio::test]
async fn a_range_of_an_object_has_the_size_of_the_whole() {
    let part = answer("206 Partial Content", "etag: \"e\"\r\ncontent-range: bytes 2-4/10\r\n", "234");
    let (endpoint, server) = play(vec![part]);
    let etag = ETag("e".to_owned());
    let object = store(&endpoint).await.get(&key(), ByteRange::Bounded(2..5), Some(&etag)).await.unwrap();
    assert_eq!((object.bytes.as_ref(), object.etag, object.size_bytes), (&b"234"[..], etag, 10));
    let heads = server.join().unwrap();
    assert!(heads[0].contains("range: bytes=2-4\r\n") && heads[0].contains("if-match: \"e\"\r\n"), "{}", heads[0]);
}

#[tokio::test]
async fn what_is_not_there_or_another_is_asked_for_once() {
    for (status, code) in [("404 Not Found", "NoSuchKey"), ("412 Precondition Failed", "PreconditionFailed")] {
        let (endpoint, server) = play(vec![error(status, code)]);
        let failure = get(&store(&endpoint).await).await.unwrap_err();
        assert_eq!(matches!(failure, Error::NotFound { .. }), code == "NoSuchKey", "{failure}");
        assert_eq!(matches!(failure, Error::Precondition { .. }), code == "PreconditionFailed", "{failure}");
        let heads = server.join().unwrap();
        assert_eq!(heads.iter().map(|head| sdk_attempt(head)).collect::<Vec<_>>(), [None]);
    }
}

#[tokio::test]
async fn a_refusal_reads_as_the_sdk_reads_it() {
    for (status, body) in [
        ("403 Forbidden", "<Error><Code>AccessDenied</Code><Message>a &amp; b</Message></Error>"),
        ("403 Forbidden", "<Error><Code>InvalidObjectState</Code><Message>cold</Message></Error>"),
        ("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>"),
        ("403 Forbidden", ""),
        ("403 Forbidden", "no xml"),
    ] {
        let (endpoint, server) = play(vec![answer(status, "", body); 2]);
        let clients = support::local_aws::clients(&endpoint).await;
        let ours = get(&S3Storage::new(clients.s3.clone(), "bucket")).await.unwrap_err();
        let theirs = clients.s3.get_object().bucket("bucket").key("a/b").send().await.unwrap_err();
        let theirs = metrics_engine::aws::failure::Failure::of(&theirs);
        assert!(matches!(&ours, Error::Refused { reason, .. } if *reason == theirs.reason), "{ours}, {theirs}");
        assert_eq!(server.join().unwrap().iter().filter(|head| sdk_attempt(head).is_some()).count(), 1);
    }
}

#[tokio::test]
async fn a_range_behind_the_end_is_empty() {
    let refused = error("416 Requested Range Not Satisfiable", "InvalidRange");
    let (endpoint, server) = play(vec![refused, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n".to_owned()]);
    let object = store(&endpoint).await.get(&key(), ByteRange::Bounded(10..12), None).await.unwrap();
    assert_eq!((object.bytes.len(), object.size_bytes), (0, 10));
    let heads = server.join().unwrap();
    assert!(heads[0].starts_with("get ") && heads[1].starts_with("head "), "{heads:?}");
}

#[tokio::test]
async fn what_may_be_better_next_time_is_the_sdk_s_with_one_attempt_less() {
    for (status, code) in [
        ("503 Slow Down", "SlowDown"),
        ("500 Internal Server Error", "InternalError"),
        ("429 Too Many Requests", "TooManyRequests"),
        ("403 Forbidden", "RequestTimeTooSkewed"),
        ("403 Forbidden", "SignatureDoesNotMatch"),
        ("400 Bad Request", "ExpiredToken"),
        ("307 Temporary Redirect", "TemporaryRedirect"),
    ] {
        let (endpoint, server) = play(vec![error(status, code), digits("")]);
        let object = get(&store(&endpoint).await).await.unwrap();
        assert_eq!(object.bytes.as_ref(), b"0123456789", "{code}");
        let heads = server.join().unwrap();
        assert_eq!(sdk_attempt(&heads[0]), None, "{code}");
        assert_eq!(sdk_attempt(&heads[1]), Some("attempt=1; max=3"), "{code}");
    }
}

#[tokio::test]
async fn a_silent_server_and_a_body_that_stands_still_are_given_up() {
    let grace = Duration::from_millis(200);
    let impatient = |builder: Builder| {
        let timeouts = TimeoutConfig::builder().read_timeout(grace).operation_attempt_timeout(2 * grace).build();
        let stalled = StalledStreamProtectionConfig::enabled().grace_period(grace).build();
        builder.timeout_config(timeouts).stalled_stream_protection(stalled)
    };
    for (first, attempt) in
        [("", "attempt=1; max=3"), ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01", "attempt=1; max=4")]
    {
        let (endpoint, server) = play_as_it_is(vec![first.to_owned(), digits("")], 1);
        let object = get(&changed(&endpoint, impatient).await).await.unwrap();
        assert_eq!(object.bytes.as_ref(), b"0123456789", "{first}");
        let heads = server.join().unwrap();
        assert_eq!([sdk_attempt(&heads[0]), sdk_attempt(&heads[1])], [None, Some(attempt)], "{first}");
    }
}

const CHECKSUMS: [(&str, &str); 5] = [
    ("crc32", "poTHxg=="),
    ("crc32c", "KAwGng=="),
    ("crc64nvme", "Ffmx7kz9nB0="),
    ("sha1", "h6zsF82dzSCnFsws9nQXtxyKcBY="),
    ("sha256", "hNiYd/DUBB77a/kaFvAkjy/Vc+avBcGflr7bn4gveII="),
];

#[tokio::test]
async fn a_body_is_what_its_checksum_says_or_is_fetched_again() {
    for (name, right) in CHECKSUMS {
        let with = |checksum: &str| digits(&format!("x-amz-checksum-{name}: {checksum}\r\n"));
        let (endpoint, server) = play(vec![with(right)]);
        assert!(get(&store(&endpoint).await).await.is_ok(), "{name}");
        assert_eq!(server.join().unwrap().len(), 1, "{name}");

        let wrong = with(&right.replacen(&right[..2], "zz", 1));
        let (endpoint, server) = play(vec![wrong.clone(), with(right)]);
        assert_eq!(get(&store(&endpoint).await).await.unwrap().bytes.as_ref(), b"0123456789");
        assert_eq!(server.join().unwrap().len(), 2, "{name}");

        let (endpoint, server) = play(vec![wrong; 3]);
        assert!(matches!(get(&store(&endpoint).await).await, Err(Error::Transient { .. })), "{name}");
        assert_eq!(server.join().unwrap().len(), 3, "{name}");
    }
}

#[tokio::test]
async fn a_checksum_of_parts_or_an_unwanted_one_is_passed_over() {
    let (endpoint, server) = play(vec![digits("x-amz-checksum-crc32: zzzzxg==-3\r\n")]);
    assert!(get(&store(&endpoint).await).await.is_ok());
    assert_eq!(server.join().unwrap().len(), 1);

    let (endpoint, server) = play(vec![digits("x-amz-checksum-crc32: zzzzxg==\r\n")]);
    let unwanted = ResponseChecksumValidation::WhenRequired;
    assert!(get(&changed(&endpoint, |builder| builder.response_checksum_validation(unwanted)).await).await.is_ok());
    let heads = server.join().unwrap();
    assert!(heads.len() == 1 && !heads[0].contains("x-amz-checksum-mode"), "{heads:?}");
}

#[tokio::test]
async fn a_body_of_many_pieces_is_put_together() {
    let body = "0123456789".repeat(300_000);
    let (endpoint, _server) = play(vec![answer("200 OK", "", &body)]);
    assert!(get(&store(&endpoint).await).await.unwrap().bytes == body);

    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n";
    let (endpoint, _server) = play(vec![chunked.to_owned()]);
    assert_eq!(get(&store(&endpoint).await).await.unwrap().bytes.as_ref(), b"0123456789");
}

/// Time that is set.
#[derive(Debug, Clone)]
struct Hands(Arc<AtomicU64>);

impl TimeSource for Hands {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// Credentials that are others with every hour.
fn hourly(hands: &Hands) -> impl ProvideCredentials + 'static {
    let hands = hands.clone();
    provide_credentials_fn(move || {
        let hour = hands.0.load(Ordering::SeqCst) / 3_600;
        let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs((hour + 1) * 3_600);
        std::future::ready(Ok(Credentials::new("key", "secret", Some(format!("token-{hour}")), Some(expiry), "test")))
    })
}

#[tokio::test]
async fn credentials_are_kept_until_they_expire_and_their_token_is_sent() {
    let (endpoint, server) = play(vec![digits(""); 3]);
    let hands = Hands(Arc::new(AtomicU64::new(500_000 * 3_600)));
    let provider = SharedCredentialsProvider::new(hourly(&hands));
    let store = changed(&endpoint, |builder| builder.time_source(hands.clone()).credentials_provider(provider)).await;
    for wait in [0, 1_800, 1_800] {
        hands.0.fetch_add(wait, Ordering::SeqCst);
        get(&store).await.unwrap();
    }
    for (head, token) in server.join().unwrap().iter().zip(["token-500000", "token-500000", "token-500001"]) {
        assert!(head.contains(&format!("x-amz-security-token: {token}\r\n")), "{head}");
        assert!(head.contains(";x-amz-security-token, signature="), "{head}");
        assert_eq!(sdk_attempt(head), None, "{head}");
    }
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let settings = AwsSettings {
        region: "us-east-1".to_owned(),
        endpoint_url: Some("http://127.0.0.1:9".to_owned()),
        ..AwsSettings::default()
    };
    let nothing = provide_credentials_fn(|| async { Err(CredentialsError::not_loaded("none here")) });
    let nothing = SharedCredentialsProvider::new(nothing);
    let store = S3Storage::new(clients_with_credentials(&settings, nothing).await.s3, "bucket");
    let failure = store.get(&Key::parse("a/b").unwrap(), ByteRange::Whole, None).await.unwrap_err();
    assert!(failure.to_string().contains("none here"), "{failure}");
}
