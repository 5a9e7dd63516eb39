//! The hook `limit`: so many bytes and new sessions a second, in all and for each worker. What comes faster waits, so
//! that nobody sees an error; the gateway's own limits bound how many wait.

use std::cell::Cell;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::{Failure, Hook, Session, Verdict};
use crate::clock::{Instant, sleep_until};

/// Shapes traffic.
pub(super) struct Limit {
    bytes: Option<Pace>,
    sessions: Option<Pace>,
}

/// The hook's settings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Settings {
    /// Bytes a second, both directions together.
    bytes_per_second: Option<u64>,
    /// Sessions begun a second.
    sessions_per_second: Option<u64>,
}

/// So many a second, after a burst of one second's worth (a token bucket, kept as the time at which it is empty).
struct Pace {
    per_second: u64,
    empty_at: Cell<Instant>,
}

const BURST: Duration = Duration::from_secs(1);
/// No single chunk waits longer, whatever the pace.
const MOST_SHARE: Duration = Duration::from_hours(1);

// === impl Limit ===

impl Limit {
    pub(super) fn new(config: &Value) -> Result<Limit, String> {
        let settings = Settings::deserialize(config).map_err(|error| error.to_string())?;
        if settings.bytes_per_second.or(settings.sessions_per_second).is_none() {
            return Err("bytesPerSecond or sessionsPerSecond must say how much is allowed".to_owned());
        }
        let pace = |name: &str, per_second: Option<u64>| match per_second {
            Some(0) => Err(format!("{name} must be at least 1; leave it out for no limit")),
            per_second => Ok(per_second.map(Pace::new)),
        };
        Ok(Limit {
            bytes: pace("bytesPerSecond", settings.bytes_per_second)?,
            sessions: pace("sessionsPerSecond", settings.sessions_per_second)?,
        })
    }

    async fn shape(&self, bytes: Bytes) -> Verdict {
        if let Some(pace) = &self.bytes {
            pace.take(bytes.len()).await;
        }
        Verdict::Pass(bytes)
    }
}

#[async_trait(?Send)]
impl Hook for Limit {
    async fn on_opening(&self, _session: &Session) -> Result<(), Failure> {
        if let Some(pace) = &self.sessions {
            pace.take(1).await;
        }
        Ok(())
    }

    async fn on_traffic_from_client(&self, _session: &Session, bytes: Bytes) -> Result<Verdict, Failure> {
        Ok(self.shape(bytes).await)
    }

    async fn on_traffic_from_server(&self, _session: &Session, bytes: Bytes) -> Result<Verdict, Failure> {
        Ok(self.shape(bytes).await)
    }
}

// === impl Pace ===

impl Pace {
    fn new(per_second: u64) -> Pace {
        Pace { per_second, empty_at: Cell::new(Instant::now()) }
    }

    /// Waits until `amount` more is allowed.
    async fn take(&self, amount: usize) {
        let now = Instant::now();
        let nanos = amount as u128 * 1_000_000_000 / u128::from(self.per_second);
        let share = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(MOST_SHARE);
        let empty_at = self.empty_at.get().max(now) + share;
        self.empty_at.set(empty_at);
        if empty_at > now + BURST {
            sleep_until(empty_at - BURST).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_exceeds_the_burst_waits_for_its_share_of_time() {
        let limit = Limit::new(&json!({"bytesPerSecond": 1000})).expect("valid settings");
        let begin = Instant::now();
        for _ in 0..5 {
            limit.shape(Bytes::from_static(&[0; 1000])).await;
        }
        // The first second's worth is the burst, the other four are paced.
        assert_eq!(begin.elapsed().as_millis() / 100, 40);
    }

    #[test]
    fn settings_that_say_nothing_or_nonsense_are_refused() {
        for config in [json!({}), json!({"bytesPerSecond": 0}), json!({"bytes": 1}), json!({"sessionsPerSecond": -1})] {
            assert!(Limit::new(&config).is_err(), "{config}");
        }
    }
}
