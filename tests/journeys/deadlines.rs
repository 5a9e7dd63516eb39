//! Limits on time: a deadline ends a client that stalls, never one that is merely quiet; a timeout only tells.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::io::{Read, Write};
use std::time::Duration;

use cast::gateway::cli;
use cast::time::{Stopwatch, pause};
use cast::{Folder, Gateway, Manifest, Peer, Proxy, Scripted, eventually};

const DB: [(&str, &str); 1] = [("proxy", "db")];

#[test]
fn a_receive_deadline_ends_a_session_whose_answer_does_not_come_and_no_idle_one() {
    // Answers every message but one that begins with '?'.
    let database = Scripted::tcp(|mut wire| {
        let mut bytes = [0; 1024];
        while let Ok(length @ 1..) = wire.read(&mut bytes) {
            if bytes[0] != b'?' && wire.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
    });
    let gateway = Gateway::start(Proxy::to(database.address()).set("client.receiveDeadline", "500ms"));
    let mut peer = Peer::dial(&gateway.address());
    for _ in 0..3 {
        peer.echoes(b"hello");
        // Idle for longer than the deadline: no byte is owed, so nothing expires.
        pause(Duration::from_millis(900));
    }
    peer.echoes(b"still here");
    let watch = Stopwatch::start();
    peer.wire().write_all(b"?").unwrap();
    assert!(peer.closed_within(Duration::from_secs(10)).is_some());
    assert!(watch.elapsed() >= Duration::from_millis(500), "after {:?}", watch.elapsed());
    gateway.expect_metric("postern_sessions_closed_total", &[("proxy", "db"), ("reason", "receive_deadline")], 1.0);
    gateway.expect_quiet("db");
}

#[test]
fn a_receive_timeout_warns_and_counts_and_ends_nothing() {
    let database = Scripted::tcp(|mut wire| {
        let mut bytes = [0; 1024];
        while let Ok(length @ 1..) = wire.read(&mut bytes) {
            pause(Duration::from_secs(1));
            if wire.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
    });
    let gateway = Gateway::start(Proxy::to(database.address()).set("client.receiveTimeout", "300ms"));
    let mut peer = Peer::dial(&gateway.address());
    peer.echoes(b"slow");
    gateway.expect_metric("postern_receive_timeouts_total", &DB, 1.0);
    peer.echoes(b"slow again");
    gateway.expect_metric("postern_receive_timeouts_total", &DB, 2.0);
    assert_eq!(gateway.says("The database has not answered")["level"], "WARN");
}

#[test]
fn a_send_deadline_ends_a_session_whose_database_takes_nothing() {
    let database = Scripted::silent();
    let gateway = Gateway::start(Proxy::to(database.address()).set("client.sendDeadline", "500ms"));
    let mut peer = Peer::dial(&gateway.address());
    peer.wire().write_all(b"x").unwrap();
    pause(Duration::from_secs(1));
    gateway.expect_metric("postern_sessions", &DB, 1.0);
    let bytes = vec![1; 1 << 20];
    let ended = (0..256).any(|_| peer.wire().write_all(&bytes).is_err());
    assert!(ended, "256 MiB went to a database that reads nothing");
    gateway.expect_metric("postern_sessions_closed_total", &[("proxy", "db"), ("reason", "send_deadline")], 1.0);
    gateway.expect_quiet("db");
}

#[test]
fn an_idle_timeout_ends_a_quiet_peer_and_no_busy_one() {
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()).set("server.idleTimeout", "1s"));
    let mut quiet = Peer::dial(&gateway.address());
    let mut busy = Peer::dial(&gateway.address());
    quiet.echoes(b"hello");
    for _ in 0..10 {
        busy.echoes(b"hello");
        pause(Duration::from_millis(250));
    }
    busy.echoes(b"still here");
    assert!(quiet.closed_within(Duration::from_secs(1)).is_some());
    gateway.expect_metric("postern_sessions_closed_total", &[("proxy", "db"), ("reason", "idle_timeout")], 1.0);
}

#[test]
fn an_idle_timeout_resets_a_peer_whose_question_has_no_answer() {
    let database = Scripted::silent();
    let gateway = Gateway::start(Proxy::to(database.address()).set("server.idleTimeout", "500ms"));
    let mut peer = Peer::dial(&gateway.address());
    peer.wire().write_all(b"?").unwrap();
    let ended = peer.wire().read(&mut [0; 1]).expect_err("a regular end would look like an empty answer");
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    gateway.expect_metric("postern_sessions_closed_total", &[("proxy", "db"), ("reason", "idle_timeout")], 1.0);
}

#[test]
fn bytes_that_the_server_sends_first_belong_to_the_session_that_gets_the_client() {
    let number = std::sync::atomic::AtomicUsize::new(0);
    let database = Scripted::tcp(move |mut wire| {
        let mine = number.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let _ = wire.write_all(format!("hello {mine:04}").as_bytes());
        let mut bytes = [0; 10];
        // Says its own number again when asked.
        while let Ok(1..) = wire.read(&mut bytes) {
            if wire.write_all(format!("again {mine:04}").as_bytes()).is_err() {
                break;
            }
        }
    });
    let warm = Proxy::to(database.address()).set("pool.minIdle", 3).named("warm");
    let cold = Proxy::to(database.address()).named("cold");
    let gateway = Gateway::start(Manifest::of([warm, cold]));
    for name in ["warm", "cold"] {
        for _ in 0..20 {
            let mut peer = Peer::dial(&gateway.address_of(name));
            let (mut greeting, mut answer) = ([0; 10], [0; 10]);
            peer.wire().read_exact(&mut greeting).unwrap();
            peer.wire().write_all(b"?").unwrap();
            peer.wire().read_exact(&mut answer).unwrap();
            assert_eq!((&greeting[..6], &answer[..6]), (&b"hello "[..], &b"again "[..]));
            assert_eq!(greeting[6..], answer[6..], "one session, one connection of the database");
        }
    }
    let idle = |name| gateway.metric("postern_pool_clients", &[("proxy", name), ("state", "idle")]);
    eventually("only where minIdle is written are clients warm", || idle("warm") > 2.0 && idle("cold") < 1.0);
}

#[test]
fn the_seeds_schedules_come_out_of_gateway_check_value_for_value() {
    let folder = Folder::new("check");
    let capped: &[f64] = &[2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0, 60.0];
    let uncapped: &[f64] = &[2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0];
    for (retries, disabled, expected) in [(3, false, &capped[..3]), (11, false, capped), (11, true, uncapped)] {
        let proxy = Proxy::reaching("tcp", "database:5432");
        let proxy = proxy.set("client.retries", retries).set("client.disableBackoffCaps", disabled);
        let file = folder.join("gateway.yaml");
        std::fs::write(&file, Manifest::from(proxy).text()).unwrap();
        let (code, text) = cli(&["check", "-f", &file.display().to_string(), "-o", "json"]);
        assert_eq!(code, Some(0), "{text}");
        let explained: serde_json::Value = serde_json::from_str(&text).unwrap();
        let attempts = explained["proxies"][0]["schedule"]["attempts"].as_array();
        let attempts = attempts.unwrap_or_else(|| panic!("no attempts in {text}"));
        let waits: Vec<_> = attempts[1..].iter().map(|attempt| seconds(&attempt["afterWaiting"])).collect();
        assert_eq!(waits, expected, "retries {retries}, caps disabled: {disabled}");
    }
}

/// A duration such as `1m4s` in seconds.
fn seconds(duration: &serde_json::Value) -> f64 {
    let text = duration.as_str().unwrap().trim_end_matches('s');
    let (minutes, seconds) = text.split_once('m').unwrap_or(("0", text));
    let number = |text: &str| if text.is_empty() { 0.0 } else { text.parse::<f64>().unwrap() };
    number(minutes) * 60.0 + number(seconds)
}
