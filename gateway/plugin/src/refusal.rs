//! What a plugin says to a peer that it refuses.

use crate::{ErrorResponse, StatementVerdict};

impl ErrorResponse {
    /// An error with this SQLSTATE.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { severity: "ERROR".into(), code: code.into(), message: message.into(), detail: None, hint: None }
    }

    /// The same, with what somebody can do about it.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl From<ErrorResponse> for StatementVerdict {
    fn from(error: ErrorResponse) -> Self {
        StatementVerdict::Refuse(error)
    }
}
