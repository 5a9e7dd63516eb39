//! Logs a client in to the database.

use std::io;
use std::sync::Arc;

use bytes::BufMut;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::cancel::Victim;
use super::exchange::Memory;
use super::scram::{self, Proved, Scram};
use super::startup::{Request, StartupMessage};
use super::wire::{self, CancelKey, ErrorResponse, HEADER, Parameters, Version, message, split_text, tag, text};
use crate::config::Target;
use crate::net::{Endpoint, Stream};

/// What the database is told first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// Who logs in.
    pub user: Arc<str>,
    /// Where to.
    pub database: Arc<str>,
    /// Settings of the session.
    pub parameters: Vec<(Arc<str>, Arc<str>)>,
}

/// What is known of a backend that we have logged in to.
#[derive(Debug)]
pub struct Backend {
    /// Its settings and statements.
    pub memory: Memory,
    /// Its settings as they were after the login.
    pub initial: Parameters,
    /// What ends its queries; some poolers in between give none.
    pub key: Option<CancelKey>,
    /// The same with the way to it, once somebody needed it.
    pub(crate) victim: Option<Arc<Victim>>,
}

/// Why there is no login.
#[derive(Debug, Error)]
pub enum Error {
    /// The database's own words.
    #[error("{0}")]
    Refused(ErrorResponse),
    /// It wants to see something that we cannot show.
    #[error("{0}")]
    Unsupported(String),
    /// It could not prove that it is the database.
    #[error(transparent)]
    Scram(#[from] scram::Error),
    /// What it says makes no sense.
    #[error("the database's answer to the login makes no sense: {0}")]
    Protocol(#[from] wire::Error),
    /// The connection failed.
    #[error("the connection was lost during the login: {0}")]
    Io(#[from] io::Error),
}

// === impl Error ===

impl Error {
    /// Whether trying again would come to the same.
    pub fn is_final(&self) -> bool {
        matches!(self, Error::Unsupported(_) | Error::Scram(_))
    }
}

/// A message before the login is done is not longer.
const MOST_MESSAGE: usize = 64 * 1024;
/// Nor are there more of them.
const MOST_MESSAGES: usize = 500;

/// The database's side of a login, message by message.
struct Conversation<'a> {
    stream: &'a mut Stream,
    messages: usize,
}

/// Logs in over `stream`, on which nothing has been said but about encryption.
///
/// # Errors
/// There is no login; the stream is of no use any more.
pub(crate) async fn login(stream: &mut Stream, startup: &Startup, password: &str) -> Result<Backend, Error> {
    let mut conversation = Conversation { stream, messages: 0 };
    conversation.begin(startup).await?;
    conversation.prove(&startup.user, password).await?;
    conversation.listen().await
}

/// Whether the server is in a state that will do: by what it reports (PostgreSQL 14 and later), else by asking.
///
/// # Errors
/// The question was not answered.
pub(crate) async fn will_do(stream: &mut Stream, backend: &Backend, target: Target) -> Result<bool, Error> {
    if target == Target::Any {
        return Ok(true);
    }
    let reported = |name| backend.memory.parameters.get(name).map(|value| value == "on");
    let (is_standby, is_read_only) = match (reported("in_hot_standby"), reported("default_transaction_read_only")) {
        (Some(is_standby), Some(is_read_only)) => (is_standby, is_read_only),
        _ => Conversation { stream, messages: 0 }.ask_for_state().await?,
    };
    Ok(match target {
        Target::Any => true,
        Target::ReadWrite => !is_standby && !is_read_only,
        Target::ReadOnly => is_standby || is_read_only,
        Target::Primary => !is_standby,
        Target::Standby | Target::PreferStandby => is_standby,
    })
}

// === impl Conversation ===

impl Conversation<'_> {
    async fn begin(&mut self, startup: &Startup) -> Result<(), Error> {
        let mut parameters =
            vec![("user".to_owned(), startup.user.to_string()), ("database".to_owned(), startup.database.to_string())];
        parameters.extend(startup.parameters.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        let mut out = Vec::new();
        Request::Startup(StartupMessage { version: Version::V3_0, parameters }).write(&mut out);
        self.send(&out).await
    }

    /// Shows what the database asks for, until it is content.
    async fn prove(&mut self, user: &str, password: &str) -> Result<(), Error> {
        let mut scram: Option<Scram> = None;
        let mut proved: Option<Proved> = None;
        loop {
            let (tag, body) = self.receive().await?;
            if tag == tag::NEGOTIATE_PROTOCOL_VERSION {
                continue;
            }
            let malformed = || Error::Protocol(wire::Error::Body(tag));
            if tag != tag::AUTHENTICATION {
                return Err(wire::Error::Type(tag).into());
            }
            let (kind, rest) = body.split_first_chunk::<4>().ok_or_else(malformed)?;
            match u32::from_be_bytes(*kind) {
                // AuthenticationOk
                0 if scram.is_some() && proved.is_some() => return Err(scram::Error::Impostor.into()),
                0 => return Ok(()),
                3 if self.is_safe() => self.show(|out| text(out, password)).await?,
                3 => {
                    let sentence = "the database asks for the password in clear text over a connection that is not \
                                    encrypted; set client.tls.mode, or password_encryption there";
                    return Err(Error::Unsupported(sentence.into()));
                }
                5 => {
                    let salt = rest.first_chunk::<4>().ok_or_else(malformed)?;
                    self.show(|out| text(out, &scram::md5(user, password, *salt))).await?;
                }
                10 => {
                    let (mechanism, begun) = Scram::begin(&mechanisms(rest), self.binding().as_deref(), password)?;
                    let first = begun.first();
                    self.show(|out| {
                        text(out, mechanism);
                        out.put_u32(u32::try_from(first.len()).unwrap_or(u32::MAX));
                        out.extend_from_slice(first.as_bytes());
                    })
                    .await?;
                    scram = Some(begun);
                }
                11 => {
                    let (answer, given) = scram.as_ref().ok_or_else(malformed)?.answer(rest)?;
                    self.show(|out| out.extend_from_slice(answer.as_bytes())).await?;
                    proved = Some(given);
                }
                12 => {
                    proved.take().ok_or_else(malformed)?.verify(rest)?;
                    scram = None;
                }
                other => return Err(Error::Unsupported(format!("the database asks for {}", method(other)))),
            }
        }
    }

    /// Hears the settings, until the database is ready.
    async fn listen(&mut self) -> Result<Backend, Error> {
        let mut backend =
            Backend { memory: Memory::default(), initial: Parameters::default(), key: None, victim: None };
        loop {
            let (tag, body) = self.receive().await?;
            let malformed = wire::Error::Body(tag);
            match tag {
                tag::PARAMETER_STATUS => {
                    let (name, value) = Parameters::read(&body).ok_or(malformed)?;
                    backend.memory.parameters.set(name, value);
                }
                tag::BACKEND_KEY_DATA => backend.key = Some(CancelKey::read(&body).ok_or(malformed)?),
                tag::NEGOTIATE_PROTOCOL_VERSION => {}
                tag::READY_FOR_QUERY if body == b"I" => {
                    backend.initial = backend.memory.parameters.clone();
                    return Ok(backend);
                }
                _ => return Err(wire::Error::Type(tag).into()),
            }
        }
    }

    async fn ask_for_state(&mut self) -> Result<(bool, bool), Error> {
        let mut out = Vec::new();
        message(&mut out, tag::QUERY, |out| {
            text(
                out,
                "select pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')",
            );
        });
        self.send(&out).await?;
        let mut state = None;
        loop {
            let (tag, body) = self.receive().await?;
            match tag {
                // Two columns, each with its length before it.
                tag::DATA_ROW => {
                    let is_on = |value: Option<&[u8]>| value.is_some_and(|value| value == b"t" || value == b"on");
                    let columns = columns(&body);
                    state = Some((is_on(columns.first().copied()), is_on(columns.get(1).copied())));
                }
                tag::ROW_DESCRIPTION | tag::COMMAND_COMPLETE | tag::PARAMETER_STATUS => {}
                tag::READY_FOR_QUERY => return state.ok_or_else(|| wire::Error::Body(tag).into()),
                _ => return Err(wire::Error::Type(tag).into()),
            }
        }
    }

    /// The next message that is no notice. An error ends the login.
    async fn receive(&mut self) -> Result<(u8, Vec<u8>), Error> {
        loop {
            self.messages += 1;
            let mut header = [0; HEADER];
            self.stream.read_exact(&mut header).await?;
            let [tag, length @ ..] = header;
            let length = i32::from_be_bytes(length);
            let size = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
            let size = size.filter(|size| *size <= MOST_MESSAGE && self.messages <= MOST_MESSAGES);
            let mut body = vec![0; size.ok_or(wire::Error::Length { tag, length })?];
            self.stream.read_exact(&mut body).await?;
            match tag {
                tag::NOTICE_RESPONSE => {}
                tag::ERROR_RESPONSE => return Err(Error::Refused(ErrorResponse::read(&body))),
                _ => return Ok((tag, body)),
            }
        }
    }

    async fn show(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        let mut out = zeroize::Zeroizing::new(Vec::new());
        message(&mut out, tag::PASSWORD, write);
        self.send(&out).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    fn binding(&self) -> Option<Vec<u8>> {
        self.stream.channel_binding()
    }

    /// Whether nobody can listen.
    fn is_safe(&self) -> bool {
        self.stream.is_tls()
            || match self.stream.remote() {
                Endpoint::Ip(addr) => addr.ip().to_canonical().is_loopback(),
                Endpoint::Path(_) | Endpoint::Unnamed => matches!(self.stream, Stream::Unix(_)),
            }
    }
}

/// Names, each with a zero byte behind it, and an empty one at the end.
fn mechanisms(mut list: &[u8]) -> Vec<&str> {
    let mut mechanisms = Vec::new();
    while let Some((name, rest)) = split_text(list).filter(|(name, _)| !name.is_empty()) {
        mechanisms.extend(std::str::from_utf8(name));
        list = rest;
    }
    mechanisms
}

/// The values of a DataRow; those that are null are left out.
fn columns(row: &[u8]) -> Vec<&[u8]> {
    let mut rest = row.get(2..).unwrap_or_default();
    let mut columns = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let Some((value, after)) = after.split_at_checked(length) else { break };
        columns.push(value);
        rest = after;
    }
    columns
}

/// The kinds of Authentication that are not spoken here, by name.
fn method(kind: u32) -> String {
    let name = match kind {
        2 => "Kerberos V5".to_owned(),
        6 => "SCM credentials".to_owned(),
        7..=9 => "GSSAPI or SSPI".to_owned(),
        other => format!("authentication method {other}"),
    };
    format!("{name}, and the gateway shows passwords only: scram-sha-256, md5, password, or trust")
}
