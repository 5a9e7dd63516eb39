//! How a statement is refused: the database is asked one that it refuses itself, so that it is in the state in which any
//! error leaves it, in a pipeline and in a transaction too; and its error is replaced by the plugin's. Pure.

use std::collections::VecDeque;

use super::wit::postern::plugin::types;
use crate::postgres::wire::{ErrorResponse, HEADER};

/// Statements that were refused, and whose errors the database has not told yet.
#[derive(Default)]
pub(super) struct Refusals {
    next: u32,
    open: VecDeque<(u32, ErrorResponse)>,
}

/// Statements of one pipeline that are refused; of more, the first errors are the database's.
const MOST_REFUSALS: usize = 256;
/// What is asked in the place of a refused statement is an identifier that begins with this, which is no statement.
const REFUSED: &str = "postern-refused-";
/// What a plugin's error is called that has no SQLSTATE: insufficient privilege.
const REFUSED_CODE: &str = "42501";

// === impl Refusals ===

impl Refusals {
    /// Whether there is none whose error is awaited.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What is asked so that the database refuses it, and the peer gets this error.
    pub(super) fn open(&mut self, error: ErrorResponse) -> String {
        self.next = self.next.wrapping_add(1);
        if self.open.len() >= MOST_REFUSALS {
            self.open.pop_front();
        }
        self.open.push_back((self.next, error));
        format!("\"{REFUSED}{}\"", self.next)
    }

    /// The error that stands for one of the database's with this message. What was refused before it was skipped.
    pub(super) fn settle(&mut self, message: &str) -> Option<ErrorResponse> {
        let begin = message.find(REFUSED)? + REFUSED.len();
        let digits = message[begin..].split(|letter: char| !letter.is_ascii_digit()).next()?;
        let number: u32 = digits.parse().ok()?;
        let place = self.open.iter().position(|(open, _)| *open == number)?;
        self.open.drain(..=place).next_back().map(|(_, error)| error)
    }
}

/// An error in a plugin's words, as severe as it can be here.
pub(super) fn told(error: types::ErrorResponse, severity: &str) -> ErrorResponse {
    let types::ErrorResponse { severity: _, code, message, detail, hint } = error;
    let is_code = code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    ErrorResponse {
        severity: severity.into(),
        code: if is_code { code.into() } else { REFUSED_CODE.into() },
        message: message.into(),
        detail: detail.map(Into::into),
        hint: hint.map(Into::into),
    }
}

/// An error as a plugin sees it.
pub(super) fn shown(error: ErrorResponse) -> types::ErrorResponse {
    types::ErrorResponse {
        severity: error.severity.into(),
        code: error.code.into(),
        message: error.message.into(),
        detail: error.detail.map(Into::into),
        hint: error.hint.map(Into::into),
    }
}

/// An error as the body of a message.
pub(super) fn body_of(error: &ErrorResponse) -> Vec<u8> {
    let mut message = Vec::new();
    error.write(&mut message);
    message.split_off(HEADER)
}
