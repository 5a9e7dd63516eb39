//! The node under the pods: containers die, the kubelet restarts.

use cast::cluster::{Cluster, Component};
use cast::time::eventually;

use crate::stage::{App, Stage, install, sidecar};

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
fn a_kubelet_that_restarts_and_a_node_that_restarts_bring_pods_back() {
    let cluster = Cluster::fresh();
    install(&cluster);
    let stage = Stage::on(&cluster, "node");
    stage.configure("");
    stage.apply(&App::waiting("app").deployment(1));
    stage.wait_for("deployment/app", "condition=Available");
    let pod = stage.pod_of("app");
    let mut session = stage.session(&pod);
    let backend = session.ask("select pg_backend_pid()");
    cluster.node().stop(Component::Kubelet);
    assert_eq!(session.ask("select pg_backend_pid()"), backend, "nobody needs the kubelet to talk");
    cluster.node().start(Component::Kubelet);
    stage.edit_proxy("/client/backoff", "2s");
    stage.acknowledged(1);
    assert_eq!(session.ask("select pg_backend_pid()"), backend);
}
