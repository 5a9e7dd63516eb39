//! The injected pods: woken when their configuration changes, and asked whether they serve it.
//!
//! One task owns the watch and everything that is under way; the bookkeeping is the [`Fleet`]'s, which knows no clock
//! and no network.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::api::{ApiError, CALL, within};
use crate::caches::{ConfigKey, PAGE, Triggers, WATCH};
use crate::metrics::Metrics;
use crate::names;

pub mod pod;
pub mod ask;
pub mod fleet;
pub mod summary;
pub mod uninjected;

mod agenda;
mod record;

use ask::Report;
use fleet::{Fixed, Fleet, Job, What};
use pod::Injected;
pub(crate) use record::Record;
pub(crate) use summary::Standing;
pub use summary::Summary;

/// The injected pods, for the controller; cheap to clone.
#[derive(Clone)]
pub struct Sidecars(Arc<Inner>);

struct Inner {
    fleet: Mutex<Fleet>,
    /// When all pods were known that there were at the start.
    known: Mutex<Option<Instant>>,
    wake: Notify,
    client: Client,
    metrics: Metrics,
    triggers: Triggers,
}

/// What came of a job.
enum Done {
    Heard(Result<Report, String>),
    Poked(Result<(), ApiError>),
}

// === impl Sidecars ===

impl Sidecars {
    /// No pods yet; [`Sidecars::run`] finds them. What is to be told of a configuration is told to `triggers`.
    pub fn new(client: Client, metrics: Metrics, triggers: Triggers) -> Sidecars {
        let inner =
            Inner { fleet: Mutex::default(), known: Mutex::default(), wake: Notify::new(), client, metrics, triggers };
        Sidecars(Arc::new(inner))
    }

    /// The pods of `config` shall serve what has this hash: they are woken, and asked until they do.
    pub fn want(&self, config: &ConfigKey, hash: &str) {
        self.fleet().want(config, hash, Instant::now());
        self.0.wake.notify_one();
    }

    /// There is no such configuration any more.
    pub fn forget(&self, config: &ConfigKey) {
        self.fleet().forget(config, Instant::now());
    }

    /// How the pods of `config` stand to it.
    pub fn summary(&self, config: &ConfigKey, injection: Option<&Fixed>) -> Summary {
        self.fleet().summary(config, injection)
    }

    /// When all pods were known that there were at the start; nothing before.
    pub fn known_since(&self) -> Option<Instant> {
        *self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the pods until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let settings = watcher::Config::default().timeout(WATCH).page_size(PAGE);
        let settings = settings.labels(&format!("{}=true", names::INJECTED));
        let pods = watch(Api::<Injected>::all(self.0.client.clone()), settings);
        let mut pods = std::pin::pin!(pods.modify(Injected::prune).default_backoff());
        let mut jobs: JoinSet<(Job, Done)> = JoinSet::new();
        loop {
            let next = self.begin(&mut jobs);
            let pause = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Some(done) = jobs.join_next() => match done {
                    Ok((job, done)) => self.finish(&job, done),
                    Err(error) => {
                        // Which pod it was about is lost, so the bookkeeping is wrong from now on.
                        error!(%error, "A task about a pod has failed");
                        return;
                    }
                },
                Some(event) = pods.next() => self.follow(event),
                () = self.0.wake.notified() => {}
                () = pause => {}
            }
        }
    }

    /// Begins what is due, and tells what is new; says when there is more.
    fn begin(&self, jobs: &mut JoinSet<(Job, Done)>) -> Option<Instant> {
        let now = Instant::now();
        let mut fleet = self.fleet();
        for job in fleet.jobs(now) {
            jobs.spawn(carry_out(job, self.0.client.clone()));
        }
        let news = fleet.news(now);
        for took in fleet.acknowledged() {
            self.0.metrics.acknowledged(took);
        }
        self.0.metrics.set_pods(fleet.counts());
        self.0.triggers.touch_all(news);
        fleet.next()
    }

    fn finish(&self, job: &Job, done: Done) {
        let now = Instant::now();
        match done {
            Done::Heard(said) => {
                if let Err(reason) = &said {
                    debug!(pod = %job.pod, reason, "Cannot ask a sidecar");
                }
                let answer = self.fleet().heard(job, said, now);
                self.0.metrics.asked(answer);
            }
            Done::Poked(result) => {
                let word = match &result {
                    Ok(()) => "taken",
                    // It has gone, or another has its name: there is nothing to wake.
                    Err(error) if error.is_not_found() || error.is_conflict() => "gone",
                    Err(error) => {
                        warn!(pod = %job.pod, %error, "Cannot touch a pod's annotation");
                        "failed"
                    }
                };
                self.0.metrics.poked(word);
                self.fleet().poked(job, result.is_ok(), now);
            }
        }
    }

    /// Takes in what the watch says.
    fn follow(&self, event: watcher::Result<Event<Injected>>) {
        let now = Instant::now();
        let mut fleet = self.fleet();
        match event {
            Ok(Event::Init) => fleet.begin(),
            Ok(Event::InitDone) => {
                fleet.end(now);
                self.0.known.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
            }
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => match (pod.seen(), pod.key()) {
                (Some(seen), _) => fleet.see(seen, now),
                (None, Some(key)) => fleet.gone(&key, now),
                (None, None) => {}
            },
            Ok(Event::Delete(pod)) => {
                if let Some(key) = pod.key() {
                    fleet.gone(&key, now);
                }
            }
            Err(error) => {
                self.0.metrics.watch_failed("pods");
                warn!(%error, resource = "pods", "A watch broke; it begins anew");
            }
        }
    }

    /// Held only while something is looked up or noted, never while something is waited for.
    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.0.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn carry_out(job: Job, client: Client) -> (Job, Done) {
    let done = match &job.what {
        What::Ask(address) | What::AskAgain(address) => Done::Heard(ask::ask(*address).await),
        What::Poke(value) => Done::Poked(poke(&client, &job, value).await),
    };
    (job, done)
}

/// Touches the pod's annotation; the API server answers with as little as it can.
async fn poke(client: &Client, job: &Job, value: &str) -> Result<(), ApiError> {
    let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), &job.pod.namespace);
    let patch = json!({ "metadata": { "uid": job.run.uid, "annotations": { names::CONFIG_HASH: value } } });
    let how = PatchParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PatchParams::default() };
    within(CALL, pods.patch(&job.pod.name, &how, &Patch::Merge(&patch))).await.map(drop)
}
