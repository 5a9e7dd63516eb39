//! The Secrets that a configuration names: rotated, deleted, and exchanged for another, under a running pod.

use std::time::Duration;

use cast::time::within;
use serde_json::json;

use crate::stage::{App, Stage, sidecar};

/// A configuration with a login of the gateway's own, and a pod that uses it.
fn with_login(journey: &str) -> Stage {
    let stage = Stage::of(journey);
    stage.postgres.query("create role app login password 'first'");
    let file = stage.postgres.query("show hba_file");
    let rules = "local all all trust\\nhost all app all scram-sha-256\\nhost all all all trust";
    stage.postgres.query(&format!("copy (select E'{rules}') to program 'printf \"%b\" \"$(cat)\" > {file}'"));
    stage.postgres.query("select pg_reload_conf()");
    let words = ["create", "secret", "generic", "orders-db", "--from-literal=username=app"];
    stage.kubectl(words.into_iter().chain(["--from-literal=password=first"]));
    stage.apply(
        "apiVersion: postern.dev/v1alpha1\nkind: GatewayConfig\nmetadata: {name: orders}\nspec:\n  proxies:\n  \
         - {name: orders, protocol: postgres, pool: {mode: transaction, size: 2}, client: {addresses: [\"db:5432\"], \
         auth: {secretName: orders-db, database: postgres}}}\n",
    );
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    stage.acknowledged(1);
    stage
}

/// Asks as the user of the Secret; nothing when it is refused.
fn asks(stage: &Stage) -> Option<String> {
    let answer =
        stage.exec("app", "app", ["psql", "-XAtq", "-U", "app", "-d", "postgres", "-c", "select current_user"]);
    answer.ok.then(|| answer.out.trim().to_owned())
}

#[test]
fn a_rotated_secret_is_used_by_new_connections_within_90_s_and_a_deleted_one_stays_mounted() {
    let stage = with_login("rotation");
    assert_eq!(asks(&stage).as_deref(), Some("app"), "nobody has told the application a password");

    stage.postgres.query("alter role app password 'second'");
    let second = json!({"stringData": {"password": "second"}}).to_string();
    stage.kubectl(["patch", "secret", "orders-db", "-p", &second]);
    within(Duration::from_secs(90), "a new connection uses the new password", || {
        stage.postgres.query("select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'app'");
        asks(&stage).is_some()
    });

    stage.kubectl(["delete", "secret", "orders-db"]);
    stage.edit_proxy("/client/backoff", "2s");
    stage.acknowledged(1);
    stage.postgres.query("select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'app'");
    within(Duration::from_secs(30), "the mounted Secret still serves", || asks(&stage).is_some());
    assert_eq!(sidecar(&stage.get("pod app"))["restartCount"], 0);
}

#[test]
fn another_secret_needs_a_restart_and_the_last_good_configuration_serves_until_then() {
    let stage = with_login("renamed-secret");
    stage.edit_proxy("/client/auth/secretName", "other");
    let sentence = stage.says("RestartRequired", "True");
    assert!(sentence.contains("other"), "{sentence}");
    assert_eq!(asks(&stage).as_deref(), Some("app"), "the last good configuration serves");
    assert_eq!(sidecar(&stage.get("pod app"))["restartCount"], 0);
}
