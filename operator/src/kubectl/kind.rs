//! The kinds of things that make pods, and what a pod says of who made it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ApiResource;
use kube::core::GroupVersionKind;

use super::snapshot::Owner;

/// A kind of workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// As it is written.
    pub kind: &'static str,
    /// Other ways to write it, in lower case.
    pub words: &'static [&'static str],
    /// Its group.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// The kinds of workloads, in the order in which a name without a kind is looked for.
pub const KINDS: [Kind; 6] = [
    Kind { kind: "Deployment", words: &["deployment", "deployments", "deploy"], group: "apps", version: "v1" },
    Kind { kind: "StatefulSet", words: &["statefulset", "statefulsets", "sts"], group: "apps", version: "v1" },
    Kind { kind: "DaemonSet", words: &["daemonset", "daemonsets", "ds"], group: "apps", version: "v1" },
    Kind { kind: "ReplicaSet", words: &["replicaset", "replicasets", "rs"], group: "apps", version: "v1" },
    Kind { kind: "Job", words: &["job", "jobs"], group: "batch", version: "v1" },
    Kind { kind: "CronJob", words: &["cronjob", "cronjobs", "cj"], group: "batch", version: "v1" },
];

/// The resource of a kind that makes pods, or makes what makes pods; of others nothing is known here.
pub fn kind_of(api_version: &str, kind: &str) -> Option<ApiResource> {
    let known =
        KINDS.iter().find(|known| known.kind == kind && format!("{}/{}", known.group, known.version) == api_version)?;
    Some(ApiResource::from_gvk(&GroupVersionKind::gvk(known.group, known.version, known.kind)))
}

/// Who made the pod, as far as it says itself: of a `ReplicaSet` that bears a Deployment's hash, the Deployment.
pub fn supposed_owner(pod: &Pod) -> Option<Owner> {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    owner.map(|owner| {
        let hash = pod.labels().get("pod-template-hash").map(String::as_str);
        let of_deployment = hash.and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
        let (kind, name) =
            of_deployment.map_or((owner.kind.as_str(), owner.name.as_str()), |name| ("Deployment", name));
        Owner { kind: kind.to_owned(), name: name.to_owned(), annotations: BTreeMap::new() }
    })
}
