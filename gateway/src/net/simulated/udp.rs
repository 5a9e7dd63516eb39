//! Datagrams: lost, doubled and late, as the link wants it.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::{GATEWAY, Reach, is_network, lock, network};
use crate::clock::{Instant, Sleep, sleep_until};

/// A socket for datagrams.
pub struct UdpSocket {
    mailbox: Arc<Mutex<Mailbox>>,
    local: SocketAddr,
}

/// What has come.
#[derive(Default)]
pub(super) struct Mailbox {
    /// The next that arrives first.
    datagrams: VecDeque<Datagram>,
    remote: Option<SocketAddr>,
    /// Nobody took what was sent last.
    is_refused: bool,
    readers: Vec<Waker>,
    alarm: Option<Sleep>,
}

struct Datagram {
    due: Instant,
    from: SocketAddr,
    bytes: Bytes,
}

/// Datagrams that wait for their reader; more are lost.
const CAPACITY: usize = 256;

// === impl UdpSocket ===

impl fmt::Debug for UdpSocket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.local.fmt(out)
    }
}

impl UdpSocket {
    /// A socket at `addr`; port 0 is any free one, and no address at all is the gateway's.
    ///
    /// # Errors
    /// Another has the address.
    pub fn open(addr: SocketAddr) -> io::Result<UdpSocket> {
        let network = network();
        let ip = if addr.ip().is_unspecified() { GATEWAY } else { addr.ip() };
        let local = SocketAddr::new(ip, if addr.port() == 0 { network.port() } else { addr.port() });
        let mut mailboxes = network.mailboxes.borrow_mut();
        if mailboxes.contains_key(&local) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let mailbox = Arc::new(Mutex::new(Mailbox::default()));
        mailboxes.insert(local, mailbox.clone());
        network.count(local.ip(), true);
        Ok(UdpSocket { mailbox, local })
    }

    /// As [`open`](UdpSocket::open).
    ///
    /// # Errors
    /// Another has the address.
    #[expect(clippy::unused_async, reason = "the system's is async")]
    pub async fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::open(addr)
    }

    /// The same socket in another runtime, which is this one.
    pub fn from_std(socket: UdpSocket) -> io::Result<UdpSocket> {
        Ok(socket)
    }

    /// Our own address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    /// Takes datagrams of `remote` only, and sends to it.
    ///
    /// # Errors
    /// None.
    #[expect(clippy::unused_async, reason = "the system's is async")]
    pub async fn connect(&self, remote: &SocketAddr) -> io::Result<()> {
        lock(&self.mailbox).remote = Some(*remote);
        Ok(())
    }

    /// Sends to whom it is connected.
    ///
    /// # Errors
    /// Nobody took what was sent before.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let remote = {
            let mut mailbox = lock(&self.mailbox);
            if std::mem::take(&mut mailbox.is_refused) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            mailbox.remote
        };
        self.send_to(bytes, remote.ok_or(io::ErrorKind::NotConnected)?).await
    }

    /// Sends to `to`.
    ///
    /// # Errors
    /// None: what is lost is lost.
    #[expect(clippy::unused_async, reason = "the system's is async")]
    pub async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        let network = network();
        let link = network.link(if to.ip() == GATEWAY { self.local.ip() } else { to.ip() });
        let (reach, latency, loss) = {
            let state = link.state();
            (state.reach, state.latency, state.loss)
        };
        let copies = match network.below(1000) {
            lot if lot < loss => 0,
            lot if lot < loss * 2 => 2,
            _ => 1,
        };
        if reach == Reach::Dark {
            return Ok(bytes.len());
        }
        let mailbox = network.mailboxes.borrow().get(&to).cloned();
        let Some(mailbox) = mailbox.filter(|_| reach == Reach::Open) else {
            lock(&self.mailbox).is_refused = true;
            return Ok(bytes.len());
        };
        for _ in 0..copies {
            let late = Duration::from_millis(network.below(1 + u64::try_from(latency.as_millis()).unwrap_or(0)));
            let datagram = Datagram {
                due: Instant::now() + latency + late,
                from: self.local,
                bytes: Bytes::copy_from_slice(bytes),
            };
            lock(&mailbox).arrive(datagram);
        }
        Ok(bytes.len())
    }

    /// Ready when there is a datagram, or an error.
    ///
    /// # Errors
    /// None.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| lock(&self.mailbox).poll_readable(cx)).await;
        Ok(())
    }

    /// Takes the next datagram without waiting, and tells whose it is.
    ///
    /// # Errors
    /// There is none; nobody took what was sent last.
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut mailbox = lock(&self.mailbox);
        if mailbox.remote.is_some() && std::mem::take(&mut mailbox.is_refused) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let is_here = mailbox.datagrams.front().is_some_and(|datagram| datagram.due <= Instant::now());
        let datagram = mailbox.datagrams.pop_front_if(|_| is_here).ok_or(io::ErrorKind::WouldBlock)?;
        let length = datagram.bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&datagram.bytes[..length]);
        Ok((length, datagram.from))
    }

    /// Takes the next datagram without waiting.
    ///
    /// # Errors
    /// There is none; nobody took what was sent last.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_recv_from(buffer).map(|(length, _)| length)
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        let Some(network) = is_network() else { return };
        network.count(self.local.ip(), false);
        network.mailboxes.borrow_mut().remove(&self.local);
    }
}

// === impl Mailbox ===

impl Mailbox {
    fn arrive(&mut self, datagram: Datagram) {
        let is_foreign = self.remote.is_some_and(|remote| remote != datagram.from);
        if is_foreign || self.datagrams.len() >= CAPACITY {
            return;
        }
        let place = self.datagrams.partition_point(|other| other.due <= datagram.due);
        self.datagrams.insert(place, datagram);
        self.readers.drain(..).for_each(Waker::wake);
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_refused && self.remote.is_some() {
            return Poll::Ready(());
        }
        if let Some(due) = self.datagrams.front().map(|datagram| datagram.due) {
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            let alarm = self.alarm.get_or_insert_with(|| sleep_until(due));
            alarm.reset(due);
            if Pin::new(alarm).poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        self.readers.push(cx.waker().clone());
        Poll::Pending
    }
}
