//! Outages that only a network can have: packets that vanish, names that move, a database on another host.
//! They happen between two hosts of the test's own, in network namespaces.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use cast::time::{Stopwatch, pause};
use cast::wire::Address;
use cast::{Folder, Gateway, Manifest, Namespace, Peer, Proxy, eventually};

const DB: [(&str, &str); 1] = [("proxy", "db")];

/// A database on `host` that sends everything back; it lives until the test's process ends.
fn echo_on(host: &Namespace, ip: IpAddr) -> SocketAddr {
    let listener = host.within(|| TcpListener::bind((ip, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                let mut writer = stream;
                // Whoever leaves ends it.
                let _ = std::io::copy(&mut reader, &mut writer);
            });
        }
    });
    address
}

/// A proxy for a database on another host, to be reached through a socket that this test can reach.
fn across(folder: &Folder, database: &str) -> Proxy {
    Proxy::reaching("tcp", database).listening_on(&Address::Unix(folder.join("peers.sock")))
}

#[test]
fn a_database_behind_a_black_hole_is_found_again_when_packets_pass() {
    let folder = Folder::new("hole");
    let (near, far) = Namespace::pair();
    let database = echo_on(&far, far.ip());
    far.swallow_packets();
    let proxy =
        across(&folder, &database.to_string()).set("client.dialTimeout", "500ms").set("client.backoff", "100ms");
    let mut gateway = Gateway::with(proxy).on(near).start();
    let address = gateway.address();
    let waiting = std::thread::spawn(move || Peer::try_dial(&address).and_then(|mut peer| peer.try_echo(b"hello")));
    gateway.expect_metric("postern_pool_waiting", &DB, 1.0);
    eventually("dials time out", || gateway.metric("postern_dial_attempts_total", &[("result", "timeout")]) >= 2.0);
    let before = gateway.cpu_time();
    let watch = Stopwatch::start();
    pause(Duration::from_secs(4));
    let (used, elapsed) = (gateway.cpu_time().saturating_sub(before), watch.elapsed());
    assert!(used < elapsed / 100, "{used:?} of processor time in {elapsed:?}");
    assert!(gateway.metric("postern_outage_seconds", &DB) > 3.0);
    far.pass_packets();
    waiting.join().unwrap().unwrap();
    gateway.expect_metric("postern_database_up", &DB, 1.0);
    gateway.expect_quiet("db");
    assert!(gateway.runs());
}

#[test]
fn a_session_whose_packets_vanish_ends_after_the_user_timeout() {
    let folder = Folder::new("vanish");
    let (near, far) = Namespace::pair();
    let database = echo_on(&far, far.ip());
    let proxy =
        across(&folder, &database.to_string()).set("client.tcpUserTimeout", "1s").set("pool.acquireTimeout", "2s");
    let gateway = Gateway::with(proxy.set("client.dialTimeout", "500ms")).on(near).start();
    let mut peer = Peer::dial(&gateway.address());
    peer.echoes(b"hello");
    far.swallow_packets();
    let watch = Stopwatch::start();
    std::io::Write::write_all(peer.wire(), b"into the hole").unwrap();
    assert!(peer.closed_within(Duration::from_secs(20)).is_some(), "the peer hears of it");
    assert!(watch.elapsed() >= Duration::from_millis(900), "not before the timeout: {:?}", watch.elapsed());
    gateway.expect_quiet("db");
}

#[test]
fn a_database_that_moves_to_another_address_behind_its_name_is_followed() {
    let folder = Folder::new("moves");
    let (near, far) = Namespace::pair();
    let elsewhere: IpAddr = "10.199.0.3".parse().unwrap();
    far.add_ip(elsewhere);
    let old = echo_on(&far, far.ip());
    let new = far.within(|| TcpListener::bind((elsewhere, old.port())).unwrap());
    near.set_hosts(&format!("127.0.0.1 localhost\n{} database\n", far.ip()));
    let proxy = across(&folder, &format!("database:{}", old.port())).set("pool.minIdle", 0);
    let hosts = format!("/etc/netns/{}/hosts", near.name());
    let gateway = Gateway::with(proxy).on(near).start();
    Peer::dial(&gateway.address()).echoes(b"hello");
    std::fs::write(hosts, format!("127.0.0.1 localhost\n{elsewhere} database\n")).unwrap();
    let _peer = Peer::dial(&gateway.address());
    let (_stream, _) = new.accept().unwrap();
}

#[test]
fn the_next_address_is_dialed_beside_one_that_does_not_answer() {
    let folder = Folder::new("beside");
    let (near, far) = Namespace::pair();
    let second: IpAddr = "10.199.0.3".parse().unwrap();
    far.add_ip(second);
    let (lost, found) = (echo_on(&far, far.ip()), echo_on(&far, second));
    far.swallow_packets_to(far.ip());
    let proxy = across(&folder, &lost.to_string()).set("client.addresses", vec![lost.to_string(), found.to_string()]);
    let gateway = Gateway::with(proxy.set("pool.minIdle", 0)).on(near).start();
    let watch = Stopwatch::start();
    Peer::dial(&gateway.address()).echoes(b"hello");
    // Not after the dial timeout of a minute.
    assert!(watch.elapsed() < Duration::from_secs(5), "served after {:?}", watch.elapsed());
    gateway.expect_metric("postern_database_up", &DB, 1.0);
}

#[test]
fn a_resolver_that_does_not_answer_holds_up_nobody_who_needs_no_name() {
    let folder = Folder::new("names");
    let (near, far) = Namespace::pair();
    let database = echo_on(&far, far.ip());
    near.set_resolver(&format!("nameserver {}\n", far.ip()));
    near.set_hosts(&format!("127.0.0.1 localhost\n{} known\n", far.ip()));
    let at = |name: &str| Address::Unix(folder.join(name));
    let lost = Proxy::reaching("tcp", "lost.example:5432").named("lost").listening_on(&at("lost"));
    let known = Proxy::reaching("tcp", &format!("known:{}", database.port())).named("known").listening_on(&at("known"));
    let plain = Proxy::reaching("tcp", &database.to_string()).named("plain").listening_on(&at("plain"));
    // Only questions to the resolver vanish.
    far.swallow_datagrams();
    let gateway = Gateway::with(Manifest::of([lost, known, plain])).on(near).start();
    let _lost = Peer::dial(&gateway.address_of("lost"));
    for name in ["plain", "known"] {
        let watch = Stopwatch::start();
        for _ in 0..5 {
            Peer::dial(&gateway.address_of(name)).echoes(b"hello");
        }
        assert!(watch.elapsed() < Duration::from_secs(3), "{name}: five sessions took {:?}", watch.elapsed());
    }
}
