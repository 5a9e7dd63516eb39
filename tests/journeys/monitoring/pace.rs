//! How fast a story is told.

use std::time::Duration;

use cast::time::Stopwatch;

use crate::{rules, series};

/// How fast a story is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Whether it takes its real time, and is written.
    pub(crate) is_recorded: bool,
    /// How often Prometheus scrapes and looks at its rules.
    pub(crate) interval: &'static str,
    /// What the time from one scrape to the next counts as.
    pub(crate) counts_as: &'static str,
    /// How long it is quiet first, how long faults last, and how long it is quiet afterwards; what has to be seen then is
    /// waited for on top of that.
    pub(crate) before: Duration,
    pub(crate) during: Duration,
    pub(crate) after: Duration,
    /// How long is waited for alerts.
    pub(crate) patience: Duration,
    /// Between two strikes of a fault that comes again and again.
    pub(crate) between: Duration,
}

/// Strikes of a fault that comes again and again.
#[derive(Debug, Default)]
pub(crate) struct Strikes(Option<Stopwatch>);

// === impl Pace ===

impl Pace {
    /// The one that the environment asks for.
    pub(crate) fn wanted() -> Self {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        let in_a_hurry = |count: u64| Duration::from_secs(count * rules::MINUTE);
        let hurry = Self {
            is_recorded: false,
            interval: "3s",
            counts_as: "1m",
            before: in_a_hurry(2),
            during: Duration::ZERO,
            after: Duration::ZERO,
            patience: minutes(3),
            between: in_a_hurry(2),
        };
        if !series::is_wanted() {
            return hurry;
        }
        if !series::is_wanted_slowly() {
            let (before, during, after) = (in_a_hurry(4), in_a_hurry(14), in_a_hurry(18));
            return Self { is_recorded: true, before, during, after, ..hurry };
        }
        Self {
            is_recorded: true,
            interval: "15s",
            counts_as: "15s",
            before: minutes(2),
            during: minutes(9),
            after: minutes(16),
            patience: minutes(2),
            between: Duration::from_secs(100),
        }
    }

    /// Whether a minute is shorter here.
    pub(crate) fn is_in_a_hurry(&self) -> bool {
        self.interval != self.counts_as
    }
}

// === impl Strikes ===

impl Strikes {
    /// Whether it is time for the next one.
    pub(crate) fn is_due(&mut self, pace: Pace) -> bool {
        let is_due = self.0.is_none_or(|last| last.elapsed() >= pace.between);
        if is_due {
            self.0 = Some(Stopwatch::start());
        }
        is_due
    }
}
