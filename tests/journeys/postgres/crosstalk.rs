//! One peer's bytes never reach another: many peers on few clients, each exchange with a token that must come back, and no
//! other, while peers leave in the middle of everything and backends are terminated.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cast::frontend::{Message, bind, execute, parse, query, sync};
use cast::time::pause;
use cast::wire::Address;
use cast::{Frontend, Manifest, Postgres};
use std::time::Duration;

use crate::modes::{self, MANAGED};

const PEERS: u64 = 16;
/// Exchanges of one peer, unless `POSTERN_TEST_EXCHANGES` says otherwise.
const EXCHANGES: usize = 100;

/// What tokens begin with; sixteen hexadecimal digits follow.
const MARK: &[u8] = b"token-";

/// A small generator: a run is repeated by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn token(&mut self) -> String {
        format!("token-{:016x}", self.next())
    }
}

/// One peer with its exchanges, over as many connections as that takes.
struct Talker<'a> {
    address: &'a Address,
    random: Random,
    peer: Frontend,
    has_named: bool,
}

impl Talker<'_> {
    fn again(&mut self) {
        self.peer = Frontend::login(self.address);
        self.has_named = false;
    }

    /// One exchange; whether it was answered.
    fn exchange(&mut self) -> bool {
        let (token, other) = (self.random.token(), self.random.token());
        let unnamed = |token: &str| [parse("", "select $1::text"), bind("", "", &[token]), execute("", 0)].concat();
        let (asked, ready) = match self.random.next() % 8 {
            0 => (query(&format!("select '{token}'")), 1),
            1 => ([unnamed(&token), sync()].concat(), 1),
            2 => {
                let prepared = if self.has_named { Vec::new() } else { parse("named", "select $1::text as named") };
                self.has_named = true;
                ([prepared, bind("", "named", &[&token]), execute("", 0), sync()].concat(), 1)
            }
            3 => ([unnamed(&token), sync(), unnamed(&other), sync()].concat(), 2),
            4 => ([query("begin"), query(&format!("select '{token}'")), query("commit")].concat(), 3),
            5 => ([query("select 1/0"), unnamed(&token), sync()].concat(), 2),
            6 => return self.leaves_after(&query(&format!("select '{token}', repeat('x', 9000)")), &token),
            _ => {
                let rows = format!("select '{token}', repeat('y', 500) from generate_series(1, 500)");
                return self.leaves_after(&query(&rows), &token);
            }
        };
        self.peer.send(&asked);
        let answer = self.peer.until_ready(ready);
        expect_only(&answer, &[&token, &other]);
        let is_whole = answer.iter().filter(|message| message.tag == b'Z').count() == ready;
        if is_whole {
            let has = |token: &str| answer.iter().any(|message| contains(&message.body, token.as_bytes()));
            assert!(has(&token), "{token} did not come back");
        } else {
            self.again();
        }
        is_whole
    }

    /// Sends a part of a message, or all of it, and goes away; what was answered until then may be its own only.
    fn leaves_after(&mut self, asked: &[u8], token: &str) -> bool {
        let upto = usize::try_from(self.random.next()).unwrap_or(usize::MAX) % (asked.len() + 1);
        self.peer.send(if self.random.next().is_multiple_of(2) { asked } else { &asked[..upto] });
        if self.random.next().is_multiple_of(2) && upto == asked.len() {
            expect_only(&self.peer.until_ready(1), &[token]);
        }
        self.again();
        true
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Nothing of another peer is in this answer.
#[track_caller]
fn expect_only(answer: &[Message], own: &[&str]) {
    for message in answer {
        for (at, _) in message.body.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK) {
            let token = &message.body[at..message.body.len().min(at + MARK.len() + 16)];
            assert!(
                own.iter().any(|own| own.as_bytes() == token),
                "{} reached another",
                String::from_utf8_lossy(token)
            );
        }
    }
}

#[test]
fn every_answer_reaches_the_peer_that_asked_and_nobody_else() {
    let exchanges = std::env::var("POSTERN_TEST_EXCHANGES").ok().and_then(|count| count.parse().ok());
    let exchanges: usize = exchanges.unwrap_or(EXCHANGES);
    let seed = std::env::var("POSTERN_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()) * 0x9e37_79b9 + 1);
    eprintln!("POSTERN_TEST_SEED={seed}");
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let proxies = MANAGED.map(|mode| modes::proxy(mode, &postgres.address()).set("pool.size", 4));
    let gateway = modes::start(Manifest::of(proxies), &secrets);
    // A session keeps its client from others, and a peer that leaves in the middle costs it, so that takes longer.
    for (mode, exchanges) in MANAGED.into_iter().zip([exchanges.div_ceil(5), exchanges]) {
        let address = gateway.address_of(mode);
        let (answered, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let peers: Vec<_> = (1..=PEERS)
                .map(|number| {
                    let (address, answered) = (&address, &answered);
                    scope.spawn(move || {
                        let random = Random(seed.wrapping_mul(number) | 1);
                        let mut talker = Talker { address, random, peer: Frontend::login(address), has_named: false };
                        for _ in 0..exchanges {
                            answered.fetch_add(usize::from(talker.exchange()), Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let is_over = &is_over;
            let postgres = &postgres;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    postgres.query(
                        "select pg_terminate_backend(pid) from pg_stat_activity where client_addr is not null \
                         order by random() limit 1",
                    );
                    pause(Duration::from_millis(300));
                }
            });
            let ended: Vec<_> = peers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            is_over.store(true, Ordering::Relaxed);
            assert!(ended.iter().all(Result::is_ok), "{mode}: a peer has failed");
        });
        let answered = answered.into_inner();
        let all = exchanges * usize::try_from(PEERS).unwrap();
        assert!(answered * 10 > all * 8, "{mode}: only {answered} of {all} exchanges were answered");
        gateway.expect_quiet(mode);
        gateway.expect_metric("postern_desync_total", &[("proxy", mode)], 0.0);
    }
}
