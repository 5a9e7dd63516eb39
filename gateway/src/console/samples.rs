//! What was counted some time ago, so that averages are those of late.

use std::cell::RefCell;
use std::time::Duration;

use super::usage::Usage;
use crate::clock::Instant;

/// The last two looks at what is counted.
#[derive(Default)]
pub(super) struct Samples(RefCell<[Option<Sample>; 2]>);

/// One look.
struct Sample {
    at: Instant,
    usages: Vec<(String, Usage)>,
}

// === impl Samples ===

impl Samples {
    /// Between two looks, as PgBouncer's `stats_period`.
    pub(super) const INTERVAL: Duration = Duration::from_mins(1);

    /// Looks; of the looks before the last one stays, so that an average is one of one to two intervals.
    pub(super) fn take(&self, usages: &[(String, Usage)]) {
        let [_, last] = self.0.take();
        *self.0.borrow_mut() = [last, Some(Sample { at: Instant::now(), usages: usages.to_vec() })];
    }

    /// What has come to be `total` since the older look, and how long that was ago.
    pub(super) fn since(&self, proxy: &str, total: Usage) -> (Usage, Duration) {
        let samples = self.0.borrow();
        let Some(sample) = samples.iter().flatten().next() else { return (Usage::default(), Duration::ZERO) };
        let known = sample.usages.iter().find(|(name, _)| name == proxy).map(|(_, usage)| *usage);
        (total - known.unwrap_or_default(), sample.at.elapsed())
    }
}
