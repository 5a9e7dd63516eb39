//! Whatever runs pods runs them with a sidecar.

use serde_json::json;

use crate::stage::{App, Stage};

/// Reaches the database, and is done.
const ONE_QUERY: &str = "psql -XAtq -U postgres -v ON_ERROR_STOP=1 -c 'select 1'";

#[test]
fn a_deployment_has_sidecars() {
    let stage = Stage::of("deployment");
    stage.configure("");
    stage.apply(&App::waiting("app").deployment(2));
    stage.wait_for("deployment/app", "condition=Available");
    assert_eq!(stage.ask("deployment/app", "select 1"), "1");
    stage.acknowledged(2);
}

#[test]
fn a_stateful_set_has_sidecars() {
    let stage = Stage::of("stateful");
    stage.configure("");
    stage.apply(&App::waiting("app").workload("StatefulSet", &json!({"serviceName": "app"})));
    stage.wait_for("pod/app-0", "condition=Ready");
    assert_eq!(stage.ask("app-0", "select 1"), "1");
}

#[test]
fn a_daemon_set_has_sidecars() {
    let stage = Stage::of("daemons");
    stage.configure("");
    stage.apply(&App::waiting("app").workload("DaemonSet", &json!({})));
    let pod = stage.pod_of("app");
    stage.wait_for(&format!("pod/{pod}"), "condition=Ready");
    assert_eq!(stage.ask(&pod, "select 1"), "1");
}

#[test]
fn a_job_that_is_tried_once_completes() {
    let stage = Stage::of("job");
    stage.configure("");
    stage.apply(&App::running("app", ONE_QUERY).migrating("create table moved ()").job());
    stage.wait_for("job/app", "condition=Complete");
}

#[test]
fn a_job_that_fails_fails() {
    let stage = Stage::of("failing");
    stage.configure("");
    stage.apply(&App::running("app", "exit 3").job());
    stage.wait_for("job/app", "condition=Failed");
}

#[test]
fn a_cron_job_runs_its_jobs_with_sidecars() {
    let stage = Stage::of("cron");
    stage.configure("");
    stage.apply(&App::running("app", ONE_QUERY).cron_job());
    stage.kubectl(["create", "job", "now", "--from=cronjob/app"]);
    stage.wait_for("job/now", "condition=Complete");
}
