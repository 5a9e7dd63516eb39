//! How passwords are proved: SCRAM-SHA-256 (RFC 5802, RFC 7677), with channel binding, and md5. Pure.
//!
//! [`client`] proves a password to the database, which has to prove that it knows it too; [`server`] is the other end,
//! towards peers; [`password`] is what both make of a password before anything is sent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use thiserror::Error;

pub mod password;
pub mod client;
pub mod server;

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// More would keep a core busy for a second or longer; PostgreSQL's default is 4096.
pub const MOST_ITERATIONS: u32 = 1_000_000;
/// No message of an honest side is longer; PostgreSQL takes 1024 bytes.
pub const MAX_MESSAGE: usize = 8 * 1024;

/// Why an exchange cannot go on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// A message is not what it has to be.
    #[error("a SCRAM message is malformed: {0}")]
    Malformed(&'static str),
    /// The database wants us to compute for too long.
    #[error("the database asks for {0} iterations of SCRAM, of which at most {MOST_ITERATIONS} are computed here")]
    Iterations(u64),
    /// The database could not prove that it knows the password.
    #[error(
        "the database did not prove that it knows the password: somebody may stand between, or answer in its place"
    )]
    Unproved,
    /// The database ended the exchange, in its own words.
    #[error("the database ended the SCRAM exchange: {0}")]
    Ended(String),
    /// The peer chose a mechanism that was not offered.
    #[error("the SASL mechanism was not offered")]
    Mechanism,
    /// The peer could have bound the exchange to TLS and believes that it was not offered: somebody may stand between.
    #[error("channel binding was offered, and the client says that it was not")]
    Downgrade,
    /// The peer sees another certificate than ours, or bound to something else.
    #[error("the SCRAM channel binding does not match")]
    Binding,
    /// The peer does not know the password, or nobody has that name.
    #[error("the password is wrong")]
    Password,
}

/// How an exchange is bound to the TLS that carries it.
#[derive(Clone, PartialEq, Eq)]
pub enum Binding {
    /// `n`: there is no TLS, or nothing of it to bind to.
    Unable,
    /// `y`: it could have been, but the other side did not offer it.
    Unoffered,
    /// `p`: to the certificate of the server, by this hash of it (`tls-server-end-point`, RFC 5929).
    EndPoint(Vec<u8>),
}

/// The comma-separated attributes of a message, one after another.
#[derive(Debug)]
struct Attributes<'a>(std::str::Split<'a, char>);

/// A nonce out of random bytes: printable, without commas.
pub fn nonce(random: [u8; 18]) -> String {
    STANDARD.encode(random)
}

/// The message as text, where it can be one.
fn readable(message: &[u8]) -> Result<&str, Error> {
    if message.len() > MAX_MESSAGE {
        return Err(Error::Malformed("it is too long"));
    }
    let text = std::str::from_utf8(message).map_err(|_| Error::Malformed("it is not UTF-8"))?;
    if text.contains('\0') { Err(Error::Malformed("it has a zero byte")) } else { Ok(text) }
}

/// Printable ASCII; commas are gone already.
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

fn sign(key: &[u8], data: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data)
}

/// `one` with each bit flipped that is set in `other`.
fn xor(mut one: [u8; 32], other: &[u8]) -> [u8; 32] {
    one.iter_mut().zip(other).for_each(|(one, other)| *one ^= other);
    one
}

// === impl Error ===

impl Error {
    /// The SQLSTATE with which PostgreSQL refuses a peer for it.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Password => "28P01",
            Error::Downgrade | Error::Binding => "28000",
            _ => "08P01",
        }
    }
}

// === impl Binding ===

impl Binding {
    /// The mechanism that goes with it.
    pub fn mechanism(&self) -> &'static str {
        if matches!(self, Binding::EndPoint(_)) { SCRAM_SHA_256_PLUS } else { SCRAM_SHA_256 }
    }

    /// What the client's first message begins with (the GS2 header).
    fn header(&self) -> &'static str {
        match self {
            Binding::Unable => "n,,",
            Binding::Unoffered => "y,,",
            Binding::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// What the client's last message repeats, so that nobody between can have changed it.
    fn repeated(&self) -> String {
        let hash: &[u8] = if let Binding::EndPoint(hash) = self { hash } else { &[] };
        STANDARD.encode([self.header().as_bytes(), hash].concat())
    }
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.header())
    }
}

// === impl Attributes ===

impl<'a> Attributes<'a> {
    fn of(text: &'a str) -> Attributes<'a> {
        Attributes(text.split(','))
    }

    /// The value of the next attribute, which must have this name.
    fn take(&mut self, name: &str, otherwise: &'static str) -> Result<&'a str, Error> {
        let next = self.0.next().and_then(|attribute| attribute.strip_prefix(name));
        next.and_then(|rest| rest.strip_prefix('=')).ok_or(Error::Malformed(otherwise))
    }

    /// Whether each of the rest is an attribute; what they mean is unknown, and does not matter.
    fn are_optional(self) -> bool {
        self.0.into_iter().all(|attribute| {
            let mut bytes = attribute.bytes();
            bytes.next().is_some_and(|name| name.is_ascii_alphabetic()) && bytes.next() == Some(b'=')
        })
    }
}

#[cfg(test)]
mod tests;
