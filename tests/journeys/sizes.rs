//! Messages of every size arrive as they were sent, whatever the size of a read, and cost no memory.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cast::peer::Exchange;
use cast::time::pause;
use cast::{Folder, Gateway, Peer, Proxy, Scripted};

const CHUNK: u64 = 8192;
const MIB: u64 = 1024 * 1024;

/// Both directions: `up` bytes to the database while none come back, and the other way round.
fn both_ways(peer: &mut Peer, size: u64) {
    for (up, down) in [(size, 0), (0, size)] {
        peer.exchange(Exchange { seed: size, up, down })
            .unwrap_or_else(|error| panic!("{up} up, {down} down: {error}"));
    }
}

#[test]
fn every_size_from_nothing_to_three_chunks_and_a_byte_arrives() {
    let database = Scripted::exchanging();
    let gateway = Gateway::start(Proxy::to(database.address()));
    let mut peer = Peer::dial(&gateway.address());
    // The head of an exchange is 24 bytes and that of an answer 1, so the sums pass every multiple of a chunk, too.
    for size in 0..=3 * CHUNK + 25 {
        both_ways(&mut peer, size);
    }
    drop(peer);
    gateway.expect_quiet("db");
    gateway.ends_well();
}

#[test]
fn an_exact_multiple_of_the_chunk_is_delivered_without_waiting_for_more() {
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()));
    let mut peer = Peer::dial(&gateway.address());
    for size in [8191, 8192, 8193, 16384, 24576] {
        peer.echoes(&cast::Random::seeded(size).bytes(usize::try_from(size).unwrap()));
    }
}

#[test]
fn sizes_around_each_power_of_two_up_to_64_mib_arrive_over_tcp() {
    let database = Scripted::exchanging();
    let gateway = Gateway::start(Proxy::to(database.address()));
    around_powers_of_two(&gateway);
}

#[test]
fn sizes_around_each_power_of_two_up_to_64_mib_arrive_over_unix_sockets() {
    let database = Scripted::exchanging_over_unix();
    let folder = Folder::new("sizes");
    let listener = cast::wire::Address::Unix(folder.join("peers.sock"));
    let gateway = Gateway::start(Proxy::to(database.address()).listening_on(&listener));
    around_powers_of_two(&gateway);
}

fn around_powers_of_two(gateway: &Gateway) {
    let mut peer = Peer::dial(&gateway.address());
    for power in 0..=26 {
        for size in [(1 << power) - 1, 1 << power, (1 << power) + 1] {
            both_ways(&mut peer, size);
        }
    }
    drop(peer);
    gateway.expect_quiet("db");
}

#[test]
fn one_gibibyte_streams_through_with_chunks_of_8192_bytes() {
    streams(8192, 1024 * MIB);
}

#[test]
fn one_gibibyte_streams_through_with_chunks_of_one_mebibyte() {
    streams(MIB, 1024 * MIB);
}

#[test]
fn sixty_four_mebibytes_stream_through_with_chunks_of_512_bytes() {
    streams(512, 64 * MIB);
}

#[test]
fn four_mebibytes_stream_through_with_chunks_of_one_byte() {
    streams(1, 4 * MIB);
}

/// Streams `length` bytes to the peer and looks all the while at what the gateway's memory does.
fn streams(chunk: u64, length: u64) {
    let database = Scripted::exchanging();
    let gateway = Gateway::start(Proxy::to(database.address()).set("client.receiveChunkSize", chunk));
    let mut peer = Peer::dial(&gateway.address());
    both_ways(&mut peer, 1000);
    let before = gateway.process().resident_memory();
    let ended = AtomicBool::new(false);
    let highest = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut highest = before;
            while !ended.load(Ordering::Relaxed) {
                highest = highest.max(gateway.process().resident_memory());
                pause(Duration::from_millis(5));
            }
            highest
        });
        let outcome = peer.exchange(Exchange { seed: chunk, up: 0, down: length });
        ended.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|error| panic!("{length} bytes in chunks of {chunk}: {error}"));
        watcher.join().unwrap()
    });
    let grown = highest.saturating_sub(before);
    assert!(grown < 2 * MIB + 2 * chunk, "the resident memory grew by {grown} bytes with chunks of {chunk}");
    drop(peer);
    gateway.expect_quiet("db");
    gateway.ends_well();
}
