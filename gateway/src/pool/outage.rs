//! What is known of the database, and the schedule by which it is dialed while it is away.

use std::time::Duration;

use tracing::warn;

use super::Inner;
use crate::client;
use crate::client::backoff::Backoff;
use crate::clock::Instant;
use crate::metrics::OutageGuard;

/// What is known of the database.
pub(super) enum Health {
    /// Nobody dialed yet.
    Unknown,
    /// The last dial succeeded.
    Up,
    /// The last dial failed.
    Away(Box<Outage>),
}

/// The schedule while the database is away.
pub(super) struct Outage {
    pub(super) guard: OutageGuard,
    pub(super) since: Instant,
    schedule: Backoff,
    /// When the next attempt is due.
    pub(super) next: Instant,
    /// When the next one is due beside the schedule, for who waits.
    pub(super) next_probe: Instant,
    pub(super) attempts: u32,
    /// Whether the schedule is over.
    pub(super) is_down: bool,
}

/// So many attempts may follow one another without a pause, where the configuration has none.
const AT_ONCE: u32 = 10;
/// The least pause between further ones: nothing spins.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// As good as never.
const FAR_AWAY: Duration = Duration::from_hours(24 * 365);

// === impl Health ===

impl Health {
    pub(super) fn is_away(&self) -> bool {
        matches!(self, Health::Away(_))
    }
}

// === impl Outage ===

impl Outage {
    /// The schedule's beginning: the first attempt has just failed. It may go on with an outage of before.
    pub(super) fn begin(pool: &Inner, carried: Option<OutageGuard>) -> Box<Outage> {
        let now = Instant::now();
        let schedule = Backoff::new(&pool.config.borrow().client.retry);
        let guard = carried.unwrap_or_else(|| pool.reconnect.outage());
        let next_probe = after(pool.probe_interval());
        Box::new(Outage { guard, since: now, schedule, next: now, next_probe, attempts: 0, is_down: false })
    }

    /// Plans the next scheduled attempt; after the last of a round the pool goes on at the pace of its last wait.
    pub(super) fn retry(&mut self, pool: &Inner, error: &client::Error) {
        self.attempts += 1;
        let (proxy, attempt) = (pool.proxy_name(), self.attempts);
        let (mut wait, is_down) = match self.schedule.next() {
            Some(wait) => (pool.jittered(wait), false),
            None => (pool.jittered(self.schedule.clamped_last()), true),
        };
        if attempt > AT_ONCE {
            wait = wait.max(LEAST_PAUSE);
        }
        self.next = after(wait);
        pool.reconnect.backoff_seconds.set(wait.as_secs_f64());
        pool.reconnect.retry_attempt.set(attempt.into());
        self.is_down = is_down;
        if is_down {
            warn!(%proxy, %error, side = "database", attempt, ?wait, "The database is down; still trying");
        } else {
            warn!(%proxy, %error, side = "database", attempt, ?wait, "The database is away; reconnecting");
        }
    }
}

/// The time when `wait` is over; a wait without the caps may be longer than time can tell.
pub(super) fn after(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now + FAR_AWAY)
}

// === impl Inner ===

impl Inner {
    pub(super) fn probe_interval(&self) -> Duration {
        let interval = self.config.borrow().client.probe.unwrap_or(Duration::ZERO);
        self.random.part_of(interval, 0.5, 1.0)
    }

    fn jittered(&self, wait: Duration) -> Duration {
        let jitter = self.config.borrow().client.retry.jitter;
        self.random.part_of(wait, 1.0 - jitter, 1.0)
    }
}
