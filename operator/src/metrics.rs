//! Every metric of the operator: its name, its help, its labels.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// What all names begin with.
const PREFIX: &str = "postern_operator";

/// Seconds of what a person would not notice, up to what the API server would not wait for.
const ADMISSION: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Seconds of one turn of the controller.
const RECONCILE: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0];
/// Seconds from an edit until the last sidecar has it.
const ACKNOWLEDGE: &[f64] = &[0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0];

/// All metrics of the process.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    injections: IntCounterVec,
    admission: Histogram,
    reconciles: IntCounterVec,
    reconcile: Histogram,
    configs: IntGaugeVec,
    pokes: IntCounterVec,
    asks: IntCounterVec,
    acknowledge: Histogram,
    pods: IntGaugeVec,
    uninjected: IntGauge,
    outdated: IntGauge,
    leader: IntGauge,
    certificate: GaugeVec,
    watch_errors: IntCounterVec,
    events: IntCounterVec,
}

/// How a configuration stands, for the gauge that counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfigState {
    /// Every pod that can be asked serves it.
    Ready,
    /// Accepted, and not yet served by all.
    Waiting,
    /// A pod fails with it, or it cannot be delivered.
    Failing,
    /// It cannot be served.
    Invalid,
}

/// Injected pods, counted by how they stand to their configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodCounts {
    /// Their sidecar does not run yet.
    pub starting: usize,
    /// They serve the newest configuration.
    pub up_to_date: usize,
    /// They serve an older one.
    pub stale: usize,
    /// They refused it, or their sidecar does not run.
    pub failed: usize,
    /// They could not be asked.
    pub unknown: usize,
}

/// Defines metrics in one registry.
struct Define<'a>(&'a Registry);

// === impl Metrics ===

impl Metrics {
    /// Registers every metric with a registry of its own.
    ///
    /// # Errors
    /// A name that is taken or malformed: a defect of this file.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let define = Define(&registry);
        let build = define.gauges("build_info", "The version that runs; always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Metrics {
            injections: define.counters(
                "injections_total",
                "Pods about which the webhook was asked, by what it decided and why.",
                &["decision", "reason"],
            )?,
            admission: define.histogram("admission_seconds", "How long the webhook took to answer.", ADMISSION)?,
            reconciles: define.counters(
                "reconciles_total",
                "Turns of the controller, one configuration each, by result.",
                &["result"],
            )?,
            reconcile: define.histogram("reconcile_seconds", "How long a turn of the controller took.", RECONCILE)?,
            configs: define.gauges("configs", "Configurations, by how they stand.", &["state"])?,
            pokes: define.counters(
                "pokes_total",
                "Annotations of pods touched so that their kubelet delivers at once, by result.",
                &["result"],
            )?,
            asks: define.counters("asks_total", "Sidecars asked what they serve, by their answer.", &["answer"])?,
            acknowledge: define.histogram(
                "acknowledge_seconds",
                "From an edit until every sidecar that can be asked serves it.",
                ACKNOWLEDGE,
            )?,
            pods: define.gauges("pods", "Injected pods, by how they stand to their configuration.", &["state"])?,
            uninjected: define.gauge("uninjected_pods", "Pods that asked for a sidecar and run without one.")?,
            outdated: define
                .gauge("outdated_pods", "Pods in which a part of their configuration waits for a restart.")?,
            leader: define.gauge("leader", "Whether this replica runs the controllers.")?,
            certificate: define.instants(
                "certificate_expiry_timestamp_seconds",
                "When a certificate ends, in seconds since 1970.",
                &["certificate"],
            )?,
            watch_errors: define.counters("watch_errors_total", "Watches that broke, by resource.", &["resource"])?,
            events: define.counters("events_total", "Events for people, by what became of them.", &["result"])?,
            registry,
        })
    }

    /// Counts a pod about which the webhook was asked.
    pub fn decided(&self, decision: &'static str, reason: &'static str, seconds: f64) {
        self.injections.with_label_values(&[decision, reason]).inc();
        self.admission.observe(seconds);
    }

    /// Counts a turn of the controller.
    pub fn reconciled(&self, result: &'static str, took: Duration) {
        self.reconciles.with_label_values(&[result]).inc();
        self.reconcile.observe(took.as_secs_f64());
    }

    /// A configuration that stood as `before` stands as `now`; `None` is one that is not there.
    pub fn config_stands(&self, before: Option<ConfigState>, now: Option<ConfigState>) {
        if let Some(before) = before {
            self.configs.with_label_values(&[before.name()]).dec();
        }
        if let Some(now) = now {
            self.configs.with_label_values(&[now.name()]).inc();
        }
    }

    /// Counts a pod whose annotation was touched.
    pub fn poked(&self, result: &'static str) {
        self.pokes.with_label_values(&[result]).inc();
    }

    /// Counts a sidecar that was asked.
    pub fn asked(&self, answer: &'static str) {
        self.asks.with_label_values(&[answer]).inc();
    }

    /// Every sidecar that can be asked serves a configuration that was edited this long ago.
    pub fn acknowledged(&self, after: Duration) {
        self.acknowledge.observe(after.as_secs_f64());
    }

    /// How all injected pods stand.
    pub fn set_pods(&self, counts: PodCounts) {
        let states = [
            ("starting", counts.starting),
            ("up_to_date", counts.up_to_date),
            ("stale", counts.stale),
            ("failed", counts.failed),
            ("unknown", counts.unknown),
        ];
        for (state, count) in states {
            self.pods.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// How many pods asked for a sidecar and run without one.
    pub fn set_uninjected(&self, count: usize) {
        self.uninjected.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Of the pods of a configuration so many wait for a restart now, after so many `before`.
    pub fn pods_outdated(&self, before: usize, now: usize) {
        let signed = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.outdated.add(signed(now) - signed(before));
    }

    /// Whether this replica runs the controllers.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// When the certificate called `which` ends, in seconds since 1970.
    pub fn certificate_expires(&self, which: &'static str, unix_seconds: f64) {
        self.certificate.with_label_values(&[which]).set(unix_seconds);
    }

    /// Counts a watch that broke.
    pub fn watch_failed(&self, resource: &'static str) {
        self.watch_errors.with_label_values(&[resource]).inc();
    }

    /// Counts an event for people.
    pub fn event(&self, result: &'static str) {
        self.events.with_label_values(&[result]).inc();
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// A metric that cannot be written: a defect of this file.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

// === impl ConfigState ===

impl ConfigState {
    fn name(self) -> &'static str {
        match self {
            ConfigState::Ready => "ready",
            ConfigState::Waiting => "waiting",
            ConfigState::Failing => "failing",
            ConfigState::Invalid => "invalid",
        }
    }
}

// === impl Define ===

impl Define<'_> {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(options(name, help), labels)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(options(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::with_opts(options(name, help))?)
    }

    fn instants(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
        self.register(GaugeVec::new(options(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts { common_opts: options(name, help), buckets: buckets.to_vec() };
        self.register(Histogram::with_opts(options)?)
    }

    fn register<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}

#[cfg(test)]
mod tests {
    use prometheus::proto::{LabelPair, MetricFamily, MetricType};

    use super::*;

    /// Every metric that the operator can have: name, type and labels, as the rows of a table begin.
    fn rows() -> Vec<String> {
        let metrics = Metrics::new().expect("the names are fine");
        metrics.decided("injected", "Injected", 0.002);
        metrics.reconciled("ok", Duration::ZERO);
        metrics.config_stands(None, Some(ConfigState::Ready));
        metrics.poked("ok");
        metrics.asked("up_to_date");
        metrics.set_pods(PodCounts::default());
        metrics.certificate_expires("leaf", 0.0);
        metrics.watch_failed("pods");
        metrics.event("written");
        let families = metrics.registry.gather();
        let ours = families.iter().filter(|family| family.name().starts_with(PREFIX));
        let row = |family: &MetricFamily| {
            let kind = match family.get_field_type() {
                MetricType::COUNTER => "counter",
                MetricType::HISTOGRAM => "histogram",
                _ => "gauge",
            };
            let labels: Vec<_> = family.get_metric()[0].get_label().iter().map(LabelPair::name).collect();
            let labels = if labels.is_empty() { String::new() } else { format!(" {}", labels.join(", ")) };
            format!("| `{}` | {kind} |{labels} | ", family.name())
        };
        ours.map(row).collect()
    }

    #[test]
    fn the_table_of_the_operations_page_is_what_the_operator_has() {
        let page = include_str!("../OPERATIONS.md");
        let table: Vec<_> = page.lines().filter(|line| line.starts_with(&format!("| `{PREFIX}_"))).collect();
        let rows = rows();
        assert_eq!(table.len(), rows.len(), "{rows:#?}");
        for (line, row) in table.iter().zip(&rows) {
            assert!(line.starts_with(row), "{line}\nshould begin with\n{row}");
        }
    }

    #[test]
    fn pods_that_wait_for_a_restart_are_counted_over_all_configurations() {
        let metrics = Metrics::new().expect("the names are fine");
        metrics.pods_outdated(0, 3);
        metrics.pods_outdated(0, 2);
        metrics.pods_outdated(3, 1);
        assert_eq!(metrics.outdated.get(), 3);
    }

    #[test]
    fn what_happened_is_told_in_prometheus_words() {
        let metrics = Metrics::new().expect("the names are fine");
        metrics.decided("injected", "Injected", 0.002);
        metrics.config_stands(None, Some(ConfigState::Waiting));
        metrics.config_stands(Some(ConfigState::Waiting), Some(ConfigState::Ready));
        metrics.set_pods(PodCounts { up_to_date: 3, ..PodCounts::default() });
        let text = metrics.encode().expect("it can be written");
        for line in [
            "postern_operator_injections_total{decision=\"injected\",reason=\"Injected\"} 1",
            "postern_operator_admission_seconds_bucket{le=\"0.0025\"} 1",
            "postern_operator_configs{state=\"waiting\"} 0",
            "postern_operator_configs{state=\"ready\"} 1",
            "postern_operator_pods{state=\"up_to_date\"} 3",
            "postern_operator_leader 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is missing in\n{text}");
        }
    }
}
