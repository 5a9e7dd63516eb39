//! A configuration's journey, read from top to bottom: it is validated, rendered, delivered, its sidecars are told to
//! serve it, and what they answer becomes its status.
//!
//! It runs on the replica that leads. A turn waits for nobody but the API server; sidecars that answer later give it
//! another turn.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crds::{API_VERSION, GatewayConfig, GatewayConfigStatus, KIND};
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Error as Ended, ReconcileRequest};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Config, applier};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::api::{ApiError, CALL, within};
use crate::caches::{Caches, ConfigKey, Held, Triggers};
use crate::deliver::{self, DeliverError, Delivered};
use crate::events::Events;
use crate::metrics::{ConfigState, Metrics};
use crate::names;
use crate::render::{self, Rendered};
use crate::sidecars::fleet::Fixed;
use crate::sidecars::uninjected::Uninjected;
use crate::sidecars::{Sidecars, Summary};
use crate::status::{self, Delivery, Observed};

/// Configurations that have their turn at one time.
const TURNS: u16 = 16;
/// After this a configuration has another turn, whether something happened or not.
const ANYWAY: Duration = Duration::from_mins(10);
/// From a turn that failed to the next; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// And at most this.
const LAST_RETRY: Duration = Duration::from_secs(30);
/// How long a new leader may look about before it writes what it does not know yet.
const LOOK_ABOUT: Duration = Duration::from_secs(5);
/// How soon a turn is taken up again that waits for that.
const SOON: Duration = Duration::from_millis(250);
/// While the name that we need is somebody else's, we look again this often.
const TAKEN: Duration = Duration::from_mins(1);

/// Why a turn failed; it is taken again.
#[derive(Debug, Error)]
pub enum Error {
    /// The configuration could not be delivered.
    #[error("{0}")]
    Deliver(String),
    /// Its status could not be written.
    #[error("cannot write the status: {0}")]
    Status(#[source] ApiError),
}

/// All that a turn needs.
pub struct Reconciler {
    /// The API server.
    pub client: Client,
    /// What is known of the cluster.
    pub caches: Caches,
    /// The injected pods.
    pub sidecars: Sidecars,
    /// The pods that should be.
    pub uninjected: Uninjected,
    /// For people.
    pub events: Events,
    /// For machines.
    pub metrics: Metrics,
    /// What was done in the turns before.
    pub turns: Turns,
}

/// What is remembered from turn to turn.
#[derive(Default)]
pub struct Turns {
    began: Mutex<Option<Instant>>,
    last: Mutex<HashMap<ConfigKey, Turn>>,
}

/// What is remembered of one configuration.
#[derive(Clone, Debug, Default)]
struct Turn {
    written: Option<Written>,
    state: Option<ConfigState>,
    /// Pods that wait for a restart.
    outdated: usize,
    failures: u32,
}

/// The status that was written last.
#[derive(Clone, Debug)]
struct Written {
    /// The version of the resource that was known then.
    seen: Option<String>,
    /// The version that it has had since.
    version: Option<String>,
    status: GatewayConfigStatus,
}

/// A resource as it is to be delivered, or why it cannot be.
enum Built {
    Good(Arc<GatewayConfig>, Rendered, Fixed),
    Bad(String),
}

/// What became of that.
struct Applied {
    delivery: Delivery,
    /// The hash of what is delivered, now or from before.
    hash: Option<String>,
    per_pod: Option<i64>,
    fixed: Option<Fixed>,
}

/// Gives each configuration its turns until `stop`.
pub async fn run(reconciler: Arc<Reconciler>, triggers: Triggers, stop: CancellationToken) {
    let store = reconciler.caches.store();
    triggers.open();
    triggers.touch_all(store.state().iter().map(|held| ConfigKey::of(held)));
    let queue = triggers.stream().map(|key| {
        let named = ObjectRef::<Held>::new(&key.name).within(&key.namespace);
        Ok::<_, Infallible>(ReconcileRequest::from(named))
    });
    let queue = queue.take_until(stop.cancelled_owned());
    let turn = |held, reconciler| Box::pin(turn(held, reconciler));
    let retry = |held: Arc<Held>, error: &Error, reconciler: Arc<Reconciler>| again(&held, error, &reconciler);
    let settings = Config::default().concurrency(TURNS);
    let turns = applier(turn, retry, reconciler.clone(), store, queue, settings);
    turns
        .for_each(|ended| {
            if let Err(Ended::ObjectNotFound(gone)) = ended {
                let key = ConfigKey::new(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
                reconciler.forget(&key);
            }
            futures::future::ready(())
        })
        .await;
}

/// One turn, and what is counted of it.
async fn turn(held: Arc<Held>, reconciler: Arc<Reconciler>) -> Result<Action, Error> {
    let begun = Instant::now();
    let result = reconciler.reconcile(&held).await;
    reconciler.metrics.reconciled(if result.is_ok() { "ok" } else { "failed" }, begun.elapsed());
    if result.is_ok() {
        reconciler.turns.change(&ConfigKey::of(&held), |turn| turn.failures = 0);
    }
    result
}

/// When a turn that failed is taken again.
fn again(held: &Held, error: &Error, reconciler: &Reconciler) -> Action {
    let key = ConfigKey::of(held);
    let failures = reconciler.turns.change(&key, |turn| {
        turn.failures = turn.failures.saturating_add(1);
        turn.failures
    });
    let pause = FIRST_RETRY.saturating_mul(1 << (failures - 1).min(8)).min(LAST_RETRY);
    warn!(config = %key, %error, ?pause, "A configuration's turn failed; it is taken again");
    Action::requeue(pause)
}

// === impl Reconciler ===

impl Reconciler {
    async fn reconcile(&self, held: &Held) -> Result<Action, Error> {
        let key = ConfigKey::of(held);
        if held.is_deleting() {
            self.sidecars.forget(&key);
            return Ok(Action::await_change());
        }
        let Some(applied) = self.apply(&key, build(held)).await else {
            debug!(config = %key, "The resource is not known as it is now; it has another turn when it is");
            return Ok(Action::await_change());
        };
        if let Some(hash) = &applied.hash {
            self.sidecars.want(&key, hash);
        }
        let pods = self.sidecars.summary(&key, applied.fixed.as_ref());
        if self.looks_about(&pods) {
            return Ok(Action::requeue(SOON));
        }
        self.tell(held, &key, &applied, &pods).await?;
        match applied.delivery {
            Delivery::Failed(sentence) => Err(Error::Deliver(sentence)),
            Delivery::Taken(_) => Ok(Action::requeue(TAKEN)),
            Delivery::Done | Delivery::Invalid(_) => Ok(Action::requeue(ANYWAY)),
        }
    }

    /// Brings what was built to the pods' namespace; nothing that is invalid gets there. Nothing comes of it if the resource
    /// has been edited since.
    async fn apply(&self, key: &ConfigKey, built: Built) -> Option<Applied> {
        let (config, rendered, fixed) = match built {
            Built::Good(config, rendered, fixed) => (config, rendered, fixed),
            Built::Bad(sentence) => {
                let hash = self.caches.delivered(&key.namespace, &key.name);
                return Some(Applied { delivery: Delivery::Invalid(sentence), hash, per_pod: None, fixed: None });
            }
        };
        let per_pod = Some(status::connections(&config.spec));
        let hash = rendered.hash.clone();
        let holds = self.caches.holds(&config, &rendered);
        let written = if holds { Ok(Delivered::There) } else { deliver::apply(&self.client, &config, rendered).await };
        let (delivery, hash) = match written {
            Ok(Delivered::Outdated) => return None,
            Ok(Delivered::There | Delivered::Written) => (Delivery::Done, Some(hash)),
            Err(DeliverError::Invalid(sentence)) => (Delivery::Invalid(sentence), None),
            Err(error @ DeliverError::Taken(_)) => (Delivery::Taken(error.to_string()), None),
            Err(error @ DeliverError::Api(..)) => (Delivery::Failed(error.to_string()), None),
        };
        let hash = hash.or_else(|| self.caches.delivered(&key.namespace, &key.name));
        Some(Applied { delivery, hash, per_pod, fixed: Some(fixed) })
    }

    /// Whether a leader that has just begun should ask before it tells.
    fn looks_about(&self, pods: &Summary) -> bool {
        let knows_all = self.sidecars.known_since().is_some() && pods.unasked == 0;
        !knows_all && self.turns.age() < LOOK_ABOUT
    }

    /// Writes what was found into the resource's status, if that is new, and what of it is news into events.
    async fn tell(&self, held: &Held, key: &ConfigKey, applied: &Applied, pods: &Summary) -> Result<(), Error> {
        let seen = held.resource_version();
        // Our last status, as long as the cache does not show what was written after the version that it shows.
        let written = self.turns.change(key, |turn| turn.written.clone()).filter(|written| written.seen == seen);
        let (version, previous) = match written {
            Some(Written { version, status, .. }) => (version, status),
            None => (seen.clone(), held.status.clone()),
        };
        let now = status::status(&Observed {
            generation: held.metadata.generation,
            delivery: applied.delivery.clone(),
            hash: applied.hash.clone(),
            per_pod: applied.per_pod,
            pods,
            uninjected: self.uninjected.of(key),
            previous: &previous,
            now: Timestamp::now(),
        });
        let state = ConfigState::of(&now);
        let before = self.turns.change(key, |turn| turn.state.replace(state));
        self.metrics.config_stands(before, Some(state));
        let before = self.turns.change(key, |turn| std::mem::replace(&mut turn.outdated, pods.to_restart));
        self.metrics.pods_outdated(before, pods.to_restart);
        if now == previous {
            return Ok(());
        }
        let Some(version) = self.write(held, version, &now).await? else { return Ok(()) };
        self.turns.change(key, |turn| turn.written = Some(Written { seen, version, status: now.clone() }));
        let about = held.object_ref(&());
        for news in status::news(&previous, &now) {
            info!(config = %key, reason = news.reason, sentence = news.sentence, "A configuration's state has changed");
            self.events.note(about.clone(), news.severity, news.reason, news.sentence);
        }
        Ok(())
    }

    /// Writes the status of the resource of this version; says which version it has now, or nothing if it has another, which
    /// is not known here yet: then it has another turn as soon as it is.
    async fn write(
        &self,
        held: &Held,
        version: Option<String>,
        status: &GatewayConfigStatus,
    ) -> Result<Option<Option<String>>, Error> {
        let name = held.name_any();
        let api: Api<Held> = Api::namespaced(self.client.clone(), &held.namespace().unwrap_or_default());
        // With the uid, what has been created anew under this name does not get the status of what it replaced.
        let metadata = json!({ "name": name, "uid": held.uid(), "resourceVersion": version });
        let patch = json!({ "apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": status });
        let how = PatchParams::apply(names::FIELD_MANAGER).force();
        match within(CALL, api.patch_status(&name, &how, &Patch::Apply(&patch))).await {
            Ok(written) => Ok(Some(written.resource_version())),
            Err(error) if error.is_not_found() || error.is_conflict() => {
                debug!(%error, name, "The resource has changed or is gone, so its status is not written");
                Ok(None)
            }
            Err(error) => Err(Error::Status(error)),
        }
    }

    /// The configuration is gone; what was delivered of it goes by its owner reference.
    fn forget(&self, key: &ConfigKey) {
        self.sidecars.forget(key);
        if let Some(turn) = self.turns.remove(key) {
            self.metrics.config_stands(turn.state, None);
            self.metrics.pods_outdated(turn.outdated, 0);
        }
    }
}

/// Validates a resource and renders it.
fn build(held: &Held) -> Built {
    let config = match &held.known {
        Ok(config) => config.clone(),
        Err(sentence) => return Built::Bad(sentence.clone()),
    };
    match deliver::check(&config) {
        Ok(()) => {
            let rendered = render::render(&config);
            let fixed =
                Fixed { secrets: render::secrets(&config.spec), sidecar_hash: render::sidecar_hash(&config.spec) };
            Built::Good(config, rendered, fixed)
        }
        Err(error) => Built::Bad(error.to_string()),
    }
}

// === impl Turns ===

impl Turns {
    fn change<T>(&self, key: &ConfigKey, change: impl FnOnce(&mut Turn) -> T) -> T {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        change(last.entry(key.clone()).or_default())
    }

    fn remove(&self, key: &ConfigKey) -> Option<Turn> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    /// How long ago the first turn was.
    fn age(&self) -> Duration {
        self.began.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now).elapsed()
    }
}

// === impl ConfigState ===

impl ConfigState {
    /// How a configuration with this status stands.
    fn of(now: &GatewayConfigStatus) -> ConfigState {
        if !status::holds(now, status::ACCEPTED) {
            ConfigState::Invalid
        } else if !status::holds(now, status::PROGRAMMED) || now.pods.failed > 0 {
            ConfigState::Failing
        } else if status::holds(now, status::READY) {
            ConfigState::Ready
        } else {
            ConfigState::Waiting
        }
    }
}

#[cfg(test)]
mod tests;
