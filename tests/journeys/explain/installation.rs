//! The operator is not there, may not do what it must, or cannot be called.

use cast::cluster::Cluster;
use cast::time::{eventually, within};
use serde_json::{Value, json};

use crate::stage::{App, PATIENCE, Stage, install};
use crate::told::{hints, says};

const SYSTEM: &str = "postern-system";
const OPERATOR: &str = "deployment/postern-operator";

#[test]
fn whatever_hinders_the_operator_is_told_with_the_command_that_mends_it() {
    let cluster = Cluster::fresh();
    install(&cluster);
    let stage = Stage::on(&cluster, "explain-operator");
    stage.configure("");
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    stage.acknowledged(1);
    hints(&cluster, &["status", "-A"], &["orders", "True"]);

    it_has_no_rights(&cluster, &stage);
    stage.acknowledged(1);
    it_is_scaled_down(&cluster, &stage);
    the_webhook_is_deleted(&cluster, &stage);
    none_of_it_is_ready(&cluster);

    // All is mended as it is told, and what was created meanwhile is deleted.
    cluster.in_namespace(SYSTEM).wait_for("deployment/postern-operator", "condition=Available");
    stage.delete("pod late");
    hints(&cluster, &["status", "-A"], &["orders", "True"]);
    hints(&stage, &["explain", "pod/app"], &["Nothing is wrong"]);
}

/// One of them is taken from its role, then all with its binding.
fn it_has_no_rights(cluster: &Cluster, stage: &Stage) {
    let (role, binding) = ("clusterrole/postern-operator", "clusterrolebinding/postern-operator");
    let rules = cluster.get(role);
    let is_on_maps = |rule: &Value| rule["resources"] == json!(["configmaps"]);
    let place = rules["rules"].as_array().and_then(|rules| rules.iter().position(is_on_maps));
    let less =
        format!(r#"[{{"op": "remove", "path": "/rules/{}"}}]"#, place.expect("the operator may write ConfigMaps"));
    cluster.kubectl(["patch", role, "--type=json", "-p", &less]);
    let told = ["OperatorRights", "may not get/list/watch/create/patch configmaps", "helm upgrade postern"];
    says(cluster, &["status", "-A"], &told);
    stage.edit_proxy("/client/backoff", "2s");
    says(stage, &["explain", "gatewayconfig/orders"], &["NotDelivered", "\"orders\" is not delivered", "mend that"]);
    says(stage, &["explain", "pod/app"], &told);
    put_back(cluster, &["replace", "--force"], &rules);

    let saved = cluster.get(binding);
    cluster.kubectl(["delete", binding]);
    says(
        cluster,
        &["status", "-A"],
        &["OperatorRights", "gatewayconfigs", "the roles of the chart", "helm upgrade postern"],
    );
    put_back(cluster, &["create"], &saved);
}

/// No replica is wanted.
fn it_is_scaled_down(cluster: &Cluster, stage: &Stage) {
    cluster.kubectl(["-n", SYSTEM, "scale", OPERATOR, "--replicas=0"]);
    let told = ["OperatorScaledDown", "kubectl scale deployment/postern-operator --replicas=2 -n postern-system"];
    says(cluster, &["status", "-A"], &told);
    says(stage, &["explain", "pod/app"], &told);
}

/// While nobody answers it: pods start without a gateway from then on.
fn the_webhook_is_deleted(cluster: &Cluster, stage: &Stage) {
    let webhook = "mutatingwebhookconfiguration/zz-postern";
    let saved = cluster.get(webhook);
    cluster.kubectl(["delete", webhook]);
    let told = ["WebhookMissing", "new pods start without a gateway", "helm upgrade postern"];
    says(cluster, &["status", "-A"], &told);
    eventually("the API server calls it no more", || stage.try_apply(&App::waiting("late").pod()).ok);
    says(stage, &["explain", "pod/late"], &["NotInjected", "first bring the webhook back", "kubectl delete pod late"]);
    says(stage, &["explain", "pod/late"], &told);
    says(stage, &["status"], &["late", "(no gateway)", "NotInjected"]);

    // It comes back as the chart has it, and whom the API server trusts is the operator's to write: also of a replica that is
    // about to end.
    let replicas = || cluster.kubectl(["-n", SYSTEM, "get", "pods", "-o", "name"]);
    within(PATIENCE, "no replica is left", || replicas().is_empty());
    put_back(cluster, &["create"], &saved);
    let emptied = r#"[{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": ""}]"#;
    cluster.kubectl(["patch", webhook, "--type=json", "-p", emptied]);
    let told = ["WebhookUntrusted", "has no caBundle", "kubectl logs deployment/postern-operator -n postern-system"];
    says(cluster, &["status", "-A"], &told);
    says(stage, &["explain", "pod/app"], &told);
}

/// It is wanted, and its image is nowhere to be had.
fn none_of_it_is_ready(cluster: &Cluster) {
    let set = |image: &str| cluster.kubectl(["-n", SYSTEM, "set", "image", OPERATOR, &format!("operator={image}")]);
    set("localhost/postern/operator:nowhere");
    cluster.kubectl(["-n", SYSTEM, "scale", OPERATOR, "--replicas=2"]);
    let told =
        ["OperatorNotReady", "none of the operator's 2 replicas is ready", "kubectl describe pods -n postern-system"];
    says(cluster, &["status", "-A"], &told);
    set(cast::images::operator().name());
}

/// Has something again as it was.
#[track_caller]
fn put_back(cluster: &Cluster, how: &[&str], object: &Value) {
    cluster.with_input(how.iter().copied().chain(["-f", "-"]), &object.to_string()).succeeded();
}

#[test]
fn a_cluster_that_is_not_there_is_another_exit_status_than_wrong_usage() {
    let cluster = crate::stage::cluster();
    let away =
        cluster.postern_command().args(["--kubeconfig", "/nowhere/kubeconfig", "status"]).output().expect("it runs");
    assert_eq!(away.status.code(), Some(3), "{}", String::from_utf8_lossy(&away.stderr));
    let odd = cluster.postern(["explain", "secret/app"]);
    assert_eq!((odd.code, odd.err.contains("deployment")), (Some(2), true), "{}", odd.err);
    assert_eq!(cluster.postern(["stat"]).code, Some(2));
    assert_eq!(cluster.postern(["explain", "pod/nobody"]).code, Some(1));
}
