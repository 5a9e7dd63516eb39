//! Texts that mean something else to the database for one peer than for another.

use super::*;

const PREPARED: [(u8, &[u8]); 2] = [(b'1', b""), READY];
const RUN_A: [(u8, &[u8]); 3] = [BIND_A, EXECUTE, SYNC];
const BOUND: [(u8, &[u8]); 2] = [(b'2', b""), DONE];

/// A peer whose setting is this.
fn with_setting(statements: &Statements, name: &str, value: &str) -> Talk {
    let mut memory = memory();
    memory.parameters.set(name, value);
    Talk::with(PoolMode::Transaction, statements, &memory)
}

fn prepares_a(talk: &mut Talk, memory: &mut Memory) {
    talk.says(memory, &stream(&[PARSE_A, SYNC])).unwrap();
}

#[test]
fn a_character_that_ends_with_a_backslash_hides_nothing() {
    for (encoding, pin) in [("SJIS", Some(Pin::Set)), ("UTF8", None)] {
        // The client had a peer before whose encoding is another.
        let (mut memory, statements) = (memory(), Statements::default());
        memory.parameters.set("client_encoding", "UTF8");
        let mut talk = with_setting(&statements, "client_encoding", encoding);
        talk.exchange.begin(&mut memory, &mut Vec::new());
        talk.says(&mut memory, &stream(&[(b'Q', b"select E'\x95\x5c'; listen x --'\0")])).unwrap();
        assert_eq!(talk.exchange.pin(), pin, "{encoding}");
    }
}

#[test]
fn peers_with_other_settings_do_not_share_a_statement() {
    let (statements, mut memory) = (Statements::default(), memory());
    let (mut one, mut other) = (Talk::new(&statements), with_setting(&statements, "TimeZone", "Asia/Tokyo"));
    prepares_a(&mut one, &mut memory);
    one.hears(&mut memory, &stream(&PREPARED)).unwrap();
    prepares_a(&mut other, &mut memory);
    assert_eq!(other.sent(), ["Ppostern_2_0|select 1|||", "S"]);
}

#[test]
fn a_statement_is_prepared_as_another_where_a_setting_has_changed_since() {
    let statements = Statements::default();
    let (mut talk, mut first, mut second) = (Talk::new(&statements), memory(), memory());
    prepares_a(&mut talk, &mut first);
    talk.hears(&mut first, &stream(&PREPARED)).unwrap();
    talk.says(&mut first, &stream(&[(b'Q', b"set timezone to 'Asia/Tokyo'\0")])).unwrap();
    talk.hears(&mut first, &stream(&[(b'C', b"SET\0"), (b'S', b"TimeZone\0Asia/Tokyo\0"), READY])).unwrap();
    talk.sent();
    talk.says(&mut first, &stream(&RUN_A)).unwrap();
    assert_eq!(talk.sent()[0], "B|postern_1_0|||||||", "there it is as it was read");
    talk.hears(&mut first, &stream(&[&BOUND[..], &[READY]].concat())).unwrap();

    second.parameters.set("TimeZone", "Asia/Tokyo");
    talk.exchange.begin(&mut second, &mut Vec::new());
    talk.says(&mut second, &stream(&RUN_A)).unwrap();
    assert_eq!(talk.sent()[..2], ["Ppostern_2_0|select 1|||", "B|postern_2_0|||||||"]);
    talk.hears(&mut second, &stream(&[&PREPARED[..1], &BOUND, &[READY]].concat())).unwrap();

    let mut other = with_setting(&statements, "TimeZone", "Asia/Tokyo");
    prepares_a(&mut other, &mut second);
    assert_eq!(other.sent(), ["S"], "it is read the same");
}

#[test]
fn what_is_prepared_behind_a_setting_that_is_not_known_yet_is_shared_with_nobody() {
    for sql in [&b"set timezone to 'Asia/Tokyo'\0"[..], b"reset timezone\0", b"discard all\0", b"set work_mem = 1\0"] {
        let (statements, mut memory) = (Statements::default(), memory());
        let (mut talk, mut other) = (Talk::new(&statements), Talk::new(&statements));
        talk.says(&mut memory, &stream(&[(b'Q', sql), PARSE_A, SYNC])).unwrap();
        talk.hears(&mut memory, &stream(&[(b'C', b"SET\0"), READY])).unwrap();
        talk.hears(&mut memory, &stream(&PREPARED)).unwrap();
        prepares_a(&mut other, &mut memory);
        assert_eq!(other.sent(), ["Ppostern_2_0|select 1|||", "S"], "{}", sql.escape_ascii());
    }
}

#[test]
fn a_setting_of_an_open_transaction_may_change_back() {
    let (statements, mut memory) = (Statements::default(), memory());
    let (mut talk, mut other) = (Talk::new(&statements), Talk::new(&statements));
    talk.says(&mut memory, &stream(&[(b'Q', b"begin\0")])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'C', b"BEGIN\0"), (b'Z', b"T")])).unwrap();
    talk.says(&mut memory, &stream(&[(b'Q', b"select f()\0")])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'S', b"TimeZone\0Asia/Tokyo\0"), DONE, (b'Z', b"T")])).unwrap();
    talk.says(&mut memory, &stream(&[(b'Q', b"rollback\0"), PARSE_A, SYNC])).unwrap();
    let back = [(b'C', &b"ROLLBACK\0"[..]), (b'S', b"TimeZone\0UTC\0"), READY];
    talk.hears(&mut memory, &stream(&[&back[..], &PREPARED].concat())).unwrap();
    prepares_a(&mut other, &mut memory);
    assert_eq!(other.sent(), ["Ppostern_2_0|select 1|||", "S"]);
    // From here on it shares again.
    talk.says(&mut memory, &stream(&[(b'P', b"b\0select 1\0\0\0"), SYNC])).unwrap();
    talk.sent();
    other.hears(&mut memory, &stream(&PREPARED)).unwrap();
    assert_eq!(other.answered(), "1Z");
}

#[test]
fn a_peer_with_as_many_statements_as_it_may_have_can_change_a_setting() {
    let statements = Statements::default();
    let (mut talk, mut first, mut second) = (Talk::new(&statements), memory(), memory());
    for number in 0..super::super::super::statements::MOST_STATEMENTS {
        let body = format!("{number}\0select 1\0\0\0");
        talk.says(&mut first, &stream(&[(b'P', body.as_bytes()), SYNC])).unwrap();
        let answer = if number == 0 { &PREPARED[..] } else { &PREPARED[1..] };
        talk.hears(&mut first, &stream(answer)).unwrap();
    }
    second.parameters.set("TimeZone", "Asia/Tokyo");
    talk.says(&mut first, &stream(&[(b'Q', b"set timezone to 'Asia/Tokyo'\0")])).unwrap();
    talk.hears(&mut first, &stream(&[(b'C', b"SET\0"), (b'S', b"TimeZone\0Asia/Tokyo\0"), READY])).unwrap();
    talk.exchange.begin(&mut second, &mut Vec::new());
    talk.sent();
    talk.says(&mut second, &stream(&[(b'B', b"\x007\0\0\0\0\0\0\0"), SYNC])).unwrap();
    assert_eq!(talk.sent()[0], "Ppostern_2_0|select 1|||");
}
