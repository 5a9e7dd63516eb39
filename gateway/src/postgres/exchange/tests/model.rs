//! A database as one connection of it behaves: as many of PostgreSQL's rules as what a peer hears can depend on. One is
//! left out: a Parse may be answered in a transaction that has failed, where one is that was answered before.

use std::collections::HashMap;

use crate::postgres::wire::{HEADER, message, split_text};

/// One connection to it.
#[derive(Debug, Default)]
pub(super) struct Database {
    unread: Vec<u8>,
    /// What it has said since somebody looked.
    pub(super) said: Vec<u8>,
    /// Each as it was read when it was prepared.
    statements: HashMap<Vec<u8>, Vec<u8>>,
    portals: HashMap<Vec<u8>, Vec<u8>>,
    /// The zone of the session, and the one that it began with.
    zone: Vec<u8>,
    first_zone: Vec<u8>,
    /// Whether it has changed since somebody was told.
    is_news: bool,
    state: State,
    is_skipping: bool,
    copying: Option<Asked>,
    application_name: Setting,
    /// How often it was ready.
    pub(super) readies: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Open,
    Failed,
}

/// By which message a statement was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Query,
    Execute,
}

#[derive(Debug, Default)]
struct Setting {
    now: Vec<u8>,
    committed: Vec<u8>,
    reported: Vec<u8>,
}

/// SQLSTATE and text of an error.
struct Fault(&'static str, String);

const PREPARE: &[u8] = b"prepare ";
const SET: &[u8] = b"set application_name to ";
const BY_US: &[u8] = b"select pg_catalog.set_config('";
/// Tells the zone: like a literal of a time, that in which the statement was prepared.
pub(super) const ZONE: &str = "select zone";

// === impl Database ===

impl Database {
    /// One whose session begins in this zone.
    pub(super) fn in_zone(zone: &str) -> Database {
        Database { zone: zone.into(), first_zone: zone.into(), ..Database::default() }
    }

    /// Takes what was sent to it.
    pub(super) fn hears(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while let Some(length) = self.unread.get(1..HEADER) {
            let whole = 1 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if self.unread.len() < whole {
                break;
            }
            let message: Vec<u8> = self.unread.drain(..whole).collect();
            self.takes(message[0], &message[HEADER..]);
        }
    }

    /// Whether nobody could tell that somebody has just used it.
    pub(super) fn is_clean(&self) -> bool {
        let is_quiet = self.unread.is_empty() && self.said.is_empty();
        is_quiet && self.state == State::Idle && !self.is_skipping && self.copying.is_none() && self.portals.is_empty()
    }

    /// Whether it takes the data of a COPY.
    pub(super) fn is_copying(&self) -> bool {
        self.copying.is_some()
    }

    fn takes(&mut self, tag: u8, body: &[u8]) {
        if let Some(asked) = self.copying {
            return self.takes_copy(asked, tag);
        }
        let outcome = match tag {
            b'S' => {
                self.is_skipping = false;
                return self.ready();
            }
            // What comes of a COPY that has failed is ignored, too.
            b'H' | b'd' | b'c' | b'f' => Ok(()),
            _ if self.is_skipping => Ok(()),
            b'Q' => return self.query(body),
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'D' => self.describe(body),
            b'E' => self.execute(body),
            b'C' => self.close(body),
            _ => Err(Fault("08P01", format!("what is {tag}"))),
        };
        if let Err(fault) = outcome {
            self.is_skipping = true;
            self.fails(&fault);
        }
    }

    fn takes_copy(&mut self, asked: Asked, tag: u8) {
        let fault = match tag {
            b'd' | b'H' | b'S' => return,
            b'c' => None,
            b'f' => Some(Fault("57014", "COPY from stdin failed".into())),
            _ => Some(Fault("08P01", "unexpected message during COPY".into())),
        };
        self.copying = None;
        match fault {
            None => self.done("COPY 1"),
            Some(fault) => {
                self.is_skipping = asked == Asked::Execute;
                self.fails(&fault);
            }
        }
        if asked == Asked::Query {
            self.ready();
        }
    }

    fn query(&mut self, body: &[u8]) {
        self.statements.remove(&b""[..]);
        self.portals.remove(&b""[..]);
        let sql = split_text(body).map(|(sql, _)| sql).unwrap_or_default();
        let outcome = parsed(sql).and_then(|()| self.run(&self.as_read(sql), Asked::Query));
        if let Err(fault) = outcome {
            self.fails(&fault);
        }
        if self.copying.is_none() {
            self.ready();
        }
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), Fault> {
        let (name, rest) = split_text(body).ok_or_else(malformed)?;
        let (sql, _) = split_text(rest).ok_or_else(malformed)?;
        if name.is_empty() {
            self.statements.remove(name);
        }
        parsed(sql)?;
        if self.statements.contains_key(name) {
            return Err(Fault("42P05", format!("prepared statement \"{}\" already exists", text(name))));
        }
        self.statements.insert(name.to_vec(), self.as_read(sql));
        self.says(b'1', b"");
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Fault> {
        let (portal, rest) = split_text(body).ok_or_else(malformed)?;
        let (name, _) = split_text(rest).ok_or_else(malformed)?;
        let sql = self.statement(name)?;
        self.may_run(&sql)?;
        if !portal.is_empty() && self.portals.contains_key(portal) {
            return Err(Fault("42P03", format!("cursor \"{}\" already exists", text(portal))));
        }
        self.portals.insert(portal.to_vec(), sql);
        self.says(b'2', b"");
        Ok(())
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), Fault> {
        let (kind, name) = body.split_first().ok_or_else(malformed)?;
        let (name, _) = split_text(name).ok_or_else(malformed)?;
        let sql = if *kind == b'S' { self.statement(name)? } else { self.portal(name)? };
        if has_rows(&sql) {
            self.may_run(&sql)?;
        }
        if *kind == b'S' {
            self.says(b't', b"\0\0");
        }
        let (tag, body): (u8, &[u8]) = if has_rows(&sql) { (b'T', b"\0\0") } else { (b'n', b"") };
        self.says(tag, body);
        Ok(())
    }

    fn execute(&mut self, body: &[u8]) -> Result<(), Fault> {
        let (name, _) = split_text(body).ok_or_else(malformed)?;
        let sql = self.portal(name)?;
        self.run(&sql, Asked::Execute)
    }

    fn close(&mut self, body: &[u8]) -> Result<(), Fault> {
        let (kind, name) = body.split_first().ok_or_else(malformed)?;
        let (name, _) = split_text(name).ok_or_else(malformed)?;
        let of_its_kind = if *kind == b'S' { &mut self.statements } else { &mut self.portals };
        of_its_kind.remove(name);
        self.says(b'3', b"");
        Ok(())
    }

    fn as_read(&self, sql: &[u8]) -> Vec<u8> {
        if sql == ZONE.as_bytes() { [sql, b" ", &self.zone].concat() } else { sql.to_vec() }
    }

    fn statement(&self, name: &[u8]) -> Result<Vec<u8>, Fault> {
        let unknown = || Fault("26000", format!("prepared statement \"{}\" does not exist", text(name)));
        self.statements.get(name).cloned().ok_or_else(unknown)
    }

    fn portal(&self, name: &[u8]) -> Result<Vec<u8>, Fault> {
        let unknown = || Fault("34000", format!("portal \"{}\" does not exist", text(name)));
        self.portals.get(name).cloned().ok_or_else(unknown)
    }

    fn may_run(&self, sql: &[u8]) -> Result<(), Fault> {
        let may = self.state != State::Failed || matches!(sql, b"commit" | b"rollback");
        if may { Ok(()) } else { Err(Fault("25P02", "current transaction is aborted".into())) }
    }

    fn run(&mut self, sql: &[u8], asked: Asked) -> Result<(), Fault> {
        if sql.is_empty() {
            self.says(b'I', b"");
            return Ok(());
        }
        self.may_run(sql)?;
        match sql {
            b"begin" => {
                self.state = State::Open;
                self.done("BEGIN");
            }
            b"commit" | b"rollback" => self.ends(sql == b"commit" && self.state != State::Failed),
            b"fail" => return Err(Fault("22012", "division by zero".into())),
            b"copy t from stdin" => {
                self.says(b'G', b"\0\0\0");
                self.copying = Some(asked);
            }
            b"copy t to stdout" => {
                self.says(b'H', b"\0\0\0");
                self.says(b'd', b"one\n");
                self.says(b'c', b"");
                self.done("COPY 1");
            }
            b"listen t" => self.done("LISTEN"),
            b"discard all" if self.state != State::Idle => {
                return Err(Fault("25001", "DISCARD ALL cannot run inside a transaction block".into()));
            }
            b"discard all" => {
                (self.statements, self.portals) = (HashMap::new(), HashMap::new());
                self.application_name.now = Vec::new();
                self.is_news |= self.zone != self.first_zone;
                self.zone.clone_from(&self.first_zone);
                self.done("DISCARD ALL");
            }
            b"deallocate all" => {
                self.statements.clear();
                self.done("DEALLOCATE ALL");
            }
            b"show application_name" => {
                let now = self.application_name.now.clone();
                self.row(&now, asked, "SHOW");
            }
            sql => self.run_with_an_argument(sql, asked)?,
        }
        Ok(())
    }

    fn run_with_an_argument(&mut self, sql: &[u8], asked: Asked) -> Result<(), Fault> {
        if let Some(value) = sql.strip_prefix(SET) {
            let plain = |byte: &u8| if byte.is_ascii_alphanumeric() { *byte } else { b'?' };
            self.application_name.now = value.iter().map(plain).collect();
            self.done("SET");
        } else if sql.starts_with(BY_US) {
            self.is_set_by_us(sql);
            self.row(b"", asked, "SELECT 1");
        } else if let Some((name, then)) = prepares_nothing(sql) {
            if self.statements.contains_key(name) {
                return Err(Fault("42P05", format!("prepared statement \"{}\" already exists", text(name))));
            }
            self.statements.insert(name.to_vec(), Vec::new());
            self.done("PREPARE");
            return self.run(then, asked);
        } else if let Some(name) = sql.strip_prefix(b"deallocate ") {
            self.statement(name)?;
            self.statements.remove(name);
            self.done("DEALLOCATE");
        } else {
            self.row(sql, asked, "SELECT 1");
        }
        Ok(())
    }

    /// Each `set_config('name',E'value',false)` in it.
    fn is_set_by_us(&mut self, sql: &[u8]) {
        let sql = String::from_utf8_lossy(sql);
        for setting in sql.split("set_config(").skip(1) {
            let mut parts = setting.split('\'').skip(1).step_by(2);
            let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            if name == "TimeZone" {
                self.is_news |= self.zone != value.as_bytes();
                self.zone = value.into();
            } else {
                self.application_name.now = value.into();
            }
        }
    }

    fn ends(&mut self, is_kept: bool) {
        self.state = State::Idle;
        self.portals.clear();
        let Setting { now, committed, .. } = &mut self.application_name;
        let (from, to) = if is_kept { (now, committed) } else { (committed, now) };
        to.clone_from(from);
        self.done(if is_kept { "COMMIT" } else { "ROLLBACK" });
    }

    fn fails(&mut self, Fault(code, text): &Fault) {
        self.says(b'E', format!("SERROR\0VERROR\0C{code}\0M{text}\0\0").as_bytes());
        if self.state == State::Idle {
            self.portals.clear();
            self.application_name.now = self.application_name.committed.clone();
        } else {
            self.state = State::Failed;
        }
    }

    fn ready(&mut self) {
        let name = &mut self.application_name;
        if self.state == State::Idle {
            name.committed.clone_from(&name.now);
            self.portals.clear();
        }
        if name.reported != name.now {
            name.reported.clone_from(&name.now);
            let status = [b"application_name\0", &name.now[..], b"\0"].concat();
            self.says(b'S', &status);
        }
        if std::mem::take(&mut self.is_news) {
            let status = [b"TimeZone\0", &self.zone[..], b"\0"].concat();
            self.says(b'S', &status);
        }
        let state = match self.state {
            State::Idle => b"I",
            State::Open => b"T",
            State::Failed => b"E",
        };
        self.says(b'Z', state);
        self.readies += 1;
    }

    fn row(&mut self, value: &[u8], asked: Asked, done: &str) {
        if asked == Asked::Query {
            self.says(b'T', b"\0\0");
        }
        self.says(b'D', &[b"\0\x01\0\0\0", &[u8::try_from(value.len()).unwrap()][..], value].concat());
        self.done(done);
    }

    fn done(&mut self, tag: &str) {
        self.says(b'C', format!("{tag}\0").as_bytes());
    }

    fn says(&mut self, tag: u8, body: &[u8]) {
        message(&mut self.said, tag, |out| out.extend_from_slice(body));
    }
}

/// Whether it understands `sql`.
fn parsed(sql: &[u8]) -> Result<(), Fault> {
    let beginnings: [&[u8]; 6] = [b"select ", b"copy t ", SET, PREPARE, b"deallocate ", b"discard all"];
    let whole: [&[u8]; 6] = [b"", b"begin", b"commit", b"rollback", b"fail", b"listen t"];
    let is_known = beginnings.iter().any(|beginning| sql.starts_with(beginning))
        || whole.contains(&sql)
        || sql == b"show application_name";
    if is_known { Ok(()) } else { Err(Fault("42601", format!("syntax error at or near {}", text(sql)))) }
}

/// The name in `prepare name as select; then`, and what is to run then.
fn prepares_nothing(sql: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) =
        sql.strip_prefix(PREPARE)?.split_at_checked(sql.iter().skip(PREPARE.len()).position(|byte| *byte == b' ')?)?;
    Some((name, rest.strip_prefix(b" as select; ")?))
}

fn has_rows(sql: &[u8]) -> bool {
    sql.starts_with(b"select ") || sql.starts_with(b"show ")
}

fn malformed() -> Fault {
    Fault("08P01", "invalid message format".into())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
