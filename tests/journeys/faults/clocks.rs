//! Clocks that jump. The gateway's own, never the machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cast::gateway::Launch;
use cast::process::run;
use cast::time::pause;
use cast::{Folder, Postgres, workspace};

use crate::NO_ERROR;
use crate::sight::{Sight, sights};
use crate::stage::{MODES, Stage};

/// How long the gateway lives with each time.
const WHILE: Duration = Duration::from_secs(2);

/// The time of day jumps, forward and back.
pub(crate) fn time_of_day() -> Vec<Sight> {
    let folder = Folder::new("clock");
    let clock = folder.join("clock");
    set(&clock, "+0");
    let program = dynamic_gateway();
    let mut stage =
        Stage::of(Postgres::start(), |proxy| proxy, |launch| behind_a_clock(launch, &clock).built_as(program));
    for (generation, time) in (2..).zip(["+1h", "-1d", "+10y", "+0"]) {
        set(&clock, time);
        pause(WHILE);
        stage.goes_on();
        // What waits for a file to stay the same waits no longer than before.
        stage.edit(generation);
        stage.gateway.reaches_generation(generation);
    }
    let years = stage
        .gateway
        .log()
        .iter()
        .filter_map(|record| record["timestamp"].as_str().map(|time| time[..4].to_owned()))
        .collect::<std::collections::BTreeSet<_>>();
    assert!(years.len() >= 2, "the gateway's clock did not jump: {years:?}");
    sights(stage.end(Duration::ZERO), MODES.map(|_| "the log's timestamps".to_owned()))
}

/// The machine's clock has just begun, and is years old.
pub(crate) fn uptime() -> Vec<Sight> {
    let up = fs::read_to_string("/proc/uptime").unwrap();
    let up: i64 = up.split('.').next().unwrap().parse().unwrap();
    let mut seen = Vec::new();
    for offset in [1 - up, 50 * 365 * 86_400] {
        let offset = offset.to_string();
        let command = ["unshare", "--time", "--monotonic", &offset, "--boottime", &offset, "--"];
        let stage = Stage::of(Postgres::start(), |proxy| proxy, |launch| launch.behind(&command));
        pause(WHILE);
        seen.push(stage.end(Duration::ZERO));
    }
    let is_unseen = |seen: &String| seen.starts_with(NO_ERROR[0]);
    assert!(seen.iter().flatten().all(is_unseen), "the age of the machine makes a difference: {seen:?}");
    sights(seen.remove(0), MODES.map(|_| "nothing".to_owned()))
}

/// `launch` with a clock that the file sets.
fn behind_a_clock(launch: Launch, clock: &Path) -> Launch {
    let library = format!("LD_PRELOAD={}", faketime().display());
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", clock.display());
    launch.behind(&["env", &library, &file, "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"])
}

fn set(clock: &Path, time: &str) {
    fs::write(clock, format!("{time}\n")).unwrap();
}

/// Where the library is that tells another time.
fn faketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten();
    let mut files = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    files.find(|file| file.is_file()).expect("faketime is installed; `cargo verify -- faults` installs it")
}

/// A build of the gateway that takes the time from a library; the static one asks the kernel itself.
fn dynamic_gateway() -> PathBuf {
    run(workspace::cargo().args(["build", "--quiet", "--package", "gateway", "--bin", "gateway"]));
    workspace::target().join("debug/gateway")
}
