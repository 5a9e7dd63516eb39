//! Waiting for a connection: in order, within limits, and only for who is still there.

use std::time::Duration;

use cast::frontend::{V3_0, query, startup};
use cast::time::Stopwatch;
use cast::{Frontend, Gateway, Manifest, Postgres, Proxy};

use crate::load::failure_of;
use crate::modes::{self, MANAGED};

/// A gateway with one proxy for each of the managed modes, of one connection each.
#[track_caller]
fn gateway_with(postgres: &Postgres, secrets: &cast::Folder, more: impl Fn(Proxy) -> Proxy) -> Gateway {
    let proxies = MANAGED.map(|mode| more(modes::proxy(mode, &postgres.address()).set("pool.size", 1)));
    modes::start(Manifest::of(proxies), secrets)
}

fn expect_waiting(gateway: &Gateway, mode: &str, count: f64) {
    gateway.expect_metric("postern_pool_waiting", &[("proxy", mode)], count);
}

/// A peer that has sent its login, and waits.
fn newcomer(gateway: &Gateway, mode: &str) -> Frontend {
    let mut peer = Frontend::dial(&gateway.address_of(mode));
    peer.send(&startup(V3_0, &[("user", "postgres"), ("database", "postgres")]));
    peer
}

#[test]
fn who_waits_is_served_first_come_first_served_also_through_an_outage() {
    let mut postgres = Postgres::start();
    postgres.query("create table turns (turn serial, who int)");
    let secrets = modes::secrets();
    let gateway = gateway_with(&postgres, &secrets, |proxy| proxy);
    let mut peers: Vec<_> = (0..6).map(|_| Frontend::login(&gateway.address_of("transaction"))).collect();
    postgres.stop();
    for (who, peer) in peers.iter_mut().enumerate() {
        peer.send(&query(&format!("insert into turns (who) values ({who})")));
        expect_waiting(&gateway, "transaction", f64::from(u32::try_from(who + 1).unwrap()));
    }
    postgres.start_again();
    for peer in &mut peers {
        assert_eq!(failure_of(&peer.until_ready(1)), None);
    }
    assert_eq!(postgres.query("select string_agg(who::text, ',' order by turn) from turns"), "0,1,2,3,4,5");
    // The same among newcomers while somebody has the only connection.
    let mut owner = Frontend::login(&gateway.address_of("session"));
    owner.ask("select 1");
    let mut waiting = Vec::new();
    for count in 1..=4_u32 {
        waiting.push(newcomer(&gateway, "session"));
        expect_waiting(&gateway, "session", f64::from(count));
    }
    drop(owner);
    for (place, mut peer) in waiting.into_iter().enumerate() {
        assert_eq!(failure_of(&peer.until_ready(1)), None, "newcomer {place}");
        let left = u32::try_from(3 - place).unwrap();
        expect_waiting(&gateway, "session", f64::from(left));
    }
    gateway.ends_well();
}

#[test]
fn who_waits_longer_than_allowed_is_told_why() {
    let mut postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.acquireTimeout", "300ms"));
    for mode in MANAGED {
        let mut owner = Frontend::login(&gateway.address_of(mode));
        owner.ask("begin");
        // All are lent.
        let said = newcomer(&gateway, mode).until_ready(1);
        assert_eq!(failure_of(&said).as_deref(), Some("53300"), "{mode}");
        owner.ask("commit");
    }
    let mut held = Frontend::login(&gateway.address_of("transaction"));
    postgres.stop();
    // The database is away: newcomers, and a peer that was here before.
    let mut told: Vec<_> = MANAGED.map(|mode| newcomer(&gateway, mode).until_ready(1)).to_vec();
    held.send(&query("select 1"));
    told.push(held.until_ready(1));
    for said in told {
        assert_eq!(failure_of(&said).as_deref(), Some("57P03"));
        let sentence = said.last().and_then(|message| message.field(b'M')).unwrap_or_default();
        assert!(sentence.contains("did not come back") && sentence.contains("127."), "{sentence}");
    }
    gateway.ends_well();
}

#[test]
fn no_more_peers_wait_than_allowed() {
    let mut postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.maxWaiting", 2));
    postgres.stop();
    for mode in MANAGED {
        let mut waiting = [newcomer(&gateway, mode), newcomer(&gateway, mode)];
        expect_waiting(&gateway, mode, 2.0);
        // Before a dial has failed one of them waits for that, and there is room for one more.
        gateway.expect_metric("postern_database_up", &[("proxy", mode)], 0.0);
        let said = newcomer(&gateway, mode).until_ready(1);
        assert_eq!(failure_of(&said).as_deref(), Some("53300"), "{mode}");
        if mode == "transaction" {
            postgres.start_again();
            for peer in &mut waiting {
                assert_eq!(failure_of(&peer.until_ready(1)), None);
            }
        }
    }
    gateway.ends_well_without_waiting();
}

#[test]
fn who_hangs_up_while_waiting_frees_the_place_at_once() {
    let mut postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = gateway_with(&postgres, &secrets, |proxy| proxy.set("pool.acquireTimeout", "10m"));
    let [mut asking, mut saying_much] = [(); 2].map(|()| Frontend::login(&gateway.address_of("transaction")));
    postgres.stop();
    let watch = Stopwatch::start();
    let newcomers = MANAGED.map(|mode| newcomer(&gateway, mode));
    asking.send(&query("select 1"));
    // More than is read of a peer that waits.
    saying_much.send(&query(&format!("select '{}'", "x".repeat(100_000))));
    expect_waiting(&gateway, "session", 1.0);
    expect_waiting(&gateway, "transaction", 3.0);
    drop((newcomers, asking, saying_much));
    for mode in MANAGED {
        gateway.expect_quiet(mode);
    }
    assert!(watch.elapsed() < Duration::from_mins(5), "the limit of time did not end them");
    gateway.ends_well();
}
