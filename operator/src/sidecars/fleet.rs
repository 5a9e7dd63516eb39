//! The bookkeeping of all injected pods: what each serves, and when it is to be poked or asked next.
//!
//! Nothing here waits, and nothing reads a clock: who calls says what time it is, and carries out the [`Job`]s.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::agenda::Agenda;
use super::ask::Report;
use super::pod::{PodKey, Run, Seen};
use super::record::{Record, Said};
use super::summary::{Class, Standing, Summary};
use crate::caches::ConfigKey;
use crate::metrics::PodCounts;

mod schedule;

use schedule::between_reports;

/// Questions at one time to sidecars that have answered before, or have not been asked yet.
const MAX_ASKS: usize = 48;
/// Questions at one time to those that did not answer: each may last its whole second.
const MAX_SUSPECTS: usize = 16;
/// Annotations that are written at one time.
const MAX_POKES: usize = 20;

/// Something to be done about a pod; what came of it is to be told by [`Fleet::heard`] or [`Fleet::poked`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The pod.
    pub pod: PodKey,
    /// The run of its sidecar that is meant.
    pub run: Run,
    /// What is to be done.
    pub what: What,
}

/// What is to be done about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Ask the sidecar at this address what it serves.
    Ask(SocketAddr),
    /// The same, and it did not answer the last time.
    AskAgain(SocketAddr),
    /// Write this into the pod's annotation, so that its kubelet delivers now.
    Poke(String),
}

/// What of a configuration only a new pod gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// The Secrets that it names.
    pub secrets: Vec<String>,
    /// The hash of what the injector adds.
    pub sidecar_hash: String,
}

/// What is known of all injected pods.
#[derive(Debug)]
pub struct Fleet {
    pods: HashMap<PodKey, Record>,
    configs: BTreeMap<ConfigKey, Group>,
    asks: Agenda<PodKey>,
    suspects: Agenda<PodKey>,
    pokes: Agenda<PodKey>,
    reports: Agenda<ConfigKey>,
    /// Pods that were there before a watch began anew, and have not been shown since.
    unseen: Option<BTreeSet<PodKey>>,
    counts: PodCounts,
    /// How long it took until edits were acknowledged by every sidecar that can be asked.
    acknowledged: Vec<Duration>,
}

/// The pods of one configuration, and what they shall serve.
#[derive(Debug, Default)]
struct Group {
    pods: BTreeSet<Arc<str>>,
    hash: Option<Arc<str>>,
    /// When it replaced another hash, until all have acknowledged it.
    edited: Option<Instant>,
    /// Pods that can be asked and have not acknowledged it.
    behind: usize,
    reported: Option<Instant>,
}

// === impl Fleet ===

impl Default for Fleet {
    fn default() -> Self {
        Fleet {
            pods: HashMap::new(),
            configs: BTreeMap::new(),
            asks: Agenda::new(MAX_ASKS),
            suspects: Agenda::new(MAX_SUSPECTS),
            pokes: Agenda::new(MAX_POKES),
            reports: Agenda::new(usize::MAX),
            unseen: None,
            counts: PodCounts::default(),
            acknowledged: Vec::new(),
        }
    }
}

impl Fleet {
    /// A watch begins anew: what it does not show until it has shown all is gone.
    pub fn begin(&mut self) {
        self.unseen = Some(self.pods.keys().cloned().collect());
    }

    /// The watch has shown all that is there.
    pub fn end(&mut self, now: Instant) {
        for key in self.unseen.take().unwrap_or_default() {
            self.gone(&key, now);
        }
    }

    /// A pod is there, or has changed.
    pub fn see(&mut self, seen: Seen, now: Instant) {
        let key = seen.key.clone();
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(&key);
        }
        let is_other = |record: &Record| record.seen.config != seen.config || record.seen.run.uid != seen.run.uid;
        if self.pods.get(&key).is_some_and(is_other) {
            self.gone(&key, now);
        }
        let Some(record) = self.pods.get_mut(&key) else { return self.meet(seen, now) };
        if record.seen == seen {
            return;
        }
        // Only the annotation that we write ourselves has changed: nobody needs to hear of that.
        let is_poke =
            record.seen.poked != seen.poked && Seen { poked: record.seen.poked.clone(), ..seen.clone() } == record.seen;
        let config = seen.config.clone();
        if record.update(seen) {
            self.plan(&key, now);
        }
        self.settle(&key, now);
        if !is_poke {
            self.report(&config, now);
        }
    }

    /// A pod is there that was not there before.
    fn meet(&mut self, seen: Seen, now: Instant) {
        let (key, config) = (seen.key.clone(), seen.config.clone());
        self.configs.entry(config.clone()).or_default().pods.insert(key.name.clone());
        self.pods.insert(key.clone(), Record::new(seen));
        *self.counts.of(Class::Starting) += 1;
        self.plan(&key, now);
        self.settle(&key, now);
        self.report(&config, now);
    }

    /// A pod is there no more, or has ended.
    pub fn gone(&mut self, key: &PodKey, now: Instant) {
        self.cancel(key);
        let Some(record) = self.pods.remove(key) else { return };
        *self.counts.of(record.class) -= 1;
        let config = record.seen.config;
        if let Some(group) = self.configs.get_mut(&config) {
            group.pods.remove(&key.name);
            group.behind -= usize::from(record.class.is_behind());
            self.acknowledged.extend(group.acknowledge(now));
        }
        self.report(&config, now);
        self.tidy(&config);
    }

    /// The pods of `config` shall serve what has this hash.
    pub fn want(&mut self, config: &ConfigKey, hash: &str, now: Instant) {
        let group = self.configs.entry(config.clone()).or_default();
        if group.hash.as_deref() == Some(hash) {
            return;
        }
        let is_edit = group.hash.replace(hash.into()).is_some();
        group.edited = None;
        for key in group.keys(config) {
            if let Some(record) = self.pods.get_mut(&key) {
                record.forget_pokes();
            }
            self.plan(&key, now);
            self.settle(&key, now);
        }
        if let Some(group) = self.configs.get_mut(config).filter(|group| is_edit && group.behind > 0) {
            group.edited = Some(now);
        }
    }

    /// There is no such configuration any more; its pods keep what they have, and are left alone.
    pub fn forget(&mut self, config: &ConfigKey, now: Instant) {
        let Some(group) = self.configs.get_mut(config) else { return };
        (group.hash, group.edited) = (None, None);
        for key in group.keys(config) {
            self.cancel(&key);
            if let Some(record) = self.pods.get_mut(&key) {
                record.said = None;
            }
            self.settle(&key, now);
        }
        self.tidy(config);
    }

    /// How the pods of `config` stand to it.
    pub fn summary(&self, config: &ConfigKey, injection: Option<&Fixed>) -> Summary {
        let mut summary = Summary::default();
        let Some(group) = self.configs.get(config) else { return summary };
        for key in group.keys(config) {
            if let Some(record) = self.pods.get(&key) {
                let standing = record.standing(group.hash.as_deref());
                summary.add(&key.name, standing, record.seen.is_ready, record.restarts(injection));
            }
        }
        summary
    }

    /// How all pods stand.
    pub fn counts(&self) -> PodCounts {
        self.counts
    }

    /// The configurations of which there is something new to tell.
    pub fn news(&mut self, now: Instant) -> Vec<ConfigKey> {
        let mut news = Vec::new();
        while let Some(config) = self.reports.take(now) {
            self.reports.done();
            if let Some(group) = self.configs.get_mut(&config) {
                group.reported = Some(now);
            }
            news.push(config);
        }
        news
    }

    /// How long it took until each edit was acknowledged that has been since the last call.
    pub fn acknowledged(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.acknowledged)
    }

    /// A sidecar was asked, and said this. Returns how the pod stands now, in a word.
    pub fn heard(&mut self, job: &Job, said: Result<Report, String>, now: Instant) -> &'static str {
        match job.what {
            What::AskAgain(_) => self.suspects.done(),
            What::Ask(_) | What::Poke(_) => self.asks.done(),
        }
        let Some(record) = self.pods.get_mut(&job.pod).filter(|record| record.seen.run == job.run) else {
            return "gone";
        };
        record.is_asked = false;
        if self.configs.get(&record.seen.config).is_none_or(|group| group.hash.is_none()) {
            // Its configuration has been deleted meanwhile.
            return "none";
        }
        let said = Some(said.map_or_else(Said::Nothing, Said::Report));
        let is_new = record.said != said;
        record.said = said;
        let config = record.seen.config.clone();
        let word = self.follow(&job.pod, now);
        self.settle(&job.pod, now);
        if is_new {
            self.report(&config, now);
        }
        word
    }

    /// A pod's annotation was written, or not.
    pub fn poked(&mut self, job: &Job, is_taken: bool, now: Instant) {
        self.pokes.done();
        let Some(record) = self.pods.get_mut(&job.pod).filter(|record| record.seen.run.uid == job.run.uid) else {
            return;
        };
        record.is_poked = false;
        if let (What::Poke(value), true) = (&job.what, is_taken) {
            record.seen.poked = Some(value.clone());
        }
        let hash = self.configs.get(&record.seen.config).and_then(|group| group.hash.as_deref());
        let is_current = matches!((&job.what, hash), (What::Poke(value), Some(hash)) if value.starts_with(hash));
        if is_taken && !is_current {
            // There was an edit meanwhile, of which this poke may have come too early.
            record.poked_at = Some(now);
            self.plan(&job.pod, now);
            return;
        }
        self.follow_poke(&job.pod, is_taken, now);
    }

    /// Brings what is counted of a pod up to date.
    fn settle(&mut self, key: &PodKey, now: Instant) {
        let Some(record) = self.pods.get_mut(key) else { return };
        let Some(group) = self.configs.get_mut(&record.seen.config) else { return };
        let class = record.standing(group.hash.as_deref()).class();
        let before = std::mem::replace(&mut record.class, class);
        *self.counts.of(before) -= 1;
        *self.counts.of(class) += 1;
        group.behind = group.behind + usize::from(class.is_behind()) - usize::from(before.is_behind());
        if let Some(took) = group.acknowledge(now) {
            self.acknowledged.push(took);
            // This is what somebody waits for.
            self.reports.put(&record.seen.config, now);
        }
    }

    /// Something about a configuration is worth telling, soon.
    fn report(&mut self, config: &ConfigKey, now: Instant) {
        let Some(group) = self.configs.get(config) else { return };
        if !self.reports.has(config) {
            let at = group.reported.map_or(now, |last| now.max(last + between_reports(group.pods.len())));
            self.reports.put(config, at);
        }
    }

    /// Keeps nothing of a configuration of which nothing is left; it may still be told that nothing is.
    fn tidy(&mut self, config: &ConfigKey) {
        if self.configs.get(config).is_some_and(|group| group.pods.is_empty() && group.hash.is_none()) {
            self.configs.remove(config);
        }
    }

    fn standing(&self, key: &PodKey) -> Option<Standing<'_>> {
        let record = self.pods.get(key)?;
        let group = self.configs.get(&record.seen.config)?;
        Some(record.standing(group.hash.as_deref()))
    }
}

// === impl Group ===

impl Group {
    fn keys(&self, config: &ConfigKey) -> Vec<PodKey> {
        let key = |name: &Arc<str>| PodKey { namespace: config.namespace.clone(), name: name.clone() };
        self.pods.iter().map(key).collect()
    }

    /// How long the last edit took, if it has just been acknowledged by all.
    fn acknowledge(&mut self, now: Instant) -> Option<Duration> {
        if self.behind > 0 {
            return None;
        }
        self.edited.take().map(|edited| now.duration_since(edited))
    }
}

// === impl PodCounts ===

impl PodCounts {
    fn of(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Starting | Class::Unasked => &mut self.starting,
            Class::UpToDate => &mut self.up_to_date,
            Class::Stale => &mut self.stale,
            Class::Failed => &mut self.failed,
            Class::Unknown => &mut self.unknown,
        }
    }
}

#[cfg(test)]
mod tests;
