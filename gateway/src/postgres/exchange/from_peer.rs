//! What a peer sends: noted in the order of its answers. Where clients are shared, `named` rewrites it.

use std::mem::take;

use super::named::names_of;
use super::{Error, Exchange, Fate, MOST_HELD, MOST_NAMES, MOST_OWED, Memory, Owed, Whom};
use crate::config::PoolMode;
use crate::postgres::effects::Pin;
use crate::postgres::frames::Step;
use crate::postgres::passage::{Onward, Passage};
use crate::postgres::wire::{self, HEADER, message, tag};

/// One piece that a peer sent, and what the client knows.
struct Way<'a, 'b> {
    passage: Passage<'a>,
    memory: &'b mut Memory,
}

// === impl Exchange ===

impl Exchange {
    /// What becomes of `piece`, which the peer sent. What is rewritten is appended to `onward`, answers of ours to `back`.
    ///
    /// # Errors
    /// The session cannot go on.
    pub fn from_peer(
        &mut self,
        piece: &[u8],
        memory: &mut Memory,
        onward: &mut Vec<u8>,
        back: &mut Vec<u8>,
    ) -> Result<Onward, Error> {
        let mut way = Way { passage: Passage::new(piece, onward), memory };
        if self.has_reset && self.is_at_boundary() && piece.first().is_some_and(|tag| *tag != tag::TERMINATE) {
            let Way { passage, memory } = &mut way;
            passage.write(|out| self.give_settings(memory, out));
        }
        while !self.has_terminated
            && let Some(step) = self.peer.step(way.passage.rest())?
        {
            match step {
                Step::Head { tag, body, kept } => {
                    let here = way.passage.rest().len() - (HEADER - kept);
                    self.to_database = self.fate_of_part(tag, body, here);
                    if self.to_database == Fate::Hold && tag != tag::BIND && body > MOST_HELD {
                        return Err(Error::LongStatement(body));
                    }
                    if self.to_database == Fate::Hold && here >= body {
                        self.peer_whole(tag, body, kept, &mut way)?;
                    } else {
                        self.peer_begins(tag, body, kept, &mut way.passage);
                        if here >= body {
                            self.peer.pass_body();
                            self.peer_continues(tag, body, true, &mut way)?;
                        }
                    }
                }
                Step::Body { tag, bytes, is_last } => {
                    self.peer_continues(tag, bytes, is_last, &mut way)?;
                }
            }
            // Within a message of the database that nobody asked for, ours would be taken for a part of it.
            if !self.is_within_answer {
                self.settle(way.memory, |tag| message(back, tag, |_| ()));
            }
        }
        if self.owed.len() > 2 * MOST_OWED { Err(Error::TooManyOwed) } else { Ok(way.passage.finish()) }
    }

    /// What becomes of a message: whether it must be whole, or does not go on at all.
    pub(super) fn fate_of(&self, tag: u8, body: usize) -> Fate {
        let is_shared = self.mode == PoolMode::Transaction;
        match tag {
            tag::TERMINATE => Fate::Drop,
            tag::SYNC => Fate::Keep,
            // The database would ignore it.
            _ if self.is_skipping => Fate::Drop,
            // The end of a COPY that the database has given up on meanwhile: it answers nothing.
            tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL if self.owed.is_empty() => Fate::Drop,
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::CLOSE if is_shared => Fate::Hold,
            tag::QUERY if is_shared && body <= MOST_HELD => Fate::Hold,
            _ => Fate::Keep,
        }
    }

    /// The same where `here` bytes of the body have come: no client shall wait for the rest of a short message.
    fn fate_of_part(&self, tag: u8, body: usize, here: usize) -> Fate {
        match self.fate_of(tag, body) {
            Fate::Keep if here < body && self.can_be_alone(tag, body) => Fate::Hold,
            fate => fate,
        }
    }

    fn peer_begins(&mut self, tag: u8, body: usize, kept: usize, passage: &mut Passage<'_>) {
        let header = header(tag, body);
        match self.to_database {
            Fate::Keep | Fate::Rest if kept == 0 => passage.keep(HEADER),
            Fate::Keep | Fate::Rest => {
                passage.drop(HEADER - kept);
                passage.write(|out| out.extend_from_slice(&header));
            }
            Fate::Drop => passage.drop(HEADER - kept),
            Fate::Hold => {
                passage.drop(HEADER - kept);
                self.held.extend_from_slice(&header);
            }
        }
    }

    /// A message that must be whole, and is.
    fn peer_whole(&mut self, tag: u8, body: usize, kept: usize, way: &mut Way<'_, '_>) -> Result<(), Error> {
        let Way { passage, memory } = way;
        let begin = HEADER - kept;
        let part = &passage.rest()[begin..begin + body];
        self.peer.pass_body();
        if tag == tag::QUERY {
            let rewritten = self.query(part, memory)?;
            if rewritten.is_none() && kept == 0 {
                passage.keep(HEADER + body);
                return Ok(());
            }
            passage.drop(begin + body);
            passage.write(|out| write_query(rewritten, part, out));
            return Ok(());
        }
        passage.drop(begin + body);
        passage.write(|out| self.rename(tag, part, body, (memory, out)))
    }

    fn peer_continues(&mut self, tag: u8, bytes: usize, is_last: bool, way: &mut Way<'_, '_>) -> Result<(), Error> {
        let passage = &mut way.passage;
        match self.to_database {
            Fate::Keep | Fate::Rest => passage.keep(bytes),
            Fate::Drop => passage.drop(bytes),
            Fate::Hold => {
                self.held.extend_from_slice(&passage.rest()[..bytes]);
                passage.drop(bytes);
                return self.peer_held(tag, is_last, way);
            }
        }
        if is_last && self.to_database != Fate::Rest { self.note(tag) } else { Ok(()) }
    }

    /// Goes on with a message of which enough is held.
    fn peer_held(&mut self, tag: u8, is_last: bool, way: &mut Way<'_, '_>) -> Result<(), Error> {
        if self.is_skipping {
            // Something before it has failed since it began.
            self.held.clear();
            self.to_database = Fate::Drop;
            return Ok(());
        }
        let Way { passage, memory } = way;
        let length = self.held.get(1..HEADER).and_then(|length| length.try_into().ok()).map_or(0, u32::from_be_bytes);
        let whole = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(4);
        let part = self.held.get(HEADER..).unwrap_or_default();
        let has_names = tag == tag::BIND && names_of(part).is_some();
        if !is_last && !has_names {
            let is_too_long = tag == tag::BIND && part.len() > MOST_NAMES;
            return if is_too_long { Err(Error::LongName) } else { Ok(()) };
        }
        self.to_database = Fate::Rest;
        let held = take(&mut self.held);
        let part = &held[HEADER..];
        if tag == tag::QUERY {
            let rewritten = self.query(part, memory)?;
            passage.write(|out| write_query(rewritten, part, out));
            return Ok(());
        }
        if matches!(tag, tag::EXECUTE | tag::FUNCTION_CALL) {
            passage.write(|out| out.extend_from_slice(&held));
            return self.note(tag);
        }
        passage.write(|out| self.rename(tag, part, whole, (memory, out)))
    }

    /// Notes a message that went on as it was.
    fn note(&mut self, tag: u8) -> Result<(), Error> {
        match tag {
            tag::TERMINATE => self.has_terminated = true,
            tag::SYNC => self.sync(),
            _ if self.is_skipping => {}
            tag::QUERY => {
                self.owes(Owed::Query, true);
                // Where clients are shared, only what is too long to be looked at comes here.
                self.pin_by(Some(Pin::Long));
            }
            tag::PARSE => {
                self.owes(Owed::parse(Whom::Peer), false);
            }
            tag::BIND => self.owes(Owed::Bind(None), false),
            tag::EXECUTE => self.owes(Owed::Execute, false),
            tag::FLUSH => self.is_open = true,
            tag::FUNCTION_CALL => self.owes(Owed::FunctionCall, true),
            tag::DESCRIBE => self.owes(Owed::Described(None), false),
            tag::CLOSE => self.owes(Owed::close(Whom::Peer), false),
            tag::COPY_DATA => {}
            tag::COPY_DONE | tag::COPY_FAIL => {
                self.is_copying_in = false;
                if self.owed.back().is_some_and(|last| !matches!(last, Owed::CopyEnd)) {
                    self.owed.push_back(Owed::CopyEnd);
                }
            }
            _ => return Err(wire::Error::Type(tag).into()),
        }
        Ok(())
    }

    /// A Sync ends what is skipped; while the database takes CopyData it ignores it.
    fn sync(&mut self) {
        self.is_skipping = false;
        if !self.is_copying_in {
            self.begin_anew();
            self.owed.push_back(Owed::Sync);
        }
    }
}

pub(super) fn header(tag: u8, body: usize) -> [u8; HEADER] {
    let [a, b, c, d] = u32::try_from(body + 4).unwrap_or(u32::MAX).to_be_bytes();
    [tag, a, b, c, d]
}

/// Writes a Query with this body, or what takes its place.
fn write_query(instead: Option<Vec<u8>>, body: &[u8], out: &mut Vec<u8>) {
    match instead {
        Some(messages) => out.extend_from_slice(&messages),
        None => message(out, tag::QUERY, |out| out.extend_from_slice(body)),
    }
}
