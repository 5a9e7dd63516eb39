//! The limits of time of one session: `sendDeadline`, `receiveDeadline`, `receiveTimeout` and `idleTimeout`. One timer,
//! set anew only when it fires, so that a byte costs no timer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tracing::warn;

use super::relay::Direction;
use crate::config::ProxyConfig;
use crate::metrics::SessionMetrics;

/// Watches one session.
pub(super) struct Watchdog {
    limits: Limits,
    /// Since when bytes for the database are not taken.
    blocked: Option<Instant>,
    /// Since when the database owes an answer: the last bytes that it was sent.
    unanswered: Option<Instant>,
    has_warned: bool,
    database_closed: bool,
    last: Instant,
    timer: Pin<Box<Sleep>>,
}

/// The limits of one session; `None` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Limits {
    send: Option<Duration>,
    receive: Option<Duration>,
    warn: Option<Duration>,
    idle: Option<Duration>,
}

/// Which limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// `client.sendDeadline`.
    Send,
    /// `client.receiveDeadline`.
    Receive,
    /// `server.idleTimeout`.
    Idle,
    /// The database has closed its half, and the peer says nothing more either.
    Abandoned,
}

/// How long a peer may be silent after the database has closed its half: a peer in a pool may not notice for hours,
/// and would keep a client from others.
const ABANDONED: Duration = Duration::from_secs(10);

// === impl Watchdog ===

impl Watchdog {
    pub(super) fn new(config: &ProxyConfig) -> Watchdog {
        let limits = Limits {
            send: config.client.send_deadline,
            receive: config.client.receive_deadline,
            warn: config.client.receive_timeout,
            idle: config.server.idle_timeout,
        };
        let now = Instant::now();
        Watchdog {
            limits,
            blocked: None,
            unanswered: None,
            has_warned: false,
            database_closed: false,
            last: now,
            timer: Box::pin(sleep_until(now)),
        }
    }

    /// Whether `config` sets any limit, so that its sessions are watched from the beginning.
    pub(super) fn is_needed(config: &ProxyConfig) -> bool {
        let client = &config.client;
        let limits =
            [client.send_deadline, client.receive_deadline, client.receive_timeout, config.server.idle_timeout];
        limits.iter().any(Option::is_some)
    }

    /// Bytes arrived, going in `direction`.
    pub(super) fn received(&mut self, direction: Direction) {
        self.last = Instant::now();
        if direction == Direction::ToPeer {
            self.unanswered = None;
            self.has_warned = false;
        }
    }

    /// The database took `bytes`, `is_all` that there are.
    pub(super) fn sent(&mut self, bytes: usize, is_all: bool) {
        let now = Instant::now();
        if bytes > 0 {
            self.last = now;
            self.unanswered = Some(now);
        }
        if is_all {
            self.blocked = None;
        } else {
            self.blocked.get_or_insert(now);
        }
    }

    /// The database has closed its half of the connection.
    pub(super) fn database_closed(&mut self) {
        self.last = Instant::now();
        self.database_closed = true;
    }

    /// Ready when a limit has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, metrics: &SessionMetrics) -> Poll<Expired> {
        loop {
            let Some((due, limit)) = self.next_limit() else { return Poll::Pending };
            // The timer may fire early, never late: it is set anew only then, or when a nearer limit appears.
            if due < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(due);
            }
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() < due {
                continue;
            }
            match limit {
                Some(expired) => return Poll::Ready(expired),
                None => self.warn(metrics),
            }
        }
    }

    /// The nearest limit: when, and what then; `None` is the warning.
    fn next_limit(&self) -> Option<(Instant, Option<Expired>)> {
        let at = |since: Option<Instant>, limit: Option<Duration>| since?.checked_add(limit?);
        let unanswered = self.unanswered.filter(|_| !self.database_closed);
        let abandoned = self.database_closed.then_some(ABANDONED);
        let candidates = [
            (at(self.blocked, self.limits.send), Some(Expired::Send)),
            (at(unanswered, self.limits.receive), Some(Expired::Receive)),
            (at(unanswered.filter(|_| !self.has_warned), self.limits.warn), None),
            (at(Some(self.last), self.limits.idle), Some(Expired::Idle)),
            (at(Some(self.last), abandoned), Some(Expired::Abandoned)),
        ];
        candidates.into_iter().filter_map(|(due, what)| Some((due?, what))).min_by_key(|(due, _)| *due)
    }

    fn warn(&mut self, metrics: &SessionMetrics) {
        self.has_warned = true;
        metrics.receive_timeouts.inc();
        let limit = self.limits.warn.unwrap_or_default();
        warn!(side = "database", ?limit, "The database has not answered within receiveTimeout; still waiting");
    }
}

// === impl Expired ===

impl Expired {
    /// The limit as a metric's label.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Expired::Send => "send_deadline",
            Expired::Receive => "receive_deadline",
            Expired::Idle => "idle_timeout",
            Expired::Abandoned => "database",
        }
    }

    /// Whether something may have been cut off.
    pub(crate) fn is_abrupt(self) -> bool {
        matches!(self, Expired::Send | Expired::Receive)
    }
}
