//! What happens: an installation, a database, an application, a migration, an edit, a restart, refused edits, the end.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use cast::images;
use serde_json::Value;

use super::stage::Stage;

const CALM: Duration = Duration::from_secs(3);

/// Plays all scenes and sums up.
pub(crate) fn tell(stage: &Stage<'_>) -> Result<()> {
    install(stage)?;
    database(stage)?;
    application(stage)?;
    migration(stage)?;
    edit(stage)?;
    restart(stage)?;
    refused_edits(stage)?;
    uninstall(stage)?;
    sum_up(stage);
    Ok(())
}

/// Leaves everything running until Ctrl-C.
pub(crate) fn keep(stage: &Stage<'_>) -> Result<()> {
    install(stage)?;
    database(stage)?;
    application(stage)?;
    let screen = stage.screen;
    screen.title("It runs, and is yours to play with");
    screen.note(&format!("export KUBECONFIG={}", stage.cluster.kubeconfig().display()));
    screen.note("kubectl get gatewayconfigs,pods        kubectl edit gatewayconfig orders");
    screen.note("kubectl exec -it deployment/shop -c shop -- psql -U postgres");
    screen.note("end       Ctrl-C\n");
    loop {
        stage.watch(Duration::from_hours(1))?;
    }
}

fn install(stage: &Stage<'_>) -> Result<()> {
    stage.screen.title("First move: install the chart");
    let chart = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/postern"));
    let chart = chart.canonicalize().unwrap_or_else(|_| chart.to_owned());
    let place = ["--namespace", "postern-system", "--create-namespace", "--wait", "--timeout", "3m"];
    let chart = chart.display().to_string();
    let words = ["helm", "install", "postern", &chart, "--set", "image.registry=localhost/postern"];
    stage.types(&[&words[..], &place[..]].concat())
}

fn database(stage: &Stage<'_>) -> Result<()> {
    stage.screen.title("A database, such as anybody has");
    for manifest in [&database_manifest(), SECRET] {
        let (ok, said) = applied(stage, manifest);
        ensure!(ok, "the database is not accepted: {said}");
    }
    stage.watch_until("the database is up", || is_available(stage, "db"))?;
    stage.screen.event(
        "database",
        "PostgreSQL runs in a pod of its own, behind the Service `db`; the Secret `orders` has its login",
    );
    Ok(())
}

fn application(stage: &Stage<'_>) -> Result<()> {
    stage.screen.title("Second move: a resource, and an annotation on the pods");
    stage.types_with(&["kubectl", "apply", "-f", "-"], CONFIG)?;
    stage.screen.event("you", "$ kubectl apply -f shop.yaml      (a Deployment; this is all that it says of us:)");
    stage.screen.event("+", "annotations: {postern.dev/inject: \"true\"}");
    let (ok, said) = applied(stage, &application_manifest());
    ensure!(ok, "the application is not accepted: {said}");
    let taken = stage.watch_until("the application runs", || is_available(stage, "shop"))?;
    stage.screen.event(
        "application",
        &format!("runs {:.1} s later, with a sidecar before its own init container:", taken.as_secs_f64()),
    );
    stage.types(&["kubectl", "get", "pods", "--selector=app=shop", "--label-columns=postern.dev/config"])?;
    stage.watch_until("the application queries", || stage.application().starts_with("answered"))?;
    stage.watch(CALM)?;
    stage.screen.event("application", &stage.application());
    stage.watch_until("the sidecar has been asked", || up_to_date(stage) == (1, true))?;
    stage.types(&["kubectl", "get", "gatewayconfigs"])
}

fn migration(stage: &Stage<'_>) -> Result<()> {
    stage.screen.title("A Job with a migration in an init container");
    let (ok, said) = applied(stage, &job_manifest());
    ensure!(ok, "the Job is not accepted: {said}");
    let taken = stage.watch_until("the Job completes", || {
        stage.cluster.field("job migration", "{.status.conditions[?(@.type=='Complete')].status}") == "True"
    })?;
    stage.screen.event(
        "job",
        &format!(
            "complete {:.1} s later: the sidecar was there before the init container, and ended after the Job",
            taken.as_secs_f64()
        ),
    );
    Ok(())
}

fn edit(stage: &Stage<'_>) -> Result<()> {
    stage.screen.title("Third move: edit the resource");
    let patch = r#"[{"op":"add","path":"/spec/proxies/0/pool/size","value":20}]"#;
    stage.types(&["kubectl", "patch", "gatewayconfig", "orders", "--type=json", "-p", patch])?;
    let taken = stage.watch_until("every sidecar serves it", || up_to_date(stage) == (1, true))?;
    stage.screen.event(
        "gateway",
        &format!("acknowledged {:.1} s later, without a restart; no session was dropped", taken.as_secs_f64()),
    );
    stage.types(&["kubectl", "get", "gatewayconfigs"])
}

fn restart(stage: &Stage<'_>) -> Result<()> {
    stage.screen.title("The database restarts");
    let before = figures(&stage.application());
    stage
        .screen
        .event("you", "$ kubectl exec deployment/db -- kill -INT 1      (what an administrator's restart does)");
    // The connection of `exec` may end with the container.
    let _ = stage.cluster.exec("deployment/db", "db", ["sh", "-c", "kill -INT 1"]);
    stage.watch_until("the database is down", || !is_available(stage, "db"))?;
    stage.screen.event("database", "PostgreSQL is down; who asks now waits instead of failing");
    stage.watch_until("the database is back", || is_available(stage, "db"))?;
    stage.watch(CALM)?;
    stage.watch_until("the application goes on", || figures(&stage.application()).0 > before.0)?;
    let after = figures(&stage.application());
    stage.screen.event("database", "PostgreSQL is back");
    stage.screen.event(
        "application",
        &format!("{} more answers meanwhile, {} failures", after.0 - before.0, after.1 - before.1),
    );
    Ok(())
}

fn refused_edits(stage: &Stage<'_>) -> Result<()> {
    stage.screen.title("Edits that cannot be");
    let patch = r#"[{"op":"add","path":"/spec/proxies/0/pool/minIdle","value":50}]"#;
    let (ok, _) = stage.tries(&["kubectl", "patch", "gatewayconfig", "orders", "--type=json", "-p", patch], "")?;
    ensure!(!ok, "the API server took what cannot be");
    stage
        .screen
        .event("gateway", "what the schema can tell, the API server refuses on the spot; the rest is in the status:");
    let patch = r#"[{"op":"add","path":"/spec/proxies/0/server","value":{"address":"192.0.2.1:5432"}}]"#;
    stage.types(&["kubectl", "patch", "gatewayconfig", "orders", "--type=json", "-p", patch])?;
    stage.watch_until("it is refused", || condition(stage, "Ready")["status"] == "False")?;
    let accepted = condition(stage, "Accepted");
    let text = |key: &str| accepted[key].as_str().unwrap_or_default().to_owned();
    let sentence = format!("Accepted={} ({}): {}", text("status"), text("reason"), text("message"));
    stage.screen.event("resource", &sentence);
    stage.watch(CALM)?;
    stage.screen.event("application", &format!("{}: the last good configuration serves", stage.application()));
    Ok(())
}

fn uninstall(stage: &Stage<'_>) -> Result<()> {
    stage.screen.title("Uninstall");
    stage.types(&["helm", "uninstall", "postern", "--namespace", "postern-system", "--wait"])?;
    let before = figures(&stage.application());
    stage.watch(CALM)?;
    let after = figures(&stage.application());
    ensure!(after.0 > before.0, "the application stopped with the operator: {}", stage.application());
    stage.screen.event("application", &format!("goes on with the sidecar it has: {}", stage.application()));
    stage.types(&["kubectl", "get", "gatewayconfigs"])
}

fn sum_up(stage: &Stage<'_>) {
    let screen = stage.screen;
    screen.title("Where to look next");
    screen.note("cargo demo -- --keep    leaves the cluster running, to edit, break and query by hand");
    screen.note("cargo demo -- local     the gateway alone, between psql and PostgreSQL");
    screen.note("README.md               how to install it on a cluster of yours");
}

// === what is seen ===

fn applied(stage: &Stage<'_>, manifest: &str) -> (bool, String) {
    let outcome = stage.cluster.try_apply(manifest);
    (outcome.ok, outcome.err)
}

fn is_available(stage: &Stage<'_>, deployment: &str) -> bool {
    stage.cluster.field(&format!("deployment {deployment}"), "{.status.availableReplicas}") == "1"
}

fn resource(stage: &Stage<'_>) -> Value {
    stage.cluster.get("gatewayconfig orders")
}

fn condition(stage: &Stage<'_>, kind: &str) -> Value {
    let resource = resource(stage);
    let conditions = resource["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

/// How many pods serve the newest generation, and whether that is told of the newest generation.
fn up_to_date(stage: &Stage<'_>) -> (u64, bool) {
    let resource = resource(stage);
    let is_newest = resource["status"]["observedGeneration"] == resource["metadata"]["generation"];
    (resource["status"]["pods"]["upToDate"].as_u64().unwrap_or(0), is_newest)
}

/// `answered 12, failed 3`.
fn figures(line: &str) -> (u64, u64) {
    let mut numbers = line.split(|letter: char| !letter.is_ascii_digit()).filter_map(|word| word.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

// === what is applied ===

const CONFIG: &str = "
apiVersion: postern.dev/v1alpha1
kind: GatewayConfig
metadata: {name: orders}
spec:
  proxies:
  - name: orders
    protocol: postgres
    pool: {mode: transaction, size: 10}
    client: {addresses: [\"db:5432\"], auth: {secretName: orders}, backoff: 1s}
";

/// What a peer of this database must know; it believes everybody who can reach it.
const SECRET: &str = "
apiVersion: v1
kind: Secret
metadata: {name: orders}
stringData: {username: postgres, password: not asked for}
";

fn database_manifest() -> String {
    let image = images::toolbox().name();
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: db}}
spec: {{selector: {{app: db}}, ports: [{{port: 5432}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: db}}
spec:
  selector: {{matchLabels: {{app: db}}}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec:
      containers:
      - name: db
        image: {image}
        command: [/bin/serve-postgres]
        env: [{{name: PGDATA, value: /data/db}}]
        readinessProbe: {{exec: {{command: [pg_isready, -h, 127.0.0.1]}}, periodSeconds: 1}}
        volumeMounts: [{{name: data, mountPath: /data}}]
      volumes: [{{name: data, emptyDir: {{}}}}]
"
    )
}

fn application_manifest() -> String {
    let image = images::toolbox().name();
    let script = "answered=0; failed=0; while true; do \
                  if psql -XAtq -U postgres -c 'insert into visits default values' >/dev/null; \
                  then answered=$((answered+1)); else failed=$((failed+1)); fi; \
                  echo answered $answered, failed $failed; sleep 0.2; done";
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: shop}}
spec:
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata:
      labels: {{app: shop}}
      annotations: {{postern.dev/inject: \"true\"}}
    spec:
      initContainers:
      - name: prepare
        image: {image}
        command: [psql, -XAtq, -U, postgres, -c, 'create table if not exists visits (at timestamptz default now())']
      containers:
      - name: shop
        image: {image}
        command: [/bin/sh, -c, \"{script}\"]
"
    )
}

fn job_manifest() -> String {
    let image = images::toolbox().name();
    format!(
        "
apiVersion: batch/v1
kind: Job
metadata: {{name: migration}}
spec:
  backoffLimit: 0
  template:
    metadata:
      annotations: {{postern.dev/inject: \"true\"}}
    spec:
      restartPolicy: Never
      initContainers:
      - name: migrate
        image: {image}
        command: [psql, -XAtq, -U, postgres, -c, 'alter table visits add column if not exists note text']
      containers:
      - name: report
        image: {image}
        command: [psql, -XAtq, -U, postgres, -c, 'select count(*) from visits']
"
    )
}
