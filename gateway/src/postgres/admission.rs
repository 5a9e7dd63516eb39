//! Asks a peer to prove a password, that of a Secret, by SCRAM-SHA-256; bound to our certificate where the peer can.
//!
//! Whoever has no account is asked like everybody else, and refused in the words and in the time of a wrong password.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::BufMut;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::scram::server::{Salts, Server, Verifier, initial};
use super::scram::{self, MAX_MESSAGE};
use super::wire::{self, ErrorResponse, HEADER, message, tag, text};
use crate::clock::timeout;
use crate::random::secret;
use crate::secrets::Login;

/// What the peers of one proxy are asked with. A password is hashed once for each content of its Secret, not for each
/// login; of the content before nothing is kept.
#[derive(Default)]
pub(crate) struct Doorkeeper {
    salts: OnceCell<Salts>,
    kept: RefCell<Option<Kept>>,
}

/// What was made of a Secret last, and a mark of its content.
struct Kept {
    mark: [u8; 32],
    verifier: Rc<Verifier>,
}

/// A peer that says who it is.
pub(crate) struct Claim<'a> {
    /// The user's name.
    pub(crate) user: &'a str,
    /// What the exchange can be bound to: our certificate's hash, over TLS.
    pub(crate) end_point: Option<&'a [u8]>,
}

/// Why a peer is not let in.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// It left, as programs do that ask their user for the password first.
    #[error("it left before it proved a password")]
    Left,
    /// It took too long.
    #[error("it did not prove a password within {0:?}")]
    Slow(Duration),
    /// It says something else.
    #[error("a SASL message was expected: {0}")]
    Message(#[from] wire::Error),
    /// It does not know the password, or has no account: nobody is told which.
    #[error("password authentication failed for user {0:?}")]
    Password(String),
    /// The exchange went wrong.
    #[error("{0}")]
    Scram(scram::Error),
    /// We cannot ask.
    #[error("the system has no randomness: {0}")]
    Randomness(io::Error),
}

/// How long a peer may take, as PostgreSQL's `authentication_timeout`.
const LIMIT: Duration = Duration::from_mins(1);

/// `AuthenticationSASL`, `AuthenticationSASLContinue` and `AuthenticationSASLFinal`.
const ASK: u32 = 10;
const CONTINUE: u32 = 11;
const FINAL: u32 = 12;

// === impl Doorkeeper ===

impl Doorkeeper {
    /// Asks a peer, after `said`, which has not been sent yet, and hears whether it knows name and password of `login`.
    ///
    /// # Errors
    /// It does not, or it does not say so as it should.
    pub(crate) async fn ask<S>(
        &self,
        peer: &mut S,
        claim: Claim<'_>,
        login: &Login,
        said: &mut Vec<u8>,
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let verifier = self.verifier(claim.user, login)?;
        let server = Server { verifier: &verifier, end_point: claim.end_point };
        let nonce = scram::nonce(secret().map_err(Error::Randomness)?);
        let proved = timeout(LIMIT, exchange(peer, server, &nonce, said)).await;
        match proved.unwrap_or(Err(Error::Slow(LIMIT))) {
            Err(Error::Scram(scram::Error::Password)) => Err(Error::Password(claim.user.to_owned())),
            proved => proved,
        }
    }

    /// Forgets what it knows of a Secret.
    pub(crate) fn forget(&self) {
        self.kept.take();
    }

    /// What proves the password of `user`. That of the Secret is made for whoever asks first, so that time does not tell
    /// its user from others.
    fn verifier(&self, user: &str, login: &Login) -> Result<Rc<Verifier>, Error> {
        let salts = self.salts()?;
        let mark = salts.mark(&login.username, &login.password);
        let known = self.kept.borrow().as_ref().filter(|kept| kept.mark == mark).map(|kept| kept.verifier.clone());
        let known = known.unwrap_or_else(|| {
            let verifier = Rc::new(Verifier::new(&login.password, salts.of(&login.username)));
            self.kept.replace(Some(Kept { mark, verifier: verifier.clone() }));
            verifier
        });
        let nobody = Rc::new(Verifier::of_nobody(salts.of(user)));
        Ok(if *user == *login.username { known } else { nobody })
    }

    fn salts(&self) -> Result<&Salts, Error> {
        if let Some(salts) = self.salts.get() {
            return Ok(salts);
        }
        let fresh = Salts::new(secret().map_err(Error::Randomness)?);
        Ok(self.salts.get_or_init(|| fresh))
    }
}

/// A whole exchange, up to our proof that we know the password, too.
async fn exchange<S>(peer: &mut S, server: Server<'_>, nonce: &str, said: &mut Vec<u8>) -> Result<(), Error>
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
    let asked = hear(peer).await?;
    let (mechanism, first) = initial(&asked)?;
    let first = if let Some(first) = first {
        first.to_vec()
    } else {
        authentication(said, CONTINUE, "");
        say(peer, said).await?;
        hear(peer).await?
    };
    let (waiting, challenge) = server.challenge(mechanism, &first, nonce)?;
    authentication(said, CONTINUE, &challenge);
    say(peer, said).await?;
    let proof = server.verify(waiting, &hear(peer).await?)?;
    // It leaves together with what follows.
    authentication(said, FINAL, &proof);
    Ok(())
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

/// The body of the peer's next message; nothing behind it is read.
async fn hear<S: AsyncRead + Unpin>(peer: &mut S) -> Result<Vec<u8>, Error> {
    let mut header = [0; HEADER];
    peer.read_exact(&mut header).await.map_err(|_| Error::Left)?;
    let [tag, length @ ..] = header;
    if tag != tag::PASSWORD {
        return Err(wire::Error::Type(tag).into());
    }
    let length = i32::from_be_bytes(length);
    let size = usize::try_from(length).ok().and_then(|size| size.checked_sub(4)).filter(|size| *size <= MAX_MESSAGE);
    let mut body = vec![0; size.ok_or(wire::Error::Length { tag, length })?];
    peer.read_exact(&mut body).await.map_err(|_| Error::Left)?;
    Ok(body)
}

// === impl Error ===

impl Error {
    /// The refusal as a metric's label.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Error::Left => "peer_gave_up",
            Error::Slow(_) => "login_timeout",
            Error::Message(_) => "protocol",
            Error::Password(_) | Error::Scram(_) => "password",
            Error::Randomness(_) => "secret",
        }
    }

    /// What the peer is told.
    pub(crate) fn response(&self) -> ErrorResponse {
        let response = |code| ErrorResponse::fatal(code, self.to_string());
        match self {
            Error::Password(_) => response(scram::Error::Password.code())
                .hint("User name and password are those of the Secret of server.auth."),
            Error::Scram(error @ (scram::Error::Binding | scram::Error::Downgrade)) => response(error.code()).hint(
                "Something between the client and the gateway ends TLS: connect with channel_binding=disable if it may.",
            ),
            Error::Scram(error) => response(error.code()),
            Error::Left | Error::Slow(_) => response("28000"),
            Error::Message(_) => response("08P01"),
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
