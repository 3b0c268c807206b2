//! A way to a server that can be shut, held up and opened again: requests that meet the store's worst moments.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a new connection meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It goes through.
    Open,
    /// It waits until the gate is open.
    Held,
    /// It is closed.
    Shut,
}

/// The gate; it listens until it is dropped.
pub(crate) struct Gate {
    pub(crate) endpoint: String,
    way: watch::Sender<Way>,
}

impl Gate {
    /// Listens before a server on the loopback interface.
    pub(crate) async fn before(server: &str, way: Way) -> Self {
        let server: SocketAddr = server.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (way, seen) = watch::channel(way);
        tokio::spawn(async move {
            let mut closed = seen.clone();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    // The gate is dropped.
                    _ = closed.wait_for(|_| false) => return,
                };
                tokio::spawn(pass(accepted.unwrap().0, server, seen.clone()));
            }
        });
        Self { endpoint, way }
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, mut way: watch::Receiver<Way>) {
    let Ok(way) = way.wait_for(|way| *way != Way::Held).await.map(|way| *way) else { return };
    if way == Way::Open {
        let mut server = TcpStream::connect(server).await.unwrap();
        // Whoever closes first, the other one notices.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
