//! Peers that say half of a message and no more: whoever says all of it is served.

use cast::frontend::{Message, bind, close, describe, execute, function_call, parse, query, sync};
use cast::{Frontend, Manifest, Postgres};

use crate::modes;

/// The messages of which a peer may say half.
fn messages() -> Vec<Vec<u8>> {
    vec![
        query("select 'half a query'"),
        parse("", "select 'half a statement'"),
        bind("", "named", &["half a value"]),
        describe(b'S', "named"),
        close(b'S', "named"),
        execute("half a portal", 0),
        function_call(1598, "half a call"),
        sync(),
    ]
}

#[test]
fn a_hundred_peers_with_half_a_message_do_not_stop_others_on_four_clients() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.size", 4));
    let address = gateway.address_of("transaction");
    let mut honest: Vec<_> = (0..4).map(|_| Frontend::login(&address)).collect();
    let mut halves: Vec<_> = (0..100).map(|_| Frontend::login(&address)).collect();
    for peer in &mut halves {
        peer.send(&[parse("named", "select $1::text"), sync()].concat());
        peer.until_ready(1);
    }
    let messages = messages();
    let cut = |number: usize| {
        let message = &messages[number % messages.len()];
        message.split_at((1 + number / messages.len()).min(message.len() - 1))
    };
    for (number, peer) in halves.iter_mut().enumerate() {
        peer.send(cut(number).0);
        if number % 10 == 0 {
            for peer in &mut honest {
                assert!(peer.ask("select 'served'").contains("served"));
            }
        }
    }
    gateway.expect_metric("postern_pool_clients", &[("proxy", "transaction"), ("state", "lent")], 0.0);
    gateway.expect_metric("postern_pool_waiting", &[("proxy", "transaction")], 0.0);
    gateway.expect_metric("postern_sessions", &[("proxy", "transaction")], 104.0);
    // And what has begun goes on where it stopped.
    for (number, peer) in halves.iter_mut().enumerate() {
        peer.send(cut(number).1);
        peer.send(&sync());
        assert_eq!(peer.until_ready(1).last().map(|message| message.tag), Some(b'Z'), "{number}");
        peer.send(&query("select 'whole'"));
        let said = peer.until_ready(1);
        assert!(!said.is_empty(), "{number}: the session goes on");
    }
    drop((honest, halves));
    gateway.expect_quiet("transaction");
    gateway.ends_well();
}

#[test]
fn a_long_message_whose_rest_does_not_come_gives_its_client_back() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.size", 1));
    let address = gateway.address_of("transaction");
    let (mut peer, mut other) = (Frontend::login(&address), Frontend::login(&address));
    for length in [100_000, 3_000_000] {
        let long = query(&format!("select length('{}')", "x".repeat(length)));
        peer.send(&long[..50_000]);
        gateway.expect_metric("postern_pool_clients", &[("proxy", "transaction"), ("state", "lent")], 1.0);
        assert!(other.ask("select 'served'").contains("served"));
        let said = peer.until_end();
        assert_eq!(said.last().and_then(Message::sqlstate).as_deref(), Some("08P01"));
        peer = Frontend::login(&address);
        peer.send(&long);
        assert_eq!(peer.until_ready(1).last().map(|message| message.tag), Some(b'Z'), "all of it may be long");
    }
    gateway.expect_metric("postern_desync_total", &[("proxy", "transaction")], 0.0);
    drop((peer, other));
    gateway.expect_quiet("transaction");
    gateway.ends_well();
}

#[test]
fn half_a_message_keeps_no_transaction_from_being_idle() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let proxies = modes::MANAGED.map(|mode| {
        modes::proxy(mode, &postgres.address()).set("pool.size", 1).set("pool.idleTransactionTimeout", "500ms")
    });
    let gateway = modes::start(Manifest::of(proxies), &secrets);
    for mode in modes::MANAGED {
        for length in [100, 100_000] {
            let mut peer = Frontend::login(&gateway.address_of(mode));
            peer.ask("begin");
            let half = query(&"x".repeat(length));
            peer.send(&half[..length / 2]);
            let said = peer.until_end();
            assert_eq!(said.last().and_then(Message::sqlstate).as_deref(), Some("25P03"), "{mode}, {length}");
        }
        assert!(Frontend::login(&gateway.address_of(mode)).ask("select 'served'").contains("served"), "{mode}");
    }
    gateway.ends_well();
}
