//! Pods that asked for a sidecar and run without one: created while the webhook was not there, most likely.
//!
//! Nothing can be done about a pod that exists, so knowing the number once a minute is enough; a watch on all pods of
//! the cluster would cost far more than it tells.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::api::{ApiError, CALL, within};
use crate::caches::{Caches, ConfigKey, Triggers};
use crate::metrics::Metrics;
use crate::names;

/// From one look to the next.
const PERIOD: Duration = Duration::from_mins(1);
/// Pods that one answer holds, so that reading it needs little memory.
const PAGE: u32 = 250;

/// The namespaces whose pods are never injected, beside the operator's own: the webhook configuration leaves them out.
pub(crate) const LEFT_OUT: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// How many pods of each configuration run without the sidecar that they asked for; cheap to clone.
#[derive(Clone)]
pub struct Uninjected(Arc<Inner>);

struct Inner {
    counts: Mutex<HashMap<ConfigKey, usize>>,
    client: Client,
    caches: Caches,
    triggers: Triggers,
    metrics: Metrics,
    own: String,
}

/// Of one look, the pods of each configuration, and all of them.
type Counts = (HashMap<ConfigKey, usize>, usize);

// === impl Uninjected ===

impl Uninjected {
    /// None so far; [`Uninjected::run`] counts them, and tells `triggers` of configurations whose number changes. The
    /// operator's `own` namespace is left out.
    pub fn new(client: Client, caches: Caches, triggers: Triggers, metrics: Metrics, own: &str) -> Uninjected {
        Uninjected(Arc::new(Inner { counts: Mutex::default(), client, caches, triggers, metrics, own: own.into() }))
    }

    /// Of `config`, as of the last look.
    pub fn of(&self, config: &ConfigKey) -> usize {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).get(config).copied().unwrap_or_default()
    }

    /// Looks once a minute until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = self.0.caches.synced() => {}
        }
        loop {
            let looked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                looked = self.0.look() => looked,
            };
            match looked {
                Ok((counts, all)) => {
                    self.0.metrics.set_uninjected(all);
                    self.replace(counts);
                }
                Err(error) => warn!(%error, "Cannot count the pods that run without the sidecar that they asked for"),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(PERIOD) => {}
            }
        }
    }

    fn replace(&self, counts: HashMap<ConfigKey, usize>) {
        let mut last = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = last.keys().chain(counts.keys()).filter(|key| last.get(key) != counts.get(key));
        self.0.triggers.touch_all(changed.cloned().collect::<Vec<_>>());
        *last = counts;
    }
}

impl Inner {
    async fn look(&self) -> Result<Counts, ApiError> {
        let pods: Api<PartialObjectMeta<Pod>> = Api::all(self.client.clone());
        let mut page = ListParams::default()
            .labels(&format!("{}!=true", names::INJECTED))
            .fields("status.phase!=Succeeded,status.phase!=Failed")
            .limit(PAGE);
        let (mut counts, mut all) = (HashMap::new(), 0);
        loop {
            let list = within(CALL, pods.list(&page)).await?;
            for pod in &list.items {
                let namespace = pod.namespace().unwrap_or_default();
                let is_left_out = namespace == self.own || LEFT_OUT.contains(&namespace.as_str());
                if let Some(wanted) = asks_for(pod).filter(|_| !is_left_out) {
                    all += 1;
                    let config = configuration(&self.caches, &namespace, wanted);
                    if let Some(config) = config {
                        *counts.entry(config).or_default() += 1;
                    }
                }
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok((counts, all)),
            }
        }
    }
}

/// What a pod says in its annotation, if it asks for a sidecar and is not about to end.
pub(crate) fn asks_for(pod: &PartialObjectMeta<Pod>) -> Option<&str> {
    let wanted = pod.annotations().get(names::INJECT)?.as_str();
    let is_mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    (wanted != "false" && !is_mirror && pod.metadata.deletion_timestamp.is_none()).then_some(wanted)
}

/// The configuration that is meant, if that can be told.
fn configuration(caches: &Caches, namespace: &str, wanted: &str) -> Option<ConfigKey> {
    if wanted != "true" {
        return Some(ConfigKey::new(namespace, wanted));
    }
    let there = caches.configs(namespace);
    let is_default = |name: &&String| *name == names::DEFAULT_CONFIG;
    let only = if there.len() == 1 { there.first() } else { None };
    there.iter().find(is_default).or(only).map(|name| ConfigKey::new(namespace, name))
}
