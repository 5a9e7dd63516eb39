//! Who may do what.

use serde_json::json;

use crate::render::Chart;
use crate::{rules, settings};

#[test]
fn the_operators_account_has_no_right_to_secrets_outside_its_namespace() {
    for chart in [Chart::with_everything(), Chart::new().set("webhook.certManager.enabled=true")] {
        let objects = chart.render();
        for role in objects.of_kind("ClusterRole") {
            for rule in rules(role) {
                let all = format!("{} {} {}", rule["apiGroups"], rule["resources"], rule["verbs"]);
                assert!(!all.contains("secrets") && !all.contains('*'), "{}: {all}", role["metadata"]["name"]);
            }
        }
        for role in objects.of_kind("Role") {
            assert_eq!(role["metadata"]["namespace"], "postern-system");
            for rule in rules(role).iter().filter(|rule| rule["verbs"] != json!(["create"])) {
                assert!(rule["resourceNames"].as_array().is_some_and(|names| names.len() == 1), "{rule}");
            }
        }
        for binding in
            objects.iter().filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("RoleBinding")))
        {
            let account =
                json!([{"kind": "ServiceAccount", "name": "postern-operator", "namespace": "postern-system"}]);
            assert_eq!(binding["subjects"], account);
        }
    }
}

#[test]
fn with_cert_manager_the_operator_may_write_neither_secret_nor_webhook() {
    let objects = Chart::new().set("webhook.certManager.enabled=true").render();
    for role in [objects.the("Role", "postern-operator"), objects.the("ClusterRole", "postern-operator")] {
        for rule in rules(role) {
            if rule["resources"] == json!(["secrets"]) || rule["resources"] == json!(["mutatingwebhookconfigurations"])
            {
                assert_eq!(rule["verbs"], json!(["get", "list", "watch"]));
            }
        }
    }
    let webhook = objects.the("MutatingWebhookConfiguration", "zz-postern");
    let certificate = objects.the("Certificate", "postern-webhook");
    assert_eq!(webhook["metadata"]["annotations"]["cert-manager.io/inject-ca-from"], "postern-system/postern-webhook");
    assert_eq!(certificate["spec"]["secretName"], settings(&objects).certificate_secret.as_str());
    assert_eq!(certificate["spec"]["dnsNames"], json!(["postern-webhook.postern-system.svc"]));
    objects.the("Issuer", certificate["spec"]["issuerRef"]["name"].as_str().expect("an issuer"));
    let theirs = "webhook.certManager.issuerRef={\"name\": \"corporate\", \"kind\": \"ClusterIssuer\"}";
    let objects = Chart::new().set("webhook.certManager.enabled=true").set(theirs).render();
    assert_eq!(objects.of_kind("Issuer").count(), 0);
    let issuer = json!({"name": "corporate", "kind": "ClusterIssuer", "group": "cert-manager.io"});
    assert_eq!(objects.the("Certificate", "postern-webhook")["spec"]["issuerRef"], issuer);
}

#[test]
fn who_may_edit_a_namespace_may_edit_its_configurations_and_who_may_view_it_sees_them() {
    let objects = Chart::new().render();
    let rights = |name: &str| {
        let role = objects.the("ClusterRole", name);
        let to: Vec<_> = ["view", "edit", "admin"]
            .into_iter()
            .filter(|to| {
                let label = format!("rbac.authorization.k8s.io/aggregate-to-{to}");
                role["metadata"]["labels"][label] == "true"
            })
            .collect();
        (to, rules(role)[0]["verbs"].to_string().contains("update"))
    };
    assert_eq!(rights("postern-edit"), (vec!["edit", "admin"], true));
    assert_eq!(rights("postern-view"), (vec!["view"], false));
    let without = Chart::new().set("rbac.aggregate=false").render();
    assert_eq!(without.of_kind("ClusterRole").count(), 1);
}
