//! The resource is deleted while pods run.

use cast::time::eventually;

use crate::stage::{App, Stage, sidecar};

#[test]
fn running_pods_keep_their_last_configuration_and_new_ones_are_told_what_is_missing() {
    let stage = Stage::of("removal");
    stage.configure("");
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    stage.acknowledged(1);

    stage.delete("gatewayconfig orders");
    eventually("the ConfigMap is gone", || {
        stage.try_kubectl(["get", "configmap", "orders-postern"]).err.contains("NotFound")
    });
    assert_eq!(stage.ask("app", "select 1"), "1");
    let denied = stage.try_apply(&App::waiting("second").pod());
    assert!(!denied.ok && denied.err.contains("orders"), "{}", denied.err);

    // The sidecar is killed: its next container finds the file that the pod still has.
    crate::stage::cluster().node().end_container(&stage, "app", "postern-gateway");
    eventually("the sidecar runs again", || {
        let pod = stage.get("pod app");
        sidecar(&pod)["restartCount"] == 1 && sidecar(&pod)["ready"] == true
    });
    assert_eq!(stage.ask("app", "select 1"), "1");

    stage.configure("pool: {size: 3}");
    stage.acknowledged(1);
}
