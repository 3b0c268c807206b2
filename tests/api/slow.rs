//! Clients that take their time, and more of them than there is room for.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::Request;
use futures::stream;
use metrics_engine::control::api::serve::{Bounds, listen, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::caller::{Caller, with_key};

const BOUNDS: Bounds = Bounds {
    connections: 2,
    head: Duration::from_millis(400),
    connection: Duration::from_millis(1_200),
    end: Duration::from_millis(400),
};

/// Longer than all bounds together, and shorter than a test that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

async fn served(bounds: Bounds) -> Served {
    let router = Caller::new().await.router;
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(serve(listener, router, bounds, async move { stopped.await.unwrap_or_default() }));
    Served { address, stop, server }
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// What comes until the server closes, and how long that takes.
async fn to_the_end(stream: &mut TcpStream) -> (String, Duration) {
    let start = Instant::now();
    let mut bytes = Vec::new();
    // A connection that is cut off may be reset.
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection stays open");
    drop(read);
    (String::from_utf8_lossy(&bytes).into_owned(), start.elapsed())
}

async fn ask(stream: &mut TcpStream, head: &str) {
    stream.write_all(head.as_bytes()).await.unwrap();
}

const ASSET: &str = "GET /assets/icon.svg HTTP/1.1\r\nHost: h\r\n\r\n";
const LAST: &str = "GET /assets/icon.svg HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn whoever_says_nothing_is_cut_off() {
    let served = served(BOUNDS).await;
    let mut silent = served.connect().await;
    let (said, time) = to_the_end(&mut silent).await;
    assert_eq!(said, "");
    assert!(time >= BOUNDS.head, "{time:?}");
}

#[tokio::test]
async fn whoever_says_a_byte_at_a_time_is_cut_off_all_the_same() {
    let served = served(BOUNDS).await;
    let (mut hears, mut says) = served.connect().await.into_split();
    let dribbling = tokio::spawn(async move {
        for byte in LAST.bytes().cycle().filter(|byte| *byte != b'\r' && *byte != b'\n') {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if says.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    let mut said = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, hears.read_to_end(&mut said)).await.expect("the connection stays open");
    assert!(start.elapsed() < BOUNDS.connection, "it is the head that is late");
    tokio::time::timeout(PATIENCE, dribbling).await.expect("bytes are still taken").unwrap();
}

#[tokio::test]
async fn one_connection_has_many_requests_but_not_for_ever() {
    let served = served(BOUNDS).await;
    let mut stream = served.connect().await;
    let start = Instant::now();
    let mut asked = 0;
    while start.elapsed() < PATIENCE {
        asked += 1;
        let mut answer = vec![0; 4_096];
        if stream.write_all(ASSET.as_bytes()).await.is_err() || stream.read(&mut answer).await.unwrap_or(0) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(asked > 3, "the first requests were answered: {asked}");
    assert!(start.elapsed() >= BOUNDS.connection && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[tokio::test]
async fn whoever_reads_nothing_is_cut_off() {
    let served = served(BOUNDS).await;
    let mut deaf = served.connect().await;
    let start = Instant::now();
    let asking = async {
        // Until the answers fill all buffers between us, and nothing is taken any more.
        while deaf.write_all("GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n".as_bytes()).await.is_ok() {}
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the connection stays open");
    assert!(start.elapsed() >= BOUNDS.connection, "{:?}", start.elapsed());
}

#[tokio::test]
async fn there_are_no_more_connections_than_allowed_and_the_next_one_waits() {
    let bounds = Bounds { head: Duration::from_millis(1_500), connection: PATIENCE, ..BOUNDS };
    let served = served(bounds).await;
    let (first, second) = (served.connect().await, served.connect().await);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut third = served.connect().await;
    ask(&mut third, LAST).await;
    let (answer, time) = to_the_end(&mut third).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(time > Duration::from_millis(500), "it waited for one of the silent ones: {time:?}");
    drop((first, second));
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_waits_for_no_silent_one() {
    let bounds = Bounds { head: PATIENCE, connection: PATIENCE, ..BOUNDS };
    let served = served(bounds).await;
    let (mut idle, mut silent) = (served.connect().await, served.connect().await);
    ask(&mut idle, ASSET).await;
    assert!(idle.read(&mut [0; 4_096]).await.unwrap() > 0);
    ask(&mut silent, "GET /").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.send(()).unwrap();
    let start = Instant::now();
    served.server.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(to_the_end(&mut idle).await.0.matches("HTTP/1.1").count(), 0, "nothing was left to say");
    assert!(TcpStream::connect(served.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let served = served(Bounds { head: PATIENCE, connection: PATIENCE, ..BOUNDS }).await;
    let mut stream = served.connect().await;
    let _ = stream.write_all(format!("GET / HTTP/1.1\r\nHost: h\r\nX-Long: {}", "x".repeat(100_000)).as_bytes()).await;
    let (said, time) = to_the_end(&mut stream).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    assert!(time < PATIENCE / 2, "{time:?}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_problem() {
    let caller = Caller::new().await;
    let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let request = with_key(Request::put("/metrics/m")).body(never).unwrap();
    // Time goes on when nobody has anything to do.
    tokio::time::pause();
    let answer = caller.send(request).await;
    assert_eq!((answer.status, answer.problem().as_str()), (408, "body-too-slow"));
}
