//! The minimal relay: accept, connect, copy both ways, nothing else. What a proxy cannot be much better than.

use std::io;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

/// Bytes per direction, as the gateway's own default chunk.
const BUFFER: usize = 8192;

/// Relays until it is killed.
pub(crate) fn run(listen: SocketAddr, upstream: SocketAddr) -> io::Result<()> {
    Builder::new_current_thread().enable_io().build()?.block_on(serve(listen, upstream))
}

#[expect(clippy::disallowed_methods, reason = "the relay is what everybody would write, without an owner for tasks")]
async fn serve(listen: SocketAddr, upstream: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (peer, _) = listener.accept().await?;
        peer.set_nodelay(true)?;
        tokio::spawn(relay(peer, upstream));
    }
}

async fn relay(mut peer: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let mut client = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut peer, &mut client, BUFFER, BUFFER).await?;
    Ok(())
}
