//! A proxy in front of the local AWS that logs every request on its way, as the service will read it, and can let some
//! wait or fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// A body's beginning is logged: enough for whatever names an action or a resource.
const LOGGED_BODY_BYTES: usize = 64 << 10;

/// A request as it was sent.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    /// Decoded.
    pub path: String,
    /// Decoded; empty values where there are none.
    pub query: BTreeMap<String, String>,
    /// By their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// Its first 64 KiB.
    pub body: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It goes on.
    Free,
    /// It goes on after this time.
    Slow(Duration),
    /// It is answered 503 and goes nowhere.
    Unavailable,
}

/// The proxy.
pub struct RequestLog {
    /// Its own URL.
    pub endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl RequestLog {
    /// Listens in front of the endpoint; `way` decides over each request.
    pub async fn start(endpoint: &str, way: impl Fn(&Request) -> Way + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = format!("http://{}", listener.local_addr().unwrap());
        let (service, way) = (endpoint.strip_prefix("http://").unwrap().to_owned(), Arc::new(way));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (service, way, log) = (service.clone(), Arc::clone(&way), Arc::clone(&log));
                tokio::spawn(async move {
                    let service = TcpStream::connect(service).await.unwrap();
                    pass(client, service, &*way, &log).await;
                });
            }
        });
        Self { endpoint: own, requests }
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// One connection: requests come one after the other, and answers go back as they are.
async fn pass(
    client: TcpStream,
    service: TcpStream,
    way: &(dyn Fn(&Request) -> Way + Sync),
    log: &Mutex<Vec<Request>>,
) {
    let (mut from_client, to_client) = client.into_split();
    let (from_service, mut to_service) = service.into_split();
    let to_client = Arc::new(tokio::sync::Mutex::new(to_client));
    let back = tokio::spawn(answers(from_service, Arc::clone(&to_client)));
    let mut buffer = Vec::new();
    while let Some(end) = head(&mut from_client, &mut buffer).await {
        let head: Vec<u8> = buffer.drain(..end).collect();
        let mut request = parse(&String::from_utf8_lossy(&head));
        let chosen = way(&request);
        if let Way::Slow(delay) = chosen {
            tokio::time::sleep(delay).await;
        }
        let is_free = chosen != Way::Unavailable;
        if is_free && to_service.write_all(&head).await.is_err() {
            break;
        }
        let mut left = request.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = Vec::new();
        while left > 0 {
            if buffer.is_empty() && from_client.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                break;
            }
            let chunk: Vec<u8> = buffer.drain(..buffer.len().min(left)).collect();
            left -= chunk.len();
            body.extend(chunk.iter().take(LOGGED_BODY_BYTES.saturating_sub(body.len())));
            if is_free && to_service.write_all(&chunk).await.is_err() {
                break;
            }
        }
        request.body = String::from_utf8_lossy(&body).into_owned();
        log.lock().unwrap().push(request);
        if !is_free {
            let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
            to_client.lock().await.write_all(answer).await.unwrap_or_default();
        }
    }
    back.abort();
}

async fn answers(mut from_service: OwnedReadHalf, to_client: Arc<tokio::sync::Mutex<OwnedWriteHalf>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from_service.read(&mut buffer).await {
        if to_client.lock().await.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    to_client.lock().await.shutdown().await.unwrap_or_default();
}

/// Reads until the buffer has a whole head; where it ends. Nothing at the end of the connection.
async fn head(from_client: &mut OwnedReadHalf, buffer: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(start) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            return Some(start + 4);
        }
        if from_client.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

fn parse(head: &str) -> Request {
    let (first, rest) = head.split_once("\r\n").unwrap();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let headers = rest.lines().filter_map(|line| line.split_once(':'));
    let headers: BTreeMap<_, _> = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
    assert!(!headers.contains_key("transfer-encoding"), "a body without a length: {head}");
    Request { method, path: decoded(path), query: form(query), headers, body: String::new() }
}

/// The fields of a query, or of a form.
pub fn form(text: &str) -> BTreeMap<String, String> {
    let fields = text.split('&').filter(|field| !field.is_empty());
    fields
        .map(|field| {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            (decoded(name), decoded(&value.replace('+', " ")))
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| hex::decode(tail.get(..2)?).ok()).flatten();
        rest = if escaped.is_some() { &tail[2..] } else { tail };
        bytes.push(escaped.map_or(*first, |byte| byte[0]));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
