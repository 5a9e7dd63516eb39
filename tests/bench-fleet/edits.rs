//! Configurations, their edits, and how long it takes until the status says that all pods serve one.

use anyhow::{Context, Result, ensure};
use crds::{API_VERSION, GatewayConfig, KIND};
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::sidecars::Sidecars;
use crate::statuses::{Statuses, Told};

/// What the edits change, one of it after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    edits: u32,
}

/// Who edits the configurations of one namespace.
pub(crate) struct Editor {
    configs: Api<PartialObjectMeta<GatewayConfig>>,
    statuses: Statuses,
}

/// An edit that the API server has taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) at: Instant,
    generation: i64,
}

// === impl Settings ===

impl Settings {
    pub(crate) fn new() -> Self {
        Self { edits: 0 }
    }

    /// Changes one thing; after four edits each has been changed once.
    pub(crate) fn edit(&mut self) {
        self.edits += 1;
    }

    /// How often the setting with this number, of four, has been changed.
    fn changes(self, setting: u32) -> u32 {
        (self.edits + 3 - setting) / 4
    }

    fn spec(self) -> Value {
        let backoff = format!("{}ms", 1000 + self.changes(0));
        let address = format!("127.0.0.1:{}", 1000 + self.changes(2));
        let level = if self.changes(3).is_multiple_of(2) { "info" } else { "debug" };
        let client = json!({"addresses": [address], "backoff": backoff, "retries": 0});
        let pool = json!({"size": 10 + self.changes(1)});
        let proxy = json!({"name": "orders", "server": {"address": "127.0.0.1:5432"}, "pool": pool, "client": client});
        json!({"proxies": [proxy], "log": {"level": level}})
    }
}

// === impl Editor ===

impl Editor {
    pub(crate) fn new(client: &Client, namespace: &str, statuses: Statuses) -> Self {
        Self { configs: Api::namespaced(client.clone(), namespace), statuses }
    }

    /// Makes or edits the configuration `name`; returns as soon as the API server has taken it.
    pub(crate) async fn apply(&self, name: &str, settings: Settings) -> Result<Taken> {
        let config =
            json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": settings.spec()});
        let how = PatchParams::apply("bench-fleet").force();
        let taken = self.configs.patch(name, &how, &Patch::Apply(config)).await.context("an edit is not taken")?;
        let at = Instant::now();
        Ok(Taken { at, generation: taken.metadata.generation.context("a resource has a generation")? })
    }

    /// Waits until the status of `name` says that all of `pods` pods serve this edit.
    pub(crate) async fn acknowledged(&self, name: &str, edit: Taken, pods: u32) -> Result<Told> {
        self.statuses.acknowledged(name, edit.generation, pods).await
    }
}

/// When the last of `pods` played sidecars had what the status speaks of; an error if it speaks too soon.
pub(crate) fn last_served(sidecars: &Sidecars, name: &str, (told, pods): (&Told, u32)) -> Result<Instant> {
    let hash = told.status.config_hash.as_deref().context("the status names no hash")?;
    let (count, last) = sidecars.up_to_date(name, hash);
    ensure!(u32::try_from(count) == Ok(pods), "the status of {name} speaks of {pods} pods, and {count} serve it");
    last.context("a fleet has pods")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_edit_changes_one_thing_and_four_change_all() {
        let mut settings = Settings::new();
        let mut specs = vec![settings.spec()];
        for _ in 0..8 {
            settings.edit();
            specs.push(settings.spec());
        }
        let differs = |pointer: &str| -> Vec<usize> {
            (1..specs.len()).filter(|at| specs[*at].pointer(pointer) != specs[at - 1].pointer(pointer)).collect()
        };
        assert_eq!(differs("/proxies/0/client/backoff"), [1, 5]);
        assert_eq!(differs("/proxies/0/pool/size"), [2, 6]);
        assert_eq!(differs("/proxies/0/client/addresses"), [3, 7]);
        assert_eq!(differs("/log/level"), [4, 8]);
    }
}
