//! What the operator's own account may do, shown by trying.

use crate::stage::{App, Stage};

const ACCOUNT: &str = "system:serviceaccount:postern-system:postern-operator";

#[test]
fn the_operator_cannot_read_a_secret_of_others() {
    let stage = Stage::of("secrets");
    stage.kubectl(["create", "secret", "generic", "orders-db", "--from-literal=password=hunter2"]);
    let operator = stage.acting_as(ACCOUNT);
    for words in [["get", "secret", "orders-db"].as_slice(), &["get", "secrets"], &["get", "secrets", "-A"]] {
        let refused = operator.try_kubectl(words.iter().copied());
        assert!(!refused.ok && refused.err.contains("forbidden"), "{words:?}: {}{}", refused.out, refused.err);
    }
}

#[test]
fn the_operator_can_change_nothing_of_a_pod_but_the_annotation_that_it_pokes() {
    let stage = Stage::of("fence");
    stage.configure("");
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    let operator = stage.acting_as(ACCOUNT);
    let patch = |json: &str| operator.try_kubectl(["patch", "pod", "app", "--type=merge", "-p", json]);
    let poke = patch(r#"{"metadata":{"annotations":{"postern.dev/config-hash":"by-hand"}}}"#);
    assert!(poke.ok, "{}", poke.err);
    for wrong in [
        r#"{"metadata":{"annotations":{"other":"1"}}}"#,
        r#"{"metadata":{"annotations":{"postern.dev/inject":"false"}}}"#,
        r#"{"metadata":{"labels":{"app":"other"}}}"#,
        r#"{"metadata":{"finalizers":["a.b/c"]}}"#,
        r#"{"spec":{"activeDeadlineSeconds":1}}"#,
        r#"{"spec":{"containers":[{"name":"app","image":"other"}]}}"#,
    ] {
        let refused = patch(wrong);
        assert!(!refused.ok, "{wrong} went through: {}", refused.out);
    }
    for words in [
        ["delete", "pod", "app"].as_slice(),
        &["exec", "app", "-c", "app", "--", "true"],
        &["create", "token", "default"],
    ] {
        let refused = operator.try_kubectl(words.iter().copied());
        assert!(!refused.ok && refused.err.contains("forbidden"), "{words:?}: {}{}", refused.out, refused.err);
    }
    let taken = operator.try_kubectl(["create", "configmap", "other", "--from-literal=a=b"]);
    assert!(!taken.ok, "a ConfigMap that is not a delivered configuration: {}", taken.out);
}
