//! The sidecar is in company: other containers, other webhooks, other ways to create a pod.

use cast::time::eventually;
use serde_json::json;

use crate::injector::{AGENT, Injector};
use crate::stage::{App, Stage, cluster, container, sidecar};

#[test]
fn ten_containers_and_two_init_containers_have_one_sidecar_first_and_all_know_where_it_is() {
    let stage = Stage::of("ten");
    stage.configure("");
    let containers: Vec<_> =
        (0..10).map(|n| container(&format!("c{n}"), "trap 'exit 0' TERM; sleep 3600 & wait")).collect();
    let init: Vec<_> = (0..2).map(|n| container(&format!("i{n}"), "psql -XAtq -U postgres -c 'select 1'")).collect();
    stage.apply(&App::waiting("app").with("containers", json!(containers)).with("initContainers", json!(init)).pod());
    stage.wait_for("pod/app", "condition=Ready");
    let pod = stage.get("pod app");
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "postern-gateway");
    assert_eq!(pod["spec"]["initContainers"].as_array().map(Vec::len), Some(3));
    for n in 0..10 {
        let env = stage.exec(
            "app",
            &format!("c{n}"),
            ["sh", "-c", "echo $PGHOST:$PGPORT $POSTERN_ORDERS_HOST:$POSTERN_ORDERS_PORT"],
        );
        assert_eq!(env.out.trim(), "127.0.0.1:5432 127.0.0.1:5432");
    }
}

#[test]
fn what_the_application_says_itself_stays() {
    let stage = Stage::of("own");
    stage.configure("");
    let own = json!([{"name": "PGHOST", "value": "db"}]);
    stage.apply(&App::waiting("app").with_container("env", own).deployment(1));
    stage.wait_for("deployment/app", "condition=Available");
    let pod = stage.pod_of("app");
    assert_eq!(stage.exec(&pod, "app", ["sh", "-c", "echo $PGHOST:$PGPORT"]).out.trim(), "db:");
    stage.expect_event("ReplicaSet/app-", "VariablesPresent");
}

#[test]
fn an_application_that_goes_round_the_gateway_is_named() {
    let stage = Stage::of("bypass");
    stage.configure("");
    let url = json!([{"name": "DATABASE_URL", "value": "postgres://postgres@db:5432/postgres"}]);
    stage.apply(&App::waiting("app").with_container("env", url).deployment(1));
    let sentence = stage.expect_event("ReplicaSet/app-", "BypassesGateway");
    assert!(sentence.contains("DATABASE_URL"), "{sentence}");
}

#[test]
fn an_unchanged_database_url_comes_through_the_gateway_with_hosts() {
    let stage = Stage::of("hosts");
    stage.configure("");
    stage.edit(&json!({"sidecar": {"env": "hosts"}}));
    stage.says("Programmed", "True");
    let url = json!([{"name": "DATABASE_URL", "value": "postgres://postgres@db:5432/postgres"}]);
    stage.apply(&App::waiting("app").with_container("env", url).pod());
    stage.wait_for("pod/app", "condition=Ready");
    let asked = stage.exec(
        "app",
        "app",
        ["sh", "-c", "psql -XAtq \"$DATABASE_URL\" -c 'select inet_client_addr() is not null'"],
    );
    assert_eq!(asked.out.trim(), "t", "{}", asked.err);
    assert!(stage.sessions("app") > 0, "the gateway served it");
}

#[test]
fn a_dry_run_and_a_server_side_apply_and_a_second_apply_agree() {
    let stage = Stage::of("dry");
    stage.configure("");
    stage.says("Programmed", "True");
    let pod = App::waiting("app").pod();
    let dry = stage
        .with_input(["apply", "--dry-run=server", "-o", "jsonpath={.spec.initContainers[0].name}", "-f", "-"], &pod);
    assert_eq!(dry.out, "postern-gateway", "{}", dry.err);
    assert!(!stage.try_kubectl(["get", "pod", "app"]).ok, "nothing was created");
    let server_side = stage.with_input(["apply", "--server-side", "-f", "-"], &pod);
    assert!(server_side.ok, "{}", server_side.err);
    stage.wait_for("pod/app", "condition=Ready");
    let before = stage.field("pod app", "{.metadata.generation}");
    let again = stage.with_input(["apply", "--server-side", "-f", "-"], &pod);
    assert!(again.ok, "{}", again.err);
    assert_eq!(stage.field("pod app", "{.metadata.generation}"), before, "nothing changed");
}

#[test]
fn an_ephemeral_container_can_be_added_to_an_injected_pod() {
    let stage = Stage::of("debug");
    stage.configure("");
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    let image = cast::images::toolbox().name();
    stage.kubectl(["debug", "app", "--image", image, "--profile=restricted", "-c", "look", "--", "/bin/true"]);
    assert_eq!(sidecar(&stage.get("pod app"))["restartCount"], 0);
}

#[test]
fn a_restricted_namespace_takes_the_sidecar() {
    let cluster = crate::stage::cluster();
    let labels =
        "labels: {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/enforce-version: latest}";
    let stage = Stage::in_tenant(cluster, cluster.tenant_with("restricted", labels));
    stage.configure("");
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    assert_eq!(stage.ask("app", "select 1"), "1");
}

#[test]
fn a_quota_on_limits_and_a_limit_range_are_met() {
    let stage = Stage::of("quota");
    stage.apply(
        r#"{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"},
            "spec": {"hard": {"requests.cpu": "1", "requests.memory": "1Gi", "limits.memory": "2Gi"}}}"#,
    );
    stage.apply(
        r#"{"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "all"}, "spec": {"limits": [
            {"type": "Container", "default": {"memory": "64Mi"}, "defaultRequest": {"cpu": "10m", "memory": "32Mi"}}]}}"#,
    );
    stage.configure("");
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    assert_eq!(stage.ask("app", "select 1"), "1");
}

#[test]
fn another_injector_before_us_or_after_us_leaves_one_sidecar_that_serves_its_container_too() {
    // Webhooks are called by name, and ours is zz-postern.
    for (place, prefix) in [("before", "aa-agent"), ("after", "zzz-agent")] {
        let stage = Stage::of(place);
        stage.configure("");
        stage.says("Programmed", "True");
        let injector = Injector::named(prefix, cluster(), &stage);
        // A configuration is in force some moments after it was written.
        eventually(&format!("the injector {place} us is asked"), || {
            let dry = ["apply", "--dry-run=server", "-f", "-"];
            assert!(stage.with_input(dry, &App::waiting("dry").pod()).ok);
            injector.reviews() > 0
        });
        stage.apply(&App::waiting("app").pod());
        stage.wait_for("pod/app", "condition=Ready");
        assert_eq!(stage.field("pod app", "{.spec.initContainers[*].name}"), "postern-gateway", "{place}");
        assert_eq!(stage.field("pod app", "{.spec.containers[*].name}"), format!("app {AGENT}"), "{place}");
        for name in ["app", AGENT] {
            let variables = "{.env[*].name}";
            let path = format!("{{range .spec.containers[?(@.name==\"{name}\")]}}{variables}{{end}}");
            let variables = "PGHOST PGPORT POSTERN_ORDERS_HOST POSTERN_ORDERS_PORT";
            assert_eq!(stage.field("pod app", &path), variables, "{name}, {place}");
            let answer = stage.exec("app", name, ["psql", "-XAtq", "-U", "postgres", "-c", "select 1"]);
            assert_eq!(answer.out.trim(), "1", "{name}, {place}: {}", answer.err);
        }
        assert!(stage.sessions("app") >= 2, "the gateway served both, {place}");
    }
}

#[test]
fn a_pod_that_was_injected_before_has_one_sidecar() {
    let stage = Stage::of("twice");
    stage.configure("");
    stage.apply(&App::waiting("app").pod());
    // What `kubectl get -o yaml | kubectl apply` of an injected pod does: the webhook sees its own work.
    let mut again = stage.get("pod app");
    for key in ["resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"] {
        again["metadata"].as_object_mut().expect("a pod has metadata").remove(key);
    }
    again["metadata"]["name"] = "again".into();
    again["spec"].as_object_mut().expect("a pod has a spec").remove("nodeName");
    again.as_object_mut().expect("a pod").remove("status");
    stage.apply(&again.to_string());
    stage.wait_for("pod/again", "condition=Ready");
    assert_eq!(stage.field("pod again", "{.spec.initContainers[*].name}"), "postern-gateway");
    assert_eq!(stage.ask("again", "select 1"), "1");
}
