//! What happens to peers: sessions, bytes, refusals.

use std::sync::Arc;

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{CounterBy, Define, GaugeGuard};

/// What happens to the peers of one proxy.
#[derive(Clone)]
pub struct SessionMetrics {
    /// Bytes that were sent to the database.
    pub bytes_to_database: IntCounter,
    /// Bytes that were sent to peers.
    pub bytes_to_peer: IntCounter,
    /// Times that the database was silent for longer than `receiveTimeout`.
    pub receive_timeouts: IntCounter,
    /// How long sessions lasted, in seconds.
    pub seconds: prometheus::Histogram,
    open: IntGauge,
    accepted: IntCounter,
    refused: CounterBy,
    closed: CounterBy,
    hook_errors: CounterBy,
}

#[derive(Clone)]
pub(super) struct Families {
    open: IntGaugeVec,
    accepted: IntCounterVec,
    refused: IntCounterVec,
    closed: IntCounterVec,
    seconds: HistogramVec,
    bytes: IntCounterVec,
    receive_timeouts: IntCounterVec,
    hook_errors: IntCounterVec,
}

/// From one exchange on loopback to a report that runs for a day.
const SECONDS: &[f64] = &[0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0];

/// Reasons of refusals that are there from the start, because what begins at 1 is no increase: those that the gateway's own
/// limits and the database bring about.
const REFUSALS: [&str; 5] = ["busy", "database_away", "max_peers", "max_waiting", "file_descriptors"];

// === impl SessionMetrics ===

impl SessionMetrics {
    /// A session, counted for as long as the guard is held.
    pub fn open(&self) -> GaugeGuard {
        self.accepted.inc();
        GaugeGuard::new(&self.open)
    }

    /// Counts a peer that was turned away.
    pub fn refused(&self, reason: &str) {
        self.refused.with(reason).inc();
    }

    /// Counts a session's end.
    pub fn closed(&self, reason: &str) {
        self.closed.with(reason).inc();
    }

    /// How many peers were accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.get()
    }

    /// How many peers were turned away, for whatever reason.
    pub fn all_refused(&self) -> u64 {
        self.refused.all_but("")
    }

    /// Counts a failure of a hook.
    pub fn hook_failed(&self, hook: &str) {
        self.hook_errors.with(hook).inc();
    }
}

// === impl Families ===

impl Families {
    pub(super) fn new(define: &Define<'_>) -> Result<Families, prometheus::Error> {
        Ok(Families {
            open: define.gauges("sessions", "Peers that are served or wait now.", &["proxy"])?,
            accepted: define.counters("sessions_total", "Peers that were accepted.", &["proxy"])?,
            refused: define.counters(
                "sessions_refused_total",
                "Peers that were turned away, by reason.",
                &["proxy", "reason"],
            )?,
            closed: define.counters(
                "sessions_closed_total",
                "Sessions that ended, by what ended them.",
                &["proxy", "reason"],
            )?,
            seconds: define.histograms("session_seconds", "How long sessions lasted.", SECONDS)?,
            bytes: define.counters("bytes_total", "Bytes that were sent on.", &["proxy", "direction"])?,
            receive_timeouts: define.counters(
                "receive_timeouts_total",
                "Times that the database was silent for longer than receiveTimeout.",
                &["proxy"],
            )?,
            hook_errors: define.counters("hook_errors_total", "Times that a hook failed.", &["proxy", "hook"])?,
        })
    }

    pub(super) fn of(&self, proxy: &Arc<str>) -> SessionMetrics {
        let by = |counters: &IntCounterVec| CounterBy { counters: counters.clone(), proxy: proxy.clone() };
        let refused = by(&self.refused);
        for reason in REFUSALS {
            refused.with(reason);
        }
        SessionMetrics {
            bytes_to_database: self.bytes.with_label_values(&[&**proxy, "to_database"]),
            bytes_to_peer: self.bytes.with_label_values(&[&**proxy, "to_peer"]),
            receive_timeouts: self.receive_timeouts.with_label_values(&[proxy]),
            seconds: self.seconds.with_label_values(&[proxy]),
            open: self.open.with_label_values(&[proxy]),
            accepted: self.accepted.with_label_values(&[proxy]),
            refused,
            closed: by(&self.closed),
            hook_errors: by(&self.hook_errors),
        }
    }
}
