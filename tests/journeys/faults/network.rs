//! A network between the gateway and the database that loses packets, or is slow. It lies between two hosts of the test's own.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::mpsc::channel;
use std::time::Duration;

use cast::time::pause;
use cast::wire::{Address, Wire};
use cast::{Namespace, Postgres, Proxy, Scripted, Stopwatch};

use crate::sight::{Sight, counts, sights, stays_up};
use crate::stage::{MODES, Stage};

/// How long a network is bad.
const BAD: Duration = Duration::from_secs(10);
/// How long it takes no packet, where the gateway should outlast it.
const SHORT: Duration = Duration::from_secs(3);
/// How long each byte is on its way.
const DELAY: Duration = Duration::from_millis(100);

/// The gateway on one host, and the database on the other.
fn apart(more: impl Fn(Proxy) -> Proxy) -> (Stage, Namespace) {
    let (near, far) = Namespace::pair();
    let postgres = Postgres::inside(far.entering(), SocketAddr::new(far.ip(), 5432), &[]);
    (Stage::of(postgres, more, |launch| launch.on(near)), far)
}

/// Packets are lost by chance, both ways.
pub(crate) fn lost_packets() -> Vec<Sight> {
    let (stage, far) = apart(|proxy| proxy);
    far.lose_packets(5);
    pause(BAD);
    stage.goes_on();
    far.pass_packets();
    let told = MODES.map(|mode| stays_up(&stage.gateway, mode));
    sights(stage.end(Duration::ZERO), told)
}

/// No packet passes for a while.
pub(crate) fn short_hole() -> Vec<Sight> {
    let (stage, far) = apart(|proxy| proxy);
    let quiet = stage.loads.between_exchanges();
    far.lose_packets(100);
    let watch = Stopwatch::start();
    drop(quiet);
    pause(SHORT);
    far.pass_packets();
    let outage = watch.elapsed();
    stage.goes_on();
    let told = MODES.map(|mode| stays_up(&stage.gateway, mode));
    sights(stage.end(outage), told)
}

/// No packet passes for longer than the gateway allows.
pub(crate) fn long_hole() -> Vec<Sight> {
    // Who sends notices by the first, who waits for an answer by the second, and who dials by the third.
    let limits = [("client.tcpUserTimeout", "2s"), ("client.tcpKeepAlivePeriod", "2s"), ("client.dialTimeout", "1s")];
    let limit = |proxy: Proxy| limits.into_iter().fold(proxy, |proxy, (path, limit)| proxy.set(path, limit));
    let (stage, far) = apart(limit);
    let amid = stage.amid();
    let quiet = stage.loads.between_exchanges();
    far.lose_packets(100);
    let watch = Stopwatch::start();
    drop(quiet);
    let amid = amid.end(&stage.postgres);
    pause(BAD.saturating_sub(watch.elapsed()));
    let told = MODES.map(|mode| {
        let dials = counts(&stage.gateway, mode, "postern_dial_attempts_total", Some(("result", "timeout")));
        [counts(&stage.gateway, mode, "postern_outage_seconds", None), dials].join(", ")
    });
    far.pass_packets();
    let outage = watch.elapsed();
    stage.goes_on();
    let [transaction, opaque] = stage.end(outage);
    sights([format!("{transaction}; {amid}"), opaque], told)
}

/// Every byte takes its time.
pub(crate) fn delay() -> Vec<Sight> {
    let postgres = Postgres::start();
    let database = postgres.address();
    let relay = Scripted::tcp(move |peer| delay_both_ways(peer, &database));
    let far = relay.address().clone();
    let stage = Stage::of(postgres, |proxy| proxy.set("client.addresses", vec![far.to_string()]), |launch| launch);
    pause(SHORT);
    stage.goes_on();
    let told = MODES.map(|mode| {
        let of = |part: &str| stage.gateway.metric(&format!("postern_dial_seconds_{part}"), &[("proxy", mode)]);
        // A login needs some exchanges, and a connection without one is there at once.
        assert!(mode == "opaque" || of("sum") > of("count") * 2.0 * DELAY.as_secs_f64(), "{mode}: dials are slow");
        if mode == "opaque" {
            stays_up(&stage.gateway, mode)
        } else {
            "`postern_dial_seconds`, `postern_query_seconds`".to_owned()
        }
    });
    sights(stage.end(Duration::ZERO), told)
}

/// Passes on each byte between `peer` and `database` a while after it came.
fn delay_both_ways(peer: Wire, database: &Address) {
    let Ok(server) = Wire::dial(database) else { return };
    let (Ok(reads), Ok(writes)) = (peer.second(), server.second()) else { return };
    let up = std::thread::spawn(move || delayed(reads, writes));
    delayed(server, peer);
    // It ends with the connection.
    let _ = up.join();
}

fn delayed(mut from: Wire, mut to: Wire) {
    let (sender, receiver) = channel::<(Stopwatch, Vec<u8>)>();
    let writer = std::thread::spawn(move || {
        for (since, bytes) in receiver {
            pause(DELAY.saturating_sub(since.elapsed()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        // Whoever has gone needs not be told.
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if sender.send((Stopwatch::start(), bytes[..length].to_vec())).is_err() {
            break;
        }
    }
    drop(sender);
    // It has said all that it can.
    let _ = writer.join();
}
