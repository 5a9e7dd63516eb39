//! The rows: one for each configuration, one for each pod.

use kube::ResourceExt;
use serde::Serialize;

use crate::caches::Held;
use crate::kubectl::advice::{Advice, sorted};
use crate::kubectl::live::Proxy;
use crate::kubectl::snapshot::{Namespace, PodView};
use crate::kubectl::{config, database, pod};
use crate::render;
use crate::status::{ACCEPTED, PROGRAMMED, find};

/// How one configuration stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its generation, and the one that the operator has seen.
    pub generation: i64,
    /// The generation that the operator has seen.
    pub observed_generation: Option<i64>,
    /// Whether the operator says that it can be served: `True`, `False`, or nothing yet.
    pub accepted: Option<String>,
    /// Whether the operator says that it was delivered.
    pub programmed: Option<String>,
    /// Pods that have a gateway with it.
    pub pods: i32,
    /// Of those, pods that serve the newest.
    pub up_to_date: i32,
    /// Connections that they may open together.
    pub connections: i64,
    /// The hash of what is delivered.
    pub hash: Option<String>,
    /// What somebody should do.
    pub advice: Vec<Advice>,
}

/// How one pod stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The configuration whose gateway it has; nothing if it has none.
    pub config: Option<String>,
    /// Whether its gateway is ready.
    pub is_ready: bool,
    /// Whether it serves the newest configuration; nothing where that is not known.
    pub is_up_to_date: Option<bool>,
    /// The hash of what it serves.
    pub hash: Option<String>,
    /// Its databases; nothing where its gateway does not tell.
    pub databases: Option<Vec<DatabaseRow>>,
    /// What somebody should do.
    pub advice: Vec<Advice>,
}

/// How one proxy of a pod stands to its database.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseRow {
    /// The proxy.
    pub proxy: String,
    /// `up`, `away`, `down` or `unknown`.
    pub state: String,
    /// Since when.
    pub since_seconds: f64,
    /// Connections that are lent.
    pub lent: u64,
    /// Of so many.
    pub size: u64,
    /// Peers that wait.
    pub waiting: u64,
}

// === impl ConfigRow ===

impl ConfigRow {
    /// How `held` stands.
    pub fn of(held: &Held, namespace: &Namespace) -> Self {
        let status = &held.status;
        let condition = |name| find(status, name).map(|condition| condition.status.clone());
        let mut advice = config::advice(held, namespace);
        advice.extend(config::of_status(held));
        Self {
            namespace: namespace.name.clone(),
            name: held.name_any(),
            generation: held.metadata.generation.unwrap_or_default(),
            observed_generation: status.observed_generation,
            accepted: condition(ACCEPTED),
            programmed: condition(PROGRAMMED),
            pods: status.pods.injected,
            up_to_date: status.pods.up_to_date,
            connections: status.connections.total,
            hash: namespace.delivered_of(held).map(|delivered| delivered.hash.clone()),
            advice: sorted(advice),
        }
    }
}

// === impl PodRow ===

impl PodRow {
    /// How the pod stands, if it has a gateway.
    pub fn of(view: &PodView, namespace: &Namespace) -> Option<Self> {
        let seen = view.seen.as_ref()?;
        let held = namespace.config(&seen.config.name);
        let newest = held.and_then(|held| held.known.as_ref().ok()).map(|config| render::render(config).hash);
        let live = view.live.as_ref().and_then(|live| live.as_ref().ok());
        let hash = live.map(|live| live.report.hash.clone());
        let state = live.and_then(|live| live.state.as_ref());
        let mut advice = pod::of_gateway(view, seen, namespace);
        for proxy in pod::proxies(view) {
            advice.extend(held.into_iter().flat_map(|held| database::advice(proxy, held, namespace)));
        }
        Some(Self {
            namespace: namespace.name.clone(),
            name: view.pod.name_any(),
            config: Some(seen.config.name.to_string()),
            is_ready: seen.is_ready,
            is_up_to_date: hash.as_ref().zip(newest.as_ref()).map(|(hash, newest)| hash == newest),
            hash,
            databases: state.map(|state| state.proxies.iter().map(DatabaseRow::of).collect()),
            advice: sorted(advice),
        })
    }
}

// === impl DatabaseRow ===

impl DatabaseRow {
    fn of(proxy: &Proxy) -> Self {
        let pool = proxy.pool;
        Self {
            proxy: proxy.name.clone(),
            state: proxy.database.state.clone(),
            since_seconds: proxy.database.since_seconds,
            lent: pool.lent,
            size: pool.size,
            waiting: pool.waiting,
        }
    }
}
