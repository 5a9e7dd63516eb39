//! How the database is: dials, the schedule, outages.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{CounterBy, Define};
use crate::clock::Instant;

/// How the database of one proxy is.
#[derive(Clone)]
pub struct ReconnectMetrics {
    /// How long dials took that led to a client, in seconds.
    pub dial_seconds: Histogram,
    /// The wait before the next scheduled dial, in seconds; 0: none.
    pub backoff_seconds: Gauge,
    /// Scheduled dials that failed since the database was last seen.
    pub retry_attempt: IntGauge,
    /// Changes from one of the database's addresses to another.
    pub failovers: IntCounter,
    dial_attempts: CounterBy,
    recovery_seconds: Histogram,
    health: Arc<Mutex<Health>>,
}

/// What the workers' pools of one proxy find: it is up where one has seen it and none misses it.
#[derive(Default)]
struct Health {
    seen: bool,
    missing: usize,
    since: Option<Instant>,
}

/// An outage that the metrics show for as long as it is held.
#[must_use]
pub struct OutageGuard {
    since: Instant,
    metrics: ReconnectMetrics,
}

#[derive(Clone)]
pub(super) struct Families {
    dial_attempts: IntCounterVec,
    dial_seconds: HistogramVec,
    backoff_seconds: GaugeVec,
    retry_attempt: IntGaugeVec,
    database_up: IntGaugeVec,
    outage_seconds: GaugeVec,
    recovery_seconds: HistogramVec,
    failovers: IntCounterVec,
    health: Arc<Mutex<Vec<Known>>>,
}

/// A proxy, and how its database is.
type Known = (Arc<str>, Arc<Mutex<Health>>);

/// From loopback to the default `dialTimeout`.
const DIAL_SECONDS: &[f64] = &[0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];
/// From a restart to a bad day.
const RECOVERY_SECONDS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0];

// === impl ReconnectMetrics ===

impl ReconnectMetrics {
    /// Counts a dial by its result.
    pub fn dialed(&self, result: &str) {
        self.dial_attempts.with(result).inc();
    }

    /// How many dials have ended, and how many of them without a client.
    pub fn dials(&self) -> (u64, u64) {
        (self.dial_attempts.all_but(""), self.dial_attempts.all_but("ok"))
    }

    /// How many dials ended with this result.
    #[cfg(test)]
    pub(crate) fn attempts(&self, result: &str) -> u64 {
        self.dial_attempts.with(result).get()
    }

    /// The database answered a dial.
    pub fn seen(&self) {
        lock(&self.health).seen = true;
    }

    /// The database is not wanted any more.
    pub fn forget(&self) {
        lock(&self.health).seen = false;
    }

    /// The database did not answer; dropping the guard says that it is back, or no longer wanted.
    pub fn outage(&self) -> OutageGuard {
        let since = Instant::now();
        let mut health = lock(&self.health);
        health.missing += 1;
        health.since.get_or_insert(since);
        drop(health);
        OutageGuard { since, metrics: self.clone() }
    }

    /// Whether the database has been seen, and nobody misses it.
    pub fn is_up(&self) -> bool {
        lock(&self.health).is_up()
    }
}

// === impl Health ===

impl Health {
    fn is_up(&self) -> bool {
        self.seen && self.missing == 0
    }
}

// === impl OutageGuard ===

impl OutageGuard {
    /// The database is back: how long it was away is recorded.
    pub fn recovered(self) {
        self.metrics.recovery_seconds.observe(self.since.elapsed().as_secs_f64());
    }
}

impl Drop for OutageGuard {
    fn drop(&mut self) {
        let mut health = lock(&self.metrics.health);
        health.missing -= 1;
        if health.missing == 0 {
            health.since = None;
        }
    }
}

// === impl Families ===

impl Families {
    pub(super) fn new(define: &Define<'_>) -> Result<Families, prometheus::Error> {
        Ok(Families {
            dial_attempts: define.counters(
                "dial_attempts_total",
                "Attempts to connect to the database, by result.",
                &["proxy", "result"],
            )?,
            dial_seconds: define.histograms("dial_seconds", "How long successful dials took.", DIAL_SECONDS)?,
            backoff_seconds: define
                .gauges_of_seconds("backoff_seconds", "The wait before the next scheduled dial; 0 is none.")?,
            retry_attempt: define.gauges(
                "retry_attempt",
                "Scheduled dials that failed since the database was last seen; 0 while it is up.",
                &["proxy"],
            )?,
            database_up: define.gauges("database_up", "1 while the database answers dials, else 0.", &["proxy"])?,
            outage_seconds: define
                .gauges_of_seconds("outage_seconds", "How long the database has been away; 0 while it is up.")?,
            recovery_seconds: define.histograms(
                "recovery_seconds",
                "How long the database was away, each time that it came back.",
                RECOVERY_SECONDS,
            )?,
            failovers: define.counters(
                "failovers_total",
                "Changes from one of the database's addresses to another.",
                &["proxy"],
            )?,
            health: Arc::default(),
        })
    }

    pub(super) fn of(&self, proxy: &Arc<str>) -> ReconnectMetrics {
        ReconnectMetrics {
            dial_seconds: self.dial_seconds.with_label_values(&[proxy]),
            backoff_seconds: self.backoff_seconds.with_label_values(&[proxy]),
            retry_attempt: self.retry_attempt.with_label_values(&[proxy]),
            failovers: self.failovers.with_label_values(&[proxy]),
            dial_attempts: CounterBy { counters: self.dial_attempts.clone(), proxy: proxy.clone() },
            recovery_seconds: self.recovery_seconds.with_label_values(&[proxy]),
            health: self.health_of(proxy),
        }
    }

    /// Brings the gauges that follow the clock up to now.
    pub(super) fn refresh(&self) {
        for (proxy, health) in lock(&self.health).iter() {
            let health = lock(health);
            if !health.seen && health.missing == 0 {
                // Nobody dialed yet, or any more, or it is a UDP database, of which a dial proves nothing. Where there
                // was no such series there is none to remove.
                let _ = self.database_up.remove_label_values(&[proxy]);
                let _ = self.outage_seconds.remove_label_values(&[proxy]);
                continue;
            }
            self.database_up.with_label_values(&[proxy]).set(i64::from(health.is_up()));
            let away = health.since.map_or(0.0, |since| since.elapsed().as_secs_f64());
            self.outage_seconds.with_label_values(&[proxy]).set(away);
        }
    }

    fn health_of(&self, proxy: &Arc<str>) -> Arc<Mutex<Health>> {
        let mut all = lock(&self.health);
        if let Some((_, health)) = all.iter().find(|(known, _)| known == proxy) {
            return health.clone();
        }
        let health = Arc::<Mutex<Health>>::default();
        all.push((proxy.clone(), health.clone()));
        health
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while it holds one of these; should it, the numbers are still good.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
