//! The API on a port of its own: a listener and the router in; served until it is told to stop.
//!
//! Whoever can reach the port can open connections and say nothing, or one byte a second. So there is a bound on how many
//! there are, and one on the time that each of them has: to send the head of a request, and as a whole.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use lambda_http::tower::{Service, ServiceExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// After a failure to accept, for want of file descriptors for instance, others may end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The head of a request, and what is read ahead of it.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// What a connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at a time; the next ones wait to be accepted.
    pub connections: usize,
    /// From the end of one request, or the beginning, to the end of the next one's head.
    pub head: Duration,
    /// A connection as a whole. Afterwards it takes no further request.
    pub connection: Duration,
    /// What is under way then, or when serving stops, may take so long yet.
    pub end: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connections: 512, head: seconds(10), connection: seconds(300), end: seconds(20) }
    }
}

/// Listens on the address. From now on it is known whether that is possible.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "the API listens");
    Ok(listener)
}

/// Serves until `stopped` is done; calls that are under way then are answered.
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds, stopped: impl Future<Output = ()> + Send) {
    let room = Arc::new(Semaphore::new(bounds.connections));
    let (stopping, is_stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stopped = pin!(stopped);
    loop {
        let accepting = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            biased;
            () = &mut stopped => break,
            accepted = accepting => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, is_stopping) = (router.clone(), is_stopping.clone());
                connections.spawn(async move {
                    converse(stream, router, bounds, is_stopping).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// One connection, to its end.
async fn converse(stream: TcpStream, router: Router, bounds: Bounds, mut is_stopping: watch::Receiver<bool>) {
    // An answer is written at once: there is nothing to wait for.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "answers may be delayed");
    }
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(MAX_BUFFER_BYTES);
    let service = TowerToHyperService::new(called(router));
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = is_stopping.wait_for(|is_stopping| *is_stopping) => None,
        () = tokio::time::sleep(bounds.connection) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            let Ok(ended) = tokio::time::timeout(bounds.end, connection).await else {
                tracing::debug!("a connection did not end in time");
                return;
            };
            ended
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection failed");
    }
}

/// The router, for what comes from a connection.
fn called(
    router: Router,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send {
    router.map_request(|request: Request<Incoming>| request.map(Body::new))
}
