//! Peers that speak PostgreSQL: queries, prepared statements, transactions, settings, writes and cancels, and sessions
//! that end in every way there is.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use gateway::net::simulated::TcpStream;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{message, text, write};
use crate::setting::{Draw, Kind, LONGEST_ACQUIRE};
use crate::world::{PEERS, POD, World};

/// A session of one peer.
struct Session<'a> {
    world: &'a World,
    kind: Kind,
    number: u64,
    stream: TcpStream,
    key: Vec<u8>,
    has_cancelled: bool,
    /// The names of its statements.
    prepared: Vec<String>,
    next_token: u64,
}

/// What came in answer.
#[derive(Default)]
struct Answer {
    rows: Vec<Vec<String>>,
    codes: Vec<String>,
}

/// A session lasts no longer.
pub const LONGEST_STAY: Duration = Duration::from_mins(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// What a peer may hear without having done anything wrong: the database is away or restarts, there are too many peers,
/// a transaction or a session was idle for too long, the gateway ends.
const EXCUSES: [&str; 7] = ["57P05", "57P01", "57P03", "08006", "53300", "25P03", "08001"];

/// One peer's life.
pub async fn live(world: &Rc<World>, kind: Kind) {
    while !world.is_over.get() {
        let begin = Instant::now();
        if let Ok(Ok(Some(mut session))) = timeout(LONGEST_STAY, Session::begin(world, kind)).await {
            let stayed = timeout(LONGEST_STAY.saturating_sub(begin.elapsed()), session.stay()).await;
            let is_well = matches!(stayed, Ok(Ok(())));
            world.record.note(format_args!("{} session {} ends well: {is_well}", kind.name(), session.number));
            if is_well {
                session.leave().await;
            } else {
                world.record.count("session of SQL cut");
            }
        }
        sleep(world.random.millis(0, 800)).await;
    }
}

// === impl Session ===

impl Session<'_> {
    async fn begin(world: &World, kind: Kind) -> io::Result<Option<Session<'_>>> {
        let number = world.session();
        let mut stream = TcpStream::connect_from(PEERS, SocketAddr::new(POD, kind.port())).await?;
        let body = b"\x00\x03\x00\x00user\0app\0database\0app\0\0";
        let begin = Instant::now();
        stream.write_u32(u32::try_from(body.len() + 4).expect("it fits")).await?;
        stream.write_all(body).await?;
        let mut session = Session {
            world,
            kind,
            number,
            stream,
            key: Vec::new(),
            has_cancelled: false,
            prepared: Vec::new(),
            next_token: 0,
        };
        let answer = session.answer().await?;
        if answer.codes.is_empty() {
            return Ok(Some(session));
        }
        world.record.count("refused");
        world.record.note(format_args!("{} session {number} is refused: {:?}", kind.name(), answer.codes));
        session.excuse(&answer);
        if begin.elapsed() > LONGEST_ACQUIRE + Duration::from_secs(1) {
            world.record.broken(format_args!("session {number} was refused after {:?}", begin.elapsed()));
        }
        Ok(None)
    }

    async fn stay(&mut self) -> io::Result<()> {
        for _ in 0..self.world.random.between(1, 10) {
            match self.world.random.between(0, 11) {
                0..=2 => self.query().await?,
                3 | 4 => self.prepared_query().await?,
                5 => self.transaction().await?,
                6 => self.write().await?,
                7 => self.cancel().await?,
                8 => self.setting().await?,
                9 | 10 => self.long_query().await?,
                _ => self.failure().await?,
            }
            if self.world.random.once_in(2) {
                sleep(self.world.random.millis(0, 400)).await;
            }
        }
        Ok(())
    }

    async fn query(&mut self) -> io::Result<()> {
        let token = self.token("q");
        let answer = self.ask(&format!("select '{token}'")).await?;
        self.expect(&answer, &[vec![token]], "query");
        Ok(())
    }

    async fn prepared_query(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        let known = self.prepared.len() as u64;
        let is_new = known == 0 || self.world.random.once_in(3);
        let name = if is_new {
            let name = if self.world.random.once_in(4) { String::new() } else { format!("s{known}") };
            let text = self.statement(&name);
            write(&mut out, b'P', format!("{name}\0{text}\0\0\0").as_bytes());
            name
        } else {
            self.prepared[usize::try_from(self.world.random.between(0, known - 1)).expect("it fits")].clone()
        };
        let token = self.token("p");
        let mut bind = format!("\0{name}\0\0\0\0\x01").into_bytes();
        bind.extend_from_slice(&u32::try_from(token.len()).expect("it fits").to_be_bytes());
        bind.extend_from_slice(token.as_bytes());
        bind.extend_from_slice(&[0, 0]);
        write(&mut out, b'B', &bind);
        write(&mut out, b'E', &[0; 5]);
        write(&mut out, b'S', b"");
        self.stream.write_all(&out).await?;
        let answer = self.answer().await?;
        let statement = self.statement(&name);
        let expected = statement.split('\'').nth(1).unwrap_or_default().to_owned();
        if self.expect(&answer, &[vec![expected, token]], "prepared query") && is_new && !name.is_empty() {
            self.prepared.push(name);
        }
        Ok(())
    }

    async fn transaction(&mut self) -> io::Result<()> {
        let begun = self.ask("begin").await?;
        self.expect(&begun, &[], "transaction");
        for _ in 0..self.world.random.between(0, 3) {
            self.query().await?;
            sleep(self.world.random.millis(0, 1000)).await;
        }
        let is_rolled_back = self.world.random.once_in(3);
        let ended = self.ask(if is_rolled_back { "rollback" } else { "commit" }).await?;
        self.expect(&ended, &[], "transaction");
        Ok(())
    }

    /// What was answered was done once; what was not may have been done, once.
    async fn write(&mut self) -> io::Result<()> {
        let token = self.token("w");
        self.world.ledger.told.borrow_mut().insert(token.clone(), false);
        let answer = self.ask(&format!("insert '{token}'")).await?;
        if self.expect(&answer, &[], "write") {
            self.world.ledger.told.borrow_mut().insert(token, true);
        }
        Ok(())
    }

    /// A query that takes a while, and that nobody else may cancel.
    async fn long_query(&mut self) -> io::Result<()> {
        let token = self.token("l");
        let answer = self.ask(&format!("sleep '{token}'")).await?;
        self.expect(&answer, &[vec![token]], "query");
        Ok(())
    }

    async fn cancel(&mut self) -> io::Result<()> {
        let mut request = vec![0, 0, 0, 16];
        request.extend_from_slice(&80_877_102_u32.to_be_bytes());
        request.extend_from_slice(&self.key);
        let pause = self.world.random.millis(0, 300);
        self.has_cancelled = true;
        let gateway = SocketAddr::new(POD, self.kind.port());
        let cancelling = spawn_local(async move {
            sleep(pause).await;
            // It has no answer, and may come too late.
            if let Ok(mut stream) = TcpStream::connect_from(PEERS, gateway).await {
                let _ = stream.write_all(&request).await;
                let _ = stream.shutdown().await;
            }
        });
        let token = self.token("c");
        let answer = self.ask(&format!("sleep '{token}'")).await;
        // It must not stay behind.
        let _ = cancelling.await;
        let answer = answer?;
        if answer.codes == ["57014"] {
            self.world.record.count("cancelled");
        } else {
            self.expect(&answer, &[vec![token]], "query");
        }
        Ok(())
    }

    /// Nobody else sees it, and nobody else's is seen.
    async fn setting(&mut self) -> io::Result<()> {
        let token = format!("m-{}-0", self.number);
        let answer = self.ask("show mine").await?;
        if answer.codes.is_empty() && answer.rows != [vec![String::new()]] && answer.rows != [vec![token.clone()]] {
            self.world.record.broken(format_args!("session {} finds {:?}", self.number, answer.rows));
        }
        let answer = self.ask(&format!("set mine = '{token}'")).await?;
        if self.expect(&answer, &[], "own setting") {
            let answer = self.ask("show mine").await?;
            self.expect(&answer, &[vec![token]], "own setting");
        }
        Ok(())
    }

    async fn failure(&mut self) -> io::Result<()> {
        let mut answer = self.ask("fail").await?;
        if answer.codes.is_empty() {
            self.world.record.broken(format_args!("session {} hears of no failure", self.number));
        }
        // An outage may follow before the database was ready again.
        answer.codes.retain(|code| code != "42601");
        self.excuse(&answer);
        Ok(())
    }

    async fn leave(mut self) {
        match self.world.random.between(0, 3) {
            // In the middle of a transaction, with an answer on its way, without a word, or as one should.
            0 => drop(self.ask("begin").await),
            1 => {
                let token = self.token("q");
                let mut out = Vec::new();
                write(&mut out, b'Q', format!("select '{token}'\0").as_bytes());
                drop(self.stream.write_all(&out).await);
            }
            2 => {}
            _ => {
                let mut out = Vec::new();
                write(&mut out, b'X', b"");
                drop(self.stream.write_all(&out).await);
            }
        }
    }

    /// The text of its statement of this name.
    fn statement(&self, name: &str) -> String {
        // Some texts are everybody's, so that statements are shared.
        if name == "s1" {
            "select 'everybody', $1".to_owned()
        } else {
            format!("select 't-{}-{name}', $1", self.number)
        }
    }

    fn token(&mut self, what: &str) -> String {
        self.next_token += 1;
        format!("{what}-{}-{}", self.number, self.next_token)
    }

    async fn ask(&mut self, statement: &str) -> io::Result<Answer> {
        let mut out = Vec::new();
        write(&mut out, b'Q', format!("{statement}\0").as_bytes());
        self.stream.write_all(&out).await?;
        self.answer().await
    }

    /// Everything up to ReadyForQuery; or up to the end, where an error told why.
    async fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = Answer::default();
        loop {
            let next =
                timeout(PATIENCE, message(&mut self.stream)).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
            let (tag, body) = match next {
                Err(_) if !answer.codes.is_empty() => return Ok(answer),
                next => next?,
            };
            match tag {
                b'Z' => return Ok(answer),
                b'K' => self.key = body,
                b'D' => answer.rows.push(cells(&body)),
                b'E' => answer.codes.push(code(&body)),
                b'R' | b'S' | b'T' | b'C' | b'N' | b'1' | b'2' | b'3' => {}
                other => self.world.record.broken(format_args!("a peer is sent a message {:?}", char::from(other))),
            }
        }
    }

    /// Whether the answer was the one that was expected; errors must have an excuse.
    fn expect(&self, answer: &Answer, rows: &[Vec<String>], what: &'static str) -> bool {
        if !answer.codes.is_empty() {
            self.excuse(answer);
            return false;
        }
        if answer.rows != rows {
            let number = self.number;
            self.world.record.broken(format_args!("session {number} expected {rows:?} and got {:?}", answer.rows));
        }
        self.world.record.count(what);
        true
    }

    fn excuse(&self, answer: &Answer) {
        for code in &answer.codes {
            let is_own_cancel = code == "57014" && self.has_cancelled;
            // It follows an error that was told of.
            let follows = code == "25P02";
            if !EXCUSES.contains(&&**code) && !is_own_cancel && !follows {
                self.world.record.broken(format_args!("{} session {} gets {code}", self.kind.name(), self.number));
            }
        }
    }
}

fn cells(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut cells = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (cell, after) = after.split_at(usize::try_from(u32::from_be_bytes(*length)).expect("it fits"));
        cells.push(String::from_utf8_lossy(cell).into_owned());
        rest = after;
    }
    cells
}

fn code(body: &[u8]) -> String {
    let mut rest = body;
    while let [field, after @ ..] = rest {
        let (value, after) = text(after);
        if *field == b'C' {
            return value;
        }
        rest = after;
    }
    String::new()
}
