//! A peer for whose proxy the gateway itself logs in: it is believed or asked for a password, told the settings of its
//! session, and then converses with whatever client it is lent.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::conversation::Conversation;
use super::ended::Ended;
use super::hooked::Chain;
use super::turned_away::{self, Refused, unwelcome};
use super::{Proxy, watch};
use crate::clock::timeout;
use crate::config::ProxyConfig;
use crate::hooks::Moment;
use crate::net::Stream;
use crate::pool::{Lease, Route};
use crate::postgres::cancel::Registration;
use crate::postgres::effects::{FOLLOWING, REPORTED_OF_LATE};
use crate::postgres::exchange::{Exchange, Wishes};
use crate::postgres::startup::StartupMessage;
use crate::postgres::wire::{CancelKey, ErrorResponse, Parameters, Version, message, tag, text};

/// A session that can begin, and what its peer has said already.
type Begun = (Lease, Exchange, Registration, Vec<u8>);

/// Why a client does not have the settings of a session.
enum Unsettled {
    /// The database closed it, or does not answer.
    Lost,
    /// The database does not take them.
    Refused(String),
}

/// So many clients may be lost to one peer while it logs in; more are no coincidence.
const MOST_LOST: usize = 5;
/// How long the database may take to set the settings of a session.
const SETTINGS: Duration = Duration::from_secs(10);
/// What of a startup packet is no setting.
const NO_SETTINGS: [&str; 3] = ["user", "database", "replication"];

// === impl Proxy ===

impl Proxy {
    /// From the startup packet to the end; `early` is what the peer has said behind it.
    pub(super) async fn managed(
        self: &Rc<Self>,
        chain: &Chain,
        peer: &mut Stream,
        startup: &StartupMessage,
        early: Vec<u8>,
    ) -> Ended {
        let (lease, exchange, registration, early) = match Box::pin(self.begin(chain, peer, startup, early)).await {
            Ok(begun) => begun,
            Err((ended, response)) => {
                if let Ended::Unwelcome(reason, _) = &ended {
                    self.sessions.metrics.session.refused(reason);
                }
                if let Some(response) = response {
                    turned_away::tell(peer, &response).await;
                }
                return ended;
            }
        };
        let mut conversation = Conversation::new(self, (chain, peer), (exchange, registration), lease, early);
        if !chain.notify(Moment::Opened).await {
            return Ended::Hook;
        }
        let ended = conversation.run(&self.sessions.surroundings.drain).await;
        drop(conversation);
        chain.notify(Moment::Closing).await;
        ended
    }

    /// Lets the peer in, and tells it the settings of its session, which need a client to be known.
    async fn begin(
        &self,
        chain: &Chain,
        peer: &mut Stream,
        startup: &StartupMessage,
        mut early: Vec<u8>,
    ) -> Result<Begun, Refused> {
        let config = self.config.borrow().clone();
        let mut greeting = Vec::new();
        negotiate(startup, &mut greeting);
        let user = self.enter((&mut *peer, &mut early), startup, &config, &mut greeting).await?;
        let route = route_of(startup, &config, &user);
        let (lease, parameters) = self.client_of(chain, (&mut *peer, &mut early), (&route, startup)).await?;
        let version = startup.version.min(Version::V3_2);
        let registration = self.sessions.surroundings.cancels.register(version >= Version::V3_2);
        greet(&parameters, registration.key(), &mut greeting);
        peer.write_all(&greeting).await.map_err(|error| (Ended::PeerFailed(error), None))?;
        peer.flush().await.map_err(|error| (Ended::PeerFailed(error), None))?;
        let asked_for = FOLLOWING.into_iter().filter(|name| startup.get_any_case(name).is_some());
        let wishes = Wishes::new(asked_for, &parameters);
        let exchange = Exchange::new(config.pool.mode, self.statements.clone(), parameters)
            .wishing(wishes)
            .known_as(registration.key().process);
        Ok((lease, exchange, registration, early))
    }

    /// Waits for a client with the peer's settings, and watches the peer meanwhile, which need not wait with its first words.
    async fn client_of(
        &self,
        chain: &Chain,
        (peer, early): (&mut Stream, &mut Vec<u8>),
        (route, startup): (&Route, &StartupMessage),
    ) -> Result<(Lease, Parameters), Refused> {
        let most = self.config.borrow().client.receive_chunk_size.get();
        tokio::select! {
            biased;
            got = self.settled_client(chain, route, startup) => got,
            ended = watch(peer, early, most) => Err((ended, None)),
            () = chain.presence.killed() => Err(turned_away::with_words(Ended::Killed)),
            () = self.sessions.surroundings.drain.over() => Err(turned_away::with_words(Ended::Cut)),
        }
    }

    /// A client with the settings that the peer asks for. One that the database closes meanwhile has got nothing of the
    /// peer's, so another takes its place.
    async fn settled_client(
        &self,
        chain: &Chain,
        route: &Route,
        startup: &StartupMessage,
    ) -> Result<(Lease, Parameters), Refused> {
        let mut got = self.admitted_client(chain, route).await;
        for _ in 0..MOST_LOST {
            let mut lease = got.map_err(turned_away::with_words)?;
            match self.settle(&mut lease, startup).await {
                Ok(parameters) => return Ok((lease, parameters)),
                Err(Unsettled::Lost) => lease.closed_by_the_database(),
                Err(Unsettled::Refused(sentence)) => {
                    return Err(unwelcome("settings", ErrorResponse::fatal("22023", sentence)));
                }
            }
            drop(lease);
            got = self.client(chain, route).await;
        }
        let sentence = "the database did not set the settings of the session";
        Err(unwelcome("settings", ErrorResponse::fatal("08006", sentence)))
    }

    /// Gives the client the settings that the peer asks for; what they are then, as the database writes them.
    async fn settle(&self, lease: &mut Lease, startup: &StartupMessage) -> Result<Parameters, Unsettled> {
        let Some(backend) = &mut lease.client().backend else { return Err(Unsettled::Lost) };
        let mut wanted = backend.memory.parameters.clone();
        for (name, value) in &startup.parameters {
            if let Some(name) = FOLLOWING.iter().find(|known| known.eq_ignore_ascii_case(name))
                && wanted.get(name).is_some()
            {
                wanted.set(name, value);
            }
        }
        // What another peer has set is not this one's.
        for name in FOLLOWING.iter().filter(|name| startup.get_any_case(name).is_none()) {
            if let Some(initial) = backend.memory.initial.get(name) {
                wanted.set(name, initial);
            }
        }
        let mut exchange = Exchange::new(self.config.borrow().pool.mode, self.statements.clone(), wanted);
        timeout(SETTINGS, set(lease, &mut exchange)).await.unwrap_or(Err(Unsettled::Lost))
    }
}

/// Runs the query that gives a client the settings of `exchange`.
async fn set(lease: &mut Lease, exchange: &mut Exchange) -> Result<Parameters, Unsettled> {
    let client = lease.client();
    let Some(backend) = &mut client.backend else { return Err(Unsettled::Lost) };
    let mut out = Vec::new();
    exchange.begin(&mut backend.memory, &mut out);
    if !out.is_empty() {
        client.stream.write_all(&out).await?;
        client.stream.flush().await?;
    }
    let mut buffer = [0; 4096];
    while !exchange.is_between() {
        let read = client.stream.read(&mut buffer).await?;
        if read == 0 {
            return Err(Unsettled::Lost);
        }
        let mut onward = Vec::new();
        if let Err(error) = exchange.from_database(&buffer[..read], &mut backend.memory, &mut onward) {
            // Its last words are about the database, not about the settings.
            return Err(if exchange.is_over() { Unsettled::Lost } else { Unsettled::Refused(error.to_string()) });
        }
    }
    Ok(backend.memory.parameters.clone())
}

/// The database and the settings that only a startup packet can set. Where both are the configured ones, it is the route
/// of which clients are warm; `user` is who the gateway logs in as.
fn route_of(startup: &StartupMessage, config: &ProxyConfig, user: &str) -> Route {
    let always_following = FOLLOWING.iter().filter(|known| **known != REPORTED_OF_LATE);
    let is_following = |name: &str| always_following.clone().any(|known| known.eq_ignore_ascii_case(name));
    let is_setting = |name: &str| !NO_SETTINGS.contains(&name) && !name.starts_with("_pq_.") && !is_following(name);
    let parameters = startup.parameters.iter().filter(|(name, _)| is_setting(name));
    let parameters: Vec<_> = parameters.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
    let warm = config.client.auth.as_ref().and_then(|auth| auth.database.as_deref()).unwrap_or(user);
    if parameters.is_empty() && startup.database() == warm {
        return Route::default();
    }
    Route::new(startup.database().into(), parameters)
}

/// Says which protocol is spoken instead of the one that the peer asked for, where it is another.
pub(super) fn negotiate(startup: &StartupMessage, out: &mut Vec<u8>) {
    let unknown: Vec<&str> = startup.protocol_options().collect();
    if startup.version <= Version::V3_2 && unknown.is_empty() {
        return;
    }
    message(out, tag::NEGOTIATE_PROTOCOL_VERSION, |out| {
        out.put_u32(startup.version.min(Version::V3_2).0);
        out.put_u32(u32::try_from(unknown.len()).unwrap_or(u32::MAX));
        for option in unknown {
            text(out, option);
        }
    });
}

/// What a database says at the end of a login.
pub(super) fn greet(parameters: &Parameters, key: &CancelKey, out: &mut Vec<u8>) {
    message(out, tag::AUTHENTICATION, |out| out.put_u32(0));
    parameters.write(out);
    message(out, tag::BACKEND_KEY_DATA, |out| key.write(out));
    message(out, tag::READY_FOR_QUERY, |out| out.put_u8(b'I'));
}

impl From<io::Error> for Unsettled {
    fn from(_: io::Error) -> Unsettled {
        Unsettled::Lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, ClientAuth};

    #[test]
    fn warm_clients_are_for_peers_that_ask_for_nothing_special() {
        let manifest = "{apiVersion: postern.dev/v1alpha1, kind: GatewayConfig, metadata: {name: test}, spec: {proxies: [\
                        {name: db, server: {address: '127.0.0.1:0'}, client: {addresses: ['127.0.0.1:9']}}]}}";
        let config = config::load(manifest.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"));
        let mut config = ProxyConfig::clone(&config.proxies[0]);
        let mut route = |database: Option<&str>, parameters: &[(&str, &str)]| {
            config.client.auth = Some(ClientAuth { secret: "login".into(), database: database.map(Into::into) });
            let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let startup = StartupMessage { version: Version::V3_0, parameters: parameters.collect() };
            route_of(&startup, &config, "app")
        };
        let user = ("user", "app");
        assert_eq!(route(None, &[user]), Route::default());
        assert_eq!(route(None, &[user, ("database", "app"), ("application_name", "shop")]), Route::default());
        assert_eq!(route(Some("shop"), &[user, ("database", "shop")]), Route::default());
        assert_eq!(route(Some("shop"), &[user]), Route::new("app".into(), Vec::new()));
        let special = vec![("extra_float_digits".into(), "2".into())];
        assert_eq!(route(None, &[user, ("extra_float_digits", "2")]), Route::new("app".into(), special));
        let path = vec![("search_path".into(), "shop".into())];
        assert_eq!(route(None, &[user, ("search_path", "shop")]), Route::new("app".into(), path));
    }
}
