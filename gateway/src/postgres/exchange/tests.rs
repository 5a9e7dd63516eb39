//! Conversations of peers with clients that change, message by message.

use proptest::prelude::*;

use super::*;

mod talk;
mod hostile;
mod pipelines;
mod model;
mod meeting;
mod strangers;
mod reading;

use talk::{SYNC, Talk, memory, shown, stream};

const READY: (u8, &[u8]) = (b'Z', b"I");
const DONE: (u8, &[u8]) = (b'C', b"SELECT 1\0");
const BIND_A: (u8, &[u8]) = (b'B', b"\0a\0\0\0\0\0\0\0");
const PARSE_A: (u8, &[u8]) = (b'P', b"a\0select 1\0\0\0");
const EXECUTE: (u8, &[u8]) = (b'E', b"\0\0\0\0\0");
const FAILED: (u8, &[u8]) = (b'E', b"SERROR\0VERROR\0C42P01\0Mno such table\0\0");

#[test]
fn a_client_is_free_between_two_transactions_and_only_then() {
    let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
    let begin = stream(&[(b'Q', b"begin\0")]);
    talk.says(&mut memory, &begin[..3]).unwrap();
    assert!(talk.exchange.is_free(), "nothing was sent");
    talk.says(&mut memory, &begin[3..]).unwrap();
    assert!(!talk.exchange.is_free(), "an answer is owed");
    talk.hears(&mut memory, &stream(&[(b'C', b"BEGIN\0"), (b'Z', b"T")])).unwrap();
    assert!(!talk.exchange.is_free() && talk.exchange.is_between(), "a transaction is open");
    talk.says(&mut memory, &stream(&[(b'Q', b"commit\0"), (b'Q', b"select 1\0")])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'C', b"COMMIT\0"), READY])).unwrap();
    assert!(!talk.exchange.is_free(), "another question was asked along with it");
    talk.hears(&mut memory, &stream(&[(b'T', b"\0\0"), (b'D', b"\0\0"), DONE, READY])).unwrap();
    assert!(talk.exchange.is_free());
    assert_eq!((talk.sent().len(), talk.answered()), (3, "CZCZTDCZ".into()));
    let tally = talk.exchange.take_tally();
    assert_eq!((tally.answered, tally.transactions), (3, 2));
}

#[test]
fn a_flush_without_a_sync_keeps_the_client() {
    let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
    talk.says(&mut memory, &stream(&[PARSE_A, (b'H', b"")])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'1', b"")])).unwrap();
    assert!(!talk.exchange.is_free() && !talk.exchange.is_between());
    talk.says(&mut memory, &stream(&[SYNC])).unwrap();
    talk.hears(&mut memory, &stream(&[READY])).unwrap();
    assert!(talk.exchange.is_free());
}

#[test]
fn a_statement_follows_its_peer_to_another_client() {
    let statements = Statements::default();
    let (mut talk, mut first, mut second) = (Talk::new(&statements), memory(), memory());
    talk.says(&mut first, &stream(&[PARSE_A, SYNC])).unwrap();
    talk.hears(&mut first, &stream(&[(b'1', b""), READY])).unwrap();
    assert_eq!(talk.sent(), ["Ppostern_1_0|select 1|||", "S"]);
    assert_eq!(talk.answered(), "1Z");

    talk.exchange.begin(&mut second, &mut Vec::new());
    talk.says(&mut second, &stream(&[BIND_A, EXECUTE, SYNC])).unwrap();
    assert_eq!(talk.sent()[..2], ["Ppostern_1_0|select 1|||", "B|postern_1_0|||||||"]);
    talk.hears(&mut second, &stream(&[(b'1', b""), (b'2', b""), DONE, READY])).unwrap();
    assert_eq!(talk.answered(), "2CZ", "the peer never sent the Parse");
    assert!(talk.exchange.is_free());

    let mut other = Talk::new(&statements);
    other.says(&mut second, &stream(&[(b'P', b"b\0select 1\0\0\0"), (b'D', b"Sb\0"), SYNC])).unwrap();
    assert_eq!(other.sent(), ["DSpostern_1_0|", "S"], "it is there already");
    other.hears(&mut second, &stream(&[(b't', b"\0\0"), (b'T', b"\0\0"), READY])).unwrap();
    assert_eq!(other.answered(), "1tTZ");
}

#[test]
fn answers_of_ours_wait_for_their_turn() {
    let (statements, mut memory) = (Statements::default(), memory());
    let mut talk = Talk::new(&statements);
    talk.says(&mut memory, &stream(&[PARSE_A, SYNC])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'1', b""), READY])).unwrap();
    talk.answered();
    let more = [(b'Q', &b"select 1\0"[..]), (b'C', b"Sa\0"), PARSE_A, BIND_A, EXECUTE, SYNC];
    talk.says(&mut memory, &stream(&more)).unwrap();
    assert_eq!(talk.answered(), "", "the Query's answer comes first");
    talk.hears(&mut memory, &stream(&[DONE, READY])).unwrap();
    assert_eq!(talk.answered(), "CZ31");
    talk.hears(&mut memory, &stream(&[(b'2', b""), DONE, READY])).unwrap();
    assert_eq!(talk.answered(), "2CZ");
}

#[test]
fn nobody_runs_the_unnamed_statement_of_another_peer() {
    let (statements, mut memory) = (Statements::default(), memory());
    let (mut one, mut other) = (Talk::new(&statements), Talk::new(&statements));
    let unnamed = |sql: &[u8]| stream(&[(b'P', &[b"\0", sql, b"\0\0\0"].concat()), SYNC]);
    let prepared = stream(&[(b'1', b""), READY]);
    one.says(&mut memory, &unnamed(b"select 'one'")).unwrap();
    one.hears(&mut memory, &prepared).unwrap();
    other.says(&mut memory, &unnamed(b"select 'other'")).unwrap();
    other.hears(&mut memory, &prepared).unwrap();
    one.sent();
    one.says(&mut memory, &stream(&[(b'B', b"\0\0\0\0\0\0\0\0"), EXECUTE, SYNC])).unwrap();
    assert_eq!(one.sent()[0], "P|select 'one'|||");
    let mut stranger = Talk::new(&statements);
    stranger.says(&mut memory, &stream(&[(b'B', b"\0\0\0\0\0\0\0\0"), SYNC])).unwrap();
    assert_eq!(stranger.sent()[..2], ["CS|", "B||||||||"], "it has none, and the database shall say so");
    let mut thief = Talk::new(&statements);
    thief.says(&mut memory, &stream(&[(b'B', b"\0postern_1_0\0\0\0\0\0\0\0"), SYNC])).unwrap();
    assert_eq!(thief.sent()[0], "B|unknown postern_1_0|||||||");
}

#[test]
fn an_error_undoes_what_was_noted_up_to_the_next_sync() {
    let (statements, mut memory) = (Statements::default(), memory());
    let mut talk = Talk::new(&statements);
    talk.says(&mut memory, &stream(&[PARSE_A, BIND_A, EXECUTE, SYNC, (b'Q', b"select 2\0")])).unwrap();
    talk.hears(&mut memory, &stream(&[FAILED])).unwrap();
    assert!(!talk.exchange.is_free());
    talk.hears(&mut memory, &stream(&[READY, DONE, READY])).unwrap();
    assert!(talk.exchange.is_free());
    assert_eq!(talk.answered(), "EZCZ");
    talk.sent();
    talk.says(&mut memory, &stream(&[PARSE_A, SYNC])).unwrap();
    assert!(talk.sent()[0].starts_with('P'), "it is not prepared after all");
}

#[test]
fn after_an_error_everything_is_skipped_up_to_a_sync_that_comes_later() {
    let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
    talk.says(&mut memory, &stream(&[PARSE_A, (b'H', b"")])).unwrap();
    talk.hears(&mut memory, &stream(&[FAILED])).unwrap();
    talk.sent();
    talk.says(&mut memory, &stream(&[PARSE_A, BIND_A, (b'Q', b"select 2\0")])).unwrap();
    assert_eq!(talk.sent(), [""; 0]);
    assert!(!talk.exchange.is_between());
    talk.says(&mut memory, &stream(&[SYNC])).unwrap();
    talk.hears(&mut memory, &stream(&[READY])).unwrap();
    assert!(talk.exchange.is_free());
    assert_eq!(talk.answered(), "EZ");
}

#[test]
fn a_closed_statement_is_there_again_when_the_close_was_skipped() {
    let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
    talk.says(&mut memory, &stream(&[PARSE_A, SYNC])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'1', b""), READY])).unwrap();
    talk.says(&mut memory, &stream(&[(b'B', b"\0b\0\0\0\0\0\0\0"), (b'C', b"Sa\0"), SYNC])).unwrap();
    talk.hears(&mut memory, &stream(&[FAILED, READY])).unwrap();
    talk.sent();
    talk.says(&mut memory, &stream(&[BIND_A, SYNC])).unwrap();
    assert_eq!(talk.sent()[0], "B|postern_1_0|||||||");
}

#[test]
fn copy_in_ends_where_it_ends_and_late_ends_are_nobodys() {
    let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
    let copied = (b'C', &b"COPY 1\0"[..]);
    // The extended protocol, as libpq does it: Sync along with Execute is ignored, and sent again.
    talk.says(
        &mut memory,
        &stream(&[(b'P', b"\0copy t from stdin\0\0\0"), (b'B', b"\0\0\0\0\0\0\0\0"), EXECUTE, SYNC]),
    )
    .unwrap();
    talk.hears(&mut memory, &stream(&[(b'1', b""), (b'2', b""), (b'G', b"\0\0\0")])).unwrap();
    assert!(!talk.exchange.is_free());
    talk.says(&mut memory, &stream(&[(b'd', b"1\n"), (b'c', b""), SYNC])).unwrap();
    talk.hears(&mut memory, &stream(&[copied, READY])).unwrap();
    assert!(talk.exchange.is_free());
    // The simple protocol; the database gives up while the peer still sends.
    talk.says(&mut memory, &stream(&[(b'Q', b"copy t from stdin\0")])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'G', b"\0\0\0"), FAILED, READY])).unwrap();
    talk.sent();
    talk.says(&mut memory, &stream(&[(b'd', b"1\n"), (b'c', b""), (b'f', b"why\0")])).unwrap();
    assert_eq!((talk.sent(), talk.exchange.is_free()), (vec![], true));
    // All at once, without a look at the answers.
    let blindly = [(b'Q', &b"copy t from stdin\0"[..]), (b'd', b"1\n"), (b'c', b""), (b'Q', b"select 1\0")];
    talk.says(&mut memory, &stream(&blindly)).unwrap();
    talk.hears(&mut memory, &stream(&[(b'G', b"\0\0\0"), copied, READY])).unwrap();
    assert!(!talk.exchange.is_free());
    talk.hears(&mut memory, &stream(&[DONE, READY])).unwrap();
    assert!(talk.exchange.is_free());
}

#[test]
fn a_peers_own_notifications_are_those_of_the_process_that_it_was_told_of() {
    let (own, others) = ((b'A', &b"\0\0\0\x09x\0\0"[..]), (b'A', &b"\0\0\0\x08x\0y\0"[..]));
    let heard = stream(&[own, others, (b'A', b"\0\0\0\x09z\0\0")]);
    for cut in 0..=heard.len() {
        let mut memory = Memory { process: Some(9), ..memory() };
        let mut talk = Talk::new(&Statements::default());
        talk.exchange = talk.exchange.known_as(7);
        talk.hears(&mut memory, &heard[..cut]).unwrap();
        talk.hears(&mut memory, &heard[cut..]).unwrap();
        assert_eq!(
            shown(&talk.to_peer),
            ["A\0\0\0\x07x||", "A\0\0\0\x08x|y|", "A\0\0\0\x07z||"].map(|said| said.replace('\0', "|"))
        );
    }
    let mut talk = Talk::new(&Statements::default());
    let short = talk.hears(&mut memory(), &stream(&[(b'A', b"\0\0\x09")]));
    assert_eq!(short, Err(Error::Database(wire::Error::Body(b'A'))));
}

#[test]
fn a_peer_that_listens_misses_nothing_while_its_client_is_given_its_settings() {
    let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
    talk.says(&mut memory, &stream(&[(b'Q', b"listen x\0")])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'C', b"LISTEN\0"), READY])).unwrap();
    talk.answered();
    memory.parameters.set("TimeZone", "Asia/Tokyo");
    let mut out = Vec::new();
    talk.exchange.begin(&mut memory, &mut out);
    assert!(!out.is_empty(), "it is given its settings");
    let answer = [(b'T', &b"\0\0"[..]), (b'A', b"\0\0\0\x08x\0\0"), (b'D', b"\0\0"), DONE, READY];
    talk.hears(&mut memory, &stream(&answer)).unwrap();
    assert_eq!(talk.answered(), "A");
}

#[test]
fn what_nobody_asked_for_is_a_doubt() {
    for stray in [(b'1', &b""[..]), (b'2', b""), DONE, READY, (b'D', b"\0\0"), (b'T', b"\0\0"), (b'R', b"\0\0\0\0")] {
        let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
        assert_eq!(talk.hears(&mut memory, &stream(&[stray])), Err(Error::Desync(stray.0)));
        let mut talk = Talk::new(&Statements::default());
        talk.says(&mut memory, &stream(&[PARSE_A, SYNC])).unwrap();
        assert_eq!(talk.hears(&mut memory, &stream(&[stray])).is_ok(), stray.0 == b'1', "{}", char::from(stray.0));
    }
}

#[test]
fn settings_follow_their_peer_and_its_client_forgets_them_for_the_next() {
    let (statements, mut first, mut second) = (Statements::default(), memory(), memory());
    let mut talk = Talk::new(&statements);
    talk.says(&mut first, &stream(&[(b'Q', b"set time zone 'x'\0")])).unwrap();
    talk.hears(&mut first, &stream(&[(b'C', b"SET\0"), (b'S', b"TimeZone\0it's\0"), READY])).unwrap();
    assert!(talk.exchange.is_free(), "a setting that is reported keeps nobody");
    let mut out = Vec::new();
    talk.exchange.begin(&mut second, &mut out);
    assert_eq!(shown(&out), ["Qselect pg_catalog.set_config('TimeZone',E'it''s',false)|"]);
    talk.says(&mut second, &stream(&[(b'Q', b"select 1\0")])).unwrap();
    let own = [(b'T', &b"\0\0"[..]), (b'D', b"\0\0"), (b'S', b"TimeZone\0it's\0"), DONE, READY];
    talk.answered();
    talk.hears(&mut second, &stream(&own)).unwrap();
    talk.hears(&mut second, &stream(&[DONE, READY])).unwrap();
    assert_eq!(talk.answered(), "CZ");
    assert_eq!(second.parameters.get("TimeZone"), Some("it's"));
    let mut next = Vec::new();
    Talk::new(&statements).exchange.begin(&mut second, &mut next);
    assert_eq!(shown(&next), ["Qselect pg_catalog.set_config('TimeZone',E'UTC',false)|"]);
}

#[test]
fn a_setting_that_cannot_be_remembered_keeps_its_client() {
    let long = format!("search_path\0{}\0", "x".repeat(20_000));
    let longer = format!("search_path\0{}\0", "x".repeat(70_000));
    for unheard in [long.as_bytes(), longer.as_bytes(), b"search_path\0sch\xe9ma\0"] {
        let mut memory = memory();
        memory.parameters.set("search_path", "shop");
        let mut talk = Talk::with(PoolMode::Transaction, &Statements::default(), &memory);
        talk.says(&mut memory, &stream(&[(b'Q', b"set search_path to x\0")])).unwrap();
        talk.hears(&mut memory, &stream(&[(b'C', b"SET\0"), (b'S', unheard), READY])).unwrap();
        assert_eq!(
            (talk.exchange.is_free(), talk.exchange.pin()),
            (false, Some(Pin::Set)),
            "the next peer would have it"
        );
        talk.says(&mut memory, &stream(&[(b'Q', b"discard all\0")])).unwrap();
        talk.hears(&mut memory, &stream(&[(b'C', b"DISCARD ALL\0"), (b'S', b"search_path\0shop\0"), READY])).unwrap();
        assert!(talk.exchange.is_free());
    }
}

#[test]
fn a_database_that_ends_while_it_is_given_settings_is_not_said_to_have_refused_them() {
    let (statements, mut first, mut second) = (Statements::default(), memory(), memory());
    first.parameters.set("TimeZone", "x");
    let ends = |memory: &mut Memory, error: &[u8]| {
        let mut talk = Talk::with(PoolMode::Transaction, &statements, &first);
        talk.exchange.begin(memory, &mut Vec::new());
        (talk.hears(memory, &stream(&[(b'E', error)])).unwrap_err(), talk.answered())
    };
    let (ended, told) = ends(&mut second, b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0");
    assert!(matches!(&ended, Error::Over(said) if &*said.code == "57P01"), "{ended:?}");
    assert_eq!(told, "", "the peer is told once, when its session ends");
    let (refused, _) = ends(&mut second, b"SERROR\0VERROR\0C22023\0Mno such time zone\0\0");
    assert!(matches!(refused, Error::Settings(_)), "{refused:?}");
}

#[test]
fn a_reset_gives_the_peer_its_own_settings_back_and_tells_it() {
    let mut memory = memory();
    memory.initial = memory.parameters.clone();
    memory.parameters.set("application_name", "shop");
    let mut talk = Talk::with(PoolMode::Session, &Statements::default(), &memory);
    talk.exchange = talk.exchange.wishing(Wishes::new(["application_name"], &memory.parameters));
    talk.says(&mut memory, &stream(&[(b'Q', b"reset all\0")])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'C', b"RESET\0"), (b'S', b"application_name\0\0"), READY])).unwrap();
    talk.sent();
    talk.says(&mut memory, &stream(&[(b'Q', b"select 1\0")])).unwrap();
    assert_eq!(talk.sent(), ["Qselect pg_catalog.set_config('application_name',E'shop',false)|", "Qselect 1|"]);
    let given = [(b'T', &b"\0\0"[..]), DONE, (b'S', b"application_name\0shop\0"), READY];
    talk.hears(&mut memory, &stream(&given)).unwrap();
    talk.hears(&mut memory, &stream(&[(b'T', b"\0\0"), DONE, READY])).unwrap();
    assert_eq!(talk.answered(), "CSZSTCZ");
    assert_eq!(talk.exchange.parameters().get("application_name"), Some("shop"));
    talk.says(&mut memory, &stream(&[(b'Q', b"select 1\0")])).unwrap();
    assert_eq!(talk.sent(), ["Qselect 1|"], "once");
}

#[test]
fn what_is_left_behind_keeps_the_client_until_it_is_discarded() {
    let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
    talk.says(&mut memory, &stream(&[PARSE_A, SYNC, (b'Q', b"listen x\0")])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'1', b""), READY, (b'C', b"LISTEN\0"), READY])).unwrap();
    assert_eq!((talk.exchange.is_free(), talk.exchange.pin()), (false, Some(Pin::Listen)));
    assert_eq!(talk.exchange.take_tally().pinned, Some(Pin::Listen));
    talk.says(&mut memory, &stream(&[(b'Q', b"discard all\0")])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'C', b"DISCARD ALL\0"), READY])).unwrap();
    assert!(talk.exchange.is_free() && memory.prepared.is_empty());
    talk.sent();
    talk.says(&mut memory, &stream(&[BIND_A, SYNC])).unwrap();
    assert_eq!(talk.sent()[0], "B|a|||||||", "the peer has discarded it, too");
}

#[test]
fn a_statement_that_leaves_something_pins_when_it_is_bound() {
    let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
    talk.says(&mut memory, &stream(&[(b'P', b"a\0select pg_advisory_lock($1)\0\0\0"), SYNC])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'1', b""), READY])).unwrap();
    assert!(talk.exchange.is_free());
    talk.says(&mut memory, &stream(&[BIND_A, EXECUTE, SYNC])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'2', b""), DONE, READY])).unwrap();
    assert_eq!(talk.exchange.pin(), Some(Pin::AdvisoryLock));
}

#[test]
fn a_server_that_refuses_writes_is_told_from_a_peer_that_sets_so_itself() {
    let read_only = (b'S', &b"default_transaction_read_only\0on\0"[..]);
    let asks = |mode, asked: &[u8], answer: (u8, &[u8])| {
        let mut memory = memory();
        let mut talk = Talk::with(mode, &Statements::default(), &memory);
        talk.says(&mut memory, &stream(&[(b'Q', asked)])).unwrap();
        talk.hears(&mut memory, &stream(&[answer, (b'C', b"DONE\0"), READY])).unwrap();
        talk.exchange.take_tally().refuses_writes
    };
    let set = b"set default_transaction_read_only = on\0";
    assert!(asks(PoolMode::Transaction, b"select 1\0", read_only));
    assert!(!asks(PoolMode::Transaction, set, read_only));
    assert!(!asks(PoolMode::Session, set, read_only));
    assert!(asks(PoolMode::Session, b"select 1\0", (b'S', b"in_hot_standby\0on\0")));
    assert!(asks(PoolMode::Session, b"select 1\0", (b'E', b"SERROR\0C25006\0Mread-only\0\0")));
}

#[test]
fn deallocate_by_sql_finds_what_was_prepared_by_message() {
    let (mut talk, mut first, mut second) = (Talk::new(&Statements::default()), memory(), memory());
    let deallocate = stream(&[(b'Q', b"DEALLOCATE \"a\"\0")]);
    let prepare = stream(&[PARSE_A, SYNC]);
    talk.says(&mut first, &prepare).unwrap();
    talk.hears(&mut first, &stream(&[(b'1', b""), READY])).unwrap();
    talk.sent();
    for memory in [&mut first, &mut second] {
        talk.answered();
        talk.says(memory, &deallocate).unwrap();
        assert_eq!(talk.sent(), ["Qprepare postern_none_1 as select; deallocate postern_none_1|"]);
        let answers = [(b'C', &b"PREPARE\0"[..]), (b'C', b"DEALLOCATE\0"), READY];
        talk.hears(memory, &stream(&answers)).unwrap();
        assert_eq!((talk.answered(), talk.exchange.is_free()), ("CZ".into(), true));
        talk.says(memory, &deallocate).unwrap();
        assert_eq!(talk.sent(), ["QDEALLOCATE \"a\"|"], "the peer has none of that name: the database says so");
        talk.hears(memory, &stream(&[FAILED, READY])).unwrap();
        talk.says(memory, &prepare).unwrap();
        if talk.sent().len() > 1 {
            talk.hears(memory, &stream(&[(b'1', b"")])).unwrap();
        }
        talk.hears(memory, &stream(&[READY])).unwrap();
        talk.exchange.begin(memory, &mut Vec::new());
    }
}

#[test]
fn a_deallocate_that_is_cancelled_is_forgotten_and_hangs_nobody() {
    let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
    talk.says(&mut memory, &stream(&[PARSE_A, SYNC])).unwrap();
    talk.hears(&mut memory, &stream(&[(b'1', b""), READY])).unwrap();
    let prepared = (b'C', &b"PREPARE\0"[..]);
    for (number, answers) in [(1, vec![FAILED, READY]), (2, vec![prepared, FAILED, READY])] {
        talk.sent();
        talk.answered();
        talk.says(&mut memory, &stream(&[(b'Q', b"deallocate a\0")])).unwrap();
        // Another name each time, because the last one may be there still.
        let name = format!("postern_none_{number}");
        assert_eq!(
            talk.sent(),
            [format!("Qprepare {name} as select; deallocate {name}|")],
            "it has the statement still"
        );
        talk.hears(&mut memory, &stream(&answers)).unwrap();
        assert_eq!((talk.answered(), talk.exchange.is_free()), ("EZ".into(), true));
    }
}

#[test]
fn a_plan_that_does_not_fit_any_more_is_made_anew() {
    let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
    talk.says(&mut memory, &stream(&[PARSE_A, SYNC, BIND_A, EXECUTE, SYNC])).unwrap();
    let stale = (b'E', &b"SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0\0"[..]);
    talk.hears(&mut memory, &stream(&[(b'1', b""), READY, stale, READY])).unwrap();
    talk.sent();
    talk.says(&mut memory, &stream(&[BIND_A, EXECUTE, SYNC])).unwrap();
    assert_eq!(talk.sent()[..2], ["Ppostern_1_1|select 1|||", "B|postern_1_1|||||||"]);
    // Somebody has guessed its name, and deallocated it.
    let gone = (b'E', &b"SERROR\0VERROR\0C26000\0Mprepared statement does not exist\0\0"[..]);
    talk.hears(&mut memory, &stream(&[(b'1', b""), gone, READY])).unwrap();
    talk.says(&mut memory, &stream(&[BIND_A, EXECUTE, SYNC])).unwrap();
    assert_eq!(talk.sent()[..2], ["Ppostern_1_2|select 1|||", "B|postern_1_2|||||||"]);
}

#[test]
fn a_session_of_its_own_is_passed_on_untouched() {
    let mut memory = memory();
    let mut talk = Talk::with(PoolMode::Session, &Statements::default(), &memory);
    let said = stream(&[PARSE_A, BIND_A, (b'D', b"Sa\0"), EXECUTE, (b'C', b"Sa\0"), SYNC, (b'Q', b"listen x\0")]);
    talk.says(&mut memory, &said).unwrap();
    assert_eq!(talk.to_database, said);
    let answers = [(b'1', &b""[..]), (b'2', b""), (b't', b"\0\0"), (b'n', b""), DONE, (b'3', b""), READY, DONE, READY];
    talk.hears(&mut memory, &stream(&answers)).unwrap();
    assert!(talk.exchange.is_at_boundary() && !talk.exchange.is_free());
}

#[test]
fn a_big_bind_and_a_cut_parse_are_renamed_wherever_they_are_cut() {
    let statements = Statements::default();
    let big = [b"\0a\0".to_vec(), vec![7; 300]].concat();
    let said = stream(&[PARSE_A, (b'B', &big), (b'D', b"P\0"), EXECUTE, (b'C', b"P\0"), SYNC, (b'Q', b"select 1\0")]);
    let mut whole = Talk::new(&statements);
    whole.says(&mut memory(), &said).unwrap();
    let (expected, mut number) = (whole.to_database, 0);
    for cut in 0..=said.len() {
        for second in [cut, (cut + 3).min(said.len()), said.len()] {
            let (mut memory, mut talk) = (memory(), Talk::new(&statements));
            for piece in [&said[..cut], &said[cut..second], &said[second..]] {
                talk.says(&mut memory, piece).unwrap();
            }
            assert_eq!(talk.to_database, expected, "{cut}, {second}");
            number += 1;
        }
    }
    assert_eq!(number, (said.len() + 1) * 3);
}

#[test]
fn nonsense_of_a_peer_ends_its_session() {
    let statements = Statements::default();
    for nonsense in [
        stream(&[(b'P', b"no end")]),
        stream(&[(b'Q', b"no end")]),
        stream(&[(b'D', b"")]),
        stream(&[(b'B', b"\0no end")]),
        stream(&[(b'p', b"secret\0")]),
        stream(&[(b'Z', b"I")]),
        vec![0; 5],
    ] {
        let mut talk = Talk::new(&statements);
        assert!(talk.says(&mut memory(), &nonsense).is_err(), "{nonsense:?}");
    }
    let long = stream(&[(b'P', &vec![b'x'; MOST_HELD + 10])]);
    let refused = Talk::new(&statements).says(&mut memory(), &long[..100]);
    assert_eq!(refused, Err(Error::LongStatement(MOST_HELD + 10)), "at its first bytes");
    let names = stream(&[(b'B', &vec![b'x'; MOST_NAMES * 2])]);
    let mut talk = Talk::new(&statements);
    let cut = names.chunks(8192).try_for_each(|piece| talk.says(&mut memory(), piece));
    assert_eq!(cut, Err(Error::LongName));
}

proptest! {
    #[test]
    fn any_split_of_both_streams_gives_the_same_decisions(
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
        answer_cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let said = stream(&[
            PARSE_A, BIND_A, (b'D', b"P\0"), EXECUTE, SYNC, (b'C', b"Sa\0"), SYNC, (b'Q', b"copy t from stdin\0"),
            (b'd', b"123456"), (b'c', b""), PARSE_A, BIND_A, EXECUTE, SYNC,
        ]);
        let heard = stream(&[
            (b'1', b""), (b'2', b""), (b'T', b"\0\0"), (b'D', b"\0\0"), DONE, READY, READY, (b'G', b"\0\0\0"),
            (b'C', b"COPY 1\0"), READY, (b'2', b""), FAILED, (b'S', b"TimeZone\0x\0"), READY,
        ]);
        let talk = |said_cuts: &[prop::sample::Index], heard_cuts: &[prop::sample::Index]| {
            let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
            for piece in pieces(&said, said_cuts) {
                talk.says(&mut memory, piece).unwrap();
            }
            for piece in pieces(&heard, heard_cuts) {
                talk.hears(&mut memory, piece).unwrap();
            }
            assert!(talk.exchange.is_free());
            (talk.to_database, talk.to_peer, memory.parameters)
        };
        prop_assert_eq!(talk(&cuts, &answer_cuts), talk(&[], &[]));
    }

    #[test]
    fn any_bytes_from_either_side_are_understood_or_refused(
        said in proptest::collection::vec(any::<u8>(), 0..100),
        heard in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let (mut talk, mut memory) = (Talk::new(&Statements::default()), memory());
        // Either may end the session.
        let _ = talk.says(&mut memory, &said).and_then(|()| talk.hears(&mut memory, &heard));
    }
}

fn pieces<'a>(stream: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}
