//! What becomes of a pod.

use std::sync::Arc;

use crds::GatewayConfig;
use json_patch::Patch;
use serde_json::Value;

use super::Refusal;
use crate::choose::{Asker, Quiet};

/// What becomes of a pod.
#[derive(Clone, Debug)]
pub enum Decision {
    /// It is created with this change.
    Inject(Box<Injection>),
    /// It is created as it is, and nobody wanted anything else.
    Leave(Quiet),
    /// It is created as it is, though its namespace wanted a sidecar.
    Skip(Refusal),
    /// It is not created, because it wanted a sidecar.
    Deny(Refusal),
}

/// A change that gives a pod its sidecar.
#[derive(Clone, Debug)]
pub struct Injection {
    /// Who wanted it.
    pub asker: Asker,
    /// The configuration that was chosen.
    pub config: Arc<GatewayConfig>,
    /// The change; empty if there is nothing to change.
    pub patch: Patch,
    /// What the change makes of the pod.
    pub pod: Value,
    /// Whether the pod had the sidecar before, so that it was counted and talked about already.
    pub is_again: bool,
    /// What is odd, and hinders nothing.
    pub notes: Vec<Note>,
}

/// Something odd that hinders nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// A word for events.
    pub reason: &'static str,
    /// What is odd, and where.
    pub sentence: String,
}

// === impl Decision ===

impl Decision {
    /// Who asked is denied, who did not is skipped.
    pub fn refuse(asker: Asker, refusal: Refusal) -> Self {
        match asker {
            Asker::Pod => Decision::Deny(refusal),
            Asker::Namespace => Decision::Skip(refusal),
        }
    }

    /// Why there is no sidecar, if somebody wanted one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Decision::Skip(refusal) | Decision::Deny(refusal) => Some(refusal),
            Decision::Inject(_) | Decision::Leave(_) => None,
        }
    }

    /// The same decision for another reason.
    #[must_use]
    pub fn because(self, refusal: Refusal) -> Self {
        match self {
            Decision::Skip(_) => Decision::Skip(refusal),
            Decision::Deny(_) => Decision::Deny(refusal),
            decision => decision,
        }
    }

    /// What was decided, and why, as metrics have it.
    pub fn words(&self) -> (&'static str, &'static str) {
        match self {
            Decision::Inject(injection) if injection.is_again => ("injected", "AlreadyInjected"),
            Decision::Inject(_) => ("injected", "Injected"),
            Decision::Leave(quiet) => ("skipped", quiet.reason()),
            Decision::Skip(refusal) => ("skipped", refusal.reason.word()),
            Decision::Deny(refusal) => ("denied", refusal.reason.word()),
        }
    }
}

// === impl Note ===

impl Note {
    pub(super) fn new(reason: &'static str, sentence: impl Into<String>) -> Self {
        Self { reason, sentence: sentence.into() }
    }
}
