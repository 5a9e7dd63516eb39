//! The limits of time of one session: `sendDeadline`, `receiveDeadline`, `receiveTimeout` and `idleTimeout`. One timer,
//! set anew only when it fires, so that a byte costs no timer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::relay::Direction;
use crate::clock::{Instant, Sleep, sleep_until};
use crate::config::ProxyConfig;

/// Watches one session.
pub(super) struct Watchdog {
    limits: Limits,
    /// Since when bytes for the database are not taken.
    blocked: Option<Instant>,
    /// Since when bytes for the peer are not taken: then nothing is received, and the database owes nothing.
    peer_blocked: Option<Instant>,
    /// Whether the kernel has been asked for patience with a database that takes no bytes.
    is_patient: bool,
    /// Since when the database owes an answer: the last bytes that it was sent.
    unanswered: Option<Instant>,
    has_warned: bool,
    database_closed: bool,
    last: Instant,
    timer: Sleep,
}

/// The limits of one session; `None` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Limits {
    send: Option<Duration>,
    receive: Option<Duration>,
    warn: Option<Duration>,
    idle: Option<Duration>,
    patience: Option<Duration>,
}

/// What a limit that passed asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// The session ends.
    End(Expired),
    /// `client.receiveTimeout`: somebody is told.
    Warn,
    /// `client.tcpUserTimeout` must not end a connection only because the database takes no bytes: the kernel counts
    /// the time with a closed window as silence, although every probe is answered.
    BePatient,
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
            patience: config.client.tcp_user_timeout.map(|limit| limit / 2),
        };
        let now = Instant::now();
        Watchdog {
            limits,
            blocked: None,
            peer_blocked: None,
            is_patient: false,
            unanswered: None,
            has_warned: false,
            database_closed: false,
            last: now,
            timer: sleep_until(now),
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

    /// The peer took `bytes`, `is_all` that there are.
    pub(super) fn sent_to_peer(&mut self, bytes: usize, is_all: bool) {
        let now = Instant::now();
        if bytes > 0 {
            self.last = now;
        }
        if !is_all {
            self.peer_blocked.get_or_insert(now);
        } else if self.peer_blocked.take().is_some() && self.unanswered.is_some() {
            self.unanswered = Some(now);
        }
    }

    /// Whether the kernel was asked for patience that is no longer needed; asking ends it.
    pub(super) fn ends_patience(&mut self) -> bool {
        self.blocked.is_none() && std::mem::take(&mut self.is_patient)
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
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Passed> {
        loop {
            let Some((due, passed)) = self.next_limit() else { return Poll::Pending };
            // The timer may fire early, never late: it is set anew only then, or when a nearer limit appears.
            if due < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.reset(due);
            }
            ready!(Pin::new(&mut self.timer).poll(cx));
            if Instant::now() < due {
                continue;
            }
            match passed {
                Passed::End(_) => {}
                Passed::Warn => self.has_warned = true,
                Passed::BePatient => self.is_patient = true,
            }
            return Poll::Ready(passed);
        }
    }

    /// The nearest limit: when, and what then.
    fn next_limit(&self) -> Option<(Instant, Passed)> {
        let at = |since: Option<Instant>, limit: Option<Duration>| since?.checked_add(limit?);
        let unanswered = self.unanswered.filter(|_| !self.database_closed && self.peer_blocked.is_none());
        let idle = Some(self.last).filter(|_| self.peer_blocked.is_none() && self.blocked.is_none());
        let abandoned = self.database_closed.then_some(ABANDONED);
        let candidates = [
            (at(self.blocked, self.limits.send), Passed::End(Expired::Send)),
            (at(self.blocked.filter(|_| !self.is_patient), self.limits.patience), Passed::BePatient),
            (at(unanswered, self.limits.receive), Passed::End(Expired::Receive)),
            (at(unanswered.filter(|_| !self.has_warned), self.limits.warn), Passed::Warn),
            (at(idle, self.limits.idle), Passed::End(Expired::Idle)),
            (at(idle, abandoned), Passed::End(Expired::Abandoned)),
        ];
        candidates.into_iter().filter_map(|(due, what)| Some((due?, what))).min_by_key(|(due, _)| *due)
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
