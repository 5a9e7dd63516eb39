//! Disks and file descriptors that run out.

use std::time::Duration;

use cast::process::run;
use cast::time::pause;
use cast::wire::Address;
use cast::{Disk, Frontend, Peer, Postgres, Proxy, Stopwatch, eventually};

use crate::load::failure_of;
use crate::sight::{Sight, counts, logs, sights};
use crate::stage::{MODES, Stage};

/// How long a lack lasts.
const LACK: Duration = Duration::from_secs(3);

/// No room for the rows of the database.
pub(crate) fn full_disk_of_the_database() -> Vec<Sight> {
    let stage = Stage::plain();
    let disk = Disk::of_kilobytes(256);
    run(std::process::Command::new("chown").arg("postgres").arg(&*disk));
    stage.postgres.query(&format!("create tablespace small location '{}'", disk.display()));
    stage.postgres.query("alter table tokens set tablespace small");
    let ballast = disk.fill();
    let watch = Stopwatch::start();
    eventually("the rows have no room left", || {
        stage.postgres.log().iter().any(|line| line.contains("No space left on device"))
    });
    pause(LACK.saturating_sub(watch.elapsed()));
    drop(ballast);
    stage.goes_on();
    let told = MODES.map(|_| "the database's own log".to_owned());
    stage.postgres.query("alter table tokens set tablespace pg_default");
    stage.postgres.query("drop tablespace small");
    sights(stage.end(Duration::ZERO), told)
}

/// What a gateway says that finds no room for its socket.
const NO_SPACE: &str = "no space is left on that file system";

/// No room where the gateway's sockets lie.
pub(crate) fn full_disk_of_the_sockets() -> Vec<Sight> {
    let disk = Disk::of_kilobytes(64);
    let stage = Stage::plain();
    let at = |name: &str| Address::Unix(disk.join(name));
    let _ballast = disk.fill();
    let proxy = Proxy::to(&stage.postgres.address()).listening_on(&at("late"));
    let ended = cast::Gateway::with(proxy).end();
    assert_eq!(ended.status.code(), Some(1), "{:?}", ended.lines);
    let says = ended.lines.iter().any(|line| line.contains("late") && line.contains(NO_SPACE));
    assert!(says, "{:?}", ended.lines);
    sights(stage.end(Duration::ZERO), MODES.map(|_| format!("exit status 1, `... {NO_SPACE} ...`")))
}

/// More peers than there are file descriptors for.
pub(crate) fn no_descriptors() -> Vec<Sight> {
    let stage = Stage::of(Postgres::start(), |proxy| proxy, |launch| launch.limited_to_open_files(64));
    let dial = |mode| Peer::try_dial(&stage.gateway.address_of(mode)).ok();
    let crowd: Vec<_> = MODES.iter().flat_map(|mode| (0..100).filter_map(|_| dial(mode))).collect();
    let told = MODES.map(|mode| {
        let reason = Some(("reason", "file_descriptors"));
        let newcomer = newcomer(&stage.gateway.address_of(mode));
        let counted = counts(&stage.gateway, mode, "postern_sessions_refused_total", reason);
        (newcomer, [counted, logs(&stage.gateway, mode, "Peer refused: no file descriptor is left")].join(", "))
    });
    pause(LACK);
    drop(crowd);
    stage.goes_on();
    for mode in MODES {
        eventually("newcomers are served", || newcomer(&stage.gateway.address_of(mode)).is_none());
    }
    let seen = stage.end(Duration::ZERO);
    let [(one, first), (other, second)] = told;
    let newcomers = [one, other].map(|told| told.unwrap_or_else(|| "served".to_owned()));
    let seen = seen.into_iter().zip(newcomers).map(|(seen, newcomer)| format!("{seen}; newcomers: `{newcomer}`"));
    sights(seen.collect::<Vec<_>>().try_into().unwrap(), [first, second])
}

/// How somebody who logs in now fails.
fn newcomer(address: &Address) -> Option<String> {
    let mut peer = Frontend::try_dial(address).ok()?;
    peer.send(&cast::frontend::startup(cast::frontend::V3_0, &[("user", "postgres"), ("database", "postgres")]));
    failure_of(&peer.until_ready(1))
}
