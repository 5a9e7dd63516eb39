//! Where clients are shared: what a peer prepares has other names on its clients, so that each has it once for all peers,
//! and none hears of another's.

use std::mem::take;
use std::rc::Rc;

use super::from_peer::header;
use super::{Error, Exchange, MOST_NAME, Memory, Owed, Whom};
use crate::config::PoolMode;
use crate::postgres::effects;
use crate::postgres::statements::{Edition, Named, Names, PREFIX, Prepared, Statement};
use crate::postgres::wire::{self, ErrorResponse, HEADER, message, split_text, tag};

/// Makes a name that begins like one of ours a name that none of ours is.
const UNKNOWN: &[u8] = b"unknown ";

// === impl Exchange ===

impl Exchange {
    /// Looks at the body of a Query; what is to be sent in its place, if anything is.
    pub(super) fn query(&mut self, body: &[u8], memory: &mut Memory) -> Result<Option<Vec<u8>>, Error> {
        let (sql, _) = split_text(body).ok_or(wire::Error::Body(tag::QUERY))?;
        self.heed(self.leaves(sql, memory));
        // A Query ends the statement without a name.
        memory.prepared.unnamed = None;
        self.names.remove(b"");
        let (rewritten, forgotten) = match self.deallocate(sql, memory) {
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
    fn deallocate(&mut self, sql: &[u8], memory: &mut Memory) -> Option<(Vec<u8>, Names)> {
        let is_likely = sql.trim_ascii_start().get(..10).is_some_and(|word| word.eq_ignore_ascii_case(b"deallocate"));
        let name = if is_likely { effects::deallocated(sql)? } else { return None };
        let mut forgotten = Names::default();
        // There was room for it a moment ago.
        let _ = forgotten.insert(&name, self.names.remove(&name)?);
        // Clients keep it for whoever prepares it next. An empty one is deallocated in its place: the answer is the same.
        let mut rewritten = Vec::new();
        memory.placeholders = memory.placeholders.wrapping_add(1);
        let name = format!("postern_none_{}", memory.placeholders);
        message(&mut rewritten, tag::QUERY, |out| {
            out.extend_from_slice(format!("prepare {name} as select; deallocate {name}\0").as_bytes());
        });
        self.owed.push_back(Owed::Prelude);
        Some((rewritten, forgotten))
    }

    /// Writes the message `tag` with the names that the client knows; `part` is the body, or its beginning.
    pub(super) fn rename(
        &mut self,
        tag: u8,
        part: &[u8],
        whole: usize,
        to: (&mut Memory, &mut Vec<u8>),
    ) -> Result<(), Error> {
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
        split_text(definition).ok_or(malformed)?;
        if name.len() > MOST_NAME {
            return Err(Error::LongName);
        }
        if !name.is_empty() && self.names.get(name).is_some() {
            // The database refuses the second one of a name: let it.
            return self.parse_again(name, definition, memory, out);
        }
        let statement = self.statement(name.is_empty(), definition, memory)?;
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

    fn parse_again(
        &mut self,
        name: &[u8],
        definition: &[u8],
        memory: &mut Memory,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let Some(mut named) = self.names.named(name) else { return Ok(()) };
        self.ensure(&mut named, memory, out)?;
        let first = named.statement;
        message(out, tag::PARSE, |out| {
            first.edition().write_name(out);
            out.extend_from_slice(definition);
        });
        let (edition, name) = (Some(first.edition()), Some(name.into()));
        self.owes(Owed::Parse { whom: Whom::Peer, edition, name, is_new: false, replaced: Some(first) }, false);
        Ok(())
    }

    fn bind(&mut self, part: &[u8], whole: usize, memory: &mut Memory, out: &mut Vec<u8>) -> Result<(), Error> {
        let (portal, name, rest) = names_of(part).ok_or(wire::Error::Body(tag::BIND))?;
        let mut named = self.names.named(name);
        if let Some(named) = &mut named {
            self.ensure(named, memory, out)?;
            self.heed(named.statement.leaves);
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
        if *kind == b'S' && name.len() > MOST_NAME {
            // Nobody has such a statement, and the database takes no Describe that the way to say so makes longer.
            return Err(Error::LongName);
        }
        let mut named = self.names.named(name).filter(|_| *kind == b'S');
        if let Some(named) = &mut named {
            self.ensure(named, memory, out)?;
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

    /// Prepares the peer's statement on the client where it is not. Where a setting has changed by which the database reads
    /// its text, it becomes another one: what others have keeps being read as theirs.
    fn ensure(&mut self, named: &mut Named, memory: &mut Memory, out: &mut Vec<u8>) -> Result<(), Error> {
        let (edition, is_unnamed) = (named.statement.edition(), named.name.is_empty());
        let has = if is_unnamed { memory.prepared.unnamed == Some(edition) } else { memory.prepared.uses(edition) };
        let is_unsure = has && self.is_unsure(edition);
        if has && !is_unsure {
            return Ok(());
        }
        if !is_unnamed && !named.statement.suits(self.reading(memory).as_ref()) {
            named.statement = self.statement(is_unnamed, named.statement.definition(), memory)?;
            self.names.read_anew(named);
            return self.ensure(named, memory, out);
        }
        if is_unsure && !is_unnamed {
            self.close_statement(edition, out);
        }
        self.tally.parses_added += 1;
        self.prepare(&named.statement, is_unnamed, None, (memory, out));
        Ok(())
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
            out.extend_from_slice(statement.definition());
        });
        let whom = if peers.is_some() { Whom::Peer } else { Whom::Us };
        if whom == Whom::Us {
            self.prepares(edition);
        }
        let (name, replaced) = peers.map_or((None, None), |(name, replaced)| (Some(name.into()), replaced));
        self.owes(Owed::Parse { whom, edition: Some(edition), name, is_new: true, replaced }, false);
    }

    /// Whether an error that comes now may call a statement by the name that only the client knows.
    pub(super) fn may_name_a_statement(&self) -> bool {
        let front = self.owed.front();
        self.mode == PoolMode::Transaction
            && matches!(front, Some(Owed::Parse { .. } | Owed::Bind(_) | Owed::Described(_)))
    }

    /// The error `said` with the peer's name for a statement in place of the client's. Only the errors are touched that
    /// speak of a statement by its name; others may quote what the peer itself has written.
    pub(super) fn in_the_peers_words(&self, said: &[u8]) -> Vec<u8> {
        if !matches!(&*ErrorResponse::read(said).code, "26000" | "42P05" | "08P01") {
            return said.to_vec();
        }
        let (name, edition) = match self.owed.front() {
            Some(Owed::Bind(Some(Named { name, statement })) | Owed::Described(Some(Named { name, statement }))) => {
                (&**name, Some(statement.edition()))
            }
            Some(Owed::Parse { name: Some(name), edition, .. }) => (&**name, *edition),
            Some(Owed::Bind(None) | Owed::Described(None)) => {
                return replaced(said, &[UNKNOWN, PREFIX.as_bytes()].concat(), PREFIX.as_bytes());
            }
            _ => return said.to_vec(),
        };
        let mut own = Vec::new();
        edition.inspect(|edition| edition.write_name(&mut own));
        // Without the zero byte at its end.
        own.pop();
        replaced(said, &own, name)
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
pub(super) fn names_of(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (portal, rest) = split_text(body)?;
    let (statement, rest) = split_text(rest)?;
    Some((portal, statement, rest))
}

/// `said` with `new` in place of each `old`; where that ends with a digit, one more makes it another name.
fn replaced(said: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let (mut rest, mut replaced) = (said, Vec::with_capacity(said.len()));
    while let Some((first, behind)) = rest.split_first() {
        let after = rest.strip_prefix(old).filter(|after| !(is_digit(old.last()) && is_digit(after.first())));
        rest = if let Some(after) = after.filter(|_| !old.is_empty()) {
            replaced.extend_from_slice(new);
            after
        } else {
            replaced.push(*first);
            behind
        };
    }
    replaced
}
