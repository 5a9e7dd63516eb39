//! The hook `log`: a line for each event of a session, for a sample of the sessions.

use serde::Deserialize;
use serde_json::Value;
use tracing::info;

use super::{Failure, Hook, Make, Session, Verdict};
use crate::clock::Instant;
use crate::random::Random;

/// Logs what happens, and how many bytes; never the bytes themselves.
struct Log {
    /// Whole sessions are sampled, so that a story is told to its end or not at all.
    is_sampled: bool,
}

/// The hook's settings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// The fraction of the sessions that is logged, 0 to 1.
    sample: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { sample: 1.0 }
    }
}

/// What makes the hook for a session.
///
/// # Errors
/// A sentence about its settings.
pub(super) fn maker(config: &Value, random: &Random) -> Result<Make, String> {
    let Settings { sample } = match config {
        Value::Null => Settings::default(),
        config => Settings::deserialize(config).map_err(|error| error.to_string())?,
    };
    if !(0.0..=1.0).contains(&sample) {
        return Err(format!("sample is the fraction of sessions to log, from 0 to 1, not {sample}"));
    }
    let salt = random.bits();
    Ok(Box::new(move |session| {
        Box::new(Log { is_sampled: sample >= 1.0 || Random::from_seed(salt ^ session.id).fraction() < sample })
    }))
}

// === impl Log ===

impl Log {
    #[expect(clippy::unnecessary_wraps, reason = "it ends every method of the hook")]
    fn event(&self, event: &'static str, session: &Session, length: Option<usize>) -> Result<(), Failure> {
        if self.is_sampled {
            info!(event, session = session.id, proxy = %session.proxy, peer = %session.peer, length, "Session");
        }
        Ok(())
    }
}

impl Hook for Log {
    fn on_opening(&mut self, session: &Session) -> Result<Option<Instant>, Failure> {
        self.event("opening", session, None).map(|()| None)
    }

    fn on_opened(&mut self, session: &Session) -> Result<(), Failure> {
        self.event("opened", session, None)
    }

    fn on_traffic(&mut self, session: &Session) -> Result<(), Failure> {
        self.event("traffic", session, None)
    }

    fn on_traffic_from_client(&mut self, session: &Session, bytes: &[u8]) -> Result<Verdict, Failure> {
        self.event("traffic_from_client", session, Some(bytes.len())).map(|()| Verdict::Pass)
    }

    fn on_traffic_to_server(&mut self, session: &Session, bytes: &[u8]) -> Result<(), Failure> {
        self.event("traffic_to_server", session, Some(bytes.len()))
    }

    fn on_traffic_from_server(&mut self, session: &Session, bytes: &[u8]) -> Result<Verdict, Failure> {
        self.event("traffic_from_server", session, Some(bytes.len())).map(|()| Verdict::Pass)
    }

    fn on_traffic_to_client(&mut self, session: &Session, bytes: &[u8]) -> Result<(), Failure> {
        self.event("traffic_to_client", session, Some(bytes.len()))
    }

    fn on_closing(&mut self, session: &Session) -> Result<(), Failure> {
        self.event("closing", session, None)
    }

    fn on_closed(&mut self, session: &Session) -> Result<(), Failure> {
        self.event("closed", session, None)
    }
}
