//! The pool lends clients to sessions and keeps itself filled. This file is its face: `get` and the [`Lease`]; `slots`
//! is what is true, `refill` is what happens in the background.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use thiserror::Error;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::{Client, Context};
use crate::clock::{Instant, timeout};
use crate::config::{PoolConfig, ProxyConfig};
use crate::metrics::{PoolMetrics, ProxyMetrics, ReconnectMetrics};
use crate::postgres::wire::ErrorResponse;
use crate::random::Random;
pub use crate::route::Route;

mod slots;
mod refill;
mod outage;
mod losses;
mod lease;
mod waiter;
mod refusals;
mod watch;
mod reset;
mod report;
mod orders;

pub use lease::Lease;
use refusals::Refusals;
use report::Report;
use slots::{Counts, Idle, Order, Slots, Vacancy};

/// One worker's clients of one proxy; cheap to clone.
#[derive(Clone)]
pub struct Pool {
    inner: Rc<Inner>,
    _stops_refill: Rc<DropGuard>,
}

struct Inner {
    slots: RefCell<Slots<Route, Box<Client>, Call>>,
    config: RefCell<Arc<ProxyConfig>>,
    /// What all dials share.
    context: Context,
    /// Grows when clients dialed before must not be lent any more.
    generation: Cell<u64>,
    /// The reason why the database is away, while it is.
    away: RefCell<Option<Arc<str>>>,
    /// What is told of the database.
    report: Report,
    /// Whether nobody gets a client for now.
    paused: Cell<bool>,
    /// Wakes whoever waits for the end of the last lease of a pool that is paused.
    returned: Notify,
    /// Routes that the database refused a moment ago.
    refusals: RefCell<Refusals>,
    /// What the refill would do at once, so that it need not be woken for nothing.
    dials: Cell<Dials>,
    /// Whether the database sent something before a session had the client.
    speaks_first: Cell<bool>,
    /// Whether the database closed a lent client since the refill looked.
    was_closed_on: Cell<bool>,
    /// Wakes the refill: the counts, the configuration or the generation changed.
    changed: Notify,
    random: Random,
    metrics: PoolMetrics,
    reconnect: ReconnectMetrics,
    published: Cell<(Counts, usize)>,
    closed: CancellationToken,
}

/// How one waiter is reached.
struct Call {
    lease: oneshot::Sender<Result<Lease, Error>>,
    /// It waits only for a dial that is under way, not for the database to come back.
    is_impatient: bool,
}

/// What the refill dials without waiting for anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dials {
    /// Nothing: the database is away, and dialed by its schedule.
    None,
    /// What is waited for.
    WaitedFor,
    /// That, and warm clients.
    All,
}

/// The right to dial, and a dial that the counts show; dropping it gives the right back.
struct Dialing {
    pool: Rc<Inner>,
    vacancy: Option<Vacancy<Route>>,
}

/// Why a peer got no client.
#[derive(Debug, Error)]
pub enum Error {
    /// All clients are lent.
    #[error("no client became free within {waited:?}: all {size} are lent; raise pool.size or shorten the sessions")]
    Busy {
        /// How long the peer waited.
        waited: Duration,
        /// The pool's size.
        size: usize,
    },
    /// Another client is being dialed.
    #[error(
        "no client became free within {waited:?}: {lent} of {size} are lent, and the database has not let another in yet"
    )]
    Dialing {
        /// How long the peer waited.
        waited: Duration,
        /// How many are lent.
        lent: usize,
        /// The pool's size.
        size: usize,
    },
    /// The database is away.
    #[error("the database is away, and did not come back within {waited:?}: {cause}")]
    Away {
        /// How long the peer waited.
        waited: Duration,
        /// What the last dial met.
        cause: Arc<str>,
    },
    /// The database refused our login for this route.
    #[error("{0}")]
    Refused(Arc<ErrorResponse>),
    /// More peers wait than may.
    #[error("{0} peers wait for a client already, and pool.maxWaiting allows no more")]
    TooManyWaiting(usize),
    /// Somebody has paused the pool.
    #[error("the pool is paused, and was not resumed within {waited:?}")]
    Paused {
        /// How long the peer waited.
        waited: Duration,
    },
    /// The proxy was removed from the configuration.
    #[error("the proxy is being closed")]
    Closed,
}

fn order_of(config: &ProxyConfig) -> Order {
    if config.is_managed() { Order::NewestFirst } else { Order::OldestFirst }
}

// === impl Pool ===

impl Pool {
    /// A pool that begins to fill itself at once; its task ends when the last clone is dropped.
    pub(crate) fn new(config: Arc<ProxyConfig>, context: Context, metrics: &ProxyMetrics, random: Random) -> Pool {
        let closed = CancellationToken::new();
        let slots = Slots::new(config.pool.size.get(), config.pool.min_idle, order_of(&config));
        let inner = Rc::new(Inner {
            slots: RefCell::new(slots),
            config: RefCell::new(config),
            context,
            generation: Cell::new(0),
            away: RefCell::new(None),
            report: Report::new(),
            paused: Cell::new(false),
            returned: Notify::new(),
            refusals: RefCell::default(),
            dials: Cell::new(Dials::All),
            speaks_first: Cell::new(false),
            was_closed_on: Cell::new(false),
            changed: Notify::new(),
            random,
            metrics: metrics.pool.clone(),
            reconnect: metrics.reconnect.clone(),
            published: Cell::default(),
            closed: closed.clone(),
        });
        inner.change(|_| ());
        refill::start(inner.clone());
        Pool { inner, _stops_refill: Rc::new(closed.drop_guard()) }
    }

    /// Lends a client: an idle one at once, else first come, first served, for up to `acquireTimeout`.
    ///
    /// # Errors
    /// Nobody could be had in time, or waiting is not allowed.
    pub async fn get(&self, route: &Route) -> Result<Lease, Error> {
        let begin = Instant::now();
        let lease = match self.inner.take_idle(route, || begin) {
            Some(lease) => lease,
            None => self.wait(route).await?,
        };
        self.inner.metrics.wait_seconds.observe(begin.elapsed().as_secs_f64());
        Ok(lease)
    }

    /// An idle client at once, or none; never past somebody who waits for it.
    pub fn try_get(&self, route: &Route) -> Option<Lease> {
        let lease = self.inner.take_idle(route, Instant::now)?;
        self.inner.metrics.wait_seconds.observe(0.0);
        Some(lease)
    }

    async fn wait(&self, route: &Route) -> Result<Lease, Error> {
        let config = self.inner.pool_config();
        // Cancel-safe: dropped at any await, the waiter leaves the queue and a lease that reached it goes back.
        let mut waiter = self.inner.queue(&config, route)?;
        let limit = if config.acquire_timeout.is_zero() { Duration::MAX } else { config.acquire_timeout };
        match timeout(limit, &mut waiter.lease).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) if self.inner.closed.is_cancelled() => Err(Error::Closed),
            Ok(Err(_)) | Err(_) => Err(self.inner.refusal(config.acquire_timeout)),
        }
    }

    /// How many clients are connected, lent or not.
    pub fn ready(&self) -> usize {
        let counts = self.inner.slots.borrow().counts();
        counts.idle + counts.lent
    }

    /// Clients that there could be and are not yet.
    pub fn missing(&self) -> usize {
        self.inner.slots.borrow().size().saturating_sub(self.ready())
    }

    #[cfg(test)]
    fn counts(&self) -> Counts {
        self.inner.slots.borrow().counts()
    }

    /// Takes a changed configuration over: limits at once; another way to the database starts a new generation, of
    /// which the clients are new, while lent ones finish and waiters stay.
    pub fn reconfigure(&self, config: &Arc<ProxyConfig>) {
        let before = self.inner.config.replace(config.clone());
        if before.client != config.client || before.protocol != config.protocol {
            self.inner.speaks_first.set(false);
            self.inner.start_over();
        }
        self.inner.resize();
        self.inner.change(|slots| {
            slots.set_order(order_of(config));
            slots.retire_surplus();
            slots.idle_mut().for_each(|idle| {
                self.inner.give_limits(&mut idle.client);
                idle.expires = idle.client.expiry(idle.since);
            });
        });
        self.inner.changed.notify_one();
    }

    /// Ends the pool: idle clients close, whoever waits is refused, lent clients finish.
    pub fn close(&self) {
        self.inner.closed.cancel();
        let waiting = self.inner.change(|slots| {
            slots.retire_idle();
            slots.dismiss(|_, _| true)
        });
        drop(waiting);
        while let Some(client) = self.inner.change(Slots::take_stale) {
            self.inner.discard(client, "removed");
        }
    }
}

// === impl Inner ===

impl Inner {
    /// The only way to the counts: the gauges follow each change.
    fn change<R>(&self, change: impl FnOnce(&mut Slots<Route, Box<Client>, Call>) -> R) -> R {
        let mut slots = self.slots.borrow_mut();
        let result = change(&mut slots);
        self.publish(slots.counts(), slots.size());
        result
    }

    /// The workers share the gauges, so each adds its difference.
    fn publish(&self, now: Counts, size: usize) {
        let before = self.published.replace((now, size));
        let add = |gauge: &IntGauge, now: usize, before: usize| {
            // What other threads read is not touched for nothing.
            if now != before {
                gauge.add(now.cast_signed() as i64 - before.cast_signed() as i64);
            }
        };
        add(&self.metrics.idle, now.idle, before.0.idle);
        add(&self.metrics.lent, now.lent, before.0.lent);
        add(&self.metrics.dialing, now.dialing, before.0.dialing);
        add(&self.metrics.waiting, now.waiting, before.0.waiting);
        add(&self.metrics.size, size, before.1);
    }

    fn pool_config(&self) -> PoolConfig {
        self.config.borrow().pool.clone()
    }

    /// An idle client for a newcomer, looked at once more: one that closed meanwhile is no client.
    fn take_idle(self: &Rc<Self>, route: &Route, now: impl Fn() -> Instant) -> Option<Lease> {
        if self.paused.get() {
            return None;
        }
        while let Some(mut client) = self.change(|slots| slots.take(route, &now)) {
            let Some(reason) = self.objection(&mut client) else { return Some(self.lease(client)) };
            self.change(|slots| slots.give_up(route));
            self.discard(client, reason);
        }
        None
    }

    fn lease(self: &Rc<Self>, client: Box<Client>) -> Lease {
        // What was warm is replaced, and a surplus was never needed.
        self.wake_if_wanted();
        Lease::new(self, client)
    }

    /// Wakes the refill; where clients come and go with each transaction, only if it would dial.
    fn wake_if_wanted(&self) {
        let is_wanted = || match self.dials.get() {
            Dials::None => false,
            dials => self.slots.borrow().wanted(dials == Dials::All).is_some(),
        };
        if !self.is_managed() || is_wanted() {
            self.changed.notify_one();
        }
    }

    fn is_managed(&self) -> bool {
        self.config.borrow().is_managed()
    }

    /// Brings the limits up to the configuration and to what is known of the database.
    fn resize(&self) {
        let config = self.pool_config();
        let may_warm = config.min_idle_is_explicit || !self.speaks_first.get();
        let min_idle = if may_warm { config.min_idle } else { 0 };
        self.change(|slots| slots.resize(config.size.get(), min_idle));
    }

    /// `client` as one that is idle since `now`, to be recycled before the database would drop it.
    fn idle(client: Box<Client>, now: Instant) -> Idle<Box<Client>> {
        Idle { expires: client.expiry(now), since: now, client }
    }

    /// How old a client becomes, and how long it rests; drawn once, however often it is lent, and spread, so that clients
    /// that were dialed together are not recycled together.
    fn give_limits(&self, client: &mut Client) {
        let config = self.config.borrow();
        let early = |limit: Duration| self.random.part_of(limit, 0.7, 0.95);
        client.retires = config.pool.max_age.and_then(|limit| client.since().checked_add(early(limit)));
        client.most_rest = config.pool.max_idle.map(early);
    }

    /// A warm client that the database closed, or that said too much to be trusted.
    fn lost(&self, client: Box<Client>) {
        self.discard(client, "database");
    }

    fn discard(&self, client: Box<Client>, reason: &str) {
        self.metrics.client_closed(reason);
        drop(client);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.publish(Counts::default(), 0);
    }
}

// === impl Error ===

impl Error {
    /// The refusal as a metric's label.
    pub fn reason(&self) -> &'static str {
        match self {
            Error::Busy { .. } | Error::Dialing { .. } => "busy",
            Error::Away { .. } => "database_away",
            Error::Refused(_) => "login_refused",
            Error::TooManyWaiting(_) => "max_waiting",
            Error::Paused { .. } => "paused",
            Error::Closed => "removed",
        }
    }
}

// === impl Dialing ===

impl Dialing {
    fn new(pool: &Rc<Inner>, route: &Route) -> Option<Dialing> {
        let vacancy = pool.change(|slots| slots.vacancy(route))?;
        Some(Dialing { pool: pool.clone(), vacancy: Some(vacancy) })
    }

    /// The dial led to `client`, which goes to whoever waits, else becomes idle.
    fn succeed(mut self, mut client: Box<Client>) {
        if self.pool.paused.get() {
            // Nobody may have it: its place is given back.
            return self.pool.discard(client, "paused");
        }
        let Some(vacancy) = self.vacancy.take() else { return };
        self.pool.give_limits(&mut client);
        let idle = Inner::idle(client, Instant::now());
        self.pool.change(|slots| slots.fill(vacancy, idle));
        self.pool.serve_waiters();
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        if let Some(vacancy) = self.vacancy.take() {
            self.pool.change(|slots| slots.abandon(vacancy));
        }
    }
}

#[cfg(test)]
mod tests;
