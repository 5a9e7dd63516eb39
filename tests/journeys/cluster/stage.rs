//! What all of these journeys begin with: a cluster that knows the toolbox, and pods of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cast::cluster::Tenant;
use cast::{Cluster, images};

/// A pod of the toolbox that runs a shell script.
pub(crate) fn pod(name: &str, script: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 2
  restartPolicy: Never
  containers:
  - name: main
    image: {image}
    command: [/bin/sh, -c, {script:?}]
    securityContext:
      allowPrivilegeEscalation: false
      runAsNonRoot: true
      capabilities: {{drop: [ALL]}}
      seccompProfile: {{type: RuntimeDefault}}
",
        image = images::toolbox().name()
    )
}

/// Held by who makes clusters of its own: there is not the memory for many, and some look what others have left.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn service(name: &str, port: u16) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{selector: {{app: {name}}}, ports: [{{port: {port}}}]}}}}"
    )
}

pub(crate) fn cluster() -> &'static Cluster {
    let cluster = Cluster::shared();
    cluster.load(images::toolbox());
    cluster
}

/// Waits until a pod that runs to its end has succeeded, and returns what it wrote.
pub(crate) fn output_of(tenant: &Tenant, name: &str) -> String {
    tenant.wait_for(&format!("pod/{name}"), "jsonpath={.status.phase}=Succeeded");
    tenant.logs(name, "main")
}
