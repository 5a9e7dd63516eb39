//! What a proxy of `protocol: postgres` sees: queries, transactions, statements, logins.

use std::sync::Arc;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::{CounterBy, Define};
use crate::postgres::cancel::Outcome;
use crate::postgres::exchange::Tally;

/// What the peers of one proxy do in PostgreSQL's terms.
#[derive(Clone)]
pub struct PostgresMetrics {
    /// How long the database took for an answer, in seconds.
    pub query_seconds: Histogram,
    /// Logins of peers that were refused.
    pub auth_failures: IntCounter,
    queries: IntCounter,
    transactions: IntCounter,
    parses: CounterBy,
    pins: CounterBy,
    cancels: CounterBy,
}

#[derive(Clone)]
pub(super) struct Families {
    query_seconds: HistogramVec,
    auth_failures: IntCounterVec,
    queries: IntCounterVec,
    transactions: IntCounterVec,
    parses: IntCounterVec,
    pins: IntCounterVec,
    cancels: IntCounterVec,
}

/// From a look at one row on loopback to a report.
const SECONDS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];

// === impl PostgresMetrics ===

impl PostgresMetrics {
    /// Counts what has happened.
    pub fn note(&self, tally: &Tally) {
        if tally.answered > 0 {
            self.queries.inc_by(tally.answered);
            self.transactions.inc_by(tally.transactions);
        }
        if tally.parses_saved > 0 {
            self.parses.with("saved").inc_by(tally.parses_saved);
        }
        if tally.parses_added > 0 {
            self.parses.with("added").inc_by(tally.parses_added);
        }
        if let Some(pin) = tally.pinned {
            self.pins.with(pin.reason()).inc();
        }
    }

    /// Times that the database was ready for the next query.
    pub fn queries(&self) -> u64 {
        self.queries.get()
    }

    /// Transactions that ended.
    pub fn transactions(&self) -> u64 {
        self.transactions.get()
    }

    /// Counts a request to cancel.
    pub fn cancelled(&self, outcome: Outcome) {
        self.cancels.with(outcome.result()).inc();
    }
}

// === impl Families ===

impl Families {
    pub(super) fn new(define: &Define<'_>) -> Result<Families, prometheus::Error> {
        let seconds = "How long the database took until it was ready for the next query.";
        Ok(Families {
            query_seconds: define.histograms("query_seconds", seconds, SECONDS)?,
            auth_failures: define.counters(
                "auth_failures_total",
                "Peers whose login was refused by the gateway.",
                &["proxy"],
            )?,
            queries: define.counters(
                "queries_total",
                "Times that the database was ready for the next query.",
                &["proxy"],
            )?,
            transactions: define.counters("transactions_total", "Transactions that ended.", &["proxy"])?,
            parses: define.counters(
                "parses_total",
                "Parse messages that the gateway answered itself (saved), or sent for a peer (added).",
                &["proxy", "result"],
            )?,
            pins: define.counters(
                "pins_total",
                "Clients that stay with their peer for the rest of its session, by reason.",
                &["proxy", "reason"],
            )?,
            cancels: define.counters(
                "cancels_total",
                "Requests to cancel a query, by result.",
                &["proxy", "result"],
            )?,
        })
    }

    pub(super) fn of(&self, proxy: &Arc<str>) -> PostgresMetrics {
        let by = |counters: &IntCounterVec| CounterBy { counters: counters.clone(), proxy: proxy.clone() };
        PostgresMetrics {
            query_seconds: self.query_seconds.with_label_values(&[proxy]),
            auth_failures: self.auth_failures.with_label_values(&[proxy]),
            queries: self.queries.with_label_values(&[proxy]),
            transactions: self.transactions.with_label_values(&[proxy]),
            parses: by(&self.parses),
            pins: by(&self.pins),
            cancels: by(&self.cancels),
        }
    }
}
