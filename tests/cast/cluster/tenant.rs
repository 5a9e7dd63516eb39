//! A journey's own namespace of Kubernetes, so that journeys can share a cluster.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use super::kubectl::Kubectl;
use crate::time::eventually;

/// A namespace, and the tools for it; deleted with all that is in it when dropped.
#[derive(Debug)]
pub struct Tenant {
    name: String,
    kubectl: Kubectl,
}

// === impl Tenant ===

impl Tenant {
    /// Makes one whose name begins with `purpose`; `metadata` is more of its metadata, as YAML in one line:
    /// `labels: {postern.dev/inject: enabled}`.
    #[track_caller]
    pub(super) fn new(cluster: &Kubectl, purpose: &str, metadata: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Journeys of several processes share a cluster too.
        let name = format!("{purpose}-{}-{number}", std::process::id());
        let separator = if metadata.is_empty() { "" } else { ", " };
        let metadata = format!("{{name: {name}{separator}{metadata}}}");
        cluster.try_create(&format!("{{apiVersion: v1, kind: Namespace, metadata: {metadata}}}")).succeeded();
        let tenant = Self { kubectl: Kubectl { namespace: Some(name.clone()), ..cluster.clone() }, name };
        // Without it the API server refuses every pod.
        eventually("the namespace has a service account", || {
            tenant.try_kubectl(["get", "serviceaccount", "default"]).ok
        });
        tenant
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A Service here that leads to something outside of the cluster, such as a database on the node.
    #[track_caller]
    pub fn publish(&self, service: &str, port: u16, address: SocketAddr) {
        let (ip, target) = (address.ip(), address.port());
        self.apply(&format!(
            r"
apiVersion: v1
kind: Service
metadata: {{name: {service}}}
spec:
  ports: [{{name: main, port: {port}, targetPort: {target}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {service}
  labels: {{kubernetes.io/service-name: {service}}}
addressType: IPv4
ports: [{{name: main, port: {target}}}]
endpoints: [{{addresses: ['{ip}']}}]
"
        ));
    }
}

impl Deref for Tenant {
    type Target = Kubectl;

    fn deref(&self) -> &Kubectl {
        &self.kubectl
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let state = self.try_kubectl(["get", "pods,events", "--output=wide"]);
            eprintln!("--- in the namespace {}\n{}{}\n---", self.name, state.out, state.err);
        }
        // It is gone with the cluster at the latest.
        let _ = self.try_kubectl(["delete", "namespace", &self.name, "--wait=false"]);
    }
}
