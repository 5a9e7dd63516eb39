//! Datagrams: a session is one peer's address, and an answer finds the peer that asked.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use cast::dns::{answer, question};
use cast::wire::Address;
use cast::{Dns, Gateway, Manifest, Peer, Proxy, Random, Scripted, eventually};

fn proxy(address: SocketAddr) -> Proxy {
    Proxy::reaching("udp", &address.to_string()).set("server.network", "udp")
}

fn peer() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// A database that sends each datagram back.
fn echo() -> SocketAddr {
    let socket = UdpSocket::bind(cast::loopback::free_address()).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            // A peer that has left does not hear it.
            let _ = socket.send_to(&bytes[..length], from);
        }
    });
    address
}

#[test]
fn ten_thousand_dns_queries_are_answered_and_none_is_mixed_up() {
    const PEERS: u16 = 100;
    const QUERIES: u16 = 100;
    let dns = Dns::knowing(10_000);
    let gateway = Gateway::start(proxy(dns.address()));
    let address = gateway.udp_address("db");
    // All at one time, so that no two have the same port one after the other.
    let sockets: Vec<_> = (0..PEERS).map(|number| (number, peer())).collect();
    std::thread::scope(|scope| {
        for quarter in sockets.chunks(usize::from(PEERS) / 4) {
            scope.spawn(move || {
                for (number, socket) in quarter {
                    socket.connect(address).unwrap();
                    // All peers use the same ids, so that only the address tells them apart.
                    for id in 0..QUERIES {
                        let host = u32::from(*number) * u32::from(QUERIES) + u32::from(id);
                        resolves(socket, id, host);
                    }
                }
            });
        }
    });
    gateway.expect_metric("postern_sessions_total", &[("proxy", "db")], f64::from(PEERS));
}

/// Asks until an answer comes (a datagram may be lost on its way, also on loopback) and checks that it is ours.
fn resolves(socket: &UdpSocket, id: u16, host: u32) {
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut bytes = [0; 1500];
    for _ in 0..5 {
        socket.send(&question(id, host)).unwrap();
        if let Ok(length) = socket.recv(&mut bytes) {
            assert_eq!(answer(&bytes[..length], id, host), Some(Dns::address_of(host)), "the answer to query {id}");
            return;
        }
    }
    panic!("no answer to query {id} for host {host}");
}

#[test]
fn a_datagram_is_never_split_whatever_the_chunk_size() {
    let gateway = Gateway::start(proxy(echo()).set("client.receiveChunkSize", 16));
    let socket = peer();
    socket.connect(gateway.udp_address("db")).unwrap();
    for length in [0, 1, 15, 16, 17, 1472, 8192, 8193, 65_507] {
        let sent = Random::seeded(length as u64).bytes(length);
        socket.send(&sent).unwrap();
        let mut back = vec![0; 65_536];
        let received = socket.recv(&mut back).unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        assert!(back[..received] == sent, "{length} bytes were sent and {received} came back");
    }
}

#[test]
fn a_session_ends_when_it_has_been_idle_for_the_idle_timeout() {
    let gateway = Gateway::start(proxy(echo()).set("server.idleTimeout", "1s"));
    let socket = peer();
    socket.connect(gateway.udp_address("db")).unwrap();
    socket.send(b"hello").unwrap();
    socket.recv(&mut [0; 10]).unwrap();
    assert!((gateway.metric("postern_sessions", &[("proxy", "db")]) - 1.0).abs() < f64::EPSILON);
    gateway.expect_metric("postern_sessions", &[("proxy", "db")], 0.0);
}

#[test]
fn when_all_places_are_taken_the_longest_idle_peer_makes_room() {
    let gateway = Gateway::start(Manifest::of([proxy(echo()).set("server.maxPeers", 3).set("pool.size", 3)]));
    let address = gateway.udp_address("db");
    let sockets: Vec<_> = (0..5).map(|_| peer()).collect();
    for socket in &sockets {
        socket.connect(address).unwrap();
        socket.send(b"hello").unwrap();
        assert_eq!(socket.recv(&mut [0; 10]).unwrap(), 5);
    }
    assert!(gateway.metric("postern_sessions", &[("proxy", "db")]) <= 3.0);
}

#[test]
fn a_database_that_is_not_there_does_not_end_us() {
    let nobody = cast::loopback::free_address();
    let gateway = Gateway::start(proxy(nobody));
    let socket = peer();
    socket.connect(gateway.udp_address("db")).unwrap();
    for _ in 0..20 {
        socket.send(b"hello").unwrap();
    }
    let database = UdpSocket::bind(nobody).unwrap();
    database.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut bytes = [0; 10];
    eventually("a datagram arrives once the database is there", || {
        socket.send(b"again").unwrap();
        database.recv_from(&mut bytes).is_ok()
    });
}

#[test]
fn a_proxy_on_any_free_port_that_turns_to_datagrams_listens_for_them() {
    let database = Scripted::echo();
    let mut gateway = Gateway::start(Proxy::to(database.address()));
    let Address::Tcp(before) = gateway.address() else { panic!("it listens on TCP") };
    gateway.edit(&proxy(echo()).into());
    gateway.reaches_generation(2);
    let peer = peer();
    peer.connect(gateway.udp_address("db")).unwrap();
    peer.send(b"a datagram").unwrap();
    let mut answer = [0; 10];
    assert_eq!(peer.recv(&mut answer).unwrap(), answer.len());
    assert_eq!(&answer, b"a datagram");
    assert!(Peer::try_dial(&Address::Tcp(before)).is_err(), "nobody listens for streams any more");
}
