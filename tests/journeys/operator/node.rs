//! The node under the pods: containers die, the kubelet restarts.

use cast::cluster::{Cluster, Component};
use cast::time::{eventually, within};
use serde_json::json;

use crate::stage::{App, PATIENCE, Stage, install, sidecar};

#[test]
fn a_sidecar_that_dies_comes_back_with_its_configuration() {
    let stage = Stage::of("dies");
    stage.configure("");
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    stage.acknowledged(1);
    crate::stage::cluster().node().end_container(&stage, "app", "postern-gateway");
    eventually("the sidecar runs again", || {
        let pod = stage.get("pod app");
        sidecar(&pod)["restartCount"] == 1 && sidecar(&pod)["ready"] == true
    });
    assert_eq!(stage.ask("app", "select 1"), "1");
    stage.acknowledged(1);
}

#[test]
fn a_sidecar_that_dies_after_an_edit_of_its_admin_address_is_ready_and_acknowledges_as_before() {
    let stage = Stage::of("admin");
    stage.configure("");
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    stage.edit(&json!({"admin": {"address": "[::]:19200"}}));
    let sentence = stage.says("RestartRequired", "True");
    assert!(
        sentence.contains("spec.admin.address: [::]:19200 needs a restart; until then it is [::]:19187"),
        "{sentence}"
    );
    stage.acknowledged(1);
    crate::stage::cluster().node().end_container(&stage, "app", "postern-gateway");
    eventually("the sidecar runs again", || {
        let pod = stage.get("pod app");
        sidecar(&pod)["restartCount"] == 1 && sidecar(&pod)["ready"] == true
    });
    stage.edit_proxy("/client/backoff", "2s");
    stage.acknowledged(1);
    assert_eq!(stage.says("RestartRequired", "True"), sentence);

    stage.apply(&App::waiting("later").pod());
    stage.wait_for("pod/later", "condition=Ready");
    stage.acknowledged(2);
    assert!(stage.http_get("later", "19200", "/readyz").ok, "a new pod has the new port");
}

#[test]
fn a_kubelet_that_restarts_and_a_node_that_restarts_bring_pods_back() {
    let cluster = Cluster::fresh();
    install(&cluster);
    let stage = Stage::on(&cluster, "node");
    stage.configure("");
    // One session that asks all the time who answers. It writes to the container's log, because what is executed in a
    // container from outside goes through the kubelet.
    let ask = "while sleep 0.1; do echo 'select pg_backend_pid();'; done | psql -XAtq -U postgres";
    stage.apply(&App::running("app", ask).deployment(1));
    stage.wait_for("deployment/app", "condition=Available");
    let pod = stage.pod_of("app");
    eventually("the session is asked", || answers(&stage, &pod).len() > 2);
    let node = cluster.node();
    node.stop(Component::Kubelet);
    let before = last_asked(&stage);
    eventually("nobody needs the kubelet to talk", || last_asked(&stage) != before);
    node.start(Component::Kubelet);
    stage.edit_proxy("/client/backoff", "2s");
    stage.acknowledged(1);
    let mut backends = answers(&stage, &pod);
    backends.dedup();
    assert_eq!(backends.len(), 1, "one session all the time: {backends:?}");

    node.restart();
    within(PATIENCE, "the pod is back with its sidecar", || {
        let pod = stage.get(&format!("pod {pod}"));
        sidecar(&pod)["restartCount"] == 1 && sidecar(&pod)["ready"] == true
    });
    stage.acknowledged(1);
    eventually("its application asks again", || answers(&stage, &pod).last() != backends.last());
}

/// What the application in `pod` was answered since its container began.
fn answers(stage: &Stage, pod: &str) -> Vec<String> {
    stage.try_kubectl(["logs", pod, "-c", "app"]).out.lines().map(str::to_owned).collect()
}

/// When the database was last asked by an application.
fn last_asked(stage: &Stage) -> String {
    let others = "pid <> pg_backend_pid() and query like 'select pg_backend_pid%'";
    stage.postgres.query(&format!("select max(query_start) from pg_stat_activity where {others}"))
}
