//! One peer's bytes never reach another: many peers on few clients, each exchange with a token that must come back, and no
//! other, while peers leave in the middle of everything, cancel and are silent, backends are terminated, connections are
//! reset, and the database restarts.

use cast::time::Stopwatch;
use cast::{Manifest, Postgres, Random};

use crate::modes::{self, MANAGED};

mod bridge;
mod faults;
mod pipeline;
mod talker;

use bridge::Bridge;
use faults::Faults;
use talker::{Talker, Tally};

const PEERS: u64 = 64;
const CLIENTS: u32 = 8;
/// Exchanges that must be answered in transaction pooling, unless `POSTERN_TEST_EXCHANGES` says otherwise.
const EXCHANGES: u64 = 20_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_answer_reaches_the_peer_that_asked_and_nobody_else() {
    let exchanges = variable("POSTERN_TEST_EXCHANGES").unwrap_or(EXCHANGES);
    let seed = variable("POSTERN_TEST_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 0x9e37_79b9 + 1);
    eprintln!("POSTERN_TEST_SEED={seed} POSTERN_TEST_EXCHANGES={exchanges}");
    let mut postgres = Postgres::start();
    postgres.query("create table crosstalk (one text, other text)");
    let bridge = Bridge::to(&postgres.address());
    let secrets = modes::secrets();
    let proxies = MANAGED.map(|mode| {
        let proxy = modes::proxy(mode, &bridge.address()).set("pool.size", CLIENTS).set("pool.acquireTimeout", "5s");
        proxy.set("pool.idleTransactionTimeout", "300ms").set("client.backoff", "100ms")
    });
    let gateway = modes::start(Manifest::of(proxies), &secrets);
    // A session keeps its client from others, and a peer that leaves in the middle costs it, so that takes longer.
    for (mode, exchanges) in MANAGED.into_iter().zip([exchanges.min(EXCHANGES) / 5, exchanges]) {
        let address = gateway.address_of(mode);
        let (watch, tally) = (Stopwatch::start(), Tally::default());
        let mut faults = Faults::new(seed);
        std::thread::scope(|scope| {
            let (address, tally) = (&address, &tally);
            let peers: Vec<_> = (1..=PEERS)
                .map(|number| {
                    let random = Random::seeded(seed.wrapping_mul(PEERS).wrapping_add(number));
                    let talk = move || {
                        let mut talker = Talker::new(address, tally, random);
                        talker.stays = mode == "transaction";
                        // Every other one never cancels, so that what it never asked for must not happen to it.
                        talker.cancels = number.is_multiple_of(2);
                        talker.talk(exchanges.div_ceil(PEERS));
                    };
                    scope.spawn(talk)
                })
                .collect();
            while peers.iter().any(|peer| !peer.is_finished()) {
                faults.one_more(&mut postgres, &bridge);
            }
            let ended: Vec<_> = peers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            assert!(ended.iter().all(Result::is_ok), "{mode}: a peer has failed; POSTERN_TEST_SEED={seed}");
        });
        eprintln!("{mode}: {tally}; {faults}; {:.1} s", watch.elapsed().as_secs_f64());
        gateway.expect_quiet(mode);
        gateway.expect_metric("postern_desync_total", &[("proxy", mode)], 0.0);
    }
    assert_eq!(postgres.query("select count(*) from crosstalk where one <> other"), "0");
    gateway.ends_well();
}
