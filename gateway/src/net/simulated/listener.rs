//! Who connects, until it is accepted.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::tcp::{TcpStream, reset_on_close};
use super::{is_network, lock, network};

/// A socket that is dialed.
pub struct TcpListener {
    backlog: Arc<Mutex<Backlog>>,
    addr: SocketAddr,
}

/// Who has connected and was not accepted yet.
#[derive(Default)]
pub(super) struct Backlog {
    waiting: VecDeque<TcpStream>,
    acceptor: Option<Waker>,
    /// Who waits for a place.
    dialers: Vec<Waker>,
}

/// Places in a backlog.
const BACKLOG: usize = 16;

// === impl Backlog ===

impl Backlog {
    /// Ready when one more can be taken.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.len() < BACKLOG {
            return Poll::Ready(());
        }
        self.dialers.push(cx.waker().clone());
        Poll::Pending
    }

    /// One more has connected.
    pub(super) fn arrive(&mut self, stream: TcpStream) {
        self.waiting.push_back(stream);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.wake();
        }
    }
}

// === impl TcpListener ===

impl fmt::Debug for TcpListener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addr.fmt(out)
    }
}

impl TcpListener {
    /// A socket that can be dialed at `addr`; port 0 is any free one.
    ///
    /// # Errors
    /// Another has the address.
    pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
        let network = network();
        let addr = if addr.port() == 0 { SocketAddr::new(addr.ip(), network.port()) } else { addr };
        let mut listeners = network.listeners.borrow_mut();
        if listeners.contains_key(&addr) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let backlog = Arc::new(Mutex::new(Backlog::default()));
        listeners.insert(addr, backlog.clone());
        network.count(addr.ip(), true);
        Ok(TcpListener { backlog, addr })
    }

    /// The same listener in another runtime, which is this one.
    pub fn from_std(listener: TcpListener) -> io::Result<TcpListener> {
        Ok(listener)
    }

    /// Our own address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    /// The next that connects, and its address.
    ///
    /// # Errors
    /// None.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| {
            let mut backlog = lock(&self.backlog);
            let Some(stream) = backlog.waiting.pop_front() else {
                backlog.acceptor = Some(cx.waker().clone());
                return Poll::Pending;
            };
            backlog.dialers.drain(..).for_each(Waker::wake);
            let remote = stream.peer_addr()?;
            Poll::Ready(Ok((stream, remote)))
        })
        .await
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        let Some(network) = is_network() else { return };
        network.count(self.addr.ip(), false);
        network.listeners.borrow_mut().remove(&self.addr);
        // Who was not accepted meets a reset.
        let refused = {
            let mut backlog = lock(&self.backlog);
            backlog.dialers.drain(..).for_each(Waker::wake);
            std::mem::take(&mut backlog.waiting)
        };
        refused.iter().for_each(reset_on_close);
    }
}
