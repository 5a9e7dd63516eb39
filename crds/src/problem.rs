//! One thing that is wrong with a document.

use serde::Serialize;
use std::fmt;

/// One thing that is wrong with a document: where, and in one sentence what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The setting, such as `spec.proxies[1].pool.size`; empty where it is the document itself.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// The line on which the setting stands, from 1, where the document is a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

// === impl Problem ===

impl Problem {
    /// A problem with the setting at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), line: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(out, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(out, "{}: ", self.path)?;
        }
        out.write_str(&self.message)
    }
}
