//! What is said from outside: probes, metrics, the configuration in force, the log.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cast::gateway::promtool_says;
use cast::{Gateway, Manifest, Peer, Proxy, Scripted};

#[test]
fn promtool_has_nothing_to_say_about_the_metrics() {
    let mut database = Scripted::echo();
    let proxy = Proxy::to(database.address()).set("pool.acquireTimeout", "300ms").set("server.maxPeers", 1);
    let gateway = Gateway::start(Manifest::of([proxy.clone(), proxy.named("other")]));
    let mut peer = Peer::dial(&gateway.address());
    peer.echoes(b"hello");
    drop(Peer::dial(&gateway.address()).closed_within(Duration::from_secs(5)));
    drop(peer);
    gateway.expect_quiet("db");
    database.stop();
    drop(Peer::dial(&gateway.address()).closed_within(Duration::from_secs(5)));
    let text = gateway.get("/metrics").body;
    assert_eq!(promtool_says(&text), "");
    assert!(text.contains("process_open_fds") && text.contains("process_resident_memory_bytes"), "{text}");
    let helps = text.lines().filter(|line| line.starts_with("# HELP postern_"));
    for help in helps {
        let sentence = help.splitn(4, ' ').nth(3).unwrap_or_default();
        assert!(sentence.ends_with('.') && sentence.len() > 15, "no sentence: {help}");
    }
}

#[test]
fn the_gauges_count_what_is_there() {
    let database = Scripted::echo();
    let proxy = Proxy::to(database.address()).set("pool.size", 4).set("pool.minIdle", 2);
    let gateway = Gateway::start(proxy);
    let clients = |state| [("proxy", "db"), ("state", state)];
    let mut peers: Vec<_> = (0..4).map(|_| Peer::dial(&gateway.address())).collect();
    for peer in &mut peers {
        peer.echoes(b"12345");
    }
    let waiting = Peer::dial(&gateway.address());
    gateway.expect_metric("postern_sessions", &[], 5.0);
    gateway.expect_metric("postern_pool_waiting", &[], 1.0);
    gateway.expect_metric("postern_pool_size", &[], 4.0);
    gateway.expect_metric("postern_pool_clients", &clients("lent"), 4.0);
    gateway.expect_metric("postern_pool_clients", &clients("idle"), 0.0);
    gateway.expect_metric("postern_bytes_total", &[("direction", "to_database")], 20.0);
    gateway.expect_metric("postern_bytes_total", &[("direction", "to_peer")], 20.0);
    assert_eq!(database.open(), 4);
    drop(waiting);
    gateway.expect_metric("postern_pool_waiting", &[], 0.0);
    drop(peers);
    gateway.expect_quiet("db");
    gateway.expect_metric("postern_pool_clients", &clients("idle"), 2.0);
    gateway.expect_metric("postern_pool_clients", &clients("dialing"), 0.0);
    gateway.expect_metric("postern_session_seconds_count", &[], 5.0);
    gateway.expect_metric("postern_sessions_closed_total", &[("reason", "peer")], 4.0);
    gateway.expect_metric("postern_sessions_closed_total", &[("reason", "peer_gave_up")], 1.0);
    gateway.expect_metric("postern_clients_closed_total", &[("reason", "session")], 4.0);
    gateway.expect_metric("postern_database_up", &[], 1.0);
    gateway.expect_metric("postern_retry_attempt", &[], 0.0);
    gateway.expect_metric("postern_backoff_seconds", &[], 0.0);
}

#[test]
fn the_config_endpoint_tells_the_hash_of_the_file_and_the_addresses() {
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()));
    let applied = gateway.applied();
    let sum = cast::process::run(std::process::Command::new("sha256sum").arg(gateway.config_file()));
    assert_eq!(applied["hash"].as_str(), sum.split(' ').next());
    assert_eq!((&applied["name"], &applied["generation"]), (&"journey".into(), &1.into()));
    assert_eq!(applied["proxies"][0]["address"], gateway.address().to_string());
}

#[test]
fn the_admin_address_answers_what_it_knows_and_refuses_the_rest() {
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()));
    for path in ["/livez", "/readyz", "/startupz", "/metrics", "/config"] {
        assert_eq!(gateway.get(path).status, 200, "{path}");
    }
    assert_eq!(gateway.get("/nothing").status, 404);
    assert_eq!(gateway.get("/../etc/passwd").status, 404);
    let mut stream = TcpStream::connect(gateway.admin()).unwrap();
    write!(stream, "POST /config HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

#[test]
fn peers_of_the_admin_address_that_say_nothing_do_not_block_the_others() {
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()));
    let _silent: Vec<_> = (0..20).map(|_| TcpStream::connect(gateway.admin()).unwrap()).collect();
    assert_eq!(gateway.get("/livez").status, 200);
    let mut garbage = TcpStream::connect(gateway.admin()).unwrap();
    garbage.write_all(&cast::Random::seeded(1).bytes(10_000)).unwrap();
    assert_eq!(gateway.get("/livez").status, 200);
    Peer::dial(&gateway.address()).echoes(b"hello");
}

#[test]
fn every_line_of_the_log_is_json_with_a_time_a_level_and_a_message() {
    let mut database = Scripted::echo();
    let gateway = Gateway::start(Manifest::of([Proxy::to(database.address())]).set("log.level", "debug"));
    Peer::dial(&gateway.address()).echoes(b"hello");
    database.stop();
    gateway.says("The database is away");
    gateway.terminate();
    for line in gateway.lines() {
        let record: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        for key in ["timestamp", "level", "message"] {
            assert!(record[key].is_string(), "{key} is missing in {line}");
        }
    }
}
