//! The hooks that people use, and the order in which they are called.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::time::Duration;

use serde_json::{Value, json};

use cast::time::Stopwatch;
use cast::{Gateway, Manifest, Peer, Proxy, Scripted, within};

fn hooked(database: &Scripted, hook: &Value) -> Manifest {
    Manifest::of([Proxy::to(database.address())]).set("hooks", json!([hook]))
}

fn events(gateway: &Gateway) -> Vec<String> {
    let log = gateway.log();
    log.iter().filter_map(|line| line["event"].as_str()).map(str::to_owned).collect()
}

#[test]
fn the_log_hook_tells_a_session_in_the_order_of_the_diagram() {
    let database = Scripted::echo();
    let gateway = Gateway::start(hooked(&database, &json!({"name": "log"})));
    let mut peer = Peer::dial(&gateway.address());
    peer.echoes(b"query");
    peer.echoes(b"another");
    drop(peer);
    within(Duration::from_secs(10), "the session is closed", || events(&gateway).contains(&"closed".to_owned()));
    let round = ["traffic_from_client", "traffic_to_server", "traffic_from_server", "traffic_to_client"];
    let story = [&["opening", "opened", "traffic"][..], &round, &round, &["closing", "closed"]].concat();
    assert_eq!(events(&gateway), story);
    let lengths: Vec<_> = gateway.log().iter().filter_map(|line| line["length"].as_u64()).collect();
    assert_eq!(lengths, [5, 5, 5, 5, 7, 7, 7, 7]);
    assert!(gateway.lines().iter().all(|line| !line.contains("another")), "what passes is nobody's business");
}

#[test]
fn hooked_sessions_carry_every_byte_and_end_as_others_do() {
    let database = Scripted::exchanging();
    let gateway =
        Gateway::start(hooked(&database, &json!({"name": "limit", "config": {"sessionsPerSecond": 100_000}})));
    for seed in 0..200 {
        let size = 1 << (seed % 22);
        let mut peer = Peer::dial(&gateway.address());
        peer.exchange(cast::peer::Exchange { seed, up: size, down: size + 1 }).unwrap();
    }
    gateway.expect_quiet("db");
}

#[test]
fn the_limit_hook_slows_a_greedy_peer_down() {
    let database = Scripted::exchanging();
    let gateway = Gateway::start(hooked(&database, &json!({"name": "limit", "config": {"bytesPerSecond": 1_000_000}})));
    let mut peer = Peer::dial(&gateway.address());
    let watch = Stopwatch::start();
    peer.exchange(cast::peer::Exchange { seed: 1, up: 0, down: 4_000_000 }).unwrap();
    let elapsed = watch.elapsed();
    assert!(elapsed > Duration::from_secs(2) && elapsed < Duration::from_secs(10), "4 MB took {elapsed:?}");
}

#[test]
fn hooks_are_added_and_removed_live() {
    let database = Scripted::echo();
    let mut gateway = Gateway::start(Proxy::to(database.address()));
    Peer::dial(&gateway.address()).echoes(b"unheard");
    gateway.edit(&hooked(&database, &json!({"name": "log"})));
    gateway.reaches_generation(2);
    Peer::dial(&gateway.address()).echoes(b"heard");
    within(Duration::from_secs(10), "the session is told", || events(&gateway).contains(&"closed".to_owned()));
    let heard = events(&gateway).len();
    gateway.edit(&Proxy::to(database.address()).into());
    gateway.reaches_generation(3);
    Peer::dial(&gateway.address()).echoes(b"unheard");
    gateway.expect_quiet("db");
    assert_eq!(events(&gateway).len(), heard);
}
