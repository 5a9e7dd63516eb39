//! Ten thousand sessions of two hundred peers that come and go as they like: nothing is lost, left over or mixed up.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cast::peer::Exchange;
use cast::time::pause;
use cast::wire::Address;
use cast::{Folder, Gateway, Peer, Proxy, Random, Scripted, eventually};

const PEERS: u64 = 200;
const SESSIONS: u64 = 50;

/// What happened to the sessions.
#[derive(Default)]
struct Outcome {
    intact: AtomicU64,
    cut: AtomicU64,
    mixed_up: AtomicU64,
}

#[test]
fn ten_thousand_sessions_over_tcp_leave_nothing_behind_and_none_sees_a_byte_of_another() {
    let database = Scripted::exchanging();
    let proxy = Proxy::to(database.address()).set("pool.size", 50).set("pool.minIdle", 5);
    come_and_go(&Gateway::start(proxy), &database, 5);
}

#[test]
fn ten_thousand_sessions_over_unix_sockets_leave_nothing_behind() {
    let database = Scripted::exchanging_over_unix();
    let folder = Folder::new("churn");
    let proxy = Proxy::to(database.address()).listening_on(&Address::Unix(folder.join("peers.sock")));
    let proxy = proxy.set("pool.size", 50).set("pool.minIdle", 5);
    // Each of the two workers keeps as many clients warm.
    come_and_go(&Gateway::start(cast::Manifest::of([proxy]).set("workers", 2)), &database, 10);
}

fn come_and_go(gateway: &Gateway, database: &Scripted, idle: u32) {
    let clients = [("proxy", "db"), ("state", "idle")];
    gateway.expect_metric("postern_pool_clients", &clients, f64::from(idle));
    let files = gateway.process().open_files();
    let outcome = Outcome::default();
    std::thread::scope(|scope| {
        for number in 0..PEERS {
            let (outcome, address) = (&outcome, gateway.address());
            let thread = std::thread::Builder::new().stack_size(512 * 1024);
            thread.spawn_scoped(scope, move || live(number, &address, outcome)).unwrap();
        }
    });
    let [intact, cut, mixed_up] =
        [&outcome.intact, &outcome.cut, &outcome.mixed_up].map(|count| count.load(Ordering::Relaxed));
    assert_eq!((mixed_up, cut), (0, 0), "of {} sessions, {intact} exchanges were intact", PEERS * SESSIONS);
    gateway.expect_quiet("db");
    gateway.expect_metric("postern_pool_clients", &clients, f64::from(idle));
    gateway.expect_metric("postern_sessions_total", &[("proxy", "db")], to_f64(PEERS * SESSIONS));
    gateway.expect_metric("postern_sessions_closed_total", &[("proxy", "db")], to_f64(PEERS * SESSIONS));
    gateway.expect_metric("postern_desync_total", &[("proxy", "db")], 0.0);
    eventually("no file is left open", || gateway.process().open_files() <= files);
    eventually("the database sees only warm clients", || database.open() == idle as usize);
}

/// One peer's life: sessions that end in every way there is.
fn live(number: u64, address: &Address, outcome: &Outcome) {
    let mut random = Random::seeded(number);
    for session in 0..SESSIONS {
        let seed = number << 32 | session;
        let Ok(mut peer) = Peer::try_dial(address) else {
            outcome.cut.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        for _ in 0..random.below(4) {
            let exchange = Exchange { seed, up: random.below(20_000), down: random.below(20_000) };
            judge(peer.exchange(exchange), outcome);
        }
        leave(peer, seed, &mut random, outcome);
        if random.below(4) == 0 {
            pause(Duration::from_millis(random.below(5)));
        }
    }
}

fn leave(mut peer: Peer, seed: u64, random: &mut Random, outcome: &Outcome) {
    let question = Exchange { seed, up: 10, down: 1 + random.below(300_000) };
    match random.below(6) {
        0 => peer.reset(),
        // In the middle of an answer.
        1 => {
            if question.ask(peer.wire()).is_ok() {
                let _ = peer.wire().read(&mut [0; 100]);
            }
            peer.reset();
        }
        // With an answer on its way that nobody reads.
        2 => drop(question.ask(peer.wire())),
        // Says that it has finished, and reads to the end.
        3 => {
            let asked = question.ask(peer.wire());
            peer.finish_sending();
            judge(asked.and_then(|()| question.check(peer.wire())), outcome);
        }
        // Hangs around without a word.
        4 => pause(Duration::from_millis(random.below(20))),
        _ => {}
    }
}

fn judge(result: std::io::Result<()>, outcome: &Outcome) {
    let count = match result {
        Ok(()) => &outcome.intact,
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => &outcome.mixed_up,
        Err(_) => &outcome.cut,
    };
    count.fetch_add(1, Ordering::Relaxed);
}

fn to_f64(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}
