//! When a pod is poked and asked: soon after an edit, with growing pauses while it has not followed, seldom when it has.

use std::time::Duration;

use tokio::time::Instant;

use super::super::pod::PodKey;
use super::super::summary::Standing;
use super::{Fleet, Job, What};

/// From a poke until the sidecar is asked, and from each question to the next: the kubelet needs 0.1 to 1.2 s.
const ASKS: [u64; 11] = [100, 100, 150, 250, 400, 500, 1000, 1000, 2000, 4000, 8000];
/// The pauses between questions to a sidecar that does not answer.
const SUSPECTS: [u64; 3] = [1000, 2000, 5000];
/// From a poke that did not help to the next one; after the last the kubelet's own minute has to do.
const POKES: [u64; 4] = [2000, 4000, 8000, 16_000];
/// The pauses between attempts to poke that the API server did not take.
const FAILED_POKES: [u64; 5] = [1000, 2000, 4000, 8000, 30_000];
/// A pod that was synced less than this ago waits for the rest of it, so poking it sooner gains nothing.
const KUBELET: Duration = Duration::from_secs(1);
/// From a question to the next, where the answer was not the one that we want.
const UNEASY: Duration = Duration::from_secs(15);
/// From a question to the next, where it was.
const CALM: Duration = Duration::from_mins(1);
/// Between two reports about one configuration, at least ...
const REPORTS: Duration = Duration::from_millis(200);
/// ... and so much more for each of its pods, since summing them up takes longer too.
const REPORTS_PER_POD: Duration = Duration::from_micros(200);

impl Fleet {
    /// What is to be done now, as far as there is room for it.
    pub fn jobs(&mut self, now: Instant) -> Vec<Job> {
        let mut jobs = Vec::new();
        while let Some(key) = self.pokes.take(now) {
            match self.poke(&key) {
                Some(job) => jobs.push(job),
                None => self.pokes.done(),
            }
        }
        while let Some(key) = self.asks.take(now) {
            match self.ask(&key, What::Ask) {
                Some(job) => jobs.push(job),
                None => self.asks.done(),
            }
        }
        while let Some(key) = self.suspects.take(now) {
            match self.ask(&key, What::AskAgain) {
                Some(job) => jobs.push(job),
                None => self.suspects.done(),
            }
        }
        jobs
    }

    /// When there is something to do next.
    pub fn next(&self) -> Option<Instant> {
        let agendas = [self.asks.next(), self.suspects.next(), self.pokes.next(), self.reports.next()];
        agendas.into_iter().flatten().min()
    }

    fn poke(&mut self, key: &PodKey) -> Option<Job> {
        if !self.standing(key)?.needs_poke() {
            return None;
        }
        let record = self.pods.get_mut(key)?;
        let hash = self.configs.get(&record.seen.config)?.hash.as_deref()?;
        let what = What::Poke(record.annotation(hash));
        record.is_poked = true;
        Some(Job { pod: key.clone(), run: record.seen.run.clone(), what })
    }

    fn ask(&mut self, key: &PodKey, what: fn(std::net::SocketAddr) -> What) -> Option<Job> {
        let record = self.pods.get_mut(key).filter(|record| !record.is_asked)?;
        let address = record.seen.address?;
        record.is_asked = true;
        Some(Job { pod: key.clone(), run: record.seen.run.clone(), what: what(address) })
    }

    /// Nothing is to be done about this pod any more.
    pub(super) fn cancel(&mut self, key: &PodKey) {
        self.asks.remove(key);
        self.suspects.remove(key);
        self.pokes.remove(key);
    }

    /// Begins anew with this pod: another run of its sidecar, or another hash.
    pub(super) fn plan(&mut self, key: &PodKey, now: Instant) {
        self.cancel(key);
        let Some(standing) = self.standing(key) else { return };
        match standing {
            Standing::Starting | Standing::Troubled(_) => {}
            Standing::Unasked => self.plan_ask(key, now),
            Standing::UpToDate => self.plan_ask(key, now + calm(key)),
            Standing::Refused(_) => self.plan_ask(key, now + UNEASY),
            Standing::Stale => {
                self.plan_ask(key, now + UNEASY);
                self.plan_poke(key, now);
            }
            Standing::Unknown(_) => {
                self.suspects.put(key, now + UNEASY);
                self.plan_poke(key, now);
            }
        }
    }

    /// Goes on after an answer. Returns how the pod stands, in a word.
    pub(super) fn follow(&mut self, key: &PodKey, now: Instant) -> &'static str {
        let Some(standing) = self.standing(key) else { return "gone" };
        let (word, needs_poke) = (standing.word(), standing.needs_poke());
        let is_unknown = matches!(standing, Standing::Unknown(_));
        let rest = match standing {
            Standing::UpToDate => Some(calm(key)),
            Standing::Refused(_) => Some(UNEASY),
            _ => None,
        };
        let Some(record) = self.pods.get_mut(key) else { return "gone" };
        let hash = self.configs.get(&record.seen.config).and_then(|group| group.hash.as_deref()).unwrap_or_default();
        // Before its first poke a pod cannot be expected to follow, so it is not pressed.
        let is_awake = record.pokes > 0 || record.is_annotated(hash);
        let asked = record.asked;
        record.asked = asked.saturating_add(1);
        if let Some(rest) = rest {
            self.cancel(key);
            self.plan_ask(key, now + rest);
        } else if is_unknown {
            self.asks.remove(key);
            self.suspects.put(key, now + pause(&SUSPECTS, asked).unwrap_or(UNEASY));
        } else {
            self.suspects.remove(key);
            self.plan_ask(key, now + pause(&ASKS, asked).filter(|_| is_awake).unwrap_or(UNEASY));
        }
        if needs_poke {
            self.plan_poke(key, now);
        }
        word
    }

    /// Goes on after a poke.
    pub(super) fn follow_poke(&mut self, key: &PodKey, is_taken: bool, now: Instant) {
        let needs_poke = self.standing(key).is_some_and(Standing::needs_poke);
        let Some(record) = self.pods.get_mut(key) else { return };
        if !is_taken {
            let pause = pause(&FAILED_POKES, record.failed_pokes).unwrap_or(UNEASY * 2);
            record.failed_pokes += 1;
            if needs_poke {
                self.pokes.put(key, now + pause);
            }
            return;
        }
        let is_unknown = matches!(record.said, Some(super::Said::Nothing(_)));
        let next = pause(&POKES, record.pokes);
        (record.failed_pokes, record.asked, record.poked_at) = (0, 0, Some(now));
        record.pokes += 1;
        // Of what cannot be asked it is not known whether another poke would help.
        if needs_poke && !is_unknown {
            self.plan_ask(key, now + Duration::from_millis(ASKS[0]));
            if let Some(next) = next {
                self.pokes.put(key, now + next);
            }
        }
    }

    fn plan_ask(&mut self, key: &PodKey, at: Instant) {
        self.asks.put(key, at);
    }

    /// Sees to it that a pod that does not follow is poked: at all, and again when it can be asked once more after a time in
    /// which it could not.
    fn plan_poke(&mut self, key: &PodKey, now: Instant) {
        let Some(record) = self.pods.get(key) else { return };
        let Some(hash) = self.configs.get(&record.seen.config).and_then(|group| group.hash.as_deref()) else { return };
        if record.is_poked || self.pokes.has(key) {
            return;
        }
        let is_unknown = matches!(record.said, Some(super::Said::Nothing(_)));
        let last = |pause: Duration| record.poked_at.map_or(now, |last| now.max(last + pause));
        let at = match (record.pokes, record.is_annotated(hash)) {
            (0, false) => last(KUBELET),
            // Of what cannot be asked it is not known whether another poke would help.
            _ if is_unknown => return,
            // Somebody has poked it, maybe just now.
            (0, true) => now + Duration::from_millis(POKES[0]),
            (pokes, _) => match pause(&POKES, pokes - 1) {
                Some(pause) => last(pause),
                None => return,
            },
        };
        self.pokes.put(key, at);
    }
}

impl Standing<'_> {
    /// Whether a poke may help.
    fn needs_poke(self) -> bool {
        matches!(self, Standing::Stale | Standing::Unknown(_))
    }
}

impl super::Class {
    /// Whether the pod could have acknowledged and has not.
    pub(super) fn is_behind(self) -> bool {
        matches!(self, super::Class::Stale | super::Class::Unasked)
    }
}

/// From a report about a configuration with this many pods to the next, at least.
pub(super) fn between_reports(pods: usize) -> Duration {
    REPORTS + REPORTS_PER_POD.saturating_mul(u32::try_from(pods).unwrap_or(u32::MAX))
}

fn pause(pauses: &[u64], step: usize) -> Option<Duration> {
    pauses.get(step).copied().map(Duration::from_millis)
}

/// [`CALM`], a little longer for some pods than for others, so that they are not all asked at one time.
fn calm(key: &PodKey) -> Duration {
    let spread: u64 = key.name.bytes().map(u64::from).sum();
    CALM + Duration::from_millis(spread % 64 * 100)
}
