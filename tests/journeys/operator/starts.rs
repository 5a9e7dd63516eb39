//! A pod begins and ends.

use cast::time::eventually;

use crate::stage::{App, Stage, sidecar};

#[test]
fn an_annotated_pod_queries_through_its_sidecar_and_ends_in_its_grace_time() {
    let stage = Stage::of("starts");
    stage.configure("");
    // The finalizer keeps what the pod was for a look at how it ended.
    stage.apply(&App::waiting("app").pod());
    stage.kubectl([
        "patch",
        "pod",
        "app",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":["tests.postern.dev/look"]}}"#,
    ]);
    stage.wait_for("pod/app", "condition=Ready");
    assert_eq!(stage.ask("app", "select 6 * 7"), "42");
    assert!(stage.sessions("app") > 0, "the gateway served it");

    stage.kubectl(["delete", "pod", "app", "--wait=false"]);
    eventually("the pod's containers have ended", || {
        let pod = stage.get("pod app");
        !sidecar(&pod)["state"]["terminated"].is_null()
            && !pod["status"]["containerStatuses"][0]["state"]["terminated"].is_null()
    });
    let pod = stage.get("pod app");
    stage.kubectl(["patch", "pod", "app", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    assert_eq!(sidecar(&pod)["state"]["terminated"]["exitCode"], 0, "{pod:#}");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 0, "{pod:#}");
}

#[test]
fn an_init_container_reaches_the_database_before_the_application_starts() {
    let stage = Stage::of("migrates");
    stage.configure("");
    stage.apply(&App::waiting("app").migrating("create table moved (at timestamptz default now())").pod());
    stage.wait_for("pod/app", "condition=Ready");
    assert_eq!(stage.ask("app", "select count(*) from moved"), "0");
}

#[test]
fn a_pod_starts_while_its_database_is_away_and_waits_for_it() {
    let mut stage = Stage::of("waits");
    stage.configure("");
    stage.postgres.stop();
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    stage.postgres.start_again();
    assert_eq!(stage.ask("app", "select 1"), "1");
}
