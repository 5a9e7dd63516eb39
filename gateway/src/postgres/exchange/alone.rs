//! What a peer says while no client is lent to it: kept here as long as no client has to know of it.

use super::from_peer::header;
use super::{Error, Exchange, Fate, MOST_ALONE};
use crate::config::PoolMode;
use crate::postgres::frames::{Frames, Sender, Step};
use crate::postgres::wire::{ErrorResponse, HEADER, message, tag};

// === impl Exchange ===

impl Exchange {
    /// Keeps `piece` if no client is needed for it: it is a part of a short message, and not the last one, or the peer's
    /// farewell. Whether that was so. To be asked only while no client is lent.
    ///
    /// # Errors
    /// The session cannot go on.
    pub fn keep(&mut self, piece: &[u8]) -> Result<bool, Error> {
        if self.peer.is_in_body() {
            let is_part = self.to_database == Fate::Hold && piece.len() < self.peer.left();
            if is_part {
                self.peer.step(piece)?;
                self.held.extend_from_slice(piece);
            }
            return Ok(is_part);
        }
        let mut ahead = self.peer.clone();
        let Some(Step::Head { tag, body, kept }) = ahead.step(piece)? else {
            // Not even a header.
            self.peer = ahead;
            return Ok(true);
        };
        let part = &piece[HEADER - kept..];
        let is_part = part.len() < body && self.can_be_alone(tag, body);
        if tag != tag::TERMINATE && !is_part {
            return Ok(false);
        }
        self.peer = ahead;
        if tag == tag::TERMINATE {
            self.has_terminated = true;
            return Ok(true);
        }
        self.to_database = Fate::Hold;
        self.held.extend_from_slice(&header(tag, body));
        self.held.extend_from_slice(part);
        self.peer.step(part)?;
        Ok(true)
    }

    /// Whether the beginning of such a message can be kept until the rest has come.
    pub(super) fn can_be_alone(&self, tag: u8, body: usize) -> bool {
        let is_held = self.fate_of(tag, body) == Fate::Hold
            || self.mode == PoolMode::Transaction && matches!(tag, tag::EXECUTE | tag::FUNCTION_CALL);
        is_held && !self.is_skipping && HEADER + body <= MOST_ALONE
    }

    /// Answers with an error what the peer asked first in `early`, for which it has no client; the length of what is
    /// answered so. `None` where the question is not whole.
    pub fn refuse(&self, early: &[u8], error: &ErrorResponse, out: &mut Vec<u8>) -> Option<usize> {
        if self.peer.is_within() {
            return None;
        }
        let (mut frames, mut at) = (Frames::new(Sender::Peer), 0);
        loop {
            let Ok(Some(Step::Head { tag, body, .. })) = frames.step(&early[at..]) else { return None };
            let whole = early.get(at + HEADER..at + HEADER + body)?;
            frames.step(whole).ok()?;
            at += HEADER + body;
            match tag {
                tag::QUERY | tag::FUNCTION_CALL | tag::SYNC => break,
                tag::TERMINATE => return None,
                _ => {}
            }
        }
        error.write(out);
        message(out, tag::READY_FOR_QUERY, |out| out.push(b'I'));
        Some(at)
    }
}
