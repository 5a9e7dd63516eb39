//! What admission policies leave of the rights of the operator's account.

use operator::names;
use serde_json::{Value, json};

use crate::cel::{self, Request};
use crate::render::Chart;
use crate::{pod, settings, with};

const OPERATOR: &str = "system:serviceaccount:postern-system:postern-operator";

#[test]
fn of_a_pod_the_operator_may_touch_one_annotation() {
    let objects = Chart::new().render();
    let policy = objects.the("ValidatingAdmissionPolicy", "postern-operator-pods");
    let hash = names::CONFIG_HASH;
    let bare = pod(Value::Null);
    let old = pod(json!({"team": "a", names::INJECT: "orders", hash: "1"}));
    let changed = |path: &str, value: Value| with(&old, path, value);
    let allowed = [
        (&bare, with(&bare, "/metadata/annotations", json!({hash: "1"}))),
        (&old, changed("/metadata/annotations", json!({"team": "a", names::INJECT: "orders", hash: "2"}))),
        (&old, changed("/metadata/annotations", json!({"team": "a", names::INJECT: "orders"}))),
        (&old, old.clone()),
        (&old, changed("/metadata/resourceVersion", json!("7"))),
        (&old, changed("/metadata/managedFields", json!([]))),
    ];
    for (old, new) in allowed {
        assert_eq!(cel::denial(policy, &Request::update(old.clone(), new.clone()).by(OPERATOR)), None, "{new}");
    }
    let refused = [
        ("not team", changed("/metadata/annotations", json!({"team": "b", names::INJECT: "orders", hash: "2"}))),
        ("not team", changed("/metadata/annotations", json!({names::INJECT: "orders", hash: "2"}))),
        (
            "not postern.dev/inject",
            changed("/metadata/annotations", json!({"team": "a", names::INJECT: "x", hash: "2"})),
        ),
        ("only change the annotation", changed("/metadata/annotations", json!({}))),
        ("only change the annotation", changed("/metadata/annotations", Value::Null)),
        ("labels, owners", changed("/metadata/labels", json!({"app": "another"}))),
        ("labels, owners", changed("/metadata/labels", Value::Null)),
        ("labels, owners", changed("/metadata/finalizers", json!(["a/b"]))),
        ("labels, owners", changed("/metadata/ownerReferences", json!([]))),
        ("spec", changed("/spec/containers", json!([{"name": "app", "image": "evil"}]))),
        ("spec", changed("/spec/tolerations", json!([{"operator": "Exists"}]))),
    ];
    for (why, new) in refused {
        let denial = cel::denial(policy, &Request::update(old.clone(), new.clone()).by(OPERATOR));
        assert!(denial.as_deref().is_some_and(|denial| denial.contains(why)), "{new}: {denial:?}");
        assert_eq!(cel::denial(policy, &Request::update(old.clone(), new.clone()).by("somebody")), None);
    }
    let others =
        [Request::create(old.clone()), Request::delete(old.clone()), Request::create(json!({})).at("eviction")]
            .into_iter()
            .chain(
                ["status", "ephemeralcontainers", "resize"].map(|at| Request::update(old.clone(), old.clone()).at(at)),
            );
    for request in others {
        let denial = cel::denial(policy, &request.clone().by(OPERATOR));
        assert_eq!(
            denial.as_deref(),
            Some("the operator may only patch a pod itself, not create, delete or enter one"),
            "{request:?}"
        );
    }
}

#[test]
fn of_config_maps_the_operator_may_write_its_own() {
    let objects = Chart::new().render();
    let policy = objects.the("ValidatingAdmissionPolicy", "postern-operator-configmaps");
    let ours = config_map("orders-postern", json!({names::MANAGED: "true", names::CONFIG: "orders"}));
    let theirs = config_map("orders-postern", json!({}));
    let new = with(&ours, "/data", json!({names::CONFIG_KEY: "spec: {}"}));
    for allowed in [Request::create(ours.clone()), Request::update(ours.clone(), new.clone())] {
        assert_eq!(cel::denial(policy, &allowed.by(OPERATOR)), None);
    }
    assert_eq!(ours["metadata"]["name"], names::config_map("orders"));
    let unlabelled = with(&ours, "/metadata/labels", Value::Null);
    let renamed = config_map("aws-auth", json!({names::MANAGED: "true", names::CONFIG: "orders"}));
    let held = with(&ours, "/metadata/finalizers", json!(["a/b"]));
    for (why, refused) in [
        ("only change ConfigMaps with the label", Request::update(theirs.clone(), ours.clone())),
        ("only change ConfigMaps with the label", Request::update(unlabelled.clone(), ours.clone())),
        ("only write ConfigMaps with the label", Request::update(ours.clone(), unlabelled.clone())),
        ("only write ConfigMaps with the label", Request::create(theirs)),
        ("only write ConfigMaps with the label", Request::create(unlabelled)),
        ("named after its label", Request::create(renamed)),
        ("finalizers", Request::create(held.clone())),
        ("finalizers", Request::update(ours.clone(), held)),
        ("only create and patch", Request::delete(ours)),
    ] {
        let denial = cel::denial(policy, &refused.clone().by(OPERATOR));
        assert!(denial.as_deref().is_some_and(|denial| denial.contains(why)), "{refused:?}: {denial:?}");
        assert_eq!(cel::denial(policy, &refused.by("system:admin")), None);
    }
}

#[test]
fn of_secrets_the_operator_may_write_its_certificate() {
    let objects = Chart::new().render();
    let policy = objects.the("ValidatingAdmissionPolicy", "postern-operator-secrets");
    let name = settings(&objects).certificate_secret;
    let secret =
        |name: &str, kind: &str| json!({"metadata": {"name": name, "namespace": "postern-system"}, "type": kind});
    let ours = secret(&name, "kubernetes.io/tls");
    for allowed in [Request::create(ours.clone()), Request::update(ours.clone(), ours.clone())] {
        assert_eq!(cel::denial(policy, &allowed.by(OPERATOR)), None);
    }
    let token = secret(&name, "kubernetes.io/service-account-token");
    for refused in
        [Request::create(token), Request::create(secret("other", "kubernetes.io/tls")), Request::delete(ours)]
    {
        let denial = cel::denial(policy, &refused.by(OPERATOR)).expect("a denial");
        assert!(denial.contains("only write the Secret of its own certificate"), "{denial}");
    }
}

#[test]
fn the_fence_is_bound_and_refuses_with_a_reason() {
    let objects = Chart::new().render();
    for policy in objects.of_kind("ValidatingAdmissionPolicy") {
        let name = policy["metadata"]["name"].as_str().expect("a name");
        let binding = objects.the("ValidatingAdmissionPolicyBinding", name);
        assert_eq!(binding["spec"], json!({"policyName": name, "validationActions": ["Deny", "Audit"]}));
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        for validation in policy["spec"]["validations"].as_array().into_iter().flatten() {
            assert_eq!(validation["reason"], "Forbidden", "without a reason the answer is 422");
            assert!(validation["message"].is_string() || validation["messageExpression"].is_string());
        }
    }
}

fn config_map(name: &str, labels: Value) -> Value {
    with(&json!({"metadata": {"name": name}, "data": {}}), "/metadata/labels", labels)
}
