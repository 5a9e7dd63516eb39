//! Processes that are killed, or stopped where they are.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cast::time::pause;
use cast::{Gateway, Stopwatch};
use rustix::process::Signal;

use crate::sight::{Sight, counts, logs, sights};
use crate::stage::{MODES, Stage};

/// How long each outage lasts.
const OUTAGE: Duration = Duration::from_secs(3);

/// The database is killed, and started again.
pub(crate) fn killed_database() -> Vec<Sight> {
    let mut stage = Stage::plain();
    let amid = stage.amid();
    let quiet = stage.loads.between_exchanges();
    // Nobody is left who could say goodbye.
    let frozen = stage.postgres.freeze();
    stage.postgres.kill_all();
    let watch = Stopwatch::start();
    drop((frozen, quiet));
    let amid = amid.end(&stage.postgres);
    pause(OUTAGE);
    let told = MODES.map(|mode| {
        let outage = counts(&stage.gateway, mode, "postern_outage_seconds", None);
        [outage, logs(&stage.gateway, mode, "The database is away; reconnecting")].join(", ")
    });
    stage.postgres.start_again();
    let outage = watch.elapsed();
    stage.goes_on();
    let [transaction, opaque] = stage.end(outage);
    sights([format!("{transaction}; {amid}"), opaque], told)
}

/// The database hangs and goes on, and nothing limits that.
pub(crate) fn frozen_database() -> Vec<Sight> {
    let stage = Stage::with(|proxy| proxy.set("client.receiveTimeout", "1s"));
    let amid = stage.amid();
    let quiet = stage.loads.between_exchanges();
    let frozen = stage.postgres.freeze();
    let watch = Stopwatch::start();
    drop(quiet);
    pause(OUTAGE);
    let told = MODES.map(|mode| {
        let counted = counts(&stage.gateway, mode, "postern_receive_timeouts_total", None);
        [counted, logs(&stage.gateway, mode, "The database has not answered within receiveTimeout")].join(", ")
    });
    drop(frozen);
    let outage = watch.elapsed();
    let amid = amid.end(&stage.postgres);
    stage.goes_on();
    let [transaction, opaque] = stage.end(outage);
    sights([format!("{transaction}; {amid}"), opaque], told)
}

/// The database hangs for longer than `receiveDeadline`.
pub(crate) fn frozen_database_with_a_deadline() -> Vec<Sight> {
    let stage = Stage::with(|proxy| proxy.set("client.receiveDeadline", "1s"));
    let quiet = stage.loads.between_exchanges();
    let frozen = stage.postgres.freeze();
    let watch = Stopwatch::start();
    drop(quiet);
    let reason = Some(("reason", "receive_deadline"));
    let told = MODES.map(|mode| counts(&stage.gateway, mode, "postern_sessions_closed_total", reason));
    pause(OUTAGE.saturating_sub(watch.elapsed()));
    drop(frozen);
    let outage = watch.elapsed();
    stage.goes_on();
    sights(stage.end(outage), told)
}

/// The gateway hangs and goes on.
pub(crate) fn frozen_gateway() -> Vec<Sight> {
    let stage = Stage::plain();
    let amid = stage.amid();
    let quiet = stage.loads.between_exchanges();
    stage.gateway.process().signal(Signal::STOP);
    let watch = Stopwatch::start();
    drop(quiet);
    pause(OUTAGE);
    assert!(!answers(&stage.gateway), "/livez of a gateway that hangs");
    stage.gateway.process().signal(Signal::CONT);
    let outage = watch.elapsed();
    assert!(answers(&stage.gateway), "/livez of a gateway that goes on");
    let amid = amid.end(&stage.postgres);
    stage.goes_on();
    let [transaction, opaque] = stage.end(outage);
    sights([format!("{transaction}; {amid}"), opaque], MODES.map(|_| "`/livez` does not answer".to_owned()))
}

/// Whether its liveness probe answers within what a kubelet allows.
fn answers(gateway: &Gateway) -> bool {
    let mut stream = TcpStream::connect(gateway.admin()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n").unwrap();
    stream.read(&mut [0; 1]).is_ok_and(|read| read == 1)
}

/// The gateway is killed, and another one takes its place.
pub(crate) fn killed_gateway() -> Vec<Sight> {
    let mut stage = Stage::plain();
    let amid = stage.amid();
    let quiet = stage.loads.between_exchanges();
    stage.gateway.process().signal(Signal::KILL);
    let watch = Stopwatch::start();
    drop(quiet);
    let amid = amid.end(&stage.postgres);
    pause(OUTAGE);
    // The sockets of the one before are still in their folder.
    let next = stage.another().start();
    let outage = watch.elapsed();
    drop(std::mem::replace(&mut stage.gateway, next));
    stage.goes_on();
    let started = counts(&stage.gateway, "", "process_start_time_seconds", None);
    let [transaction, opaque] = stage.end(outage);
    sights([format!("{transaction}; {amid}"), opaque], MODES.map(|_| format!("{started}, the container's restarts")))
}
