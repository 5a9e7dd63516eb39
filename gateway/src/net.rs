//! The network as the gateway sees it: a [`Stream`] is TCP, TLS over TCP, or Unix, and everything else is written once
//! for all of them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixStream, unix};

use crate::config::ClientConfig;
use crate::tls::TlsStream;

#[cfg(feature = "simulation")]
pub mod simulated;
#[cfg(not(feature = "simulation"))]
mod system;

#[cfg(feature = "simulation")]
use simulated as system;
pub use system::{TcpListener, TcpStream, UdpSocket, bare};
pub(crate) use system::{bind, connect, listen, look_up};

/// A connected byte stream, to a peer or to the database.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Over TCP, encrypted.
    Tls(Box<TlsStream>),
}

/// What can be asked of a socket without reading from it.
pub(crate) trait Connection {
    /// Whether the other side has closed its half, even where bytes that it sent have not been read.
    fn has_hung_up(&self) -> bool;

    /// Whether nothing has come from the other side: no byte, and no end.
    fn is_silent(&self) -> bool;

    /// How many bytes a read of one would find: none at the end.
    ///
    /// # Errors
    /// What reading would say; it would wait.
    fn peek(&self) -> io::Result<usize>;

    /// How many file descriptors are taken at least, as this one was opened last.
    fn taken_descriptors(&self) -> usize;
}

/// The kernel counts in whole seconds, and refuses none.
const SHORTEST_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// The kernel refuses more.
const LONGEST_KEEP_ALIVE: Duration = Duration::from_secs(32_767);
/// Peers are watched for having vanished as often as the database is by default.
const PEER_KEEP_ALIVE: Duration = Duration::from_secs(30);

// === impl Stream ===

impl Stream {
    /// Wraps a connection that a peer made from `remote`; small answers leave at once, and a peer on another host that
    /// vanished is noticed. On this one the kernel tells.
    pub fn from_peer(stream: TcpStream, remote: SocketAddr) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        if !remote.ip().to_canonical().is_loopback() {
            keep_alive(&stream, PEER_KEEP_ALIVE)?;
        }
        Ok(Stream::Tcp(stream))
    }

    /// Wraps a connection that we made to the database, with the options that its configuration asks for.
    pub fn to_database(stream: TcpStream, config: &ClientConfig) -> io::Result<Stream> {
        Stream::prepare(&stream, config)?;
        Ok(Stream::Tcp(stream))
    }

    /// Gives a connection that we made to the database the options that its configuration asks for.
    pub fn prepare(stream: &TcpStream, config: &ClientConfig) -> io::Result<()> {
        stream.set_nodelay(true)?;
        if let Some(period) = config.tcp_keep_alive_period {
            keep_alive(stream, period)?;
        }
        if config.tcp_user_timeout.is_some() {
            system::set_user_timeout(stream, config.tcp_user_timeout);
        }
        Ok(())
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(stream) => Some(stream),
            Stream::Tls(stream) => Some(stream.tcp()),
            Stream::Unix(_) => None,
        }
    }

    fn connection(&self) -> &dyn Connection {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
            Stream::Tls(stream) => stream.tcp(),
        }
    }

    /// Whether it is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// `tls-server-end-point` of the server's certificate (RFC 5929), for SCRAM-SHA-256-PLUS: the database's, or towards
    /// a peer our own. None without TLS, or where the certificate's signature has no hash.
    pub fn channel_binding(&self) -> Option<Vec<u8>> {
        if let Stream::Tls(stream) = self { stream.channel_binding() } else { None }
    }

    /// The version of TLS, as PostgreSQL writes it; None without TLS.
    pub fn tls_version(&self) -> Option<&'static str> {
        if let Stream::Tls(stream) = self { stream.version() } else { None }
    }

    /// How long sent bytes may stay unacknowledged; `None` is the system's default.
    pub fn set_user_timeout(&self, limit: Option<Duration>) {
        if let Some(stream) = self.tcp() {
            system::set_user_timeout(stream, limit);
        }
    }

    /// Whether the other side has closed its half, even where bytes that it sent have not been read.
    pub fn has_hung_up(&self) -> bool {
        self.connection().has_hung_up()
    }

    /// Asks the kernel whether nothing has come from the other side: no byte, and no end.
    pub fn is_silent(&self) -> bool {
        self.connection().is_silent()
    }

    /// Makes the coming close a reset: what was cut off must not look like a regular end.
    pub fn reset_on_close(&self) {
        if let Some(stream) = self.tcp() {
            system::reset_on_close(stream);
        }
    }

    /// How many file descriptors are taken at least, as this one was opened last.
    pub fn taken_descriptors(&self) -> usize {
        self.connection().taken_descriptors()
    }

    /// Our own address, for logs.
    pub fn local(&self) -> Endpoint {
        match self {
            Stream::Tcp(stream) => stream.local_addr().into(),
            Stream::Unix(stream) => stream.local_addr().into(),
            Stream::Tls(stream) => stream.tcp().local_addr().into(),
        }
    }

    /// The other side's address, for logs.
    pub fn remote(&self) -> Endpoint {
        match self {
            Stream::Tcp(stream) => stream.peer_addr().into(),
            Stream::Unix(stream) => stream.peer_addr().into(),
            Stream::Tls(stream) => stream.tcp().peer_addr().into(),
        }
    }

    /// Asks the kernel whether the other side has neither closed nor reset the connection.
    pub fn is_open(&mut self) -> bool {
        if let Stream::Tls(stream) = self {
            // Bytes may be its close_notify, so they have to be understood.
            return stream.is_open();
        }
        self.connection().peek().map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |bytes| bytes > 0)
    }

    /// Ready when a read would not wait: there are bytes, or the other side has closed. With TLS it may find no data all
    /// the same, as with a ticket.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
            Stream::Tls(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Reads what is there without waiting.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_read(buffer),
            Stream::Unix(stream) => stream.try_read(buffer),
            Stream::Tls(stream) => stream.try_read(buffer),
        }
    }
}

fn keep_alive(stream: &TcpStream, period: Duration) -> io::Result<()> {
    let period = period.clamp(SHORTEST_KEEP_ALIVE, LONGEST_KEEP_ALIVE);
    system::keep_alive(stream, period)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            // Almost always there is room, and then nobody has to be woken when there is.
            Stream::Tcp(stream) => match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Pin::new(stream).poll_write(cx, bytes),
                written => Poll::Ready(written),
            },
            Stream::Unix(stream) => match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Pin::new(stream).poll_write(cx, bytes),
                written => Poll::Ready(written),
            },
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    /// What TLS has taken and the socket has not; there is nothing to do for the others.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(_) | Stream::Unix(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

/// One end of a connection, for logs; most Unix peers have no address of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An IP address and port.
    Ip(SocketAddr),
    /// A Unix socket.
    Path(PathBuf),
    /// A Unix socket without a name, or a connection that is gone.
    Unnamed,
}

// === impl Endpoint ===

impl From<io::Result<SocketAddr>> for Endpoint {
    fn from(addr: io::Result<SocketAddr>) -> Self {
        addr.map_or(Endpoint::Unnamed, Endpoint::Ip)
    }
}

impl From<io::Result<unix::SocketAddr>> for Endpoint {
    fn from(addr: io::Result<unix::SocketAddr>) -> Self {
        let path = addr.ok().and_then(|addr| addr.as_pathname().map(PathBuf::from));
        path.map_or(Endpoint::Unnamed, Endpoint::Path)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Ip(addr) => addr.fmt(out),
            Endpoint::Path(path) => path.display().fmt(out),
            Endpoint::Unnamed => out.write_str("unix"),
        }
    }
}
