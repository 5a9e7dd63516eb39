//! Clients are kept warm and recycled gradually, and no database takes offence.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::io::Read;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use cast::install::program;
use cast::peer::Exchange;
use cast::process::run;
use cast::time::{Stopwatch, pause};
use cast::wire::Address;
use cast::{Folder, Gateway, Manifest, MariaDb, Namespace, Peer, Postgres, Proxy, Scripted, eventually};

const IDLE: [(&str, &str); 2] = [("proxy", "db"), ("state", "idle")];

#[test]
fn warm_clients_are_replaced_before_they_are_too_old_and_never_all_at_once() {
    let database = Scripted::echo();
    let proxy = Proxy::to(database.address()).set("pool.size", 8).set("pool.minIdle", 8).set("pool.maxIdle", "2s");
    let gateway = Gateway::start(proxy);
    gateway.expect_metric("postern_pool_clients", &IDLE, 8.0);
    let mut fewest = 8.0_f64;
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(6) {
        fewest = fewest.min(gateway.metric("postern_pool_clients", &IDLE));
        pause(Duration::from_millis(20));
    }
    let dialed = database.accepted();
    assert!((16..60).contains(&dialed), "{dialed} connections in 6 s for 8 clients of at most 2 s");
    assert!(fewest >= 4.0, "only {fewest} of 8 clients were left at one time");
    assert!(database.open() <= 9, "{} connections are open for 8 clients", database.open());
    gateway.expect_metric("postern_pool_clients", &IDLE, 8.0);
    gateway.expect_metric("postern_pool_clients", &[("proxy", "db"), ("state", "lent")], 0.0);
}

#[test]
fn a_warm_client_that_the_database_closes_is_replaced_and_never_lent() {
    let database = Scripted::echo();
    let proxy = Proxy::to(database.address()).set("pool.size", 4).set("pool.minIdle", 4);
    let gateway = Gateway::start(proxy);
    for round in 1..4 {
        gateway.expect_metric("postern_pool_clients", &IDLE, 4.0);
        database.close_all();
        eventually("closed clients are replaced", || database.accepted() >= 4 * (round + 1));
        for _ in 0..4 {
            Peer::dial(&gateway.address()).echoes(b"a living client");
        }
    }
    gateway.expect_quiet("db");
}

#[test]
fn postgresqls_login_timeout_is_never_a_peers_trouble() {
    let postgres = Postgres::with(&[("authentication_timeout", "2s")]);
    let address = postgres.address();
    // One is recycled before the timeout, the other is closed by PostgreSQL again and again.
    let early = Proxy::to(&address).named("early").set("pool.minIdle", 3).set("pool.maxIdle", "1s");
    let late = Proxy::to(&address).named("late").set("pool.minIdle", 3);
    let gateway = Gateway::start(Manifest::of([early, late]));
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(9) {
        for name in ["early", "late"] {
            assert_eq!(run(postgres.psql_at(&gateway.address_of(name)).args(["-c", "select 1"])).trim(), "1");
        }
        pause(Duration::from_millis(330));
    }
    // It may have been asked whether it is up before it was.
    let is_complaint = |line: &&String| line.contains("FATAL") && !line.contains("starting up");
    let complaints = || postgres.log().iter().filter(is_complaint).count();
    assert_eq!(complaints(), 0, "{:?}", postgres.log());
    for name in ["early", "late"] {
        gateway.expect_quiet(name);
        assert!(gateway.metric("postern_clients_closed_total", &[("proxy", name)]) > 3.0, "{name} was recycled");
        gateway.expect_metric("postern_database_up", &[("proxy", name)], 1.0);
    }
}

#[test]
fn a_shutdown_of_postgresql_is_never_held_up_by_a_client_that_waits_to_be_lent() {
    // PostgreSQL ends its clients first and takes connections until it is down; one that then says nothing holds the
    // shutdown up for as long as PostgreSQL waits for a login: a minute.
    let mut postgres = Postgres::start();
    for (sessions, warm, size) in [(0, 3, 100), (5, 3, 100), (1, 1, 1)] {
        let proxy = Proxy::to(&postgres.address()).set("pool.minIdle", warm).set("pool.size", size);
        let gateway = Gateway::start(proxy);
        gateway.expect_metric("postern_pool_clients", &IDLE, f64::from(warm));
        let mut lent: Vec<_> = (0..sessions).map(|_| sleeping(&postgres, &gateway.address())).collect();
        eventually("the sessions run", || {
            let sql = "select count(*) from pg_stat_activity where query like 'select pg_sleep%'";
            postgres.query(sql) == sessions.to_string()
        });
        let watch = Stopwatch::start();
        postgres.stop();
        let elapsed = watch.elapsed();
        for psql in &mut lent {
            psql.wait().unwrap();
        }
        assert!(
            elapsed < Duration::from_secs(4),
            "with {sessions} sessions PostgreSQL needed {elapsed:?} to shut down"
        );
        postgres.start_again();
        gateway.expect_quiet("db");
        gateway.expect_metric("postern_database_up", &[("proxy", "db")], 1.0);
    }
}

/// A psql that is busy for longer than any test.
fn sleeping(postgres: &Postgres, address: &Address) -> std::process::Child {
    let mut psql = postgres.psql_at(address);
    psql.args(["-c", "select pg_sleep(600)"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_mariadb_that_counts_broken_logins_never_blocks_us() {
    let folder = Folder::new("block");
    let (near, far) = Namespace::pair();
    // The server looks the gateway's host up, so that it counts its errors; at 100 it would block the host.
    far.set_hosts(&format!("127.0.0.1 localhost\n{} gateway-host\n{} database\n", near.ip(), far.ip()));
    let mariadb = MariaDb::on(&far, &["--connect-timeout=2"]);
    let near_ip = near.ip();
    let Address::Tcp(address) = mariadb.address() else { panic!("MariaDB listens for TCP") };
    // Does the server count at all? Whoever leaves without a login is one more.
    let greeting = near.within(|| TcpStream::connect(address).unwrap().read(&mut [0; 10]).unwrap());
    assert!(greeting > 0);
    eventually("MariaDB counts a connection without a login", || mariadb.connect_errors(near_ip) == 1);
    // Only a whole login forgets.
    let proxy = Proxy::reaching("tcp", &mariadb.address().to_string());
    let proxy = proxy.listening_on(&Address::Unix(folder.join("peers.sock")));
    let gateway = Gateway::with(proxy.set("pool.maxIdle", "1s").set("pool.maxAge", "1s")).on(near).start();
    let select = |number: u32| run(MariaDb::app_at(&gateway.address()).args(["-e", &format!("select {number}")]));
    // An hour at the default maxIdle recycles each warm client at most 180 times.
    for number in 0..180 {
        assert_eq!(select(number).trim(), number.to_string());
    }
    // Idle for several times connect_timeout, after which MariaDB itself closes who has not logged in.
    pause(Duration::from_secs(6));
    assert_eq!(select(1).trim(), "1", "not blocked after idling");
    let errors = mariadb.connect_errors(near_ip);
    assert!(errors <= 2, "MariaDB counts {errors} broken logins; at 100 it blocks us");
    gateway.expect_metric("postern_pool_clients", &IDLE, 0.0);
}

#[test]
fn every_connection_has_keep_alive_and_none_waits_for_more_bytes() {
    let database = Scripted::exchanging();
    let gateway = Gateway::start(Proxy::to(database.address()).set("pool.minIdle", 1));
    let sockets = |of: &Address| {
        let Address::Tcp(address) = of else { panic!("a TCP address") };
        let filter = format!("dst {} and dport = :{}", address.ip(), address.port());
        run(Command::new(program("ss")).args(["-tnoH", "state", "established", &filter]))
    };
    // The first client and its successors.
    for seed in 0..3 {
        let mut peer = Peer::dial(&gateway.address());
        peer.exchange(Exchange { seed, up: 1, down: 1 }).unwrap();
        let ours = sockets(database.address());
        assert!(!ours.is_empty() && ours.lines().all(|line| line.contains("timer:(keepalive")), "{ours}");
    }
    // Small messages back and forth: with Nagle's algorithm and delayed answers each would take 40 ms.
    let mut peer = Peer::dial(&gateway.address());
    let watch = Stopwatch::start();
    for seed in 0..200 {
        peer.exchange(Exchange { seed, up: 1, down: 1 }).unwrap();
    }
    assert!(watch.elapsed() < Duration::from_secs(2), "200 small exchanges took {:?}", watch.elapsed());
}

#[test]
fn thousands_of_sessions_leave_no_memory_behind_and_no_word_in_the_log() {
    let database = Scripted::exchanging();
    let gateway = Gateway::start(Proxy::to(database.address()).set("pool.size", 4));
    let sessions = |from: u64| {
        for seed in from..from + 2000 {
            let mut peer = Peer::dial(&gateway.address());
            peer.exchange(Exchange { seed, up: 50, down: 500 }).unwrap();
        }
        gateway.expect_quiet("db");
    };
    sessions(0);
    let before = gateway.process().resident_memory();
    sessions(2000);
    sessions(4000);
    let grown = gateway.process().resident_memory().saturating_sub(before);
    assert!(grown < 512 * 1024, "4,000 sessions left {grown} bytes behind");
    let complaints: Vec<_> = gateway.log().into_iter().filter(|line| line["level"] != "INFO").collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}
