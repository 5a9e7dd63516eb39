//! The waits between dials, as a value: no clock, no sleeping, no I/O. The pool sleeps them; `gateway check` prints them.

use std::time::Duration;

use crate::config::RetryConfig;

/// After the last retry a dial follows at least this often.
const SLOWEST: Duration = Duration::from_secs(30);

/// After the last retry a dial follows at most this often.
const FASTEST: Duration = Duration::from_secs(1);

/// The waits before retry 1, 2, ...; as many as there are retries, so that none follows the last attempt.
///
/// Before retry *n* the wait is `backoff` x `multiplier`^n, at most the cap, less a random part of it.
#[derive(Clone, Debug)]
#[must_use = "a schedule does nothing until it is slept"]
pub struct Backoff<R = fn() -> f64> {
    config: RetryConfig,
    /// Retries that are left.
    left: u32,
    /// `multiplier`^n of the wait before.
    factor: f64,
    random: R,
}

// === impl Backoff ===

impl Backoff {
    /// The schedule without jitter: the longest that each wait can be.
    pub fn new(config: &RetryConfig) -> Self {
        Self::jittered(config, || 0.0)
    }
}

impl<R> Backoff<R> {
    /// The schedule with the jitter of `config`; `random` gives a fraction from 0 to 1 for each wait.
    pub fn jittered(config: &RetryConfig, random: R) -> Self {
        Self { config: config.clone(), left: config.retries, factor: 1.0, random }
    }

    /// The schedule's last wait, clamped to 1 to 30 s: how the pool goes on after the last retry.
    pub fn clamped_last(&self) -> Duration {
        let retries = i32::try_from(self.config.retries).unwrap_or(i32::MAX);
        self.wait(self.config.multiplier.powi(retries)).clamp(FASTEST, SLOWEST)
    }

    /// The unit of the waits times `factor`, at most the cap; too long for a `Duration` is the longest one.
    fn wait(&self, factor: f64) -> Duration {
        let Self { config: RetryConfig { backoff, cap, .. }, .. } = self;
        if backoff.is_zero() {
            return Duration::ZERO;
        }
        let wait = Duration::try_from_secs_f64(backoff.as_secs_f64() * factor).unwrap_or(Duration::MAX);
        cap.map_or(wait, |cap| wait.min(cap))
    }
}

impl<R: FnMut() -> f64> Iterator for Backoff<R> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        // Multiplied step by step, a factor of 1 or more never shrinks, however it is rounded.
        self.factor *= self.config.multiplier;
        let wait = self.wait(self.factor);
        let shortening = (self.config.jitter * (self.random)()).clamp(0.0, 1.0);
        if shortening == 0.0 {
            return Some(wait);
        }
        let shorter = Duration::try_from_secs_f64(wait.as_secs_f64() * (1.0 - shortening));
        Some(shorter.unwrap_or(wait).min(wait))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl<R: FnMut() -> f64> ExactSizeIterator for Backoff<R> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The defaults of the documentation.
    fn defaults() -> RetryConfig {
        let cap = Some(Duration::from_mins(1));
        RetryConfig { retries: 3, backoff: Duration::from_secs(1), multiplier: 2.0, cap, jitter: 0.0 }
    }

    fn seconds(config: &RetryConfig) -> Vec<u64> {
        Backoff::new(config).map(|wait| wait.as_secs()).collect()
    }

    fn milliseconds(retries: u32, multiplier: f64) -> Vec<u128> {
        let config = RetryConfig { retries, multiplier, backoff: Duration::from_millis(100), ..defaults() };
        Backoff::new(&config).map(|wait| wait.as_millis()).collect()
    }

    #[test]
    fn the_defaults_wait_two_four_and_eight_seconds() {
        assert_eq!(seconds(&defaults()), [2, 4, 8]);
    }

    #[test]
    fn attempts_start_at_0_2_6_and_14_seconds() {
        let starts: Vec<u64> = Backoff::new(&defaults())
            .scan(0, |start, wait| {
                *start += wait.as_secs();
                Some(*start)
            })
            .collect();
        assert_eq!(starts, [2, 6, 14]);
    }

    #[test]
    fn the_capped_table_comes_out_value_for_value() {
        // Retries set to 11 count as 10; the configuration has seen to that.
        let config = RetryConfig { retries: 10, ..defaults() };
        assert_eq!(seconds(&config), [2, 4, 8, 16, 32, 60, 60, 60, 60, 60]);
    }

    #[test]
    fn the_uncapped_table_comes_out_value_for_value() {
        let config = RetryConfig { retries: 11, cap: None, ..defaults() };
        let minutes = |minutes: u64, seconds: u64| minutes * 60 + seconds;
        let from_the_sixth =
            [minutes(1, 4), minutes(2, 8), minutes(4, 16), minutes(8, 32), minutes(17, 4), minutes(34, 8)];
        assert_eq!(seconds(&config)[..5], [2, 4, 8, 16, 32]);
        assert_eq!(seconds(&config)[5..], from_the_sixth);
    }

    #[test]
    fn without_retries_nothing_is_waited_for() {
        assert_eq!(milliseconds(0, 2.0), [0; 0]);
    }

    #[test]
    fn nothing_is_waited_for_after_the_last_attempt() {
        assert_eq!(milliseconds(3, 2.0), [200, 400, 800]);
    }

    #[test]
    fn fractional_multipliers_are_exact() {
        assert_eq!(milliseconds(3, 1.5), [150, 225, 337]);
        assert_eq!(milliseconds(3, 0.5), [50, 25, 12]);
        assert_eq!(milliseconds(3, 1.0), [100, 100, 100]);
    }

    #[test]
    fn a_multiplier_of_zero_retries_at_once() {
        assert_eq!(milliseconds(3, 0.0), [0, 0, 0]);
    }

    #[test]
    fn a_backoff_of_zero_retries_at_once() {
        let config = RetryConfig { backoff: Duration::ZERO, retries: 2000, multiplier: 10.0, cap: None, ..defaults() };
        assert!(Backoff::new(&config).all(|wait| wait.is_zero()));
    }

    #[test]
    fn a_long_schedule_overflows_neither_into_nothing_nor_below_its_cap() {
        for multiplier in [2.0, 10.0] {
            let capped = RetryConfig { retries: 5000, multiplier, ..defaults() };
            assert!(Backoff::new(&capped).skip(6).all(|wait| wait == Duration::from_mins(1)));
            let uncapped = RetryConfig { cap: None, ..capped };
            assert_eq!(Backoff::new(&uncapped).last(), Some(Duration::MAX));
        }
    }

    #[test]
    fn after_the_last_retry_dials_go_on_every_1_to_30_seconds() {
        let last = |config: &RetryConfig| Backoff::new(config).clamped_last().as_secs();
        assert_eq!(last(&defaults()), 8);
        assert_eq!(last(&RetryConfig { retries: 10, ..defaults() }), 30);
        assert_eq!(last(&RetryConfig { retries: 0, ..defaults() }), 1);
        assert_eq!(last(&RetryConfig { multiplier: 0.0, ..defaults() }), 1);
        assert_eq!(last(&RetryConfig { backoff: Duration::ZERO, ..defaults() }), 1);
        assert_eq!(last(&RetryConfig { retries: u32::MAX, cap: None, ..defaults() }), 30);
    }

    #[test]
    fn jitter_shortens_a_wait_by_its_fraction_at_most() {
        let config = RetryConfig { jitter: 0.5, ..defaults() };
        let waits =
            |random: f64| Backoff::jittered(&config, move || random).map(|wait| wait.as_millis()).collect::<Vec<_>>();
        assert_eq!(waits(0.0), [2000, 4000, 8000]);
        assert_eq!(waits(0.5), [1500, 3000, 6000]);
        assert_eq!(waits(1.0), [1000, 2000, 4000]);
    }

    #[test]
    fn jitter_shortens_even_the_longest_wait() {
        let config = RetryConfig { retries: 2000, cap: None, jitter: 1.0, ..defaults() };
        assert_eq!(Backoff::jittered(&config, || 1.0).last(), Some(Duration::ZERO));
        assert_eq!(Backoff::jittered(&config, || 0.0).last(), Some(Duration::MAX));
    }

    proptest! {
        #[test]
        fn the_laws_of_a_schedule_hold(
            retries in 0_u32..200,
            backoff in 0_u64..u64::MAX,
            multiplier in 0.0..1e6_f64,
            cap in proptest::option::of(0_u64..u64::MAX),
            jitter in 0.0..=1.0_f64,
            random in 0.0..1.0_f64,
        ) {
            let cap = cap.map(Duration::from_nanos);
            let config = RetryConfig { retries, backoff: Duration::from_nanos(backoff), multiplier, cap, jitter };
            let longest: Vec<Duration> = Backoff::new(&config).collect();
            let jittered: Vec<Duration> = Backoff::jittered(&config, || random).collect();
            prop_assert_eq!(longest.len(), retries as usize);
            prop_assert_eq!(Backoff::new(&config).len(), retries as usize);
            prop_assert!(longest.iter().all(|wait| cap.is_none_or(|cap| *wait <= cap)));
            prop_assert!(multiplier < 1.0 || longest.is_sorted());
            prop_assert_eq!(jittered.len(), longest.len());
            prop_assert!(jittered.iter().zip(&longest).all(|(jittered, longest)| jittered <= longest));
            let last = Backoff::new(&config).clamped_last();
            prop_assert!((FASTEST..=SLOWEST).contains(&last));
        }
    }
}
