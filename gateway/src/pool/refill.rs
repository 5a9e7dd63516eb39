//! Keeps the pool filled: dials what is missing, follows the schedule while the database is away, watches and recycles
//! warm clients. The only place that sleeps between dials. One task for each pool; it ends with the pool.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tracing::{debug, info, warn};

use super::losses::Losses;
use super::outage::{Health, Outage, after};
use super::slots::Slots;
use super::{Dialing, Dials, Inner};
use crate::client::{self, Client, Verdict};
use crate::clock::{Instant, sleep_until};
use crate::config::Address;
use crate::metrics::OutageGuard;
use crate::route::Route;

/// Dials at one time while the database is up.
const MOST_DIALS: usize = 4;
/// Dials at one time outside the schedule while it is away: a silent one must not hide that it is back.
const MOST_PROBES: usize = 16;
/// How long a silent dial is left alone when its place is needed for a fresh one.
const PATIENCE: Duration = Duration::from_secs(1);
/// After a failure of our own (no file descriptor, no port) nothing is dialed for this long.
const LOCAL_PAUSE: Duration = Duration::from_millis(500);
/// Stale clients are closed one by one, this far apart.
const STALE_PAUSE: Duration = Duration::from_millis(100);
/// A dial that was given up has left its place after this.
const PLACE_IS_FREE: Duration = Duration::from_millis(5);
/// A login that was refused is tried again for nobody after this: somebody may have mended it, and nobody come since,
/// where a pod counts as ready only with a database. Slow enough for one that locks who fails too often.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// How often warm clients that the gateway logged in are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Spawns the task that keeps `pool` filled until it is closed.
pub(super) fn start(pool: Rc<Inner>) {
    let closed = pool.closed.clone();
    let refill = Refill {
        dials: JoinSet::new(),
        flights: Vec::new(),
        health: Health::Unknown,
        generation: pool.generation.get(),
        not_before: None,
        losses: Losses::default(),
        next_stale: Instant::now(),
        last_address: None,
        carried: None,
        warm_refused: None,
        pool,
    };
    tokio::task::spawn_local(async move {
        // Dropping the refill drops its dials.
        closed.run_until_cancelled(refill.run()).await;
    });
}

struct Refill {
    pool: Rc<Inner>,
    dials: JoinSet<Landed>,
    /// The dials that count, in the order of their beginning.
    flights: Vec<Flight>,
    health: Health,
    generation: u64,
    not_before: Option<Instant>,
    losses: Losses,
    next_stale: Instant,
    last_address: Option<Address>,
    /// The outage of the generation before: it lasts until a dial of this one succeeds.
    carried: Option<OutageGuard>,
    /// Until when the default route, which was refused, is not dialed again for nobody.
    warm_refused: Option<Instant>,
}

/// A dial that is under way.
struct Flight {
    id: Id,
    route: Route,
    why: Why,
    since: Instant,
    handle: AbortHandle,
}

/// Why a dial was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The database is up, and a client is missing.
    Fill,
    /// The schedule says so.
    Schedule,
    /// A peer waits.
    Probe,
}

/// How a dial ended.
struct Landed {
    dialing: Dialing,
    /// In a box, because it goes from hand to hand with each transaction.
    result: Result<Box<Client>, client::Error>,
    took: Duration,
}

// === impl Refill ===

impl Refill {
    async fn run(mut self) {
        loop {
            self.start_over_if_changed();
            self.recycle();
            self.notice_silence();
            self.start_dials();
            self.pool.dials.set(self.dials_at_once());
            self.pool.report.tell(&self.health, self.count(Why::Schedule) > 0);
            // A dial that began, or a place that was given up, may have left a client to somebody else.
            self.pool.serve_waiters();
            self.wait().await;
        }
    }

    /// Waits for whatever comes first; an ended dial before all, since somebody may wait for it.
    async fn wait(&mut self) {
        let wake = self.next_wake();
        let pool = self.pool.clone();
        tokio::select! {
            biased;
            Some(landed) = self.dials.join_next_with_id() => {
                // What was dialed for the generation before must not be taken for this one's.
                self.start_over_if_changed();
                self.land(landed);
            }
            () = pool.changed.notified() => {}
            () = poll_fn(|cx| pool.poll_idle(cx)) => self.losses.count(&pool.random),
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
        }
    }

    /// A new generation forgets what was known of the old way to the database.
    fn start_over_if_changed(&mut self) {
        if self.generation == self.pool.generation.get() {
            return;
        }
        self.generation = self.pool.generation.get();
        self.dials.abort_all();
        self.flights.clear();
        (self.not_before, self.losses) = (None, Losses::default());
        let is_gone = |last: &mut Address| !self.pool.config.borrow().client.addresses.contains(last);
        self.last_address.take_if(is_gone);
        self.warm_refused = None;
        self.pool.refusals.borrow_mut().clear();
        if let Health::Away(outage) = std::mem::replace(&mut self.health, Health::Unknown) {
            self.carried = Some(outage.guard);
        }
        self.now_is(Health::Unknown);
    }

    /// The only place that changes what is known of the database.
    fn now_is(&mut self, health: Health) {
        let pool = &self.pool;
        let away = health.is_away();
        self.health = health;
        pool.change(|slots| slots.set_may_make_room(!away));
        if !away {
            *pool.away.borrow_mut() = None;
            pool.reconnect.backoff_seconds.set(0.0);
            pool.reconnect.retry_attempt.set(0);
        }
    }

    /// An outage begins, or that of the generation before goes on.
    fn now_is_away(&mut self) {
        let outage = Outage::begin(&self.pool, self.carried.take());
        self.now_is(Health::Away(outage));
    }

    fn retry(&mut self, error: &client::Error) {
        if let Health::Away(outage) = &mut self.health {
            outage.retry(&self.pool, error);
        }
    }

    /// Closes clients whose time is over, and stale ones little by little.
    fn recycle(&mut self) {
        let pool = &self.pool;
        let now = Instant::now();
        for client in pool.change(|slots| slots.remove_idle(|idle| idle.expires.is_some_and(|at| at <= now))) {
            pool.discard(client, "recycled");
        }
        if self.next_stale <= now
            && let Some(client) = pool.change(Slots::take_stale)
        {
            pool.discard(client, "changed");
            self.next_stale = now + STALE_PAUSE;
        }
    }

    // --- which dials start ---

    /// A dial that has had no answer for long is an outage already, before it times out.
    fn notice_silence(&mut self) {
        let Some(since) = self.silent_at() else { return };
        if Instant::now() < since {
            return;
        }
        let addresses: Vec<_> = self.pool.config.borrow().client.addresses.iter().map(ToString::to_string).collect();
        let cause = format!("no answer from {} yet", addresses.join(", "));
        warn!(proxy = %self.pool.proxy_name(), cause, side = "database", "The database is silent; still dialing");
        self.pool.is_away_because(cause);
        if let Some(oldest) = self.flights.first_mut() {
            // It is the schedule's first attempt, and the next one follows when it has ended.
            oldest.why = Why::Schedule;
        }
        self.now_is_away();
        drop(self.pool.change(|slots| slots.dismiss(|_, call| call.is_impatient)));
    }

    /// When the oldest dial has been silent for long, if that is not known yet.
    fn silent_at(&self) -> Option<Instant> {
        let is_known = self.health.is_away();
        self.flights.first().filter(|_| !is_known).map(|flight| flight.since + self.pool.patience())
    }

    fn start_dials(&mut self) {
        let now = Instant::now();
        if self.pool.paused.get() || self.not_before.is_some_and(|at| now < at) {
            return;
        }
        if self.not_before.take().is_some() && !self.health.is_away() {
            *self.pool.away.borrow_mut() = None;
        }
        match &self.health {
            Health::Unknown => {
                self.fill(1);
                self.find_out();
            }
            Health::Up => self.fill(MOST_DIALS),
            Health::Away(outage) => {
                let (is_due, is_probe_due) = (outage.next <= now, outage.next_probe <= now && self.may_probe());
                if is_due && self.count(Why::Schedule) == 0 {
                    self.scheduled();
                }
                if is_probe_due {
                    self.probe();
                }
            }
        }
    }

    /// What will be dialed from now on without waiting for anything.
    fn dials_at_once(&self) -> Dials {
        if self.pool.paused.get() || self.health.is_away() || self.not_before.is_some() {
            return Dials::None;
        }
        if self.may_warm() { Dials::All } else { Dials::WaitedFor }
    }

    /// Whether clients are dialed that nobody waits for.
    fn may_warm(&self) -> bool {
        !self.is_warm_refused() && self.losses.not_before.is_none_or(|at| at <= Instant::now())
    }

    fn is_warm_refused(&self) -> bool {
        self.warm_refused.is_some_and(|until| Instant::now() < until)
    }

    fn fill(&mut self, most: usize) {
        if self.pool.was_closed_on.take() {
            self.losses.hold(&self.pool.random);
        }
        while self.flights.len() < most {
            let wanted = self.pool.slots.borrow().wanted(self.may_warm()).cloned();
            if !wanted.is_some_and(|route| self.launch(Why::Fill, route)) {
                return;
            }
        }
    }

    /// Readiness may depend on a database that nobody needs yet.
    fn find_out(&mut self) {
        if self.flights.is_empty() && !self.is_warm_refused() && self.pool.config.borrow().pool.dials_first {
            self.launch(Why::Fill, Route::default());
        }
    }

    fn scheduled(&mut self) {
        if !self.launch(Why::Schedule, self.oldest_route())
            && let Health::Away(outage) = &mut self.health
        {
            // Every place is taken, by sessions that still have a client or by probes.
            outage.next = Instant::now() + PATIENCE;
        }
    }

    fn may_probe(&self) -> bool {
        self.pool.config.borrow().client.probe.is_some() && self.pool.slots.borrow().counts().waiting > 0
    }

    /// Dials outside the schedule; where there is no place for it, instead of the dial that has been silent longest.
    fn probe(&mut self) {
        let lifetime = self.pool.patience();
        if self.count(Why::Probe) >= MOST_PROBES {
            self.give_up_oldest(|flight| flight.why == Why::Probe);
        }
        self.give_up_oldest(|flight| flight.why == Why::Probe && flight.since.elapsed() >= lifetime);
        let is_freed = !self.launch(Why::Probe, self.oldest_route())
            && self.give_up_oldest(|flight| flight.since.elapsed() >= PATIENCE);
        let pause = if is_freed { PLACE_IS_FREE } else { self.pool.probe_interval() };
        if let Health::Away(outage) = &mut self.health {
            outage.next_probe = after(pause);
        }
    }

    fn give_up_oldest(&mut self, may_end: impl Fn(&Flight) -> bool) -> bool {
        // Flights are in the order of their beginning.
        let Some(place) = self.flights.iter().position(may_end) else { return false };
        self.flights.remove(place).handle.abort();
        true
    }

    /// The route of whoever waits longest, else the default one.
    fn oldest_route(&self) -> Route {
        self.pool.slots.borrow().oldest_waiters_route().cloned().unwrap_or_default()
    }

    /// Begins a dial, if there is a place for it.
    fn launch(&mut self, why: Why, route: Route) -> bool {
        let pool = &self.pool;
        if let Some(client) = pool.change(|slots| slots.make_room(&route)) {
            let is_old = client.route == route;
            pool.discard(client, if is_old { "changed" } else { "made_room" });
        }
        let Some(dialing) = Dialing::new(pool, &route) else { return false };
        let (config, context, to) = (pool.config.borrow().clone(), pool.context.clone(), route.clone());
        let since = Instant::now();
        let handle = self.dials.spawn_local(async move {
            let result = client::dial(&config.client, &context, &to).await.map(Box::new);
            Landed { dialing, result, took: since.elapsed() }
        });
        self.flights.push(Flight { id: handle.id(), route, why, since, handle });
        true
    }

    fn count(&self, why: Why) -> usize {
        self.flights.iter().filter(|flight| flight.why == why).count()
    }

    // --- how dials end ---

    fn land(&mut self, landed: Result<(Id, Landed), JoinError>) {
        let id = landed.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let place = self.flights.iter().position(|flight| flight.id == id);
        let flight = place.map(|place| self.flights.remove(place));
        match (landed, flight) {
            (Ok((_, landed)), Some(flight)) => match landed.result {
                Ok(client) => {
                    let may_be_early = self.health.is_away() && !self.pool.is_managed();
                    self.succeeded(&client, landed.took);
                    if may_be_early {
                        self.losses.hold(&self.pool.random);
                    }
                    if may_be_early && self.pool.slots.borrow().counts().waiting == 0 {
                        drop(landed.dialing);
                        self.pool.discard(client, "early");
                    } else {
                        landed.dialing.succeed(client);
                    }
                }
                Err(error) => {
                    drop(landed.dialing);
                    self.failed(&error, &flight);
                }
            },
            // A dial that was given up may have connected all the same: nobody has that client.
            (Ok((_, landed)), None) => {
                if let Ok(client) = landed.result {
                    self.pool.discard(client, "given_up");
                }
            }
            (Err(error), _) if error.is_cancelled() => {}
            (Err(error), _) => tracing::error!(%error, "A dial panicked; please report this"),
        }
    }

    fn succeeded(&mut self, client: &Client, took: Duration) {
        let pool = self.pool.clone();
        pool.reconnect.dialed("ok");
        pool.reconnect.dial_seconds.observe(took.as_secs_f64());
        pool.reconnect.seen();
        let proxy = pool.proxy_name();
        if self.last_address.as_ref().is_some_and(|last| *last != client.address) {
            pool.reconnect.failovers.inc();
            info!(%proxy, address = %client.address, "Another address of the database answers now");
        }
        self.last_address = Some(client.address.clone());
        pool.report.leads_to(&client.address);
        if client.route == Route::default() {
            self.warm_refused = None;
        }
        if let Health::Away(outage) = std::mem::replace(&mut self.health, Health::Up) {
            let away = Duration::from_millis(u64::try_from(outage.since.elapsed().as_millis()).unwrap_or(u64::MAX));
            info!(%proxy, address = %client.address, ?away, attempts = outage.attempts, "Reconnected");
            outage.guard.recovered();
        }
        if let Some(outage) = self.carried.take() {
            outage.recovered();
        }
        self.now_is(Health::Up);
    }

    fn failed(&mut self, error: &client::Error, flight: &Flight) {
        let pool = self.pool.clone();
        pool.reconnect.dialed(error.result());
        let verdict = error.verdict();
        if verdict == Verdict::OfTheRoute {
            return self.refused(error, flight);
        }
        pool.is_away_because(error.to_string());
        let proxy = pool.proxy_name();
        if verdict == Verdict::Local {
            warn!(%proxy, %error, "Cannot dial; the database is not to blame");
            self.not_before = Some(Instant::now() + LOCAL_PAUSE);
        } else if !self.health.is_away() {
            self.now_is_away();
            self.retry(error);
        } else if flight.why == Why::Schedule {
            self.retry(error);
        } else {
            debug!(%proxy, %error, "The database is still away");
        }
        drop(pool.change(|slots| slots.dismiss(|_, call| call.is_impatient)));
    }

    /// A refusal of one route is the answer for its waiters, and no outage: where the database gave it, it is up.
    fn refused(&mut self, error: &client::Error, flight: &Flight) {
        warn!(proxy = %self.pool.proxy_name(), %error, side = "database", "The database cannot be logged in to");
        self.pool.report.went_wrong(error.to_string());
        if flight.route == Route::default() {
            self.warm_refused = Some(Instant::now() + REFUSED_PAUSE);
        }
        self.pool.refuse(&flight.route, error.response());
        if matches!(error, client::Error::Refused(..)) {
            if let Health::Away(outage) = std::mem::replace(&mut self.health, Health::Up) {
                outage.guard.recovered();
            }
            self.now_is(Health::Up);
        } else if flight.why == Why::Schedule {
            self.retry(error);
        }
    }

    // --- when to look again ---

    fn next_wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let slots = self.pool.slots.borrow();
        let stale = slots.has_stale().then_some(self.next_stale);
        // Clients that are lent for a transaction come and go too often to be watched each time.
        let look = self.pool.is_managed().then(|| now + LOOK_INTERVAL);
        if self.pool.paused.get() {
            // Nothing is dialed: whoever resumes the pool wakes it.
            return [slots.next_expiry(), look, stale].into_iter().flatten().min();
        }
        let [warm, mended] = [self.losses.not_before, self.warm_refused].map(|at| at.filter(|at| *at > now));
        let (scheduled, probe) = match &self.health {
            Health::Away(outage) => {
                ((self.count(Why::Schedule) == 0).then_some(outage.next), self.may_probe().then_some(outage.next_probe))
            }
            Health::Unknown | Health::Up => (None, None),
        };
        let blocked = self.not_before.filter(|at| *at > now);
        let next = [slots.next_expiry(), look, stale, warm, mended, self.silent_at(), scheduled, probe, blocked]
            .into_iter()
            .flatten()
            .min();
        next.map(|next| blocked.map_or(next, |blocked| next.max(blocked)))
    }
}

impl Drop for Refill {
    fn drop(&mut self) {
        self.now_is(Health::Unknown);
        self.pool.reconnect.forget();
    }
}

// === impl Inner ===

impl Inner {
    pub(super) fn proxy_name(&self) -> Arc<str> {
        self.config.borrow().name.clone()
    }

    fn is_away_because(&self, cause: String) {
        let cause: Arc<str> = cause.into();
        self.report.went_wrong(cause.clone());
        *self.away.borrow_mut() = Some(cause);
    }

    /// How long a dial may be silent: each of the addresses has its turn.
    fn patience(&self) -> Duration {
        PATIENCE * u32::try_from(self.config.borrow().client.addresses.len()).unwrap_or(u32::MAX)
    }
}
