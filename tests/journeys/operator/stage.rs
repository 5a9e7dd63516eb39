//! The stage of these journeys: Postern installed by its chart, a Kubernetes namespace, a real PostgreSQL outside of the
//! cluster, and applications made of psql and a shell.

use std::io::{BufRead, BufReader, Write};
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use cast::cluster::{Cluster, Tenant};
use cast::time::comes_true;
use cast::wire::Address;
use cast::{Postgres, images};
use serde_json::{Value, json};

/// How long the slowest thing may take that a journey waits for; nothing is that slow unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_mins(4);

/// A namespace with a database that is called `db` in it; derefs to the [`Tenant`].
pub(crate) struct Stage {
    tenant: Tenant,
    pub(crate) postgres: Postgres,
}

/// An application: one pod's worth of containers, made into whatever kind runs pods.
#[derive(Clone)]
pub(crate) struct App {
    name: String,
    annotations: Value,
    spec: Value,
}

/// A session of psql inside a pod that is kept open.
pub(crate) struct Session {
    psql: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The cluster that the journeys share, with Postern on it.
pub(crate) fn cluster() -> &'static Cluster {
    let cluster = Cluster::shared();
    cluster.once("postern", install);
    cluster
}

/// Installs the chart as its README says, with the images of this workspace.
pub(crate) fn install(cluster: &Cluster) {
    for image in [images::gateway(), images::operator(), images::toolbox()] {
        cluster.load(image);
    }
    cluster.helm(install_words());
}

/// The words of `helm install`.
pub(crate) fn install_words() -> Vec<&'static str> {
    let place = ["install", "postern", chart(), "--namespace", "postern-system", "--create-namespace"];
    [&place[..], &["--set", "image.registry=localhost/postern", "--wait", "--timeout", "2m"]].concat()
}

/// Where the chart lies.
pub(crate) fn chart() -> &'static str {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/postern"));
    path.to_str().expect("the workspace's path is text")
}

// === impl Stage ===

impl Stage {
    /// A namespace named after the journey, on the shared cluster.
    pub(crate) fn of(journey: &str) -> Self {
        Self::on(cluster(), journey)
    }

    /// The same on a cluster of one's own.
    pub(crate) fn on(cluster: &Cluster, journey: &str) -> Self {
        Self::in_tenant(cluster, cluster.tenant(journey))
    }

    /// The same in a namespace that is there already.
    pub(crate) fn in_tenant(cluster: &Cluster, tenant: Tenant) -> Self {
        let postgres = cluster.node().postgres(&[]);
        let Address::Tcp(address) = postgres.address() else { unreachable!("it listens on the node's address") };
        tenant.publish("db", 5432, address);
        Self { tenant, postgres }
    }

    /// Applies a configuration named `orders` with one proxy for `db`; `proxy` is what else the proxy says, in YAML's flow style.
    pub(crate) fn configure(&self, proxy: &str) {
        self.apply(&config("orders", proxy));
    }

    /// Changes the configuration `orders` by a merge patch of its `spec`.
    pub(crate) fn edit(&self, spec: &Value) {
        let patch = json!({"spec": spec}).to_string();
        self.kubectl(["patch", "gatewayconfig", "orders", "--type=merge", "-p", &patch]);
    }

    /// Changes something of the first proxy of `orders`, as in `edit_proxy("/pool/size", 20)`.
    pub(crate) fn edit_proxy(&self, pointer: &str, value: impl Into<Value>) {
        let field = format!("/spec/proxies/0{pointer}");
        let patch = json!([{"op": "add", "path": field, "value": value.into()}]).to_string();
        self.kubectl(["patch", "gatewayconfig", "orders", "--type=json", "-p", &patch]);
    }

    /// Waits until the configuration `orders` says of its newest generation that all of `pods` pods serve it.
    #[track_caller]
    pub(crate) fn acknowledged(&self, pods: u64) {
        let mut last = Value::Null;
        let done = comes_true(PATIENCE, || {
            last = self.get("gatewayconfig orders");
            let status = &last["status"];
            status["observedGeneration"] == last["metadata"]["generation"]
                && status["pods"]["upToDate"] == pods
                && condition(&last, "Ready")["status"] == "True"
        });
        assert!(done, "not acknowledged by {pods} pods: {last:#}");
    }

    /// Waits until a condition of the configuration `orders` has this status for its newest generation; returns its message.
    #[track_caller]
    pub(crate) fn says(&self, kind: &str, status: &str) -> String {
        let mut last = Value::Null;
        let done = comes_true(PATIENCE, || {
            last = self.get("gatewayconfig orders");
            last["status"]["observedGeneration"] == last["metadata"]["generation"]
                && condition(&last, kind)["status"] == status
        });
        assert!(done, "{kind} does not become {status}: {last:#}");
        condition(&last, kind)["message"].as_str().unwrap_or_default().to_owned()
    }

    /// What the gateway in `pod` says on an admin path.
    pub(crate) fn admin(&self, pod: &str, path: &str) -> String {
        self.http_get(pod, "19187", path).out
    }

    /// How many sessions the gateway in `pod` has had.
    #[track_caller]
    pub(crate) fn sessions(&self, pod: &str) -> u64 {
        let metrics = self.admin(pod, "/metrics");
        let counts = metrics.lines().filter(|line| line.starts_with("postern_sessions_total{"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// One question through the gateway, asked in the container `app` of `pod`.
    #[track_caller]
    pub(crate) fn ask(&self, pod: &str, sql: &str) -> String {
        let answer = self.exec(pod, "app", ["psql", "-XAtq", "-U", "postgres", "-c", sql]);
        assert!(answer.ok, "psql in {pod}: {}", answer.err);
        answer.out.trim().to_owned()
    }

    /// A session that stays open, from the container `app` of `pod`.
    pub(crate) fn session(&self, pod: &str) -> Session {
        let mut command = self.command("kubectl");
        command.args(["exec", "-i", pod, "-c", "app", "--", "psql", "-XAtq", "-U", "postgres"]);
        let mut psql = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("kubectl runs");
        let questions = psql.stdin.take().expect("it is piped");
        let answers = BufReader::new(psql.stdout.take().expect("it is piped"));
        Session { psql, questions, answers }
    }

    /// The first pod with this label `app`.
    #[track_caller]
    pub(crate) fn pod_of(&self, app: &str) -> String {
        let selector = format!("app={app}");
        let mut name = String::new();
        let found = comes_true(PATIENCE, || {
            name = self.kubectl([
                "get",
                "pods",
                "-l",
                &selector,
                "-o",
                "jsonpath={.items[0].metadata.name}",
                "--ignore-not-found",
            ]);
            !name.is_empty()
        });
        assert!(found, "no pod of {app}: {}", self.kubectl(["get", "events"]));
        name
    }
}

impl Deref for Stage {
    type Target = Tenant;

    fn deref(&self) -> &Tenant {
        &self.tenant
    }
}

/// A configuration with one proxy, named like itself, for the database `db`.
pub(crate) fn config(name: &str, proxy: &str) -> String {
    let more = if proxy.is_empty() { String::new() } else { format!(", {proxy}") };
    format!(
        "apiVersion: postern.dev/v1alpha1\n\
         kind: GatewayConfig\n\
         metadata: {{name: {name}}}\n\
         spec:\n  proxies:\n  - {{name: {name}, client: {{addresses: [\"db:5432\"]}}{more}}}\n"
    )
}

/// A condition of an object, or null.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.and_then(|all| all.iter().find(|one| one["type"] == kind)).unwrap_or(&Value::Null)
}

/// The status of the sidecar in `pod`.
pub(crate) fn sidecar(pod: &Value) -> &Value {
    let statuses = pod["status"]["initContainerStatuses"].as_array();
    statuses.and_then(|all| all.iter().find(|one| one["name"] == "postern-gateway")).unwrap_or(&Value::Null)
}

// === impl App ===

impl App {
    /// One that waits to be asked things, with the sidecar of the configuration `orders`.
    pub(crate) fn waiting(name: &str) -> Self {
        Self::running(name, "trap 'exit 0' TERM; sleep 3600 & wait")
    }

    /// One that runs a script, with the sidecar of the configuration `orders`.
    pub(crate) fn running(name: &str, script: &str) -> Self {
        let spec = json!({"terminationGracePeriodSeconds": 20, "containers": [container("app", script)]});
        Self { name: name.to_owned(), annotations: json!({"postern.dev/inject": "orders"}), spec }
    }

    /// Has an init container `migrate` that runs this SQL.
    pub(crate) fn migrating(self, sql: &str) -> Self {
        let script = format!("psql -XAtq -U postgres -v ON_ERROR_STOP=1 -c \"{sql}\"");
        self.with("initContainers", json!([container("migrate", &script)]))
    }

    /// Sets an annotation of the pod.
    pub(crate) fn annotated(mut self, name: &str, value: &str) -> Self {
        self.annotations[name] = value.into();
        self
    }

    /// Takes the pod's wish for a sidecar back.
    pub(crate) fn unasked(mut self) -> Self {
        self.annotations = json!({});
        self
    }

    /// Sets a field of the pod's spec.
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.spec[field] = value.into();
        self
    }

    /// Sets a field of its container.
    pub(crate) fn with_container(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.spec["containers"][0][field] = value.into();
        self
    }

    /// A bare pod.
    pub(crate) fn pod(&self) -> String {
        let template = self.template();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": merged(&self.metadata(), &template["metadata"]), "spec": template["spec"]})
            .to_string()
    }

    /// What a workload creates its pods from.
    pub(crate) fn template(&self) -> Value {
        json!({"metadata": {"labels": {"app": self.name}, "annotations": self.annotations}, "spec": self.spec})
    }

    /// A Deployment of so many replicas.
    pub(crate) fn deployment(&self, replicas: u32) -> String {
        self.workload("Deployment", &json!({"replicas": replicas}))
    }

    /// A workload of a kind of `apps/v1`, with what its spec says besides.
    pub(crate) fn workload(&self, kind: &str, spec: &Value) -> String {
        let spec = merged(spec, &json!({"selector": {"matchLabels": {"app": self.name}}, "template": self.template()}));
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": self.metadata(), "spec": spec}).to_string()
    }

    /// A Job that is tried once.
    pub(crate) fn job(&self) -> String {
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": self.metadata(), "spec": self.job_spec()})
            .to_string()
    }

    /// A `CronJob` that is never due by itself.
    pub(crate) fn cron_job(&self) -> String {
        let spec = json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": self.job_spec()}});
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": self.metadata(), "spec": spec}).to_string()
    }

    fn job_spec(&self) -> Value {
        let once = self.clone().with("restartPolicy", "Never");
        json!({"backoffLimit": 0, "template": once.template()})
    }

    fn metadata(&self) -> Value {
        json!({"name": self.name})
    }
}

/// A container of the toolbox that every Pod Security level lets pass.
pub(crate) fn container(name: &str, script: &str) -> Value {
    json!({
        "name": name,
        "image": images::toolbox().name(),
        "command": ["/bin/sh", "-c", script],
        "securityContext": {
            "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

fn merged(one: &Value, other: &Value) -> Value {
    let mut all = one.clone();
    for (key, value) in other.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    all
}

// === impl Session ===

impl Session {
    /// Asks a question over the session and waits for its one line of answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, sql: &str) -> String {
        writeln!(self.questions, "{sql};").expect("the session is open");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the session is open");
        answer.trim().to_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}
