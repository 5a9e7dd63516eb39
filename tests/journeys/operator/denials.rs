//! A pod that cannot be served is told why.

use cast::time::eventually;
use serde_json::json;

use crate::stage::{App, Stage, config};

#[test]
fn a_bare_pod_without_a_configuration_is_refused_with_what_is_missing() {
    let stage = Stage::of("nothing");
    let refused = stage.try_apply(&App::waiting("app").pod());
    assert!(!refused.ok && refused.err.contains("GatewayConfig") && refused.err.contains("orders"), "{}", refused.err);
}

#[test]
fn a_workload_that_asks_for_what_is_missing_starts_as_soon_as_it_is_there() {
    let stage = Stage::of("later");
    stage.apply(&App::waiting("app").deployment(1));
    let sentence = stage.expect_event("ReplicaSet/app-", "ConfigNotFound");
    assert!(sentence.contains("orders"), "{sentence}");
    stage.configure("");
    stage.wait_for("deployment/app", "condition=Available");
}

#[test]
fn yes_means_the_only_configuration_and_several_are_named() {
    let stage = Stage::of("several");
    stage.configure("");
    let app = App::waiting("app").annotated("postern.dev/inject", "true");
    stage.apply(&app.pod());
    stage.wait_for("pod/app", "condition=Ready");
    stage.apply(&config("billing", "server: {address: \"127.0.0.1:6000\"}"));
    let refused = eventually_refused(&stage, &App::waiting("second").annotated("postern.dev/inject", "true").pod());
    assert!(refused.contains("billing") && refused.contains("orders"), "{refused}");
}

#[test]
fn a_port_that_is_taken_and_the_hosts_network_are_refused_by_name() {
    let stage = Stage::of("clash");
    stage.configure("");
    let taken = App::waiting("app").with_container("ports", json!([{"containerPort": 5432}]));
    let refused = stage.try_apply(&taken.pod());
    assert!(!refused.ok && refused.err.contains("5432") && refused.err.contains("app"), "{}", refused.err);
    let moved = taken.annotated("postern.dev/port.orders", "6432");
    stage.apply(&moved.pod());
    stage.wait_for("pod/app", "condition=Ready");
    assert_eq!(stage.ask("app", "select 1"), "1", "PGPORT leads to the other port");

    let refused = stage.try_apply(&App::waiting("host").with("hostNetwork", true).pod());
    assert!(!refused.ok && refused.err.contains("hostNetwork"), "{}", refused.err);
}

#[test]
fn a_pod_whose_namespace_asked_is_skipped_with_a_reason() {
    let cluster = crate::stage::cluster();
    let tenant = cluster.tenant_with("asked", "labels: {postern.dev/inject: enabled}");
    let stage = Stage::in_tenant(cluster, tenant);
    stage.configure("");
    stage.apply(&App::waiting("app").unasked().pod());
    stage.wait_for("pod/app", "condition=Ready");
    assert_eq!(stage.ask("app", "select 1"), "1");

    let warned = stage.try_apply(&App::waiting("host").unasked().with("hostNetwork", true).pod());
    assert!(warned.ok && warned.err.contains("hostNetwork"), "{}", warned.err);
    assert_eq!(stage.field("pod host", "{.spec.initContainers}"), "", "it has no sidecar");
    stage.apply(&App::waiting("no").annotated("postern.dev/inject", "false").pod());
    assert_eq!(stage.field("pod no", "{.spec.initContainers}"), "", "it said no");
}

/// The resource is watched, so the webhook learns of a second one a moment later.
#[track_caller]
fn eventually_refused(stage: &Stage, pod: &str) -> String {
    let mut said = String::new();
    eventually("the pod is refused", || {
        let outcome = stage.with_input(["apply", "--dry-run=server", "-f", "-"], pod);
        said = outcome.err;
        !outcome.ok
    });
    said
}
