//! Scripts of messages whose answers are the same, byte for byte, with and without us.

use cast::frontend::{
    Message, bind, close, copy_data, copy_done, copy_fail, describe, execute, flush, function_call, parse, query, sync,
    transcript,
};
use cast::time::pause;
use cast::wire::Address;
use cast::{Frontend, Postgres};
use std::time::Duration;

use crate::modes::{self, ALL};

/// One step: what is sent, and up to which message, and how many of them, the answer is read.
type Step = (Vec<u8>, (u8, usize));

/// A named conversation.
type Script = (&'static str, Vec<Step>);

/// Everything in one step that ends after so many ReadyForQuery.
fn at_once(messages: &[Vec<u8>], ready: usize) -> Vec<Step> {
    vec![(messages.concat(), (b'Z', ready))]
}

fn asks(queries: &[&str]) -> Vec<Step> {
    queries.iter().map(|sql| (query(sql), (b'Z', 1))).collect()
}

fn simple() -> Vec<Script> {
    vec![
        ("a query", asks(&["select 1 as one, null as none, 'Grüße' as text"])),
        ("an empty query", asks(&["", ";", "-- nothing"])),
        ("several statements", asks(&["select 1; select 2; select 3"])),
        ("several statements, one fails", asks(&["select 1; select 1/0; select 3"])),
        ("several queries in one segment", at_once(&[query("select 1"), query("select 1/0"), query("select 3")], 3)),
        ("an error in a transaction", asks(&["begin", "select 1/0", "select 2", "rollback", "select 3"])),
        ("commit of a failed transaction", asks(&["begin", "select 1/0", "commit"])),
        ("a transaction in one query", asks(&["begin; create temp table w (n int) on commit drop; select 1; commit"])),
        ("savepoints", asks(&["begin", "savepoint s", "select nonsense", "rollback to s", "select 2", "commit"])),
        ("a notice", asks(&["do $$ begin raise notice 'heard %', 1; end $$", "commit"])),
        ("set and show", asks(&["set application_name = 'x'", "show application_name", "reset application_name"])),
        ("settings are reported", asks(&["set datestyle = 'German'", "select date '2026-01-02'", "reset datestyle"])),
        (
            "set local",
            asks(&["begin", "set local timezone = 'Asia/Tokyo'", "show timezone", "rollback", "show timezone"]),
        ),
        ("discard all", asks(&["set work_mem = '1MB'", "discard all", "show work_mem"])),
        ("a notification", asks(&["listen heard", "notify heard, 'text'", "unlisten heard"])),
        ("prepare", asks(&["prepare q as select 7", "execute q", "deallocate q", "execute q", "deallocate all"])),
        ("a cursor", asks(&["begin", "declare c cursor for select generate_series(1, 5)", "fetch 2 from c", "commit"])),
        ("many rows", asks(&["select n, repeat('x', n % 300) from generate_series(1, 3000) n"])),
        ("a long query", vec![(query(&format!("select length('{}')", "y".repeat(100_000))), (b'Z', 1))]),
    ]
}

#[expect(clippy::too_many_lines, reason = "it is a table")]
fn extended() -> Vec<Script> {
    let run = |sql: &str| [parse("", sql), bind("", "", &[]), describe(b'P', ""), execute("", 0)].concat();
    vec![
        ("parse to sync", at_once(&[run("select 1"), sync()], 1)),
        (
            "values",
            at_once(&[parse("", "select $1::int + 1, $2::text"), bind("", "", &["4", "a"]), execute("", 0), sync()], 1),
        ),
        ("an empty statement", at_once(&[run(""), sync()], 1)),
        ("a pipeline", at_once(&[run("select 1"), run("select 2"), run("select 3"), sync()], 1)),
        ("several syncs in flight", at_once(&[run("select 1"), sync(), run("select 2"), sync(), sync(), sync()], 4)),
        (
            "an error skips to sync",
            at_once(&[run("select 1"), run("select 1/0"), run("select 3"), sync(), run("select 4"), sync()], 2),
        ),
        (
            "a parse that fails",
            at_once(
                &[parse("bad", "selec"), bind("", "bad", &[]), execute("", 0), sync(), bind("", "bad", &[]), sync()],
                2,
            ),
        ),
        ("a query behind an error is skipped", at_once(&[run("nonsense"), query("select 1"), sync()], 1)),
        (
            "an error in a transaction",
            at_once(
                &[run("begin"), sync(), run("select 1/0"), sync(), run("select 2"), sync(), run("rollback"), sync()],
                4,
            ),
        ),
        (
            "flush without sync",
            vec![
                ([run("select 1"), flush()].concat(), (b'C', 1)),
                ([run("select 2"), flush()].concat(), (b'C', 1)),
                (sync(), (b'Z', 1)),
            ],
        ),
        ("an error before flush", vec![([run("select 1/0"), flush()].concat(), (b'E', 1)), (sync(), (b'Z', 1))]),
        (
            "a portal in parts",
            vec![
                (
                    [parse("", "select generate_series(1, 5)"), bind("p", "", &[]), execute("p", 2), flush()].concat(),
                    (b's', 1),
                ),
                ([execute("p", 2), flush()].concat(), (b's', 1)),
                ([execute("p", 2), close(b'P', "p"), sync()].concat(), (b'Z', 1)),
            ],
        ),
        (
            "a portal ends with its transaction",
            at_once(&[parse("", "select 1"), bind("p", "", &[]), sync(), execute("p", 0), sync()], 2),
        ),
        (
            "describe",
            at_once(
                &[
                    parse("d1", "select $1::int as n"),
                    describe(b'S', "d1"),
                    parse("d2", "begin"),
                    describe(b'S', "d2"),
                    close(b'S', "d1"),
                    close(b'S', "d2"),
                    sync(),
                ],
                1,
            ),
        ),
        ("close of what is not there", at_once(&[close(b'S', "nothing"), close(b'P', "nothing"), sync()], 1)),
        ("query beside extended", at_once(&[run("select 1"), query("select 2"), run("select 3"), sync()], 2)),
        ("function call", at_once(&[function_call(1317, "length"), function_call(1, "none"), query("select 1")], 3)),
    ]
}

#[expect(clippy::too_many_lines, reason = "it is a table")]
fn statements() -> Vec<Script> {
    let use_of = |name: &str| [bind("", name, &[]), execute("", 0), sync()].concat();
    vec![
        (
            "one name twice",
            at_once(
                &[
                    parse("again", "select 1"),
                    sync(),
                    parse("again", "select 2"),
                    sync(),
                    use_of("again"),
                    close(b'S', "again"),
                    sync(),
                ],
                4,
            ),
        ),
        (
            "one name for another",
            at_once(
                &[
                    parse("reuse", "select 1"),
                    close(b'S', "reuse"),
                    parse("reuse", "select 2"),
                    use_of("reuse"),
                    close(b'S', "reuse"),
                    sync(),
                ],
                2,
            ),
        ),
        (
            "names whose change was skipped",
            vec![
                ([parse("kept", "select 1"), parse("", "select 2"), sync()].concat(), (b'Z', 1)),
                (
                    [
                        bind("", "nobody", &[]),
                        close(b'S', "kept"),
                        parse("kept", "select 3"),
                        parse("", "select 4"),
                        sync(),
                    ]
                    .concat(),
                    (b'Z', 1),
                ),
                ([use_of("kept"), use_of(""), close(b'S', "kept"), sync()].concat(), (b'Z', 3)),
            ],
        ),
        (
            "prepared behind the end of all",
            vec![
                ([parse("kept", "select 1"), sync()].concat(), (b'Z', 1)),
                ([query("deallocate all"), parse("kept", "select 2"), use_of("kept")].concat(), (b'Z', 2)),
                (use_of("kept"), (b'Z', 1)),
                ([query("discard all"), parse("kept", "select 3"), sync()].concat(), (b'Z', 2)),
                ([use_of("kept"), close(b'S', "kept"), sync()].concat(), (b'Z', 2)),
            ],
        ),
        (
            "what ends no statement because it fails",
            vec![
                ([parse("kept", "select 1"), sync()].concat(), (b'Z', 1)),
                (query("begin"), (b'Z', 1)),
                (query("select 1/0"), (b'Z', 1)),
                (query("deallocate kept"), (b'Z', 1)),
                (query("deallocate all"), (b'Z', 1)),
                (query("rollback"), (b'Z', 1)),
                ([use_of("kept"), close(b'S', "kept"), sync()].concat(), (b'Z', 2)),
            ],
        ),
        (
            "across transactions",
            vec![
                ([parse("kept", "select 5"), sync()].concat(), (b'Z', 1)),
                (use_of("kept"), (b'Z', 1)),
                (query("select 6"), (b'Z', 1)),
                ([use_of("kept"), close(b'S', "kept"), sync()].concat(), (b'Z', 2)),
            ],
        ),
        (
            "the unnamed one across transactions",
            vec![
                ([parse("", "select 8"), sync()].concat(), (b'Z', 1)),
                (use_of(""), (b'Z', 1)),
                (use_of(""), (b'Z', 1)),
            ],
        ),
        (
            "the unnamed one ends with a query",
            vec![
                ([parse("", "select 8"), sync()].concat(), (b'Z', 1)),
                (query("select 9"), (b'Z', 1)),
                ([bind("", "", &[]), sync()].concat(), (b'Z', 1)),
            ],
        ),
        (
            "too many values",
            at_once(
                &[
                    parse("one", "select $1::int"),
                    sync(),
                    bind("", "one", &["1", "2"]),
                    sync(),
                    close(b'S', "one"),
                    sync(),
                ],
                3,
            ),
        ),
        ("a name like one of ours", at_once(&[use_of("postern_1_0"), describe(b'S', "postern_1_0"), sync()], 2)),
        (
            "one that is gone without a word",
            at_once(
                &[
                    parse("vanished", "select 1"),
                    sync(),
                    query("do $$ begin execute 'deallocate all'; end $$"),
                    describe(b'S', "vanished"),
                    sync(),
                ],
                3,
            ),
        ),
        ("an unknown one", at_once(&[use_of("unknown"), describe(b'S', "unknown"), sync()], 2)),
        (
            "deallocate by name",
            at_once(&[parse("gone", "select 1"), sync(), query("deallocate gone"), use_of("gone")], 3),
        ),
        ("deallocate all", at_once(&[parse("all", "select 1"), sync(), query("deallocate all"), use_of("all")], 3)),
        (
            "discard all",
            at_once(&[parse("discarded", "select 1"), sync(), query("discard all"), use_of("discarded")], 3),
        ),
        (
            "in a failed transaction",
            at_once(
                &[
                    parse("held", "select 1"),
                    sync(),
                    query("begin"),
                    query("select 1/0"),
                    use_of("held"),
                    query("rollback"),
                    use_of("held"),
                    close(b'S', "held"),
                    sync(),
                ],
                7,
            ),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "it is a table")]
fn copies() -> Vec<Script> {
    let table = "create temp table c (n int, t text)";
    let into = "copy c from stdin";
    let begun = |more: Vec<Step>| [asks(&[table]), more].concat();
    let extended = |sql: &str| [parse("", sql), bind("", "", &[]), execute("", 0)].concat();
    vec![
        ("copy out", asks(&["copy (select generate_series(1, 100)) to stdout", "copy nothing to stdout"])),
        ("copy out, extended", at_once(&[extended("copy (select generate_series(1, 9)) to stdout"), sync()], 1)),
        (
            "copy out in a pipeline",
            at_once(&[extended("select 1"), extended("copy (select 2) to stdout"), extended("select 3"), sync()], 1),
        ),
        (
            "copy in",
            begun(vec![
                (query(into), (b'G', 1)),
                ([copy_data("1\ta\n2\t"), copy_data("b\n"), copy_done()].concat(), (b'Z', 1)),
                (query("select n + 0, t || '' from c"), (b'Z', 1)),
                (query("drop table c"), (b'Z', 1)),
            ]),
        ),
        ("copy in at once", begun(at_once(&[query(into), copy_data("1\ta\n"), copy_done(), query("drop table c")], 2))),
        (
            "copy in, extended",
            begun(vec![
                ([extended(into), flush()].concat(), (b'G', 1)),
                ([copy_data("1\ta\n"), copy_done(), sync()].concat(), (b'Z', 1)),
                (query("select n + 0, t || '' from c; drop table c"), (b'Z', 1)),
            ]),
        ),
        (
            "copy in, extended, at once",
            begun(at_once(&[extended(into), copy_data("1\ta\n"), copy_done(), sync(), query("drop table c")], 2)),
        ),
        (
            "copy fail",
            begun(vec![
                (query(into), (b'G', 1)),
                ([copy_data("1\ta\n"), copy_fail("why not")].concat(), (b'Z', 1)),
                (query("select n + 0, t || '' from c; drop table c"), (b'Z', 1)),
            ]),
        ),
        ("copy fail, extended", begun(at_once(&[extended(into), copy_fail("no"), sync(), query("drop table c")], 2))),
        (
            "bad data, and the rest too late",
            begun(vec![
                (query(into), (b'G', 1)),
                (copy_data("no number\ta\n"), (b'Z', 1)),
                ([copy_data("2\tb\n"), copy_done(), query("drop table c")].concat(), (b'Z', 1)),
            ]),
        ),
        (
            "bad data, extended",
            begun(vec![
                ([extended(into), flush()].concat(), (b'G', 1)),
                ([copy_data("no number\ta\n"), copy_data("2\tb\n"), copy_done(), sync()].concat(), (b'Z', 1)),
                (query("drop table c"), (b'Z', 1)),
            ]),
        ),
        (
            "copy into nothing",
            at_once(&[query("copy nothing from stdin"), copy_data("1\n"), copy_done(), query("select 1")], 2),
        ),
        (
            "flush and sync within a copy",
            begun(vec![
                (query(into), (b'G', 1)),
                ([flush(), sync(), copy_data("1\ta\n"), copy_done()].concat(), (b'Z', 1)),
                (query("drop table c"), (b'Z', 1)),
            ]),
        ),
    ]
}

/// What the answers are; and that the session goes on.
#[track_caller]
fn played(address: &Address, steps: &[Step]) -> String {
    let mut peer = Frontend::login(address);
    let mut heard: Vec<Message> = Vec::new();
    for (bytes, (tag, count)) in steps {
        peer.send(bytes);
        heard.extend(peer.until(*tag, *count));
    }
    peer.send(&query("select 'still here'"));
    heard.extend(peer.until_ready(1));
    transcript(&heard)
}

#[track_caller]
fn are_the_same(scripts: Vec<Script>) {
    are_the_same_at(&Postgres::start(), scripts);
}

/// All of them at this database.
#[track_caller]
pub(crate) fn are_all_the_same_at(postgres: &Postgres) {
    are_the_same_at(postgres, [simple(), extended(), statements(), copies()].concat());
}

#[track_caller]
fn are_the_same_at(postgres: &Postgres, scripts: Vec<Script>) {
    let secrets = modes::secrets();
    let gateway = modes::gateway(postgres, &secrets);
    let mut differing = Vec::new();
    for (name, steps) in scripts {
        let direct = played(&postgres.address(), &steps);
        assert!(direct.contains("still here"), "{name}: the script ends the session: {direct}");
        for mode in ALL {
            let through = played(&gateway.address_of(mode), &steps);
            if through != direct {
                differing.push(format!("{name}, {mode}:\n{through}instead of\n{direct}"));
            }
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    for mode in ALL {
        gateway.expect_quiet(mode);
    }
    gateway.ends_well();
}

#[test]
fn simple_queries_are_answered_as_without_us() {
    are_the_same(simple());
}

#[test]
fn extended_queries_are_answered_as_without_us() {
    are_the_same(extended());
}

#[test]
fn prepared_statements_are_answered_as_without_us() {
    are_the_same(statements());
}

#[test]
fn copies_are_answered_as_without_us() {
    are_the_same(copies());
}

#[test]
fn messages_cut_at_any_byte_are_answered_as_without_us() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    let into = "copy c from stdin";
    let bytes = [
        parse("cut", "select $1::text"),
        bind("", "cut", &["value"]),
        execute("", 0),
        close(b'S', "cut"),
        sync(),
        query("create temp table c (n int) on commit drop"),
        query("begin; create temp table c (n int); copy c from stdin; drop table c; commit"),
        copy_data("1\n"),
        copy_done(),
        query(into),
    ]
    .concat();
    let direct = cut_at(&postgres.address(), &bytes, 0);
    for mode in ALL {
        for offset in 1..bytes.len() {
            let through = cut_at(&gateway.address_of(mode), &bytes, offset);
            assert!(through == direct, "{mode}, cut at {offset}:\n{through}instead of\n{direct}");
        }
    }
    gateway.ends_well();
}

#[track_caller]
fn cut_at(address: &Address, bytes: &[u8], offset: usize) -> String {
    let mut peer = Frontend::login(address);
    peer.send(&bytes[..offset]);
    if offset > 0 {
        pause(Duration::from_millis(1)); // So that the halves are seldom read together; either way the answer is the same.
    }
    peer.send(&bytes[offset..]);
    transcript(&peer.until_ready(4))
}
