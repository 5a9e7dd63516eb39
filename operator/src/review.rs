//! One admission review: the API server describes a pod that is about to be created, and is told what becomes of it.
//!
//! It finds out which configurations there are (in the caches, and by one live look where they do not suffice), lets
//! [`inject`] decide, makes sure that what the sidecar will mount is there, and says why wherever the answer
//! is not what somebody wanted: on the pod's owner, in the metrics, and to who creates a pod without an owner.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use crate::api::{cut, within};
use crate::caches::{Caches, Held};
use crate::choose::{Asker, Candidate};
use crate::deliver;
use crate::events::{Events, Severity};
use crate::inject::{self, Decision, Defaults, Injection, Note, Question, Reason, Refusal};
use crate::metrics::Metrics;

mod answer;

use answer::Answer;

/// How long the live look may take; the API server waits 5 s for all of it.
const LOOK: Duration = Duration::from_secs(1);
/// How long it may take to deliver a configuration that nobody has delivered yet.
const DELIVERY: Duration = Duration::from_secs(2);
/// A namespace with more configurations than this is only looked at so far.
const MOST_CONFIGS: u32 = 100;

/// Of a sentence this many characters are logged.
const MAX_LOGGED: usize = 512;

/// The longest name that a pod can have.
const MAX_NAME: usize = 253;

/// The only version of reviews that there is.
const API_VERSION: &str = "admission.k8s.io/v1";
/// What a review is.
const KIND: &str = "AdmissionReview";

/// Answers reviews.
pub struct Review {
    client: Client,
    caches: Caches,
    events: Events,
    metrics: Metrics,
    defaults: Defaults,
}

/// Why something is no review.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// It is not JSON, or not of this shape.
    #[error("this is no AdmissionReview: {0}")]
    Unreadable(String),
    /// It is of another kind, or version.
    #[error("this is a {found}, and {API_VERSION} {KIND} is answered here")]
    Other {
        /// What it says that it is.
        found: String,
    },
    /// Nothing is asked, or it could not be told what the answer is for.
    #[error("this AdmissionReview has no request with a uid")]
    NoRequest,
}

/// As it comes over the wire.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

/// What is asked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    kind: Kind,
    sub_resource: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    object: Value,
}

#[derive(Default, Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    #[serde(default)]
    kind: String,
}

// === impl Request ===

impl Request {
    fn read(body: &[u8]) -> Result<Self, Error> {
        let envelope: Envelope = serde_json::from_slice(body).map_err(|error| Error::Unreadable(error.to_string()))?;
        if envelope.api_version != API_VERSION || envelope.kind != KIND {
            let found = format!("{:?} of {:?}", envelope.kind, envelope.api_version);
            return Err(Error::Other { found });
        }
        envelope.request.filter(|request| !request.uid.is_empty()).ok_or(Error::NoRequest)
    }

    /// Whether it asks about a pod that is about to be created; nothing else is our business.
    fn is_new_pod(&self) -> bool {
        let is_pod = self.kind.group.is_empty() && self.kind.kind == "Pod";
        is_pod && self.operation == "CREATE" && self.sub_resource.as_deref().unwrap_or_default().is_empty()
    }
}

// === impl Review ===

impl Review {
    /// Answers by what `caches` know, and tells `events` and `metrics` of it.
    pub fn new(client: Client, caches: Caches, (events, metrics): (Events, Metrics), defaults: Defaults) -> Self {
        Self { client, caches, events, metrics, defaults }
    }

    /// Answers one review, that came to the webhook `called`.
    pub async fn answer(&self, called: Asker, body: &[u8]) -> Result<Vec<u8>, Error> {
        let request = Request::read(body)?;
        if !request.is_new_pod() {
            debug!(operation = request.operation, kind = request.kind.kind, "Asked about what is no new pod");
            return Ok(Answer::allow(&request.uid).write());
        }
        let begun = Instant::now();
        let decision = self.decide(called, &request).await;
        if !request.dry_run && !matches!(&decision, Decision::Inject(injection) if injection.is_again) {
            self.tell(&request, &decision, begun.elapsed());
        }
        Ok(put(&request, decision).write())
    }

    async fn decide(&self, called: Asker, request: &Request) -> Decision {
        let question = Question { pod: &request.object, namespace: &request.namespace, called };
        let mut decision = inject::decide(question, &self.known(&request.namespace), &self.defaults);
        if decision.refusal().is_some_and(|refusal| refusal.reason.is_of_absence()) {
            decision = match self.look(&request.namespace).await {
                Ok(candidates) => inject::decide(question, &candidates, &self.defaults),
                Err(refusal) => decision.because(refusal),
            };
        }
        match decision {
            Decision::Inject(injection) if !request.dry_run => match self.deliver(&injection).await {
                Ok(()) => Decision::Inject(injection),
                Err(refusal) => Decision::refuse(injection.asker, refusal),
            },
            decision => decision,
        }
    }

    /// The configurations of a namespace, as far as the caches know.
    fn known(&self, namespace: &str) -> Vec<Candidate> {
        let known = |name: String| {
            let known = self.caches.config(namespace, &name)?;
            Some(Candidate { name, known })
        };
        self.caches.configs(namespace).into_iter().filter_map(known).collect()
    }

    /// The configurations of a namespace, as the API server knows them now: the caches may be a moment behind.
    async fn look(&self, namespace: &str) -> Result<Vec<Candidate>, Refusal> {
        let configs = Api::<Held>::namespaced(self.client.clone(), namespace);
        let found = within(LOOK, configs.list(&ListParams::default().limit(MOST_CONFIGS))).await;
        let found = found.map_err(|error| {
            Reason::ConfigUnreadable.because(format!(
                "the GatewayConfigs of namespace {namespace:?} are not known yet, and the API server did not tell: {error}"
            ))
        })?;
        let candidate = |held: Held| Candidate { name: held.name_any(), known: held.known };
        Ok(found.into_iter().map(candidate).collect())
    }

    /// Makes sure that what the sidecar will mount is there: a pod that waits for it waits long.
    async fn deliver(&self, injection: &Injection) -> Result<(), Refusal> {
        let config = &injection.config;
        let (namespace, name) = (config.namespace().unwrap_or_default(), config.name_any());
        if self.caches.delivered(&namespace, &name).is_some() {
            return Ok(());
        }
        let refuse = |why: String| {
            let what = format!("the configuration of GatewayConfig {name:?} could not be delivered: {why}");
            Err(Reason::NotDelivered.because(what))
        };
        match timeout(DELIVERY, deliver::ensure(&self.client, config)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => refuse(error.to_string()),
            Err(_) => refuse(format!("the API server did not answer within {DELIVERY:?}")),
        }
    }

    /// Counts the decision, and says on the pod's owner what somebody should know of it.
    fn tell(&self, request: &Request, decision: &Decision, took: Duration) {
        let (word, reason) = decision.words();
        self.metrics.decided(word, reason, took.as_secs_f64());
        let metadata = &request.object["metadata"];
        let name = metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or_default();
        let name = cut(name, MAX_NAME);
        let namespace = &request.namespace;
        if let Some(refusal) = decision.refusal() {
            let sentence = cut(&refusal.sentence, MAX_LOGGED);
            info!(namespace, pod = name, reason, "A pod was {word}: {sentence}");
        } else {
            debug!(namespace, pod = name, reason, "A pod was {word}");
        }
        let Some(owner) = owner(&request.object) else { return };
        let about = reference(owner, namespace);
        match decision {
            Decision::Leave(_) => {}
            Decision::Skip(refusal) | Decision::Deny(refusal) => {
                self.events.note(about, Severity::Warning, reason, &refusal.sentence);
            }
            Decision::Inject(injection) => {
                for Note { reason, sentence } in &injection.notes {
                    self.events.note(about.clone(), Severity::Warning, reason, sentence);
                }
            }
        }
    }
}

/// Puts the decision into an answer. Who creates a pod without an owner reads warnings; nobody else would.
fn put(request: &Request, decision: Decision) -> Answer {
    let (word, reason) = decision.words();
    let has_reader = owner(&request.object).is_none();
    let answer = match decision {
        Decision::Skip(refusal) if has_reader => {
            Answer::allow(&request.uid).warn(format!("no sidecar was injected: {refusal}"))
        }
        Decision::Skip(_) | Decision::Leave(_) => Answer::allow(&request.uid),
        Decision::Deny(refusal) => Answer::deny(&request.uid, &refusal.sentence),
        Decision::Inject(injection) => {
            let notes = if has_reader && !injection.is_again { injection.notes } else { Vec::new() };
            let answer = Answer::allow(&request.uid).change(&injection.patch);
            let answer = notes.into_iter().fold(answer, |answer, note| answer.warn(note.sentence));
            answer.audit("config", injection.config.name_any())
        }
    };
    answer.audit("decision", word).audit("reason", reason)
}

/// Who made the pod, and makes it again.
fn owner(pod: &Value) -> Option<OwnerReference> {
    let owners = pod["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    OwnerReference::deserialize(owner).ok()
}

fn reference(owner: OwnerReference, namespace: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(owner.api_version),
        kind: Some(owner.kind),
        name: Some(owner.name),
        namespace: Some(namespace.to_owned()),
        uid: Some(owner.uid),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests;
