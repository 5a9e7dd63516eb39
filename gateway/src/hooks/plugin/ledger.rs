//! What each side of a PostgreSQL session is owed, so that no verdict on bytes can make them talk past one another. Pure.
//!
//! A plugin may put other content into messages, but neither split nor add nor remove any that somebody counts on; and it
//! may answer in the database's place only a peer that is owed nothing else, and completely.

use thiserror::Error;

use crate::postgres::frames::{Frames, Sender, Step};
use crate::postgres::wire::{self, HEADER, Status, tag};
use crate::proxy::relay::Direction;

/// Both streams of a session, as they went on.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    to_database: Frames,
    to_peer: Frames,
    /// Times that the database has yet to say that it is ready; a login is the first.
    owed: u64,
    /// Whether requests went on behind which no Sync has.
    is_unsynced: bool,
    /// What the database said last of the transaction.
    status: Option<Status>,
    /// Whether something passed that is no message: nothing behind it can be understood.
    is_lost: bool,
}

/// Why bytes may not go on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum Illegal {
    /// Bytes that are no messages.
    #[error("it has bytes that are no messages of PostgreSQL")]
    Garbage,
    /// It ends where what it stands for does not.
    #[error("it splits messages, or joins them")]
    Split,
    /// Other messages than those that it stands for.
    #[error("it has other messages than those that it stands for")]
    Other,
    /// A reply to who is owed something else.
    #[error("it replies where something else is owed first, or to a part of a message")]
    NotNow,
    /// A reply that is none.
    #[error("it is not the complete answer to what was asked")]
    NoAnswer,
}

/// The messages of some bytes, by type; a ReadyForQuery is followed by its status.
type Tags = Vec<u8>;

impl Default for Ledger {
    fn default() -> Ledger {
        let (to_database, to_peer) = (Frames::new(Sender::Entrant), Frames::new(Sender::Database));
        Ledger { to_database, to_peer, owed: 1, is_unsynced: false, status: None, is_lost: false }
    }
}

// === impl Ledger ===

impl Ledger {
    fn frames(&mut self, direction: Direction) -> &mut Frames {
        match direction {
            Direction::ToDatabase => &mut self.to_database,
            Direction::ToPeer => &mut self.to_peer,
        }
    }

    /// Notes what goes on as it is.
    pub(super) fn passes(&mut self, direction: Direction, bytes: &[u8]) {
        if self.is_lost {
            return;
        }
        match tags_of(self.frames(direction), bytes) {
            Ok(tags) => self.note(direction, &tags),
            // It is for its receiver to judge.
            Err(_) => self.is_lost = true,
        }
    }

    /// Notes that `new` goes on in the place of `old`.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn replaces(&mut self, direction: Direction, old: &[u8], new: &[u8]) -> Result<(), Illegal> {
        if self.is_lost {
            return Err(Illegal::Garbage);
        }
        let (mut before, mut after) = (self.frames(direction).clone(), self.frames(direction).clone());
        let meant = tags_of(&mut before, old)?;
        let put = tags_of(&mut after, new)?;
        if !after.is_where(&before) {
            return Err(Illegal::Split);
        }
        let counts = |tags: &[u8]| tags.iter().copied().filter(|tag| !is_free(direction, *tag)).collect::<Vec<_>>();
        if counts(&meant) != counts(&put) {
            return Err(Illegal::Other);
        }
        self.note(direction, &put);
        *self.frames(direction) = after;
        Ok(())
    }

    /// Whether `reply` may go back in the place of what the database would answer to `asked`, which does not go on.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn replies(&self, direction: Direction, asked: &[u8], reply: &[u8]) -> Result<(), Illegal> {
        let Some(status) = self.status.filter(|_| direction == Direction::ToDatabase) else {
            return Err(Illegal::NotNow);
        };
        let is_between = !self.to_database.is_within() && !self.to_peer.is_within();
        if self.is_lost || !is_between || self.owed > 0 || self.is_unsynced {
            return Err(Illegal::NotNow);
        }
        let (mut to_database, mut to_peer) = (self.to_database.clone(), self.to_peer.clone());
        let asked = tags_of(&mut to_database, asked)?;
        let said = tags_of(&mut to_peer, reply)?;
        if to_database.is_within() {
            return Err(Illegal::NotNow);
        }
        let is_answer = !to_peer.is_within() && is_answer(&asked, &said, status);
        if is_answer { Ok(()) } else { Err(Illegal::NoAnswer) }
    }

    fn note(&mut self, direction: Direction, tags: &[u8]) {
        match direction {
            Direction::ToDatabase => {
                for tag in tags {
                    match *tag {
                        tag::QUERY | tag::FUNCTION_CALL | tag::SYNC => {
                            self.owed += 1;
                            self.is_unsynced = false;
                        }
                        tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE | tag::FLUSH => {
                            self.is_unsynced = true;
                        }
                        _ => {}
                    }
                }
            }
            Direction::ToPeer => {
                let mut tags = tags.iter();
                while let Some(tag) = tags.next() {
                    if *tag == tag::READY_FOR_QUERY {
                        self.owed = self.owed.saturating_sub(1);
                        self.status = tags.next().and_then(|status| Status::read(&[*status]));
                    }
                }
            }
        }
    }
}

/// The messages that begin in `bytes`.
fn tags_of(frames: &mut Frames, mut bytes: &[u8]) -> Result<Tags, Illegal> {
    let mut tags = Vec::new();
    while let Some(step) = frames.step(bytes).map_err(|_: wire::Error| Illegal::Garbage)? {
        match step {
            Step::Head { tag, kept, .. } => {
                tags.push(tag);
                bytes = &bytes[HEADER - kept..];
            }
            Step::Body { tag, bytes: length, .. } => {
                if tag == tag::READY_FOR_QUERY {
                    tags.push(bytes[0]);
                }
                bytes = &bytes[length..];
            }
        }
    }
    Ok(tags)
}

/// Whether nobody counts messages of this type: there may be more or fewer of them.
fn is_free(direction: Direction, tag: u8) -> bool {
    match direction {
        Direction::ToDatabase => tag == tag::COPY_DATA,
        Direction::ToPeer => matches!(tag, tag::DATA_ROW | tag::COPY_DATA | tag::NOTICE_RESPONSE),
    }
}

/// Whether `said` is all that is owed to who has `asked`, and leaves the session in `status`.
fn is_answer(asked: &[u8], said: &[u8], status: Status) -> bool {
    let is_aside = |tag: &u8| matches!(*tag, tag::NOTICE_RESPONSE);
    let mut said = said.iter().copied().filter(|tag| !is_aside(tag)).peekable();
    let mut is_skipping = false;
    for asked in asked {
        let is_well = match *asked {
            tag::QUERY => {
                while said.next_if(|tag| is_of_a_result(*tag)).is_some() {}
                is_ready(&mut said, status)
            }
            tag::SYNC => {
                is_skipping = false;
                is_ready(&mut said, status)
            }
            _ if is_skipping => true,
            tag::FLUSH => true,
            _ if said.next_if_eq(&tag::ERROR_RESPONSE).is_some() => {
                is_skipping = true;
                true
            }
            tag::PARSE => said.next() == Some(tag::PARSE_COMPLETE),
            tag::BIND => said.next() == Some(tag::BIND_COMPLETE),
            tag::CLOSE => said.next() == Some(tag::CLOSE_COMPLETE),
            tag::DESCRIBE => {
                said.next_if_eq(&tag::PARAMETER_DESCRIPTION);
                matches!(said.next(), Some(tag::ROW_DESCRIPTION | tag::NO_DATA))
            }
            tag::EXECUTE => {
                while said.next_if_eq(&tag::DATA_ROW).is_some() {}
                let end = said.next();
                matches!(end, Some(tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE | tag::PORTAL_SUSPENDED))
            }
            _ => false,
        };
        if !is_well {
            return false;
        }
    }
    said.next().is_none() && matches!(asked.last(), Some(&(tag::QUERY | tag::SYNC)))
}

/// Whether a simple query may be answered by this, before the database is ready.
fn is_of_a_result(tag: u8) -> bool {
    matches!(
        tag,
        tag::ROW_DESCRIPTION | tag::DATA_ROW | tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE | tag::ERROR_RESPONSE
    )
}

fn is_ready(said: &mut impl Iterator<Item = u8>, status: Status) -> bool {
    said.next() == Some(tag::READY_FOR_QUERY) && said.next().and_then(|byte| Status::read(&[byte])) == Some(status)
}
