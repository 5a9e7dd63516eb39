//! A proxy of datagrams. A session is one peer address with a socket of its own to the database; it ends when nothing
//! passed for `server.idleTimeout`, and the one that has been idle longest makes room when there are too many
//! (`design 3.8`). A datagram is never split, and never waits for a schedule: connecting proves nothing here.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::{Level, debug, enabled, warn};

use super::ended::Ended;
use super::hooked::Chain;
use super::relay::Direction;
use super::scanner::Verdict;
use super::session::{Sessions, Surroundings};
use super::watchdog::Expired;
use crate::client::{self, Resolver};
use crate::clock::{Instant, sleep_until, timeout};
use crate::config::{Address, ProxyConfig};
use crate::hooks::{Hooks, Moment};
use crate::metrics::{GaugeGuard, ProxyMetrics};
use crate::net::{Endpoint, UdpSocket};
use crate::view::{PoolView, ProxyView, SessionState};

/// One proxy of datagram peers, in one worker.
pub(crate) struct Datagrams {
    config: RefCell<Arc<ProxyConfig>>,
    sessions: Rc<Sessions>,
    peers: RefCell<HashMap<SocketAddr, Mailbox>>,
    resolver: Resolver,
    began: Instant,
}

/// How the server reaches a session.
struct Mailbox {
    datagrams: mpsc::Sender<Bytes>,
    last: Rc<Cell<Instant>>,
}

/// A session's entry among the peers; dropping it removes the entry.
struct Entry {
    proxy: Rc<Datagrams>,
    peer: SocketAddr,
    last: Rc<Cell<Instant>>,
}

/// The sockets of a session: the one that peers share, and its own.
#[derive(Clone, Copy)]
struct Sockets<'a> {
    server: &'a UdpSocket,
    client: &'a UdpSocket,
}

/// Datagrams that a session may be behind; more are lost, as a network would lose them.
const MOST_QUEUED: usize = 64;
/// No datagram is larger.
const MOST_BYTES: usize = 65_535;
/// While the gateway drains, a session that was idle for this long has nobody behind it.
const DRAIN_IDLE: Duration = Duration::from_secs(1);
/// The longest wait between two looks at the clock.
const LONGEST_IDLE: Duration = Duration::from_hours(1);
/// A session without an `idleTimeout` would never end.
const DEFAULT_IDLE: Duration = Duration::from_secs(10);

thread_local! {
    /// One datagram; nothing stays in it between two polls.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MOST_BYTES]);
}

// === impl Datagrams ===

impl Datagrams {
    pub(crate) fn new(
        config: Arc<ProxyConfig>,
        hooks: Rc<Hooks>,
        metrics: Rc<ProxyMetrics>,
        surroundings: Surroundings,
    ) -> Rc<Datagrams> {
        let sessions = Sessions::new(surroundings, metrics, hooks);
        Rc::new(Datagrams {
            config: RefCell::new(config),
            sessions,
            peers: RefCell::default(),
            resolver: Resolver::default(),
            began: Instant::now(),
        })
    }

    /// Takes a changed configuration over; sessions keep theirs.
    pub(crate) fn reconfigure(&self, config: Arc<ProxyConfig>, hooks: Rc<Hooks>) {
        self.sessions.set_hooks(hooks);
        self.config.replace(config);
    }

    /// Ends the sessions: without their mailboxes they go, and their socket with them.
    pub(crate) fn close(&self) {
        self.peers.borrow_mut().clear();
    }

    /// How many sessions there are.
    pub(crate) fn present(&self) -> usize {
        self.sessions.roll.len()
    }

    /// What is told of the proxy, with at most so many of its sessions.
    pub(crate) fn view(&self, most: usize, now: Instant) -> ProxyView {
        let config = self.config.borrow();
        // Each session has a socket of its own, which is all the pool there is.
        let pool = PoolView { size: config.pool.size.get(), lent: self.present(), ..PoolView::default() };
        let session_list = self.sessions.list(most, now);
        ProxyView { sessions: self.present(), pool, session_list, ..ProxyView::of(&config, self.began, now) }
    }

    /// Ends the session of this number, or all; how many there were.
    pub(crate) fn kill(&self, number: Option<u64>) -> usize {
        self.sessions.kill(number)
    }

    /// Sorts datagrams by peer for as long as it is polled.
    pub(crate) async fn serve(self: Rc<Self>, socket: Rc<UdpSocket>) {
        loop {
            match receive_from(&socket).await {
                Ok((peer, datagram)) => self.deliver(&socket, peer, datagram),
                // A peer that is gone is reported here; it concerns nobody else.
                Err(error) => debug!(%error, "Cannot receive a datagram"),
            }
        }
    }

    fn deliver(self: &Rc<Self>, socket: &Rc<UdpSocket>, peer: SocketAddr, datagram: Bytes) {
        if !self.peers.borrow().contains_key(&peer) {
            self.make_room();
            self.open(socket.clone(), peer);
        }
        let peers = self.peers.borrow();
        if let Some(mailbox) = peers.get(&peer) {
            mailbox.last.set(Instant::now());
            if mailbox.datagrams.try_send(datagram).is_err() {
                self.sessions.metrics.session.refused("datagram_lost");
            }
        }
    }

    /// Ends the session that has been idle longest, when no more may be opened.
    fn make_room(&self) {
        let config = self.config.borrow();
        let limit = config.server.max_peers.min(config.pool.size.get());
        let mut peers = self.peers.borrow_mut();
        while peers.len() >= limit {
            let idlest = peers.iter().min_by_key(|(peer, mailbox)| (mailbox.last.get(), **peer)).map(|(peer, _)| *peer);
            // Without its mailbox the session ends.
            idlest.and_then(|peer| peers.remove(&peer));
        }
    }

    fn open(self: &Rc<Self>, socket: Rc<UdpSocket>, peer: SocketAddr) {
        let (datagrams, received) = mpsc::channel(MOST_QUEUED);
        let last = Rc::new(Cell::new(Instant::now()));
        self.peers.borrow_mut().insert(peer, Mailbox { datagrams, last: last.clone() });
        let entry = Entry { proxy: self.clone(), peer, last };
        self.sessions.surroundings.tracker.spawn_local(async move { entry.session(&socket, received).await });
    }
}

// === impl Entry ===

impl Entry {
    async fn session(self, socket: &UdpSocket, received: mpsc::Receiver<Bytes>) {
        let sessions = &self.proxy.sessions;
        let _open = sessions.metrics.session.open();
        let config = self.proxy.config.borrow().clone();
        let chain = sessions.chain(config.name.clone(), Endpoint::Ip(self.peer));
        let ended = if chain.notify(Moment::Opening).await {
            self.exchange(&config, &chain, socket, received).await
        } else {
            Ended::Hook
        };
        sessions.closed(&chain, &ended).await;
    }

    async fn exchange(
        &self,
        config: &ProxyConfig,
        chain: &Rc<Chain>,
        socket: &UdpSocket,
        mut received: mpsc::Receiver<Bytes>,
    ) -> Ended {
        let drain = &self.proxy.sessions.surroundings.drain;
        let dialed = tokio::select! {
            biased;
            dialed = dial(config, &self.proxy.resolver) => dialed,
            () = drain.over() => return Ended::Cut,
        };
        let client = match dialed {
            Ok(client) => client,
            Err(error) => {
                warn!(proxy = %config.name, peer = %self.peer, %error, "Cannot reach the database");
                return Ended::DatabaseFailed(io::Error::other(error.to_string()));
            }
        };
        let _lent = GaugeGuard::new(&self.proxy.sessions.metrics.pool.lent);
        chain.presence.is(SessionState::Active, Instant::now());
        if !chain.notify(Moment::Opened).await {
            return Ended::Hook;
        }
        let sockets = Sockets { server: socket, client: &client };
        let mut idle_timeout = config.server.idle_timeout.unwrap_or(DEFAULT_IDLE);
        loop {
            let is_over = tokio::select! {
                biased;
                datagram = received.recv() => match datagram {
                    Some(datagram) => self.pass(chain, Direction::ToDatabase, datagram, sockets).await,
                    None => Some(Ended::MadeRoom),
                },
                answer = receive(&client) => match answer {
                    Ok(datagram) => self.pass(chain, Direction::ToPeer, datagram, sockets).await,
                    // Nobody listened at that moment; the peer's next datagram may find somebody.
                    Err(error) => { debug!(%error, "The database does not take datagrams"); None }
                },
                () = sleep_until(self.last.get() + idle_timeout.min(LONGEST_IDLE)) => {
                    (self.last.get().elapsed() >= idle_timeout).then_some(Ended::Expired(Expired::Idle))
                }
                () = drain.begun(), if idle_timeout > DRAIN_IDLE => { idle_timeout = DRAIN_IDLE; None }
                () = drain.over() => Some(Ended::Cut),
                () = chain.presence.killed() => Some(Ended::Killed),
            };
            if let Some(ended) = is_over {
                chain.notify(Moment::Closing).await;
                return ended;
            }
        }
    }

    /// Sends one datagram on, as the hooks will have it; the session's end, when they want it.
    async fn pass(
        &self,
        chain: &Rc<Chain>,
        direction: Direction,
        datagram: Bytes,
        sockets: Sockets<'_>,
    ) -> Option<Ended> {
        self.last.set(Instant::now());
        if enabled!(Level::DEBUG) {
            let source = if direction == Direction::ToDatabase { sockets.server } else { sockets.client };
            let (local, length) = (Endpoint::from(source.local_addr()), datagram.len());
            debug!(function = "proxy.passthrough", length, %local, peer = %self.peer, ?direction, "Received a datagram");
        }
        if chain.hooks.is_empty() {
            self.send(direction, &datagram, sockets).await;
            return None;
        }
        match chain.clone().judge(direction, datagram).await {
            Verdict::Pass(datagram) => {
                self.send(direction, &datagram, sockets).await;
                (!chain.clone().report(direction, datagram).await).then_some(Ended::Hook)
            }
            Verdict::Reply(datagram) => {
                self.send(direction.opposite(), &datagram, sockets).await;
                None
            }
            Verdict::Close => Some(Ended::Hook),
        }
    }

    async fn send(&self, direction: Direction, datagram: &[u8], sockets: Sockets<'_>) {
        let metrics = &self.proxy.sessions.metrics.session;
        let (sent, counter) = match direction {
            Direction::ToDatabase => (sockets.client.send(datagram).await, &metrics.bytes_to_database),
            Direction::ToPeer => (sockets.server.send_to(datagram, self.peer).await, &metrics.bytes_to_peer),
        };
        match sent {
            Ok(sent) => counter.inc_by(sent as u64),
            // As on a network, a datagram that cannot be sent is lost.
            Err(error) => debug!(%error, ?direction, "A datagram was lost"),
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut peers = self.proxy.peers.borrow_mut();
        // The peer may have a new session by now, when this one had to make room.
        if peers.get(&self.peer).is_some_and(|mailbox| Rc::ptr_eq(&mailbox.last, &self.last)) {
            peers.remove(&self.peer);
        }
    }
}

/// A socket of its own to the first of the database's addresses that resolves.
async fn dial(config: &ProxyConfig, resolver: &Resolver) -> Result<UdpSocket, client::Error> {
    let limit = config.client.dial_timeout.unwrap_or(Duration::MAX);
    let timed_out = |_| Err(client::Error::Timeout("the name service".to_owned(), limit));
    timeout(limit, first_that_resolves(config, resolver)).await.unwrap_or_else(timed_out)
}

async fn first_that_resolves(config: &ProxyConfig, resolver: &Resolver) -> Result<UdpSocket, client::Error> {
    let mut failure = None;
    for address in &config.client.addresses {
        let (Address::Udp(host) | Address::Tcp(host)) = address else { continue };
        match resolver.resolve(host).await {
            Ok(addrs) => {
                let local = |error| client::Error::Local(error);
                let Some(addr) = addrs.first() else { continue };
                let any = if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await.map_err(local)?;
                socket.connect(addr).await.map_err(local)?;
                return Ok(socket);
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| client::Error::Local(io::ErrorKind::AddrNotAvailable.into())))
}

async fn receive_from(socket: &UdpSocket) -> io::Result<(SocketAddr, Bytes)> {
    loop {
        socket.readable().await?;
        let received = BUFFER.with_borrow_mut(|buffer| {
            let (length, peer) = socket.try_recv_from(buffer)?;
            Ok((peer, Bytes::copy_from_slice(&buffer[..length])))
        });
        match received {
            Err(error) if io::Error::kind(&error) == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

async fn receive(socket: &UdpSocket) -> io::Result<Bytes> {
    loop {
        socket.readable().await?;
        let received = BUFFER.with_borrow_mut(|buffer| {
            let length = socket.try_recv(buffer)?;
            Ok(Bytes::copy_from_slice(&buffer[..length]))
        });
        match received {
            Err(error) if io::Error::kind(&error) == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}
