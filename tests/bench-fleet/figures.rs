//! Times that were measured, and what of them is told.

use std::fmt;
use std::time::Duration;

/// Times of the same thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

// === impl Times ===

impl Times {
    pub(crate) fn push(&mut self, time: Duration) {
        let at = self.0.partition_point(|other| *other <= time);
        self.0.insert(at, time);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn median(&self) -> Duration {
        self.quantile(50)
    }

    /// The time within which so many of a hundred were: one that was measured, never one in between.
    pub(crate) fn quantile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub(crate) fn longest(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut sorted: Vec<_> = times.into_iter().collect();
        sorted.sort_unstable();
        Self(sorted)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, high, longest] = [self.median(), self.quantile(99), self.longest()].map(|time| time.as_secs_f64());
        write!(out, "{} | {median:.2} | {high:.2} | {longest:.2}", self.count())
    }
}

/// The slope of the straight line that fits `points` best; nothing for less than two different ones.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = f64::from(u32::try_from(points.len()).ok()?);
    let sum = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>();
    let (x, y) = (sum(|(x, _)| *x) / count, sum(|(_, y)| *y) / count);
    let above: f64 = points.iter().map(|(px, py)| (px - x) * (py - y)).sum();
    let below: f64 = points.iter().map(|(px, _)| (px - x).powi(2)).sum();
    (below > 0.0).then(|| above / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let times: Times = (1..=100).rev().map(Duration::from_secs).collect();
        assert_eq!(times.median(), Duration::from_secs(50));
        assert_eq!(times.quantile(99), Duration::from_secs(99));
        assert_eq!(times.longest(), Duration::from_secs(100));
        let mut few = Times::default();
        for seconds in [3, 1, 2] {
            few.push(Duration::from_secs(seconds));
        }
        assert_eq!(few.to_string(), "3 | 2.00 | 3.00 | 3.00");
        assert_eq!(Times::default().quantile(99), Duration::ZERO);
    }

    #[test]
    fn a_slope_does_not_depend_on_what_is_there_at_zero() {
        let slope = |points: &[(f64, f64)]| slope(points).map(|slope| (slope * 1000.0).round());
        assert_eq!(slope(&[(0.0, 5.0), (100.0, 5.4), (1000.0, 9.0)]), Some(4.0));
        assert_eq!(slope(&[(100.0, 5.0)]), None);
    }
}
