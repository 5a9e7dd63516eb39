//! What the pool has: its clients by state, the peers that wait, and for how long they did.

use std::sync::Arc;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{CounterBy, Define};

/// What the pool of one proxy has.
#[derive(Clone)]
pub struct PoolMetrics {
    /// The most clients there may be, all workers together.
    pub size: IntGauge,
    /// Clients that are warm.
    pub idle: IntGauge,
    /// Clients that serve a session.
    pub lent: IntGauge,
    /// Clients that are being dialed.
    pub dialing: IntGauge,
    /// Peers that wait for a client.
    pub waiting: IntGauge,
    /// How long peers waited until they had a client, in seconds.
    pub wait_seconds: Histogram,
    /// Clients that were destroyed because of a doubt.
    pub desync: IntCounter,
    clients_closed: CounterBy,
}

#[derive(Clone)]
pub(super) struct Families {
    size: IntGaugeVec,
    clients: IntGaugeVec,
    waiting: IntGaugeVec,
    wait_seconds: HistogramVec,
    desync: IntCounterVec,
    clients_closed: IntCounterVec,
}

/// From a client that is free at once to the default `acquireTimeout` and beyond.
const WAIT_SECONDS: &[f64] = &[0.0001, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0];

// === impl PoolMetrics ===

impl PoolMetrics {
    /// Counts a client's end.
    pub fn client_closed(&self, reason: &str) {
        self.clients_closed.with(reason).inc();
    }
}

// === impl Families ===

impl Families {
    pub(super) fn new(define: &Define<'_>) -> Result<Families, prometheus::Error> {
        Ok(Families {
            size: define.gauges("pool_size", "The most clients there may be, all workers together.", &["proxy"])?,
            clients: define.gauges("pool_clients", "Connections to the database, by state.", &["proxy", "state"])?,
            waiting: define.gauges("pool_waiting", "Peers that wait for a client now.", &["proxy"])?,
            wait_seconds: define.histograms(
                "pool_wait_seconds",
                "How long peers waited until they had a client.",
                WAIT_SECONDS,
            )?,
            desync: define.counters("desync_total", "Clients that were destroyed because of a doubt.", &["proxy"])?,
            clients_closed: define.counters(
                "clients_closed_total",
                "Connections to the database that were closed, by reason.",
                &["proxy", "reason"],
            )?,
        })
    }

    pub(super) fn of(&self, proxy: &Arc<str>) -> PoolMetrics {
        let clients = |state| self.clients.with_label_values(&[&**proxy, state]);
        PoolMetrics {
            size: self.size.with_label_values(&[proxy]),
            idle: clients("idle"),
            lent: clients("lent"),
            dialing: clients("dialing"),
            waiting: self.waiting.with_label_values(&[proxy]),
            wait_seconds: self.wait_seconds.with_label_values(&[proxy]),
            desync: self.desync.with_label_values(&[proxy]),
            clients_closed: CounterBy { counters: self.clients_closed.clone(), proxy: proxy.clone() },
        }
    }
}
