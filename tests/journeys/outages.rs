//! The database goes away and comes back, on this machine: nobody is lost, nothing exits, nothing spins.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cast::process::run;
use cast::time::{Stopwatch, comes_true, pause};
use cast::{Gateway, Manifest, Peer, Postgres, Proxy, Scripted, eventually};

const DB: [(&str, &str); 1] = [("proxy", "db")];

/// A peer that dials, sends a word and waits for it to come back; how long that took.
fn waits_for_an_echo(gateway: &Gateway) -> std::thread::JoinHandle<std::io::Result<Duration>> {
    let address = gateway.address();
    std::thread::spawn(move || {
        let watch = Stopwatch::start();
        Peer::try_dial(&address)?.try_echo(b"hello")?;
        Ok(watch.elapsed())
    })
}

#[test]
fn with_the_database_down_at_the_start_the_gateway_listens_is_ready_and_peers_wait() {
    let mut database = Scripted::echo();
    database.stop();
    let mut gateway = Gateway::start(Proxy::to(database.address()));
    assert_eq!(gateway.get("/readyz").status, 200);
    assert_eq!(gateway.get("/startupz").status, 200);
    let waiting: Vec<_> = (0..10).map(|_| waits_for_an_echo(&gateway)).collect();
    gateway.expect_metric("postern_pool_waiting", &DB, 10.0);
    gateway.expect_metric("postern_sessions", &DB, 10.0);
    assert!(gateway.metric("postern_database_up", &DB).abs() < f64::EPSILON);
    database.start();
    for peer in waiting {
        peer.join().unwrap().unwrap();
    }
    gateway.expect_metric("postern_database_up", &DB, 1.0);
    gateway.expect_quiet("db");
    assert!(gateway.runs());
    gateway.ends_well();
}

#[test]
fn readiness_follows_the_database_when_the_configuration_says_so() {
    let mut database = Scripted::echo();
    database.stop();
    let gateway = Gateway::start(Manifest::of([Proxy::to(database.address())]).set("readiness", "database"));
    assert_eq!(gateway.get("/readyz").status, 503);
    assert_eq!(gateway.get("/livez").status, 200);
    database.start();
    eventually("the gateway is ready", || gateway.get("/readyz").status == 200);
}

#[test]
fn waiting_peers_are_served_within_the_probe_and_a_little_after_the_database_is_back() {
    let mut database = Scripted::echo();
    // A schedule whose waits are far longer than the probe.
    let proxy = Proxy::to(database.address()).set("client.backoff", "30s").set("client.probe", "300ms");
    let gateway = Gateway::start(proxy);
    Peer::dial(&gateway.address()).echoes(b"hello");
    for _ in 0..3 {
        database.stop();
        let waiting: Vec<_> = (0..5).map(|_| waits_for_an_echo(&gateway)).collect();
        gateway.expect_metric("postern_pool_waiting", &DB, 5.0);
        pause(Duration::from_millis(700));
        database.start();
        let watch = Stopwatch::start();
        for peer in waiting {
            peer.join().unwrap().unwrap();
        }
        // The probe is jittered, and a busy machine adds its own.
        let late = watch.elapsed();
        assert!(late < Duration::from_millis(300 + 100 + 400), "served {late:?} after the database was back");
        gateway.expect_quiet("db");
    }
}

#[test]
fn waiting_for_a_database_that_is_away_costs_less_than_a_hundredth_of_a_core() {
    let mut database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()));
    database.stop();
    let waiting: Vec<_> = (0..20).map(|_| waits_for_an_echo(&gateway)).collect();
    gateway.expect_metric("postern_pool_waiting", &DB, 20.0);
    let before = gateway.cpu_time();
    let watch = Stopwatch::start();
    pause(Duration::from_secs(6));
    let (used, elapsed) = (gateway.cpu_time().saturating_sub(before), watch.elapsed());
    assert!(used < elapsed / 100, "{used:?} of processor time in {elapsed:?}");
    let files = gateway.process().open_files();
    assert!(files < 20 + 30, "{files} files are open for 20 waiting peers");
    database.start();
    for peer in waiting {
        peer.join().unwrap().unwrap();
    }
}

#[test]
fn the_pool_is_full_again_after_an_outage_whatever_happened_during_it() {
    let mut database = Scripted::echo();
    let proxy = Proxy::to(database.address()).set("pool.size", 5).set("pool.minIdle", 5).set("client.backoff", "100ms");
    let gateway = Gateway::start(proxy.set("pool.maxIdle", "2s"));
    let idle = [("proxy", "db"), ("state", "idle")];
    gateway.expect_metric("postern_pool_clients", &idle, 5.0);
    let peers: Vec<_> = (0..3).map(|_| Peer::dial(&gateway.address())).collect();
    database.stop();
    drop(peers);
    gateway.expect_metric("postern_database_up", &DB, 0.0);
    // Longer than any client may be idle, so that none of before is left.
    pause(Duration::from_secs(3));
    gateway.expect_metric("postern_pool_clients", &idle, 0.0);
    database.start();
    gateway.expect_metric("postern_pool_clients", &idle, 5.0);
    eventually("the database sees exactly the pool", || database.open() == 5);
    gateway.expect_metric("postern_database_up", &DB, 1.0);
    gateway.expect_metric("postern_outage_seconds", &DB, 0.0);
    assert!(gateway.metric("postern_recovery_seconds_count", &DB) >= 1.0);
    assert!(gateway.metric("postern_dial_attempts_total", &[("proxy", "db"), ("result", "refused")]) >= 1.0);
    gateway.says("Reconnected");
}

#[test]
fn a_killed_database_ends_its_sessions_at_once_and_the_gateway_neither_exits_nor_spins() {
    let mut postgres = Postgres::start();
    let mut gateway = Gateway::start(Proxy::to(&postgres.address()));
    let mut psql = postgres.psql_at(&gateway.address());
    let mut psql =
        psql.args(["-c", "select pg_sleep(60)"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let sleeps = || postgres.query("select count(*) from pg_stat_activity where query like 'select pg_sleep%'") == "1";
    eventually("the session is open", sleeps);
    postgres.kill();
    let ended = comes_true(Duration::from_secs(5), || psql.try_wait().unwrap().is_some());
    let _ = psql.kill();
    assert!(ended, "psql was told that the database died");
    gateway.expect_quiet("db");
    let before = gateway.cpu_time();
    pause(Duration::from_secs(2));
    let used = gateway.cpu_time().saturating_sub(before);
    assert!(used <= Duration::from_millis(40), "{used:?} of processor time in 2 s without a database");
    let waiting = spawn(postgres.psql_at(&gateway.address()).args(["-c", "select 42"]));
    gateway.expect_metric("postern_pool_waiting", &DB, 1.0);
    postgres.start_again();
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "42", "the peer that waited was served");
    assert!(gateway.runs());
    gateway.ends_well();
}

#[test]
fn connections_made_during_a_restart_of_postgresql_wait_and_none_fails() {
    let mut postgres = Postgres::start();
    let gateway = Gateway::start(Proxy::to(&postgres.address()));
    run(postgres.psql_at(&gateway.address()).args(["-c", "select 1"]));
    postgres.stop();
    let waiting: Vec<_> = (0..10)
        .map(|number| (number, spawn(postgres.psql_at(&gateway.address()).args(["-c", &format!("select {number}")]))))
        .collect();
    gateway.expect_metric("postern_pool_waiting", &DB, 10.0);
    // Until it is ready, PostgreSQL itself says no to those who come too early ("the database system is starting up").
    postgres.start_again();
    let mut told_by_the_database = 0;
    for (number, psql) in waiting {
        let output = psql.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        if error.contains("starting up") {
            told_by_the_database += 1;
        } else {
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), number.to_string(), "{error}");
        }
    }
    assert!(told_by_the_database < 10, "nobody was served");
    gateway.expect_quiet("db");
    gateway.ends_well();
}

#[test]
fn who_comes_once_the_database_is_ready_does_not_hear_that_it_is_starting() {
    let (is_ready, early) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (is_ready_then, came_early) = (is_ready.clone(), early.clone());
    // As PostgreSQL does: what it answers to a connection is decided when that comes.
    let mut database = Scripted::tcp(move |mut wire| {
        let is_ready = is_ready_then.load(Ordering::SeqCst);
        came_early.fetch_add(usize::from(!is_ready), Ordering::SeqCst);
        let answer = if is_ready { b"ready" } else { b"early" };
        while wire.read_exact(&mut [0]).is_ok() && wire.write_all(answer).is_ok() {}
    });
    database.stop();
    let proxy = Proxy::to(database.address()).set("client.backoff", "100ms").set("client.backoffMultiplier", 1);
    let gateway = Gateway::start(proxy.set("pool.minIdle", 2));
    gateway.expect_metric("postern_database_up", &DB, 0.0);
    database.start();
    gateway.expect_metric("postern_database_up", &DB, 1.0);
    eventually("the gateway came early", || early.load(Ordering::SeqCst) > 0);
    is_ready.store(true, Ordering::SeqCst);
    let mut peers: Vec<_> = (0..3).map(|_| Peer::dial(&gateway.address())).collect();
    for peer in &mut peers {
        let mut answer = [0; 5];
        peer.wire().write_all(b"?").unwrap();
        peer.wire().read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ready");
    }
    drop(peers);
    gateway.expect_metric("postern_pool_clients", &[("proxy", "db"), ("state", "idle")], 2.0);
    gateway.ends_well();
}

#[test]
fn a_peer_is_refused_with_the_reason_when_the_time_to_wait_is_over() {
    let mut database = Scripted::echo();
    database.stop();
    let gateway = Gateway::start(Proxy::to(database.address()).set("pool.acquireTimeout", "1s"));
    let watch = Stopwatch::start();
    let mut peer = Peer::dial(&gateway.address());
    assert!(peer.closed_within(Duration::from_secs(10)).is_some());
    assert!(watch.elapsed() >= Duration::from_secs(1), "refused after {:?}", watch.elapsed());
    gateway.expect_metric("postern_sessions_refused_total", &[("proxy", "db"), ("reason", "database_away")], 1.0);
    gateway.says("Peer refused");
    gateway.expect_quiet("db");
}

#[test]
fn an_acquire_timeout_of_zero_refuses_at_once() {
    let mut database = Scripted::echo();
    database.stop();
    let gateway = Gateway::start(Proxy::to(database.address()).set("pool.acquireTimeout", "0s"));
    gateway.expect_metric("postern_database_up", &DB, 0.0);
    eventually("the gateway knows that the database is away", || {
        gateway.metric("postern_dial_attempts_total", &[("result", "refused")]) > 0.0
    });
    let mut peer = Peer::dial(&gateway.address());
    assert!(peer.closed_within(Duration::from_secs(5)).is_some());
    gateway.expect_quiet("db");
}

#[test]
fn a_peer_that_stops_waiting_leaves_the_queue() {
    let mut database = Scripted::echo();
    database.stop();
    let gateway = Gateway::start(Proxy::to(database.address()));
    let first = Peer::dial(&gateway.address());
    let second = Peer::dial(&gateway.address());
    gateway.expect_metric("postern_pool_waiting", &DB, 2.0);
    drop(first);
    gateway.expect_metric("postern_pool_waiting", &DB, 1.0);
    second.reset();
    gateway.expect_quiet("db");
}

#[test]
fn a_name_that_does_not_resolve_ends_nothing_and_the_metrics_say_so() {
    let mut gateway =
        Gateway::start(Proxy::reaching("tcp", "no-such-host.invalid:5432").set("client.backoff", "100ms"));
    let attempts = || gateway.metric("postern_dial_attempts_total", &DB);
    eventually("several dials failed", || attempts() >= 3.0);
    assert!(
        gateway.metric("postern_dial_attempts_total", &[("proxy", "db"), ("result", "connected")]).abs() < f64::EPSILON
    );
    let mut peer = Peer::dial(&gateway.address());
    assert!(peer.closed_within(Duration::from_millis(500)).is_none(), "the peer waits");
    assert!(gateway.runs());
    gateway.ends_well();
}

#[test]
fn the_next_address_serves_when_the_first_is_down() {
    let mut first = Scripted::echo();
    let second = Scripted::echo();
    let addresses = vec![first.address().to_string(), second.address().to_string()];
    let gateway =
        Gateway::start(Proxy::to(first.address()).set("client.addresses", addresses).set("pool.maxIdle", "2s"));
    Peer::dial(&gateway.address()).echoes(b"hello");
    assert_eq!(second.accepted(), 0, "the first address comes first");
    first.stop();
    for _ in 0..5 {
        Peer::dial(&gateway.address()).echoes(b"hello");
    }
    assert!(second.accepted() >= 5);
    gateway.expect_metric("postern_database_up", &DB, 1.0);
    gateway.expect_metric("postern_failovers_total", &DB, 1.0);
    gateway.expect_quiet("db");
}

#[test]
fn a_database_that_is_away_is_no_other_proxys_trouble() {
    let mut away = Scripted::echo();
    let here = Scripted::echo();
    let proxies = [Proxy::to(away.address()).named("away"), Proxy::to(here.address()).named("here")];
    away.stop();
    let gateway = Gateway::start(Manifest::of(proxies));
    let _waiting: Vec<_> = (0..20).map(|_| Peer::dial(&gateway.address_of("away"))).collect();
    gateway.expect_metric("postern_pool_waiting", &[("proxy", "away")], 20.0);
    let watch = Stopwatch::start();
    for _ in 0..200 {
        Peer::dial(&gateway.address_of("here")).echoes(b"hello");
    }
    assert!(watch.elapsed() < Duration::from_secs(3), "200 sessions took {:?}", watch.elapsed());
    gateway.expect_metric("postern_database_up", &[("proxy", "here")], 1.0);
    gateway.expect_metric("postern_database_up", &[("proxy", "away")], 0.0);
    gateway.expect_quiet("here");
}

#[test]
fn the_dialing_itself_follows_the_schedule_and_goes_on_after_its_end() {
    let mut database = Scripted::echo();
    database.stop();
    // With nobody waiting and no probe only the schedule dials: four attempts, then one a second for ever.
    let proxy = Proxy::to(database.address()).set("client.backoff", "100ms").set("client.probe", "0s");
    let gateway = Gateway::start(proxy);
    let failures = || -> Vec<_> {
        let log = gateway.log();
        log.into_iter().filter(|line| line["attempt"].is_u64()).collect()
    };
    eventually("six attempts have failed", || failures().len() >= 6);
    let waits: Vec<_> = failures().iter().take(6).map(|line| line["wait"].as_str().unwrap().to_owned()).collect();
    assert_eq!(waits, ["200ms", "400ms", "800ms", "1s", "1s", "1s"]);
    let times: Vec<_> = failures().iter().map(|line| seconds_of_the_day(line["timestamp"].as_str().unwrap())).collect();
    for (pair, wait) in times.windows(2).zip([0.2, 0.4, 0.8, 1.0, 1.0]) {
        let gap = (pair[1] - pair[0] + 86_400.0) % 86_400.0;
        assert!(gap > wait - 0.01 && gap < wait + 0.5, "{gap} s between two attempts, not {wait} s");
    }
}

/// The time of a timestamp such as `2026-11-21T08:27:23.119316Z`.
fn seconds_of_the_day(timestamp: &str) -> f64 {
    let time = timestamp.split_once('T').unwrap().1.trim_end_matches('Z');
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}

#[test]
fn all_sessions_dying_together_do_not_become_a_storm_of_dials() {
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()).set("pool.minIdle", 0));
    let mut peers: Vec<_> = (0..50).map(|_| Peer::dial(&gateway.address())).collect();
    for peer in &mut peers {
        peer.echoes(b"hello");
    }
    let before = database.accepted();
    database.close_all();
    for peer in &mut peers {
        assert!(peer.closed_within(Duration::from_secs(10)).is_some());
    }
    drop(peers);
    gateway.expect_quiet("db");
    pause(Duration::from_secs(1));
    let dialed = database.accepted() - before;
    assert!(dialed <= 4, "{dialed} connections were made for nobody");
}

fn spawn(command: &mut Command) -> std::process::Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}
