//! Moves the messages of one peer to and from the clients that it is lent, one after the other. What was read is written
//! at once from a buffer that the whole thread shares; only what the other side did not take is kept, and then the side
//! that it came from is not read. A client is given back as soon as the last byte of an answer has been read from it,
//! however slow the peer is.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tracing::{Level, enabled};

use super::ended::Ended;
use super::hooked::Chain;
use super::presence::Presence;
use super::relay::{Direction, log_chunk, with_buffer};
use super::watchdog::{Expired, Passed, Watchdog};
use super::{HANG_UP_INTERVAL, Proxy};
use crate::clock::{Instant, Sleep, sleep};
use crate::config::{ProxyConfig, Target};
use crate::metrics::PostgresMetrics;
use crate::net::Stream;
use crate::pool::{self, Lease, Route};
use crate::postgres::cancel::Registration;
use crate::postgres::exchange::Exchange;
use crate::postgres::passage::Onward;
use crate::postgres::wire::{ErrorResponse, tag};
use crate::shutdown::Drain;
use crate::view::SessionState;

/// One peer's conversation.
pub(super) struct Conversation<'a> {
    proxy: &'a Rc<Proxy>,
    config: Arc<ProxyConfig>,
    presence: &'a Presence,
    peer: &'a mut Stream,
    exchange: Exchange,
    route: Route,
    registration: Registration,
    lease: Option<Lease>,
    /// Whether the peer has not said anything yet: another client would do as well.
    is_unasked: bool,
    /// The next lease, while the peer waits for it.
    waiting: Option<Waiting>,
    /// What the peer said while it waited, or before it was welcomed.
    early: Vec<u8>,
    /// Runs while the peer has said all that it may while it waits, so that its end is seen all the same.
    hang_up: Option<Sleep>,
    /// What the database has not taken.
    to_database: BytesMut,
    /// What the peer has not taken.
    to_peer: BytesMut,
    /// Whether the peer has closed its half.
    has_left: bool,
    watchdog: Option<Box<Watchdog>>,
    /// Runs while the peer keeps its client from others and says nothing.
    silence: Option<Sleep>,
    /// Which side has nothing to be heard, since this task was polled: it wakes the task when it has.
    quiet: Quiet,
    /// What the peer is told last.
    last_words: Option<ErrorResponse>,
    /// Whether the client must not be lent again, whatever the messages say.
    in_doubt: bool,
    metrics: PostgresMetrics,
    /// When the oldest question was asked that the database has not answered.
    asked: Option<Instant>,
}

mod clients;
mod writing;
mod limits;
mod endings;

#[derive(Default)]
struct Quiet {
    peer: bool,
    database: bool,
}

type Waiting = Pin<Box<dyn Future<Output = Result<Lease, pool::Error>>>>;

/// Steps of one conversation before other sessions have their turn.
const MOST_STEPS: usize = 32;

thread_local! {
    /// What is rewritten on its way to the database, and what is answered here; empty between two polls.
    static SCRATCH: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

// === impl Conversation ===

impl<'a> Conversation<'a> {
    /// Of a peer that has been welcomed, with the client that was needed for that, and what it has said already.
    pub(super) fn new(
        proxy: &'a Rc<Proxy>,
        (chain, peer): (&'a Chain, &'a mut Stream),
        (exchange, registration): (Exchange, Registration),
        lease: Lease,
        early: Vec<u8>,
    ) -> Conversation<'a> {
        let config = proxy.config.borrow().clone();
        let mut conversation = Conversation {
            proxy,
            presence: &chain.presence,
            peer,
            exchange,
            route: lease.route().clone(),
            registration,
            lease: Some(lease),
            is_unasked: true,
            waiting: None,
            early,
            hang_up: None,
            to_database: BytesMut::new(),
            to_peer: BytesMut::new(),
            has_left: false,
            watchdog: Watchdog::is_needed(&config).then(|| Box::new(Watchdog::new(&config))),
            silence: None,
            quiet: Quiet::default(),
            last_words: None,
            in_doubt: false,
            asked: None,
            metrics: proxy.sessions.metrics.postgres.clone(),
            config,
        };
        conversation.presence.is(SessionState::Idle, Instant::now());
        conversation.aim();
        conversation.release_if_free();
        conversation
    }

    /// Converses until the session ends; the peer has been told then, and the client is where it belongs.
    pub(super) async fn run(&mut self, drain: &Drain) -> Ended {
        let ended = self.converse(drain).await;
        self.give_up_client();
        self.part(&ended).await;
        ended
    }

    async fn converse(&mut self, drain: &Drain) -> Ended {
        let (mut closing, mut over) = (pin!(drain.closing()), pin!(drain.over()));
        let mut is_awaited = false;
        poll_fn(|cx| {
            if let Poll::Ready(ended) = self.poll(cx) {
                return Poll::Ready(ended);
            }
            // Polled once, it wakes this task when the time has come; polled for every byte it would cost two locks.
            let is_closing = if is_awaited { drain.is_closing() } else { closing.as_mut().poll(cx).is_ready() };
            let is_killed =
                if is_awaited { self.presence.is_killed() } else { self.presence.poll_killed(cx).is_ready() };
            is_awaited = true;
            if is_killed {
                return Poll::Ready(Ended::Killed);
            }
            if !is_closing {
                return Poll::Pending;
            }
            if self.is_at_boundary() {
                return Poll::Ready(Ended::Drain);
            }
            over.as_mut().poll(cx).map(|()| Ended::Cut)
        })
        .await
    }

    fn is_at_boundary(&self) -> bool {
        self.exchange.is_at_boundary() && self.to_peer.is_empty() && self.waiting.is_none()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.quiet = Quiet::default();
        for _ in 0..MOST_STEPS {
            match self.step(cx) {
                Ok(true) => {}
                Ok(false) => return self.poll_limits(cx),
                Err(ended) => return Poll::Ready(ended),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Moves each side once; whether anything moved.
    fn step(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut has_moved = self.hear_early(cx)?;
        has_moved |= self.receive_lease(cx)?;
        has_moved |= self.flush_peer(cx)?;
        has_moved |= self.flush_database(cx)?;
        has_moved |= self.hear_database(cx)?;
        has_moved |= self.hear_peer(cx)?;
        if self.exchange.has_terminated() && self.exchange.is_between() || self.has_nobody_to_answer() {
            return Err(Ended::Peer);
        }
        Ok(has_moved)
    }

    /// Whether the peer has left and is owed nothing that it could still hear.
    fn has_nobody_to_answer(&self) -> bool {
        (self.has_left || self.exchange.has_terminated()) && !self.exchange.is_answering()
    }

    fn with_client(&mut self, look: impl FnOnce(&Stream)) {
        if let Some(lease) = &mut self.lease {
            look(&lease.client().stream);
        }
    }

    // --- the database's side ---

    fn hear_database(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        // Whoever does not take its answers slows the database down, and nobody else.
        if !self.to_peer.is_empty() || self.lease.is_none() || self.quiet.database {
            return Ok(false);
        }
        with_buffer(self.config.client.receive_chunk_size.get(), |buffer| {
            let Some(lease) = &mut self.lease else { return Ok(false) };
            let mut chunk = ReadBuf::new(buffer);
            match Pin::new(&mut lease.client().stream).poll_read(cx, &mut chunk) {
                Poll::Pending => {
                    self.quiet.database = true;
                    return Ok(false);
                }
                Poll::Ready(read) if self.is_unasked && is_farewell(&read, chunk.filled()) => {
                    self.do_without_client();
                    return Ok(true);
                }
                Poll::Ready(Err(error)) => return Err(self.database_left(Some(error))),
                Poll::Ready(Ok(())) if chunk.filled().is_empty() => return Err(self.database_left(None)),
                Poll::Ready(Ok(())) => {}
            }
            let piece = chunk.filled();
            if enabled!(Level::DEBUG) {
                log_chunk(Direction::ToPeer, piece.len(), &lease.client().stream);
            }
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.received(Direction::ToPeer);
            }
            self.on_from_database(piece, cx)?;
            Ok(true)
        })
    }

    fn on_from_database(&mut self, piece: &[u8], cx: &mut Context<'_>) -> Result<(), Ended> {
        SCRATCH.with_borrow_mut(|(onward, _)| {
            onward.clear();
            let Some(backend) = self.lease.as_mut().and_then(|lease| lease.client().backend.as_mut()) else {
                return Ok(());
            };
            let bytes = match self.exchange.from_database(piece, &mut backend.memory, onward) {
                Ok(Onward::AsItIs(length)) => &piece[..length],
                Ok(Onward::Rewritten) => &onward[..],
                Err(error) => return Err(self.offended(&error)),
            };
            self.write_peer(bytes, cx)
        })?;
        self.note_tally();
        self.release_if_free();
        Ok(())
    }

    fn note_tally(&mut self) {
        let tally = self.exchange.take_tally();
        self.metrics.note(&tally);
        if tally.answered > 0
            && let Some(asked) = self.asked.take()
        {
            let now = Instant::now();
            self.metrics.query_seconds.observe((now - asked).as_secs_f64());
            let is_active = self.exchange.is_in_transaction();
            self.presence.is(if is_active { SessionState::Active } else { SessionState::Idle }, now);
        }
        if self.asked.is_none() && self.exchange.is_owed() {
            let now = Instant::now();
            self.asked = Some(now);
            self.presence.is(SessionState::Active, now);
        }
        let needs_writes = matches!(self.config.client.target, Target::ReadWrite | Target::Primary);
        if tally.refuses_writes
            && needs_writes
            && let Some(lease) = &self.lease
        {
            lease.demoted();
        }
    }

    // --- the peer's side ---

    /// What the peer said before it was welcomed is its first words.
    fn hear_early(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if self.early.is_empty() || self.waiting.is_some() {
            return Ok(false);
        }
        let early = std::mem::take(&mut self.early);
        self.is_unasked = false;
        self.heed(&early, cx)?;
        Ok(true)
    }

    fn hear_peer(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let is_waiting = self.waiting.is_some();
        let chunk_size = self.config.client.receive_chunk_size.get();
        if is_waiting && self.early.len() >= chunk_size {
            return self.look_for_the_end(cx);
        }
        let is_full = !self.to_database.is_empty() || self.exchange.is_full();
        if self.has_left || is_full || self.exchange.has_terminated() || self.quiet.peer {
            return Ok(false);
        }
        with_buffer(chunk_size, |buffer| {
            let mut chunk = ReadBuf::new(buffer);
            match Pin::new(&mut *self.peer).poll_read(cx, &mut chunk) {
                Poll::Pending => {
                    self.quiet.peer = true;
                    return Ok(false);
                }
                Poll::Ready(Err(error)) => return Err(Ended::PeerFailed(error)),
                Poll::Ready(Ok(())) if chunk.filled().is_empty() && is_waiting => return Err(Ended::GaveUp),
                Poll::Ready(Ok(())) if chunk.filled().is_empty() => {
                    self.has_left = true;
                    return Ok(true);
                }
                Poll::Ready(Ok(())) => {}
            }
            let piece = chunk.filled();
            if enabled!(Level::DEBUG) {
                log_chunk(Direction::ToDatabase, piece.len(), self.peer);
            }
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.received(Direction::ToDatabase);
            }
            self.silence = None;
            if self.is_unasked && self.lease.as_mut().is_some_and(|lease| !lease.client().stream.is_silent()) {
                self.do_without_client();
            }
            self.is_unasked = false;
            self.heed(piece, cx)?;
            Ok(true)
        })
    }

    /// What the peer said goes to its client; what no client has to know yet is kept without one.
    fn heed(&mut self, piece: &[u8], cx: &mut Context<'_>) -> Result<(), Ended> {
        if self.lease.is_none() && self.waiting.is_none() {
            let is_kept = self.exchange.keep(piece).map_err(|error| self.offended(&error))?;
            if is_kept {
                return Ok(());
            }
        }
        if self.lease.is_some() || self.waiting.is_none() && self.take_client(cx)? {
            return self.on_from_peer(piece, cx);
        }
        self.early.extend_from_slice(piece);
        Ok(())
    }

    /// Whether a peer has left of which nothing more is read now.
    fn look_for_the_end(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let hang_up = self.hang_up.get_or_insert_with(|| sleep(HANG_UP_INTERVAL));
        if Pin::new(hang_up).poll(cx).is_pending() {
            return Ok(false);
        }
        self.hang_up = None;
        if self.peer.has_hung_up() { Err(Ended::GaveUp) } else { Ok(true) }
    }

    fn on_from_peer(&mut self, piece: &[u8], cx: &mut Context<'_>) -> Result<(), Ended> {
        SCRATCH.with_borrow_mut(|(onward, back)| {
            onward.clear();
            back.clear();
            let Some(backend) = self.lease.as_mut().and_then(|lease| lease.client().backend.as_mut()) else {
                return Ok(());
            };
            let bytes = match self.exchange.from_peer(piece, &mut backend.memory, onward, back) {
                Ok(Onward::AsItIs(length)) => &piece[..length],
                Ok(Onward::Rewritten) => &onward[..],
                Err(error) => return Err(self.offended(&error)),
            };
            if !back.is_empty() {
                self.write_peer(back, cx)?;
            }
            self.write_database(bytes, cx)
        })?;
        self.note_tally();
        // A message that nobody answers, or the end of the session, needs no client.
        self.release_if_free();
        Ok(())
    }
}

/// Whether the database ends the connection: by closing it, or with an error that nobody asked for.
fn is_farewell(read: &io::Result<()>, said: &[u8]) -> bool {
    read.is_err() || said.first().is_none_or(|first| *first == tag::ERROR_RESPONSE)
}
