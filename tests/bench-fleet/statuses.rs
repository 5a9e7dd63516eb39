//! What the configurations' statuses say, and when they said it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use crds::{GatewayConfig, GatewayConfigStatus};
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::say;

/// How long an edit may take; more than anything that works needs.
const PATIENCE: Duration = Duration::from_mins(5);

/// The newest status of each configuration; cheap to clone.
#[derive(Clone)]
pub(crate) struct Statuses(watch::Receiver<HashMap<String, Told>>);

/// A status, and when it came.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) status: Arc<GatewayConfigStatus>,
    pub(crate) at: Instant,
}

// === impl Statuses ===

impl Statuses {
    /// Those of `namespace`, from now on.
    pub(crate) fn follow(client: &Client, namespace: &str, tasks: &mut JoinSet<()>) -> Self {
        let api = Api::<GatewayConfig>::namespaced(client.clone(), namespace);
        let (told, statuses) = watch::channel(HashMap::new());
        tasks.spawn(async move {
            let mut stream = std::pin::pin!(watcher(api, Config::default()).default_backoff());
            while let Some(event) = stream.next().await {
                match event {
                    Ok(Event::Apply(config) | Event::InitApply(config)) => {
                        let (name, status) = (config.name_any(), Arc::new(config.status.unwrap_or_default()));
                        told.send_modify(|all| drop(all.insert(name, Told { status, at: Instant::now() })));
                    }
                    Ok(Event::Delete(_) | Event::Init | Event::InitDone) => {}
                    Err(error) => say(&format!("a watch broke, and begins anew: {error}")),
                }
            }
        });
        Self(statuses)
    }

    /// The first status that says that all of `pods` pods serve this generation of `config`.
    pub(crate) async fn acknowledged(&self, config: &str, generation: i64, pods: u32) -> Result<Told> {
        let mut statuses = self.0.clone();
        let is_so = |all: &HashMap<String, Told>| {
            all.get(config).is_some_and(|told| acknowledges(&told.status, generation, pods))
        };
        let found = match timeout(PATIENCE, statuses.wait_for(is_so)).await {
            Ok(all) => all.context("nobody watches the statuses any more")?.get(config).cloned(),
            Err(_) => None,
        };
        found.with_context(|| {
            let last = self.0.borrow().get(config).map(|told| format!("{:?}", told.status));
            format!("{config} is not acknowledged by {pods} pods within {PATIENCE:?}: {last:?}")
        })
    }
}

fn acknowledges(status: &GatewayConfigStatus, generation: i64, pods: u32) -> bool {
    let is_ready = |ready: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        ready.type_ == operator::status::READY && ready.status == "True"
    };
    status.observed_generation == Some(generation)
        && i64::from(status.pods.up_to_date) == i64::from(pods)
        && status.pods.injected == status.pods.up_to_date
        && status.conditions.iter().find(is_ready).is_some()
}
