//! Asks a peer to prove a password, that of a Secret, by SCRAM-SHA-256; bound to our certificate where the peer can.
//!
//! Whoever has no account is asked like everybody else, and refused in the words and in the time of a wrong password.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::scram::server::{Salts, Server, Verifier, initial};
use super::scram::{self, MAX_MESSAGE};
use super::wire::{self, ErrorResponse, HEADER, message, tag, text};
use crate::clock::timeout;
use crate::random::secret;
use crate::secrets::{self, Login, Secrets, Stamp};

/// What the peers of one proxy are asked with. A password is hashed once for each content of its Secret, not for each
/// login; of the content before nothing is kept.
#[derive(Default)]
pub struct Doorkeeper {
    salts: OnceCell<Salts>,
    kept: RefCell<Option<Kept>>,
}

/// What was made of a Secret last, and what tells whether that is its content still: a look at its files, or at what is in
/// them.
struct Kept {
    stamp: Option<Stamp>,
    mark: [u8; 32],
    account: Rc<Account>,
}

/// Whom a proxy lets in.
pub struct Account {
    /// The user of the Secret.
    pub username: Arc<str>,
    verifier: Verifier,
}

/// A peer that says who it is.
pub struct Claim<'a> {
    /// The user's name.
    pub user: &'a str,
    /// What the exchange can be bound to: our certificate's hash, over TLS.
    pub end_point: Option<&'a [u8]>,
}

/// Why a peer is not let in.
#[derive(Debug, Error)]
pub enum Error {
    /// It left, as programs do that ask their user for the password first.
    #[error("it left before it proved a password")]
    Left,
    /// It took too long.
    #[error("it did not prove a password within {0:?}")]
    Slow(Duration),
    /// It says something else.
    #[error("a SASL message was expected: {0}")]
    Message(#[from] wire::Error),
    /// It says more than it was asked.
    #[error("it spoke before it was asked")]
    Early,
    /// It does not know the password, or has no account: nobody is told which.
    #[error("password authentication failed for user {0:?}")]
    Password(String),
    /// The exchange went wrong.
    #[error("{0}")]
    Scram(scram::Error),
    /// Nobody can tell whether a password is right.
    #[error("cannot ask for a password: {0}")]
    Secret(#[from] secrets::Error),
    /// We cannot ask.
    #[error("the system has no randomness: {0}")]
    Randomness(io::Error),
}

/// How long a peer may take, as PostgreSQL's `authentication_timeout`.
const LIMIT: Duration = Duration::from_mins(1);

/// A message of a login has room in this, as a rule.
const ROOM: usize = 512;

/// `AuthenticationSASL`, `AuthenticationSASLContinue` and `AuthenticationSASLFinal`.
const ASK: u32 = 10;
const CONTINUE: u32 = 11;
const FINAL: u32 = 12;

// === impl Doorkeeper ===

impl Doorkeeper {
    /// Whom the Secret lets in now: read anew only where it may have changed.
    ///
    /// # Errors
    /// The Secret cannot be read.
    pub fn account(&self, secrets: &Secrets, secret: &str) -> Result<Rc<Account>, Error> {
        let stamp = secrets.stamp(secret);
        let is_current = |kept: &&Kept| stamp.is_some() && kept.stamp == stamp;
        if let Some(kept) = self.kept.borrow().as_ref().filter(is_current) {
            return Ok(kept.account.clone());
        }
        match secrets.login(secret) {
            // Where it changed meanwhile nobody knows which of the two was read.
            Ok(login) => self.account_of(&login, stamp.filter(|stamp| secrets.stamp(secret).as_ref() == Some(stamp))),
            Err(error) => {
                self.kept.take();
                Err(error.into())
            }
        }
    }

    fn account_of(&self, login: &Login, stamp: Option<Stamp>) -> Result<Rc<Account>, Error> {
        let salts = self.salts()?;
        let mark = salts.mark(&login.username, &login.password);
        let known = self.kept.borrow().as_ref().filter(|kept| kept.mark == mark).map(|kept| kept.account.clone());
        let account = known.unwrap_or_else(|| {
            let verifier = Verifier::new(&login.password, salts.of(&login.username));
            Rc::new(Account { username: login.username.clone(), verifier })
        });
        self.kept.replace(Some(Kept { stamp, mark, account: account.clone() }));
        Ok(account)
    }

    /// Asks a peer, after `said`, which has not been sent yet, and hears whether it has this account; what it says behind its
    /// proof, without waiting for ours.
    ///
    /// # Errors
    /// It has not, or it does not say so as it should.
    pub async fn ask<S>(
        &self,
        peer: &mut S,
        claim: Claim<'_>,
        account: &Account,
        said: &mut Vec<u8>,
    ) -> Result<Vec<u8>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // That of the account is there before anybody is asked, so that time does not tell its user from others.
        let nobody = Verifier::of_nobody(self.salts()?.of(claim.user));
        let verifier = if *claim.user == *account.username { &account.verifier } else { &nobody };
        let server = Server { verifier, end_point: claim.end_point };
        let nonce = scram::nonce(secret().map_err(Error::Randomness)?);
        let proved = timeout(LIMIT, exchange(peer, server, &nonce, said)).await;
        match proved.unwrap_or(Err(Error::Slow(LIMIT))) {
            Err(Error::Scram(scram::Error::Password)) => Err(Error::Password(claim.user.to_owned())),
            proved => proved,
        }
    }

    /// Forgets what it knows of a Secret.
    pub fn forget(&self) {
        self.kept.take();
    }

    fn salts(&self) -> Result<&Salts, Error> {
        if let Some(salts) = self.salts.get() {
            return Ok(salts);
        }
        let fresh = Salts::new(secret().map_err(Error::Randomness)?);
        Ok(self.salts.get_or_init(|| fresh))
    }
}

/// A whole exchange, up to our proof that we know the password, too; what the peer says behind its own.
async fn exchange<S>(peer: &mut S, server: Server<'_>, nonce: &str, said: &mut Vec<u8>) -> Result<Vec<u8>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    message(said, tag::AUTHENTICATION, |out| {
        out.put_u32(ASK);
        for mechanism in server.mechanisms() {
            text(out, mechanism);
        }
        out.put_u8(0);
    });
    say(peer, said).await?;
    let asked = hear_alone(peer).await?;
    let (mechanism, first) = initial(&asked)?;
    let first = if let Some(first) = first {
        first.to_vec()
    } else {
        authentication(said, CONTINUE, "");
        say(peer, said).await?;
        hear_alone(peer).await?
    };
    let (waiting, challenge) = server.challenge(mechanism, &first, nonce)?;
    authentication(said, CONTINUE, &challenge);
    say(peer, said).await?;
    let (last, early) = hear(peer).await?;
    let proof = server.verify(waiting, &last)?;
    // It leaves together with what follows.
    authentication(said, FINAL, &proof);
    Ok(early)
}

fn authentication(out: &mut Vec<u8>, kind: u32, data: &str) {
    message(out, tag::AUTHENTICATION, |out| {
        out.put_u32(kind);
        out.extend_from_slice(data.as_bytes());
    });
}

async fn say<S: AsyncWrite + Unpin>(peer: &mut S, said: &mut Vec<u8>) -> Result<(), Error> {
    peer.write_all(said).await.map_err(|_| Error::Left)?;
    peer.flush().await.map_err(|_| Error::Left)?;
    said.clear();
    Ok(())
}

/// The body of the peer's next message, behind which it can say nothing before it is answered.
async fn hear_alone<S: AsyncRead + Unpin>(peer: &mut S) -> Result<Vec<u8>, Error> {
    let (body, early) = hear(peer).await?;
    if early.is_empty() { Ok(body) } else { Err(Error::Early) }
}

/// The body of the peer's next message, and what came with it.
async fn hear<S: AsyncRead + Unpin>(peer: &mut S) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let mut heard = Vec::with_capacity(ROOM);
    loop {
        if peer.read_buf(&mut heard).await.unwrap_or(0) == 0 {
            return Err(Error::Left);
        }
        let Some(([tag, length @ ..], body)) = heard.split_first_chunk::<HEADER>() else { continue };
        if *tag != tag::PASSWORD {
            return Err(wire::Error::Type(*tag).into());
        }
        let length = i32::from_be_bytes(*length);
        let size =
            usize::try_from(length).ok().and_then(|size| size.checked_sub(4)).filter(|size| *size <= MAX_MESSAGE);
        let size = size.ok_or(wire::Error::Length { tag: *tag, length })?;
        if body.len() >= size {
            let early = heard.split_off(HEADER + size);
            return Ok((heard.split_off(HEADER), early));
        }
    }
}

// === impl Error ===

impl Error {
    /// The refusal as a metric's label.
    pub fn reason(&self) -> &'static str {
        match self {
            Error::Left => "peer_gave_up",
            Error::Slow(_) => "login_timeout",
            Error::Message(_) | Error::Early => "protocol",
            Error::Password(_) | Error::Scram(_) => "password",
            Error::Secret(_) | Error::Randomness(_) => "secret",
        }
    }

    /// What the peer is told.
    pub fn response(&self) -> ErrorResponse {
        let response = |code| ErrorResponse::fatal(code, self.to_string());
        match self {
            Error::Password(_) => response(scram::Error::Password.code())
                .hint("User name and password are those of the Secret of server.auth."),
            Error::Scram(error @ (scram::Error::Binding | scram::Error::Downgrade)) => response(error.code()).hint(
                "Something between the client and the gateway ends TLS: connect with channel_binding=disable if it may.",
            ),
            Error::Scram(error) => response(error.code()),
            Error::Left | Error::Slow(_) => response("28000"),
            Error::Message(_) | Error::Early => response("08P01"),
            // Where the Secrets are is nobody's business who has proved nothing.
            Error::Secret(_) => {
                ErrorResponse::fatal("28000", "the gateway cannot tell whether a password is right")
                    .hint("Its log says why.")
            }
            Error::Randomness(_) => response("58000"),
        }
    }
}

impl From<scram::Error> for Error {
    fn from(error: scram::Error) -> Self {
        Error::Scram(error)
    }
}

#[cfg(test)]
mod tests;
