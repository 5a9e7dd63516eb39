//! The database is restarted: fast, immediately, and by losing its power.

use std::thread::JoinHandle;
use std::time::Duration;

use cast::frontend::V3_0;
use cast::time::{eventually, found};
use cast::wire::Address;
use cast::{Frontend, Gateway, Postgres};

use crate::load::{TABLE, Writers, failure_of};
use crate::modes::{self, ALL};

/// One way to take the database away.
type Blow = fn(&mut Postgres);

/// All ways to take the database away.
const BLOWS: [(&str, Blow); 3] =
    [("fast", Postgres::stop), ("immediate", Postgres::stop_immediately), ("kill -9", Postgres::kill_all)];

/// Connections of a pool under load.
const SIZE: usize = 4;
/// Peers that use them without a pause.
const BUSY: usize = 12;

/// A peer that asks on a thread of its own, and hands itself back with the answer.
fn asks(mut peer: Frontend, sql: &'static str) -> JoinHandle<(Frontend, String)> {
    std::thread::spawn(move || {
        let answer = peer.ask(sql);
        (peer, answer)
    })
}

/// A newcomer's login on a thread of its own: why it failed, if it did.
fn logs_in(address: Address) -> JoinHandle<Option<String>> {
    std::thread::spawn(move || {
        let (_peer, welcome) = Frontend::login_as(&address, V3_0, &[("user", "postgres"), ("database", "postgres")]);
        failure_of(&welcome)
    })
}

#[test]
fn a_restart_under_load_is_unseen_by_every_peer_that_held_no_connection() {
    for (name, blow) in BLOWS {
        let mut postgres = Postgres::start();
        postgres.query(TABLE);
        let secrets = modes::secrets();
        let proxy = modes::proxy("transaction", &postgres.address()).set("pool.size", SIZE);
        let gateway = modes::start(proxy.set("client.backoff", "30s"), &secrets);
        let address = gateway.address_of("transaction");
        let idle: Vec<_> = (0..10).map(|_| Frontend::login(&address)).collect();
        let writers = Writers::start(&address, BUSY);
        eventually("the writers write", || writers.written() > 100);
        blow(&mut postgres);
        let asking: Vec<_> = idle.into_iter().map(|peer| asks(peer, "select 'unseen'")).collect();
        let newcomers: Vec<_> = (0..5).map(|_| logs_in(address.clone())).collect();
        // All of them wait, and so do the busy ones.
        let waiting = f64::from(u32::try_from(BUSY + asking.len() + newcomers.len()).unwrap());
        gateway.expect_metric("postern_pool_waiting", &[("proxy", "transaction")], waiting);
        let before = writers.written();
        postgres.start_again();
        for peer in asking {
            let (_, answer) = peer.join().unwrap();
            assert!(answer.contains("unseen"), "{name}: an idle peer was told {answer}");
        }
        for newcomer in newcomers {
            assert_eq!(newcomer.join().unwrap(), None, "{name}: a newcomer");
        }
        eventually("the writers go on", || writers.written() > before + 100);
        let seen = writers.end();
        let failures: Vec<_> = seen.iter().flat_map(|seen| &seen.failures).collect();
        // Whoever had one of the connections, and nobody else, is told the cause.
        assert!(failures.len() <= SIZE, "{name}: {failures:?}");
        let known = |code: &&String| ["57P01", "57P02", "08006"].contains(&code.as_str());
        assert!(failures.iter().all(known), "{name}: {failures:?}");
        expect_each_once(&postgres, &seen);
        gateway.expect_quiet("transaction");
        gateway.expect_metric("postern_desync_total", &[], 0.0);
        gateway.ends_well();
    }
}

/// Every acknowledged token is there, and no token twice.
#[track_caller]
pub(crate) fn expect_each_once(postgres: &Postgres, seen: &[crate::load::Seen]) {
    assert_eq!(postgres.query("select count(*) - count(distinct token) from tokens"), "0", "tokens written twice");
    let found = postgres.query("select token from tokens");
    let found: std::collections::HashSet<_> = found.lines().collect();
    let lost: Vec<_> =
        seen.iter().flat_map(|seen| &seen.acknowledged).filter(|token| !found.contains(&***token)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

/// The time of day in a line of a log that is written in UTC.
fn time_of_day(stamp: &str) -> Duration {
    let clock = stamp.split(['T', ' ']).nth(1).unwrap().trim_end_matches('Z');
    let parts: Vec<f64> = clock.split(':').map(|part| part.parse().unwrap()).collect();
    Duration::from_secs_f64(parts[0] * 3600.0 + parts[1] * 60.0 + parts[2])
}

/// When the newest record with this message was written.
fn said_at(gateway: &Gateway, message: &str) -> Option<Duration> {
    let log = gateway.log();
    let record = log.iter().rev().find(|record| record["message"] == message)?;
    Some(time_of_day(record["timestamp"].as_str().unwrap()))
}

#[test]
fn a_waiting_peer_is_served_as_soon_as_the_next_probe_after_the_database_accepts_again() {
    let mut postgres = Postgres::with(&[("log_timezone", "UTC")]);
    let secrets = modes::secrets();
    // The schedule alone would take minutes.
    let proxy = modes::proxy("transaction", &postgres.address()).set("client.backoff", "60s");
    let gateway = modes::start(proxy, &secrets);
    let mut peer = Frontend::login(&gateway.address_of("transaction"));
    for (name, blow) in BLOWS {
        blow(&mut postgres);
        let waiting = asks(peer, "select 'served'");
        gateway.expect_metric("postern_pool_waiting", &[("proxy", "transaction")], 1.0);
        postgres.start_again();
        let (served, answer) = waiting.join().unwrap();
        peer = served;
        assert!(answer.contains("served"), "{name}: {answer}");
        let accepts = found("the database says that it accepts", || {
            postgres.log().into_iter().find(|line| line.contains("ready to accept connections"))
        });
        let (accepts, reconnected) = (time_of_day(&accepts), said_at(&gateway, "Reconnected").unwrap());
        let late = reconnected.saturating_sub(accepts);
        eprintln!("{name}: reconnected {late:?} after the database accepts");
        // 600 ms, and what a busy machine adds.
        assert!(late < Duration::from_secs(5), "{name}: reconnected {late:?} after the database accepts");
    }
}

#[test]
fn a_session_that_has_asked_nothing_yet_does_not_notice_a_restart() {
    for (name, blow) in BLOWS {
        let mut postgres = Postgres::start();
        let secrets = modes::secrets();
        let gateway = modes::gateway(&postgres, &secrets);
        let address = gateway.address_of("session");
        let (before, during) = (Frontend::login(&address), Frontend::login(&address));
        blow(&mut postgres);
        let waiting = asks(during, "select 'unseen'");
        gateway.expect_metric("postern_pool_waiting", &[("proxy", "session")], 1.0);
        postgres.start_again();
        for peer in [waiting, asks(before, "select 'unseen'")] {
            let (mut peer, answer) = peer.join().unwrap();
            assert!(answer.contains("unseen"), "{name}: {answer}");
            // It keeps the connection that it has now.
            peer.ask("set work_mem = '3MB'");
            assert!(peer.ask("show work_mem").contains("3MB"), "{name}");
        }
        gateway.expect_quiet("session");
    }
}

#[test]
fn newcomers_wait_for_the_database_in_every_mode() {
    let mut postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    postgres.stop();
    let newcomers = ALL.map(|mode| (mode, logs_in(gateway.address_of(mode))));
    for mode in ALL {
        gateway.expect_metric("postern_pool_waiting", &[("proxy", mode)], 1.0);
    }
    postgres.start_again();
    for (mode, newcomer) in newcomers {
        let failure = newcomer.join().unwrap();
        // A passthrough peer is connected as soon as the database listens, and hears its own word for "not yet".
        let is_not_yet = mode == "passthrough" && failure.as_deref() == Some("57P03");
        assert!(failure.is_none() || is_not_yet, "{mode}: {failure:?}");
        Frontend::login(&gateway.address_of(mode)).ask("select 1");
        gateway.expect_quiet(mode);
    }
}
