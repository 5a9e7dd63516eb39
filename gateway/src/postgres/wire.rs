//! Messages: how they are written, and how the few are read that the gateway must understand. Pure.

use std::ffi::CStr;
use std::fmt;
use std::rc::Rc;

use bytes::BufMut;
use thiserror::Error;

/// A message's first byte (chapter "Message Formats"). Some mean one thing from peers, and another from the database.
pub mod tag {
    // From peers.
    /// Bind.
    pub const BIND: u8 = b'B';
    /// Close; from the database: CommandComplete.
    pub const CLOSE: u8 = b'C';
    /// CopyFail.
    pub const COPY_FAIL: u8 = b'f';
    /// Describe; from the database: DataRow.
    pub const DESCRIBE: u8 = b'D';
    /// Execute; from the database: ErrorResponse.
    pub const EXECUTE: u8 = b'E';
    /// Flush; from the database: CopyOutResponse.
    pub const FLUSH: u8 = b'H';
    /// FunctionCall.
    pub const FUNCTION_CALL: u8 = b'F';
    /// Parse.
    pub const PARSE: u8 = b'P';
    /// PasswordMessage, SASLInitialResponse and SASLResponse.
    pub const PASSWORD: u8 = b'p';
    /// Query.
    pub const QUERY: u8 = b'Q';
    /// Sync; from the database: ParameterStatus.
    pub const SYNC: u8 = b'S';
    /// Terminate.
    pub const TERMINATE: u8 = b'X';

    // From both.
    /// CopyData.
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone.
    pub const COPY_DONE: u8 = b'c';

    // From the database.
    /// Authentication, of every kind.
    pub const AUTHENTICATION: u8 = b'R';
    /// BackendKeyData.
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// BindComplete.
    pub const BIND_COMPLETE: u8 = b'2';
    /// CloseComplete.
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// CommandComplete.
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// CopyBothResponse.
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    /// CopyInResponse.
    pub const COPY_IN_RESPONSE: u8 = b'G';
    /// CopyOutResponse.
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    /// DataRow.
    pub const DATA_ROW: u8 = b'D';
    /// EmptyQueryResponse.
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    /// ErrorResponse.
    pub const ERROR_RESPONSE: u8 = b'E';
    /// FunctionCallResponse.
    pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
    /// NegotiateProtocolVersion.
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    /// NoData.
    pub const NO_DATA: u8 = b'n';
    /// NoticeResponse.
    pub const NOTICE_RESPONSE: u8 = b'N';
    /// NotificationResponse.
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    /// ParameterDescription.
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// ParameterStatus.
    pub const PARAMETER_STATUS: u8 = b'S';
    /// ParseComplete.
    pub const PARSE_COMPLETE: u8 = b'1';
    /// PortalSuspended.
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// ReadyForQuery.
    pub const READY_FOR_QUERY: u8 = b'Z';
    /// RowDescription.
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// PostgreSQL reports some fifteen settings, its relatives some more.
const MOST_PARAMETERS: usize = 200;
/// Bytes of their names and values: some hundred, and each session has its own.
const MOST_SETTINGS: usize = 16 * 1024;
/// A message's type and length come before its body.
pub const HEADER: usize = 5;

/// Why bytes are no message.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// A length that no message of this kind has.
    #[error("a message of type {} claims {length} bytes", .tag.escape_ascii())]
    Length {
        /// The message's first byte; 0 before a login, where messages have none.
        tag: u8,
        /// What it claims.
        length: i32,
    },
    /// A type that does not exist, or that the other side only may send.
    #[error("there is no message of type {} here", .0.escape_ascii())]
    Type(u8),
    /// The body is not what its type promises.
    #[error("a message of type {} is malformed", .0.escape_ascii())]
    Body(u8),
}

/// A protocol version as startup packets have it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

/// What `CancelRequest` must show: 4 bytes in protocol 3.0, up to 256 in 3.2.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelKey {
    /// The backend's process id, or a number of ours.
    pub process: u32,
    /// The secret; it never appears in a log.
    pub secret: Box<[u8]>,
}

/// An ErrorResponse or NoticeResponse: the fields that people and drivers look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorResponse {
    /// `ERROR`, `FATAL` or `PANIC`, never translated.
    pub severity: Box<str>,
    /// The SQLSTATE, five characters (appendix "PostgreSQL Error Codes").
    pub code: Box<str>,
    /// One sentence.
    pub message: Box<str>,
    /// More about the cause.
    pub detail: Option<Box<str>>,
    /// What to do.
    pub hint: Option<Box<str>>,
}

/// The settings that the database reports, by name, in ParameterStatus messages. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Rc<Vec<(Box<str>, Box<str>)>>);

/// The state in which ReadyForQuery leaves a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `I`: in no transaction.
    Idle,
    /// `T`: in a transaction.
    Transaction,
    /// `E`: in a transaction that failed.
    Failed,
}

/// Appends the message `tag` with the body that `write` appends.
pub fn message(out: &mut Vec<u8>, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    packet(out, write);
}

/// Appends a packet without a type, as they are before a login.
pub fn packet(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.put_u32(0);
    write(out);
    let length = u32::try_from(out.len() - begin).unwrap_or(u32::MAX);
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends `text` and the zero byte that ends it; a zero byte within would end it early, and is left out.
pub fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}

/// The text before the first zero byte, and what follows that; `None` where there is none.
pub fn split_text(body: &[u8]) -> Option<(&[u8], &[u8])> {
    // It finds the byte many at a time.
    let text = CStr::from_bytes_until_nul(body).ok()?.to_bytes();
    Some((text, &body[text.len() + 1..]))
}

// === impl Version ===

impl Version {
    /// Since PostgreSQL 7.4.
    pub const V3_0: Version = Version(3 << 16);
    /// Since PostgreSQL 18: longer secrets for cancelling.
    pub const V3_2: Version = Version(3 << 16 | 2);

    /// The part before the point.
    pub fn major(self) -> u32 {
        self.0 >> 16
    }

    /// The part behind the point.
    pub fn minor(self) -> u32 {
        self.0 & 0xffff
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major(), self.minor())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

// === impl CancelKey ===

impl CancelKey {
    /// Reads the body of a BackendKeyData, or what follows the code of a CancelRequest.
    pub fn read(body: &[u8]) -> Option<CancelKey> {
        let (process, secret) = body.split_first_chunk::<4>()?;
        (4..=256)
            .contains(&secret.len())
            .then(|| CancelKey { process: u32::from_be_bytes(*process), secret: secret.into() })
    }

    /// Appends process and secret.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.put_u32(self.process);
        out.extend_from_slice(&self.secret);
    }
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CancelKey({})", self.process)
    }
}

// === impl ErrorResponse ===

impl ErrorResponse {
    /// One that ends the connection.
    pub fn fatal(code: &str, message: impl Into<Box<str>>) -> ErrorResponse {
        ErrorResponse { severity: "FATAL".into(), code: code.into(), message: message.into(), ..Self::default() }
    }

    /// One that ends a query only.
    pub fn error(code: &str, message: impl Into<Box<str>>) -> ErrorResponse {
        ErrorResponse { severity: "ERROR".into(), ..Self::fatal(code, message) }
    }

    /// The same, with what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Box<str>>) -> ErrorResponse {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with more about the cause.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Box<str>>) -> ErrorResponse {
        self.detail = Some(detail.into());
        self
    }

    /// Appends it as a message.
    pub fn write(&self, out: &mut Vec<u8>) {
        message(out, tag::ERROR_RESPONSE, |out| {
            let fields = [
                (b'S', Some(&self.severity)),
                (b'V', Some(&self.severity)),
                (b'C', Some(&self.code)),
                (b'M', Some(&self.message)),
                (b'D', self.detail.as_ref()),
                (b'H', self.hint.as_ref()),
            ];
            for (field, value) in fields {
                if let Some(value) = value {
                    out.push(field);
                    text(out, value);
                }
            }
            out.push(0);
        });
    }

    /// Reads the body of one; what is missing stays empty.
    pub fn read(mut body: &[u8]) -> ErrorResponse {
        let mut read = ErrorResponse::default();
        while let Some((&field, rest)) = body.split_first().filter(|(field, _)| **field != 0) {
            let Some((value, rest)) = split_text(rest) else { break };
            body = rest;
            let value: Box<str> = String::from_utf8_lossy(value).into();
            match field {
                b'S' if read.severity.is_empty() => read.severity = value,
                b'V' => read.severity = value,
                b'C' => read.code = value,
                b'M' => read.message = value,
                b'D' => read.detail = Some(value),
                b'H' => read.hint = Some(value),
                _ => {}
            }
        }
        read
    }
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = if self.code.is_empty() { "no SQLSTATE" } else { &self.code };
        write!(out, "{}: {} ({code})", self.severity, self.message)
    }
}

impl std::error::Error for ErrorResponse {}

// === impl Parameters ===

impl Parameters {
    /// The setting's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        let place = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.0[place].1)
    }

    /// Sets it; whether that is news. A database that reports settings without end is heeded up to a limit.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        match self.0.binary_search_by(|(known, _)| (**known).cmp(name)) {
            Ok(place) if *self.0[place].1 == *value => false,
            _ if !self.has_room_for(name, value) => false,
            Ok(place) => {
                Rc::make_mut(&mut self.0)[place].1 = value.into();
                true
            }
            Err(_) if self.0.len() >= MOST_PARAMETERS => false,
            Err(place) => {
                Rc::make_mut(&mut self.0).insert(place, (name.into(), value.into()));
                true
            }
        }
    }

    fn has_room_for(&self, name: &str, value: &str) -> bool {
        let others = self.iter().filter(|(known, _)| *known != name).map(|(known, value)| known.len() + value.len());
        others.sum::<usize>() + name.len() + value.len() <= MOST_SETTINGS
    }

    /// Whether both say the same; then they are one from now on, which makes the next comparison cheap.
    pub fn unify(&self, other: &mut Parameters) -> bool {
        if Rc::ptr_eq(&self.0, &other.0) {
            return true;
        }
        let is_same = self.0 == other.0;
        if is_same {
            other.0 = self.0.clone();
        }
        is_same
    }

    /// Reads the body of a ParameterStatus: name and value.
    pub fn read(body: &[u8]) -> Option<(&str, &str)> {
        let (name, rest) = split_text(body)?;
        let (value, _) = split_text(rest)?;
        Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
    }

    /// Appends a ParameterStatus for each.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            message(out, tag::PARAMETER_STATUS, |out| {
                text(out, name);
                text(out, value);
            });
        }
    }

    /// Name and value of each, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

// === impl Status ===

impl Status {
    /// Reads the body of a ReadyForQuery.
    pub fn read(body: &[u8]) -> Option<Status> {
        match body {
            b"I" => Some(Status::Idle),
            b"T" => Some(Status::Transaction),
            b"E" => Some(Status::Failed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_it_was_told() {
        let said = ErrorResponse::fatal("57P01", "the gateway is shutting down").hint("connect again").detail("why");
        let mut out = Vec::new();
        said.write(&mut out);
        assert_eq!((out[0], usize::from(out[4])), (b'E', out.len() - 1));
        assert_eq!(ErrorResponse::read(&out[HEADER..]), said);
        assert_eq!(said.to_string(), "FATAL: the gateway is shutting down (57P01)");
    }

    #[test]
    fn a_text_cannot_end_early() {
        let mut out = Vec::new();
        text(&mut out, "a\0b");
        assert_eq!(out, b"ab\0");
    }

    #[test]
    fn parameters_are_found_by_name_and_news_is_told() {
        let mut parameters = Parameters::default();
        assert!(parameters.set("b", "1") && parameters.set("a", "2") && parameters.set("b", "3"));
        assert!(!parameters.set("b", "3"));
        assert_eq!(parameters.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
        assert_eq!((parameters.get("b"), parameters.get("c")), (Some("3"), None));
    }

    #[test]
    fn parameters_have_an_end() {
        let mut parameters = Parameters::default();
        let known = (0..MOST_PARAMETERS + 9).filter(|number| parameters.set(&format!("a.b{number}"), "x")).count();
        assert_eq!((known, parameters.iter().count()), (MOST_PARAMETERS, MOST_PARAMETERS));
        assert!(parameters.set("a.b7", "y"), "what is known can change");
        let long = "x".repeat(MOST_SETTINGS);
        assert!(!parameters.set("a.b7", &long) && parameters.get("a.b7") == Some("y"), "but it has an end, too");
    }

    #[test]
    fn a_secret_for_cancelling_is_never_shown() {
        let key = CancelKey::read(b"\0\0\0\x07secret").expect("a key");
        assert_eq!(format!("{key:?}"), "CancelKey(7)");
        assert_eq!(CancelKey::read(b"\0\0\0\x07abc"), None);
    }
}
