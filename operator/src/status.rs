//! What the resource's status says: a pure function of what was found, so that it can be read as a table.

use crds::{Connections, GatewayConfigSpec, GatewayConfigStatus, Pods, resolve};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::api::cut;
use crate::sidecars::Summary;

mod conditions;
mod news;

pub use news::{News, news};

/// Characters of a condition's sentence, at most.
const MAX_MESSAGE: usize = 4096;
/// Characters of a failing pod's reason: the schema's limit.
const MAX_REASON: usize = 1024;

/// The configuration can be served.
pub const ACCEPTED: &str = "Accepted";
/// It was delivered to the pods' namespace.
pub const PROGRAMMED: &str = "Programmed";
/// Every pod that can be asked serves it.
pub const READY: &str = "Ready";
/// A pod fails with it, or runs without the sidecar that it asked for.
pub const DEGRADED: &str = "Degraded";
/// Something of it takes effect in new pods only.
pub const RESTART_REQUIRED: &str = "RestartRequired";

/// Every reason that a condition, or an event on a configuration, may have, and what it means.
pub const REASONS: [(&str, &str); 15] = [
    ("Valid", "the configuration can be served"),
    ("Invalid", "the configuration cannot be served; the sentence says why, and the last good one stays"),
    ("Delivered", "the ConfigMap holds the newest configuration"),
    ("NotAccepted", "nothing was delivered, because the configuration is invalid"),
    ("ConfigMapTaken", "a ConfigMap of the name that is needed belongs to somebody else"),
    ("DeliveryFailed", "the API server did not take the ConfigMap; it is tried again"),
    ("UpToDate", "every pod that can be asked serves the newest configuration"),
    ("NoPods", "no pod has the sidecar with this configuration yet"),
    ("PodsStarting", "the sidecars with this configuration are about to start"),
    ("PodsUnknown", "no pod can be asked, so whether they serve the configuration is not known"),
    ("WaitingForPods", "pods do not serve the newest configuration yet"),
    ("PodsFailing", "pods refused the configuration, or their sidecar does not run"),
    ("NotInjected", "pods that asked for the sidecar run without it"),
    ("AsExpected", "there is nothing to complain of"),
    ("PodsOutdated", "pods must be restarted before all of the configuration takes effect"),
];

/// Whether the configuration can be served, and whether it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It can, and it was.
    Done,
    /// It cannot, for this reason.
    Invalid(String),
    /// It can, but its `ConfigMap` is somebody else's.
    Taken(String),
    /// It can, but the API server did not take it.
    Failed(String),
}

/// Everything that a status depends on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The resource's generation.
    pub generation: Option<i64>,
    /// Whether it can be served, and was delivered.
    pub delivery: Delivery,
    /// The hash of what is delivered, now or from before.
    pub hash: Option<String>,
    /// Connections that one pod may open; nothing where the resource cannot be read.
    pub per_pod: Option<i64>,
    /// How the pods stand.
    pub pods: &'a Summary,
    /// Pods that asked for the sidecar and run without it.
    pub uninjected: usize,
    /// What was last said.
    pub previous: &'a GatewayConfigStatus,
    /// The time of it.
    pub now: Timestamp,
}

/// What the resource's status says.
pub fn status(observed: &Observed<'_>) -> GatewayConfigStatus {
    let pods = observed.pods;
    let per_pod = observed.per_pod.unwrap_or(observed.previous.connections.per_pod);
    let injected = number(pods.injected);
    let mut failing = pods.failing.clone();
    for pod in &mut failing {
        pod.reason = cut(&pod.reason, MAX_REASON);
    }
    GatewayConfigStatus {
        observed_generation: observed.generation,
        config_hash: observed.hash.clone(),
        pods: Pods {
            matched: number(pods.injected + observed.uninjected),
            injected,
            up_to_date: number(pods.up_to_date),
            ready: number(pods.ready),
            failed: number(pods.failed),
            unknown: number(pods.unknown),
        },
        connections: Connections { per_pod, total: per_pod.saturating_mul(injected.into()) },
        failing,
        conditions: conditions::all(observed).into_iter().map(|said| dated(&said, observed)).collect(),
    }
}

/// Connections that one pod with `spec` may open, over all proxies and workers.
pub fn connections(spec: &GatewayConfigSpec) -> i64 {
    let sizes = resolve(spec).proxies.iter().map(|proxy| i64::from(proxy.pool.size.unwrap_or_default())).sum::<i64>();
    sizes.saturating_mul(spec.workers.into())
}

/// One condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    name: &'static str,
    holds: bool,
    reason: &'static str,
    sentence: String,
}

/// A condition with its times: it keeps the old one for as long as it holds, or does not.
fn dated(said: &Said, observed: &Observed<'_>) -> Condition {
    let status = if said.holds { "True" } else { "False" };
    let before = find(observed.previous, said.name).filter(|before| before.status == status);
    // The API server keeps whole seconds, and what it gives back is compared with this.
    let now = Timestamp::from_second(observed.now.as_second()).unwrap_or(observed.now);
    Condition {
        type_: said.name.into(),
        status: status.into(),
        reason: said.reason.into(),
        message: cut(&said.sentence, MAX_MESSAGE),
        observed_generation: observed.generation,
        last_transition_time: before.map_or(Time(now), |before| before.last_transition_time.clone()),
    }
}

/// What `status` says of the condition `name`.
pub fn find<'a>(status: &'a GatewayConfigStatus, name: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == name)
}

/// Whether `status` says that the condition `name` holds.
pub fn holds(status: &GatewayConfigStatus, name: &str) -> bool {
    find(status, name).is_some_and(|condition| condition.status == "True")
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
