//! What a relay asks about the bytes that it has read. One relay serves all sessions that keep
//! their client; a scanner makes the difference.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::relay::Direction;

/// What becomes of bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// They go on at once.
    Forward,
    /// The scanner has them; its verdict follows.
    Hold,
}

/// What becomes of bytes that were held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These go on: what was held, or something in its place.
    Pass(Bytes),
    /// Nothing goes on, and whoever sent them gets this.
    Reply(Bytes),
    /// The session ends.
    Close,
}

/// Looks at what passes.
pub(super) trait Scanner {
    /// What becomes of `bytes`, which were read just now.
    fn scan(&mut self, direction: Direction, bytes: &[u8]) -> Decision;

    /// The verdict on what is held in this direction; `None` when nothing is.
    fn poll_verdict(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<Option<Verdict>>;

    /// Everything that was passed in this direction has been sent; ready when the scanner has taken note.
    fn poll_sent(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<()>;
}

/// Understands nothing: all bytes go on at once.
pub(super) struct Opaque;

// === impl Opaque ===

impl Scanner for Opaque {
    #[inline]
    fn scan(&mut self, _direction: Direction, _bytes: &[u8]) -> Decision {
        Decision::Forward
    }

    #[inline]
    fn poll_verdict(&mut self, _direction: Direction, _cx: &mut Context<'_>) -> Poll<Option<Verdict>> {
        Poll::Ready(None)
    }

    #[inline]
    fn poll_sent(&mut self, _direction: Direction, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}
