//! Edits that do not arrive, or not wholly.

use std::net::SocketAddr;

use serde_json::json;

use crate::stage::{App, Stage, cluster, config};
use crate::told::{hints, says};
use crate::wall::Wall;

/// Where a gateway tells what it serves.
const ADMIN_PORT: u16 = 19187;

#[test]
fn a_configuration_that_is_refused_is_told_with_the_setting() {
    let stage = Stage::of("explain-invalid");
    stage.apply(&config("orders", "server: {address: \"10.1.2.3:5432\"}"));
    let told = [
        "ConfigInvalid",
        "spec.proxies[0].server.address",
        "10.1.2.3:5432 is the address of no pod",
        "write a loopback one",
    ];
    says(&stage, &["explain", "gatewayconfig/orders"], &told);
    says(&stage, &["status"], &told);
    stage.apply(&App::waiting("app").deployment(1));
    says(&stage, &["explain", "deployment/app"], &told[..3]);
}

#[test]
fn a_change_that_needs_a_restart_is_told_with_how_to_restart() {
    let stage = Stage::of("explain-restart");
    stage.configure("");
    stage.apply(&App::waiting("app").deployment(1));
    stage.wait_for("deployment/app", "condition=Available");
    let pod = format!("pod/{}", stage.pod_of("app"));
    hints(&stage, &["explain", &pod], &["generation 1", "which is the newest"]);
    stage.edit(&json!({"workers": 2}));
    let told = ["RestartRequired", "workers", "kubectl rollout restart deployment/app"];
    says(&stage, &["explain", &pod], &told);
    says(&stage, &["status"], &told);
    stage.edit(&json!({"workers": 1}));
    hints(&stage, &["explain", &pod], &["which is the newest"]);
    stage.edit(&json!({"sidecar": {"resources": {"limits": {"memory": "300Mi"}}}}));
    says(
        &stage,
        &["explain", &pod],
        &["RestartRequired", "spec.sidecar was changed", "kubectl rollout restart deployment/app"],
    );
}

#[test]
fn a_gateway_that_the_operator_cannot_ask_is_told_and_asked_all_the_same() {
    let stage = Stage::of("explain-wall");
    stage.configure("");
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    stage.acknowledged(1);
    // As a NetworkPolicy would: from other pods no packet arrives at this one's port.
    let ip = stage.field("pod app", "{.status.podIP}").parse().expect("a pod that runs has an address");
    let wall = Wall::before(cluster().node(), SocketAddr::new(ip, ADMIN_PORT));
    stage.edit_proxy("/client/backoff", "2s");
    let told = ["PodsUnknown", "cannot ask 1 pod", "let its namespace in to that port (NetworkPolicy)"];
    says(&stage, &["status"], &told);
    // The API server's port-forward begins inside of the pod.
    hints(&stage, &["explain", "pod/app"], &["generation 2", "which is the newest"]);
    drop(wall);
    hints(&stage, &["status"], &["app", "orders", "yes"]);
}
