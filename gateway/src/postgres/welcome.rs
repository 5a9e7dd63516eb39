//! Hears what a peer wants: encrypts where it asks for it and may, and reads its startup packet or CancelRequest.

use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::startup::{self, MAX_STARTUP, Request, StartupMessage, TLS_HANDSHAKE};
use super::wire::{CancelKey, ErrorResponse};
use crate::clock::timeout;
use crate::config::PeerTls;
use crate::net::Stream;
use crate::secrets::Secrets;
use crate::tls::{self, TlsToPeers};

/// A peer that has said what it wants.
pub(crate) struct Guest {
    /// Its connection, encrypted by now or not.
    pub(crate) stream: Stream,
    /// What it wants.
    pub(crate) wish: Wish,
}

/// What a peer wants.
pub(crate) enum Wish {
    /// To begin a session; with what it has said behind the startup packet.
    Session(StartupMessage, Vec<u8>),
    /// To end the query of whoever has this key.
    Cancel(CancelKey),
}

/// What peers may be offered.
#[derive(Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) config: Option<&'a PeerTls>,
    pub(crate) tls: &'a TlsToPeers,
    pub(crate) secrets: &'a Secrets,
}

/// Why a peer is not welcome. Where it could understand it, its stream is left to say so.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// It left, or its connection failed.
    #[error("it left before it said what it wants")]
    Left,
    /// It took too long.
    #[error("it did not say what it wants within {0:?}")]
    Slow(Duration),
    /// It speaks another protocol, or not this one well.
    #[error(transparent)]
    Startup(#[from] startup::Error),
    /// It sent more before it could know whether the connection is encrypted: somebody may have put that in.
    #[error("it sent bytes behind its request for encryption, before that was answered")]
    Injected,
    /// The handshake failed.
    #[error("cannot encrypt: {0}")]
    Tls(#[from] tls::Error),
    /// It has to encrypt, and does not.
    #[error("it does not encrypt, and server.tls.mode is require")]
    Unencrypted,
}

/// How long a peer may take, as PostgreSQL's `authentication_timeout`.
const LIMIT: Duration = Duration::from_mins(1);
/// Requests for encryption of one peer: TLS and Kerberos, one after the other.
const MOST_REQUESTS: usize = 2;

/// Hears what the peer wants.
///
/// # Errors
/// It is not welcome; with its stream, where it can be told why.
pub(crate) async fn welcome(peer: Stream, offer: Offer<'_>) -> Result<Guest, (Option<Stream>, Error)> {
    match timeout(LIMIT, hear(peer, offer)).await {
        Ok(heard) => heard,
        Err(_) => Err((None, Error::Slow(LIMIT))),
    }
}

async fn hear(mut peer: Stream, offer: Offer<'_>) -> Result<Guest, (Option<Stream>, Error)> {
    let mut said = Vec::new();
    let mut requests = 0;
    loop {
        if let Err(error) = more(&mut peer, &mut said).await {
            return Err((None, error));
        }
        if said[0] == TLS_HANDSHAKE && requests == 0 && offer.config.is_some() && !peer.is_tls() {
            peer = encrypt(peer, &said, (offer, true)).await?;
            said.clear();
            continue;
        }
        let (request, length) = match Request::read(&said) {
            Ok(Some(read)) => read,
            Ok(None) => continue,
            Err(error) => return Err((Some(peer), error.into())),
        };
        match request {
            Request::Tls | Request::Gss if requests >= MOST_REQUESTS || peer.is_tls() => {
                return Err((Some(peer), startup::Error::Body.into()));
            }
            Request::Tls | Request::Gss if said.len() > length => return Err((None, Error::Injected)),
            Request::Tls if offer.config.is_some() && matches!(peer, Stream::Tcp(_)) => {
                requests += 1;
                answer(&mut peer, b"S").await?;
                peer = encrypt(peer, &[], (offer, false)).await?;
            }
            Request::Tls | Request::Gss => {
                requests += 1;
                answer(&mut peer, b"N").await?;
            }
            Request::Cancel(key) => return Ok(Guest { stream: peer, wish: Wish::Cancel(key) }),
            Request::Startup(startup) => {
                let is_plain = matches!(peer, Stream::Tcp(_));
                if is_plain && offer.config.is_some_and(|tls| tls.is_required) {
                    return Err((Some(peer), Error::Unencrypted));
                }
                let early = said.split_off(length);
                return Ok(Guest { stream: peer, wish: Wish::Session(startup, early) });
            }
        }
        said.clear();
    }
}

async fn more(peer: &mut Stream, said: &mut Vec<u8>) -> Result<(), Error> {
    let mut bytes = [0; 1024];
    let room = bytes.len().min(MAX_STARTUP + 1 - said.len().min(MAX_STARTUP));
    match peer.read(&mut bytes[..room]).await {
        Ok(0) | Err(_) => Err(Error::Left),
        Ok(read) => {
            said.extend_from_slice(&bytes[..read]);
            Ok(())
        }
    }
}

async fn answer(peer: &mut Stream, byte: &[u8; 1]) -> Result<(), (Option<Stream>, Error)> {
    peer.write_all(byte).await.map_err(|_| (None, Error::Left))
}

async fn encrypt(
    peer: Stream,
    said: &[u8],
    (offer, is_direct): (Offer<'_>, bool),
) -> Result<Stream, (Option<Stream>, Error)> {
    let (Stream::Tcp(tcp), Some(config)) = (peer, offer.config) else { return Err((None, Error::Left)) };
    offer.tls.accept(tcp, said, (config, offer.secrets), is_direct).await.map_err(|error| (None, error.into()))
}

// === impl Error ===

impl Error {
    /// The refusal as a metric's label.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Error::Left => "peer_gave_up",
            Error::Slow(_) => "startup_timeout",
            Error::Startup(_) | Error::Injected => "protocol",
            Error::Tls(_) => "tls",
            Error::Unencrypted => "unencrypted",
        }
    }

    /// What the peer is told.
    pub(crate) fn response(&self) -> ErrorResponse {
        match self {
            Error::Unencrypted => ErrorResponse::fatal("28000", "the gateway accepts encrypted connections only")
                .hint("Connect with sslmode=require, or set server.tls.mode to allow."),
            Error::Startup(error @ startup::Error::Version(_)) => ErrorResponse::fatal("0A000", error.to_string()),
            other => ErrorResponse::fatal("08P01", other.to_string()),
        }
    }
}
