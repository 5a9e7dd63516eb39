//! The configuration changes while sessions live: a valid change is in force soon, an invalid one is refused whole.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::time::Duration;

use rustix::process::Signal;

use cast::wire::Address;
use cast::{Folder, Gateway, Manifest, Peer, Proxy, Scripted, within};

const SIZE: (&str, &[(&str, &str)]) = ("postern_pool_size", &[("proxy", "db")]);

/// How long a change may take: two seconds and what a busy machine adds.
const SOON: Duration = Duration::from_secs(4);

fn with_size(database: &Scripted, size: u32) -> Manifest {
    Proxy::to(database.address()).set("pool.size", size).into()
}

#[track_caller]
fn expect_size(gateway: &Gateway, size: u32) {
    within(SOON, &format!("the pool's size is {size}"), || {
        (gateway.metric(SIZE.0, SIZE.1) - f64::from(size)).abs() < f64::EPSILON
    });
}

#[test]
fn an_edit_in_place_by_rename_and_by_the_kubelets_swap_is_in_force_within_two_seconds() {
    let database = Scripted::echo();
    let mut gateway = Gateway::start(with_size(&database, 10));
    let mut peer = Peer::dial(&gateway.address());
    peer.echoes(b"before");
    gateway.edit(&with_size(&database, 11));
    expect_size(&gateway, 11);
    gateway.edit_by_rename(&with_size(&database, 12));
    expect_size(&gateway, 12);
    gateway.edit(&with_size(&database, 13));
    expect_size(&gateway, 13);
    peer.echoes(b"the session lived on");

    let mut gateway = Gateway::with(with_size(&database, 10)).mounted_as_a_config_map().start();
    let mut peer = Peer::dial(&gateway.address());
    peer.echoes(b"before");
    for size in 11..15 {
        gateway.edit_config_map(&with_size(&database, size));
        expect_size(&gateway, size);
    }
    peer.echoes(b"the session lived on");
    assert_eq!(gateway.applied()["generation"], 5);
    gateway.expect_metric("postern_config_generation", &[], 5.0);
    gateway.expect_metric("postern_config_reloads_total", &[("result", "refused")], 0.0);
}

#[test]
fn a_sighup_reads_the_file_again() {
    let database = Scripted::echo();
    let mut gateway = Gateway::start(with_size(&database, 10));
    gateway.edit(&with_size(&database, 20));
    gateway.process().signal(Signal::HUP);
    expect_size(&gateway, 20);
    assert!(gateway.runs(), "a SIGHUP ends nothing");
}

#[test]
fn an_invalid_edit_is_refused_whole_and_the_last_good_configuration_stays() {
    let database = Scripted::echo();
    let mut gateway = Gateway::start(with_size(&database, 10));
    let good = gateway.applied()["hash"].clone();
    let mut peer = Peer::dial(&gateway.address());
    peer.echoes(b"before");
    // One key is good, one is bad: neither counts.
    let bad = Proxy::to(database.address()).set("pool.size", 20).set("client.backoff", "soon");
    gateway.edit(&bad.into());
    let said = gateway.says("Configuration refused");
    assert!(said["reason"].as_str().unwrap().contains("backoff"), "{said}");
    let status = gateway.applied();
    assert_eq!((&status["state"], &status["hash"]), (&"refused".into(), &good), "{status}");
    assert!(status["refused"]["reason"].as_str().unwrap().contains("backoff"), "{status}");
    expect_size(&gateway, 10);
    gateway.expect_metric("postern_config_reloads_total", &[("result", "refused")], 1.0);
    assert_eq!(gateway.get("/readyz").status, 200);
    peer.echoes(b"undisturbed");

    for text in ["", "{", "kind: Pod", "\u{0}", "spec: 3"] {
        gateway.edit_text(text);
        within(SOON, "another refusal", || gateway.applied()["state"] == "refused");
    }
    gateway.edit(&with_size(&database, 15));
    expect_size(&gateway, 15);
    let status = gateway.applied();
    assert_eq!((&status["state"], &status["refused"]), (&"applied".into(), &serde_json::Value::Null));
    peer.echoes(b"undisturbed");
}

#[test]
fn listeners_are_added_moved_and_removed_without_dropping_a_session() {
    let folder = Folder::new("listeners");
    let at = |name: &str| Address::Unix(folder.join(name));
    let database = Scripted::echo();
    let proxy = |name: &str| Proxy::to(database.address()).named(name).listening_on(&at(name));
    let mut gateway = Gateway::start(Manifest::of([proxy("one"), proxy("two")]));
    let mut first = Peer::dial(&at("one"));
    let mut second = Peer::dial(&at("two"));
    first.echoes(b"hello");
    second.echoes(b"hello");

    gateway.edit(&Manifest::of([proxy("one"), proxy("two").listening_on(&at("moved")), proxy("three")]));
    within(SOON, "the new listener listens", || Peer::try_dial(&at("three")).is_ok());
    Peer::dial(&at("three")).echoes(b"added");
    Peer::dial(&at("moved")).echoes(b"moved");
    assert!(Peer::try_dial(&at("two")).is_err(), "the old place is closed");
    second.echoes(b"the session lives on");

    gateway.edit(&Manifest::of([proxy("two").listening_on(&at("moved"))]));
    within(SOON, "the removed listener is closed", || Peer::try_dial(&at("one")).is_err());
    first.echoes(b"the session of a removed proxy lives on");
    second.echoes(b"the session lives on");
    assert_eq!(gateway.applied()["proxies"].as_array().unwrap().len(), 1);
    gateway.ends_well_without_waiting();
}

#[test]
fn an_edit_that_cannot_be_bound_changes_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = Address::Tcp(listener.local_addr().unwrap());
    let database = Scripted::echo();
    let mut gateway = Gateway::start(with_size(&database, 10));
    let other = Proxy::to(database.address()).named("other").listening_on(&taken);
    gateway.edit(&Manifest::of([Proxy::to(database.address()).set("pool.size", 20), other]));
    let said = gateway.says("Configuration refused");
    assert!(said["reason"].as_str().unwrap().contains(&taken.to_string()), "{said}");
    expect_size(&gateway, 10);
    Peer::dial(&gateway.address()).echoes(b"as before");
}

#[test]
fn another_database_serves_new_sessions_while_the_old_ones_finish() {
    let (old, new) = (Scripted::echo(), Scripted::echo());
    let mut gateway = Gateway::start(Proxy::to(old.address()).set("pool.minIdle", 2));
    let mut before = Peer::dial(&gateway.address());
    before.echoes(b"hello");
    gateway.edit(&Proxy::to(new.address()).set("pool.minIdle", 2).into());
    within(SOON, "the new database gets clients", || new.open() > 0);
    Peer::dial(&gateway.address()).echoes(b"after");
    before.echoes(b"the session lives on");
    within(Duration::from_secs(20), "idle clients of the old database are closed", || old.open() == 1);
    drop(before);
    within(SOON, "nothing of the old database is left", || old.open() == 0);
    gateway.expect_quiet("db");
}

#[test]
fn a_peer_that_waits_for_a_database_is_served_by_the_one_that_an_edit_names() {
    let (mut old, new) = (Scripted::echo(), Scripted::echo());
    old.stop();
    let mut gateway = Gateway::start(Proxy::to(old.address()));
    let mut peer = Peer::dial(&gateway.address());
    gateway.expect_metric("postern_pool_waiting", &[("proxy", "db")], 1.0);
    gateway.edit(&Proxy::to(new.address()).into());
    peer.echoes(b"served by the new one");
    gateway.expect_metric("postern_database_up", &[("proxy", "db")], 1.0);
}

#[test]
fn a_shorter_pool_lets_lent_clients_finish_and_a_longer_one_serves_waiters_at_once() {
    let database = Scripted::echo();
    let mut gateway = Gateway::start(with_size(&database, 1));
    let mut first = Peer::dial(&gateway.address());
    first.echoes(b"hello");
    let mut second = Peer::dial(&gateway.address());
    gateway.expect_metric("postern_pool_waiting", &[("proxy", "db")], 1.0);
    gateway.edit(&with_size(&database, 2));
    second.echoes(b"served by the longer pool");
    gateway.edit(&with_size(&database, 1));
    expect_size(&gateway, 1);
    first.echoes(b"still here");
    second.echoes(b"still here");
    drop((first, second));
    gateway.expect_quiet("db");
    within(SOON, "the pool has shrunk", || database.open() <= 1);
}

#[test]
fn the_log_level_changes_live_and_at_debug_each_chunk_is_a_line() {
    let database = Scripted::echo();
    let mut gateway = Gateway::start(Proxy::to(database.address()));
    Peer::dial(&gateway.address()).echoes(b"unheard");
    let chunks =
        |gateway: &Gateway| gateway.log().iter().filter(|line| line["function"] == "proxy.passthrough").count();
    assert_eq!(chunks(&gateway), 0);
    gateway.edit(&Manifest::of([Proxy::to(database.address())]).set("log.level", "debug"));
    gateway.reaches_generation(2);
    Peer::dial(&gateway.address()).echoes(&[7; 468]);
    let line = gateway.says("Received data from database");
    within(SOON, "both directions have a line", || chunks(&gateway) == 2);
    for key in ["timestamp", "level", "function", "length", "local", "remote"] {
        assert!(!line[key].is_null(), "{key} is missing in {line}");
    }
    assert_eq!(line["length"], 468);
}
