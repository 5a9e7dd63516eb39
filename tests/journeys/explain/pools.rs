//! Pools that lend nothing.

use serde_json::json;

use crate::stage::{App, Stage, config};
use crate::told::{hints, says};

#[test]
fn peers_that_wait_are_told_with_the_size_that_they_wait_for() {
    let stage = Stage::of("explain-pool");
    stage.apply(&config("orders", "protocol: postgres, pool: {size: 1}"));
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    let mut holder = stage.session("app");
    assert_eq!(holder.ask("select 1"), "1");
    let waiting = stage.session("app");
    let told = ["PoolTooSmall", "1 peer waits", "all 1 of its connections are lent", "raise spec.proxies[0].pool.size"];
    says(&stage, &["explain", "pod/app"], &told);
    says(&stage, &["status"], &["1/1 (1 wait)", told[0]]);

    // What mends it is live.
    stage.edit_proxy("/pool", json!({"size": 2}));
    hints(&stage, &["explain", "pod/app"], &["Nothing is wrong"]);
    drop(waiting);
}

#[test]
fn peers_of_a_pool_that_is_paused_are_told_with_what_resumes_it() {
    let stage = Stage::of("explain-paused");
    let secret = ["create", "secret", "generic", "orders-db", "--from-literal=username=postgres"];
    stage.kubectl(secret.into_iter().chain(["--from-literal=password=none-is-asked"]));
    stage.apply(&config("orders", "protocol: postgres").replace("]}", "], auth: {secretName: orders-db}}"));
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    assert_eq!(stage.ask("app", "select 1"), "1");
    let console = |command: &str| {
        let words = ["psql", "-X", "-U", "postgres", "-d", "postern", "-c", command];
        stage.exec("app", "app", words).succeeded();
    };
    console("PAUSE");
    let waiting = stage.session("app");
    says(&stage, &["explain", "pod/app"], &["PoolPaused", "1 peer waits", "it is paused", "say RESUME on its console"]);
    says(&stage, &["status"], &["(1 wait)", "PoolPaused"]);
    console("RESUME");
    hints(&stage, &["explain", "pod/app"], &["Nothing is wrong"]);
    drop(waiting);
}
