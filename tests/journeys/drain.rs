//! The end: not ready at once, serving on, closing what can be closed, and never hanging.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use cast::process::run;
use cast::time::Stopwatch;
use cast::{Gateway, Manifest, Peer, Postgres, Proxy, Scripted, eventually};

#[test]
fn without_a_peer_a_sigterm_ends_it_at_once_with_status_0() {
    let database = Scripted::echo();
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = Gateway::start(Proxy::to(database.address()).set("pool.minIdle", 3));
        let watch = Stopwatch::start();
        gateway.process().signal(signal);
        assert_eq!(gateway.exit_code(Duration::from_secs(10)), Some(0));
        assert!(watch.elapsed() < Duration::from_secs(2), "it took {:?}", watch.elapsed());
    }
}

#[test]
fn while_it_drains_it_is_not_ready_and_goes_on_serving_also_new_peers() {
    let database = Scripted::echo();
    let mut gateway = Gateway::start(Proxy::to(database.address()));
    let mut peer = Peer::dial(&gateway.address());
    peer.echoes(b"before");
    gateway.terminate();
    eventually("it is not ready", || gateway.get("/readyz").status == 503);
    assert_eq!(gateway.get("/livez").status, 200);
    peer.echoes(b"still served");
    Peer::dial(&gateway.address()).echoes(b"a new peer, too");
    drop(peer);
    assert_eq!(gateway.exit_code(Duration::from_secs(10)), Some(0));
}

#[test]
fn a_query_that_runs_when_the_drain_begins_finishes() {
    let postgres = Postgres::start();
    let mut gateway = Gateway::start(Proxy::to(&postgres.address()));
    let mut psql = postgres.psql_at(&gateway.address());
    let psql = psql.args(["-c", "select pg_sleep(2), 'done'"]).stdout(Stdio::piped()).spawn().unwrap();
    eventually("the query runs", || {
        postgres.query("select count(*) from pg_stat_activity where query like 'select pg_sleep%'") == "1"
    });
    gateway.terminate();
    let output = psql.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "|done");
    assert_eq!(gateway.exit_code(Duration::from_secs(10)), Some(0));
}

#[test]
fn sessions_that_stay_are_closed_when_the_drain_time_is_over_and_the_status_is_0() {
    let database = Scripted::exchanging();
    let mut gateway = Gateway::start(Manifest::of([Proxy::to(database.address())]).set("drainTimeout", "2s"));
    let mut idle = Peer::dial(&gateway.address());
    idle.exchange(cast::peer::Exchange { seed: 1, up: 10, down: 10 }).unwrap();
    // A stuck one: it has asked for more than anybody will ever read.
    let mut stuck = Peer::dial(&gateway.address());
    cast::peer::Exchange { seed: 2, up: 10, down: 1 << 30 }.ask(stuck.wire()).unwrap();
    let watch = Stopwatch::start();
    gateway.terminate();
    assert_eq!(gateway.exit_code(Duration::from_secs(20)), Some(0));
    let elapsed = watch.elapsed();
    assert!(elapsed < Duration::from_secs(4), "a drain of 2 s took {elapsed:?}");
    assert!(idle.closed_within(Duration::from_secs(5)).is_some());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let database = Scripted::echo();
    let mut gateway = Gateway::start(Proxy::to(database.address()));
    let mut peer = Peer::dial(&gateway.address());
    peer.echoes(b"here to stay");
    gateway.terminate();
    gateway.says("Draining");
    let watch = Stopwatch::start();
    gateway.terminate();
    gateway.exit_code(Duration::from_secs(5));
    assert!(watch.elapsed() < Duration::from_secs(1), "it took {:?}", watch.elapsed());
}

#[test]
fn a_drain_does_not_wait_for_a_database_that_is_away() {
    let mut database = Scripted::echo();
    database.stop();
    let mut gateway = Gateway::start(Proxy::to(database.address()).set("client.backoff", "60s"));
    eventually("the first dial failed", || gateway.metric("postern_dial_attempts_total", &[]) > 0.0);
    gateway.terminate();
    assert_eq!(gateway.exit_code(Duration::from_secs(3)), Some(0));
}

#[test]
fn after_its_end_neither_a_socket_nor_a_connection_is_left() {
    let postgres = Postgres::start();
    let folder = cast::Folder::new("end");
    let listener = cast::wire::Address::Unix(folder.join(".s.PGSQL.5432"));
    let proxy = Proxy::to(&postgres.address()).listening_on(&listener).set("pool.minIdle", 4);
    let gateway = Gateway::start(proxy);
    run(postgres.psql_at(&gateway.address()).args(["-c", "select 1"]));
    gateway.ends_well();
    assert!(Peer::try_dial(&listener).is_err());
    eventually("PostgreSQL has no connection but the asking one", || {
        postgres.query("select count(*) from pg_stat_activity where backend_type = 'client backend'") == "1"
    });
}
