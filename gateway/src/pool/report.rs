//! What is told of a pool: its counts, its clients, and what the refill knows of the database.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::outage::Health;
use super::{Inner, Pool};
use crate::client::Note;
use crate::client::backoff::Backoff;
use crate::clock::Instant;
use crate::config::Address;
use crate::view::{ClientState, ClientView, DatabaseState, DatabaseView, ErrorView, PoolView, RetryView, seconds};

/// What the refill has told of the database.
pub(super) struct Report {
    standing: Cell<Standing>,
    /// Where the newest client leads, and since when.
    newest: RefCell<Option<(Address, Instant)>>,
    /// What went wrong last, and when.
    trouble: RefCell<Option<(Arc<str>, Instant)>>,
}

/// How the database is, and how it is dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    state: DatabaseState,
    since: Instant,
    attempts: u32,
    /// When the next scheduled dial is due; none where one is under way.
    next: Option<Instant>,
}

/// Of a schedule so many waits are told.
const MOST_WAITS: usize = 64;

// === impl Report ===

impl Report {
    /// Nothing is known yet.
    pub(super) fn new() -> Report {
        let standing = Standing { state: DatabaseState::Unknown, since: Instant::now(), attempts: 0, next: None };
        Report { standing: Cell::new(standing), newest: RefCell::default(), trouble: RefCell::default() }
    }

    /// This is how the database is, and whether a scheduled dial of it is under way.
    pub(super) fn tell(&self, health: &Health, is_dialing: bool) {
        let before = self.standing.get();
        let now = match health {
            Health::Unknown => Standing { state: DatabaseState::Unknown, attempts: 0, next: None, ..before },
            Health::Up => Standing { state: DatabaseState::Up, attempts: 0, next: None, ..before },
            Health::Away(outage) => Standing {
                state: if outage.is_down { DatabaseState::Down } else { DatabaseState::Away },
                since: outage.since,
                attempts: outage.attempts,
                next: Some(outage.next).filter(|_| !is_dialing),
            },
        };
        let is_new = now.state != before.state && !matches!(health, Health::Away(_));
        self.standing.set(Standing { since: if is_new { Instant::now() } else { now.since }, ..now });
    }

    /// A dial led to this address.
    pub(super) fn leads_to(&self, address: &Address) {
        *self.newest.borrow_mut() = Some((address.clone(), Instant::now()));
    }

    /// Something went wrong.
    pub(super) fn went_wrong(&self, what: impl Into<Arc<str>>) {
        *self.trouble.borrow_mut() = Some((what.into(), Instant::now()));
    }
}

// === impl Pool ===

impl Pool {
    /// How many clients are connected, those included that are not the pool's yet, or not any more.
    pub(crate) fn open(&self) -> usize {
        self.inner.context.roll.len()
    }

    /// At most `most` of the clients.
    pub(crate) fn list(&self, most: usize, now: Instant) -> Vec<ClientView> {
        let chosen = self.inner.context.roll.first(most, |note| note.state.get(), |note| note.number);
        chosen.iter().map(|note| note.view(now)).collect()
    }

    /// What is told of the pool.
    pub(crate) fn view(&self, now: Instant) -> PoolView {
        let (slots, config) = (self.inner.slots.borrow(), self.inner.pool_config());
        let counts = slots.counts();
        PoolView {
            size: slots.size(),
            min_idle: config.min_idle,
            idle: counts.idle,
            lent: counts.lent,
            dialing: counts.dialing,
            waiting: counts.waiting,
            longest_wait_seconds: slots.waiting_since().map_or(0.0, |since| seconds(since, now)),
            resetting: self.resetting(),
            paused: self.inner.paused.get(),
        }
    }

    fn resetting(&self) -> usize {
        let is_resetting = |note: &Note| note.state.get() == ClientState::Resetting;
        self.inner.context.roll.count(is_resetting)
    }

    /// What is told of the database.
    pub(crate) fn database(&self, now: Instant) -> DatabaseView {
        let Inner { report, config, away, .. } = &*self.inner;
        let (config, standing) = (config.borrow(), report.standing.get());
        let is_away = standing.state > DatabaseState::Up;
        let newest = report.newest.borrow();
        let error =
            |(text, at): &(Arc<str>, Instant)| ErrorView { ago_seconds: seconds(*at, now), text: text.to_string() };
        let retry = || {
            let schedule = Backoff::new(&config.client.retry);
            RetryView {
                attempt: standing.attempts,
                of: u64::from(config.client.retry.retries) + 1,
                round: if standing.state == DatabaseState::Down { 2 } else { 1 },
                next_dial_seconds: standing.next.map(|next| seconds(now, next)),
                pace_seconds: schedule.clamped_last().as_secs_f64(),
                waits: schedule.take(MOST_WAITS).map(|wait| wait.as_secs_f64()).collect(),
            }
        };
        DatabaseView {
            state: standing.state,
            since_seconds: seconds(standing.since, now),
            addresses: config.client.addresses.iter().map(ToString::to_string).collect(),
            current: newest.as_ref().map(|(address, _)| address.to_string()),
            current_seconds: newest.as_ref().map_or(0.0, |(_, at)| seconds(*at, now)),
            cause: away.borrow().as_ref().filter(|_| standing.state != DatabaseState::Up).map(ToString::to_string),
            last_error: report.trouble.borrow().as_ref().map(error),
            retry: is_away.then(retry),
        }
    }
}
