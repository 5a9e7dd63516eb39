//! One peer: it asks, looks at every answer, and misbehaves, over as many connections as that takes.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cast::frontend::{Message, V3_0, cancel_request, query, transcript};
use cast::time::pause;
use cast::wire::Address;
use cast::{Frontend, Random};

use super::pipeline::{Answer, DIGITS, Left, MARK, Pipeline, token};

/// Exchanges of one pipeline, at most.
const MOST_AT_ONCE: u64 = 64;
/// Logins that may fail in a row while the database restarts.
const MOST_LOGINS: usize = 1000;

/// What all peers together have done.
#[derive(Debug, Default)]
pub(super) struct Tally {
    answered: AtomicU64,
    lost: AtomicU64,
    logins: AtomicU64,
    left: AtomicU64,
    halves: AtomicU64,
    cancels: AtomicU64,
    cancelled: AtomicU64,
    silences: AtomicU64,
}

/// One peer.
pub(super) struct Talker<'a> {
    address: &'a Address,
    tally: &'a Tally,
    random: Random,
    /// Whether it stays in its session.
    pub(super) stays: bool,
    /// Whether it cancels queries of its own.
    pub(super) cancels: bool,
    peer: Frontend,
    key: Vec<u8>,
    left: Left,
}

// === impl Talker ===

impl<'a> Talker<'a> {
    pub(super) fn new(address: &'a Address, tally: &'a Tally, random: Random) -> Self {
        let (peer, key) = login(address, tally);
        Self { address, tally, random, stays: true, cancels: false, peer, key, left: Left::default() }
    }

    /// Until so many exchanges were answered.
    pub(super) fn talk(&mut self, exchanges: u64) {
        let (mut answered, mut asked) = (0, 0);
        while answered < exchanges {
            assert!(asked < exchanges * 3 + 10_000, "of {asked} exchanges only {answered} were answered");
            let count = 1 + self.random.below(MOST_AT_ONCE);
            asked += count;
            answered += self.misbehave(count);
        }
    }

    /// Asks `count` exchanges, well or badly; how many of them were answered.
    fn misbehave(&mut self, count: u64) -> u64 {
        let pipeline = Pipeline::of(count, &mut self.random, &mut self.left);
        let upto = usize::try_from(self.random.below(pipeline.bytes.len() as u64)).expect("a pipeline is short");
        match self.random.below(100) {
            0..2 => {
                self.peer.send(&pipeline.bytes[..upto]);
                add(&self.tally.left, 1);
                self.again();
                0
            }
            2..4 => {
                self.peer.send(&pipeline.bytes);
                self.check_first(&pipeline);
                add(&self.tally.left, 1);
                self.again();
                0
            }
            4..8 => {
                self.peer.send(&pipeline.bytes[..upto]);
                add(&self.tally.halves, 1);
                pause(Duration::from_millis(self.random.below(3)));
                self.peer.send(&pipeline.bytes[upto..]);
                self.check(&pipeline)
            }
            8..14 if self.cancels => self.cancel(&pipeline),
            14 if self.random.below(8) == 0 => self.be_silent(),
            _ => {
                self.peer.send(&pipeline.bytes);
                self.check(&pipeline)
            }
        }
    }

    /// Cancels what it asks, at once, and once more when it is answered and its client may be another's.
    fn cancel(&mut self, pipeline: &Pipeline) -> u64 {
        self.peer.send(&pipeline.bytes);
        let mut first = Frontend::dial(self.address);
        pause(Duration::from_millis(self.random.below(4)));
        first.send(&cancel_request(&self.key));
        let answered = self.check(pipeline);
        // The key of a connection that has ended is nobody's.
        let mut late = Frontend::dial(self.address);
        late.send(&cancel_request(&self.key));
        add(&self.tally.cancels, 2);
        if self.random.below(2) == 0 {
            late.until_end();
        }
        first.until_end();
        answered
    }

    /// Says nothing within a transaction for longer than it may.
    fn be_silent(&mut self) -> u64 {
        let token = token(&mut self.random);
        self.peer.send(&query(&format!("begin; select '{token}'")));
        let own = Answer { tokens: vec![token], ..Answer::default() };
        let said = self.peer.until_ready(1);
        assert_eq!(stray(&said, &own), None, "it reached another than {own:?}");
        if said.last().is_some_and(|last| last.tag == b'Z' && last.body == b"I") {
            // A late cancel of its own has ended its wait for a client, so that nothing is open.
            assert!(self.cancels, "{own:?} was not answered: {}", transcript(&said));
            return 0;
        }
        let said = self.peer.until_end();
        assert!(said.iter().all(|message| message.tag != b'D'), "rows that nobody asked for");
        add(&self.tally.silences, 1);
        self.again();
        0
    }

    fn again(&mut self) {
        let (peer, key) = login(self.address, self.tally);
        let before = std::mem::replace(&mut self.peer, peer);
        if self.random.below(2) == 0 {
            before.reset();
        }
        (self.key, self.left) = (key, Left::default());
    }

    /// Looks at the first answer.
    fn check_first(&mut self, pipeline: &Pipeline) {
        let first = &pipeline.answers[0];
        assert_eq!(stray(&self.peer.until_ready(1), first), None, "it reached another than {first:?}");
    }

    /// Looks at every answer; how many exchanges have one.
    fn check(&mut self, pipeline: &Pipeline) -> u64 {
        let mut answered = 0;
        for (number, answer) in pipeline.answers.iter().enumerate() {
            let said = self.peer.until_ready(1);
            if let Some(stray) = stray(&said, answer) {
                let is_early = pipeline.answers.iter().any(|answer| answer.tokens.contains(&stray));
                panic!(
                    "{stray} reached another: answer {number} to {} was to be {answer:?}, and it is {} of the same peer: {}",
                    pipeline.bytes.escape_ascii(),
                    if is_early { "one" } else { "none" },
                    transcript(&said)
                );
            }
            if said.last().is_none_or(|last| last.tag != b'Z') {
                let all = pipeline.answers.iter().filter(|answer| answer.is_last).count() as u64;
                add(&self.tally.lost, all - answered);
                self.again();
                return answered;
            }
            answered += u64::from(answer.is_last);
            add(&self.tally.answered, u64::from(answer.is_last));
            match said.iter().find(|message| message.tag == b'E') {
                Some(error) => self.expect_own(error, answer, number),
                None => self.expect_tokens(&said, answer),
            }
            if let Some(number) = answer.prepares.filter(|_| said.iter().any(|message| message.tag == b'E')) {
                self.left.statements[number] = false;
            }
        }
        if !self.stays {
            self.again();
        }
        answered
    }

    /// What was asked for has come back.
    fn expect_tokens(&self, said: &[Message], answer: &Answer) {
        // A cancel may have hit what the rest needs: the limit of time, or the name of the session.
        let is_unsure = self.cancels && (answer.error.is_some() || !answer.others.is_empty());
        let comes_back = |token: &String| said.iter().any(|said| contains(&said.body, token.as_bytes()));
        assert!(is_unsure || answer.error.is_none(), "{:?} was expected", answer.error);
        assert!(is_unsure || answer.tokens.iter().all(comes_back), "{:?} did not come back", answer.tokens);
    }

    /// An error must be one that was asked for: by its query, or by a cancel of its own.
    fn expect_own(&self, error: &Message, answer: &Answer, number: usize) {
        let (code, text) = (error.sqlstate().unwrap_or_default(), error.field(b'M').unwrap_or_default());
        if text.contains("due to user request") {
            // PostgreSQL says so of a statement_timeout, too, that passes before the query has begun to run.
            let is_own = self.cancels || answer.error == Some("57014");
            assert!(is_own, "a cancel that this peer never sent has ended what was to be answer {number}, {answer:?}");
            add(&self.tally.cancelled, 1);
            return;
        }
        // What a cancel has hit may be what the rest needs: a transaction, or a statement.
        let is_expected = answer.error == Some(code.as_str());
        assert!(self.cancels || is_expected, "{code}: {text}, and expected was answer {number}, {answer:?}");
    }
}

/// A session, and the key that cancels its queries.
fn login(address: &Address, tally: &Tally) -> (Frontend, Vec<u8>) {
    for _ in 0..MOST_LOGINS {
        let (peer, welcome) = Frontend::login_as(address, V3_0, &[("user", "postgres"), ("database", "postgres")]);
        add(&tally.logins, 1);
        if welcome.last().is_some_and(|last| last.tag == b'Z') {
            let key = welcome.into_iter().find(|message| message.tag == b'K').map(|message| message.body);
            return (peer, key.expect("there is a key"));
        }
        pause(Duration::from_millis(20));
    }
    panic!("{MOST_LOGINS} logins in a row have failed");
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A token that is none of this answer's.
fn stray(said: &[Message], answer: &Answer) -> Option<String> {
    said.iter().map(|message| &message.body).find_map(|body| {
        let begins = |at: &usize| body[*at] == MARK[0] && body[*at..].starts_with(MARK);
        let tokens = (0..body.len()).filter(begins).map(|at| &body[at..body.len().min(at + MARK.len() + DIGITS)]);
        let is_own = |token: &[u8]| answer.tokens.iter().chain(&answer.others).any(|own| own.as_bytes() == token);
        tokens.filter(|token| !is_own(token)).map(|token| String::from_utf8_lossy(token).into_owned()).next()
    })
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            out,
            "{} exchanges answered, {} lost, {} logins, {} left in the middle, {} half messages, {} cancels ({} hit), \
             {} silent transactions",
            of(&self.answered),
            of(&self.lost),
            of(&self.logins),
            of(&self.left),
            of(&self.halves),
            of(&self.cancels),
            of(&self.cancelled),
            of(&self.silences)
        )
    }
}
