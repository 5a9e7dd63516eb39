//! Every metric: its name, its help, its labels. Counters count where it happens, gauges are guards that count
//! themselves in and out, and label sets are resolved once, never on the way of a byte.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Metric, MetricFamily};
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

pub mod session;
pub mod pool;
pub mod reconnect;
pub mod postgres;

pub use pool::PoolMetrics;
pub use postgres::PostgresMetrics;
pub use reconnect::{OutageGuard, ReconnectMetrics};
pub use session::SessionMetrics;

use crate::view::Totals;

/// All metrics of the process.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    session: session::Families,
    pool: pool::Families,
    reconnect: reconnect::Families,
    postgres: postgres::Families,
    reloads: IntCounterVec,
    generation: IntGauge,
}

/// The metrics of one proxy, with their labels resolved; the workers share them.
#[derive(Clone)]
pub struct ProxyMetrics {
    /// What happens to peers.
    pub session: SessionMetrics,
    /// What the pool has.
    pub pool: PoolMetrics,
    /// How the database is.
    pub reconnect: ReconnectMetrics,
    /// What is asked of it, where the protocol is understood.
    pub postgres: PostgresMetrics,
}

/// Counts itself in when made, and out when dropped.
#[derive(Debug)]
#[must_use]
pub struct GaugeGuard(IntGauge);

/// Defines metrics in one registry: the prefix `postern_`, and the label `proxy` first.
struct Define<'a>(&'a Registry);

// === impl Metrics ===

impl Metrics {
    /// Registers every metric with a registry of its own.
    ///
    /// # Errors
    /// A name that is taken or malformed: a defect of these files.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let define = Define(&registry);
        let build = define.gauges("build_info", "The version that runs; always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let generation = IntGauge::new("postern_config_generation", "Configurations applied since the start.")?;
        let reloads = define.counters("config_reloads_total", "Changed configurations, by result.", &["result"])?;
        // Both are there from the start: what begins at 1 is no increase.
        for result in ["applied", "refused"] {
            reloads.with_label_values(&[result]);
        }
        Ok(Metrics {
            session: session::Families::new(&define)?,
            pool: pool::Families::new(&define)?,
            reconnect: reconnect::Families::new(&define)?,
            postgres: postgres::Families::new(&define)?,
            reloads,
            generation: define.register(generation)?,
            registry,
        })
    }

    /// The metrics of the proxy called `name`.
    pub fn proxy(&self, name: &Arc<str>) -> ProxyMetrics {
        ProxyMetrics {
            session: self.session.of(name),
            pool: self.pool.of(name),
            reconnect: self.reconnect.of(name),
            postgres: self.postgres.of(name),
        }
    }

    /// Counts a configuration that was applied, the first included.
    pub fn config_applied(&self) {
        self.reloads.with_label_values(&["applied"]).inc();
        self.generation.inc();
    }

    /// Counts a changed configuration that was refused.
    pub fn config_refused(&self) {
        self.reloads.with_label_values(&["refused"]).inc();
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// A metric that cannot be written: a defect of these files.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        self.reconnect.refresh();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

// === impl ProxyMetrics ===

impl ProxyMetrics {
    /// What has happened since the start of the process.
    pub fn totals(&self) -> Totals {
        let (dials, dials_failed) = self.reconnect.dials();
        Totals {
            sessions: self.session.accepted(),
            refused: self.session.all_refused(),
            bytes_to_database: self.session.bytes_to_database.get(),
            bytes_to_peers: self.session.bytes_to_peer.get(),
            transactions: self.postgres.transactions(),
            queries: self.postgres.queries(),
            dials,
            dials_failed,
        }
    }
}

// === impl GaugeGuard ===

impl GaugeGuard {
    /// Counts in; dropping counts out.
    pub fn new(gauge: &IntGauge) -> GaugeGuard {
        gauge.inc();
        GaugeGuard(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

// === impl Define ===

impl Define<'_> {
    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(options(name, help), labels)?)
    }

    fn gauges_of_seconds(&self, name: &str, help: &str) -> Result<GaugeVec, prometheus::Error> {
        self.register(GaugeVec::new(options(name, help), &["proxy"])?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(options(name, help), labels)?)
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64]) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts { common_opts: options(name, help), buckets: buckets.to_vec() };
        self.register(HistogramVec::new(options, &["proxy"])?)
    }

    fn register<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("postern")
}

/// A counter with the label `proxy` set and one more to set.
#[derive(Clone)]
struct CounterBy {
    counters: IntCounterVec,
    proxy: Arc<str>,
}

impl CounterBy {
    fn with(&self, label: &str) -> IntCounter {
        self.counters.with_label_values(&[&*self.proxy, label])
    }

    /// All that were counted, but for this value of the other label.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is counted is whole and positive"
    )]
    fn all_but(&self, label: &str) -> u64 {
        let families = self.counters.collect();
        let counters = families.iter().flat_map(MetricFamily::get_metric);
        let has = |counter: &Metric, value: &str| counter.get_label().iter().any(|label| label.value() == value);
        let is_counted = |counter: &&Metric| has(counter, &self.proxy) && !has(counter, label);
        counters.filter(is_counted).map(|counter| counter.get_counter().get_value() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use prometheus::proto::MetricType;

    use super::*;
    use crate::postgres::cancel::Outcome;
    use crate::postgres::effects::Pin;
    use crate::postgres::exchange::Tally;

    /// Every metric that the gateway can have, as a Markdown table.
    fn table() -> String {
        let metrics = Metrics::new().expect("the metrics are well-formed");
        let proxy = metrics.proxy(&"db".into());
        proxy.session.refused("reason");
        proxy.session.closed("reason");
        proxy.session.hook_failed("hook");
        proxy.pool.client_closed("reason");
        proxy.postgres.note(&Tally { parses_saved: 1, pinned: Some(Pin::Set), ..Tally::default() });
        proxy.postgres.cancelled(Outcome::Sent);
        proxy.reconnect.dialed("result");
        proxy.reconnect.seen();
        metrics.config_applied();
        metrics.encode().expect("the metrics can be written");
        let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
        for family in metrics.registry.gather() {
            if !family.name().starts_with("postern_") {
                continue;
            }
            let kind = match family.get_field_type() {
                MetricType::COUNTER => "counter",
                MetricType::HISTOGRAM => "histogram",
                _ => "gauge",
            };
            let labels: Vec<_> =
                family.get_metric()[0].get_label().iter().map(prometheus::proto::LabelPair::name).collect();
            let labels = labels.join(", ");
            writeln!(table, "| `{}` | {kind} | {labels} | {} |", family.name(), family.help()).expect("a string grows");
        }
        table
    }

    #[test]
    fn the_readmes_table_of_metrics_is_what_the_gateway_has() {
        let readme = include_str!("../../README.md");
        let part =
            readme.split("<!-- metrics:begin -->\n").nth(1).and_then(|rest| rest.split("<!-- metrics:end -->").next());
        let table = table();
        assert_eq!(
            part.unwrap_or_default().trim(),
            table.trim(),
            "README.md should have this between its markers:\n{table}"
        );
    }

    #[test]
    fn a_guard_counts_itself_in_and_out() {
        let gauge = IntGauge::new("guarded", "Guarded.").expect("a valid name");
        let guards = [GaugeGuard::new(&gauge), GaugeGuard::new(&gauge)];
        assert_eq!(gauge.get(), 2);
        drop(guards);
        assert_eq!(gauge.get(), 0);
    }
}
