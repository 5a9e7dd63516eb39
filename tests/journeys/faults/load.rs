//! A small steady load: peers that ask at an even pace, look whether each answer is theirs, and take note of what they are
//! told and how long they had to wait.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use cast::frontend::{Message, V3_0, message, query, startup};
use cast::time::pause;
use cast::wire::Address;
use cast::{Frontend, Random, Stopwatch};

/// What a peer lets pass between two questions, and before it tries again.
const PACE: Duration = Duration::from_millis(20);

/// What one peer saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The tokens of writes that were acknowledged.
    pub(crate) acknowledged: Vec<String>,
    /// How each attempt failed that did: a SQLSTATE, [`RESET`] or [`REFUSED`].
    pub(crate) failures: Vec<String>,
    /// Answers that were not its own.
    pub(crate) foreign: Vec<String>,
    /// From asking to an answer, with all attempts between, at most.
    pub(crate) longest: Duration,
}

/// The failure of a connection that just ended.
pub(crate) const RESET: &str = "reset";
/// The failure to connect.
pub(crate) const REFUSED: &str = "connection refused";

/// Peers that ask until they are told to stop.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    peers: Vec<JoinHandle<Seen>>,
}

#[derive(Debug)]
struct Shared {
    address: Address,
    is_over: AtomicBool,
    answered: AtomicU64,
    /// Read during each exchange: who may write knows that no peer is in the middle of one.
    quiet: RwLock<()>,
}

/// What the next peer's tokens are made of.
static FIRST: AtomicU64 = AtomicU64::new(0);

/// Creates what they write to.
pub(crate) const TABLE: &str = "create table tokens (token text)";

// === impl Load ===

impl Load {
    /// So many peers through `address`.
    pub(crate) fn start(address: &Address, count: usize) -> Self {
        let shared = Arc::new(Shared {
            address: address.clone(),
            is_over: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            quiet: RwLock::new(()),
        });
        let peers = (0..count).map(|_| {
            let shared = shared.clone();
            // No two peers of a run have the same tokens, and no two runs.
            let seed = FIRST.fetch_add(1, Ordering::Relaxed) | u64::from(std::process::id()) << 32;
            std::thread::spawn(move || Asker::new(&shared, seed).ask_until_over())
        });
        Self { peers: peers.collect(), shared }
    }

    /// Waits until no peer is in the middle of an exchange; none begins one while the guard lives.
    pub(crate) fn between_exchanges(&self) -> RwLockWriteGuard<'_, ()> {
        self.shared.quiet.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many questions were answered until now.
    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Ends them, and what each has seen.
    pub(crate) fn end(self) -> Vec<Seen> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.peers.into_iter().map(|peer| peer.join().unwrap()).collect()
    }
}

/// One peer at work.
struct Asker<'a> {
    shared: &'a Shared,
    random: Random,
    peer: Option<Frontend>,
    seen: Seen,
}

// === impl Asker ===

impl<'a> Asker<'a> {
    fn new(shared: &'a Shared, seed: u64) -> Self {
        Self { shared, random: Random::seeded(seed), peer: None, seen: Seen::default() }
    }

    fn ask_until_over(mut self) -> Seen {
        while !self.is_over() {
            self.turn();
            pause(PACE);
        }
        self.seen
    }

    fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Relaxed)
    }

    /// One question, asked until something is answered.
    fn turn(&mut self) {
        // Who strikes may have failed, and says so itself.
        let _turn = self.shared.quiet.read().unwrap_or_else(PoisonError::into_inner);
        let watch = Stopwatch::start();
        let mut question = Question::any(&mut self.random);
        while let Err(failure) = self.attempt(&question) {
            self.seen.failures.push(failure);
            if self.is_over() {
                return;
            }
            // What may have been written is never written again.
            question = Question::reading(question.token);
            pause(PACE);
        }
        self.seen.longest = self.seen.longest.max(watch.elapsed());
        self.shared.answered.fetch_add(1, Ordering::Relaxed);
        if question.writes {
            self.seen.acknowledged.push(question.token);
        }
    }

    /// Asks once, over the connection that there is or over a new one.
    fn attempt(&mut self, question: &Question) -> Result<(), String> {
        let mut peer = match self.peer.take() {
            Some(peer) => peer,
            None => login(&self.shared.address)?,
        };
        let rows = question.ask(&mut peer);
        let goes_on = rows.as_ref().map_or_else(|failure| failure.goes_on, |_| true);
        self.peer = goes_on.then_some(peer);
        let rows = rows.map_err(|failure| failure.what)?;
        if rows != [question.token.as_str()] {
            self.seen.foreign.push(format!("{rows:?} instead of {}", question.token));
        }
        Ok(())
    }
}

/// What a peer asks in one exchange, and the answer says its token.
struct Question {
    token: String,
    statements: Vec<String>,
    writes: bool,
}

/// How a question failed, and whether the session goes on.
struct Failure {
    what: String,
    goes_on: bool,
}

// === impl Question ===

impl Question {
    /// Reads, writes, or writes in a transaction of three exchanges.
    fn any(random: &mut Random) -> Self {
        let token = format!("{:016x}", random.next_word());
        let insert = format!("insert into tokens values ('{token}') returning token");
        let statements = match random.below(3) {
            0 => return Self::reading(token),
            1 => vec![insert],
            _ => vec!["begin".to_owned(), insert, "commit".to_owned()],
        };
        Self { token, statements, writes: true }
    }

    fn reading(token: String) -> Self {
        Self { statements: vec![format!("select '{token}'")], token, writes: false }
    }

    /// The rows of all answers.
    fn ask(&self, peer: &mut Frontend) -> Result<Vec<String>, Failure> {
        let mut rows = Vec::new();
        for statement in &self.statements {
            peer.send(&query(statement));
            let answer = peer.until_ready(1);
            if let Some(what) = failure_of(&answer) {
                let goes_on = is_finished(&answer);
                if goes_on && self.statements.len() > 1 {
                    peer.ask("rollback");
                }
                return Err(Failure { what, goes_on });
            }
            // A count of columns and a length come before the only value.
            let is_row = |message: &&Message| message.tag == b'D' && message.body.len() >= 6;
            rows.extend(answer.iter().filter(is_row).map(|row| String::from_utf8_lossy(&row.body[6..]).into_owned()));
        }
        Ok(rows)
    }
}

/// Connects as `postgres`, or how that failed.
fn login(address: &Address) -> Result<Frontend, String> {
    let mut peer = Frontend::try_dial(address).map_err(|_| REFUSED.to_owned())?;
    peer.send(&startup(V3_0, &[("user", "postgres"), ("database", "postgres")]));
    failure_of(&peer.until_ready(1)).map_or(Ok(peer), Err)
}

/// The SQLSTATE of the error in an answer, or that it was not finished.
pub(crate) fn failure_of(answer: &[Message]) -> Option<String> {
    let is_cut = || (!is_finished(answer)).then(|| RESET.to_owned());
    answer.iter().find_map(Message::sqlstate).or_else(is_cut)
}

fn is_finished(answer: &[Message]) -> bool {
    answer.last().is_some_and(|message| message.tag == b'Z')
}

#[test]
fn a_peer_notices_an_answer_that_is_not_its_own() {
    // Lets everybody in, and answers each question with the same row.
    let row = |value: &[u8]| [&[0, 1, 0, 0, 0, 16], value].concat();
    let database = cast::Scripted::tcp(move |mut wire| {
        let mut bytes = [0; 1024];
        let ready = message(b'Z', b"I");
        let mut answer = [message(b'R', &[0; 4]), ready.clone()].concat();
        while let Ok(1..) = wire.read(&mut bytes) {
            if wire.write_all(&answer).is_err() {
                break;
            }
            answer = [message(b'D', &row(b"somebody else's.")), ready.clone()].concat();
        }
    });
    let load = Load::start(database.address(), 1);
    cast::eventually("the peer asks", || load.answered() > 3);
    let seen = load.end();
    assert!(seen[0].foreign.len() > 3, "{seen:?}");
}
