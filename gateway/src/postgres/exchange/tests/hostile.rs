//! Peers that say half of something, too much, or what others must not see.

use super::*;

/// The error with which the database speaks of the statement `name`.
fn about(code: &str, name: &str) -> Vec<u8> {
    let body = format!("SERROR\0VERROR\0C{code}\0Mprepared statement \"{name}\" is not right\0Rline\0\0");
    stream(&[(b'E', body.as_bytes())])
}

#[test]
fn errors_call_a_statement_by_the_name_that_its_peer_knows() {
    let heard = |said: &[(u8, &[u8])], error: &[u8]| {
        let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
        talk.says(&mut memory, &stream(&[PARSE_A, SYNC])).unwrap();
        talk.hears(&mut memory, &stream(&[(b'1', b""), READY])).unwrap();
        talk.says(&mut memory, &stream(said)).unwrap();
        talk.to_peer.clear();
        for byte in error {
            talk.hears(&mut memory, &[*byte]).unwrap();
        }
        talk.hears(&mut memory, &stream(&[READY])).unwrap();
        (talk.exchange.is_free(), talk.to_peer[..talk.to_peer.len() - 6].to_vec())
    };
    let bind_ours: (u8, &[u8]) = (b'B', b"\0postern_7_7\0\0\0\0\0\0\0");
    for (said, code, ours, theirs) in [
        (&[BIND_A, SYNC][..], "26000", "postern_1_0", "a"),
        (&[BIND_A, SYNC], "08P01", "postern_1_0", "a"),
        (&[(b'D', &b"Sa\0"[..]), SYNC], "26000", "postern_1_0", "a"),
        (&[PARSE_A, SYNC], "42P05", "postern_1_0", "a"),
        (&[(b'P', b"b\0select 2\0\0\0"), SYNC], "42P05", "postern_2_0", "b"),
        (&[bind_ours, SYNC], "26000", "unknown postern_7_7", "postern_7_7"),
        (&[(b'D', b"Spostern_7_7\0"), SYNC], "26000", "unknown postern_7_7", "postern_7_7"),
        (&[BIND_A, SYNC], "26000", "postern_1_01", "postern_1_01"),
        (&[BIND_A, SYNC], "42601", "postern_1_0", "postern_1_0"),
    ] {
        assert_eq!(heard(said, &about(code, ours)), (true, about(code, theirs)), "{ours}, {code}");
    }
}

#[test]
fn an_answer_of_ours_waits_for_the_end_of_what_the_database_says_unasked() {
    let notice = stream(&[(b'N', b"SNOTICE\0C00000\0Mreloaded\0\0")]);
    for cut in 0..=notice.len() {
        let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
        talk.says(&mut memory, &stream(&[(b'Q', b"begin\0")])).unwrap();
        talk.hears(&mut memory, &stream(&[(b'C', b"BEGIN\0"), (b'Z', b"T")])).unwrap();
        talk.answered();
        talk.hears(&mut memory, &notice[..cut]).unwrap();
        talk.says(&mut memory, &stream(&[(b'C', b"Sa\0")])).unwrap();
        talk.hears(&mut memory, &notice[cut..]).unwrap();
        let mut answered: Vec<_> = talk.answered().chars().collect();
        answered.sort_unstable();
        assert_eq!(answered, ['3', 'N'], "cut at {cut}");
    }
}

#[test]
fn a_name_that_is_too_long_ends_the_session_of_its_peer_and_no_client() {
    let name = format!("Spostern_{}\0", "x".repeat(9_900));
    let said = Talk::new(&Statements::default()).says(&mut memory(), &stream(&[(b'D', name.as_bytes())]));
    assert_eq!(said, Err(Error::LongName), "the database takes 10,000 bytes, and its name there is longer");
}

#[test]
fn a_statement_that_is_gone_is_prepared_anew_also_when_it_was_to_be_described() {
    let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
    talk.says(&mut memory, &stream(&[PARSE_A, SYNC, (b'D', b"Sa\0"), SYNC])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'1', b""), READY])).unwrap();
    talk.hears(&mut memory, &[about("26000", "postern_1_0"), stream(&[READY])].concat()).unwrap();
    talk.sent();
    talk.says(&mut memory, &stream(&[(b'D', b"Sa\0"), SYNC])).unwrap();
    assert_eq!(talk.sent(), ["Ppostern_1_1|select 1|||", "DSpostern_1_1|", "S"]);
}

#[test]
fn a_beginning_needs_no_client_unless_it_is_long() {
    let function_call = [0; 40];
    for message in [BIND_A, PARSE_A, EXECUTE, (b'Q', b"select 1\0"), (b'D', b"Sa\0"), (b'F', &function_call)] {
        let bytes = stream(&[message]);
        for cut in 1..bytes.len() {
            let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
            talk.says(&mut memory, &stream(&[PARSE_A, SYNC])).unwrap();
            talk.hears(&mut memory, &stream(&[(b'1', b""), READY])).unwrap();
            talk.sent();
            assert_eq!(talk.exchange.keep(&bytes[..1]), Ok(true));
            assert!(cut == 1 || talk.exchange.keep(&bytes[1..cut]) == Ok(true), "{cut} of {}", bytes.len());
            assert!(talk.exchange.is_free(), "{cut} of {}", bytes.len());
            assert_eq!(talk.exchange.keep(&bytes[cut..]), Ok(false), "it is whole now");
            let mut whole = Talk::new(&Statements::default());
            whole.says(&mut memory, &stream(&[PARSE_A, SYNC])).unwrap();
            whole.hears(&mut memory, &stream(&[READY])).unwrap();
            whole.sent();
            talk.says(&mut memory, &bytes[cut..]).unwrap();
            whole.says(&mut memory, &bytes).unwrap();
            assert_eq!(talk.sent(), whole.sent(), "{cut}");
        }
    }
    let long = stream(&[(b'Q', &vec![b' '; MOST_ALONE])]);
    let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
    assert_eq!(talk.exchange.keep(&long[..9]), Ok(false));
    talk.says(&mut memory, &long[..9]).unwrap();
    assert!(talk.exchange.is_kept_by_a_beginning() && !talk.exchange.is_free() && talk.exchange.is_between());
    assert_eq!(Talk::new(&Statements::default()).exchange.keep(b"X\0\0\0\x04"), Ok(true));
    assert!(Talk::new(&Statements::default()).exchange.keep(b"Q\0\0\0\x03").is_err());
}

#[test]
fn what_a_peer_waits_for_is_refused_up_to_the_end_of_its_question() {
    let error = wire::ErrorResponse::error("57014", "cancelled");
    let refused = |early: &[u8]| {
        let mut out = Vec::new();
        let length = Talk::new(&Statements::default()).exchange.refuse(early, &error, &mut out);
        (length, shown(&out).iter().map(|message| &message[..1]).collect::<String>())
    };
    let query = stream(&[(b'Q', b"select 1\0")]);
    let extended = stream(&[PARSE_A, BIND_A, EXECUTE, SYNC]);
    for first in [&query, &extended] {
        assert_eq!(refused(&[&first[..], &query].concat()), (Some(first.len()), "EZ".into()));
        for cut in 0..first.len() {
            assert_eq!(refused(&first[..cut]), (None, String::new()));
        }
    }
}

#[test]
fn a_doubt_can_be_told_unless_a_part_of_an_answer_was_passed_on() {
    let row = stream(&[(b'D', b"\0\x01\0\0\0\x01x")]);
    let stray = stream(&[(b'2', b"")]);
    for (pieces, can_be_told) in [
        (&[&stray[..]][..], true),
        (&[&row, &stray], true),
        (&[&row[..3], &[&row[3..], &stray[..]].concat()], true),
        (&[&row[..9], &[&row[9..], &stray[..]].concat()], false),
    ] {
        let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
        talk.says(&mut memory, &stream(&[(b'Q', b"select 1\0")])).unwrap();
        let heard: Vec<_> = pieces.iter().map(|piece| talk.hears(&mut memory, piece)).collect();
        assert_eq!(heard.last(), Some(&Err(Error::Desync(b'2'))));
        assert_eq!(talk.exchange.is_within_answer(), !can_be_told, "{pieces:?}");
    }
}

#[test]
fn a_peer_that_only_asks_is_not_heard_for_ever() {
    let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
    let syncs = stream(&[SYNC; 100]);
    while !talk.exchange.is_full() {
        talk.says(&mut memory, &syncs).unwrap();
    }
    talk.hears(&mut memory, &stream(&[READY; 200])).unwrap();
    assert!(!talk.exchange.is_full());
    // Nothing of this is for the database, which may wait for more before it says anything.
    let (mut talk, closes) = (Talk::new(&Statements::default()), stream(&[(b'C', &b"Sa\0"[..]); 100]));
    talk.says(&mut memory, &stream(&[BIND_A])).unwrap();
    let mut count = 0;
    while talk.says(&mut memory, &closes).is_ok() {
        assert!(!talk.exchange.is_full());
        count += 100;
    }
    assert_eq!(count, MOST_OWED * 2 / 100 * 100);
}
