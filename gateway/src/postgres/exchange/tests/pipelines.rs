//! What is sent before the answers to what came before it are known, and one of those is an error.

use super::*;
use crate::postgres::statements::MOST_PREPARED;

const EXECUTED: [(u8, &[u8]); 3] = [(b'2', b""), DONE, READY];
const COPIED: (u8, &[u8]) = (b'd', b"1\n");
const COPY_DONE: (u8, &[u8]) = (b'c', b"");
const CLOSE_A: (u8, &[u8]) = (b'C', b"Sa\0");
const PARSE_UNNAMED: (u8, &[u8]) = (b'P', b"\0select 2\0\0\0");
const BIND_UNNAMED: (u8, &[u8]) = (b'B', b"\0\0\0\0\0\0\0\0");
/// A Bind that fails.
const BIND_NOBODY: (u8, &[u8]) = (b'B', b"\0nobody\0\0\0\0\0\0\0");

/// A peer that has prepared `a` and told the database of nothing else.
fn talk(memory: &mut Memory) -> Talk {
    let mut talk = Talk::new(&Statements::default());
    talk.says(memory, &stream(&[PARSE_A, SYNC])).unwrap();
    talk.hears(memory, &stream(&[(b'1', b""), READY])).unwrap();
    talk.sent();
    talk.answered();
    talk
}

#[test]
fn a_message_that_began_before_an_error_is_skipped_like_those_behind_it() {
    let mut memory = memory();
    let mut talk = talk(&mut memory);
    let parse = stream(&[(b'P', b"b\0select 2\0\0\0"), SYNC]);
    talk.says(&mut memory, &[&stream(&[BIND_NOBODY]), &parse[..7]].concat()).unwrap();
    talk.hears(&mut memory, &stream(&[FAILED])).unwrap();
    talk.says(&mut memory, &parse[7..]).unwrap();
    assert_eq!(talk.sent(), ["B|nobody|||||||", "S"]);
    talk.hears(&mut memory, &stream(&[READY])).unwrap();
    assert!(talk.exchange.is_free());
}

#[test]
fn what_follows_a_failure_keeps_the_client_until_it_is_synced() {
    let mut memory = memory();
    let mut talk = talk(&mut memory);
    talk.says(&mut memory, &stream(&[BIND_NOBODY, SYNC, BIND_A, EXECUTE])).unwrap();
    talk.hears(&mut memory, &stream(&[FAILED, READY])).unwrap();
    talk.hears(&mut memory, &stream(&EXECUTED[..2])).unwrap();
    assert!(!talk.exchange.is_free(), "the database keeps what was executed open");
    talk.says(&mut memory, &stream(&[SYNC])).unwrap();
    talk.hears(&mut memory, &stream(&[READY])).unwrap();
    assert!(talk.exchange.is_free());
}

#[test]
fn a_sync_before_the_end_of_a_copy_is_none() {
    for (before, behind) in [(&[SYNC, COPIED, COPY_DONE][..], &[][..]), (&[SYNC], &[SYNC, COPIED, COPY_DONE])] {
        let mut memory = memory();
        let mut talk = talk(&mut memory);
        talk.says(&mut memory, &stream(&[&[BIND_A, EXECUTE], before].concat())).unwrap();
        talk.hears(&mut memory, &stream(&[(b'2', b""), (b'G', b"\0\0\0")])).unwrap();
        talk.says(&mut memory, &stream(behind)).unwrap();
        talk.hears(&mut memory, &stream(&[(b'C', b"COPY 1\0")])).unwrap();
        assert!(!talk.exchange.is_free(), "the database waits for one");
        talk.says(&mut memory, &stream(&[SYNC])).unwrap();
        talk.hears(&mut memory, &stream(&[READY])).unwrap();
        assert!(talk.exchange.is_free());
    }
}

#[test]
fn names_stay_what_they_were_where_their_change_was_skipped() {
    for (changes, name) in [(&[CLOSE_A, PARSE_A][..], BIND_A), (&[PARSE_UNNAMED, PARSE_UNNAMED], BIND_UNNAMED)] {
        let mut memory = memory();
        let mut talk = talk(&mut memory);
        talk.says(&mut memory, &stream(&[(b'P', b"\0select 1\0\0\0"), SYNC])).unwrap();
        talk.hears(&mut memory, &stream(&[(b'1', b""), READY])).unwrap();
        talk.says(&mut memory, &stream(&[&[BIND_NOBODY], changes, &[SYNC]].concat())).unwrap();
        talk.hears(&mut memory, &stream(&[FAILED, READY])).unwrap();
        talk.sent();
        talk.says(&mut memory, &stream(&[name, SYNC])).unwrap();
        let sent = talk.sent();
        assert!(sent.iter().all(|message| !message.contains("select 2")), "{sent:?}");
        assert!(matches!(talk.exchange.owed.iter().rev().nth(1), Some(Owed::Bind(Some(_)))), "it is there: {sent:?}");
    }
}

#[test]
fn what_was_prepared_behind_the_end_of_all_statements_stays() {
    // What is prepared behind a change of settings is shared with nobody.
    for (sql, done, name) in [
        (&b"deallocate all\0"[..], &b"DEALLOCATE ALL\0"[..], "postern_1_0"),
        (b"Discard all;\0", b"DISCARD ALL\0", "postern_2_0"),
    ] {
        let bind = format!("B|{name}|||||||");
        let mut memory = memory();
        let mut talk = talk(&mut memory);
        talk.says(&mut memory, &stream(&[(b'Q', sql), PARSE_A, SYNC])).unwrap();
        talk.hears(&mut memory, &stream(&[(b'C', done), READY, (b'1', b""), READY])).unwrap();
        talk.says(&mut memory, &stream(&[BIND_A, SYNC])).unwrap();
        assert_eq!(talk.sent()[1..], [&*format!("P{name}|select 1|||"), "S", &bind, "S"]);
        talk.hears(&mut memory, &stream(&[(b'2', b""), READY])).unwrap();
        // One that fails ends none.
        talk.says(&mut memory, &stream(&[(b'Q', sql)])).unwrap();
        talk.hears(&mut memory, &stream(&[FAILED, READY])).unwrap();
        talk.sent();
        talk.says(&mut memory, &stream(&[BIND_A, SYNC])).unwrap();
        assert_eq!(talk.sent(), [&*bind, "S"]);
    }
}

#[test]
fn what_was_prepared_for_a_peer_and_skipped_is_prepared_again_behind_the_sync() {
    let mut memory = memory();
    let mut talk = talk(&mut memory);
    let mut another = super::memory();
    talk.says(&mut another, &stream(&[BIND_NOBODY, BIND_A, BIND_A, SYNC, BIND_A, SYNC])).unwrap();
    let (prepared, bound) = ("Ppostern_1_0|select 1|||", "B|postern_1_0|||||||");
    assert_eq!(talk.sent(), ["B|nobody|||||||", prepared, bound, bound, "S", "CSpostern_1_0|", prepared, bound, "S"]);
    talk.hears(&mut another, &stream(&[FAILED, READY, (b'3', b""), (b'1', b""), (b'2', b""), READY])).unwrap();
    assert_eq!(talk.answered(), "EZ2Z");
    assert!(talk.exchange.is_free());
    talk.says(&mut another, &stream(&[BIND_A, SYNC])).unwrap();
    assert_eq!(talk.sent(), [bound, "S"]);
}

#[test]
fn what_was_prepared_and_was_to_be_prepared_again_is_there_where_only_that_was_skipped() {
    let mut memory = memory();
    let mut talk = talk(&mut memory);
    let mut another = super::memory();
    talk.says(&mut another, &stream(&[BIND_A, SYNC, BIND_NOBODY, BIND_A, SYNC])).unwrap();
    talk.hears(&mut another, &stream(&[(b'1', b""), (b'2', b""), READY, FAILED, READY])).unwrap();
    assert_eq!(talk.answered(), "2ZEZ");
    talk.sent();
    talk.says(&mut another, &stream(&[BIND_A, SYNC])).unwrap();
    assert_eq!(talk.sent(), ["B|postern_1_0|||||||", "S"]);
}

#[test]
fn a_peer_without_an_unnamed_statement_never_gets_one_of_somebody_else() {
    let mut memory = memory();
    let mut talk = talk(&mut memory);
    talk.says(&mut memory, &stream(&[BIND_NOBODY, BIND_UNNAMED, SYNC])).unwrap();
    talk.hears(&mut memory, &stream(&[FAILED, READY])).unwrap();
    talk.sent();
    talk.says(&mut memory, &stream(&[BIND_UNNAMED, SYNC])).unwrap();
    assert_eq!(talk.sent(), ["CS|", "B||||||||", "S"], "the Close before was skipped");
}

#[test]
fn a_statement_whose_close_was_skipped_is_still_there() {
    let mut memory = memory();
    let mut talk = talk(&mut memory);
    let name = |number: usize| format!("b{number}\0select -{number}\0\0\0").into_bytes();
    for number in 1..MOST_PREPARED {
        talk.says(&mut memory, &stream(&[(b'P', &name(number)), SYNC])).unwrap();
        talk.hears(&mut memory, &stream(&[(b'1', b""), READY])).unwrap();
    }
    talk.sent();
    talk.says(&mut memory, &stream(&[BIND_NOBODY, (b'P', &name(0)), SYNC])).unwrap();
    assert_eq!(talk.sent()[1], "CSpostern_1_0|", "the oldest makes room");
    talk.hears(&mut memory, &stream(&[FAILED, READY])).unwrap();
    talk.says(&mut memory, &stream(&[BIND_A, SYNC])).unwrap();
    assert_eq!(talk.sent(), ["B|postern_1_0|||||||", "S"]);
}
