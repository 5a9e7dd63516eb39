//! Secrets that are missing, lack a key, or do not open the database.

use serde_json::json;

use crate::stage::{App, Stage};
use crate::told::{hints, says};

/// A configuration with a login of the gateway's own.
const LOGIN: &str = "protocol: postgres, pool: {size: 2}";

fn with_login(journey: &str) -> Stage {
    let stage = Stage::of(journey);
    stage.postgres.query("create role app login password 'right'");
    stage.postgres.admit(&["host all all all scram-sha-256"]);
    stage.apply(&format!(
        "apiVersion: postern.dev/v1alpha1\nkind: GatewayConfig\nmetadata: {{name: orders}}\nspec:\n  proxies:\n  \
         - {{name: orders, {LOGIN}, client: {{addresses: [\"db:5432\"], auth: {{secretName: orders-db, database: postgres}}}}}}\n"
    ));
    stage
}

#[test]
fn a_secret_is_missing_then_lacks_a_key_then_has_the_wrong_password() {
    let stage = with_login("explain-secret");
    stage.apply(&App::waiting("app").deployment(1));
    let pod = stage.pod_of("app");
    let pod = format!("pod/{pod}");
    let told = [
        "SecretMissing",
        "no Secret \"orders-db\"",
        "kubectl create secret generic orders-db",
        "--from-literal=password=",
    ];
    for asked in [["explain", pod.as_str()], ["explain", "deployment/app"], ["explain", "gatewayconfig/orders"]] {
        says(&stage, &asked, &told);
    }
    says(&stage, &["status"], &told);

    stage.kubectl(["create", "secret", "generic", "orders-db", "--from-literal=username=app"]);
    let told = ["SecretKeyMissing", "Secret \"orders-db\"", "has no key password", "kubectl patch secret orders-db"];
    says(&stage, &["explain", &pod], &told);
    says(&stage, &["status"], &told);

    let wrong = json!({"stringData": {"password": "planted-wrong-password"}}).to_string();
    stage.kubectl(["patch", "secret", "orders-db", "-p", &wrong]);
    // A kubelet that has tried in vain takes up to two minutes until it tries again; a new pod need not wait for that.
    stage.delete(&pod);
    let name = stage.pod_of("app");
    let pod = format!("pod/{name}");
    let told = [
        "DatabaseLogin",
        "password authentication failed",
        "correct username and password in Secret \"orders-db\"",
        "kubectl edit secret orders-db",
    ];
    let line = says(&stage, &["explain", &pod], &told);
    says(&stage, &["status"], &told[..2]);
    assert!(!line.contains("planted-wrong-password"), "a password is shown: {line}");

    let right = json!({"stringData": {"password": "right"}}).to_string();
    stage.kubectl(["patch", "secret", "orders-db", "-p", &right]);
    // Whatever changes a pod has its kubelet look at its Secrets now, and not within a minute.
    stage.kubectl(["annotate", "pod", &name, "example.com/looked-at=now"]);
    stage.wait_for("deployment/app", "condition=Available");
    hints(&stage, &["explain", &pod], &["Nothing is wrong"]);
}

#[test]
fn a_database_that_is_full_is_told_with_both_ends_that_may_be_changed() {
    let stage = with_login("explain-full");
    let secret = ["create", "secret", "generic", "orders-db", "--from-literal=username=app"];
    stage.kubectl(secret.into_iter().chain(["--from-literal=password=right"]));
    stage.postgres.query("alter role app connection limit 0");
    stage.apply(&App::waiting("app").pod());
    let told =
        ["DatabaseFull", "too many connections", "lower pool.size", "raise max_connections", "limit of the role"];
    says(&stage, &["explain", "pod/app"], &told);
    says(&stage, &["status"], &told);
    stage.postgres.query("alter role app connection limit -1");
    hints(&stage, &["explain", "pod/app"], &["Nothing is wrong"]);
}
