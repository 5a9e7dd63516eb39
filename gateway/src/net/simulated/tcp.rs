//! Streams: in order, at most so many bytes on the way, with ends and resets as TCP has them.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Link, Reach, is_network, lock, network};
use crate::clock::{Instant, Sleep, sleep, sleep_until};
use crate::net::Connection;

/// One end of a connection.
pub struct TcpStream {
    wire: Arc<Mutex<Wire>>,
    side: usize,
    local: SocketAddr,
    remote: SocketAddr,
    link: Arc<Link>,
}

/// Two ends.
pub(super) struct Wire {
    ends: [End; 2],
    capacity: usize,
}

/// What has come to one end.
#[derive(Default)]
struct End {
    incoming: VecDeque<Segment>,
    /// The bytes of `incoming`.
    queued: usize,
    /// When the other side's end arrives, and its reset.
    close_due: Option<Instant>,
    reset_due: Option<Instant>,
    /// Nobody reads here any more.
    is_closed: bool,
    /// Nothing is sent from here any more.
    has_ended: bool,
    resets_on_close: bool,
    /// What reading and writing say from now on.
    broken: Option<io::ErrorKind>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// For what is on its way.
    alarm: Option<Sleep>,
}

struct Segment {
    due: Instant,
    content: Content,
}

enum Content {
    Bytes(Bytes),
    End,
    Reset,
}

/// What reading finds.
enum Found {
    Bytes,
    End,
    Broken(io::ErrorKind),
    /// Something is due then.
    Later(Instant),
    Nothing,
}

/// Bytes on their way in one direction, from the least to the most that there is room for; small, so that backpressure is
/// common.
const CAPACITY: (u64, u64) = (4 * 1024, 64 * 1024);
/// Nobody vanishes without a simulation saying so.
#[expect(clippy::unnecessary_wraps, reason = "the system's may fail")]
pub(crate) fn keep_alive(_stream: &TcpStream, _period: Duration) -> io::Result<()> {
    Ok(())
}

/// The same.
pub(crate) fn set_user_timeout(_stream: &TcpStream, _limit: Option<Duration>) {}

/// Makes the coming close a reset.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    lock(&stream.wire).ends[stream.side].resets_on_close = true;
}

/// Breaks the connection for both ends.
pub(super) fn cut(wire: &Arc<Mutex<Wire>>, error: io::ErrorKind) {
    let mut wire = lock(wire);
    for end in &mut wire.ends {
        end.incoming.clear();
        end.queued = 0;
        end.broken = Some(error);
        end.wake();
    }
}

/// Whether what is due then is here.
fn has_come(due: Option<Instant>, link: &Link) -> bool {
    due.is_some_and(|due| due <= Instant::now()) && link.reach() != Reach::Dark
}

// === impl End ===

impl End {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn look(&self, link: &Link) -> Found {
        match self.incoming.front() {
            Some(_) if link.reach() == Reach::Dark => Found::Nothing,
            Some(segment) if segment.due > Instant::now() => Found::Later(segment.due),
            Some(Segment { content: Content::Bytes(_), .. }) => Found::Bytes,
            Some(Segment { content: Content::End, .. }) => Found::End,
            Some(Segment { content: Content::Reset, .. }) => Found::Broken(io::ErrorKind::ConnectionReset),
            None => self.broken.map_or(Found::Nothing, Found::Broken),
        }
    }

    /// Whether the other side is known to have ended or broken the connection.
    fn is_over(&self, link: &Link) -> bool {
        self.is_reset(link) || has_come(self.close_due, link)
    }

    fn is_reset(&self, link: &Link) -> bool {
        self.broken.is_some() || has_come(self.reset_due, link)
    }

    /// Takes bytes that have come.
    fn take(&mut self, most: usize) -> Bytes {
        let Some(Segment { content: Content::Bytes(bytes), .. }) = self.incoming.front_mut() else {
            return Bytes::new();
        };
        let taken = bytes.split_to(network().part(most.min(bytes.len())));
        if !bytes.has_remaining() {
            self.incoming.pop_front();
        }
        self.queued -= taken.len();
        taken
    }

    fn arrive(&mut self, content: Content, link: &Link) {
        let latency = link.latency();
        let jitter = Duration::from_millis(network().below(1 + u64::try_from(latency.as_millis()).unwrap_or(0)));
        let due = Instant::now() + latency + if latency.is_zero() { Duration::ZERO } else { jitter };
        let due = self.incoming.back().map_or(due, |last| last.due.max(due));
        match &content {
            Content::Bytes(bytes) => self.queued += bytes.len(),
            Content::End => self.close_due = Some(due),
            // The second says nothing that the first does not.
            Content::Reset if self.reset_due.is_some() => return,
            Content::Reset => self.reset_due = Some(due),
        }
        self.incoming.push_back(Segment { due, content });
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Forgets what has not arrived yet.
    fn lose_what_is_on_its_way(&mut self) {
        let now = Instant::now();
        while let Some(segment) = self.incoming.pop_back_if(|segment| segment.due > now) {
            if let Content::Bytes(bytes) = segment.content {
                self.queued -= bytes.len();
            }
        }
        self.close_due = self.close_due.filter(|due| *due <= now);
    }

    fn poll_alarm(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let alarm = self.alarm.get_or_insert_with(|| sleep_until(due));
        if alarm.deadline() != due {
            alarm.reset(due);
        }
        Pin::new(alarm).poll(cx)
    }
}

// === impl TcpStream ===

impl fmt::Debug for TcpStream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} to {}", self.local, self.remote)
    }
}

impl TcpStream {
    /// Connects from a port of `local` to `addr`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect_from(local: IpAddr, addr: SocketAddr) -> io::Result<TcpStream> {
        let network = network();
        let link = network.link(addr.ip());
        loop {
            let reach = poll_fn(|cx| link.poll_lit(cx)).await;
            let latency = link.latency();
            if !latency.is_zero() {
                sleep(latency * 2).await;
            }
            let listener = network.listeners.borrow().get(&addr).cloned();
            let Some(listener) = listener.filter(|_| reach == Reach::Open) else {
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            poll_fn(|cx| lock(&listener).poll_room(cx)).await;
            // It may have closed, or gone dark, meanwhile.
            let is_same = network.listeners.borrow().get(&addr).is_some_and(|now| Arc::ptr_eq(now, &listener));
            if is_same && link.reach() == Reach::Open {
                let (ours, theirs) = TcpStream::pair(SocketAddr::new(local, network.port()), addr, link);
                lock(&listener).arrive(theirs);
                return Ok(ours);
            }
        }
    }

    fn pair(from: SocketAddr, to: SocketAddr, link: Arc<Link>) -> (TcpStream, TcpStream) {
        let network = network();
        let (least, most) = CAPACITY;
        let capacity = usize::try_from(least + network.below(most - least)).unwrap_or(usize::MAX);
        let wire = Arc::new(Mutex::new(Wire { ends: [End::default(), End::default()], capacity }));
        link.adopt(&wire);
        network.count(from.ip(), true);
        network.count(to.ip(), true);
        let ours = TcpStream { wire: wire.clone(), side: 0, local: from, remote: to, link: link.clone() };
        (ours, TcpStream { wire, side: 1, local: to, remote: from, link })
    }

    /// Our own address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    /// The other side's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.remote)
    }

    /// What is written leaves at once in any case.
    pub fn set_nodelay(&self, _is_on: bool) -> io::Result<()> {
        Ok(())
    }

    /// The same stream in another runtime, which is this one.
    pub fn from_std(stream: TcpStream) -> io::Result<TcpStream> {
        Ok(stream)
    }

    /// The same stream outside of a runtime.
    pub fn into_std(self) -> io::Result<TcpStream> {
        Ok(self)
    }

    /// Ready when a read would not wait.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = lock(&self.wire);
        let end = &mut wire.ends[self.side];
        loop {
            match end.look(&self.link) {
                Found::Bytes | Found::End | Found::Broken(_) => return Poll::Ready(Ok(())),
                Found::Later(due) if end.poll_alarm(due, cx).is_ready() => {}
                Found::Later(_) | Found::Nothing => {
                    end.reader = Some(cx.waker().clone());
                    // What waits in the dark is looked at when there is light again.
                    let _ = self.link.poll_lit(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads what is there without waiting.
    ///
    /// # Errors
    /// There is nothing; the connection is broken.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = lock(&self.wire);
        let end = &mut wire.ends[self.side];
        match end.look(&self.link) {
            Found::Bytes => {
                let taken = end.take(buffer.len());
                buffer[..taken.len()].copy_from_slice(&taken);
                if let Some(writer) = wire.ends[1 - self.side].writer.take() {
                    writer.wake();
                }
                Ok(taken.len())
            }
            Found::End => Ok(0),
            Found::Broken(error) => {
                end.incoming.clear();
                end.queued = 0;
                end.broken = Some(error);
                Err(error.into())
            }
            Found::Later(_) | Found::Nothing => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes what there is room for without waiting.
    ///
    /// # Errors
    /// There is no room; the connection is broken.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = lock(&self.wire);
        let capacity = wire.capacity;
        let [end, other] = wire.ends_of(self.side);
        if end.has_ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if end.is_reset(&self.link) {
            return Err(end.broken.unwrap_or(io::ErrorKind::ConnectionReset).into());
        }
        if other.is_closed {
            // The answer to what nobody reads is a reset; the first who writes does not know yet.
            end.arrive(Content::Reset, &self.link);
            return Ok(bytes.len());
        }
        let room = capacity.saturating_sub(other.queued);
        if room == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let sent = network().part(bytes.len().min(room));
        other.arrive(Content::Bytes(Bytes::copy_from_slice(&bytes[..sent])), &self.link);
        Ok(sent)
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_read_ready(cx))?;
        let read = self.try_read(buffer.initialize_unfilled())?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                lock(&self.wire).ends[self.side].writer = Some(cx.waker().clone());
                Poll::Pending
            }
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = lock(&self.wire);
        let [end, other] = wire.ends_of(self.side);
        if end.is_reset(&self.link) {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        if !std::mem::replace(&mut end.has_ended, true) && !other.is_closed {
            other.arrive(Content::End, &self.link);
        }
        Poll::Ready(Ok(()))
    }
}

impl Connection for TcpStream {
    fn has_hung_up(&self) -> bool {
        lock(&self.wire).ends[self.side].is_over(&self.link)
    }

    fn is_silent(&self) -> bool {
        let wire = lock(&self.wire);
        let end = &wire.ends[self.side];
        matches!(end.look(&self.link), Found::Later(_) | Found::Nothing) && !end.is_over(&self.link)
    }

    fn peek(&self) -> io::Result<usize> {
        match lock(&self.wire).ends[self.side].look(&self.link) {
            Found::Bytes => Ok(1),
            Found::End => Ok(0),
            Found::Broken(error) => Err(error.into()),
            Found::Later(_) | Found::Nothing => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn taken_descriptors(&self) -> usize {
        0
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let Some(network) = is_network() else { return };
        network.count(self.local.ip(), false);
        let mut wire = lock(&self.wire);
        let [end, other] = wire.ends_of(self.side);
        end.is_closed = true;
        let has_unread = !end.incoming.is_empty() && end.queued > 0;
        if !other.is_closed && other.broken.is_none() {
            if end.resets_on_close || has_unread {
                if network.below(2) == 0 {
                    other.lose_what_is_on_its_way();
                }
                other.arrive(Content::Reset, &self.link);
            } else if !end.has_ended {
                other.arrive(Content::End, &self.link);
            }
            other.wake();
        }
    }
}

// === impl Wire ===

impl Wire {
    /// The end of `side`, and the other one.
    fn ends_of(&mut self, side: usize) -> [&mut End; 2] {
        let [first, second] = &mut self.ends;
        if side == 0 { [first, second] } else { [second, first] }
    }
}
