//! The operator is not there, may not do what it must, or cannot be called.

use cast::cluster::Cluster;
use cast::time::eventually;

use crate::stage::{App, Stage, install};
use crate::told::{hints, says};

const SYSTEM: &str = "postern-system";

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

    // Its rights are gone.
    let binding = ["clusterrolebinding", "postern-operator"];
    let saved = cluster.kubectl(["get", binding[0], binding[1], "-o", "yaml"]);
    let role = cluster.kubectl(["get", "clusterrole", "postern-operator", "-o", "yaml"]);
    let less = r#"[{"op": "remove", "path": "/rules/3"}]"#;
    cluster.kubectl(["patch", "clusterrole", "postern-operator", "--type=json", "-p", less]);
    says(
        &cluster,
        &["status", "-A"],
        &["OperatorRights", "may not get/list/watch/create/patch configmaps", "helm upgrade postern"],
    );
    stage.edit_proxy("/client/backoff", "2s");
    says(&stage, &["explain", "gatewayconfig/orders"], &["NotDelivered", "orders"]);
    let restored = cluster.with_input(["replace", "--force", "-f", "-"], &role);
    assert!(restored.ok, "{}", restored.err);
    cluster.kubectl(["delete", binding[0], binding[1]]);
    says(&cluster, &["status", "-A"], &["OperatorRights", "gatewayconfigs", "roles of the chart"]);
    let restored = cluster.with_input(["create", "-f", "-"], &saved);
    assert!(restored.ok, "{}", restored.err);
    stage.acknowledged(1);

    // It is scaled to 0.
    cluster.kubectl(["-n", SYSTEM, "scale", "deployment/postern-operator", "--replicas=0"]);
    let told = ["OperatorScaledDown", "kubectl scale deployment/postern-operator --replicas=2 -n postern-system"];
    says(&cluster, &["status", "-A"], &told);
    says(&stage, &["explain", "pod/app"], &told);

    // And the webhook is deleted, so that pods start without.
    let webhook = cluster.kubectl(["get", "mutatingwebhookconfiguration", "zz-postern", "-o", "yaml"]);
    cluster.kubectl(["delete", "mutatingwebhookconfiguration", "zz-postern"]);
    let told = ["WebhookMissing", "new pods start without a gateway", "helm upgrade postern"];
    says(&cluster, &["status", "-A"], &told);
    eventually("the API server calls it no more", || stage.try_apply(&App::waiting("late").pod()).ok);
    says(&stage, &["explain", "pod/late"], &["NotInjected", "first bring the webhook back", "kubectl delete pod late"]);
    says(&stage, &["explain", "pod/late"], &told);
    says(&stage, &["status"], &["late", "(no gateway)", "NotInjected"]);

    // All is mended as it is told.
    let restored = cluster.with_input(["create", "-f", "-"], &webhook);
    assert!(restored.ok, "{}", restored.err);
    cluster.kubectl(["-n", SYSTEM, "scale", "deployment/postern-operator", "--replicas=2"]);
    cluster.in_namespace(SYSTEM).wait_for("deployment/postern-operator", "condition=Available");
    stage.delete("pod late");
    hints(&cluster, &["status", "-A"], &["orders", "True"]);
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
