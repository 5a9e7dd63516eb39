//! Peers and a database that exchange bytes: each session has a stream of its own in both directions, so that a byte in
//! the wrong place is seen.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use gateway::net::simulated::TcpStream;
use gateway::random::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use crate::host::Host;
use crate::setting::{Draw, Kind};
use crate::world::{PEERS, POD, World};

/// When a session came, and when the database heard of it.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// It came then.
    pub came: Instant,
    /// It was served then.
    pub served: Option<Instant>,
    /// Whether it came when all trouble was over.
    pub is_calm: bool,
}

/// One question, and how long its answer is to be.
#[derive(Clone, Copy)]
struct Exchange {
    session: u64,
    number: u32,
    up: u32,
    down: u32,
}

/// A session that the database serves; dropping it breaks it off, unless the other side has left.
struct Serving<'a> {
    world: &'a World,
    session: Option<u64>,
    was_left: bool,
}

/// A question's fixed part.
const HEADER: usize = 20;
/// Both directions of a stream.
const UP: u64 = 1;
const DOWN: u64 = 2;
/// How long a peer waits at most.
const PATIENCE: Duration = Duration::from_secs(20);

// === impl Exchange ===

impl Exchange {
    fn random(world: &World, session: u64, number: u32) -> Exchange {
        let size = |most| u32::try_from(world.random.between(0, most)).expect("it is small");
        let most = if world.random.once_in(4) { 100_000 } else { 3_000 };
        Exchange { session, number, up: size(most), down: size(most) }
    }

    fn header(self) -> Vec<u8> {
        let mut bytes = self.session.to_be_bytes().to_vec();
        for number in [self.number, self.up, self.down] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    fn read(header: &[u8; HEADER]) -> Exchange {
        let number = |at| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let session = u64::from_be_bytes(header[..8].try_into().expect("eight bytes"));
        Exchange { session, number: number(8), up: number(12), down: number(16) }
    }

    fn bytes(self, direction: u64, length: u32) -> Vec<u8> {
        let words = Random::from_seed(self.session << 20 | u64::from(self.number) << 2 | direction);
        let length = usize::try_from(length).expect("it fits");
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&words.bits().to_ne_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

// === impl Serving ===

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if let (Some(session), false) = (self.session, self.was_left) {
            self.world.ledger.broken_off.borrow_mut().push(session);
        }
    }
}

/// One peer's life: sessions that end in every way there is.
pub async fn live(world: &Rc<World>) {
    while !world.is_over.get() {
        if let Some((session, mut stream)) = dial(world).await {
            world.record.note(format_args!("opaque session {session} comes"));
            let turn = Turn { came: Instant::now(), served: None, is_calm: world.is_calm.get() };
            world.order.borrow_mut().insert(session, turn);
            let stay = timeout(PATIENCE, visit(world, session, &mut stream)).await;
            leave(world, session, stream, matches!(stay, Ok(Ok(())))).await;
        }
        sleep(world.random.millis(0, 800)).await;
    }
}

/// One that never goes by itself.
pub async fn stay(world: Rc<World>) {
    if let Some((session, mut stream)) = dial(&world).await {
        // It ends with the gateway.
        let _ = exchange(&world, Exchange::random(&world, session, 0), &mut stream).await;
        sleep(PATIENCE * 4).await;
    }
}

async fn dial(world: &World) -> Option<(u64, TcpStream)> {
    let addr = SocketAddr::new(POD, Kind::Opaque.port());
    Some((world.session(), TcpStream::connect_from(PEERS, addr).await.ok()?))
}

async fn visit(world: &World, session: u64, stream: &mut TcpStream) -> io::Result<()> {
    for number in 0..world.random.between(1, 4) {
        let asked = Exchange::random(world, session, u32::try_from(number).expect("it is small"));
        exchange(world, asked, stream).await?;
        world.record.count("opaque exchange");
        sleep(world.random.millis(0, 300)).await;
    }
    Ok(())
}

async fn exchange(world: &World, asked: Exchange, stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&asked.header()).await?;
    stream.write_all(&asked.bytes(UP, asked.up)).await?;
    let (expected, mut at) = (asked.bytes(DOWN, asked.down), 0);
    let mut buffer = [0; 4096];
    while at < expected.len() {
        let read = stream.read(&mut buffer).await?;
        let session = asked.session;
        if read == 0 {
            // A regular end must be one that the database made, or one before there was a session. While the gateway ends,
            // it takes a long pause for the end of an answer.
            let is_served = world.order.borrow().get(&session).is_some_and(|turn| turn.served.is_some());
            let is_regular = world.ledger.broken_off.borrow().contains(&session) || world.is_ending.get();
            if is_served && !is_regular {
                world.record.broken(format_args!("session {session} was cut off and looks as if it had ended"));
            }
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if expected.get(at..at + read) != Some(&buffer[..read]) {
            world.record.broken(format_args!("session {session} got bytes that are not its own"));
            return Err(io::ErrorKind::InvalidData.into());
        }
        at += read;
    }
    Ok(())
}

async fn leave(world: &World, session: u64, mut stream: TcpStream, is_well: bool) {
    if !is_well {
        world.record.count("opaque session cut");
        world.record.note(format_args!("opaque session {session} ends badly"));
        return;
    }
    match world.random.between(0, 3) {
        // With a question on its way.
        0 => {
            let _ = stream.write_all(&Exchange { session, number: 9, up: 50, down: 70_000 }.header()).await;
        }
        // Says that it has finished, and reads to the end.
        1 => {
            let _ = stream.shutdown().await;
            let mut rest = Vec::new();
            let ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
            if !rest.is_empty() {
                world.record.broken(format_args!("session {session} got an answer to nothing"));
            }
            if ended.is_err() && world.is_calm.get() {
                world.record.broken(format_args!("session {session} has said goodbye and is kept"));
            }
        }
        2 => sleep(world.random.millis(0, 2000)).await,
        _ => {}
    }
    world.record.note(format_args!("opaque session {session} ends well"));
}

/// The database's side of one connection.
pub async fn answer(world: &Rc<World>, host: &Host, mut stream: TcpStream) {
    let mut serving = Serving { world, session: None, was_left: false };
    loop {
        let Ok(asked) = question(&mut serving, host, &mut stream).await else {
            serving.was_left = true;
            return;
        };
        let answer = asked.bytes(DOWN, asked.down);
        let is_calm = world.is_calm.get();
        match world.random.between(1, 60) {
            1 if !is_calm => {
                world.record.count("answer broken off");
                let _ = stream.write_all(&answer[..answer.len() / 2]).await;
                return;
            }
            2 => sleep(world.random.millis(0, 3000)).await,
            // It hangs as long as there is trouble.
            3 => {
                while !world.is_calm.get() {
                    sleep(PATIENCE / 40).await;
                }
            }
            _ => {}
        }
        host.breathe().await;
        if stream.write_all(&answer).await.is_err() {
            serving.was_left = true;
            return;
        }
    }
}

async fn question(serving: &mut Serving<'_>, host: &Host, stream: &mut TcpStream) -> io::Result<Exchange> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    let asked = Exchange::read(&header);
    let (world, session) = (serving.world, asked.session);
    world.record.note(format_args!("opaque session {session} asks {}", asked.number));
    let owner = *serving.session.get_or_insert(session);
    if owner != session {
        world.record.broken(format_args!("one connection served sessions {owner} and {session}"));
    }
    if let Some(turn) = world.order.borrow_mut().get_mut(&session) {
        turn.served.get_or_insert_with(Instant::now);
    }
    let mut body = vec![0; usize::try_from(asked.up).expect("it fits")];
    let read = stream.read_exact(&mut body).await;
    host.breathe().await;
    if read.is_ok() && body != asked.bytes(UP, asked.up) {
        world.record.broken(format_args!("the database got other bytes than session {session} sent"));
    }
    read.map(|_| asked)
}
