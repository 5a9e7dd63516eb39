//! A database that speaks nonsense: its clients are destroyed, their peers are told where they can be, and the next ones
//! are served by others.

use std::io::Write;
use std::sync::{Arc, Mutex};

use cast::frontend::{Message, message, query, transcript};
use cast::{Folder, Frontend, Gateway, Manifest, Scripted};

use crate::fake::{self, First};
use crate::modes::{self, MANAGED};

/// What the gateway may hold more than before, whatever the database says.
const MOST_GROWTH: u64 = 48 << 20;
/// What the database says a million times.
const MILLION: usize = 1_000_000;

/// What the database says next, once, in place of the right thing.
#[derive(Default)]
struct Next {
    /// In place of its welcome.
    at_login: Option<Vec<u8>>,
    /// In place of an answer.
    answer: Option<Vec<u8>>,
    /// Whether the connection ends with that.
    closes: bool,
}

/// A database that does what it is told, and a gateway before it.
struct Stage {
    next: Arc<Mutex<Next>>,
    _database: Scripted,
    gateway: Gateway,
    _secrets: Folder,
}

// === impl Stage ===

impl Stage {
    #[track_caller]
    fn set() -> Stage {
        let next = Arc::new(Mutex::new(Next::default()));
        let told = next.clone();
        let database = Scripted::tcp(move |mut wire| {
            if !matches!(fake::first(&mut wire), Some(First::Session)) {
                return;
            }
            let at_login = told.lock().unwrap().at_login.take();
            let is_welcome = at_login.is_none();
            // The gateway may have left.
            let _ = wire.write_all(&at_login.unwrap_or_else(|| fake::welcome().concat()));
            while is_welcome && let Some((tag, body)) = fake::heard(&mut wire) {
                let (answer, closes) = {
                    let mut next = told.lock().unwrap();
                    (next.answer.take_if(|_| body.starts_with(b"select '")), next.closes)
                };
                let is_wrong = answer.is_some();
                let answer = answer.unwrap_or_else(|| fake::answer(tag, &body));
                if wire.write_all(&answer).is_err() || is_wrong && closes {
                    break;
                }
            }
        });
        let proxies = MANAGED.map(|mode| {
            let proxy = modes::proxy(mode, database.address()).set("pool.size", 2).set("pool.acquireTimeout", "10s");
            proxy.set("client.retries", 0).set("client.backoff", "0s").set("client.probe", "50ms")
        });
        let secrets = modes::secrets();
        let gateway = modes::start(Manifest::of(proxies), &secrets);
        Stage { next, _database: database, gateway, _secrets: secrets }
    }

    /// A peer asks, and is answered like that: what it hears.
    #[track_caller]
    fn answered(&self, mode: &str, answer: &[u8], closes: bool) -> Vec<Message> {
        let mut peer = Frontend::login(&self.gateway.address_of(mode));
        *self.next.lock().unwrap() = Next { answer: Some(answer.to_vec()), closes, ..Next::default() };
        peer.send(&query("select 'nonsense'"));
        peer.until_end()
    }

    #[track_caller]
    fn expect_served(&mut self, mode: &str) {
        assert!(self.gateway.runs(), "{mode}: the gateway has ended");
        let said = Frontend::login(&self.gateway.address_of(mode)).ask("select 'served'");
        assert!(said.contains("served"), "{mode}: {said}");
    }

    #[track_caller]
    fn ends_well(self) {
        let panics: Vec<_> = self.gateway.lines().into_iter().filter(|line| line.contains("panicked")).collect();
        assert!(panics.is_empty(), "{panics:?}");
        self.gateway.ends_well();
    }
}

#[test]
fn an_answer_may_end_at_every_byte() {
    let mut stage = Stage::set();
    for mode in MANAGED {
        for message in fake::messages() {
            for length in 0..message.len() {
                let said = stage.answered(mode, &message[..length], true);
                let codes: Vec<_> = said.iter().filter_map(Message::sqlstate).collect();
                // Within a message that the peer has begun to hear nothing can be told any more.
                assert!(said.is_empty() || codes == ["08006"] || codes == ["08P01"], "{mode}: {}", transcript(&said));
                assert!(length > 4 || !said.is_empty(), "{mode}: {} could be told", message.escape_ascii());
            }
        }
        stage.expect_served(mode);
        stage.gateway.expect_quiet(mode);
    }
    stage.ends_well();
}

#[test]
fn what_is_no_message_of_a_database_ends_the_session_and_is_counted() {
    let mut stage = Stage::set();
    for mode in MANAGED {
        let table = fake::nonsense();
        for nonsense in &table {
            let said = stage.answered(mode, nonsense, false);
            let codes: Vec<_> = said.iter().filter_map(Message::sqlstate).collect();
            assert_eq!(codes, ["08P01"], "{mode}: {}", nonsense.escape_ascii());
        }
        stage.expect_served(mode);
        stage.gateway.expect_quiet(mode);
        let all = f64::from(u32::try_from(table.len()).unwrap());
        stage.gateway.expect_metric("postern_desync_total", &[("proxy", mode)], all);
    }
    stage.ends_well();
}

#[test]
fn what_nobody_asked_for_ends_the_session_or_reaches_nobody() {
    let mut stage = Stage::set();
    for mode in MANAGED {
        for unasked in fake::messages().into_iter().filter(|message| b"123nstVRKv".contains(&message[0])) {
            let said = stage.answered(mode, &unasked, false);
            let codes: Vec<_> = said.iter().filter_map(Message::sqlstate).collect();
            assert_eq!(codes, ["08P01"], "{mode}: {}", unasked.escape_ascii());
        }
        assert_eq!(stage.answered(mode, &message(b'Z', b"X"), false).len(), 1, "{mode}: there is no such status");
        // More than an answer: whoever gets the client next must not hear it.
        let doubts = || stage.gateway.metric("postern_desync_total", &[("proxy", mode)]);
        let before = doubts();
        for more in [message(b'Z', b"I"), message(b'D', b"\0\x01\0\0\0\x05stray"), fake::row(), vec![b'D'; 3]] {
            let mut peer = Frontend::login(&stage.gateway.address_of(mode));
            let answer = Some([fake::row(), more].concat());
            *stage.next.lock().unwrap() = Next { answer, ..Next::default() };
            peer.send(&query("select 'more'"));
            peer.until_ready(1);
            drop(peer);
            stage.gateway.expect_quiet(mode);
            for _ in 0..3 {
                let said = Frontend::login(&stage.gateway.address_of(mode)).ask("select 'served'");
                assert!(said.contains("served") && !said.contains("stray"), "{mode}: {said}");
            }
        }
        assert!(doubts() > before, "{mode}: nothing was counted");
    }
    stage.expect_served(MANAGED[0]);
    stage.ends_well();
}

#[test]
fn a_login_that_ends_or_is_nonsense_is_tried_again() {
    let mut stage = Stage::set();
    let welcome = fake::welcome();
    let before_the_end = welcome[..welcome.len() - 1].concat();
    let mut table: Vec<_> =
        [1, 4, 5, 8, 20, before_the_end.len()].map(|length| before_the_end[..length].to_vec()).into();
    for wrong in
        [message(b'z', b""), message(b'D', b"\0\0"), message(b'R', b"\0\0"), vec![b'Z', 0, 0, 0, 3], vec![0; 5]]
    {
        table.push([&before_the_end[..], &wrong].concat());
    }
    table.push(message(b'N', b"SNOTICE\0\0").repeat(10_000));
    for mode in MANAGED {
        for at_login in &table {
            // Two peers at once: there is one warm client at most.
            let _holder = (mode == "session").then(|| Frontend::login(&stage.gateway.address_of(mode)));
            *stage.next.lock().unwrap() = Next { at_login: Some(at_login.clone()), ..Next::default() };
            stage.expect_served(mode);
        }
        stage.gateway.expect_quiet(mode);
    }
    stage.ends_well();
}

#[test]
fn a_million_tiny_messages_of_a_database_take_no_memory() {
    let mut stage = Stage::set();
    for mode in MANAGED {
        stage.expect_served(mode);
        let before = stage.gateway.process().resident_memory();
        let settings = (0..MILLION).flat_map(|number| message(b'S', format!("a.b{number}\0x\0").as_bytes()));
        let table = [
            settings.collect(),
            message(b'N', b"\0").repeat(MILLION),
            message(b'D', b"\0\0").repeat(MILLION),
            message(b'A', b"\0\0\0\x07a\0\0").repeat(MILLION),
        ];
        for tiny in table {
            let mut peer = Frontend::login(&stage.gateway.address_of(mode));
            let answer = Some([tiny, message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat());
            *stage.next.lock().unwrap() = Next { answer, ..Next::default() };
            peer.send(&query("select 'a million'"));
            let mut count = 0;
            while peer.message().is_some_and(|message| message.tag != b'Z') {
                count += 1;
            }
            assert_eq!(count, MILLION + 1, "{mode}");
        }
        stage.gateway.expect_quiet(mode);
        let after = stage.gateway.process().resident_memory();
        assert!(after < before + MOST_GROWTH, "{mode}: from {before} to {after} bytes");
        stage.expect_served(mode);
    }
    stage.ends_well();
}
