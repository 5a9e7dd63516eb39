//! The chart on a real API server: what it installs stays as it is, the operator's account stays behind its fence, and who
//! did not ask for anything notices nothing, whether the operator is there or not.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use cast::cluster::{Cluster, Kubectl, Tenant};
use cast::time::eventually;
use cast::{Folder, images};

const OPERATOR: &str = "system:serviceaccount:postern-system:postern-operator";
const NAMESPACE: [&str; 2] = ["--namespace", "postern-system"];

/// What the policies' answers end with.
const ANNOTATION: &str = "the operator may only change the annotation postern.dev/config-hash, not ";

// === without an operator: its image is nowhere to be had ===

#[test]
fn a_fresh_installation_shows_no_drift() {
    let (cluster, folder) = (without_operator(), Folder::new("drift"));
    let manifest = folder.join("manifest.yaml");
    fs::write(&manifest, helm(cluster, &["get", "manifest", "postern"])).expect("our own folder can be written");
    let manifest = manifest.to_str().expect("its name is text");
    for way in [&["diff", "-f", manifest][..], &["diff", "--server-side", "--force-conflicts", "-f", manifest]] {
        let outcome = cluster.try_kubectl(way);
        assert!(outcome.ok, "the API server has made something else of the chart:\n{}{}", outcome.out, outcome.err);
    }
}

#[test]
fn the_api_server_finds_no_fault_with_an_expression() {
    let cluster = without_operator();
    for name in ["postern-operator-pods", "postern-operator-configmaps", "postern-operator-secrets"] {
        let policy = format!("validatingadmissionpolicy {name}");
        eventually("the API server has checked the types", || {
            !cluster.field(&policy, "{.status.typeChecking}").is_empty()
        });
        assert_eq!(cluster.field(&policy, "{.status.typeChecking.expressionWarnings}"), "", "{name}");
    }
    let tenant = cluster.tenant("shop");
    tenant.kubectl(["run", "plain", "--image=none"]);
    let metrics = cluster.kubectl(["get", "--raw", "/metrics"]);
    let errors =
        metrics.lines().filter(|line| line.starts_with("apiserver_admission_match_condition_evaluation_errors"));
    assert_eq!(errors.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn while_no_replica_answers_only_pods_that_asked_are_refused() {
    let cluster = without_operator();
    let run = |tenant: &Tenant, name: &str, annotation: &str| {
        tenant.try_kubectl(["run", name, "--image=none", &format!("--annotations={annotation}")])
    };
    let shop = cluster.tenant("shop");
    assert!(run(&shop, "plain", "a=b").ok);
    assert!(run(&shop, "refuses", "postern.dev/inject=false").ok);
    for wish in ["true", "orders", ""] {
        let refused = run(&shop, "asks", &format!("postern.dev/inject={wish}")).refused();
        assert!(refused.contains("failed calling webhook \"pod.inject.postern.dev\""), "{refused}");
    }
    let opted_in = cluster.tenant_with("opted-in", "labels: {postern.dev/inject: enabled}");
    assert!(run(&opted_in, "refuses", "postern.dev/inject=false").ok);
    for wish in ["a=b", "postern.dev/inject=true"] {
        let refused = run(&opted_in, "asks", wish).refused();
        assert!(refused.contains("failed calling webhook \"namespace.inject.postern.dev\""), "{refused}");
    }
    // Not even where everything is broken is its own way up barred.
    let own = ["run", "own", "--image=none", "--annotations=postern.dev/inject=true"];
    cluster.kubectl(own.into_iter().chain(NAMESPACE));
}

#[test]
fn who_may_edit_a_namespace_may_edit_its_configurations_and_who_may_view_it_sees_them() {
    let tenant = without_operator().tenant("people");
    for (role, user) in [("edit", "ann"), ("view", "bob"), ("admin", "cid")] {
        tenant.kubectl(["create", "rolebinding", user, &format!("--clusterrole={role}"), &format!("--user={user}")]);
    }
    let may = |user: &str, verb: &str| tenant.acting_as(user).try_kubectl(["auth", "can-i", verb, "gatewayconfigs"]).ok;
    let rights = || ["ann", "bob", "cid"].map(|user| (may(user, "get"), may(user, "create")));
    eventually("the roles are aggregated", || rights() == [(true, true), (true, false), (true, true)]);
}

// === the fence, tried by an account that was given every right there is ===

#[test]
fn even_with_every_right_the_operator_changes_nothing_of_a_pod_but_one_annotation() {
    let tenant = without_operator().tenant("pods");
    let operator = every_right(&tenant);
    tenant.kubectl(["run", "app", "--image=none", "--annotations=a=b"]);
    let patch = |json: &str| operator.try_kubectl(["patch", "pod", "app", "--type=merge", "--patch", json]);
    for poke in ["\"1\"", "\"2\"", "null"] {
        patch(&format!(r#"{{"metadata": {{"annotations": {{"postern.dev/config-hash": {poke}}}}}}}"#)).succeeded();
    }
    let names = "labels, owners or finalizers";
    for (wrong, why) in [
        (r#"{"metadata": {"annotations": {"a": "c"}}}"#, &format!("{ANNOTATION}a")[..]),
        (r#"{"metadata": {"annotations": {"a": null, "c": "d"}}}"#, &format!("{ANNOTATION}c, a")),
        (r#"{"metadata": {"annotations": {"postern.dev/inject": "true"}}}"#, "not postern.dev/inject"),
        (r#"{"metadata": {"labels": {"run": "other"}}}"#, names),
        (r#"{"metadata": {"finalizers": ["a.b/c"]}}"#, names),
        (r#"{"spec": {"activeDeadlineSeconds": 1}}"#, "a pod's spec"),
    ] {
        denied(&patch(wrong).refused(), "postern-operator-pods", why);
    }
    for words in [
        &["delete", "pod", "app"][..],
        &["run", "other", "--image=none"],
        &["exec", "app", "--", "true"],
        &["patch", "pod", "app", "--subresource=status", "--type=merge", "--patch", r#"{"status": {"message": "a"}}"#],
    ] {
        let refused = operator.try_kubectl(words).refused();
        denied(&refused, "postern-operator-pods", "not create, delete or enter one");
    }
}

#[test]
fn even_with_every_right_the_operator_writes_no_config_map_and_no_secret_of_others() {
    let tenant = without_operator().tenant("maps");
    let operator = every_right(&tenant);
    let ours = "postern.dev/managed: 'true', postern.dev/config: orders";
    let map = |name: &str, labels: &str, more: &str| {
        let metadata = format!("{{name: {name}, labels: {{{labels}}}{more}}}");
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {metadata}\ndata: {{gateway.yaml: a}}\n")
    };
    let apply = |yaml: &str| {
        let words = ["apply", "--server-side", "--field-manager=postern-operator", "--force-conflicts", "-f", "-"];
        operator.with_input(words, yaml)
    };
    apply(&map("orders-postern", ours, "")).succeeded();
    apply(&map("orders-postern", &format!("{ours}, more: label"), "")).succeeded();
    tenant.kubectl(["create", "configmap", "theirs-postern"]);
    for (yaml, why) in [
        (map("other", "a: b", ""), "only write ConfigMaps with the label"),
        (map("aws-auth", ours, ""), "named after its label"),
        (map("orders-postern", ours, ", finalizers: [a.b/c]"), "finalizers"),
        (
            map("theirs-postern", "postern.dev/managed: 'true', postern.dev/config: theirs", ""),
            "only change ConfigMaps",
        ),
    ] {
        denied(&apply(&yaml).refused(), "postern-operator-configmaps", why);
    }
    let deleted = operator.try_kubectl(["delete", "configmap", "theirs-postern"]).refused();
    denied(&deleted, "postern-operator-configmaps", "only create and patch");
    let secret = operator.try_kubectl(["create", "secret", "generic", "token"]).refused();
    denied(&secret, "postern-operator-secrets", "only write the Secret of its own certificate");
}

// === with an operator ===

#[test]
fn what_the_chart_installs_can_be_asked_upgraded_removed_and_installed_again() {
    let cluster = Cluster::fresh();
    for image in [images::gateway(), images::operator()] {
        cluster.load(image);
    }
    let install =
        || helm(&cluster, &["upgrade", "--install", "--create-namespace", "--wait", REGISTRY, "postern", chart()]);
    install();
    helm(&cluster, &["test", "postern"]);

    let bundle = || cluster.field("mutatingwebhookconfiguration zz-postern", "{.webhooks[*].clientConfig.caBundle}");
    let before = bundle();
    assert_eq!(before.split(' ').count(), 2, "each entry has a caBundle: {before}");
    helm(&cluster, &["upgrade", "--wait", REGISTRY, "--set=webhook.timeoutSeconds=7", "postern", chart()]);
    assert_eq!(bundle(), before, "an upgrade takes no caBundle away");

    let tenant = cluster.tenant("shop");
    tenant.apply(include_str!("../../crds/samples/minimal.yaml"));
    helm(&cluster, &["uninstall", "--wait", "postern"]);
    tenant.kubectl(["run", "asks", "--image=none", "--annotations=postern.dev/inject=orders"]);
    let kinds = "mutatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,\
                 clusterrolebindings";
    let left = cluster.kubectl(["get", kinds, "--output=name"]);
    assert_eq!(left.lines().filter(|line| line.contains("postern")).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(tenant.field("gatewayconfig orders", "{.metadata.name}"), "orders", "the resources stay");

    install();
    helm(&cluster, &["test", "postern"]);
}

// === what is looked at ===

/// The registry of the cast's images.
const REGISTRY: &str = "--set=image.registry=localhost/postern";

/// A cluster on which the chart is installed and its operator cannot start.
fn without_operator() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = Cluster::fresh();
        let nowhere = ["--set=image.registry=localhost/nowhere", "--set=image.pullPolicy=Never"];
        helm(&cluster, &[&["install", "--create-namespace", "postern", chart()][..], &nowhere].concat());
        let everything = ["create", "clusterrolebinding", "every-right", "--clusterrole=cluster-admin"];
        let account = "--serviceaccount=postern-system:postern-operator";
        cluster.kubectl(everything.into_iter().chain([account]));
        let asks = ["run", "asks", "--image=none", "--annotations=postern.dev/inject=true", "--dry-run=server"];
        eventually("the webhook is in force", || !cluster.try_kubectl(asks).ok);
        cluster
    })
}

/// The operator's account, once it has its rights and its fence.
fn every_right(tenant: &Tenant) -> Kubectl {
    let operator = tenant.acting_as(OPERATOR);
    let dry = "--dry-run=server";
    for creates in [
        &["create", "configmap", "probe", dry][..],
        &["create", "secret", "generic", "probe", dry],
        &["run", "probe", "--image=none", dry],
    ] {
        let is_fenced = || operator.try_kubectl(creates).err.contains("ValidatingAdmissionPolicy");
        eventually("the account has every right, and the policies are in force", is_fenced);
    }
    operator
}

#[track_caller]
fn denied(refused: &str, policy: &str, why: &str) {
    assert!(refused.contains(policy) && refused.contains(why), "not by {policy} because of {why:?}: {refused}");
}

fn chart() -> &'static str {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/postern"));
    path.to_str().expect("the workspace's path is text")
}

#[track_caller]
fn helm(cluster: &Cluster, words: &[&str]) -> String {
    cluster.helm(words.iter().copied().chain(NAMESPACE))
}
