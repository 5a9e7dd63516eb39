//! What people shall read in `kubectl describe`: one queue, one task that writes, and nobody ever waits for it.
//!
//! The same sentence about the same object within six minutes is one event with a count. What does not fit into the
//! queue is dropped and counted.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::api::{ApiError, cut, within};
use crate::metrics::Metrics;

/// Events that wait to be written.
const QUEUE: usize = 1024;
/// Sentences that are remembered, so that they are not said twice.
const REMEMBERED: usize = 1024;
/// For so long a sentence that is said again belongs to the one before.
const SERIES: Duration = Duration::from_mins(6);
/// More often than this the count of a sentence is not written.
const RECOUNT: Duration = Duration::from_secs(10);
/// How long writing one may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How long the rest may take when the process ends.
const LAST: Duration = Duration::from_secs(1);
/// Characters of a sentence that the API server takes.
const MAX_SENTENCE: usize = 1024;
/// Who says it.
pub(crate) const CONTROLLER: &str = "postern.dev/operator";
/// Where what has no namespace is written about.
const CLUSTER: &str = "default";

/// Whether somebody has to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Nobody has to.
    Normal,
    /// Somebody has to.
    Warning,
}

/// Takes events; cheap to clone.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<Note>,
    metrics: Metrics,
}

/// One event that is to be written.
#[derive(Clone, Debug)]
struct Note {
    about: ObjectReference,
    severity: Severity,
    reason: &'static str,
    sentence: String,
}

/// What makes two notes the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sameness {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    reason: &'static str,
    sentence: String,
}

/// An event that has been written.
#[derive(Clone, Debug)]
struct Said {
    name: String,
    count: i32,
    last: Instant,
    written: Instant,
}

/// Writes what is in the queue.
struct Writer {
    client: Client,
    instance: String,
    metrics: Metrics,
    said: HashMap<Sameness, Said>,
}

// === impl Events ===

impl Events {
    /// A queue, and what writes its events in the name of the pod `instance` until `stop`, and then the rest.
    pub fn new(
        client: Client,
        instance: String,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> (Events, impl Future<Output = ()> + Send + use<>) {
        let (queue, mut notes) = mpsc::channel(QUEUE);
        let mut writer = Writer { client, instance, metrics: metrics.clone(), said: HashMap::new() };
        let write = async move {
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    note = notes.recv() => match note {
                        Some(note) => writer.write(note).await,
                        None => return,
                    },
                }
            }
            let rest = async {
                while let Ok(note) = notes.try_recv() {
                    writer.write(note).await;
                }
            };
            if timeout(LAST, rest).await.is_err() {
                debug!("Events were left unwritten at the end");
            }
        };
        (Events { queue, metrics }, write)
    }

    /// Says `sentence` about an object; never waits.
    pub fn note(&self, about: ObjectReference, severity: Severity, reason: &'static str, sentence: impl AsRef<str>) {
        let note = Note { about, severity, reason, sentence: cut(sentence.as_ref(), MAX_SENTENCE) };
        if self.queue.try_send(note).is_err() {
            self.metrics.event("dropped");
        }
    }
}

// === impl Writer ===

impl Writer {
    async fn write(&mut self, note: Note) {
        let (sameness, now) = (Sameness::of(&note), Instant::now());
        let result = match self.again(&sameness, now) {
            Some(said) if now.duration_since(said.written) < RECOUNT => return,
            Some(said) => self.recount(&note, &said).await.map(|()| said.name),
            None => self.create(&note).await,
        };
        match result {
            Ok(name) => {
                self.metrics.event("written");
                self.remember(sameness, name, now);
            }
            Err(error) => {
                // What was a series has been deleted, most likely; said again it is a new one.
                self.said.remove(&sameness);
                self.metrics.event("failed");
                debug!(%error, reason = note.reason, sentence = note.sentence, "Cannot write an event");
            }
        }
    }

    /// The event that says this already, counted once more.
    fn again(&mut self, sameness: &Sameness, now: Instant) -> Option<Said> {
        let said = self.said.get_mut(sameness).filter(|said| now.duration_since(said.last) < SERIES)?;
        said.count = said.count.saturating_add(1);
        said.last = now;
        Some(said.clone())
    }

    fn remember(&mut self, sameness: Sameness, name: String, now: Instant) {
        if self.said.len() >= REMEMBERED {
            self.said.retain(|_, said| now.duration_since(said.last) < SERIES);
        }
        if self.said.len() >= REMEMBERED {
            self.said.clear();
        }
        let count = self.said.get(&sameness).map_or(1, |said| said.count);
        self.said.insert(sameness, Said { name, count, last: now, written: now });
    }

    async fn create(&self, note: &Note) -> Result<String, ApiError> {
        let event = event(note, &self.instance, Timestamp::now());
        let name = event.metadata.name.clone().unwrap_or_default();
        within(LIMIT, self.api(note).create(&PostParams::default(), &event)).await?;
        Ok(name)
    }

    async fn recount(&self, note: &Note, said: &Said) -> Result<(), ApiError> {
        let series = EventSeries { count: said.count, last_observed_time: MicroTime(Timestamp::now()) };
        let patch = Patch::Merge(json!({ "series": series }));
        within(LIMIT, self.api(note).patch(&said.name, &PatchParams::default(), &patch)).await.map(drop)
    }

    fn api(&self, note: &Note) -> Api<Event> {
        Api::namespaced(self.client.clone(), note.about.namespace.as_deref().unwrap_or(CLUSTER))
    }
}

/// The event as the API server takes it.
fn event(note: &Note, instance: &str, now: Timestamp) -> Event {
    let about = note.about.name.as_deref().unwrap_or("postern");
    // 253 is the most of a name, and the rest of it is needed for the time.
    let about: String = about.chars().take(200).collect();
    Event {
        action: Some(note.reason.to_owned()),
        reason: Some(note.reason.to_owned()),
        note: Some(note.sentence.clone()),
        event_time: Some(MicroTime(now)),
        regarding: Some(note.about.clone()),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(cut(instance, 128)),
        type_: Some(note.severity.name().to_owned()),
        metadata: ObjectMeta {
            namespace: Some(note.about.namespace.clone().unwrap_or_else(|| CLUSTER.to_owned())),
            name: Some(format!("{about}.{:x}", now.as_nanosecond())),
            ..ObjectMeta::default()
        },
        ..Event::default()
    }
}

// === impl Severity ===

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        }
    }
}

// === impl Sameness ===

impl Sameness {
    fn of(note: &Note) -> Sameness {
        let ObjectReference { kind, namespace, name, uid, .. } = note.about.clone();
        Sameness { kind, namespace, name, uid, reason: note.reason, sentence: note.sentence.clone() }
    }
}

#[cfg(test)]
mod tests;
