//! The pictures of the documentation, of real situations: `POSTERN_WRITE_SCREENSHOTS=1` stores them, and without it they are
//! taken all the same, so that they can always be taken.

use std::fs;
use std::time::Duration;

use cast::process::{Process, owned};
use cast::time::within;
use cast::{Proxy, workspace};

use crate::stage::Stage;

/// Where they are stored.
const FOLDER: &str = "gateway/page";
/// Of one picture, in bytes: whoever clones the repository fetches all of them.
const MOST_BYTES: usize = 150 * 1024;
/// How long the page has looked before: its charts then show how it came to this.
const LOOKED: f64 = 60.0;
/// How long a situation may take to come about.
const PATIENCE: Duration = Duration::from_mins(3);

const WIDE: (u32, u32) = (1280, 860);
const NARROW: (u32, u32) = (360, 800);

/// An application of so many peers, which asks `queries` a second.
#[track_caller]
fn load(stage: &Stage, script: &str, peers: u32, queries: u32) -> Process {
    let file = stage.folder.join(format!("{peers}.sql"));
    fs::write(&file, script).unwrap();
    let asked = stage.postgres.pgbench_at(&stage.gateway.address_of("orders"));
    let mut command = owned(asked.get_program());
    command.args(asked.get_args()).args(["--no-vacuum", "--time=600"]).env("PGAPPNAME", "orders-web");
    command.args([&format!("--client={peers}"), &format!("--rate={queries}"), "--file"]).arg(file);
    Process::start("pgbench", &mut command)
}

/// Waits until the page has looked for long enough for its charts.
#[track_caller]
fn look_on(stage: &Stage) {
    let seconds = || {
        stage.browser.run("return performance.now() / 1000").as_f64() >= Some(if is_stored() { LOOKED } else { 5.0 })
    };
    within(PATIENCE, "the page has looked on", seconds);
}

fn is_stored() -> bool {
    std::env::var_os("POSTERN_WRITE_SCREENSHOTS").is_some()
}

#[track_caller]
fn take(stage: &Stage, name: &str, size: (u32, u32), scheme: &str) {
    stage.browser.look(size, scheme);
    stage.browser.run("scrollTo(0, 0)");
    // Colours change gradually, which no condition tells.
    cast::time::pause(Duration::from_secs(1));
    let picture = stage.browser.picture();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() < MOST_BYTES, "{name} has {} bytes", picture.len());
    if is_stored() {
        let folder = workspace::root().join(FOLDER);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }
}

#[test]
fn pictures_of_a_good_day_and_of_a_database_that_is_away() {
    let proxy = |proxy: Proxy| proxy.set("pool.size", 10).set("client.retries", 4);
    let mut stage = Stage::set(proxy);
    let _peers = load(&stage, "begin; select pg_sleep(random() * 0.04); select 1; commit;\n", 12, 60);
    stage.browser.expect("#proxies .facts", "/s");
    look_on(&stage);
    take(&stage, "well", WIDE, "light");
    take(&stage, "dark", WIDE, "dark");
    take(&stage, "narrow", NARROW, "light");
    stage.browser.look(WIDE, "light");
    stage.postgres.stop();
    stage.browser.expect("#proxies .when", "dial 4 of 5");
    within(PATIENCE, "the wait is half over", || {
        let mark = stage.browser.run("return parseFloat(document.querySelector('.track b:not([hidden])')?.style.left)");
        mark.as_f64().is_some_and(|percent| percent > 40.0)
    });
    take(&stage, "away", WIDE, "light");
}

#[test]
fn a_picture_of_a_pool_that_is_too_small() {
    let stage = Stage::set(|proxy| proxy.set("pool.size", 4));
    let usual = load(&stage, "select pg_sleep(0.03);\n", 6, 60);
    look_on(&stage);
    let _slow = load(&stage, "select pg_sleep(600);\n", 4, 1000);
    stage.browser.expect("#verdict", "Raise pool.size");
    within(PATIENCE, "they have waited for some seconds", || {
        stage.browser.text("#proxies .queue").contains("longest for 8")
    });
    take(&stage, "full", WIDE, "light");
    drop(usual);
}
