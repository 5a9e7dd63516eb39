//! A table of what peers must not say: each gets an error where one can be sent, its session ends, its memory is given
//! back, and whoever comes next is served.

use std::time::Duration;

use cast::frontend::{
    Message, V3_0, bind, claiming, close, copy_data, copy_done, copy_fail, describe, execute, flush, function_call,
    message, parse, query, ssl_request, startup, sync, transcript,
};
use cast::wire::Address;
use cast::{Frontend, Gateway, Postgres};

use crate::modes::{self, ALL};

/// What the gateway may hold more than before, whatever peers say: the program that tests use has no small memory.
const MOST_GROWTH: u64 = 48 << 20;
/// What is said a million times.
const MILLION: usize = 1_000_000;

/// Every message of a peer, well formed.
fn messages() -> Vec<Vec<u8>> {
    vec![
        query("select 1"),
        parse("name", "select $1::int"),
        bind("portal", "name", &["1"]),
        describe(b'S', "name"),
        describe(b'P', "portal"),
        close(b'S', "name"),
        close(b'P', "portal"),
        execute("portal", 1),
        function_call(1598, "1"),
        copy_data("1\n"),
        copy_done(),
        copy_fail("why"),
        flush(),
        sync(),
        message(b'X', b""),
        message(b'p', b"password\0"),
    ]
}

/// Looks that the gateway lives, and serves the next peer.
#[track_caller]
fn expect_served(gateway: &mut Gateway, mode: &str) {
    assert!(gateway.runs(), "{mode}: the gateway has ended");
    assert!(Frontend::login(&gateway.address_of(mode)).ask("select 'served'").contains("served"), "{mode}");
}

/// Runs `misbehave` in each mode, and looks what is left of it.
#[track_caller]
fn in_each_mode(misbehave: impl Fn(&str, &Address)) {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let mut gateway = modes::gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.size", 4));
    for mode in ALL {
        expect_served(&mut gateway, mode);
        let before = gateway.process().resident_memory();
        misbehave(mode, &gateway.address_of(mode));
        gateway.expect_quiet(mode);
        let after = gateway.process().resident_memory();
        assert!(after < before + MOST_GROWTH, "{mode}: from {before} to {after} bytes");
        expect_served(&mut gateway, mode);
        gateway.expect_metric("postern_desync_total", &[("proxy", mode)], 0.0);
    }
    let panics: Vec<_> = gateway.lines().into_iter().filter(|line| line.contains("panicked")).collect();
    assert!(panics.is_empty(), "{panics:?}");
    gateway.ends_well();
}

#[test]
fn every_message_may_end_at_every_byte() {
    in_each_mode(|mode, address| {
        for message in messages() {
            for length in 0..message.len() {
                let mut peer = Frontend::login(address);
                peer.send(&message[..length]);
                peer.half_close();
                let said = peer.until_end();
                assert!(said.iter().all(|said| said.tag == b'E'), "{mode}: {}", transcript(&said));
            }
        }
    });
}

#[test]
fn every_message_may_be_too_short_for_what_it_says() {
    in_each_mode(|mode, address| {
        for whole in messages().into_iter().filter(|message| message.len() > 5) {
            for length in 5..whole.len() {
                let mut peer = Frontend::login(address);
                peer.send(&message(whole[0], &whole[5..length]));
                // Whatever it did with that: the database is asked for the end of it, and says so, or the session ends.
                peer.send(&[sync(), query("select 'goes on'"), message(b'X', b"")].concat());
                let said = peer.until_end();
                let errors: Vec<_> = said.iter().filter_map(Message::sqlstate).collect();
                let goes_on = transcript(&said).contains("goes on");
                // A shorter name, value or query may be a good one, or one that nobody knows.
                let is_told = errors.iter().all(|code| {
                    ["08P01", "26000", "34000", "42", "22", "0A000"].iter().any(|class| code.starts_with(class))
                });
                assert!(is_told && (goes_on || !errors.is_empty()), "{mode}: {}", transcript(&said));
            }
        }
    });
}

#[test]
fn false_lengths_and_types_that_do_not_exist_end_their_session_with_an_error() {
    let known: Vec<u8> = messages().iter().map(|message| message[0]).collect();
    let lengths = [0, 3, -1, i32::MAX, i32::MIN];
    let false_lengths = known.iter().flat_map(|tag| lengths.map(|length| claiming(*tag, length, b"")));
    let unknown = (0..=u8::MAX).filter(|tag| !known.contains(tag)).map(|tag| message(tag, b""));
    let table: Vec<_> = false_lengths.chain(unknown).collect();
    in_each_mode(|mode, address| {
        for bytes in &table {
            let mut peer = Frontend::login(address);
            peer.send(bytes);
            let said = peer.until_end();
            let is_told = said.last().and_then(Message::sqlstate).as_deref() == Some("08P01");
            // The database itself closes without a word where a length is impossible.
            assert!(is_told || mode == "passthrough" && said.is_empty(), "{mode}, {bytes:?}: {}", transcript(&said));
        }
    });
}

#[test]
fn the_wrong_order_is_answered_as_without_us_or_ends_the_session() {
    let table = [
        (execute("", 0), "34000"),
        (bind("", "missing", &[]), "26000"),
        (describe(b'P', "missing"), "34000"),
        (describe(b'S', "missing"), "26000"),
        (describe(b'x', "missing"), "08P01"),
        (close(b'x', "missing"), "08P01"),
        (message(b'p', b"password\0"), "08P01"),
        (startup(V3_0, &[("user", "postgres")]), "08P01"),
        (ssl_request(), "08P01"),
        ([copy_data("x"), copy_done(), copy_fail("x"), query("select wrong")].concat(), "42703"),
    ];
    in_each_mode(|mode, address| {
        for (bytes, code) in &table {
            let mut peer = Frontend::login(address);
            peer.send(&[&bytes[..], &sync(), &message(b'X', b"")].concat());
            let said = peer.until_end();
            let codes: Vec<_> = said.iter().filter_map(Message::sqlstate).collect();
            // A first byte of 0 tells the database nothing, and it closes.
            let is_its_own = mode == "passthrough" && codes.is_empty() && bytes[0] == 0;
            assert!(is_its_own || codes == [*code], "{mode}: {bytes:?}: {}", transcript(&said));
        }
    });
}

/// Reads up to the answer with `text`: how many ReadyForQuery there were.
#[track_caller]
fn answers_up_to(peer: &mut Frontend, text: &str) -> usize {
    let (mut ready, mut is_last) = (0, false);
    while let Some(message) = peer.message() {
        is_last |= message.tag == b'D' && String::from_utf8_lossy(&message.body).contains(text);
        ready += usize::from(message.tag == b'Z');
        if message.tag == b'Z' && is_last {
            break;
        }
    }
    ready
}

#[test]
fn a_million_tiny_messages_are_answered_or_ignored() {
    in_each_mode(|mode, address| {
        for (tiny, answers) in [(sync(), MILLION), (flush(), 0), (copy_done(), 0), (copy_data(""), 0)] {
            let mut peer = Frontend::login(address);
            let mut mouth = peer.second();
            let ready = std::thread::scope(|scope| {
                scope.spawn(|| {
                    mouth.send(&tiny.repeat(MILLION));
                    mouth.send(&query("select 'the end'"));
                });
                answers_up_to(&mut peer, "the end")
            });
            assert_eq!(ready, answers + 1, "{mode}");
        }
    });
}

#[test]
fn a_million_questions_whose_answers_nobody_reads_take_no_memory() {
    in_each_mode(|mode, address| {
        let slow = query("select pg_sleep(2)");
        for tiny in [sync(), close(b'S', "missing"), [parse("", ""), close(b'S', "")].concat()] {
            let mut peer = Frontend::login(address);
            peer.send(&slow);
            peer.send_within(&tiny.repeat(MILLION), Duration::from_secs(1));
            drop(peer);
        }
        assert!(Frontend::login(address).ask("select 'served'").contains("served"), "{mode}");
    });
}

#[test]
fn what_is_no_startup_is_refused_with_a_sentence() {
    let framed = |length: i32, body: &[u8]| [&length.to_be_bytes()[..], body].concat();
    let parameters = |text: &[u8]| [&V3_0.to_be_bytes()[..], text].concat();
    let long = format!("user\0postgres\0options\0{}\0\0", "x".repeat(20_000));
    let exact = |size: usize| {
        let before = "user\0postgres\0database\0postgres\0options\0";
        let text = format!("{before}{}\0\0", "x".repeat(size - 10 - before.len()));
        framed(i32::try_from(size).unwrap(), &parameters(text.as_bytes()))
    };
    let table = [
        ("length 0", framed(0, b"")),
        ("length 3", framed(3, b"")),
        ("length 7", framed(7, b"")),
        ("a negative length", framed(-1, b"")),
        ("the greatest length", framed(i32::MAX, b"")),
        ("10,001 bytes", exact(10_001)),
        ("much more", framed(i32::try_from(long.len() + 8).unwrap(), &parameters(long.as_bytes()))),
        ("no end", framed(21, &parameters(b"user\0postgres"))),
        ("no value", framed(14, &parameters(b"user\0\0"))),
        ("more behind the end", framed(27, &parameters(b"user\0postgres\0\0more"))),
        ("no text", framed(11, &parameters(b"\xff\0\0"))),
        ("protocol 2", framed(8, &(2_u32 << 16).to_be_bytes())),
        ("protocol 4", framed(8, &(4_u32 << 16).to_be_bytes())),
        ("a long request for encryption", framed(12, b"\x04\xd2\x16\x2fmore")),
        ("a short cancel", framed(12, b"\x04\xd2\x16\x2e\0\0\0\x01")),
        ("a query", query("select 1")),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    in_each_mode(|mode, address| {
        for (name, bytes) in &table {
            let mut peer = Frontend::dial(address);
            peer.send(bytes);
            let said = peer.until_end();
            let code = said.last().and_then(Message::sqlstate);
            assert!(matches!(code.as_deref(), Some("08P01" | "0A000")), "{mode}, {name}: {}", transcript(&said));
        }
        let whole = startup(V3_0, &[("user", "postgres"), ("database", "postgres")]);
        for length in 0..whole.len() {
            let mut peer = Frontend::dial(address);
            peer.send(&whole[..length]);
            peer.half_close();
            assert!(peer.until_end().is_empty(), "{mode}: nobody answers half a startup packet");
        }
        // What the database takes, it gets.
        let mut peer = Frontend::dial(address);
        peer.send(&exact(10_000));
        let said = peer.until_ready(1);
        let code = said.last().and_then(Message::sqlstate);
        assert!(code.is_some_and(|code| code != "08P01"), "{mode}: {}", transcript(&said));
    });
}
