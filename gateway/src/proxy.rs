//! One server and one pool, and the rules between them: a proxy owns its sessions. A session is one peer's stay: it
//! opens, gets a client, relays until either side leaves, and its client is closed and replaced.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use tokio::io::AsyncReadExt;

use crate::client::{Client, Context};
use crate::clock::{Instant, sleep};
use crate::config::{PeerAuth, Protocol, ProxyConfig};
use crate::hooks::{Hooks, Moment};
use crate::metrics::ProxyMetrics;
use crate::net::{Endpoint, Stream};
use crate::pool::{Lease, Pool};
use crate::postgres::admission::Doorkeeper;
use crate::postgres::startup::{Request, StartupMessage};
use crate::postgres::statements::Statements;
use crate::postgres::welcome::{self, Guest, Offer, Wish};
use crate::postgres::wire::CancelKey;
use crate::random::Random;
use crate::route::Route;
use crate::server::Reception;
use crate::tls::TlsToPeers;
use crate::view::{ProxyView, SessionState};

pub(crate) mod session;
pub(crate) mod relay;
mod ended;
pub(crate) mod scanner;
pub(crate) mod datagrams;
mod turned_away;
mod passthrough;
mod entry;
mod console;
mod managed;
mod conversation;
mod hooked;
mod presence;
mod watchdog;

use ended::Ended;
use hooked::{Chain, Hooked};
use passthrough::Login;
use relay::{Direction, Flows, Relay};
use scanner::{Opaque, Scanner};
use session::{Sessions, Surroundings};
use turned_away::Hearing;
use watchdog::Watchdog;

/// One proxy of stream peers, in one worker.
pub struct Proxy {
    config: RefCell<Arc<ProxyConfig>>,
    pool: Pool,
    context: Context,
    sessions: Rc<Sessions>,
    /// Handshakes with peers.
    tls: TlsToPeers,
    /// Asks peers for a password.
    doorkeeper: Doorkeeper,
    /// What peers have prepared.
    statements: Statements,
    /// Peers that cannot stay and hear why.
    hearing: Hearing,
}

/// Room for the first read of a waiting peer: most begin with less.
const FIRST_BYTES: usize = 1024;
/// How often a waiting peer is looked at that has sent more than is read before it has a client.
const HANG_UP_INTERVAL: Duration = Duration::from_millis(500);
/// How long a peer that closed its half may wait for its client: it may yet read the answer, or be gone.
const HALF_CLOSED_GRACE: Duration = Duration::from_secs(1);

// === impl Proxy ===

impl Proxy {
    /// A proxy that begins to fill its pool.
    pub(crate) fn new(
        config: Arc<ProxyConfig>,
        hooks: Rc<Hooks>,
        metrics: Rc<ProxyMetrics>,
        surroundings: Surroundings,
    ) -> Rc<Proxy> {
        let context = Context::new(surroundings.secrets.clone(), surroundings.clients.clone());
        let pool = Pool::new(config.clone(), context.clone(), &metrics, Random::from_system());
        let sessions = Sessions::new(surroundings, metrics, hooks);
        Rc::new(Proxy {
            config: RefCell::new(config),
            pool,
            context,
            sessions,
            tls: TlsToPeers::default(),
            doorkeeper: Doorkeeper::default(),
            statements: Statements::default(),
            hearing: Hearing::default(),
        })
    }

    /// Takes a changed configuration over without touching a session.
    pub(crate) fn reconfigure(&self, config: Arc<ProxyConfig>, hooks: Rc<Hooks>) {
        self.sessions.set_hooks(hooks);
        self.pool.reconfigure(&config);
        if config.server.auth == PeerAuth::Trust {
            self.doorkeeper.forget();
        }
        self.config.replace(config);
    }

    /// Holds the clients back from now on.
    pub(crate) fn pause(&self) {
        self.pool.pause();
    }

    /// Returns when no client is lent, or the pause is over.
    pub(crate) async fn paused(&self) {
        self.pool.paused().await;
    }

    /// Lends clients again.
    pub(crate) fn resume(&self) {
        self.pool.resume();
    }

    /// Replaces the clients, as they become free.
    pub(crate) fn reconnect(&self) {
        self.pool.reconnect();
    }

    /// Ends the session of this number, or all; how many there were.
    pub(crate) fn kill(&self, number: Option<u64>) -> usize {
        self.sessions.kill(number)
    }

    /// Ends the proxy: whoever waits is refused, sessions go on until they end by themselves.
    pub(crate) fn close(&self) {
        self.pool.close();
    }

    /// How many sessions and clients there are.
    pub(crate) fn present(&self) -> (usize, usize) {
        (self.sessions.roll.len(), self.pool.open())
    }

    /// What is told of the proxy, with at most so many of its sessions and clients.
    pub(crate) fn view(&self, (sessions, clients): (usize, usize), now: Instant) -> ProxyView {
        ProxyView {
            sessions: self.sessions.roll.len(),
            session_list: self.sessions.list(sessions, now),
            pool: self.pool.view(now),
            client_list: self.pool.list(clients, now),
            database: self.pool.database(now),
            ..ProxyView::of(&self.config.borrow(), now, now)
        }
    }

    /// The seeds' lifecycle, steps 3 to 10.
    async fn serve(self: Rc<Self>, peer: Stream, remote: Endpoint) {
        let _open = self.sessions.metrics.session.open();
        let chain = self.sessions.chain(self.config.borrow().name.clone(), remote);
        let protocol = self.config.borrow().protocol;
        let ended = match protocol {
            // Each is boxed, as are the parts of the second, so that a session holds no memory but for what it is doing.
            Protocol::Opaque => Box::pin(self.opaque(&chain, peer)).await,
            Protocol::Postgres => Box::pin(self.postgres(&chain, peer)).await,
        };
        self.sessions.closed(&chain, &ended).await;
    }

    async fn opaque(&self, chain: &Rc<Chain>, mut peer: Stream) -> Ended {
        let ended = match self.client_for(chain, &mut peer, Vec::new()).await {
            Ok(client) => self.session(chain, &mut peer, client).await,
            Err(ended) => ended,
        };
        if ended.is_abrupt() || matches!(ended, Ended::Killed) {
            peer.reset_on_close();
        }
        ended
    }

    /// A peer that speaks PostgreSQL: what it wants, and then the session that it is given.
    async fn postgres(self: &Rc<Self>, chain: &Rc<Chain>, peer: Stream) -> Ended {
        let config = self.config.borrow().clone();
        let Guest { stream: mut peer, wish } = match Box::pin(self.welcome(peer, &config)).await {
            Ok(guest) => guest,
            Err((peer, error)) => return Box::pin(self.turn_away(peer, &error)).await,
        };
        if let Wish::Session(startup, _) = &wish {
            self.sessions.identify(chain, startup);
        }
        match wish {
            Wish::Cancel(key) => {
                Box::pin(self.cancel(key)).await;
                Ended::Peer
            }
            Wish::Session(startup, early) if Proxy::is_for_console(&startup, &config) => {
                Box::pin(self.console(chain, &mut peer, (&startup, early))).await
            }
            Wish::Session(startup, early) if config.is_managed() => {
                Box::pin(self.managed(chain, &mut peer, &startup, early)).await
            }
            Wish::Session(startup, early) => Box::pin(self.passthrough(chain, &mut peer, startup, &early)).await,
        }
    }

    /// Hears what a peer wants, encrypted where it asks for it and may.
    async fn welcome(&self, peer: Stream, config: &ProxyConfig) -> Result<Guest, (Option<Stream>, welcome::Error)> {
        let secrets = &self.sessions.surroundings.secrets;
        welcome::welcome(peer, Offer { config: config.server.tls.as_ref(), tls: &self.tls, secrets }).await
    }

    /// Passes a peer's own login on, on a client of its own, and what it has said behind the startup packet.
    async fn passthrough(&self, chain: &Rc<Chain>, peer: &mut Stream, startup: StartupMessage, early: &[u8]) -> Ended {
        let mut first = Vec::new();
        Request::Startup(startup).write(&mut first);
        first.extend_from_slice(early);
        let client = match self.client_for(chain, peer, first).await {
            Ok(client) => client,
            Err(ended) => {
                turned_away::tell_how(peer, &ended).await;
                return ended;
            }
        };
        let ended = self.session(chain, peer, client).await;
        if ended.is_abrupt() {
            peer.reset_on_close();
        }
        ended
    }

    /// Ends the query of whoever has `key`, without waiting for it.
    fn cancel_later(self: &Rc<Self>, key: CancelKey) {
        let proxy = self.clone();
        self.sessions.surroundings.tracker.spawn_local(async move { proxy.cancel(key).await });
    }

    /// Ends the query of whoever has `key`.
    async fn cancel(&self, key: CancelKey) {
        let outcome = self.sessions.surroundings.cancels.cancel(&key, &self.context).await;
        self.sessions.metrics.postgres.cancelled(outcome);
    }

    /// From the client to the end; it is closed, and its replacement dialed, on the way out. `early` is what the peer has
    /// said already.
    async fn session(&self, chain: &Rc<Chain>, peer: &mut Stream, (mut lease, early): (Lease, Vec<u8>)) -> Ended {
        if !chain.notify(Moment::Opened).await {
            return Ended::Hook;
        }
        let client = lease.client();
        let config = self.config.borrow().clone();
        let cancels = &self.sessions.surroundings.cancels;
        let ended = match (config.protocol, chain.hooks.is_empty()) {
            (Protocol::Opaque, true) => self.relay(Opaque, (chain, peer), client, &early).await,
            (Protocol::Opaque, false) => self.relay(Hooked::new(chain.clone()), (chain, peer), client, &early).await,
            (Protocol::Postgres, true) => {
                let login = Login::new(Opaque, cancels, (&*peer, &*client), &config);
                self.relay(login, (chain, peer), client, &early).await
            }
            (Protocol::Postgres, false) => {
                let login = Login::new(Hooked::new(chain.clone()), cancels, (&*peer, &*client), &config);
                self.relay(login, (chain, peer), client, &early).await
            }
        };
        match &ended {
            Ended::DatabaseFailed(error) => lease.failed(error),
            Ended::Database => lease.closed_by_the_database(),
            _ => {}
        }
        chain.notify(Moment::Closing).await;
        ended
    }

    /// Waits until the hooks let the peer in and there is a client, and watches the peer meanwhile; what it sends is kept, one chunk at most.
    async fn client_for(&self, chain: &Chain, peer: &mut Stream, first: Vec<u8>) -> Result<(Lease, Vec<u8>), Ended> {
        let limit = self.config.borrow().client.receive_chunk_size.get().max(first.len());
        let mut early = first;
        let route = Route::default();
        let lease = tokio::select! {
            // A client that is there already needs no look at the peer.
            biased;
            got = self.admitted_client(chain, &route) => got?,
            ended = watch(peer, &mut early, limit) => return Err(ended),
            () = chain.presence.killed() => return Err(Ended::Killed),
            () = self.sessions.surroundings.drain.over() => return Err(Ended::Cut),
        };
        Ok((lease, early))
    }

    async fn admitted_client(&self, chain: &Chain, route: &Route) -> Result<Lease, Ended> {
        if !chain.notify(Moment::Opening).await {
            return Err(Ended::Hook);
        }
        self.client(chain, route).await
    }

    async fn client(&self, chain: &Chain, route: &Route) -> Result<Lease, Ended> {
        chain.presence.waits();
        let lease = self.pool.get(route).await.map_err(|error| {
            self.sessions.metrics.session.refused(error.reason());
            Ended::Refused(error)
        })?;
        chain.presence.has(lease.number());
        chain.presence.is(SessionState::Active, Instant::now());
        Ok(lease)
    }

    async fn relay<S: Scanner>(
        &self,
        scanner: S,
        (chain, peer): (&Chain, &mut Stream),
        client: &mut Client,
        early: &[u8],
    ) -> Ended {
        let config = self.config.borrow().clone();
        let greeting = std::mem::take(&mut client.early);
        let mut relay = Relay {
            peer,
            client: &mut client.stream,
            scanner,
            watchdog: Watchdog::is_needed(&config).then(|| Box::new(Watchdog::new(&config))),
            config: &config,
            presence: &chain.presence,
            metrics: &self.sessions.metrics.session,
            flows: Flows::default(),
        };
        relay.begin_with(Direction::ToPeer, &greeting);
        relay.begin_with(Direction::ToDatabase, early);
        let ended = relay.run(&self.sessions.surroundings.drain).await;
        let (is_killed, is_at_boundary) = (matches!(ended, Ended::Killed), relay.flows.is_at_boundary());
        if is_killed && is_at_boundary && config.protocol == Protocol::Postgres {
            turned_away::tell(relay.peer, &turned_away::killed()).await;
            return ended;
        }
        let is_unanswered = is_killed || matches!(ended, Ended::Expired(_)) && !is_at_boundary;
        if ended.is_abrupt() || relay.flows.is_incomplete() || is_unanswered {
            relay.peer.reset_on_close();
            relay.client.reset_on_close();
        }
        ended
    }
}

impl Reception for Rc<Proxy> {
    fn admit(&self, peer: Stream, remote: Endpoint) {
        if let Some(objection) = self.objection(&peer) {
            self.refuse(peer, &remote, objection);
            return;
        }
        let (proxy, counted) = (self.clone(), self.sessions.count());
        self.sessions.surroundings.tracker.spawn_local(async move {
            proxy.serve(peer, remote).await;
            drop(counted);
        });
    }

    fn turned_away(&self, reason: &'static str) {
        self.sessions.metrics.session.refused(reason);
    }
}

/// Reads what a waiting peer sends, up to `limit`; ready when it has left. A peer that closed its half may wait a
/// little longer: it can still read. What it sent is lost then, and it is told so by a reset.
pub(crate) async fn watch(peer: &mut Stream, early: &mut Vec<u8>, limit: usize) -> Ended {
    while early.len() < limit {
        let room = limit - early.len();
        early.reserve(room.min(FIRST_BYTES));
        match peer.read_buf(&mut (&mut *early).limit(room)).await {
            Ok(0) => {
                sleep(HALF_CLOSED_GRACE).await;
                return Ended::GaveUp;
            }
            Ok(_) => {}
            Err(error) => return Ended::PeerFailed(error),
        }
    }
    // More is not read before there is somebody to send it to.
    while !peer.has_hung_up() {
        sleep(HANG_UP_INTERVAL).await;
    }
    Ended::GaveUp
}

#[cfg(test)]
mod tests;
