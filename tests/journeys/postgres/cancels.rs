//! Cancelling: it ends the peer's own query or its waiting, and nothing of anybody else, however often it is asked for.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cast::frontend::{
    Message, V3_0, V3_2, bind, cancel_request, execute, parse, query, ssl_request, startup, sync, transcript,
};
use cast::time::pause;
use cast::wire::Address;
use cast::{Folder, Frontend, Manifest, Postgres, Random, Scripted, eventually};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::fake::{self, First};
use crate::modes::{self, ALL, MANAGED};

const WHO: [(&str, &str); 2] = [("user", "postgres"), ("database", "postgres")];

/// A session, and the key that cancels its queries.
#[track_caller]
fn login(address: &Address, version: u32) -> (Frontend, Vec<u8>) {
    let (peer, welcome) = Frontend::login_as(address, version, &WHO);
    let key = welcome.iter().find(|message| message.tag == b'K');
    let key = key.unwrap_or_else(|| panic!("there is no key: {}", transcript(&welcome)));
    (peer, key.body.clone())
}

/// Sends a CancelRequest and waits until it has been dealt with.
fn cancel(address: &Address, key: &[u8]) {
    let mut peer = Frontend::dial(address);
    peer.send(&cancel_request(key));
    assert!(peer.until_end().is_empty(), "nobody answers a CancelRequest");
}

/// Waits until the database works on `select pg_sleep(600)`.
fn until_it_sleeps(postgres: &Postgres) {
    let asked = "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and state = 'active' and \
                 pid <> pg_backend_pid()";
    eventually("it sleeps", || postgres.query(asked) == "1");
}

fn is_cancelled(said: &[Message]) -> bool {
    said.iter().any(|message| message.sqlstate().as_deref() == Some("57014"))
}

/// Cancels its own quick queries before, while and after they run, until `is_over`.
fn storm(address: &Address, mut random: Random, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let (mut peer, key) = login(address, V3_0);
        for _ in 0..20 {
            let mut requests: Vec<_> = (0..3).map(|_| Frontend::dial(address)).collect();
            peer.send(&query("select pg_sleep(0.002)"));
            for request in &mut requests {
                pause(Duration::from_micros(random.below(3000)));
                request.send(&cancel_request(&key));
            }
            peer.until_ready(1);
            drop(requests);
            cancel(address, &key);
        }
        drop(peer);
        cancel(address, &key);
    }
}

#[test]
fn a_storm_of_cancels_ends_no_query_of_others() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.size", 3));
    for mode in MANAGED {
        let (address, is_over) = (gateway.address_of(mode), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (address, is_over) = (&address, &is_over);
                scope.spawn(move || storm(address, Random::seeded(number), is_over));
            }
            let calm: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for number in 0..10 {
                            let mut peer = Frontend::login(&address);
                            for _ in 0..20 {
                                let said = peer.ask(&format!("select 'calm {number}', pg_sleep(0.003)"));
                                assert!(said.contains("calm"), "{mode}: {said}");
                            }
                        }
                    })
                })
                .collect();
            let ended: Vec<_> = calm.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            is_over.store(true, Ordering::Relaxed);
            assert!(ended.iter().all(Result::is_ok), "{mode}: somebody else's query was ended");
        });
        let sent = gateway.metric("postern_cancels_total", &[("proxy", mode), ("result", "sent")]);
        assert!(sent > 50.0, "{mode}: only {sent} cancels reached the database");
        gateway.expect_quiet(mode);
        gateway.expect_metric("postern_desync_total", &[("proxy", mode)], 0.0);
    }
    gateway.ends_well();
}

#[test]
fn a_cancel_with_a_wrong_key_does_nothing() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    for mode in ALL {
        let address = gateway.address_of(mode);
        for version in [V3_0, V3_2] {
            let (mut peer, key) = login(&address, version);
            peer.send(&query("select 'undisturbed', pg_sleep(1)"));
            for place in 0..key.len() {
                let mut wrong = key.clone();
                wrong[place] ^= 1;
                cancel(&address, &wrong);
            }
            for length in [8, 12, 36, 260] {
                let mut wrong = key.clone();
                wrong.resize(length, 0);
                if wrong != key {
                    cancel(&address, &wrong);
                }
            }
            let said = peer.until_ready(1);
            assert!(transcript(&said).contains("undisturbed"), "{mode}: {}", transcript(&said));
            peer.send(&query("select pg_sleep(600)"));
            until_it_sleeps(&postgres);
            cancel(&address, &key);
            assert!(is_cancelled(&peer.until_ready(1)), "{mode}: the right key does it");
        }
    }
    gateway.ends_well();
}

#[test]
fn a_peer_too_many_hears_so_and_a_cancel_is_never_one_too_many() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway_with(&postgres, &secrets, |proxy| proxy.set("server.maxPeers", 1));
    for mode in ALL {
        let address = gateway.address_of(mode);
        let (mut peer, key) = login(&address, V3_0);
        let mut second = Frontend::dial(&address);
        second.send(&startup(V3_0, &WHO));
        let said = second.until_end();
        assert_eq!(said.last().and_then(Message::sqlstate).as_deref(), Some("53300"), "{mode}: {}", transcript(&said));
        assert!(transcript(&said).contains("server.maxPeers"), "{mode}: {}", transcript(&said));
        let refused = [("proxy", mode), ("reason", "max_peers")];
        gateway.expect_metric("postern_sessions_refused_total", &refused, 1.0);
        peer.send(&query("select pg_sleep(600)"));
        until_it_sleeps(&postgres);
        cancel(&address, &key);
        assert!(is_cancelled(&peer.until_ready(1)), "{mode}");
        gateway.expect_metric("postern_sessions_refused_total", &refused, 1.0);
        gateway.expect_metric("postern_sessions", &[("proxy", mode)], 1.0);
        drop(peer);
        gateway.expect_quiet(mode);
    }
    gateway.ends_well();
}

#[test]
fn a_cancel_ends_the_waiting_for_a_client_and_the_session_goes_on() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.size", 1));
    let address = gateway.address_of("transaction");
    let waiting = |count| gateway.expect_metric("postern_pool_waiting", &[("proxy", "transaction")], count);
    let extended = [parse("", "select 'mine'"), bind("", "", &[]), execute("", 0), sync()].concat();
    let (mut peer, key) = login(&address, V3_0);
    let mut holder = Frontend::login(&address);
    for question in [query("select 'mine'"), extended] {
        holder.ask("begin");
        peer.send(&question);
        waiting(1.0);
        cancel(&address, &key);
        assert_eq!(transcript(&peer.until_ready(1)).matches("57014").count(), 1);
        waiting(0.0);
        // Only what is asked first is cancelled.
        peer.send(&[&question[..], &query("select 'next'")].concat());
        waiting(1.0);
        cancel(&address, &key);
        assert!(is_cancelled(&peer.until_ready(1)));
        waiting(1.0);
        holder.ask("commit");
        let said = transcript(&peer.until_ready(1));
        assert!(said.contains("next") && !said.contains("57014"), "{said}");
    }
    // A question that is not whole cannot be answered: then the session ends.
    holder.ask("begin");
    peer.send(&[query("select 'mine'"), parse("", "select 1")].concat()[..]);
    waiting(1.0);
    cancel(&address, &key);
    assert!(is_cancelled(&peer.until_ready(1)));
    waiting(1.0);
    cancel(&address, &key);
    assert_eq!(peer.until_end().last().and_then(Message::sqlstate).as_deref(), Some("57014"));
    waiting(0.0);
    holder.ask("commit");
    gateway.expect_metric("postern_cancels_total", &[("proxy", "transaction"), ("result", "wait_ended")], 6.0);
    drop(holder);
    gateway.expect_quiet("transaction");
    gateway.ends_well();
}

/// Sends a CancelRequest over TLS, and waits until the connection ends.
fn cancel_over_tls(address: &Address, key: &[u8], certificate: &CertificateDer<'static>) {
    let Address::Tcp(address) = address else { panic!("{address} is no TCP address") };
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.write_all(&ssl_request()).unwrap();
    let mut answer = [0];
    tcp.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"S");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("gateway.example").unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp);
    tls.write_all(&cancel_request(key)).unwrap();
    tls.flush().unwrap();
    let mut rest = Vec::new();
    // How the connection ends does not matter.
    let _ = tls.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
}

#[test]
fn a_cancel_over_tls_ends_the_query_as_one_without_does() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["gateway.example".to_owned()]).unwrap();
    let secrets: Folder = modes::secrets();
    fs::create_dir(secrets.join("tls")).unwrap();
    fs::write(secrets.join("tls/tls.crt"), cert.pem()).unwrap();
    fs::write(secrets.join("tls/tls.key"), signing_key.serialize_pem()).unwrap();
    let postgres = Postgres::start();
    let gateway = modes::gateway_with(&postgres, &secrets, |proxy| {
        proxy.set("server.tls.mode", "allow").set("server.tls.secretName", "tls")
    });
    for mode in ALL {
        let address = gateway.address_of(mode);
        let (mut peer, key) = login(&address, V3_0);
        let (mut other, _) = login(&address, V3_0);
        other.send(&query("select 'undisturbed', pg_sleep(1)"));
        peer.send(&query("select pg_sleep(600)"));
        until_it_sleeps(&postgres);
        cancel_over_tls(&address, &key, cert.der());
        assert!(is_cancelled(&peer.until_ready(1)), "{mode}");
        assert!(transcript(&other.until_ready(1)).contains("undisturbed"), "{mode}");
    }
    gateway.ends_well();
}

#[test]
fn many_cancels_of_one_query_take_one_connection_after_the_other() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, seen) = (now.clone(), most.clone());
    let database = Scripted::tcp(move |mut wire| match fake::first(&mut wire) {
        Some(First::Session) => {
            let _ = wire.write_all(&fake::welcome().concat());
            fake::answers_well(&mut wire);
        }
        Some(First::Cancel) => {
            seen.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            pause(Duration::from_millis(10));
            counted.fetch_sub(1, Ordering::SeqCst);
        }
        None => {}
    });
    let secrets = modes::secrets();
    let proxy = modes::proxy("transaction", database.address()).set("pool.size", 1);
    let gateway = modes::start(Manifest::of([proxy]), &secrets);
    let address = gateway.address_of("transaction");
    let (mut peer, key) = login(&address, V3_0);
    // Half of an exchange: the client stays, and the database answers nothing yet.
    peer.send(&parse("", "select 1"));
    gateway.expect_metric("postern_pool_clients", &[("proxy", "transaction"), ("state", "lent")], 1.0);
    let mut requests: Vec<_> = (0..50).map(|_| Frontend::dial(&address)).collect();
    for request in &mut requests {
        request.send(&cancel_request(&key));
    }
    for request in &mut requests {
        request.until_end();
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
    eventually("each has come to its end", || now.load(Ordering::SeqCst) == 0);
    assert!(database.accepted() > 20, "only {} of them were tried", database.accepted());
    drop(peer);
    gateway.expect_quiet("transaction");
    gateway.ends_well();
}
