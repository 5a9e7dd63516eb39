//! Looking: every call to the API server that an explanation needs, bounded in time and number. What may not be seen, or is
//! not there, is noted with the reason, and never hinders the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crds::{HostPort, Network};
use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace as Space, Pod, Secret, Service as ClusterService};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Error;
use super::forward::Gateway;
use super::installation::{OPERATOR, WEBHOOK};
use super::kind::{KINDS, Kind, kind_of, supposed_owner};
use super::live::Live;
use super::snapshot::{Delivered, Installation, Known, Namespace, Owner, PodView, Service, Warning};
use super::workload::Workload;
use crate::api::{ApiError, CALL, within};
use crate::caches::Held;
use crate::deliver;
use crate::names;
use crate::render::digest;
use crate::run::preflight;
use crate::sidecars::pod::{Injected, Seen};

/// Objects that one answer to a list holds.
const PAGE: u32 = 500;
/// Gateways that are asked at one time.
const AT_ONCE: usize = 16;
/// Pods of one workload that are looked at.
pub const MOST_PODS: usize = 20;
/// Owners of owners, at most.
const MOST_OWNERS: usize = 4;

/// Looks into a cluster.
#[derive(Clone)]
pub struct Look {
    client: Client,
    operator_namespace: String,
}

// === impl Look ===

impl Look {
    /// Looks by `client`; the operator is in `operator_namespace`.
    pub fn new(client: Client, operator_namespace: &str) -> Self {
        Self { client, operator_namespace: operator_namespace.to_owned() }
    }

    /// The way to the API server.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The operator's namespace.
    pub fn operator_namespace(&self) -> &str {
        &self.operator_namespace
    }

    /// Objects of a namespace, or of all.
    pub fn api<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// The operator, and what lets the API server reach it.
    pub async fn installation(&self) -> Installation {
        let webhooks: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let operators: Api<Deployment> = self.api(Some(&self.operator_namespace));
        let account = format!("system:serviceaccount:{}:{OPERATOR}", self.operator_namespace);
        let (webhook, operator, lacks) = tokio::join!(
            within(CALL, webhooks.get_opt(WEBHOOK)),
            within(CALL, operators.get_opt(OPERATOR)),
            preflight::lacks(&self.client, &account)
        );
        Installation {
            namespace: self.operator_namespace.clone(),
            webhook: said(webhook),
            operator: said(operator),
            lacks: said(lacks),
        }
    }

    /// The configurations of a namespace, or of all.
    pub async fn configs(&self, namespace: Option<&str>) -> Result<Vec<Held>, Error> {
        match self.list::<Held>(namespace, ListParams::default()).await {
            Ok(found) => Ok(found),
            Err(error) if error.is_not_found() => Err(Error::Failed(
                "the cluster does not know GatewayConfig: install the chart, or the resource by `operator crd | kubectl \
                 apply -f -`"
                    .to_owned(),
            )),
            Err(error) => Err(Error::Failed(format!("cannot list the GatewayConfigs: {error}"))),
        }
    }

    /// What of a namespace matters to its pods, but for Secrets and Services.
    pub async fn namespace(&self, name: &str, configs: Vec<Held>) -> Namespace {
        let spaces: Api<Space> = Api::all(self.client.clone());
        let (space, maps) = tokio::join!(within(CALL, spaces.get_metadata(name)), self.delivered(Some(name)));
        let labels = said(space).map(|space: PartialObjectMeta<Space>| space.metadata.labels.unwrap_or_default());
        let delivered = maps.map(|mut maps| maps.remove(name).unwrap_or_default());
        Namespace {
            name: name.to_owned(),
            labels,
            configs,
            delivered,
            secrets: BTreeMap::new(),
            services: BTreeMap::new(),
            service_names: Vec::new(),
        }
    }

    /// What was delivered, by namespace and configuration.
    pub async fn delivered(&self, namespace: Option<&str>) -> Known<BTreeMap<String, BTreeMap<String, Delivered>>> {
        let labelled = ListParams::default().labels(&format!("{}=true", names::MANAGED));
        let maps = said(self.list::<ConfigMap>(namespace, labelled).await)?;
        let mut found: BTreeMap<String, BTreeMap<String, Delivered>> = BTreeMap::new();
        for map in maps {
            let Some(config) = names::config_of_map(&map.name_any()).map(str::to_owned) else { continue };
            let document = map.data.as_ref().and_then(|data| data.get(names::CONFIG_KEY));
            let owner =
                map.owner_references().iter().find(|owner| owner.kind == crds::KIND).map(|owner| owner.uid.clone());
            let hash = document.map(|document| digest(document.as_bytes())).unwrap_or_default();
            let delivered = Delivered { hash, owner, is_ours: deliver::is_ours(&map) };
            found.entry(map.namespace().unwrap_or_default()).or_default().insert(config, delivered);
        }
        Ok(found)
    }

    /// Looks which keys the Secrets have that the configurations of `namespace` name. Nothing but names is kept of them.
    pub async fn secrets(&self, namespace: &mut Namespace) {
        let configs = namespace.configs.iter().filter_map(|held| held.known.as_ref().ok());
        let wanted: BTreeSet<String> = configs.flat_map(|config| crate::render::secrets(&config.spec)).collect();
        let api: Api<Secret> = self.api(Some(&namespace.name));
        let looked = futures::stream::iter(wanted).map(|name| {
            let api = api.clone();
            async move {
                let found = said(within(CALL, api.get_opt(&name)).await);
                let keys =
                    found.map(|secret| secret.map(|secret| secret.data.unwrap_or_default().into_keys().collect()));
                (name, keys)
            }
        });
        namespace.secrets = looked.buffer_unordered(AT_ONCE).collect().await;
    }

    /// Looks which Services the hosts of the databases name.
    pub async fn services(&self, namespace: &mut Namespace) {
        let specs = namespace.configs.iter().filter_map(|held| held.known.as_ref().ok()).map(|config| &config.spec);
        let clients = specs.flat_map(|spec| &spec.proxies).map(|proxy| &proxy.client);
        let addresses = clients.filter(|client| client.network != Network::Unix).flat_map(|client| &client.addresses);
        let hosts: BTreeSet<String> =
            addresses.filter_map(|address| address.parse::<HostPort>().ok()).map(|address| address.host).collect();
        for host in hosts {
            if let Some((name, space)) = in_cluster(&host, &namespace.name) {
                let found = self.service(&name, &space).await;
                namespace.services.insert(host, found);
            }
        }
        let all = self.list::<ClusterService>(Some(&namespace.name), ListParams::default()).await;
        namespace.service_names = all.unwrap_or_default().iter().map(ResourceExt::name_any).collect();
    }

    async fn service(&self, name: &str, namespace: &str) -> Known<Option<Service>> {
        let services: Api<ClusterService> = self.api(Some(namespace));
        let Some(service) = said(within(CALL, services.get_opt(name)).await)? else { return Ok(None) };
        let labelled = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
        let slices = said(self.list::<EndpointSlice>(Some(namespace), labelled).await)?;
        let is_ready = |ready: Option<bool>| ready != Some(false);
        let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
        let ready = endpoints.filter(|one| is_ready(one.conditions.as_ref().and_then(|it| it.ready))).count();
        let spec = service.spec.unwrap_or_default();
        let ports = spec.ports.iter().flatten().filter_map(|port| u16::try_from(port.port).ok()).collect();
        let is_headless = spec.cluster_ip.as_deref() == Some("None");
        let is_without_ports = is_headless || spec.type_.as_deref() == Some("ExternalName");
        Ok(Some(Service { name: format!("{name} in namespace {namespace}"), ports, is_without_ports, ready }))
    }

    /// The pod of this name, if there is one.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, Error> {
        let pods: Api<Pod> = self.api(Some(namespace));
        within(CALL, pods.get_opt(name))
            .await
            .map_err(|error| Error::Failed(format!("cannot read pod {name}: {error}")))
    }

    /// Pods with these labels.
    pub async fn pods(&self, namespace: Option<&str>, labels: &str) -> Result<Vec<Pod>, Error> {
        let pods = self.list::<Pod>(namespace, ListParams::default().labels(labels)).await;
        pods.map_err(|error| Error::Failed(format!("cannot list the pods: {error}")))
    }

    /// Everything about one pod, its gateway's own words among it.
    pub async fn view(&self, pod: Pod) -> PodView {
        let namespace = pod.namespace().unwrap_or_default();
        let raw = serde_json::to_value(&pod).unwrap_or_default();
        let seen = seen(&pod, &raw);
        let about = format!("involvedObject.kind=Pod,involvedObject.name={}", pod.name_any());
        let (owner, live, warnings) = tokio::join!(
            Box::pin(self.owner(&namespace, &pod)),
            Box::pin(self.live(seen.as_ref())),
            Box::pin(self.warnings(Some(&namespace), &about))
        );
        PodView { pod, raw, seen, owner, live, warnings: warnings.unwrap_or_default() }
    }

    /// What is known of a pod without asking for its owner and for what was said about it.
    pub async fn glance(&self, pod: Pod) -> PodView {
        let raw = serde_json::to_value(&pod).unwrap_or_default();
        let seen = seen(&pod, &raw);
        let live = self.live(seen.as_ref()).await;
        let owner = Ok(supposed_owner(&pod));
        PodView { pod, raw, seen, owner, live, warnings: Vec::new() }
    }

    /// The same of several, so many at one time.
    pub async fn glances(&self, pods: Vec<Pod>) -> Vec<PodView> {
        futures::stream::iter(pods).map(|pod| self.glance(pod)).buffered(AT_ONCE).collect().await
    }

    async fn live(&self, seen: Option<&Seen>) -> Option<Known<Live>> {
        Some(match Gateway::of(&self.client, seen?) {
            Ok(gateway) => gateway.live().await,
            Err(why) => Err(why),
        })
    }

    /// Everything of several pods, so many at one time.
    pub async fn views(&self, pods: Vec<Pod>) -> Vec<PodView> {
        futures::stream::iter(pods).map(|pod| self.view(pod)).buffered(AT_ONCE).collect().await
    }

    /// Who made the pod, up to whom nobody made.
    async fn owner(&self, namespace: &str, pod: &Pod) -> Known<Option<Owner>> {
        let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
        let mut found = None;
        for _ in 0..MOST_OWNERS {
            let Some(owner) = owners.iter().find(|owner| owner.controller == Some(true)).cloned() else { break };
            let Some(kind) = kind_of(&owner.api_version, &owner.kind) else {
                return Ok(Some(Owner { kind: owner.kind, name: owner.name, annotations: BTreeMap::new() }));
            };
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind);
            let metadata = said(within(CALL, api.get_metadata(&owner.name)).await)?.metadata;
            let annotations = metadata.annotations.unwrap_or_default();
            found = Some(Owner { kind: owner.kind, name: owner.name, annotations });
            owners = metadata.owner_references.unwrap_or_default();
        }
        Ok(found)
    }

    /// Warnings of the last hour about what these fields say.
    pub async fn warnings(&self, namespace: Option<&str>, fields: &str) -> Known<Vec<Warning>> {
        let fields = if fields.is_empty() { "type=Warning".to_owned() } else { format!("type=Warning,{fields}") };
        let events = said(self.list::<Event>(namespace, ListParams::default().fields(&fields)).await)?;
        let mut events = events;
        events.sort_by_key(|event| std::cmp::Reverse(last_seen(event)));
        Ok(events.into_iter().map(warning).collect())
    }

    /// Something that makes pods, if it is there and may be seen.
    pub async fn object(&self, namespace: &str, kind: &str, name: &str) -> Option<DynamicObject> {
        let kind = KINDS.into_iter().find(|known| known.kind == kind)?;
        within(CALL, self.workloads(namespace, kind).get_opt(name)).await.ok()?
    }

    fn workloads(&self, namespace: &str, kind: Kind) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(kind.group, kind.version, kind.kind));
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    /// A workload of this kind and name, with the first of its pods.
    pub async fn workload(&self, namespace: &str, kind: Kind, name: &str) -> Result<Option<Workload>, Error> {
        let api = self.workloads(namespace, kind);
        let cannot = |error: ApiError| Error::Failed(format!("cannot read {} {name}: {error}", kind.kind));
        let Some(object) = within(CALL, api.get_opt(name)).await.map_err(cannot)? else { return Ok(None) };
        let path = if kind.kind == "CronJob" { "/spec/jobTemplate/spec/template" } else { "/spec/template" };
        let template = object.data.pointer(path).cloned().unwrap_or_default();
        let owner = Owner {
            kind: kind.kind.to_owned(),
            name: name.to_owned(),
            annotations: object.metadata.annotations.clone().unwrap_or_default(),
        };
        let labels = object.data.pointer("/spec/selector/matchLabels").and_then(serde_json::Value::as_object);
        let labels: Vec<String> = labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
            .collect();
        let mut pods =
            if labels.is_empty() { Vec::new() } else { self.pods(Some(namespace), &labels.join(",")).await? };
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        let more = pods.len().saturating_sub(MOST_PODS);
        pods.truncate(MOST_PODS);
        let (pods, warnings) = tokio::join!(self.views(pods), self.warnings(Some(namespace), ""));
        let is_of_it = |warning: &Warning| {
            let (_, about) = warning.about.split_once('/').unwrap_or_default();
            about.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let warnings = warnings.unwrap_or_default().into_iter().filter(is_of_it).collect();
        Ok(Some(Workload { owner, template, pods, more, warnings }))
    }

    /// All of a kind, page by page.
    pub async fn list<K>(&self, namespace: Option<&str>, how: ListParams) -> Result<Vec<K>, ApiError>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let api: Api<K> = self.api(namespace);
        let mut page = how.limit(PAGE);
        let mut all = Vec::new();
        loop {
            let list = within(CALL, api.list(&page)).await?;
            all.extend(list.items);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(all),
            }
        }
    }
}

/// What matters of a pod that has a gateway.
fn seen(pod: &Pod, raw: &serde_json::Value) -> Option<Seen> {
    // Who only copied our labels has none.
    crate::inject::existing::recorded_config(pod)?;
    Injected::deserialize(raw).ok()?.seen()
}

/// The Service and its namespace that `host` names as seen from `namespace`, if it can be one.
fn in_cluster(host: &str, namespace: &str) -> Option<(String, String)> {
    if host.parse::<std::net::IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost") {
        return None;
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let labels: Vec<&str> = host.split('.').collect();
    match labels.as_slice() {
        [service] => Some(((*service).to_owned(), namespace.to_owned())),
        [service, space] | [service, space, "svc"] | [service, space, "svc", "cluster", "local"] => {
            Some(((*service).to_owned(), (*space).to_owned()))
        }
        _ => None,
    }
}

/// When it was said the last time: one that is said again is the same event, whatever was said in between.
fn last_seen(event: &Event) -> impl Ord + use<> {
    let again = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let counted = event.last_timestamp.as_ref().map(|time| time.0);
    let first = event.event_time.as_ref().map(|time| time.0);
    let created = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    [again, counted, first, created].into_iter().flatten().max()
}

fn warning(event: Event) -> Warning {
    let object = event.involved_object;
    Warning {
        namespace: object.namespace.unwrap_or_default(),
        about: format!("{}/{}", object.kind.unwrap_or_default(), object.name.unwrap_or_default()),
        reason: event.reason.unwrap_or_default(),
        sentence: event.message.unwrap_or_default(),
    }
}

/// What was found, or the reason in a sentence.
fn said<T>(found: Result<T, ApiError>) -> Known<T> {
    found.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_again_is_newer_than_what_was_said_in_between() {
        let event = |value: serde_json::Value| -> Event { serde_json::from_value(value).expect("an event") };
        let at = |second: u32| format!("2026-01-01T00:00:{second:02}Z");
        let between = event(serde_json::json!({"metadata": {"creationTimestamp": at(2)}, "involvedObject": {}}));
        let series = serde_json::json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:03.000000Z"});
        let again =
            serde_json::json!({"metadata": {"creationTimestamp": at(1)}, "involvedObject": {}, "series": series});
        assert!(last_seen(&event(again)) > last_seen(&between));
    }

    #[test]
    fn a_host_that_may_be_a_service_is_looked_up_as_one() {
        let found = |host: &str| in_cluster(host, "shop").map(|(name, space)| format!("{space}/{name}"));
        assert_eq!(found("db").as_deref(), Some("shop/db"));
        assert_eq!(found("DB.data.").as_deref(), Some("data/db"));
        assert_eq!(found("db.data.svc.cluster.local").as_deref(), Some("data/db"));
        for outside in ["10.0.0.1", "localhost", "db.example.com", "::1"] {
            assert_eq!(found(outside), None, "{outside}");
        }
    }
}
