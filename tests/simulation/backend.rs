//! A backend that speaks as much PostgreSQL as a simulation needs. What a peer asks names its session (`'q-<session>-<n>'`),
//! so that two sessions where there must be one are seen.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use gateway::net::simulated::TcpStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::host::Host;
use crate::setting::{Draw, Kind};
use crate::world::World;

/// How a backend's query is cancelled.
pub struct Cancel {
    secret: Vec<u8>,
    is_sleeping: Cell<bool>,
    struck: Notify,
}

/// One connection's state.
struct Backend<'a> {
    world: &'a World,
    kind: Kind,
    process: u32,
    cancel: Rc<Cancel>,
    /// `I`, `T` or `E`.
    status: u8,
    statements: BTreeMap<String, String>,
    /// The statement and the parameter of the portal without a name.
    portal: Option<(String, String)>,
    /// A setting that only its own session may see.
    mine: String,
    /// The session that has this connection.
    owner: Option<u64>,
    /// An error came, and no Sync since.
    is_skipping: bool,
    out: Vec<u8>,
}

/// The entry of a backend; it goes with it.
struct Entry<'a>(&'a Host, u32);

const CANCEL_REQUEST: u32 = 80_877_102;
const VERSION_3: u32 = 196_608;
/// What every session hears at its beginning.
const PARAMETERS: [(&str, &str); 7] = [
    ("server_version", "15.0"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("standard_conforming_strings", "on"),
    ("in_hot_standby", "off"),
];

/// Serves one connection.
pub async fn serve(world: &World, host: &Host, kind: Kind, mut stream: TcpStream) {
    let Ok(Some(packet)) = startup(world, host, &mut stream).await else { return };
    let process = world.ledger.last_process.get() + 1;
    world.ledger.last_process.set(process);
    let secret = world.random.bits().to_be_bytes()[..4].to_vec();
    let cancel = Rc::new(Cancel { secret, is_sleeping: Cell::new(false), struck: Notify::new() });
    host.backends.borrow_mut().insert(process, cancel.clone());
    let _entry = Entry(host, process);
    let mut backend = Backend::new(world, kind, process, cancel);
    if !packet.windows(9).any(|window| window == b"user\0app\0") {
        world.record.broken("the gateway logs in as somebody else");
    }
    backend.greet();
    // Whoever is gone needs no answer.
    let _ = backend.converse(host, &mut stream).await;
}

/// The first packet, if it is no request to cancel.
async fn startup(world: &World, host: &Host, stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = stream.read_u32().await?;
    let mut packet = vec![0; usize::try_from(length - 4).expect("it fits")];
    stream.read_exact(&mut packet).await?;
    host.breathe().await;
    let number = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().expect("four bytes"));
    match number(0) {
        CANCEL_REQUEST => {
            // Whoever heeds it late must find nobody else's query.
            sleep(world.random.millis(0, 400)).await;
            let victim = host.backends.borrow().get(&number(4)).cloned();
            match victim {
                Some(victim) if victim.secret == packet[8..] && victim.is_sleeping.get() => victim.struck.notify_one(),
                Some(_) | None => {}
            }
            Ok(None)
        }
        VERSION_3 => Ok(Some(packet)),
        other => {
            world.record.broken(format_args!("the gateway begins with {other}"));
            Ok(None)
        }
    }
}

/// The next message.
pub async fn message(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let tag = stream.read_u8().await?;
    let length = stream.read_u32().await?;
    let mut body = vec![0; usize::try_from(length - 4).expect("it fits")];
    stream.read_exact(&mut body).await?;
    Ok((tag, body))
}

/// Writes a message.
pub fn write(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&u32::try_from(body.len() + 4).expect("it fits").to_be_bytes());
    out.extend_from_slice(body);
}

/// The first text of `bytes`, and the rest.
pub fn text(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (String::from_utf8_lossy(&bytes[..end]).into_owned(), bytes.get(end + 1..).unwrap_or_default())
}

/// What stands between the first quotes.
fn quoted(statement: &str) -> &str {
    statement.split('\'').nth(1).unwrap_or_default()
}

// === impl Backend ===

impl Backend<'_> {
    fn new(world: &World, kind: Kind, process: u32, cancel: Rc<Cancel>) -> Backend<'_> {
        Backend {
            world,
            kind,
            process,
            cancel,
            status: b'I',
            statements: BTreeMap::new(),
            portal: None,
            mine: String::new(),
            owner: None,
            is_skipping: false,
            out: Vec::new(),
        }
    }

    fn greet(&mut self) {
        write(&mut self.out, b'R', &0_u32.to_be_bytes());
        for (name, value) in PARAMETERS {
            write(&mut self.out, b'S', format!("{name}\0{value}\0").as_bytes());
        }
        let mut key = self.process.to_be_bytes().to_vec();
        key.extend_from_slice(&self.cancel.secret);
        write(&mut self.out, b'K', &key);
        self.ready();
    }

    async fn converse(&mut self, host: &Host, stream: &mut TcpStream) -> io::Result<()> {
        loop {
            let out = std::mem::take(&mut self.out);
            let is_calm = self.world.is_calm.get();
            if !is_calm && self.world.random.once_in(200) {
                self.world.record.count("answer broken off");
                return stream.write_all(&out[..out.len() / 2]).await;
            }
            if !is_calm && self.world.random.once_in(60) {
                sleep(self.world.random.millis(0, 1500)).await;
            }
            host.breathe().await;
            stream.write_all(&out).await?;
            let (tag, body) = message(stream).await?;
            host.breathe().await;
            match tag {
                b'X' => return Ok(()),
                b'S' => {
                    self.is_skipping = false;
                    self.ready();
                }
                _ if self.is_skipping => {}
                b'Q' => {
                    for statement in text(&body).0.split(';') {
                        self.statement(statement.trim()).await;
                    }
                    self.is_skipping = false;
                    self.ready();
                }
                _ => self.extended(tag, &body),
            }
        }
    }

    async fn statement(&mut self, statement: &str) {
        if self.is_skipping {
            return;
        }
        let token = quoted(statement).to_owned();
        self.world.record.note(format_args!("{} {}: {statement}", self.kind.name(), self.process));
        self.belongs_to(&token);
        let word = statement.split([' ', '\'']).next().unwrap_or_default();
        match word {
            "commit" | "rollback" | "ROLLBACK" => {
                self.status = b'I';
                self.complete(word);
            }
            _ if self.status == b'E' => self.fail("25P02"),
            "begin" => {
                self.status = b'T';
                self.owner = self.owner.filter(|_| self.is_kept());
                self.complete("BEGIN");
            }
            "insert" => {
                *self.world.ledger.writes.borrow_mut().entry(token).or_default() += 1;
                self.complete("INSERT 0 1");
            }
            "set" => {
                self.mine = token;
                self.complete("SET");
            }
            "show" => {
                let mine = self.mine.clone();
                self.row(&[&mine]);
            }
            "fail" => self.fail("42601"),
            "sleep" => self.sleep(&token).await,
            "select" => self.row(&[&token]),
            "DISCARD" if self.status != b'I' => self.fail("25001"),
            "DISCARD" => {
                self.statements.clear();
                // In passthrough nobody comes after its session.
                (self.mine, self.owner) = (String::new(), self.owner.filter(|_| self.kind == Kind::Passthrough));
                self.complete("DISCARD ALL");
            }
            _ => self.complete("OK"),
        }
    }

    async fn sleep(&mut self, token: &str) {
        self.cancel.is_sleeping.set(true);
        let time = self.world.random.millis(100, 1500);
        let is_cancelled = tokio::select! {
            biased;
            () = self.cancel.struck.notified() => true,
            () = sleep(time) => false,
        };
        self.cancel.is_sleeping.set(false);
        if is_cancelled { self.fail("57014") } else { self.row(&[token]) }
    }

    fn extended(&mut self, tag: u8, body: &[u8]) {
        match tag {
            b'P' => {
                let (name, rest) = text(body);
                let (statement, _) = text(rest);
                if !name.is_empty() && self.statements.contains_key(&name) {
                    return self.fail("42P05");
                }
                self.statements.insert(name, statement);
                write(&mut self.out, b'1', b"");
            }
            b'B' => {
                let (_, rest) = text(body);
                let (name, rest) = text(rest);
                let Some(statement) = self.statements.get(&name) else { return self.fail("26000") };
                // No formats, one parameter.
                let parameter = String::from_utf8_lossy(&rest[8..rest.len() - 2]).into_owned();
                self.portal = Some((statement.clone(), parameter));
                write(&mut self.out, b'2', b"");
            }
            b'E' => {
                let Some((statement, parameter)) = self.portal.clone() else { return self.fail("34000") };
                self.belongs_to(quoted(&statement));
                self.belongs_to(&parameter);
                if self.status == b'E' {
                    return self.fail("25P02");
                }
                let token = quoted(&statement).to_owned();
                self.cells(&[&token, &parameter]);
                self.complete("SELECT 1");
            }
            b'C' => {
                self.statements.remove(&text(&body[1..]).0);
                write(&mut self.out, b'3', b"");
            }
            b'H' => {}
            other => self.world.record.broken(format_args!("the gateway sends a message {:?}", char::from(other))),
        }
    }

    /// Two sessions must not be on one connection: not before it was reset, in a transaction, or with a setting.
    fn belongs_to(&mut self, token: &str) {
        let Some(session) = token.split('-').nth(1).and_then(|session| session.parse().ok()) else { return };
        match self.owner {
            Some(owner) if owner != session && (self.is_kept() || self.status != b'I') => {
                self.world.record.broken(format_args!("sessions {owner} and {session} share a connection: {token}"));
            }
            _ => self.owner = Some(session),
        }
    }

    /// Whether it is one session's until it is reset.
    fn is_kept(&self) -> bool {
        self.kind != Kind::Transaction || !self.mine.is_empty()
    }

    fn row(&mut self, cells: &[&str]) {
        let mut body = u16::try_from(cells.len()).expect("a few").to_be_bytes().to_vec();
        for _ in cells {
            body.extend_from_slice(b"c\0");
            body.extend_from_slice(&[0; 18]);
        }
        write(&mut self.out, b'T', &body);
        self.cells(cells);
        self.complete("SELECT 1");
    }

    fn cells(&mut self, cells: &[&str]) {
        let mut body = u16::try_from(cells.len()).expect("a few").to_be_bytes().to_vec();
        for cell in cells {
            body.extend_from_slice(&u32::try_from(cell.len()).expect("it fits").to_be_bytes());
            body.extend_from_slice(cell.as_bytes());
        }
        write(&mut self.out, b'D', &body);
    }

    fn complete(&mut self, tag: &str) {
        write(&mut self.out, b'C', format!("{tag}\0").as_bytes());
    }

    fn fail(&mut self, code: &str) {
        write(&mut self.out, b'E', format!("SERROR\0VERROR\0C{code}\0Mit failed\0\0").as_bytes());
        self.is_skipping = true;
        if self.status == b'T' {
            self.status = b'E';
        }
    }

    fn ready(&mut self) {
        let status = self.status;
        write(&mut self.out, b'Z', &[status]);
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.backends.borrow_mut().remove(&self.1);
    }
}
