//! Moves the bytes of one session, both ways, until both have ended. What was read is written at once from a buffer
//! that the whole thread shares; only what the other side did not take is kept, and then reading stops. So a result of
//! any size needs no memory, and an idle session has no buffer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::{Level, debug, enabled, warn};

use super::ended::Ended;
use super::presence::Presence;
use super::scanner::{Decision, Scanner, Verdict};
use super::watchdog::{Passed, Watchdog};
use crate::clock::sleep;
use crate::config::ProxyConfig;
use crate::metrics::SessionMetrics;
use crate::net::Stream;
use crate::shutdown::Drain;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the peer to the database.
    ToDatabase,
    /// From the database to the peer.
    ToPeer,
}

/// One session's bytes.
pub(super) struct Relay<'a, S> {
    pub(super) peer: &'a mut Stream,
    pub(super) client: &'a mut Stream,
    pub(super) scanner: S,
    pub(super) watchdog: Option<Box<Watchdog>>,
    pub(super) config: &'a ProxyConfig,
    pub(super) presence: &'a Presence,
    pub(super) metrics: &'a SessionMetrics,
    pub(super) flows: Flows,
}

/// Both directions of a session.
#[derive(Default)]
pub(super) struct Flows {
    to_database: Flow,
    to_peer: Flow,
    first_eof: Option<Direction>,
    last: Option<Direction>,
    moved: u64,
    /// A reply was given to a direction, or has left it, after the other one was polled.
    has_reply: bool,
}

/// One direction.
#[derive(Default)]
struct Flow {
    stage: Stage,
    /// What was read and not yet taken by the other side.
    unsent: BytesMut,
    /// Whether a hook has what was read.
    is_held: bool,
    /// Whether a hook's reply is among what is unsent.
    is_replying: bool,
}

#[derive(Default)]
enum Stage {
    #[default]
    Reading,
    /// The source has ended; what is unsent goes first, then the end is passed on.
    Ending,
    Ended,
    /// The destination is gone; the other direction goes on until it ends too, so that last words are heard.
    Broken(io::Error),
}

/// Chunks of one direction before the other one has its turn: enough to be fast, few enough to be fair.
const MOST_STEPS: usize = 32;
/// While the gateway drains, a session that was quiet for this long after an answer is at its boundary.
const QUIET: Duration = Duration::from_millis(100);

thread_local! {
    /// What one read of this thread returns; nothing stays in it between two polls.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

// === impl Relay ===

impl<S: Scanner> Relay<'_, S> {
    /// Takes what was read before the session had its client: from the peer while it waited, or from the database.
    pub(super) fn begin_with(&mut self, direction: Direction, early: &[u8]) {
        if early.is_empty() {
            return;
        }
        if enabled!(Level::DEBUG) {
            log_chunk(direction, early.len(), if direction == Direction::ToDatabase { self.peer } else { self.client });
        }
        self.note_received(direction);
        if self.scanner.scan(direction, early) == Decision::Forward {
            self.flows.of(direction).unsent.extend_from_slice(early);
        } else {
            self.flows.of(direction).is_held = true;
        }
    }

    /// Moves bytes until the session ends; cancel-safe.
    pub(super) async fn run(&mut self, drain: &Drain) -> Ended {
        if let Some(ended) = self.run_until_closing(drain).await {
            return ended;
        }
        let presence = self.presence;
        loop {
            let moved = self.flows.moved;
            tokio::select! {
                biased;
                ended = poll_fn(|cx| self.poll(cx)) => return ended,
                () = drain.over() => return Ended::Cut,
                () = presence.killed() => return Ended::Killed,
                () = sleep(QUIET) => {
                    let is_abandoned = drain.is_orphaned() && self.flows.has_peer_left();
                    if self.flows.moved == moved && (is_abandoned || self.flows.is_at_boundary()) {
                        return Ended::Drain;
                    }
                }
            }
        }
    }

    /// Moves bytes until the session ends, or sessions are to close at their boundaries.
    async fn run_until_closing(&mut self, drain: &Drain) -> Option<Ended> {
        let mut closing = pin!(drain.closing());
        let mut is_awaited = false;
        poll_fn(|cx| {
            if let Poll::Ready(ended) = self.poll(cx) {
                return Poll::Ready(Some(ended));
            }
            // Polled once, it wakes this task when the time has come; polled for every byte it would cost two locks.
            let is_closing = if is_awaited { drain.is_closing() } else { closing.as_mut().poll(cx).is_ready() };
            let is_killed =
                if is_awaited { self.presence.is_killed() } else { self.presence.poll_killed(cx).is_ready() };
            is_awaited = true;
            if is_killed {
                return Poll::Ready(Some(Ended::Killed));
            }
            if is_closing { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Poll::Ready(ended) = self.poll_flows(cx) {
            return Poll::Ready(ended);
        }
        loop {
            let Some(watchdog) = &mut self.watchdog else { return Poll::Pending };
            match ready!(watchdog.poll(cx)) {
                Passed::End(expired) => return Poll::Ready(Ended::Expired(expired)),
                Passed::BePatient => self.client.set_user_timeout(None),
                Passed::Warn => {
                    self.metrics.receive_timeouts.inc();
                    let limit = self.config.client.receive_timeout.unwrap_or_default();
                    warn!(
                        side = "database",
                        ?limit,
                        "The database has not answered within receiveTimeout; still waiting"
                    );
                }
            }
        }
    }

    fn poll_flows(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let to_database = self.poll_flow(cx, Direction::ToDatabase);
            if let Poll::Ready(Err(ended)) = to_database {
                return Poll::Ready(ended);
            }
            let to_peer = self.poll_flow(cx, Direction::ToPeer);
            if let Poll::Ready(Err(ended)) = to_peer {
                return Poll::Ready(ended);
            }
            if to_database.is_ready() && to_peer.is_ready() {
                return Poll::Ready(self.flows.ended());
            }
            if !std::mem::take(&mut self.flows.has_reply) {
                return Poll::Pending;
            }
        }
    }

    /// Moves one direction as far as it goes now; ready when it has ended.
    fn poll_flow(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<Result<(), Ended>> {
        for _ in 0..MOST_STEPS {
            if self.flows.of(direction).can_send() {
                ready!(self.poll_send_rest(cx, direction));
                continue;
            }
            match self.flows.of(direction).stage {
                Stage::Broken(_) => return self.poll_discard(cx, direction).map(Ok),
                Stage::Ended => return Poll::Ready(Ok(())),
                Stage::Reading | Stage::Ending => {
                    // No more is read before the socket has what was taken: TLS keeps some of it.
                    if let Err(error) = ready!(self.poll_flush(cx, direction)) {
                        self.flows.of(direction).breaks(error);
                        continue;
                    }
                    ready!(self.scanner.poll_sent(direction, cx));
                }
            }
            if let Stage::Ending = self.flows.of(direction).stage {
                ready!(self.poll_pass_end_on(cx, direction));
                continue;
            }
            match ready!(self.poll_verdict(cx, direction)) {
                None => ready!(self.poll_receive(cx, direction))?,
                Some(Verdict::Pass(bytes)) => self.flows.of(direction).unsent.extend_from_slice(&bytes),
                Some(Verdict::Reply(bytes)) => self.flows.reply(direction.opposite(), &bytes),
                Some(Verdict::Close) => return Poll::Ready(Err(Ended::Hook)),
            }
        }
        // The other direction, and other sessions, have their turn before this one goes on.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The scanner's verdict on what it holds; waits while a reply to the sender has not been taken, so that a peer
    /// that does not read cannot make replies pile up.
    fn poll_verdict(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<Option<Verdict>> {
        if self.flows.of(direction.opposite()).is_replying {
            return Poll::Pending;
        }
        let verdict = ready!(self.scanner.poll_verdict(direction, cx));
        self.flows.of(direction).is_held = false;
        Poll::Ready(verdict)
    }

    /// The destination is gone: what the source still sends is read and dropped, so that it is not stuck with it, and
    /// goes on to hear what comes the other way. Always ready: the session does not wait for more of it.
    fn poll_discard(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<()> {
        with_buffer(self.config.client.receive_chunk_size.get(), |buffer| {
            let source = if direction == Direction::ToDatabase { &mut *self.peer } else { &mut *self.client };
            loop {
                let mut chunk = ReadBuf::new(buffer);
                match Pin::new(&mut *source).poll_read(cx, &mut chunk) {
                    Poll::Ready(Ok(())) if !chunk.filled().is_empty() => {}
                    Poll::Ready(_) | Poll::Pending => return Poll::Ready(()),
                }
            }
        })
    }

    /// Reads one chunk, and writes it at once unless the scanner holds it.
    fn poll_receive(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<Result<(), Ended>> {
        with_buffer(self.config.client.receive_chunk_size.get(), |buffer| {
            let mut chunk = ReadBuf::new(buffer);
            let source = if direction == Direction::ToDatabase { &mut *self.peer } else { &mut *self.client };
            if let Err(error) = ready!(Pin::new(&mut *source).poll_read(cx, &mut chunk)) {
                return Poll::Ready(Err(direction.receive_failed(error)));
            }
            let received = chunk.filled();
            if received.is_empty() {
                self.flows.end(direction);
                if direction == Direction::ToPeer {
                    let watchdog = self.watchdog.get_or_insert_with(|| Box::new(Watchdog::new(self.config)));
                    watchdog.database_closed();
                }
                return Poll::Ready(Ok(()));
            }
            if enabled!(Level::DEBUG) {
                log_chunk(direction, received.len(), source);
            }
            self.note_received(direction);
            if self.scanner.scan(direction, received) == Decision::Forward {
                let sent = self.send(cx, direction, received);
                self.flows.of(direction).unsent.extend_from_slice(&received[sent..]);
            } else {
                self.flows.of(direction).is_held = true;
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Writes as much of `bytes` as the destination takes now.
    fn send(&mut self, cx: &mut Context<'_>, direction: Direction, bytes: &[u8]) -> usize {
        let destination = if direction == Direction::ToDatabase { &mut *self.client } else { &mut *self.peer };
        match Pin::new(destination).poll_write(cx, bytes) {
            Poll::Ready(Ok(sent)) => {
                self.note_sent(direction, sent, sent == bytes.len());
                sent
            }
            Poll::Ready(Err(error)) => {
                self.flows.of(direction).breaks(error);
                bytes.len()
            }
            Poll::Pending => {
                self.note_sent(direction, 0, false);
                0
            }
        }
    }

    /// Ready when nothing is left between the relay and the socket; without TLS nothing ever is.
    fn poll_flush(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<()>> {
        let destination = if direction == Direction::ToDatabase { &mut *self.client } else { &mut *self.peer };
        Pin::new(destination).poll_flush(cx)
    }

    fn poll_send_rest(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<()> {
        let mut unsent = std::mem::take(&mut self.flows.of(direction).unsent);
        let sent = self.send(cx, direction, &unsent);
        unsent.advance(sent.min(unsent.len()));
        if unsent.is_empty() {
            // The memory goes back: an idle session keeps none.
            if std::mem::take(&mut self.flows.of(direction).is_replying) {
                self.flows.has_reply = true;
            }
            return Poll::Ready(());
        }
        self.flows.of(direction).unsent = unsent;
        if sent == 0 { Poll::Pending } else { Poll::Ready(()) }
    }

    fn poll_pass_end_on(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<()> {
        let destination = if direction == Direction::ToDatabase { &mut *self.client } else { &mut *self.peer };
        self.flows.of(direction).stage = match ready!(Pin::new(destination).poll_shutdown(cx)) {
            Ok(()) => Stage::Ended,
            Err(error) => Stage::Broken(error),
        };
        Poll::Ready(())
    }

    fn note_received(&mut self, direction: Direction) {
        self.flows.moved += 1;
        self.flows.last = Some(direction);
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.received(direction);
        }
    }

    fn note_sent(&mut self, direction: Direction, sent: usize, is_all: bool) {
        let counter = match direction {
            Direction::ToDatabase => &self.metrics.bytes_to_database,
            Direction::ToPeer => &self.metrics.bytes_to_peer,
        };
        counter.inc_by(sent as u64);
        if !is_all && direction == Direction::ToDatabase && self.config.client.tcp_user_timeout.is_some() {
            self.watchdog.get_or_insert_with(|| Box::new(Watchdog::new(self.config)));
        }
        let Some(watchdog) = &mut self.watchdog else { return };
        match direction {
            Direction::ToPeer => watchdog.sent_to_peer(sent, is_all),
            Direction::ToDatabase => watchdog.sent(sent, is_all),
        }
        if watchdog.ends_patience() {
            self.client.set_user_timeout(self.config.client.tcp_user_timeout);
        }
    }
}

/// Lends the thread's buffer, as long as one read may be.
pub(super) fn with_buffer<T>(chunk_size: usize, read: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < chunk_size {
            buffer.resize(chunk_size, 0);
        }
        read(&mut buffer[..chunk_size])
    })
}

/// The seeds' debug line for each chunk.
#[cold]
pub(super) fn log_chunk(direction: Direction, length: usize, source: &Stream) {
    let (local, remote) = (source.local(), source.remote());
    match direction {
        Direction::ToDatabase => {
            debug!(function = "proxy.passthrough", length, %local, %remote, "Received data from database client");
        }
        Direction::ToPeer => {
            debug!(function = "proxy.passthrough", length, %local, %remote, "Received data from database");
        }
    }
}

// === impl Flows ===

impl Flows {
    fn of(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::ToDatabase => &mut self.to_database,
            Direction::ToPeer => &mut self.to_peer,
        }
    }

    fn end(&mut self, direction: Direction) {
        self.first_eof.get_or_insert(direction);
        self.of(direction).stage = Stage::Ending;
    }

    /// Gives `direction` a reply to send; where it has ended nobody would hear it.
    fn reply(&mut self, direction: Direction, bytes: &[u8]) {
        let flow = self.of(direction);
        if matches!(flow.stage, Stage::Reading | Stage::Ending) && !bytes.is_empty() {
            flow.unsent.extend_from_slice(bytes);
            flow.is_replying = true;
            self.has_reply = true;
        }
    }

    /// Whether something that was read has not been delivered.
    pub(super) fn is_incomplete(&self) -> bool {
        [&self.to_database, &self.to_peer].iter().any(|flow| flow.is_held || !flow.unsent.is_empty())
    }

    /// Nothing is on its way and the database had the last word: as good as between two exchanges.
    pub(super) fn is_at_boundary(&self) -> bool {
        !self.is_incomplete() && self.last != Some(Direction::ToDatabase)
    }

    /// Whether the peer has ended its half and the database has all of what it said.
    fn has_peer_left(&self) -> bool {
        matches!(self.to_database.stage, Stage::Ended | Stage::Broken(_))
    }

    /// How a session ended of which both directions have.
    fn ended(&mut self) -> Ended {
        if let Stage::Broken(error) = std::mem::take(&mut self.to_peer.stage) {
            return Ended::PeerFailed(error);
        }
        if let Stage::Broken(error) = std::mem::take(&mut self.to_database.stage) {
            return Ended::DatabaseFailed(error);
        }
        match self.first_eof {
            Some(Direction::ToPeer) => Ended::Database,
            Some(Direction::ToDatabase) | None => Ended::Peer,
        }
    }
}

// === impl Flow ===

impl Flow {
    fn can_send(&self) -> bool {
        !self.unsent.is_empty() && matches!(self.stage, Stage::Reading | Stage::Ending)
    }

    fn breaks(&mut self, error: io::Error) {
        *self = Flow { stage: Stage::Broken(error), ..Flow::default() };
    }
}

// === impl Direction ===

impl Direction {
    pub(super) fn opposite(self) -> Direction {
        match self {
            Direction::ToDatabase => Direction::ToPeer,
            Direction::ToPeer => Direction::ToDatabase,
        }
    }

    /// The side that these bytes come from has failed.
    fn receive_failed(self, error: io::Error) -> Ended {
        match self {
            Direction::ToDatabase => Ended::PeerFailed(error),
            Direction::ToPeer => Ended::DatabaseFailed(error),
        }
    }
}
