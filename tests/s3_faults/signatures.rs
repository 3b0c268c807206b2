//! What the engine signs, as a server would verify it: the signature is computed once more from what came over the
//! wire, by the rules of AWS's documentation ("Signature Version 4 for S3: authenticating by header"), and what they
//! call the canonical request is put together from the key itself.

use std::collections::BTreeMap;
use std::fmt::Write;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Credentials;
use metrics_engine::keys::Key;
use metrics_engine::storage::s3::S3Storage;
use metrics_engine::storage::{ByteRange, ETag, ObjectStorage};
use sha2::{Digest, Sha256};

use super::{answer, play_as_it_is, support};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    assert!(key.len() <= 64, "a longer key would be hashed first");
    let padded = |with: u8| (0..64).map(|index| key.get(index).copied().unwrap_or(0) ^ with).collect::<Vec<u8>>();
    let inner = Sha256::digest([&padded(0x36)[..], text.as_bytes()].concat());
    Sha256::digest([&padded(0x5c)[..], &inner[..]].concat()).to_vec()
}

/// `UriEncode` of the documentation, with slashes left.
fn uri_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => encoded.push(byte.into()),
            _ => write!(encoded, "%{byte:02X}").unwrap(),
        }
    }
    encoded
}

/// Panics if a server would refuse this request for that key.
fn verify(head: &str, key: &str) {
    let (request, lines) = head.trim_end().split_once("\r\n").unwrap();
    let headers: BTreeMap<String, &str> = lines
        .split("\r\n")
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value))
        .collect();
    let path = format!("/bucket/{}", uri_encoded(key));
    assert_eq!(request, format!("GET {path}?x-id=GetObject HTTP/1.1"));

    let authorization = headers["authorization"].strip_prefix("AWS4-HMAC-SHA256 Credential=AKID/").unwrap();
    let (scope, rest) = authorization.split_once(", SignedHeaders=").unwrap();
    let (names, signature) = rest.split_once(", Signature=").unwrap();
    for name in headers
        .keys()
        .filter(|name| name.starts_with("x-amz-") || ["host", "range", "if-match"].contains(&name.as_str()))
    {
        let is_signed = names.split(';').any(|signed| signed == name);
        assert!(is_signed || name == "x-amz-user-agent", "{name} is not signed: {names}");
    }
    let lines: String = names.split(';').map(|name| format!("{name}:{}\n", headers[name].trim())).collect();
    let body = headers["x-amz-content-sha256"];
    assert_eq!(body, hex::encode(Sha256::digest(b"")));
    let canonical = format!("GET\n{path}\nx-id=GetObject\n{lines}\n{names}\n{body}");
    let date = headers["x-amz-date"];
    assert_eq!(scope, format!("{}/us-east-1/s3/aws4_request", &date[..8]));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let key = scope.split('/').fold(format!("AWS4{SECRET}").into_bytes(), |key, part| hmac(&key, part));
    assert_eq!(hex::encode(hmac(&key, &text)), signature, "{head}");
}

async fn client(endpoint: &str, token: Option<&str>) -> Client {
    let credentials = Credentials::new("AKID", SECRET, token.map(str::to_owned), None, "test");
    let config = support::local_aws::clients(endpoint).await.s3.config().to_builder();
    Client::from_conf(config.credentials_provider(credentials).build())
}

const KEYS: [&str; 7] =
    ["a/b", "a b/c+d", "year=2024/part%20x", "~!@#$&'(),;?[]{}|\\\"<>`^*", "a/%2e%2e/..b", "-._~/0:1", "a&b=c?x=y"];

#[tokio::test]
async fn a_server_that_verifies_accepts_every_key_range_and_tag() {
    for token in [None, Some("a/token+with=signs")] {
        let (endpoint, server) = play_as_it_is(vec![answer("200 OK", "", "x"); 2 * KEYS.len()], 0);
        let store = S3Storage::new(client(&endpoint, token).await, "bucket");
        let etag = ETag("0123-4".to_owned());
        for text in KEYS {
            let key = Key::parse(text).unwrap();
            store.get(&key, ByteRange::Whole, None).await.unwrap();
            store.get(&key, ByteRange::Suffix(9), Some(&etag)).await.unwrap();
        }
        for (head, key) in server.join().unwrap().iter().zip(KEYS.iter().flat_map(|key| [key; 2])) {
            assert!(!head.contains("amz-sdk-request"), "{head}");
            assert_eq!(head.contains("x-amz-security-token: "), token.is_some(), "{head}");
            verify(head, key);
        }
    }
}

/// The rules above are right: the SDK keeps them too.
#[tokio::test]
async fn the_sdk_s_own_requests_verify_as_well() {
    let (endpoint, server) = play_as_it_is(vec![answer("200 OK", "", "x"); KEYS.len()], 0);
    let client = client(&endpoint, Some("token")).await;
    for key in KEYS {
        client.get_object().bucket("bucket").key(key).range("bytes=-9").send().await.unwrap();
    }
    for (head, key) in server.join().unwrap().iter().zip(KEYS) {
        assert!(head.contains("amz-sdk-request"), "{head}");
        verify(head, key);
    }
}
