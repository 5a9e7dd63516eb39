//! TLS that comes first (`sslnegotiation=direct`), which PostgreSQL knows since version 17: one gateway speaks it to
//! another, a peer to the first, and a gateway to a PostgreSQL that knows it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use cast::editions::NEWEST;
use cast::frontend::{V3_0, query, startup};
use cast::wire::Address;
use cast::{Proxy, Scripted, eventually};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::stage::{MODES, PASSWORD, Stage, to};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A peer that begins with TLS and names these protocols.
fn dial(stage: &Stage, address: &Address, protocols: &[&[u8]]) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(stage.authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let Address::Tcp(address) = address else { unreachable!("it listens on TCP") };
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap(), tcp)
}

/// One that reaches its database by TLS that comes first.
fn directly(proxy: Proxy) -> Proxy {
    let proxy = proxy.named("db").set("client.tls.mode", "verify-full").set("client.tls.secretName", "ca");
    proxy.set("client.tls.negotiation", "direct")
}

/// What is said until these bytes were, or to the end; an error ends it, too.
fn heard(tls: &mut Tls, until: &[u8]) -> Result<Vec<u8>, String> {
    let (mut heard, mut byte) = (Vec::new(), [0]);
    while !heard.ends_with(until) {
        match tls.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => heard.push(byte[0]),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(heard)
}

#[test]
fn tls_may_come_first_on_both_legs_in_every_mode() {
    let stage = Stage::set();
    // Whom the outer gateway logs in as has a password that is asked for behind the inner one.
    stage.put_login("app", "app", PASSWORD);
    let inner = stage.proxy("passthrough").named("db").set("server.tls.mode", "require");
    let inner = stage.gateway(inner.set("server.tls.secretName", "server"));
    for mode in MODES {
        let outer = directly(to(&inner.address(), mode));
        let outer = outer.set("server.tls.mode", "require").set("server.tls.secretName", "server");
        let gateway = stage.gateway(outer);
        let mut peer = dial(&stage, &gateway.address(), &[b"postgresql"]);
        peer.write_all(&startup(V3_0, &[("user", "app"), ("database", "postgres")])).unwrap();
        if mode == "passthrough" {
            let asked = heard(&mut peer, b"SCRAM-SHA-256\0\0").unwrap();
            assert!(asked.starts_with(b"R"), "{}", asked.escape_ascii());
            // psql asks for TLS in PostgreSQL's way, which the same proxy serves.
            let words = "user=app sslmode=require channel_binding=disable";
            let said = stage.ask(&gateway.address(), words, PASSWORD, "select 'let in'");
            assert_eq!(said, (true, "let in\n".to_owned()));
        } else {
            heard(&mut peer, b"Z\0\0\0\x05I").unwrap();
            peer.write_all(&query("select 'served over tls'")).unwrap();
            let answer = heard(&mut peer, b"Z\0\0\0\x05I").unwrap();
            assert!(answer.windows(15).any(|part| part == b"served over tls"), "{mode}: {}", answer.escape_ascii());
        }
        drop(peer);
        gateway.ends_well();
    }
    inner.ends_well();
}

#[test]
fn a_postgresql_that_knows_it_is_reached_by_tls_that_comes_first_in_every_mode() {
    let stage = Stage::set_on(NEWEST);
    let first = Arc::new(AtomicU8::new(0));
    let seen = first.clone();
    let listener = Scripted::tcp(move |mut wire| {
        let mut byte = [0];
        if wire.read_exact(&mut byte).is_ok() {
            seen.store(byte[0], Ordering::SeqCst);
        }
    });
    for mode in MODES {
        let gateway = stage.gateway(directly(stage.proxy(mode)));
        let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        let words = "user=app sslmode=disable channel_binding=disable";
        assert_eq!(stage.ask(&gateway.address(), words, PASSWORD, sql), (true, "t\n".to_owned()), "{mode}");
        gateway.ends_well();
        // What it says first is no request but the handshake itself.
        first.store(0, Ordering::SeqCst);
        let gateway = stage.gateway(directly(to(listener.address(), mode)));
        eventually("the first byte is that of a handshake", || first.load(Ordering::SeqCst) == 0x16);
        gateway.ends_well();
    }
}

#[test]
fn tls_that_comes_first_must_say_that_it_carries_postgresql() {
    let stage = Stage::set();
    let proxy = stage.proxy("session").named("db").set("server.tls.mode", "allow");
    let gateway = stage.gateway(proxy.set("server.tls.secretName", "server"));
    for protocols in [&[][..], &[&b"http/1.1"[..]]] {
        let mut peer = dial(&stage, &gateway.address(), protocols);
        // It may hear of it only when it reads.
        let _ = peer.write_all(&startup(V3_0, &[("user", "app")]));
        let said = heard(&mut peer, b"Z\0\0\0\x05I");
        assert!(said.as_ref().map_or(true, Vec::is_empty), "{said:?}");
        eventually("the log says what to do", || gateway.lines().iter().any(|line| line.contains("(ALPN)")));
    }
    gateway.ends_well();
}
