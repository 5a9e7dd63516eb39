//! The resource is edited, and running pods follow without a restart.

use cast::time::eventually;
use serde_json::{Value, json};

use crate::stage::{App, Stage, container, sidecar};

#[test]
fn every_running_sidecar_takes_an_edit_over_and_no_session_ends() {
    let stage = Stage::of("edits");
    stage.configure("");
    stage.apply(&App::waiting("app").deployment(2));
    stage.wait_for("deployment/app", "condition=Available");
    stage.acknowledged(2);
    let pod = stage.pod_of("app");
    let mut session = stage.session(&pod);
    let before = session.ask("select pg_backend_pid()");

    stage.edit_proxy("/client/backoff", "2s");
    stage.acknowledged(2);
    stage.edit_proxy("/pool", json!({"size": 20}));
    stage.acknowledged(2);
    stage.edit(&json!({"log": {"level": "debug"}}));
    stage.acknowledged(2);
    stage.edit_proxy("/client/addresses", json!([stage.postgres.address().to_string()]));
    stage.acknowledged(2);

    assert_eq!(session.ask("select pg_backend_pid()"), before, "the session is the same");
    assert_eq!(stage.ask(&pod, "select 1"), "1");
    assert_eq!(sidecar(&stage.get(&format!("pod {pod}")))["restartCount"], 0);
    let served: Value = serde_json::from_str(&stage.admin(&pod, "/config")).expect("it answers JSON");
    assert_eq!(served["hash"], stage.get("gatewayconfig orders")["status"]["configHash"]);
    assert!(stage.logs(&pod, "postern-gateway").contains("\"level\":\"DEBUG\""), "the level is in force");
}

#[test]
fn the_api_server_refuses_what_cannot_be_valid() {
    let stage = Stage::of("refuses");
    let refused = stage.try_apply(&crate::stage::config("orders", "pool: {size: 1, minIdle: 2}"));
    assert!(!refused.ok && refused.err.contains("spec.proxies[0].pool"), "{}", refused.err);
}

#[test]
fn what_only_a_pods_gateway_can_refuse_is_in_the_status_with_its_sentence_and_the_pods_name() {
    let stage = Stage::of("refused");
    stage.configure("");
    let busy = container("busy", "trap 'exit 0' TERM; httpd -f -p 127.0.0.1:7777 & wait");
    let app = App::waiting("app").with("containers", json!([container("app", "sleep 3600"), busy]));
    stage.apply(&app.pod());
    stage.wait_for("pod/app", "condition=Ready");
    stage.acknowledged(1);

    let second =
        json!({"name": "second", "server": {"address": "127.0.0.1:7777"}, "client": {"addresses": ["db:5432"]}});
    stage.edit_proxy("/client/backoff", "3s");
    let patch = json!([{"op": "add", "path": "/spec/proxies/-", "value": second}]).to_string();
    stage.kubectl(["patch", "gatewayconfig", "orders", "--type=json", "-p", &patch]);
    let sentence = stage.says("Degraded", "True");
    assert!(sentence.contains("app") && sentence.contains("127.0.0.1:7777"), "{sentence}");
    let status = stage.get("gatewayconfig orders")["status"].clone();
    assert_eq!(status["failing"][0]["name"], "app", "{status:#}");
    assert_eq!(stage.ask("app", "select 1"), "1", "the last good configuration serves");

    stage.kubectl([
        "patch",
        "gatewayconfig",
        "orders",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/spec/proxies/1"}]"#,
    ]);
    stage.acknowledged(1);
    stage.says("Degraded", "False");
}

#[test]
fn a_pods_own_log_level_is_live() {
    let stage = Stage::of("level");
    stage.configure("");
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    stage.kubectl(["annotate", "pod", "app", "postern.dev/log-level=debug"]);
    eventually("the gateway logs at its pod's level", || {
        stage.ask("app", "select 1");
        stage.logs("app", "postern-gateway").contains("\"level\":\"DEBUG\"")
    });
}
