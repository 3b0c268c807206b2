//! The API on a port of its own: a listener and the router in; served until it is told to stop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;

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
pub async fn serve(listener: TcpListener, router: Router, stopped: impl Future<Output = ()> + Send + 'static) {
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
        tracing::error!(%error, "the API is served no longer");
    }
}
