//! PAUSE and RESUME: the database can be taken away and brought back, and nobody sees an error.

use std::process::Stdio;
use std::time::Duration;

use cast::frontend::{cancel_request, query, transcript};
use cast::time::{comes_true, pause};
use cast::{Frontend, Stopwatch, eventually};

use crate::stage::Stage;

/// For how long nothing must happen.
const A_WHILE: Duration = Duration::from_secs(1);

#[test]
fn a_database_is_restarted_under_load_while_the_pool_is_paused_and_nobody_sees_an_error() {
    let mut stage = Stage::of("transaction", |proxy| proxy.set("pool.size", 4));
    let init = ["-i", "-s", "1", "--quiet"];
    cast::process::run(stage.postgres.pgbench_at(&stage.postgres.socket()).args(init));
    let mut pgbench = stage.postgres.pgbench_at(&stage.address());
    pgbench.args(["-c", "8", "-T", "8", "-n", "--max-tries=1"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let pgbench = pgbench.spawn().unwrap();
    let transactions = |stage: &Stage| stage.gateway.metric("postern_transactions_total", &[]);
    eventually("pgbench is at work", || transactions(&stage) > 50.0);
    assert_eq!(stage.console("PAUSE"), "");
    let paused = stage.told("it is paused", |proxy| proxy["pool"]["paused"] == true);
    assert_eq!(
        (&paused["pool"]["lent"], &paused["pool"]["idle"]),
        (&0.into(), &0.into()),
        "PAUSE returns when none is lent"
    );
    let ours = "select count(*) from pg_stat_activity where client_addr is not null";
    eventually("the database has none of our connections", || stage.postgres.query(ours) == "0");
    let before = transactions(&stage);
    assert!(stage.refusal("PAUSE").contains("55000"));
    assert_eq!(stage.console("SHOW STATE"), "active|no\npaused|yes\nsuspended|no");
    stage.postgres.stop();
    pause(A_WHILE);
    stage.postgres.start_again();
    assert!((transactions(&stage) - before).abs() < f64::EPSILON, "nothing was lent meanwhile");
    assert!(stage.told("they wait", |proxy| proxy["pool"]["waiting"] == 8)["database"]["state"] != "away");
    assert_eq!(stage.console("RESUME"), "");
    assert!(stage.refusal("RESUME").contains("55000"));
    let ended = pgbench.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert!(ended.status.success() && said.contains("number of failed transactions: 0 "), "{said}");
    assert!(transactions(&stage) > before, "{said}");
}

#[test]
fn a_pause_waits_for_the_last_transaction_and_for_nobody_elses_proxy() {
    let stage = Stage::of("transaction", |proxy| proxy);
    let mut peer = stage.peer();
    peer.ask("begin");
    let (mut talk, _) = stage.talk();
    talk.send(&query("PAUSE db"));
    stage.told("it is paused", |proxy| proxy["pool"]["paused"] == true);
    assert!(peer.ask("select 'still here'").contains("still here"), "a transaction goes on");
    let mut other = stage.peer_that_waits();
    peer.ask("commit");
    assert!(transcript(&talk.until_ready(1)).contains("PAUSE"));
    assert_eq!(stage.console("RESUME db"), "");
    assert!(transcript(&other.until_ready(1)).contains('Z'));
    assert!(stage.refusal("PAUSE nobody").contains("3D000"));
}

#[test]
fn whoever_cancels_a_pause_or_leaves_before_it_is_one_resumes() {
    let stage = Stage::of("transaction", |proxy| proxy);
    let mut peer = stage.peer();
    peer.ask("begin");
    let is_paused = |is: bool| move |proxy: &serde_json::Value| proxy["pool"]["paused"] == is;
    let (mut talk, key) = stage.talk();
    talk.send(&query("PAUSE"));
    stage.told("it is paused", is_paused(true));
    let mut canceller = Frontend::dial(&stage.address());
    canceller.send(&cancel_request(&key));
    assert!(canceller.until_end().is_empty());
    assert!(transcript(&talk.until_ready(1)).contains("57014"));
    stage.told("it is resumed", is_paused(false));
    talk.send(&query("PAUSE"));
    stage.told("it is paused", is_paused(true));
    drop(talk);
    stage.told("it is resumed", is_paused(false));
    assert!(peer.ask("commit").contains("COMMIT"));
}

#[test]
fn whoever_waits_for_a_pool_that_is_paused_waits_no_longer_than_ever() {
    let stage = Stage::of("transaction", |proxy| proxy.set("pool.acquireTimeout", "500ms"));
    let mut peer = stage.peer();
    assert_eq!(stage.console("PAUSE"), "");
    let watch = Stopwatch::start();
    let said = peer.ask("select 1");
    assert!(said.contains("57P03") && said.contains("paused"), "{said}");
    assert!(watch.elapsed() >= Duration::from_millis(500), "{:?}", watch.elapsed());
    let before = stage.gateway.cpu_time();
    pause(A_WHILE);
    let used = stage.gateway.cpu_time().saturating_sub(before);
    assert!(used < A_WHILE / 20, "{used:?} of processor time while nothing happens");
    stage.console("RESUME");
    assert!(comes_true(Duration::from_secs(20), || stage.peer().ask("select 1").contains("SELECT 1")));
}

impl Stage {
    /// A session that was there before the pool was paused cannot be had any more; one that logs in waits.
    #[track_caller]
    fn peer_that_waits(&self) -> Frontend {
        let mut peer = Frontend::dial(&self.address());
        peer.send(&cast::frontend::startup(cast::frontend::V3_0, &[("user", "postgres"), ("database", "postgres")]));
        self.told("one waits", |proxy| proxy["pool"]["waiting"] == 1);
        peer
    }
}
