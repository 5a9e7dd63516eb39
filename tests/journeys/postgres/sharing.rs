//! Connections that several peers use one after the other: bounded, and nothing of one peer is left to the next.

use std::time::Duration;

use cast::frontend::{Message, V3_0, bind, execute, flush, parse, query, sync};
use cast::process::run;
use cast::time::eventually;
use cast::{Folder, Frontend, Manifest, Postgres};

use crate::modes::{self, ALL, MANAGED};

#[test]
fn thirty_peers_never_have_more_connections_than_the_pool() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.size", 4));
    postgres.query("create table seen (clients int)");
    // Every transaction itself looks how many there are.
    let folder = Folder::new("bench");
    let counts = "insert into seen select count(*) from pg_stat_activity \
                  where client_addr is not null and backend_type = 'client backend';\n";
    let script = folder.join("count.sql");
    std::fs::write(&script, counts).unwrap();
    for mode in MANAGED {
        // A session holds its client for as long as it lasts, so there the peers have to come and go.
        let more: &[&str] = if mode == "session" { &["-C", "-t", "5"] } else { &["-t", "20"] };
        let file = script.display().to_string();
        let mut pgbench = postgres.pgbench_at(&gateway.address_of(mode));
        let report = run(pgbench.args(["-n", "-c", "30", "-j", "30", "-f", &file]).args(more));
        assert!(report.contains("number of failed transactions: 0"), "{mode}: {report}");
        gateway.expect_quiet(mode);
    }
    // The pools of three proxies: 4 of each mode, and 1 that passthrough keeps warm.
    let most: u32 = postgres.query("select max(clients) from seen").parse().unwrap();
    assert!((1..=9).contains(&most), "{most} connections");
    gateway.ends_well();
}

#[test]
fn two_databases_share_one_pool() {
    let postgres = Postgres::start();
    postgres.query("create database other");
    let secrets = modes::secrets();
    let gateway = modes::gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.size", 1));
    for mode in MANAGED {
        for database in ["postgres", "other", "postgres", "other"] {
            let mut psql = cast::postgres::psql(&gateway.address_of(mode));
            let name = run(psql.args(["-U", "postgres", "-d", database, "-c", "select current_database()"]));
            assert_eq!(name.trim(), database, "{mode}");
        }
        gateway.expect_quiet(mode);
    }
    gateway.ends_well();
}

#[test]
fn what_a_peer_leaves_behind_keeps_its_connection_and_reaches_nobody_else() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.size", 2));
    let look = "select coalesce(to_regclass('pg_temp.left_behind')::text, 'no table'), current_setting('work_mem'), \
                pg_try_advisory_xact_lock(7)";
    for mode in MANAGED {
        let address = gateway.address_of(mode);
        let mut owner = Frontend::login(&address);
        owner.ask("create temp table left_behind (n int)");
        owner.ask("set work_mem = '3MB'");
        owner.ask("select pg_advisory_lock(7)");
        let mut other = Frontend::login(&address);
        let seen = other.ask(look);
        assert!(seen.contains("no table") && seen.contains("4MB") && seen.contains("\\x01f"), "{mode}: {seen}");
        let own = owner.ask(look);
        assert!(own.contains("left_behind") && own.contains("3MB") && own.contains("\\x01t"), "{mode}: {own}");
        drop((owner, other));
        gateway.expect_quiet(mode);
        let (mut one, mut two) = (Frontend::login(&address), Frontend::login(&address));
        for peer in [&mut one, &mut two] {
            let seen = peer.ask(look);
            assert!(seen.contains("no table") && seen.contains("4MB") && seen.contains("\\x01t"), "{mode}: {seen}");
        }
    }
    gateway.ends_well();
}

#[test]
fn what_a_peer_executes_behind_a_failure_is_not_committed_by_another() {
    let postgres = Postgres::start();
    postgres.query("create table written (n int)");
    let secrets = modes::secrets();
    let gateway = modes::gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.size", 1));
    let address = gateway.address_of("transaction");
    let (mut writer, mut other) = (Frontend::login(&address), Frontend::login(&address));
    let failing = [parse("", "select nonsense"), sync()].concat();
    let written = [parse("", "insert into written values (1)"), bind("", "", &[]), execute("", 0)].concat();
    writer.send(&[failing, written, flush()].concat());
    writer.until(b'C', 1);
    other.send(&query("select count(*) from written"));
    // It has not said Sync, and never will.
    writer.reset();
    other.until_ready(1);
    assert_eq!(postgres.query("select count(*) from written"), "0");
    gateway.ends_well();
}

#[test]
fn a_prepared_statement_says_to_each_peer_what_it_says_with_the_peers_own_settings() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.size", 1));
    let address = gateway.address_of("transaction");
    // The database reads a literal when the statement is prepared.
    let sql = "select '01/02/2026'::date - date '2026-01-01', length('\u{e9}')";
    let heard = |style: &str, encoding: &str, change: &str| {
        let settings = [("user", "postgres"), ("DateStyle", style), ("client_encoding", encoding)];
        let mut peer = Frontend::login_as(&address, V3_0, &settings).0;
        let change = if change.is_empty() { Vec::new() } else { query(change) };
        let asked = [parse("a", sql), bind("", "a", &[]), execute("", 0), sync()].concat();
        peer.send(&[&change[..], &asked].concat());
        let answer = peer.until_ready(if change.is_empty() { 1 } else { 2 });
        let row = answer.iter().find(|message| message.tag == b'D').expect("a row");
        (String::from_utf8_lossy(&row.body).replace(|sign: char| !sign.is_ascii_digit(), " ").trim().to_owned(), peer)
    };
    let mut peers = Vec::new();
    for (style, encoding, change, days, letters) in [
        ("ISO, MDY", "UTF8", "", "1", "1"),
        ("ISO, DMY", "UTF8", "", "31", "1"),
        ("ISO, MDY", "LATIN1", "", "1", "2"),
        ("ISO, MDY", "UTF8", "set datestyle to 'ISO, DMY'", "31", "1"),
        ("ISO, DMY", "UTF8", "set client_encoding to 'latin1'", "31", "2"),
        ("ISO, MDY", "UTF8", "", "1", "1"),
    ] {
        let (row, peer) = heard(style, encoding, change);
        peers.push(peer);
        let row: Vec<_> = row.split_whitespace().collect();
        assert_eq!(row, [days, letters], "{style} {encoding} {change}");
    }
    drop(peers);
    gateway.ends_well();
}

#[test]
fn two_peers_take_turns_on_one_connection_and_each_keeps_its_own_settings() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.size", 1));
    let address = gateway.address_of("transaction");
    let (mut one, mut two) = (Frontend::login(&address), Frontend::login(&address));
    one.ask("set timezone = 'Asia/Tokyo'");
    two.ask("set application_name = 'two'");
    for _ in 0..3 {
        let seen = one.ask("select current_setting('timezone'), '<' || current_setting('application_name') || '>'");
        assert!(seen.contains("Asia/Tokyo") && seen.contains("<>"), "{seen}");
        let seen = two.ask("select current_setting('timezone'), '<' || current_setting('application_name') || '>'");
        assert!(!seen.contains("Asia/Tokyo") && seen.contains("<two>"), "{seen}");
    }
    gateway.ends_well();
}

#[test]
fn an_idle_transaction_ends_after_its_time_and_its_connection_serves_the_next() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let proxies = MANAGED.map(|mode| {
        let proxy = modes::proxy(mode, &postgres.address());
        proxy.set("pool.size", 1).set("pool.idleTransactionTimeout", "500ms")
    });
    let gateway = modes::start(Manifest::of(proxies), &secrets);
    for mode in MANAGED {
        let address = gateway.address_of(mode);
        let mut peer = Frontend::login(&address);
        peer.ask("begin");
        let said = peer.until_end();
        assert_eq!(said.last().and_then(Message::sqlstate).as_deref(), Some("25P03"), "{mode}");
        assert!(Frontend::login(&address).ask("select 'served'").contains("served"), "{mode}");
    }
    gateway.ends_well();
}

#[test]
fn idle_peers_are_told_of_the_end() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let mut gateway = modes::gateway(&postgres, &secrets);
    let mut peers = MANAGED.map(|mode| Frontend::login(&gateway.address_of(mode)));
    let mut through = Frontend::login(&gateway.address_of("passthrough"));
    for peer in &mut peers {
        peer.ask("select 1");
    }
    gateway.terminate();
    for (peer, mode) in peers.iter_mut().zip(MANAGED) {
        let said = peer.until_end();
        assert_eq!(said.last().and_then(Message::sqlstate).as_deref(), Some("57P01"), "{mode}");
    }
    // Where the peer has logged in itself its connection just ends.
    assert!(through.until_end().is_empty());
    assert_eq!(gateway.exit_code(Duration::from_secs(30)), Some(0));
    eventually("every connection is closed", || {
        postgres.query("select count(*) from pg_stat_activity where client_addr is not null") == "0"
    });
}

#[test]
fn a_peer_tells_its_own_notifications_from_those_of_others() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    for address in ALL.map(|mode| gateway.address_of(mode)).into_iter().chain([postgres.address()]) {
        let who = [("user", "postgres"), ("database", "postgres")];
        let (mut peer, welcome) = Frontend::login_as(&address, V3_0, &who);
        let key = welcome.iter().find(|message| message.tag == b'K').unwrap();
        peer.send(&query("listen heard"));
        peer.until_ready(1);
        postgres.query("notify heard, 'from another'");
        peer.send(&query("notify heard, 'from itself'"));
        let said = peer.until(b'A', 2);
        let heard: Vec<_> = said.iter().filter(|message| message.tag == b'A').collect();
        let is_own: Vec<_> = heard.iter().map(|message| message.body[..4] == key.body[..4]).collect();
        let text = |message: &Message| String::from_utf8_lossy(&message.body[4..]).replace('\0', "|");
        let texts: Vec<_> = heard.iter().map(|message| text(message)).collect();
        let own = texts.iter().map(|text| text == "heard|from itself|").collect::<Vec<_>>();
        assert_eq!((texts.len(), is_own), (2, own), "{address}: {texts:?}");
    }
    gateway.ends_well();
}
