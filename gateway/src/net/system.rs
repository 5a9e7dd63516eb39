//! The sockets of the system, and what it tells of them.

use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpSocket;
pub use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::spawn_blocking;

use super::Connection;

/// Sockets between two threads, which belong to no runtime.
pub mod bare {
    pub use std::net::{TcpListener, TcpStream, UdpSocket};
}

/// Peers that the kernel holds for us until we accept them.
const BACKLOG: i32 = 1024;

/// A socket that peers can dial.
///
/// # Errors
/// The system's.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<bare::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    // An address that only closed connections still remember is free.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket that takes datagrams.
///
/// # Errors
/// The system's.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<bare::UdpSocket> {
    let socket = bare::UdpSocket::bind(addr)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Connects to `addr`.
///
/// # Errors
/// The system's.
pub(crate) async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    socket?.connect(addr).await
}

/// The addresses of `name`. The system's resolver cannot be cancelled: `running` is dropped when it has answered, whether
/// somebody still waits or not.
///
/// # Errors
/// The system's.
pub(crate) async fn look_up(name: &str, port: u16, running: impl Send + 'static) -> io::Result<Vec<SocketAddr>> {
    let name = name.to_owned();
    let looked_up = spawn_blocking(move || {
        let addrs = (&*name, port).to_socket_addrs().map(Iterator::collect);
        drop(running);
        addrs
    });
    looked_up.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Has the system notice, after `period`, that the other side has vanished.
///
/// # Errors
/// The system's.
pub(crate) fn keep_alive(stream: &TcpStream, period: Duration) -> io::Result<()> {
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(period).with_interval(period))
}

/// How long sent bytes may stay unacknowledged; `None` is the system's default.
pub(crate) fn set_user_timeout(stream: &TcpStream, limit: Option<Duration>) {
    // A connection that is gone needs no limit.
    let _ = SockRef::from(stream).set_tcp_user_timeout(limit);
}

/// Makes the coming close a reset.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    // A socket that is gone already needs no reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

impl<S: AsFd> Connection for S {
    fn has_hung_up(&self) -> bool {
        is_ready(self, PollFlags::RDHUP) == Some(true)
    }

    fn is_silent(&self) -> bool {
        is_ready(self, PollFlags::IN | PollFlags::RDHUP) == Some(false)
    }

    fn peek(&self) -> io::Result<usize> {
        SockRef::from(self).peek(&mut [MaybeUninit::uninit()])
    }

    fn taken_descriptors(&self) -> usize {
        // The system gives out the lowest free number.
        usize::try_from(self.as_fd().as_raw_fd()).unwrap_or(0)
    }
}

/// Whether `flags` hold now; `None` where the system does not say.
fn is_ready(socket: &impl AsFd, flags: PollFlags) -> Option<bool> {
    let mut polled = [PollFd::new(socket, flags)];
    poll(&mut polled, Some(&Timespec::default())).ok().map(|ready| ready > 0)
}
