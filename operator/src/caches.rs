//! What every replica knows of the cluster without asking: the configurations, and the `ConfigMap`s that were delivered.
//!
//! The webhook reads them for each pod, the controller for each turn. One resource that cannot be read, because it is
//! newer than this operator or wrong in a way that the schema cannot tell, holds up no other.

use std::fmt;
use std::sync::Arc;

use crds::GatewayConfig;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::metrics::Metrics;
use crate::names;
use crate::render::{HOSTS, Rendered, digest};

mod held;
mod triggers;

pub use held::{Held, Known};
pub use triggers::Triggers;

/// Seconds after which a watch begins anew; one that has died silently is noticed 5 s later.
pub(crate) const WATCH: u32 = 60;
/// Objects that one answer to a list holds, so that reading it needs little memory.
pub(crate) const PAGE: u32 = 100;

/// Names a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// What every replica knows of the cluster without asking.
#[derive(Clone)]
pub struct Caches {
    configs: Store<Held>,
    delivered: Store<ConfigMap>,
    /// For each of the two, cancelled as soon as all is known that was there at the start. The stores can be waited for as
    /// well, but wake only one of several who do.
    known: [CancellationToken; 2],
}

// === impl Caches ===

impl Caches {
    /// The caches, and what keeps them up to date for as long as it is polled. What changes is told to `triggers`.
    pub fn new(
        client: &Client,
        triggers: Triggers,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> (Caches, impl Future<Output = ()> + Send + use<>) {
        let (configs, configs_writer) = store();
        let (delivered, delivered_writer) = store();
        let known = [CancellationToken::new(), CancellationToken::new()];
        let [configs_known, delivered_known] = known.clone();
        let caches = Caches { configs: configs.clone(), delivered, known };
        let resources = watcher(Api::<Held>::all(client.clone()), settings(None)).reflect(configs_writer);
        let maps = watcher(Api::<ConfigMap>::all(client.clone()), settings(Some(names::MANAGED)));
        let maps = maps.modify(prune).reflect(delivered_writer);
        let (of_map, all) = (triggers.clone(), configs.clone());
        let follow = async move {
            let resources = follow(resources, "gatewayconfigs", &metrics, move |event| match event {
                Event::Apply(held) | Event::Delete(held) => triggers.touch(ConfigKey::of(held)),
                Event::InitDone => {
                    configs_known.cancel();
                    triggers.touch_all(keys(&configs));
                }
                Event::Init | Event::InitApply(_) => {}
            });
            let maps = follow(maps, "configmaps", &metrics, move |event| match event {
                Event::Apply(map) | Event::Delete(map) => of_map.touch_all(configuration_of(map)),
                // Some may have been deleted while nobody watched.
                Event::InitDone => {
                    delivered_known.cancel();
                    of_map.touch_all(keys(&all));
                }
                Event::Init | Event::InitApply(_) => {}
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = futures::future::join(resources, maps) => {}
            }
        };
        (caches, follow)
    }

    /// The configuration `name`, if there is one.
    pub fn config(&self, namespace: &str, name: &str) -> Option<Known> {
        self.configs.get(&ObjectRef::new(name).within(namespace)).map(|held| held.known.clone())
    }

    /// The names of all configurations of `namespace`, sorted.
    pub fn configs(&self, namespace: &str) -> Vec<String> {
        let there = self.configs.state_filter(|held| held.metadata.namespace.as_deref() == Some(namespace));
        let mut names: Vec<String> = there.iter().map(|held| held.name_any()).collect();
        names.sort();
        names
    }

    /// The hash of what is delivered of the configuration `name`, if the resource that owns it is still the same one.
    pub fn delivered(&self, namespace: &str, name: &str) -> Option<String> {
        let held = self.configs.get(&ObjectRef::new(name).within(namespace))?;
        let map = self.map(namespace, name)?;
        let is_owner = map.owner_references().iter().any(|owner| Some(&owner.uid) == held.metadata.uid.as_ref());
        if is_owner { map.data.as_ref()?.get(names::CONFIG_KEY).cloned() } else { None }
    }

    /// Whether exactly `rendered` is delivered of `config`.
    pub fn holds(&self, config: &GatewayConfig, rendered: &Rendered) -> bool {
        let (namespace, name) = (config.namespace().unwrap_or_default(), config.name_any());
        let hosts = digest(HOSTS.as_bytes());
        let holds_hosts =
            |map: Arc<ConfigMap>| map.data.as_ref().is_some_and(|data| data.get(names::HOSTS_KEY) == Some(&hosts));
        let names_config = |map: &Arc<ConfigMap>| map.labels().get(names::CONFIG).is_some_and(|label| *label == name);
        self.delivered(&namespace, &name).is_some_and(|hash| hash == rendered.hash)
            && self.map(&namespace, &name).filter(names_config).is_some_and(holds_hosts)
    }

    /// The configurations themselves, for the controller.
    pub fn store(&self) -> Store<Held> {
        self.configs.clone()
    }

    /// Waits until all that was there at the start is known.
    pub async fn synced(&self) {
        for known in &self.known {
            known.cancelled().await;
        }
    }

    fn map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>> {
        self.delivered.get(&ObjectRef::new(&names::config_map(name)).within(namespace))
    }
}

#[cfg(test)]
impl Caches {
    /// Caches with exactly this in them.
    pub(crate) fn with(configs: &[GatewayConfig], delivered: Vec<ConfigMap>) -> Caches {
        let (configs_store, mut writer) = store();
        let (delivered_store, mut delivered_writer) = store();
        for config in configs {
            let held = serde_json::from_value(serde_json::to_value(config).expect("JSON")).expect("a resource");
            writer.apply_watcher_event(&Event::InitApply(held));
        }
        writer.apply_watcher_event(&Event::InitDone);
        for mut map in delivered {
            prune(&mut map);
            delivered_writer.apply_watcher_event(&Event::InitApply(map));
        }
        delivered_writer.apply_watcher_event(&Event::InitDone);
        let known = [CancellationToken::new(), CancellationToken::new()];
        known.iter().for_each(CancellationToken::cancel);
        Caches { configs: configs_store, delivered: delivered_store, known }
    }
}

fn keys(configs: &Store<Held>) -> Vec<ConfigKey> {
    configs.state().iter().map(|held| ConfigKey::of(held)).collect()
}

/// How a kind is watched, with a label if only what is ours matters.
fn settings(label: Option<&str>) -> Config {
    let settings = Config::default().timeout(WATCH).page_size(PAGE);
    match label {
        Some(label) => settings.labels(&format!("{label}=true")),
        None => settings,
    }
}

/// Passes on what a watch says, for ever.
async fn follow<K: 'static>(
    stream: impl Stream<Item = watcher::Result<Event<K>>>,
    resource: &'static str,
    metrics: &Metrics,
    tell: impl Fn(&Event<K>),
) {
    let mut stream = std::pin::pin!(stream.default_backoff());
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => tell(&event),
            Err(error) => {
                metrics.watch_failed(resource);
                warn!(%error, resource, "A watch broke; it begins anew");
            }
        }
    }
}

/// Keeps of a `ConfigMap` what is compared: who owns it, and the hashes of what it holds.
fn prune(map: &mut ConfigMap) {
    map.metadata.managed_fields = None;
    map.metadata.annotations = None;
    map.binary_data = None;
    let hash = |text: &mut String| *text = digest(text.as_bytes());
    if let Some(data) = &mut map.data {
        data.retain(|key, _| key == names::CONFIG_KEY || key == names::HOSTS_KEY);
        data.values_mut().for_each(hash);
    }
}

/// The configuration that a `ConfigMap` of ours belongs to.
fn configuration_of(map: &ConfigMap) -> Option<ConfigKey> {
    let namespace = map.metadata.namespace.as_deref()?;
    map.labels().get(names::CONFIG).map(|name| ConfigKey::new(namespace, name))
}

// === impl ConfigKey ===

impl ConfigKey {
    /// Names the configuration `name` of `namespace`.
    pub fn new(namespace: &str, name: &str) -> ConfigKey {
        ConfigKey { namespace: namespace.into(), name: name.into() }
    }

    /// Names `held`.
    pub fn of(held: &Held) -> ConfigKey {
        ConfigKey::new(held.metadata.namespace.as_deref().unwrap_or_default(), &held.name_any())
    }
}

impl fmt::Display for ConfigKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests;
