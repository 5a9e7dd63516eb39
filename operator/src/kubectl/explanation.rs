//! What is said of one thing: how it stands, a sentence for each side of it, and what somebody should do.

use serde::Serialize;

use super::advice::{Advice, sorted};

/// What is said of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub told: Vec<Told>,
    /// What somebody should do.
    pub advice: Vec<Advice>,
}

/// How one side of it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Which side: a word.
    pub about: String,
    /// How it stands.
    pub sentence: String,
}

// === impl Explanation ===

impl Explanation {
    /// Nothing is said of it yet.
    pub fn of(kind: &str, namespace: &str, name: &str) -> Self {
        let (kind, namespace, name) = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        Self { kind, namespace, name, told: Vec::new(), advice: Vec::new() }
    }

    /// Says how one side of it stands.
    pub fn tell(&mut self, about: impl Into<String>, sentence: impl Into<String>) {
        self.told.push(Told { about: about.into(), sentence: sentence.into() });
    }

    /// Says what somebody should do.
    pub fn advise(&mut self, advice: impl IntoIterator<Item = Advice>) {
        self.advice.extend(advice);
    }

    /// The same, as it is shown.
    #[must_use]
    pub fn finish(mut self) -> Self {
        self.advice = sorted(self.advice);
        self
    }

    /// Whether anything is wrong.
    pub fn has_problem(&self) -> bool {
        self.advice.iter().any(Advice::is_problem)
    }
}
