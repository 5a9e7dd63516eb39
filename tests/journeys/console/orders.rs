//! What the console does: sessions are ended, clients replaced, the configuration read again.

use std::time::Duration;

use cast::frontend::{V3_0, query, transcript};
use cast::{Frontend, Manifest, Peer, Postgres, Proxy, Scripted, eventually};

use crate::stage::{Stage, managed};

/// The number of the session that calls itself so.
#[track_caller]
fn number_of(stage: &Stage, application: &str) -> String {
    let clients = stage.rows("CLIENTS");
    let found = clients.iter().find(|row| row.get("application_name") == application);
    found.unwrap_or_else(|| panic!("{application}: {clients:?}")).get("id").to_owned()
}

#[track_caller]
fn called(stage: &Stage, application: &str) -> Frontend {
    let who = [("user", "postgres"), ("database", "postgres"), ("application_name", application)];
    Frontend::login_as(&stage.address(), V3_0, &who).0
}

#[test]
fn a_session_that_is_killed_is_told_so_and_no_other_one_notices() {
    for mode in ["transaction", "session"] {
        let stage = Stage::of(mode, |proxy| proxy);
        let (mut idle, mut busy, mut other) = (called(&stage, "idle"), called(&stage, "busy"), called(&stage, "other"));
        busy.send(&query("select pg_sleep(600)"));
        let asked = "select count(*) from pg_stat_activity where query ~ '^select pg_sleep'";
        eventually("it is busy", || stage.postgres.query(asked) == "1");
        for (name, peer) in [("idle", &mut idle), ("busy", &mut busy)] {
            assert_eq!(stage.console(&format!("KILL {}", number_of(&stage, name))), "", "{name}");
            let said = transcript(&peer.until_end());
            assert!(said.contains("57P01"), "{mode} {name}: {said}");
        }
        assert!(other.ask("select 1").contains("SELECT 1"), "{mode}");
        assert!(stage.refusal("KILL 4711").contains("42704"));
        assert_eq!(stage.console(&format!("KILL_CLIENT {}", number_of(&stage, "other"))), "");
        assert!(transcript(&other.until_end()).contains("57P01"), "{mode}");
        let killed = stage.gateway.metric("postern_sessions_closed_total", &[("reason", "killed")]);
        assert!((killed - 3.0).abs() < f64::EPSILON, "{killed}");
        assert!(stage.peer().ask("select 1").contains("SELECT 1"), "whoever comes is served");
    }
}

#[test]
fn all_sessions_of_a_proxy_are_killed_but_its_consoles() {
    let stage = Stage::of("transaction", |proxy| proxy.set("pool.size", 1));
    // Whoever logs in needs a client for a moment.
    let mut waiter = called(&stage, "waiter");
    let mut holder = stage.peer();
    holder.ask("begin");
    waiter.send(&query("select 1"));
    stage.told("one waits", |proxy| proxy["pool"]["waiting"] == 1);
    let (mut talk, _) = stage.talk();
    assert!(talk.ask("KILL db").contains("KILL"));
    for peer in [&mut holder, &mut waiter] {
        let said = transcript(&peer.until_end());
        assert!(said.contains("57P01"), "{said}");
    }
    assert!(talk.ask("SHOW VERSION").contains("Postern"));
    let refusal = stage.refusal("KILL nobody");
    assert!(refusal.contains("3D000") && refusal.contains("There are: db."), "{refusal}");
    stage.told("nobody has a client", |proxy| proxy["pool"]["lent"] == 0);
}

#[test]
fn sessions_of_every_kind_of_proxy_are_killed() {
    let (postgres, echo) = (Postgres::start(), Scripted::echo());
    let passthrough = Proxy::to(&postgres.address()).named("passthrough").set("protocol", "postgres");
    let opaque = Proxy::to(echo.address()).named("opaque");
    let manifest = Manifest::of([managed(&postgres.address(), "session"), passthrough, opaque]);
    let stage = Stage::with(postgres, manifest.set("workers", 2));
    let mut peer = Frontend::login(&stage.gateway.address_of("passthrough"));
    let mut bytes = Peer::dial(&stage.gateway.address_of("opaque"));
    bytes.echoes(b"hello");
    for name in ["passthrough", "opaque"] {
        assert_eq!(stage.console(&format!("KILL {name}")), "");
    }
    let said = transcript(&peer.until_end());
    assert!(said.contains("57P01"), "{said}");
    assert!(bytes.closed_within(std::time::Duration::from_secs(20)).is_some());
    stage.gateway.expect_metric("postern_sessions_closed_total", &[("reason", "killed")], 2.0);
}

#[test]
fn clients_are_replaced_and_whoever_has_one_keeps_it_to_the_end() {
    let stage = Stage::of("transaction", |proxy| proxy.set("pool.size", 1));
    let backend = "select 'pid ' || pg_backend_pid()";
    let mut peer = stage.peer();
    peer.ask("begin");
    let before = peer.ask(backend);
    assert_eq!(stage.console("RECONNECT db"), "");
    assert_eq!(peer.ask(backend), before, "its transaction goes on");
    peer.ask("commit");
    assert_ne!(peer.ask(backend), before, "and the next one is on another connection");
    let idle = peer.ask(backend);
    assert_eq!(stage.console("RECONNECT"), "");
    assert_ne!(peer.ask(backend), idle);
    assert!(stage.refusal("RECONNECT nobody").contains("3D000"));
}

#[test]
fn the_configuration_is_read_at_once_and_a_broken_one_is_refused_with_its_reason() {
    let mut stage = Stage::of("transaction", |proxy| proxy.set("pool.size", 3));
    let changed = |size: i32| Manifest::of([managed(&stage.postgres.address(), "transaction").set("pool.size", size)]);
    let (larger, broken) = (changed(5), changed(-1));
    stage.gateway.edit(&larger);
    assert_eq!(stage.console("RELOAD"), "");
    assert_eq!(stage.rows("DATABASES")[0].get("pool_size"), "5");
    stage.gateway.edit(&broken);
    let refusal = stage.refusal("RELOAD");
    assert!(refusal.contains("F0000") && refusal.contains("pool.size: -1 is out of range"), "{refusal}");
    assert_eq!(stage.rows("DATABASES")[0].get("pool_size"), "5");
    let config = stage.rows("CONFIG");
    assert!(config.iter().any(|row| row.get("key") == "proxies[db].pool.size" && row.get("value") == "5"));
}

#[test]
fn a_console_keeps_the_gateway_from_nothing() {
    let stage = Stage::of("session", |proxy| proxy.set("server.maxPeers", 1));
    let peer = stage.peer();
    assert!(stage.console("SHOW POOLS").starts_with("db|postgres|"), "it is let in where all places are taken");
    let (mut talk, _) = stage.talk();
    drop(peer);
    stage.gateway.terminate();
    let said = transcript(&talk.until_end());
    assert!(said.contains("57P01"), "{said}");
    // A second signal would end it at once.
    let Stage { mut gateway, .. } = stage;
    assert_eq!(gateway.exit_code(Duration::from_mins(1)), Some(0));
}
