//! The hook `log`: a line for each event of a session, for a sample of the sessions.

use std::cell::Cell;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use tracing::info;

use super::{Failure, Hook, Session, Verdict};
use crate::random::Random;

/// Logs what happens, and how many bytes; never the bytes themselves.
pub(super) struct Log {
    sample: f64,
    /// The session that was asked about last, and the answer: most events come in a row.
    last: Cell<(u64, bool)>,
    salt: u64,
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

// === impl Log ===

impl Log {
    pub(super) fn new(config: &Value, random: &Random) -> Result<Log, String> {
        let settings = match config {
            Value::Null => Settings::default(),
            config => Settings::deserialize(config).map_err(|error| error.to_string())?,
        };
        if !(0.0..=1.0).contains(&settings.sample) {
            return Err(format!("sample is the fraction of sessions to log, from 0 to 1, not {}", settings.sample));
        }
        let salt = random.bits();
        Ok(Log { sample: settings.sample, last: Cell::new((u64::MAX, false)), salt })
    }

    /// Whole sessions are sampled, so that a story is told to its end or not at all.
    fn is_sampled(&self, session: &Session) -> bool {
        let (id, answer) = self.last.get();
        if id == session.id {
            return answer;
        }
        let answer = self.sample >= 1.0 || Random::from_seed(self.salt ^ session.id).fraction() < self.sample;
        self.last.set((session.id, answer));
        answer
    }

    fn event(&self, event: &'static str, session: &Session, length: Option<usize>) {
        if self.is_sampled(session) {
            info!(event, session = session.id, proxy = %session.proxy, peer = %session.peer, length, "Session");
        }
    }
}

#[async_trait(?Send)]
impl Hook for Log {
    async fn on_opening(&self, session: &Session) -> Result<(), Failure> {
        self.event("opening", session, None);
        Ok(())
    }

    async fn on_opened(&self, session: &Session) -> Result<(), Failure> {
        self.event("opened", session, None);
        Ok(())
    }

    async fn on_traffic(&self, session: &Session) -> Result<(), Failure> {
        self.event("traffic", session, None);
        Ok(())
    }

    async fn on_traffic_from_client(&self, session: &Session, bytes: Bytes) -> Result<Verdict, Failure> {
        self.event("traffic_from_client", session, Some(bytes.len()));
        Ok(Verdict::Pass(bytes))
    }

    async fn on_traffic_to_server(&self, session: &Session, bytes: &Bytes) -> Result<(), Failure> {
        self.event("traffic_to_server", session, Some(bytes.len()));
        Ok(())
    }

    async fn on_traffic_from_server(&self, session: &Session, bytes: Bytes) -> Result<Verdict, Failure> {
        self.event("traffic_from_server", session, Some(bytes.len()));
        Ok(Verdict::Pass(bytes))
    }

    async fn on_traffic_to_client(&self, session: &Session, bytes: &Bytes) -> Result<(), Failure> {
        self.event("traffic_to_client", session, Some(bytes.len()));
        Ok(())
    }

    async fn on_closing(&self, session: &Session) -> Result<(), Failure> {
        self.event("closing", session, None);
        Ok(())
    }

    async fn on_closed(&self, session: &Session) -> Result<(), Failure> {
        self.event("closed", session, None);
        Ok(())
    }
}
