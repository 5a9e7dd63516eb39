//! What somebody should do, in one sentence: what is wrong, where, and what mends it.

use serde::Serialize;

/// Something to do, or to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// Whether anything is wrong.
    pub severity: Severity,
    /// A word for programs.
    pub reason: String,
    /// What is wrong, where, and what mends it.
    pub sentence: String,
}

/// Whether anything is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is.
    Problem,
    /// Nothing is, but somebody may expect something else; or it could not be found out.
    Hint,
}

// === impl Advice ===

impl Advice {
    /// Something is wrong.
    pub fn problem(reason: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { severity: Severity::Problem, reason: reason.into(), sentence: sentence.into() }
    }

    /// Nothing is wrong, but somebody should know.
    pub fn hint(reason: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { severity: Severity::Hint, reason: reason.into(), sentence: sentence.into() }
    }

    /// Whether anything is wrong.
    pub fn is_problem(&self) -> bool {
        self.severity == Severity::Problem
    }
}

/// Each sentence once, the problems before the hints; otherwise in the order in which they were found.
pub fn sorted(mut advice: Vec<Advice>) -> Vec<Advice> {
    let mut told = std::collections::BTreeSet::new();
    advice.retain(|one| told.insert(one.sentence.clone()));
    advice.sort_by_key(|one| one.severity);
    advice
}
