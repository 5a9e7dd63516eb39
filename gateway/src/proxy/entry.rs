//! Whom a proxy lets in that logs in to the database itself: a peer is believed, or proves a password, before it costs a
//! client or a place in the queue for one.

use std::sync::Arc;

use super::Proxy;
use super::ended::Ended;
use super::turned_away::{Refused, unwelcome, with_words};
use crate::config::{PeerAuth, ProxyConfig};
use crate::net::{Endpoint, Stream};
use crate::postgres::admission::{Claim, Error};
use crate::postgres::startup::StartupMessage;
use crate::postgres::wire::ErrorResponse;

// === impl Proxy ===

impl Proxy {
    /// Lets the peer in, or tells why not; `early` is what it says without waiting for that, `said` what it has to hear
    /// first, and what of it has not been sent yet. The user that the gateway logs in as.
    pub(super) async fn enter(
        &self,
        (peer, early): (&mut Stream, &mut Vec<u8>),
        startup: &StartupMessage,
        config: &ProxyConfig,
        said: &mut Vec<u8>,
    ) -> Result<Arc<str>, Refused> {
        let entered = self.authenticate((peer, early), startup, config, said).await;
        entered.inspect_err(|(ended, _)| {
            // A peer that leaves has not failed: its user may be asked for the password just now.
            if matches!(ended, Ended::Unwelcome(..)) {
                self.sessions.metrics.postgres.auth_failures.inc();
            }
        })
    }

    async fn authenticate(
        &self,
        (peer, early): (&mut Stream, &mut Vec<u8>),
        startup: &StartupMessage,
        config: &ProxyConfig,
        said: &mut Vec<u8>,
    ) -> Result<Arc<str>, Refused> {
        let proved = match &config.server.auth {
            PeerAuth::Scram(secret) => {
                Some((secret, self.ask_for_password((peer, early), startup, secret, said).await?))
            }
            PeerAuth::Trust => None,
        };
        let Some(auth) = &config.client.auth else { return Ok(startup.user().into()) };
        let user = match proved {
            Some((secret, user)) if *secret == auth.secret => user,
            _ => self.sessions.surroundings.secrets.username(&auth.secret).map_err(|error| {
                let response = ErrorResponse::fatal("28000", format!("the gateway cannot log in: {error}"));
                unwelcome("secret", response)
            })?,
        };
        if startup.is_replication() {
            let response = ErrorResponse::fatal("0A000", "the gateway serves no replication where it logs in itself")
                .hint("Connect to the database itself, or through a proxy without client.auth.");
            return Err(unwelcome("replication", response));
        }
        if config.server.auth == PeerAuth::Trust {
            believe(peer, startup, &user)?;
        }
        Ok(user)
    }

    /// Has the peer prove the password of the Secret; the Secret's user.
    async fn ask_for_password(
        &self,
        (peer, early): (&mut Stream, &mut Vec<u8>),
        startup: &StartupMessage,
        secret: &str,
        said: &mut Vec<u8>,
    ) -> Result<Arc<str>, Refused> {
        let admitted = async {
            let account = self.doorkeeper.account(&self.sessions.surroundings.secrets, secret)?;
            let end_point = peer.channel_binding();
            let claim = Claim { user: startup.user(), end_point: end_point.as_deref() };
            if !early.is_empty() {
                return Err(Error::Early);
            }
            *early = self.doorkeeper.ask(peer, claim, &account, said).await?;
            Ok(account.username.clone())
        };
        let admitted = tokio::select! {
            biased;
            admitted = admitted => admitted,
            () = self.sessions.surroundings.drain.over() => return Err(with_words(Ended::Cut)),
        };
        admitted.map_err(|error: Error| match error {
            Error::Left => (Ended::GaveUp, None),
            error => (Ended::Unwelcome(error.reason(), error.to_string()), Some(Box::new(error.response()))),
        })
    }
}

/// Takes the peer's word for who it is, which only those can give who are beside us.
fn believe(peer: &Stream, startup: &StartupMessage, user: &str) -> Result<(), Refused> {
    if startup.user() != user {
        let sentence = format!("user {:?} is not the one that this proxy logs in as", startup.user());
        let response = ErrorResponse::fatal("28000", sentence)
            .hint("Connect with the user name of the Secret of client.auth, or to a proxy without client.auth.");
        return Err(unwelcome("user", response));
    }
    if !is_beside_us(peer) {
        let response = ErrorResponse::fatal("28000", "peers on other hosts are not believed who they are")
            .hint("server.auth.mode trust is for peers on loopback and Unix sockets; scram asks for a password.");
        return Err(unwelcome("not_local", response));
    }
    Ok(())
}

/// Whether the peer is on this host, or in this pod.
pub(super) fn is_beside_us(peer: &Stream) -> bool {
    match peer.remote() {
        Endpoint::Ip(addr) => addr.ip().to_canonical().is_loopback(),
        Endpoint::Path(_) | Endpoint::Unnamed => true,
    }
}
