//! The hook `limit`: so many bytes and new sessions a second, in all and for each worker. What comes faster waits, so
//! that nobody sees an error; the gateway's own limits bound how many wait.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{Failure, Hook, Make, Session, Verdict};
use crate::clock::Instant;

/// Shapes traffic; all sessions of a worker share the paces.
#[derive(Clone)]
struct Limit(Rc<Paces>);

struct Paces {
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

/// What makes the hook for a session.
///
/// # Errors
/// A sentence about its settings.
pub(super) fn maker(config: &Value) -> Result<Make, String> {
    let limit = Limit::new(config)?;
    Ok(Box::new(move |_| Box::new(limit.clone())))
}

// === impl Limit ===

impl Limit {
    fn new(config: &Value) -> Result<Limit, String> {
        let settings = Settings::deserialize(config).map_err(|error| error.to_string())?;
        if settings.bytes_per_second.or(settings.sessions_per_second).is_none() {
            return Err("bytesPerSecond or sessionsPerSecond must say how much is allowed".to_owned());
        }
        let pace = |name: &str, per_second: Option<u64>| match per_second {
            Some(0) => Err(format!("{name} must be at least 1; leave it out for no limit")),
            per_second => Ok(per_second.map(Pace::new)),
        };
        Ok(Limit(Rc::new(Paces {
            bytes: pace("bytesPerSecond", settings.bytes_per_second)?,
            sessions: pace("sessionsPerSecond", settings.sessions_per_second)?,
        })))
    }

    fn shape(&self, bytes: &[u8]) -> Verdict {
        let moment = self.0.bytes.as_ref().and_then(|pace| pace.take(bytes.len()));
        moment.map_or(Verdict::Pass, Verdict::Delay)
    }
}

impl Hook for Limit {
    fn on_opening(&mut self, _session: &Session) -> Result<Option<Instant>, Failure> {
        Ok(self.0.sessions.as_ref().and_then(|pace| pace.take(1)))
    }

    fn on_traffic_from_client(&mut self, _session: &Session, bytes: &[u8]) -> Result<Verdict, Failure> {
        Ok(self.shape(bytes))
    }

    fn on_traffic_from_server(&mut self, _session: &Session, bytes: &[u8]) -> Result<Verdict, Failure> {
        Ok(self.shape(bytes))
    }
}

// === impl Pace ===

impl Pace {
    fn new(per_second: u64) -> Pace {
        Pace { per_second, empty_at: Cell::new(Instant::now()) }
    }

    /// When `amount` more is allowed, if it is not now.
    fn take(&self, amount: usize) -> Option<Instant> {
        let now = Instant::now();
        let nanos = amount as u128 * 1_000_000_000 / u128::from(self.per_second);
        let share = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(MOST_SHARE);
        let empty_at = self.empty_at.get().max(now) + share;
        self.empty_at.set(empty_at);
        (empty_at > now + BURST).then(|| empty_at - BURST)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::sleep_until;

    #[tokio::test(start_paused = true)]
    async fn what_exceeds_the_burst_waits_for_its_share_of_time() {
        let limit = Limit::new(&json!({"bytesPerSecond": 1000})).expect("valid settings");
        let begin = Instant::now();
        for _ in 0..5 {
            if let Verdict::Delay(moment) = limit.shape(&[0; 1000]) {
                sleep_until(moment).await;
            }
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
