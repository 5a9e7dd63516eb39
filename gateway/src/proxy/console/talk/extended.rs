//! Commands that are prepared, bound and executed, as drivers do it by themselves.

use bytes::Buf;

use super::{Talk, Trouble, columns_of, malformed, said, utf8};
use crate::console::command::{Command, read};
use crate::console::table::{Format, Row, describe, row};
use crate::postgres::wire::{ErrorResponse, message, split_text, tag};
use bytes::BufMut;

/// A command that is bound: how its rows are sent, and those that have not been.
pub(super) struct Portal {
    command: Option<Command>,
    formats: Vec<Format>,
    rows: Option<std::vec::IntoIter<Row>>,
}

type Said<T> = Result<T, Box<ErrorResponse>>;

/// Commands that may be prepared at one time; they are small, and a driver closes what it does not need.
const MOST_STATEMENTS: usize = 256;
/// Portals at one time: each may hold the rest of a table.
const MOST_PORTALS: usize = 4;

// === impl Talk ===

impl Talk<'_> {
    pub(super) fn parse(&mut self, body: &[u8]) -> Said<()> {
        let (name, rest) = split_text(body).ok_or_else(malformed)?;
        let (sql, _types) = split_text(rest).ok_or_else(malformed)?;
        let mut commands = read(utf8(sql)?)?.into_iter();
        let command = commands.next();
        if commands.next().is_some() {
            return Err(said("42601", "a prepared statement is one command"));
        }
        let name = utf8(name)?.to_owned();
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(said("42P05", &format!("prepared statement {name:?} already exists")));
        }
        if self.statements.len() >= MOST_STATEMENTS {
            return Err(said("53400", "too many prepared statements"));
        }
        self.statements.insert(name, command);
        message(&mut self.out, tag::PARSE_COMPLETE, |_| ());
        Ok(())
    }

    pub(super) fn bind(&mut self, body: &[u8]) -> Said<()> {
        let (portal, rest) = split_text(body).ok_or_else(malformed)?;
        let (statement, mut rest) = split_text(rest).ok_or_else(malformed)?;
        codes(&mut rest)?;
        if number(&mut rest)? > 0 {
            return Err(said("08P01", "no command of the console has parameters"));
        }
        let formats = codes(&mut rest)?;
        let command = self.statement(utf8(statement)?)?.clone();
        let columns = command.as_ref().and_then(columns_of).map_or(0, <[_]>::len);
        if formats.len() > 1 && formats.len() != columns {
            return Err(said("08P01", "there are as many formats as columns, or one, or none"));
        }
        let portal = utf8(portal)?;
        if self.portals.len() >= MOST_PORTALS && !self.portals.contains_key(portal) {
            return Err(said("53400", "too many portals"));
        }
        self.portals.insert(portal.to_owned(), Portal { command, formats, rows: None });
        message(&mut self.out, tag::BIND_COMPLETE, |_| ());
        Ok(())
    }

    pub(super) fn describe(&mut self, body: &[u8]) -> Said<()> {
        let (kind, name) = named(body)?;
        if kind == b'S' {
            let columns = self.statement(name)?.as_ref().and_then(columns_of);
            message(&mut self.out, tag::PARAMETER_DESCRIPTION, |out| out.put_u16(0));
            match columns {
                Some(columns) => describe(columns, |_| Format::Text, &mut self.out),
                None => message(&mut self.out, tag::NO_DATA, |_| ()),
            }
            return Ok(());
        }
        let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
        match portal.command.as_ref().and_then(columns_of) {
            Some(columns) => describe(columns, |place| portal.format(place), &mut self.out),
            None => message(&mut self.out, tag::NO_DATA, |_| ()),
        }
        Ok(())
    }

    pub(super) async fn execute(&mut self, body: &[u8]) -> Result<(), Trouble> {
        let (name, mut rest) = split_text(body).ok_or_else(malformed)?;
        let most = rest.try_get_i32().map_err(|_| malformed())?;
        let name = utf8(name)?.to_owned();
        let mut portal = self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
        let Some(command) = portal.command.clone() else {
            message(&mut self.out, tag::EMPTY_QUERY_RESPONSE, |_| ());
            self.portals.insert(name, portal);
            return Ok(());
        };
        let mut rows = match portal.rows.take() {
            Some(rows) => rows,
            None => self.ask(&command).await?.into_iter(),
        };
        let most = usize::try_from(most).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
        let columns = columns_of(&command).unwrap_or_default();
        let mut sent = 0;
        for cells in rows.by_ref().take(most) {
            row(columns, &cells, |place| portal.format(place), &mut self.out);
            sent += 1;
            self.send_if_much().await?;
        }
        portal.rows = Some(if rows.len() > 0 {
            message(&mut self.out, tag::PORTAL_SUSPENDED, |_| ());
            rows
        } else {
            self.complete(&command, sent);
            // Whoever asks once more gets nothing more, and what they lay in is free.
            Vec::new().into_iter()
        });
        self.portals.insert(name, portal);
        Ok(())
    }

    pub(super) fn close(&mut self, body: &[u8]) -> Said<()> {
        let (kind, name) = named(body)?;
        // What is not there is closed.
        let _ = match kind {
            b'S' => self.statements.remove(name).is_some(),
            _ => self.portals.remove(name).is_some(),
        };
        message(&mut self.out, tag::CLOSE_COMPLETE, |_| ());
        Ok(())
    }

    fn statement(&self, name: &str) -> Said<&Option<Command>> {
        let missing = || said("26000", &format!("prepared statement {name:?} does not exist"));
        self.statements.get(name).ok_or_else(missing)
    }
}

// === impl Portal ===

impl Portal {
    /// Of several formats each column has its own, one is all columns', and without any it is text.
    fn format(&self, place: usize) -> Format {
        let format = if self.formats.len() == 1 { self.formats.first() } else { self.formats.get(place) };
        format.copied().unwrap_or(Format::Text)
    }
}

fn named(body: &[u8]) -> Said<(u8, &str)> {
    let (&kind, rest) = body.split_first().ok_or_else(malformed)?;
    let (name, rest) = split_text(rest).ok_or_else(malformed)?;
    if !rest.is_empty() || !matches!(kind, b'S' | b'P') {
        return Err(malformed());
    }
    Ok((kind, utf8(name)?))
}

fn number(rest: &mut &[u8]) -> Said<u16> {
    rest.try_get_u16().map_err(|_| malformed())
}

/// A list of formats.
fn codes(rest: &mut &[u8]) -> Said<Vec<Format>> {
    let count = number(rest)?;
    let code = |_| match number(rest)? {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        _ => Err(malformed()),
    };
    (0..count).map(code).collect()
}

#[expect(clippy::unnecessary_box_returns, reason = "answers carry it so, to be small when all is well")]
fn no_portal(name: &str) -> Box<ErrorResponse> {
    said("34000", &format!("portal {name:?} does not exist"))
}
