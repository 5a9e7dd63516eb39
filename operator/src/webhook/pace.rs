//! By when a connection must have gone on: each stage has its time, and what passes over the connection is what begins and
//! ends a stage.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Result};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::places::{Place, Stage};

/// How long a request may take from its first byte to its last; an API server does not wait longer for the answer.
pub(super) const READ: Duration = Duration::from_secs(5);
/// How long it may take to decide on it: two calls to the API server, and what others have begun before.
pub(super) const ANSWER: Duration = Duration::from_secs(8);
/// How long an answer may take to be read.
pub(super) const WRITE: Duration = Duration::from_secs(5);
/// How long a connection may be idle, also before its first request: longer than the 90 s for which an API server keeps
/// one, and it dials more than it needs at once, so that it never sends a request into a connection that we are closing.
pub(super) const IDLE: Duration = Duration::from_mins(3);

/// How far a connection is, and by when it must be further.
pub(super) struct Pace {
    pub(super) place: Place,
    end: watch::Sender<Instant>,
}

/// A connection whose bytes are noticed by its pace.
pub(super) struct Noticed<S> {
    pub(super) stream: S,
    pub(super) pace: Arc<Pace>,
}

// === impl Pace ===

impl Pace {
    /// The handshake is over, and the first request may come.
    pub(super) fn new(place: Place) -> Arc<Self> {
        place.enter(Stage::Silent);
        Arc::new(Self { place, end: watch::Sender::new(Instant::now() + IDLE) })
    }

    /// A request is being read; its head may have come together with the request before.
    pub(super) fn has_begun(&self) {
        if self.place.enter_from(Stage::Arriving, |stage| stage != Stage::Arriving) {
            self.is_due_in(READ);
        }
    }

    /// All of a request is there.
    pub(super) fn has_arrived(&self) {
        self.place.enter(Stage::Answering);
        self.is_due_in(ANSWER);
    }

    /// What is to be said is known.
    pub(super) fn is_answered(&self) {
        self.place.enter(Stage::Answered);
        self.is_due_in(WRITE);
    }

    fn has_heard(&self) {
        if self.place.enter_from(Stage::Arriving, |stage| matches!(stage, Stage::Silent | Stage::Idle)) {
            self.is_due_in(READ);
        }
    }

    fn has_said_all(&self) {
        if self.place.enter_from(Stage::Idle, |stage| stage == Stage::Answered) {
            self.is_due_in(IDLE);
        }
    }

    fn is_due_in(&self, time: Duration) {
        self.end.send_replace(Instant::now() + time);
    }

    /// Ends when the connection has taken too long, or its place is needed.
    pub(super) async fn ended(&self) -> &'static str {
        let mut changed = self.end.subscribe();
        loop {
            let end = *changed.borrow_and_update();
            tokio::select! {
                biased;
                () = self.place.evicted() => return "A connection gave way to another",
                // The sender is ours, so it does not end.
                _ = changed.changed() => {}
                () = sleep_until(end) => return "A connection took too long",
            }
        }
    }
}

// === impl Noticed ===

impl<S: AsyncRead + Unpin> AsyncRead for Noticed<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if into.filled().len() > before {
            self.pace.has_heard();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noticed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.pace.has_said_all();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
