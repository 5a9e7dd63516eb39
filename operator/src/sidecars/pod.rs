//! What of an injected pod matters to its configuration; the rest of it is not even read.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerState, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Deserialize;

use crate::api::cut;
use crate::caches::ConfigKey;
use crate::names;

/// Characters that are kept of what the kubelet says about a container.
const MAX_TROUBLE: usize = 512;

/// Why a container waits, when it is not just about to start.
const TROUBLES: [&str; 9] = [
    "CrashLoopBackOff",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PostStartHookError",
];

/// Names a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// An injected pod, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub key: PodKey,
    /// The configuration that it serves.
    pub config: ConfigKey,
    /// Which run of its sidecar this is: another pod of the same name, or a container that was restarted, is another.
    pub run: Run,
    /// Where its sidecar can be asked; nothing while it does not run.
    pub address: Option<SocketAddr>,
    /// Whether its gateway says that it is ready.
    pub is_ready: bool,
    /// Why its sidecar does not run, if that is not about to change.
    pub trouble: Option<String>,
    /// What was last written into the annotation that wakes its kubelet.
    pub poked: Option<String>,
    /// With which part of the configuration it was created.
    pub sidecar_hash: Option<String>,
    /// The Secrets that its sidecar sees.
    pub secrets: Vec<String>,
}

/// One run of a pod's sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The pod's.
    pub uid: String,
    /// How often its container was started anew.
    pub restarts: i32,
}

/// An injected pod as it comes over the wire.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Injected {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    init_containers: Vec<Container>,
    volumes: Vec<Volume>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    name: String,
    container_port: u16,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Volume {
    name: String,
    secret: Option<Secret>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Secret {
    secret_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    conditions: Vec<PodCondition>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    ready: bool,
    started: Option<bool>,
    restart_count: i32,
    state: Option<ContainerState>,
}

// === impl Injected ===

impl Injected {
    /// What matters of it; nothing if it has ended, is ending, or names no configuration.
    pub fn seen(&self) -> Option<Seen> {
        let has_ended = matches!(self.status.phase.as_str(), "Succeeded" | "Failed");
        if has_ended || self.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let namespace: Arc<str> = self.metadata.namespace.as_deref()?.into();
        let config =
            ConfigKey { namespace: namespace.clone(), name: self.labels().get(names::CONFIG)?.as_str().into() };
        let statuses = &self.status.init_container_statuses;
        let sidecar = statuses.iter().find(|status| status.name == names::CONTAINER);
        let annotation = |name| self.annotations().get(name).cloned();
        let restarts = sidecar.map_or(0, |status| status.restart_count);
        Some(Seen {
            key: PodKey { namespace, name: self.name_any().into() },
            config,
            run: Run { uid: self.uid().unwrap_or_default(), restarts },
            address: self.address().filter(|_| self.is_running(sidecar)),
            is_ready: sidecar.map_or_else(|| self.has_ready_condition(), |status| status.ready),
            trouble: sidecar.and_then(ContainerStatus::trouble),
            poked: annotation(names::CONFIG_HASH),
            sidecar_hash: annotation(names::SIDECAR_HASH),
            secrets: self.secrets(),
        })
    }

    /// The pod's name, for when it is gone.
    pub fn key(&self) -> Option<PodKey> {
        let namespace = self.metadata.namespace.as_deref()?.into();
        Some(PodKey { namespace, name: self.name_any().into() })
    }

    /// Drops what is not looked at, before the pod is kept anywhere.
    pub fn prune(&mut self) {
        self.metadata.managed_fields = None;
        self.metadata.owner_references = None;
    }

    fn address(&self) -> Option<SocketAddr> {
        // The API server takes more for an address than we do, and one pod may not hold up the others.
        let ip = self.status.pod_ip.as_ref()?.parse().ok().filter(is_a_pods)?;
        let sidecar = self.spec.init_containers.iter().find(|container| container.name == names::CONTAINER)?;
        let port = sidecar.ports.iter().find(|port| port.name == names::ADMIN_PORT)?;
        Some(SocketAddr::new(ip, port.container_port))
    }

    /// Whether the sidecar runs; where the kubelet does not tell of it, whether the pod does.
    fn is_running(&self, sidecar: Option<&ContainerStatus>) -> bool {
        match sidecar {
            Some(status) => {
                let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
                runs && status.started != Some(false)
            }
            None => self.status.phase == "Running",
        }
    }

    fn has_ready_condition(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    }

    fn secrets(&self) -> Vec<String> {
        let ours = self.spec.volumes.iter().filter(|volume| volume.name.starts_with(names::SECRET_VOLUME_PREFIX));
        ours.filter_map(|volume| volume.secret.as_ref()).map(|secret| secret.secret_name.clone()).collect()
    }
}

/// Whether a pod can have this address. Others are not asked, whoever wrote them into a status.
fn is_a_pods(ip: &IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_link_local)
}

impl Resource for Injected {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

// === impl ContainerStatus ===

impl ContainerStatus {
    /// Why the container does not run, where that will not change by itself soon.
    fn trouble(&self) -> Option<String> {
        let state = self.state.as_ref()?;
        if let Some(waiting) = &state.waiting {
            let reason = waiting.reason.as_deref().filter(|reason| TROUBLES.contains(reason))?;
            let message = waiting.message.as_deref().unwrap_or_default();
            let separator = if message.is_empty() { "" } else { ": " };
            return Some(cut(&format!("the sidecar does not run: {reason}{separator}{message}"), MAX_TROUBLE));
        }
        let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
        let reason = ended.reason.as_deref().unwrap_or("Error");
        Some(format!("the sidecar ended with status {}: {}", ended.exit_code, cut(reason, MAX_TROUBLE)))
    }
}

// === impl PodKey ===

impl fmt::Display for PodKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod() -> Value {
        json!({
            "metadata": {
                "name": "app-1", "namespace": "shop", "uid": "u", "labels": { "postern.dev/config": "orders" },
                "annotations": { "postern.dev/config-hash": "abc" }
            },
            "spec": {
                "initContainers": [
                    { "name": "migrate" },
                    { "name": "postern-gateway", "ports": [{ "name": "postern-admin", "containerPort": 19187 }] }
                ],
                "volumes": [
                    { "name": "data", "secret": { "secretName": "other" } },
                    { "name": "postern-secret-0", "secret": { "secretName": "orders-db" } }
                ]
            },
            "status": {
                "phase": "Pending", "podIP": "10.1.2.3",
                "initContainerStatuses": [{
                    "name": "postern-gateway", "ready": true, "started": true, "restartCount": 2,
                    "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } }
                }]
            }
        })
    }

    fn seen(pod: Value) -> Option<Seen> {
        serde_json::from_value::<Injected>(pod).expect("a pod").seen()
    }

    #[test]
    fn what_matters_is_read() {
        let seen = seen(pod()).expect("it counts");
        assert_eq!(seen.config, ConfigKey::new("shop", "orders"));
        assert_eq!(seen.address, Some("10.1.2.3:19187".parse().expect("an address")));
        assert_eq!(seen.run, Run { uid: "u".into(), restarts: 2 });
        assert_eq!((seen.poked.as_deref(), seen.is_ready, seen.trouble), (Some("abc"), true, None));
        assert_eq!(seen.secrets, ["orders-db"]);
    }

    #[test]
    fn a_sidecar_that_is_not_up_cannot_be_asked() {
        let mut starting = pod();
        starting["status"]["initContainerStatuses"][0]["started"] = json!(false);
        assert_eq!(seen(starting).expect("it counts").address, None);
        let mut waiting = pod();
        let state = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } });
        waiting["status"]["initContainerStatuses"][0]["state"] = state;
        let waiting = seen(waiting).expect("it counts");
        assert_eq!(waiting.address, None);
        assert_eq!(waiting.trouble.as_deref(), Some("the sidecar does not run: CrashLoopBackOff: back-off 10s"));
    }

    #[test]
    fn a_pod_that_ends_does_not_count() {
        let mut done = pod();
        done["status"]["phase"] = json!("Succeeded");
        assert_eq!(seen(done), None);
        let mut leaving = pod();
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(seen(leaving), None);
    }

    #[test]
    fn only_addresses_that_a_pod_can_have_are_asked() {
        for ip in
            ["127.0.0.1", "010.1.1.1", "169.254.169.254", "0.0.0.0", "::1", "fe80::1", "224.0.0.1", "::ffff:127.0.0.1"]
        {
            let mut elsewhere = pod();
            elsewhere["status"]["podIP"] = json!(ip);
            assert_eq!(seen(elsewhere).expect("it counts").address, None, "{ip}");
        }
        let mut six = pod();
        six["status"]["podIP"] = json!("fd00::7");
        assert!(seen(six).expect("it counts").address.is_some());
    }

    #[test]
    fn a_pod_of_which_little_is_told_is_read_all_the_same() {
        let bare = json!({ "metadata": { "name": "a", "namespace": "b", "labels": { "postern.dev/config": "c" } } });
        assert_eq!(seen(bare).expect("it counts").address, None);
    }
}
