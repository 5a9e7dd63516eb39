//! What plugins do: how often they are called, what they say, how long they take, and what they count themselves.

use std::sync::Arc;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec};

use super::{Define, options};

/// What one plugin does.
#[derive(Clone)]
pub struct PluginMetrics {
    name: Arc<str>,
    families: Families,
}

/// What comes of the calls of one function of a plugin.
#[derive(Clone)]
pub struct CallMetrics {
    /// Whatever was asked about goes on.
    pub pass: IntCounter,
    /// Something else goes on in its place.
    pub replace: IntCounter,
    /// Whoever asked gets an answer.
    pub reply: IntCounter,
    /// The session ends.
    pub close: IntCounter,
    /// How long calls took.
    pub seconds: Histogram,
}

#[derive(Clone)]
pub(super) struct Families {
    calls: IntCounterVec,
    seconds: HistogramVec,
    errors: IntCounterVec,
    counters: IntCounterVec,
    histograms: HistogramVec,
}

/// From a call that does nothing to one that is stopped.
const SECONDS: &[f64] =
    &[0.000_000_25, 0.000_001, 0.000_002_5, 0.000_01, 0.000_025, 0.000_1, 0.000_25, 0.001, 0.0025, 0.01, 0.1, 1.0];
/// Nobody knows what plugins count.
const ANYTHING: &[f64] = &[0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];

// === impl PluginMetrics ===

impl PluginMetrics {
    /// What comes of the calls of this function.
    pub fn calls(&self, function: &str) -> CallMetrics {
        let calls = |verdict| self.families.calls.with_label_values(&[&*self.name, function, verdict]);
        CallMetrics {
            pass: calls("pass"),
            replace: calls("replace"),
            reply: calls("reply"),
            close: calls("close"),
            seconds: self.families.seconds.with_label_values(&[&*self.name, function]),
        }
    }

    /// Counts a call that failed.
    pub fn failed(&self, function: &str, reason: &str) {
        self.families.errors.with_label_values(&[&*self.name, function, reason]).inc();
    }

    /// A counter of the plugin's own.
    pub fn counter(&self, name: &str) -> IntCounter {
        self.families.counters.with_label_values(&[&*self.name, name])
    }

    /// A histogram of the plugin's own.
    pub fn histogram(&self, name: &str) -> Histogram {
        self.families.histograms.with_label_values(&[&*self.name, name])
    }
}

// === impl Families ===

impl Families {
    pub(super) fn new(define: &Define<'_>) -> Result<Families, prometheus::Error> {
        let histograms = |name, help, labels: &[&str], buckets: &[f64]| {
            let options = HistogramOpts { common_opts: options(name, help), buckets: buckets.to_vec() };
            define.register(HistogramVec::new(options, labels)?)
        };
        Ok(Families {
            calls: define.counters(
                "plugin_calls_total",
                "Calls of plugins, by what they said; what only tells them something passes.",
                &["plugin", "hook", "verdict"],
            )?,
            seconds: histograms(
                "plugin_seconds",
                "How long calls of plugins took; one in 16 is measured.",
                &["plugin", "hook"],
                SECONDS,
            )?,
            errors: define.counters(
                "plugin_errors_total",
                "Calls of plugins that failed, by what went wrong.",
                &["plugin", "hook", "reason"],
            )?,
            counters: define.counters("plugin_counter_total", "What a plugin counts itself.", &["plugin", "name"])?,
            histograms: histograms(
                "plugin_histogram",
                "What a plugin measures itself.",
                &["plugin", "name"],
                ANYTHING,
            )?,
        })
    }

    pub(super) fn of(&self, name: &Arc<str>) -> PluginMetrics {
        PluginMetrics { name: name.clone(), families: self.clone() }
    }
}
