//! What is known of one pod.

use tokio::time::Instant;

use super::ask::{Report, State};
use super::fleet::Fixed;
use super::pod::Seen;
use super::summary::{Class, Standing};

/// What is known of one pod.
#[derive(Debug)]
pub(crate) struct Record {
    pub(super) seen: Seen,
    pub(super) said: Option<Said>,
    /// How it is counted.
    pub(super) class: Class,
    /// Questions since the last poke, edit or start.
    pub(super) asked: usize,
    /// Pokes for the hash that is wanted.
    pub(super) pokes: usize,
    /// Pokes in a row that the API server did not take.
    pub(super) failed_pokes: usize,
    pub(super) poked_at: Option<Instant>,
    pub(super) is_asked: bool,
    pub(super) is_poked: bool,
}

/// What a sidecar answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Report(Report),
    /// It did not, for this reason.
    Nothing(String),
}

// === impl Record ===

impl Record {
    pub(super) fn new(seen: Seen) -> Record {
        Record {
            seen,
            said: None,
            class: Class::Starting,
            asked: 0,
            pokes: 0,
            failed_pokes: 0,
            poked_at: None,
            is_asked: false,
            is_poked: false,
        }
    }

    /// What is known of a pod that was looked at, and asked, once.
    pub(crate) fn of(seen: Seen, said: Result<Report, String>) -> Record {
        Record { said: Some(said.map_or_else(Said::Nothing, Said::Report)), ..Record::new(seen) }
    }

    /// Takes over how the pod looks now; whether its sidecar has to be asked anew.
    pub(super) fn update(&mut self, seen: Seen) -> bool {
        let is_new_run = self.seen.run != seen.run;
        let is_anew = is_new_run || self.seen.address != seen.address;
        self.seen = seen;
        // A question to the run before is answered to nobody.
        self.is_asked &= !is_new_run;
        if is_anew {
            (self.said, self.asked) = (None, 0);
        }
        is_anew
    }

    /// Another hash is wanted than the one for which the pod was poked.
    pub(super) fn forget_pokes(&mut self) {
        (self.asked, self.pokes, self.failed_pokes) = (0, 0, 0);
    }

    /// How the pod stands to the configuration with this hash.
    pub(crate) fn standing(&self, hash: Option<&str>) -> Standing<'_> {
        if let Some(trouble) = &self.seen.trouble {
            return Standing::Troubled(trouble);
        }
        if self.seen.address.is_none() {
            return Standing::Starting;
        }
        match (&self.said, hash) {
            (None, _) | (_, None) => Standing::Unasked,
            (Some(Said::Nothing(reason)), _) => Standing::Unknown(reason),
            (Some(Said::Report(report)), Some(hash)) => stands(report, hash),
        }
    }

    /// What waits for a restart of this pod, a sentence each.
    pub(crate) fn restarts(&self, injection: Option<&Fixed>) -> Vec<String> {
        let mut sentences = match &self.said {
            Some(Said::Report(report)) => report.restart_required.clone(),
            _ => Vec::new(),
        };
        let Some(injection) = injection else { return sentences };
        let missing = injection.secrets.iter().filter(|name| !self.seen.secrets.contains(name));
        sentences.extend(missing.map(|name| format!("the Secret {name:?} is not mounted, only new pods get it")));
        if self.seen.sidecar_hash.as_ref().is_some_and(|hash| *hash != injection.sidecar_hash) {
            sentences.push("spec.sidecar was changed, only new pods get it".into());
        }
        sentences
    }

    /// Whether the annotation says already that the pod was poked for `hash`.
    pub(super) fn is_annotated(&self, hash: &str) -> bool {
        self.seen.poked.as_deref().is_some_and(|poked| poked.starts_with(hash))
    }

    /// What to write into the annotation for `hash`; never what stands there already, since that would wake nobody.
    pub(super) fn annotation(&self, hash: &str) -> String {
        let written = self.seen.poked.as_deref().and_then(|poked| poked.strip_prefix(hash));
        let times = written.map(|rest| rest.strip_prefix('.').and_then(|times| times.parse::<u32>().ok()).unwrap_or(1));
        match times {
            None => hash.to_owned(),
            Some(times) => format!("{hash}.{}", times.wrapping_add(1)),
        }
    }
}

/// How a sidecar with this report stands to the configuration with this hash.
fn stands<'a>(report: &'a Report, hash: &str) -> Standing<'a> {
    match (&report.refused, report.state) {
        (Some(refused), _) if refused.hash == hash => Standing::Refused(&refused.reason),
        (_, State::Applied) if report.hash == hash => Standing::UpToDate,
        _ => Standing::Stale,
    }
}
