//! What the database asks for before it believes who we are, and what it gets.

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;
use zeroize::Zeroizing;

use super::conversation::{Conversation, Message};
use super::{Channel, Error};
use crate::postgres::scram::client::Client;
use crate::postgres::scram::{self, Binding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, password};
use crate::postgres::wire::{self, ErrorResponse, HEADER, message, split_text, tag, text};
use crate::random::secret;

/// An Authentication message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask<'a> {
    /// It believes us.
    Nothing,
    /// The password.
    Cleartext,
    /// Its md5, with this salt.
    Md5([u8; 4]),
    /// One of these mechanisms, each ended by a zero byte.
    Sasl(&'a [u8]),
    /// The exchange goes on.
    SaslContinue(&'a [u8]),
    /// The exchange is over.
    SaslFinal(&'a [u8]),
    /// Something else.
    Other(u32),
}

/// All that a password is proved with, once.
pub(super) struct Proof<'a> {
    pub(super) channel: Channel,
    pub(super) user: &'a str,
    pub(super) password: &'a str,
}

const MALFORMED: wire::Error = wire::Error::Body(tag::AUTHENTICATION);

// === impl Ask ===

impl Ask<'_> {
    pub(super) fn read(body: &[u8]) -> Result<Ask<'_>, wire::Error> {
        let (code, rest) = body.split_first_chunk::<4>().ok_or(MALFORMED)?;
        let alone = |ask| if rest.is_empty() { Ok(ask) } else { Err(MALFORMED) };
        match u32::from_be_bytes(*code) {
            0 => alone(Ask::Nothing),
            3 => alone(Ask::Cleartext),
            5 => rest.try_into().map(Ask::Md5).map_err(|_| MALFORMED),
            10 => Ok(Ask::Sasl(rest)),
            11 => Ok(Ask::SaslContinue(rest)),
            12 => Ok(Ask::SaslFinal(rest)),
            code => Ok(Ask::Other(code)),
        }
    }
}

// === impl Proof ===

impl Proof<'_> {
    /// Gives the database what it asks for.
    pub(super) async fn give<S>(self, conversation: &mut Conversation<'_, S>, ask: Ask<'_>) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if matches!(ask, Ask::Cleartext | Ask::Md5(_) | Ask::Sasl(_)) && self.password.is_empty() {
            return Err(unsupported("the database asks for a password, and the Secret has an empty one"));
        }
        match ask {
            Ask::Cleartext if self.channel == Channel::Network => Err(unsupported(
                "the database asks for the password itself, which is not sent over a network without TLS: set client.tls, \
                 or scram-sha-256 in the database's pg_hba.conf",
            )),
            Ask::Cleartext => conversation.send(&answer(self.password.len(), |out| text(out, self.password))).await,
            Ask::Md5(salt) => {
                let proof = password::md5(self.user, self.password, salt);
                conversation.send(&answer(proof.len(), |out| text(out, &proof))).await
            }
            Ask::Sasl(offered) => self.exchange(conversation, offered).await,
            Ask::Other(code) => Err(unsupported(format!(
                "the database asks for {}, which the gateway cannot do: it can do scram-sha-256, md5, password, cert \
                 and trust of pg_hba.conf",
                method(code)
            ))),
            Ask::Nothing | Ask::SaslContinue(_) | Ask::SaslFinal(_) => Err(MALFORMED.into()),
        }
    }

    /// A whole exchange of SCRAM, up to the database's proof.
    async fn exchange<S>(self, conversation: &mut Conversation<'_, S>, offered: &[u8]) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let binding = binding(&self.channel, &mechanisms(offered)?)?;
        // Random, so that no proof is ever given twice.
        let client = Client::new(binding, &scram::nonce(secret()?));
        let first = client.first();
        let initial = answer(first.len(), |out| {
            text(out, client.mechanism());
            out.put_u32(u32::try_from(first.len()).unwrap_or(u32::MAX));
            out.extend_from_slice(first.as_bytes());
        });
        conversation.send(&initial).await?;
        let body = next(conversation).await?;
        let Ask::SaslContinue(challenge) = Ask::read(&body)? else { return Err(MALFORMED.into()) };
        let mut challenged = client.challenged(challenge, self.password)?;
        while challenged.salting.step() {
            yield_now().await;
        }
        let (last, answered) = challenged.answer();
        conversation.send(&answer(last.len(), |out| out.extend_from_slice(last.as_bytes()))).await?;
        let body = next(conversation).await?;
        let Ask::SaslFinal(proof) = Ask::read(&body)? else { return Err(MALFORMED.into()) };
        Ok(answered.verify(proof)?)
    }
}

/// The body of the next Authentication message.
async fn next<S>(conversation: &mut Conversation<'_, S>) -> Result<Bytes, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let Message { tag, body } = conversation.next().await?;
        match tag {
            tag::AUTHENTICATION => return Ok(body),
            tag::NOTICE_RESPONSE => {}
            tag::ERROR_RESPONSE => return Err(Error::Refused(ErrorResponse::read(&body))),
            _ => return Err(wire::Error::Type(tag).into()),
        }
    }
}

/// A PasswordMessage, or one of its kin, of about this size: it does not grow, so that no copy of a password is left behind.
fn answer(size: usize, write: impl FnOnce(&mut Vec<u8>)) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(HEADER + size + 1));
    message(&mut out, tag::PASSWORD, write);
    out
}

fn mechanisms(mut offered: &[u8]) -> Result<Vec<String>, wire::Error> {
    let mut mechanisms = Vec::new();
    loop {
        let (mechanism, rest) = split_text(offered).ok_or(MALFORMED)?;
        if mechanism.is_empty() {
            return if rest.is_empty() { Ok(mechanisms) } else { Err(MALFORMED) };
        }
        mechanisms.push(mechanism.escape_ascii().to_string());
        offered = rest;
    }
}

/// The best that both sides can do.
fn binding(channel: &Channel, offered: &[String]) -> Result<Binding, Error> {
    let is_offered = |mechanism| offered.iter().any(|offered| offered == mechanism);
    match channel {
        Channel::Tls(Some(hash)) if is_offered(SCRAM_SHA_256_PLUS) => Ok(Binding::EndPoint(hash.clone())),
        Channel::Tls(Some(_)) if is_offered(SCRAM_SHA_256) => Ok(Binding::Unoffered),
        // What is offered beyond it may come from TLS that somebody ends in between, in a mesh for instance.
        _ if is_offered(SCRAM_SHA_256) => Ok(Binding::Unable),
        _ if is_offered(SCRAM_SHA_256_PLUS) => Err(unsupported(
            "the database offers SCRAM-SHA-256-PLUS only, for which the gateway sees no TLS to bind it to",
        )),
        _ => {
            let names: String = offered.join(", ").chars().take(200).collect();
            Err(unsupported(format!("the database offers {names} only, of which the gateway can do none")))
        }
    }
}

fn method(code: u32) -> String {
    match code {
        1 => "Kerberos 4",
        2 => "Kerberos 5",
        4 => "a password by crypt",
        6 => "SCM credentials",
        7 => "GSSAPI (gss)",
        9 => "SSPI (sspi)",
        code => return format!("authentication of kind {code}"),
    }
    .into()
}

fn unsupported(why: impl Into<String>) -> Error {
    Error::Unsupported(why.into())
}

impl From<scram::Error> for Error {
    fn from(error: scram::Error) -> Self {
        Error::Unsupported(error.to_string())
    }
}
