//! How the pods of one configuration stand to it, all taken together.

use std::collections::BTreeMap;

use crds::FailingPod;

/// Pods that fail, of which more than the number is told.
pub const MAX_FAILING: usize = 10;
/// Different sentences on restarts that are told apart.
const MAX_SENTENCES: usize = 32;

/// How one pod stands to its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing<'a> {
    /// Its sidecar does not run yet.
    Starting,
    /// It has not been asked yet.
    Unasked,
    /// It serves what it shall.
    UpToDate,
    /// It serves something else, so far.
    Stale,
    /// It refused what it shall serve, for this reason.
    Refused(&'a str),
    /// Its sidecar does not run, for this reason.
    Troubled(&'a str),
    /// It could not be asked, for this reason.
    Unknown(&'a str),
}

/// [`Standing`] without reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Starting,
    Unasked,
    UpToDate,
    Stale,
    Failed,
    Unknown,
}

/// How the pods of one configuration stand to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Pods that have the sidecar.
    pub injected: usize,
    /// Of those, pods whose sidecar does not run yet.
    pub starting: usize,
    /// Of those, pods that have not been asked yet.
    pub unasked: usize,
    /// Of those, pods that serve the newest configuration.
    pub up_to_date: usize,
    /// Of those, pods that serve an older one.
    pub stale: usize,
    /// Of those, pods that refused it, or whose sidecar does not run.
    pub failed: usize,
    /// Of those, pods that could not be asked.
    pub unknown: usize,
    /// Of those, pods whose gateway is ready.
    pub ready: usize,
    /// The first of those that fail, by name.
    pub failing: Vec<FailingPod>,
    /// Why the first of those that could not be asked could not be.
    pub unreachable: Option<String>,
    /// What waits for a restart, and for how many pods.
    pub restarts: BTreeMap<String, usize>,
    /// Pods that wait for a restart.
    pub to_restart: usize,
}

// === impl Standing ===

impl Standing<'_> {
    pub(super) fn class(self) -> Class {
        match self {
            Standing::Starting => Class::Starting,
            Standing::Unasked => Class::Unasked,
            Standing::UpToDate => Class::UpToDate,
            Standing::Stale => Class::Stale,
            Standing::Refused(_) | Standing::Troubled(_) => Class::Failed,
            Standing::Unknown(_) => Class::Unknown,
        }
    }

    /// What is counted of an answer.
    pub(super) fn word(self) -> &'static str {
        match self {
            Standing::Starting | Standing::Unasked => "none",
            Standing::UpToDate => "up_to_date",
            Standing::Stale => "stale",
            Standing::Refused(_) | Standing::Troubled(_) => "refused",
            Standing::Unknown(_) => "unknown",
        }
    }
}

// === impl Summary ===

impl Summary {
    /// Counts one more pod; they come in the order of their names.
    pub(super) fn add(&mut self, name: &str, standing: Standing<'_>, is_ready: bool, restarts: Vec<String>) {
        self.injected += 1;
        self.ready += usize::from(is_ready);
        match standing {
            Standing::Starting => self.starting += 1,
            Standing::Unasked => self.unasked += 1,
            Standing::UpToDate => self.up_to_date += 1,
            Standing::Stale => self.stale += 1,
            Standing::Refused(reason) | Standing::Troubled(reason) => self.fail(name, reason),
            Standing::Unknown(reason) => {
                self.unknown += 1;
                self.unreachable.get_or_insert_with(|| format!("{name}: {reason}"));
            }
        }
        self.to_restart += usize::from(!restarts.is_empty());
        for sentence in restarts {
            if self.restarts.len() < MAX_SENTENCES || self.restarts.contains_key(&sentence) {
                *self.restarts.entry(sentence).or_default() += 1;
            }
        }
    }

    fn fail(&mut self, name: &str, reason: &str) {
        self.failed += 1;
        if self.failing.len() < MAX_FAILING {
            self.failing.push(FailingPod { name: name.into(), reason: reason.into() });
        }
    }
}
