//! What a peer sends: noted, and where clients are shared, given the names that clients know.

use std::mem::take;
use std::rc::Rc;

use super::{Error, Exchange, Fate, MOST_HELD, MOST_NAME, MOST_NAMES, MOST_OWED, Memory, Owed, Preparing, Whom};
use crate::config::PoolMode;
use crate::postgres::effects::{self, Pin};
use crate::postgres::frames::Step;
use crate::postgres::passage::{Onward, Passage};
use crate::postgres::statements::{Edition, Named, Names, PREFIX, Prepared, Statement};
use crate::postgres::wire::{self, HEADER, message, split_text, tag};

/// Makes a name that begins like one of ours a name that none of ours is.
pub(super) const UNKNOWN: &[u8] = b"unknown ";

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
        }
        self.settle(way.memory, |tag| message(back, tag, |_| ()));
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

    fn owes(&mut self, owed: Owed, is_ready_then: bool) {
        self.owed.push_back(owed);
        self.is_open = true;
        if is_ready_then {
            self.begin_anew();
        }
    }

    /// A Sync ends what is skipped; while the database takes CopyData it ignores it.
    fn sync(&mut self) {
        self.is_skipping = false;
        if !self.is_copying_in {
            self.begin_anew();
            self.owed.push_back(Owed::Sync);
        }
    }

    // --- where clients are shared ---

    /// Looks at the body of a Query; what is to be sent in its place, if anything is.
    fn query(&mut self, body: &[u8], memory: &mut Memory) -> Result<Option<Vec<u8>>, Error> {
        let (sql, _) = split_text(body).ok_or(wire::Error::Body(tag::QUERY))?;
        let pin = pin_of(sql, memory);
        self.pin_by(pin);
        // A Query ends the statement without a name.
        memory.prepared.unnamed = None;
        self.names.remove(b"");
        let (rewritten, forgotten) = match self.deallocate(sql) {
            Some((messages, forgotten)) => (Some(messages), Some((forgotten, Prepared::default()))),
            None if effects::forgets(sql) => (None, Some((take(&mut self.names), take(&mut memory.prepared)))),
            None => (None, None),
        };
        self.owes(Owed::Query, true);
        if let Some(forgotten) = forgotten {
            self.owed.push_back(Owed::Forgotten(Some(Box::new(forgotten))));
        }
        Ok(rewritten)
    }

    /// What deallocates by SQL a statement that was prepared by message: the peer's name for it is not the client's. With
    /// it, what the peer has by this name.
    fn deallocate(&mut self, sql: &[u8]) -> Option<(Vec<u8>, Names)> {
        let is_likely = sql.trim_ascii_start().get(..10).is_some_and(|word| word.eq_ignore_ascii_case(b"deallocate"));
        let name = if is_likely { effects::deallocated(sql)? } else { return None };
        let mut forgotten = Names::default();
        // There was room for it a moment ago.
        let _ = forgotten.insert(&name, self.names.remove(&name)?);
        // Clients keep it for whoever prepares it next. An empty one is deallocated instead: the answer is the same.
        let mut rewritten = Vec::new();
        message(&mut rewritten, tag::CLOSE, |out| out.extend_from_slice(b"Spostern_none\0"));
        message(&mut rewritten, tag::PARSE, |out| out.extend_from_slice(b"postern_none\0\0\0\0"));
        message(&mut rewritten, tag::QUERY, |out| out.extend_from_slice(b"deallocate postern_none\0"));
        self.owed.push_back(Owed::close(Whom::Us));
        self.owed.push_back(Owed::parse(Whom::Us));
        Some((rewritten, forgotten))
    }

    /// Writes the message `tag` with the names that the client knows; `part` is the body, or its beginning.
    fn rename(&mut self, tag: u8, part: &[u8], whole: usize, to: (&mut Memory, &mut Vec<u8>)) -> Result<(), Error> {
        let (memory, out) = to;
        match tag {
            tag::PARSE => self.parse(part, memory, out),
            tag::BIND => self.bind(part, whole, memory, out),
            tag::DESCRIBE => self.describe(part, memory, out),
            tag::CLOSE => self.close(part, out),
            _ => Err(wire::Error::Type(tag).into()),
        }
    }

    fn parse(&mut self, body: &[u8], memory: &mut Memory, out: &mut Vec<u8>) -> Result<(), Error> {
        let malformed = wire::Error::Body(tag::PARSE);
        let (name, definition) = split_text(body).ok_or(malformed.clone())?;
        let (sql, _) = split_text(definition).ok_or(malformed)?;
        if name.len() > MOST_NAME {
            return Err(Error::LongName);
        }
        if !name.is_empty() && self.names.get(name).is_some() {
            // The database refuses the second one of a name: let it.
            self.parse_again(name, definition, memory, out);
            return Ok(());
        }
        let statement = if name.is_empty() {
            self.statements.single(definition, pin_of(sql, memory))
        } else {
            self.statements.intern(definition, || pin_of(sql, memory))
        };
        let replaced = self.names.insert(name, statement.clone())?;
        self.is_open = true;
        if !name.is_empty() && memory.prepared.uses(statement.edition()) {
            self.tally.parses_saved += 1;
            self.owed.push_back(Owed::Parsed(name.into()));
            return Ok(());
        }
        self.prepare(&statement, name.is_empty(), Some((name, replaced)), (memory, out));
        Ok(())
    }

    fn parse_again(&mut self, name: &[u8], definition: &[u8], memory: &mut Memory, out: &mut Vec<u8>) {
        let Some(first) = self.names.get(name).cloned() else { return };
        self.ensure(&first, false, memory, out);
        message(out, tag::PARSE, |out| {
            first.edition().write_name(out);
            out.extend_from_slice(definition);
        });
        let (edition, name) = (Some(first.edition()), Some(name.into()));
        self.owes(Owed::Parse { whom: Whom::Peer, edition, name, is_new: false, replaced: Some(first) }, false);
    }

    fn bind(&mut self, part: &[u8], whole: usize, memory: &mut Memory, out: &mut Vec<u8>) -> Result<(), Error> {
        let (portal, name, rest) = names_of(part).ok_or(wire::Error::Body(tag::BIND))?;
        let named = self.names.named(name);
        if let Some(Named { statement, .. }) = &named {
            self.pin_by(statement.pin);
            self.ensure(statement, name.is_empty(), memory, out);
        } else if name.is_empty() {
            self.close_unnamed(memory, out);
        }
        let begin = out.len();
        out.extend_from_slice(&header(tag::BIND, whole));
        out.extend_from_slice(portal);
        out.push(0);
        write_name(named.as_ref(), name, out);
        // The rest of the body follows, here or with the next pieces.
        let written = out.len() - begin - HEADER;
        let length = whole + written - (portal.len() + name.len() + 2);
        out[begin..begin + HEADER].copy_from_slice(&header(tag::BIND, length));
        out.extend_from_slice(rest);
        self.owes(Owed::Bind(named), false);
        Ok(())
    }

    fn describe(&mut self, body: &[u8], memory: &mut Memory, out: &mut Vec<u8>) -> Result<(), Error> {
        let (kind, name) = body.split_first().ok_or(wire::Error::Body(tag::DESCRIBE))?;
        let (name, _) = split_text(name).ok_or(wire::Error::Body(tag::DESCRIBE))?;
        let named = self.names.named(name).filter(|_| *kind == b'S');
        if let Some(Named { statement, .. }) = &named {
            self.ensure(statement, name.is_empty(), memory, out);
        } else if *kind == b'S' && name.is_empty() {
            self.close_unnamed(memory, out);
        }
        message(out, tag::DESCRIBE, |out| {
            out.push(*kind);
            if *kind == b'S' {
                write_name(named.as_ref(), name, out);
            } else {
                out.extend_from_slice(name);
                out.push(0);
            }
        });
        self.owes(Owed::Described(named), false);
        Ok(())
    }

    fn close(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let (kind, name) = body.split_first().ok_or(wire::Error::Body(tag::CLOSE))?;
        let (name, _) = split_text(name).ok_or(wire::Error::Body(tag::CLOSE))?;
        if *kind == b'S' {
            // Clients keep it for whoever prepares it next.
            let closed = match self.names.remove(name) {
                Some(statement) => Owed::Closed(name.into(), Some(statement)),
                None => Owed::Closed(Box::default(), None),
            };
            self.owes(closed, false);
            return Ok(());
        }
        message(out, tag::CLOSE, |out| out.extend_from_slice(body));
        self.owes(Owed::close(Whom::Peer), false);
        Ok(())
    }

    /// Prepares `statement` on the client where it is not.
    fn ensure(&mut self, statement: &Rc<Statement>, is_unnamed: bool, memory: &mut Memory, out: &mut Vec<u8>) {
        let edition = statement.edition();
        let has = if is_unnamed { memory.prepared.unnamed == Some(edition) } else { memory.prepared.uses(edition) };
        let is_unsure = has && self.is_unsure(edition);
        if is_unsure && !is_unnamed {
            self.close_statement(edition, out);
        }
        if !has || is_unsure {
            self.tally.parses_added += 1;
            self.prepare(statement, is_unnamed, None, (memory, out));
        }
    }

    /// The peer has no statement without a name: the client has none either then, so that the database says so. Whether it
    /// had one is not sure, as what was sent to it last may have been skipped.
    fn close_unnamed(&mut self, memory: &mut Memory, out: &mut Vec<u8>) {
        memory.prepared.unnamed = None;
        message(out, tag::CLOSE, |out| out.extend_from_slice(b"S\0"));
        self.owed.push_back(Owed::close(Whom::Us));
    }

    /// Sends a Close; where it is skipped the client has the statement again.
    fn close_statement(&mut self, edition: Edition, out: &mut Vec<u8>) {
        message(out, tag::CLOSE, |out| {
            out.push(b'S');
            edition.write_name(out);
        });
        self.owed.push_back(Owed::Close { whom: Whom::Us, edition: Some(edition) });
    }

    /// Sends a Parse, and a Close of what must make room for it. `peers` is the peer's name, where the peer asked for it, and
    /// what the peer had by that name.
    fn prepare(
        &mut self,
        statement: &Rc<Statement>,
        is_unnamed: bool,
        peers: Option<(&[u8], Option<Rc<Statement>>)>,
        (memory, out): (&mut Memory, &mut Vec<u8>),
    ) {
        let edition = statement.edition();
        if is_unnamed {
            memory.prepared.unnamed = Some(edition);
        } else if let Some(oldest) = memory.prepared.add(edition) {
            self.close_statement(oldest, out);
        }
        message(out, tag::PARSE, |out| {
            if is_unnamed {
                out.push(0);
            } else {
                edition.write_name(out);
            }
            out.extend_from_slice(&statement.definition);
        });
        let whom = if peers.is_some() { Whom::Peer } else { Whom::Us };
        if whom == Whom::Us {
            self.preparing.push(Preparing { edition, is_behind: false });
        }
        let (name, replaced) = peers.map_or((None, None), |(name, replaced)| (Some(name.into()), replaced));
        self.owes(Owed::Parse { whom, edition: Some(edition), name, is_new: true, replaced }, false);
    }
}

/// What `sql` leaves behind on a client with these settings.
fn pin_of(sql: &[u8], memory: &Memory) -> Option<Pin> {
    if !effects::has_traces(sql) {
        return None;
    }
    if memory.parameters.get("standard_conforming_strings") == Some("off") {
        // Literals end elsewhere then than they are read here.
        return Some(Pin::Set);
    }
    let is_reported = |name: &str| memory.parameters.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    effects::pin(sql, is_reported)
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

/// The client's name for a statement. One that the peer does not have has its own name, so that the database says so; but
/// none of ours, which are others' statements.
fn write_name(named: Option<&Named>, name: &[u8], out: &mut Vec<u8>) {
    match named {
        Some(_) if name.is_empty() => out.push(0),
        Some(named) => named.statement.edition().write_name(out),
        None => {
            if name.starts_with(PREFIX.as_bytes()) {
                out.extend_from_slice(UNKNOWN);
            }
            out.extend_from_slice(name);
            out.push(0);
        }
    }
}

/// The portal's and the statement's name with which the body of a Bind begins, and what follows them.
fn names_of(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (portal, rest) = split_text(body)?;
    let (statement, rest) = split_text(rest)?;
    Some((portal, statement, rest))
}
