//! Another server becomes the primary, planned or not: writers go on there, and what they were told is true.

use std::time::Duration;

use cast::time::eventually;
use cast::{Folder, Gateway, Postgres};

use crate::load::{TABLE, Writers};
use crate::modes;
use crate::restarts::expect_each_once;

const WRITERS: usize = 8;
const SIZE: usize = 4;

/// A gateway that writes to whichever of the two is the primary.
#[track_caller]
fn gateway_to(servers: [&Postgres; 2], secrets: &Folder, mode: &str) -> Gateway {
    let addresses = servers.map(|server| server.address().to_string()).to_vec();
    let size = if mode == "session" { WRITERS } else { SIZE };
    let proxy = modes::proxy(mode, &servers[0].address()).set("client.addresses", addresses);
    modes::start(proxy.set("client.targetSessionAttrs", "read-write").set("pool.size", size), secrets)
}

/// Writes through both servers' gateway, hands over in the middle by `hand_over`, and looks what became of it.
#[track_caller]
fn writes_go_on(mode: &str, hand_over: impl FnOnce(&mut Postgres, &mut Postgres)) {
    let (mut first, mut second) = Postgres::synchronous_pair();
    first.query(TABLE);
    let secrets = modes::secrets();
    let gateway = gateway_to([&first, &second], &secrets, mode);
    let writers = Writers::start(&gateway.address_of(mode), WRITERS);
    eventually("the writers write", || writers.written() > 200);
    hand_over(&mut first, &mut second);
    let before = writers.written();
    eventually("the writers go on", || writers.written() > before + 200);
    let seen = writers.end();
    assert_eq!(second.query("select pg_is_in_recovery()"), "f");
    expect_each_once(&second, &seen);
    if mode == "transaction" {
        let failures: Vec<_> = seen.iter().flat_map(|seen| &seen.failures).collect();
        // Each connection to the old primary fails once, for who had it then.
        assert!(failures.len() <= SIZE, "{failures:?}");
    }
    assert!(gateway.metric("postern_failovers_total", &[("proxy", mode)]) >= 1.0);
    gateway.expect_quiet(mode);
    gateway.expect_metric("postern_desync_total", &[], 0.0);
    gateway.ends_well();
}

#[test]
fn a_clean_switchover_loses_and_repeats_no_write() {
    for mode in modes::MANAGED {
        writes_go_on(mode, |first, second| {
            first.stop();
            second.promote();
            first.follow(second);
        });
    }
}

#[test]
fn a_failover_to_a_synchronous_standby_loses_and_repeats_no_acknowledged_write() {
    for mode in modes::MANAGED {
        writes_go_on(mode, |first, second| {
            first.kill_all();
            second.promote();
        });
    }
}

#[test]
fn a_pool_that_lost_its_primary_serves_nobody_from_a_standby() {
    let (mut first, second) = Postgres::synchronous_pair();
    let secrets = modes::secrets();
    let gateway = gateway_to([&first, &second], &secrets, "transaction");
    let mut peer = cast::Frontend::login(&gateway.address_of("transaction"));
    first.kill_all();
    let waiting = std::thread::spawn(move || peer.ask("select pg_is_in_recovery()"));
    let unfit = [("proxy", "transaction"), ("result", "unfit")];
    eventually("the standby is found to be one", || gateway.metric("postern_dial_attempts_total", &unfit) >= 2.0);
    assert!(!waiting.is_finished(), "the peer waits");
    second.promote();
    assert!(waiting.join().unwrap().contains("\\x01f"), "the new primary answers");
    cast::within(Duration::from_secs(30), "the pool is up", || {
        gateway.metric("postern_database_up", &[("proxy", "transaction")]) > 0.5
    });
}
