//! A plugin is put into the cluster and named by the resource: running pods have it without a restart, and lose it so.

use cast::plugins;
use cast::time::eventually;
use serde_json::json;

use crate::stage::{App, Stage, sidecar};

/// Puts the example into the ConfigMap `plugins`, labelled or not.
fn put(stage: &Stage, example: &str, labelled: bool) {
    let file = format!("--from-file=plugin.wasm={}", plugins::example(example).display());
    let map = stage.kubectl(["create", "configmap", "plugins", &file, "--dry-run=client", "--output=yaml"]);
    // What is applied on the client's side is kept in an annotation too, which is too small for a plugin.
    stage.with_input(["apply", "--server-side", "--force-conflicts", "-f", "-"], &map).succeeded();
    if labelled {
        stage.kubectl(["label", "configmap", "plugins", "postern.dev/plugin=true", "--overwrite"]);
    }
}

/// What psql is told in `pod` when it asks `sql`, be it an answer or an error.
fn told(stage: &Stage, pod: &str, sql: &str) -> String {
    let answer = stage.exec(pod, "app", ["psql", "-XAtq", "-U", "postgres", "-v", "VERBOSITY=verbose", "-c", sql]);
    format!("{}{}", answer.out, answer.err)
}

#[test]
fn a_plugin_is_active_in_running_pods_without_a_restart_and_gone_again() {
    let stage = Stage::of("plugins");
    stage.configure("protocol: postgres");
    stage.apply(&App::waiting("app").deployment(2));
    stage.wait_for("deployment/app", "condition=Available");
    stage.acknowledged(2);
    let pod = stage.pod_of("app");
    stage.ask(&pod, "create table orders (email text); insert into orders values ('jo@example.org')");
    stage.ask(&pod, "create table old (); drop table old");
    let mut session = stage.session(&pod);
    let before = session.ask("select pg_backend_pid()");

    put(&stage, "block", true);
    stage
        .edit(&json!({"hooks": [{"name": "guard", "source": {"configMap": {"name": "plugins"}}, "onError": "close"}]}));
    stage.acknowledged(2);
    let refused = told(&stage, &pod, "drop table orders");
    assert!(refused.contains("42501") && refused.contains("DROP is refused here"), "{refused}");
    assert_eq!(stage.ask(&pod, "select count(*) from orders"), "1");
    assert_eq!(session.ask("select pg_backend_pid()"), before, "a session that was there goes on without it");

    // Other code under the same name is as good as an edit.
    put(&stage, "mask", true);
    stage.edit(&json!({"hooks": [{
        "name": "guard", "source": {"configMap": {"name": "plugins"}}, "config": {"columns": ["email"]}
    }]}));
    stage.acknowledged(2);
    eventually("the column is masked", || stage.ask(&pod, "select email from orders") == "*****");

    stage.edit(&json!({"hooks": []}));
    stage.acknowledged(2);
    assert_eq!(stage.ask(&pod, "select email from orders"), "jo@example.org");
    stage.ask(&pod, "drop table orders");
    assert_eq!(session.ask("select pg_backend_pid()"), before);
    assert_eq!(sidecar(&stage.get(&format!("pod {pod}")))["restartCount"], 0);
    let map = stage.get("configmap orders-postern");
    assert!(map["binaryData"].is_null(), "what nobody names is not delivered any more: {map:#}");
}

#[test]
fn a_plugin_that_is_not_there_or_another_is_told_and_the_last_good_configuration_serves() {
    let stage = Stage::of("plugins-missing");
    stage.configure("protocol: postgres");
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    stage.acknowledged(1);
    let hook = |digest: &str| {
        json!({"hooks": [{
            "name": "guard", "source": {"configMap": {"name": "plugins"}}, "digest": digest
        }]})
    };
    let digest = plugins::digest(&plugins::example("block")).expect("it was built");

    put(&stage, "block", false);
    stage.edit(&hook(&digest));
    let sentence = stage.says("Accepted", "False");
    assert!(sentence.contains("no ConfigMap \"plugins\" with the label postern.dev/plugin"), "{sentence}");
    assert_eq!(stage.ask("app", "select 1"), "1");

    put(&stage, "hello", true);
    eventually("the digest is told", || stage.says("Accepted", "False").contains("holds other code"));
    put(&stage, "block", true);
    stage.says("Accepted", "True");
    stage.acknowledged(1);
    assert!(told(&stage, "app", "drop table nothing").contains("42501"));
}
