//! Logs a client in to the database.
//!
//! [`login`] sends a StartupMessage, answers what the database asks for (`proof`), and takes what it reports until it is
//! ready; [`will_do`] says whether it is in the wanted state. Both drop nothing but the stream when they are dropped: it is
//! of no use after that.

use std::io;
use std::sync::Arc;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use self::conversation::{Conversation, Message};
use self::proof::{Ask, Proof};
use super::cancel::Victim;
use super::exchange::Memory;
use super::startup::{MAX_STARTUP, Request, StartupMessage};
use super::wire::{self, CancelKey, ErrorResponse, Version, split_text, tag};
use crate::net::Stream;

mod conversation;
mod proof;
mod state;

pub use state::will_do;

/// What a session begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The protocol that is asked for; a database that knows an older one only, says so, and gets that.
    pub version: Version,
    /// Who logs in.
    pub user: Arc<str>,
    /// Where to.
    pub database: Arc<str>,
    /// Settings.
    pub parameters: Vec<(Arc<str>, Arc<str>)>,
}

/// What is known of a backend that we have logged in to.
#[derive(Debug)]
pub struct Backend {
    /// Its settings and statements.
    pub memory: Memory,
    /// What ends its queries; some poolers in between give none.
    pub key: Option<CancelKey>,
    /// The same with the way to it, once somebody needed it.
    pub(crate) victim: Option<Arc<Victim>>,
    /// The protocol's version.
    pub version: Version,
}

/// What lies between us and the database, as far as proving a password depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A network on which others may listen.
    Network,
    /// This host: a Unix socket or loopback.
    Host,
    /// TLS, with the hash of the database's certificate where it has one (`tls-server-end-point`).
    Tls(Option<Vec<u8>>),
}

/// Why a login failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The database refused.
    #[error("{0}")]
    Refused(ErrorResponse),
    /// The database refused before anything else, and in a way in which it may refuse the protocol's version: a new
    /// connection with 3.0 shows whether it does.
    #[error("it may not speak protocol {0}: {1}")]
    Version(Version, ErrorResponse),
    /// The database asks for what we cannot do or must not do, or failed to prove itself.
    #[error("{0}")]
    Unsupported(String),
    /// The database does not speak the protocol.
    #[error(transparent)]
    Protocol(#[from] wire::Error),
    /// The database goes on and on.
    #[error("the database says more than a login has")]
    TooMuch,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Logs in.
///
/// # Errors
/// The database refused, asks for what we cannot do, does not speak the protocol, or is gone.
pub async fn login(stream: &mut Stream, startup: &Startup, password: &str) -> Result<Backend, Error> {
    let channel = Channel::of(stream);
    login_over(stream, channel, startup, password).await
}

/// Logs in over any stream of which the `channel` is known.
///
/// # Errors
/// As those of [`login`].
pub async fn login_over<S>(
    stream: &mut S,
    channel: Channel,
    startup: &Startup,
    password: &str,
) -> Result<Backend, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut conversation = Conversation::over(stream);
    conversation.send(&startup.packet()?).await?;
    let proof = Proof { channel, user: &startup.user, password };
    let version = authenticate(&mut conversation, startup, proof).await?;
    let mut backend = Backend::new(version);
    loop {
        let Message { tag, body } = conversation.next().await?;
        match tag {
            tag::BACKEND_KEY_DATA => {
                let key = CancelKey::read(&body).ok_or(wire::Error::Body(tag))?;
                backend.memory.process = Some(key.process);
                backend.key = Some(key);
            }
            tag::READY_FOR_QUERY if *body == *b"I" => break,
            tag::READY_FOR_QUERY => return Err(wire::Error::Body(tag).into()),
            _ => backend.take_aside(tag, &body)?,
        }
    }
    conversation.end()?;
    backend.memory.initial = backend.memory.parameters.clone();
    Ok(backend)
}

/// Up to AuthenticationOk; the version that is spoken from there on.
async fn authenticate<S>(
    conversation: &mut Conversation<'_, S>,
    startup: &Startup,
    proof: Proof<'_>,
) -> Result<Version, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut version = startup.version;
    let mut unused = Some(proof);
    let mut is_first = true;
    loop {
        let Message { tag, body } = conversation.next().await?;
        match tag {
            tag::NEGOTIATE_PROTOCOL_VERSION if is_first => version = startup.negotiated(&body)?,
            tag::NOTICE_RESPONSE => {}
            tag::ERROR_RESPONSE if is_first => return Err(startup.refused(ErrorResponse::read(&body))),
            tag::ERROR_RESPONSE => return Err(Error::Refused(ErrorResponse::read(&body))),
            tag::AUTHENTICATION => match Ask::read(&body)? {
                Ask::Nothing => return Ok(version),
                // It asks once. Whoever asks again is after something else.
                ask => unused.take().ok_or(wire::Error::Body(tag))?.give(conversation, ask).await?,
            },
            _ => return Err(wire::Error::Type(tag).into()),
        }
        is_first = false;
    }
}

// === impl Error ===

impl Error {
    /// Whether trying again would come to the same.
    pub fn is_final(&self) -> bool {
        matches!(self, Error::Unsupported(_))
    }
}

// === impl Startup ===

impl Startup {
    fn packet(&self) -> Result<Vec<u8>, Error> {
        let first = [("user", &self.user), ("database", &self.database)];
        let all = first.into_iter().chain(self.parameters.iter().map(|(name, value)| (&**name, value)));
        let parameters = all.map(|(name, value)| (name.to_owned(), (**value).to_owned())).collect();
        let mut packet = Vec::new();
        Request::Startup(StartupMessage { version: self.version, parameters }).write(&mut packet);
        if packet.len() > MAX_STARTUP {
            let why =
                format!("user, database and settings have more than the {MAX_STARTUP} bytes that PostgreSQL takes");
            return Err(Error::Unsupported(why));
        }
        Ok(packet)
    }

    /// The version that the database speaks instead, by its NegotiateProtocolVersion.
    fn negotiated(&self, body: &[u8]) -> Result<Version, Error> {
        let malformed = wire::Error::Body(tag::NEGOTIATE_PROTOCOL_VERSION);
        let (said, rest) = body.split_first_chunk::<4>().ok_or(malformed.clone())?;
        let (count, mut rest) = rest.split_first_chunk::<4>().ok_or(malformed.clone())?;
        let said = Version(u32::from_be_bytes(*said));
        // The manual promises the minor version alone; PostgreSQL itself sends both.
        let version = if said.major() == 0 { Version(Version::V3_0.0 | said.minor()) } else { said };
        for _ in 0..u32::from_be_bytes(*count) {
            let (option, others) = split_text(rest).ok_or(malformed.clone())?;
            // It can only refuse options that it was asked for.
            let is_ours = self.parameters.iter().any(|(name, _)| name.as_bytes() == option);
            if !option.starts_with(b"_pq_.") || !is_ours {
                return Err(malformed.into());
            }
            rest = others;
        }
        // There never was a 3.1.
        let is_spoken = [Version::V3_0, Version::V3_2].contains(&version) && version <= self.version;
        if is_spoken && rest.is_empty() { Ok(version) } else { Err(malformed.into()) }
    }

    /// What a refusal means that is the first answer: servers that cannot negotiate refuse the version so.
    fn refused(&self, said: ErrorResponse) -> Error {
        let may_be_of_version = self.version > Version::V3_0 && ["0A000", "08P01", ""].contains(&&*said.code);
        if may_be_of_version { Error::Version(self.version, said) } else { Error::Refused(said) }
    }
}

// === impl Backend ===

impl Backend {
    fn new(version: Version) -> Backend {
        Backend { memory: Memory::default(), key: None, victim: None, version }
    }

    /// Takes what the database may say at any time.
    fn take_aside(&mut self, tag: u8, body: &[u8]) -> Result<(), Error> {
        match tag {
            tag::PARAMETER_STATUS => {
                let (name, rest) = split_text(body).ok_or(wire::Error::Body(tag))?;
                let (value, rest) = split_text(rest).ok_or(wire::Error::Body(tag))?;
                if !rest.is_empty() {
                    return Err(wire::Error::Body(tag).into());
                }
                self.memory.parameters.set(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value));
                Ok(())
            }
            tag::NOTICE_RESPONSE => Ok(()),
            tag::ERROR_RESPONSE => Err(Error::Refused(ErrorResponse::read(body))),
            _ => Err(wire::Error::Type(tag).into()),
        }
    }
}

// === impl Channel ===

impl Channel {
    /// What `stream` is.
    pub fn of(stream: &Stream) -> Channel {
        match stream {
            Stream::Tcp(tcp) if tcp.peer_addr().is_ok_and(|addr| addr.ip().to_canonical().is_loopback()) => {
                Channel::Host
            }
            Stream::Tcp(_) => Channel::Network,
            Stream::Unix(_) => Channel::Host,
            Stream::Tls(_) => Channel::Tls(stream.channel_binding()),
        }
    }
}

#[cfg(test)]
mod tests;
