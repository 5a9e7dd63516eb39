//! A session is two streams: each can end before the other, and neither is read faster than it can be passed on.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use cast::time::{Stopwatch, pause};
use cast::{Folder, Gateway, Peer, Proxy, Random, Scripted, eventually};

const MIB: usize = 1024 * 1024;

/// Reads to the end, then answers how many bytes came, then the bytes, then closes.
fn answers_at_the_end(mut wire: cast::wire::Wire) {
    let mut all = Vec::new();
    if wire.read_to_end(&mut all).is_ok() {
        // The peer may have left.
        let _ = wire.write_all(&all);
    }
}

#[test]
fn a_peer_that_has_finished_sending_still_gets_its_answer_over_tcp() {
    let database = Scripted::tcp(answers_at_the_end);
    let gateway = Gateway::start(Proxy::to(database.address()));
    finishes_and_still_reads(&gateway);
}

#[test]
fn a_peer_that_has_finished_sending_still_gets_its_answer_over_unix_sockets() {
    let database = Scripted::unix(answers_at_the_end);
    let folder = Folder::new("half");
    let listener = cast::wire::Address::Unix(folder.join("peers.sock"));
    let gateway = Gateway::start(Proxy::to(database.address()).listening_on(&listener));
    finishes_and_still_reads(&gateway);
}

fn finishes_and_still_reads(gateway: &Gateway) {
    for length in [0, 1, 8192, 5 * MIB] {
        let bytes = Random::seeded(length as u64).bytes(length);
        let mut peer = Peer::dial(&gateway.address());
        peer.wire().write_all(&bytes).unwrap();
        peer.finish_sending();
        let mut back = Vec::new();
        peer.wire().read_to_end(&mut back).unwrap();
        assert!(back == bytes, "{length} bytes were sent and {} came back", back.len());
    }
    gateway.expect_quiet("db");
}

#[test]
fn a_database_that_has_finished_sending_still_gets_the_peers_bytes() {
    let database = Scripted::tcp(|mut wire| {
        // Ends its own direction first, and answers nothing but the count in the next session's log.
        let _ = wire.write_all(b"bye");
        let _ = wire.shutdown(Shutdown::Write);
        let mut all = Vec::new();
        let _ = wire.read_to_end(&mut all);
        assert_eq!(all.len(), MIB, "everything arrived although we had finished");
    });
    let gateway = Gateway::start(Proxy::to(database.address()));
    let mut peer = Peer::dial(&gateway.address());
    let mut word = Vec::new();
    peer.wire().read_to_end(&mut word).unwrap();
    assert_eq!(word, b"bye");
    peer.wire().write_all(&vec![7; MIB]).unwrap();
    peer.finish_sending();
    gateway.expect_quiet("db");
    gateway.expect_metric("postern_bytes_total", &[("proxy", "db"), ("direction", "to_database")], to_f64(MIB));
}

fn to_f64(length: usize) -> f64 {
    f64::from(u32::try_from(length).unwrap())
}

#[test]
fn a_peer_that_does_not_read_stops_the_database_and_costs_no_memory() {
    let database = Scripted::source(5);
    let gateway = Gateway::start(Proxy::to(database.address()));
    let mut peer = Peer::dial(&gateway.address());
    let mut first = [0; 1];
    peer.wire().read_exact(&mut first).unwrap();
    let before = gateway.process().resident_memory();
    standstill(&gateway, "to_peer");
    let grown = gateway.process().resident_memory().saturating_sub(before);
    assert!(grown < 2 * MIB as u64, "the resident memory grew by {grown} bytes");
    // And what comes when it reads on is the stream without a gap.
    let mut random = Random::seeded(5);
    assert!(random.matches(&first));
    let mut bytes = vec![0; 64 * MIB];
    peer.wire().read_exact(&mut bytes).unwrap();
    assert!(random.matches(&bytes), "the stream goes on where it stood still");
}

#[test]
fn a_database_that_does_not_read_stops_the_peer_and_costs_no_memory() {
    let database = Scripted::silent();
    let gateway = Gateway::start(Proxy::to(database.address()));
    let mut peer = Peer::dial(&gateway.address());
    peer.wire().write_all(b"x").unwrap();
    gateway.expect_metric("postern_sessions", &[], 1.0);
    let before = gateway.process().resident_memory();
    peer.wire().write_within(Some(Duration::from_millis(500))).unwrap();
    let bytes = vec![1; MIB];
    let mut sent = 0;
    while sent < 256 * MIB {
        match peer.wire().write(&bytes) {
            Ok(length) => sent += length,
            Err(_) => break,
        }
    }
    assert!(sent < 64 * MIB, "the peer was stopped, but only after {sent} bytes");
    standstill(&gateway, "to_database");
    let grown = gateway.process().resident_memory().saturating_sub(before);
    assert!(grown < 2 * MIB as u64, "the resident memory grew by {grown} bytes");
}

/// Waits until no byte passes any more in that direction, and looks that waiting costs no processor time.
fn standstill(gateway: &Gateway, direction: &str) {
    let labels = [("proxy", "db"), ("direction", direction)];
    let mut last = -1.0;
    eventually("the stream stands still", || {
        pause(Duration::from_millis(300));
        let now = gateway.metric("postern_bytes_total", &labels);
        (std::mem::replace(&mut last, now) - now).abs() < f64::EPSILON
    });
    let before = gateway.cpu_time();
    let watch = Stopwatch::start();
    pause(Duration::from_secs(1));
    let used = gateway.cpu_time().saturating_sub(before);
    assert!(used < watch.elapsed() / 20, "{used:?} of processor time while nothing moves");
}

#[test]
fn a_peer_that_never_reads_does_not_slow_its_neighbour_down() {
    let database = Scripted::exchanging();
    let gateway = Gateway::start(Proxy::to(database.address()));
    let mut greedy = Peer::dial(&gateway.address());
    let exchange = cast::peer::Exchange { seed: 1, up: 0, down: 1 << 30 };
    exchange.ask(greedy.wire()).unwrap();
    let mut neighbour = Peer::dial(&gateway.address());
    for seed in 0..1000 {
        neighbour.exchange(cast::peer::Exchange { seed, up: 100, down: 10_000 }).unwrap();
    }
}

#[test]
fn a_reset_of_the_peer_reaches_the_database_and_the_other_way_round() {
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()).set("pool.minIdle", 0));
    let mut peer = Peer::dial(&gateway.address());
    peer.echoes(b"hello");
    assert_eq!(database.open(), 1);
    peer.reset();
    eventually("the database sees the end", || database.open() == 0);
    let mut peer = Peer::dial(&gateway.address());
    peer.echoes(b"hello");
    database.close_all();
    assert!(peer.closed_within(Duration::from_secs(10)).is_some(), "the peer is told that the database left");
    gateway.expect_quiet("db");
}
