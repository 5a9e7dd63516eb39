//! What the sessions of a proxy have in common, be they streams or datagrams: a number, hooks, metrics, an end.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::ended::Ended;
use super::hooked::Chain;
use super::presence::{Identity, Presence};
use super::watchdog::Expired;
use crate::clock::Instant;
use crate::console::Console;
use crate::hooks::{Hooks, Moment, Session};
use crate::metrics::ProxyMetrics;
use crate::net::Endpoint;
use crate::postgres::cancel::Cancels;
use crate::roll::{Enrolled, Numbers, Roll};
use crate::secrets::Secrets;
use crate::shutdown::Drain;

/// What all proxies of one worker share.
#[derive(Clone)]
pub(crate) struct Surroundings {
    /// How far the drain is.
    pub(crate) drain: Drain,
    /// Owns the sessions of the worker.
    pub(crate) tracker: TaskTracker,
    /// The numbers of sessions.
    pub(crate) sessions: Numbers,
    /// The numbers of clients.
    pub(crate) clients: Numbers,
    /// Where the Secrets are that the configuration names.
    pub(crate) secrets: Secrets,
    /// The peers that can be cancelled; the workers share it.
    pub(crate) cancels: Cancels,
    /// The way to whoever answers consoles.
    pub(crate) console: Console,
}

/// The sessions of one proxy.
pub(super) struct Sessions {
    pub(super) surroundings: Surroundings,
    pub(super) metrics: Rc<ProxyMetrics>,
    hooks: RefCell<Rc<Hooks>>,
    open: Cell<usize>,
    refusals: Refusals,
    /// Those that have begun.
    pub(super) roll: Rc<Roll<Chain>>,
    /// Who came last.
    pub(super) latest: RefCell<Option<Rc<Identity>>>,
}

/// Peers that were refused and not yet logged: a storm of them must not fill the log.
#[derive(Default)]
struct Refusals {
    logged: Cell<Option<Instant>>,
    unlogged: Cell<u64>,
}

/// Between two lines of the log about refused peers.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);

/// A session that counts against `maxPeers` for as long as it lasts.
pub(super) struct Counted(Rc<Sessions>);

// === impl Sessions ===

impl Sessions {
    pub(super) fn new(surroundings: Surroundings, metrics: Rc<ProxyMetrics>, hooks: Rc<Hooks>) -> Rc<Sessions> {
        Rc::new(Sessions {
            surroundings,
            metrics,
            hooks: RefCell::new(hooks),
            open: Cell::new(0),
            refusals: Refusals::default(),
            roll: Rc::default(),
            latest: RefCell::default(),
        })
    }

    /// New sessions get `hooks`.
    pub(super) fn set_hooks(&self, hooks: Rc<Hooks>) {
        self.hooks.replace(hooks);
    }

    /// How many there are.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// Counts one more, until the guard is dropped.
    pub(super) fn count(self: &Rc<Self>) -> Counted {
        self.open.set(self.open.get() + 1);
        Counted(self.clone())
    }

    /// The hooks of a new session, and what they know of it; the session is told of for as long as this is kept.
    pub(super) fn chain(&self, proxy: Arc<str>, peer: Endpoint) -> Enrolled<Chain> {
        let session = Session { id: self.surroundings.sessions.next(), proxy, peer };
        let (hooks, metrics) = (self.hooks.borrow().clone(), self.metrics.clone());
        let (has_traffic, presence) = (Cell::new(false), Presence::new());
        self.roll.enter(Chain { hooks, session, metrics, has_traffic, presence })
    }

    /// Tells everybody how the session ended.
    pub(super) async fn closed(&self, chain: &Chain, ended: &Ended) {
        chain.notify(Moment::Closed).await;
        self.metrics.session.closed(ended.reason());
        self.metrics.session.seconds.observe(chain.presence.begin.elapsed().as_secs_f64());
        match ended {
            Ended::Refused(error) => self.refused(&chain.session.proxy, &chain.session.peer, error.reason(), error),
            Ended::Unwelcome(reason, sentence) => {
                self.refused(&chain.session.proxy, &chain.session.peer, reason, sentence);
            }
            ended => log_end(&chain.session, ended),
        }
    }

    /// Says that a peer was refused, and how many more were since this was said last.
    pub(super) fn refused(&self, proxy: &str, peer: &Endpoint, reason: &str, error: &dyn Display) {
        let Refusals { logged, unlogged } = &self.refusals;
        if logged.get().is_some_and(|at| at.elapsed() < REFUSAL_INTERVAL) {
            unlogged.set(unlogged.get() + 1);
            return;
        }
        logged.set(Some(Instant::now()));
        let more = unlogged.replace(0);
        warn!(%proxy, %peer, reason, more, "Peer refused: {error}");
    }
}

/// A peer that leaves is no error; a database that leaves is one.
fn log_end(session: &Session, ended: &Ended) {
    let (id, proxy, peer, reason) = (session.id, &session.proxy, &session.peer, ended.reason());
    match ended {
        Ended::Peer
        | Ended::Database
        | Ended::GaveUp
        | Ended::MadeRoom
        | Ended::Drain
        | Ended::Hook
        | Ended::Cancelled
        | Ended::Killed
        | Ended::IdleTransaction
        | Ended::Refused(_)
        | Ended::Expired(Expired::Idle | Expired::Abandoned) => {
            debug!(session = id, %proxy, %peer, reason, "Session closed");
        }
        Ended::Unwelcome(_, sentence) | Ended::Protocol(sentence) => {
            warn!(session = id, %proxy, %peer, reason, side = "peer", "Session closed: {sentence}");
        }
        Ended::PeerFailed(error) => debug!(session = id, %proxy, %peer, reason, %error, "Session closed"),
        Ended::DatabaseFailed(error) => {
            warn!(session = id, %proxy, %peer, side = "database", %error, "The database failed; session closed");
        }
        Ended::Expired(Expired::Send | Expired::Receive) | Ended::Cut => {
            warn!(session = id, %proxy, %peer, reason, "Session cut off");
        }
    }
}

// === impl Counted ===

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}
