//! What peers have had of a proxy, as PgBouncer counts it: all in all, and on average lately. Pure.

use std::ops::{Add, Sub};
use std::time::Duration;

use super::table::{Cell, Row};
use crate::metrics::ProxyMetrics;

/// What has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// Clients that peers were lent.
    pub(super) assignments: u64,
    pub(super) transactions: u64,
    pub(super) queries: u64,
    /// Bytes from peers.
    pub(super) received: u64,
    /// Bytes to peers.
    pub(super) sent: u64,
    /// Until the database had answered, in seconds, added up.
    pub(super) query_seconds: f64,
    /// Until peers had a client, in seconds, added up.
    pub(super) wait_seconds: f64,
}

/// What each value is called in `SHOW TOTALS`.
pub(super) const NAMES: [&str; 11] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
];

// === impl Usage ===

impl Usage {
    /// What `metrics` say now.
    pub(super) fn of(metrics: &ProxyMetrics) -> Usage {
        let totals = metrics.totals();
        Usage {
            assignments: metrics.pool.wait_seconds.get_sample_count(),
            transactions: totals.transactions,
            queries: totals.queries,
            received: totals.bytes_to_database,
            sent: totals.bytes_to_peers,
            query_seconds: metrics.postgres.query_seconds.get_sample_sum(),
            wait_seconds: metrics.pool.wait_seconds.get_sample_sum(),
        }
    }

    /// In the order of [`NAMES`]; times are microseconds.
    pub(super) fn totals(&self) -> Row {
        let counts = [self.assignments, self.transactions, self.queries, self.received, self.sent];
        let counts = counts.map(Cell::Number).into_iter();
        let times = [Cell::Null, micros(self.query_seconds), micros(self.wait_seconds)];
        counts.chain(times).chain(UNKNOWN).collect()
    }

    /// The same for each second of `time`; times for each query, and for each client that was lent.
    pub(super) fn averages(&self, time: Duration) -> Row {
        let seconds = time.as_secs_f64();
        let each_second = |count: u64| Cell::Number(if seconds > 0.0 { whole(real(count) / seconds) } else { 0 });
        let counts = [self.assignments, self.transactions, self.queries, self.received, self.sent];
        let each = |seconds: f64, count: u64| if count > 0 { micros(seconds / real(count)) } else { Cell::Number(0) };
        let query_time = each(self.query_seconds, self.queries);
        let wait_time = each(self.wait_seconds, self.assignments);
        let times = [Cell::Null, query_time, wait_time];
        counts.map(each_second).into_iter().chain(times).chain(UNKNOWN).collect()
    }
}

/// What the gateway does not count: Parse messages of peers, those to the database, and Binds.
const UNKNOWN: [Cell; 3] = [Cell::Null, Cell::Null, Cell::Null];

impl Add for Usage {
    type Output = Usage;

    fn add(self, other: Usage) -> Usage {
        Usage {
            assignments: self.assignments + other.assignments,
            transactions: self.transactions + other.transactions,
            queries: self.queries + other.queries,
            received: self.received + other.received,
            sent: self.sent + other.sent,
            query_seconds: self.query_seconds + other.query_seconds,
            wait_seconds: self.wait_seconds + other.wait_seconds,
        }
    }
}

impl Sub for Usage {
    type Output = Usage;

    fn sub(self, earlier: Usage) -> Usage {
        Usage {
            assignments: self.assignments.saturating_sub(earlier.assignments),
            transactions: self.transactions.saturating_sub(earlier.transactions),
            queries: self.queries.saturating_sub(earlier.queries),
            received: self.received.saturating_sub(earlier.received),
            sent: self.sent.saturating_sub(earlier.sent),
            query_seconds: (self.query_seconds - earlier.query_seconds).max(0.0),
            wait_seconds: (self.wait_seconds - earlier.wait_seconds).max(0.0),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "an average need not be more exact than a float")]
fn real(count: u64) -> f64 {
    count as f64
}

fn micros(seconds: f64) -> Cell {
    Cell::Number(whole(seconds * 1e6))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it saturates, and nothing here is negative"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_those_of_the_time_between_two_looks() {
        let earlier = Usage { queries: 100, query_seconds: 1.0, ..Usage::default() };
        let now = Usage { assignments: 10, queries: 400, sent: 3000, query_seconds: 1.6, wait_seconds: 0.5, ..earlier };
        let numbers = |row: Row| {
            row.into_iter()
                .map(|cell| if let Cell::Number(number) = cell { Some(number) } else { None })
                .collect::<Vec<_>>()
        };
        let none = [None; 3];
        let averages = numbers((now - earlier).averages(Duration::from_secs(30)));
        assert_eq!(averages[..5], [0, 0, 10, 0, 100].map(Some));
        assert_eq!((averages[5], averages[6], averages[7]), (None, Some(2000), Some(50_000)));
        assert_eq!(averages[8..], none);
        assert_eq!(
            numbers(now.totals())[..8],
            [Some(10), Some(0), Some(400), Some(0), Some(3000), None, Some(1_600_000), Some(500_000)]
        );
        assert_eq!(numbers(Usage::default().averages(Duration::ZERO))[..5], [Some(0); 5]);
        assert_eq!((now - earlier) + earlier, now);
    }
}
