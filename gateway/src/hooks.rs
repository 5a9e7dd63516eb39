//! What plugins see, and may change. One trait, its methods in the order of the lifecycle diagram; a chain calls the
//! hooks in the order of the configuration, each on what the one before it made of the bytes. Where none is registered,
//! none of this is on the way of a byte.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;
use tracing::error;

use crate::config::{HookConfig, OnError};
use crate::metrics::SessionMetrics;
use crate::net::Endpoint;
use crate::proxy::relay::Direction;
pub use crate::proxy::scanner::Verdict;
use crate::random::Random;

mod log;
mod limit;

/// One session, as a hook sees it.
#[derive(Debug)]
pub struct Session {
    /// Unique in the process; it is in every line of the log about this session.
    pub id: u64,
    /// The proxy that serves it.
    pub proxy: Arc<str>,
    /// Where the peer dialed from.
    pub peer: Endpoint,
}

/// A failure of a hook, in its own words.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// Sees what passes. Every method does nothing by default; a failure is counted, and the hook's `onError` says what
/// becomes of the bytes.
#[async_trait(?Send)]
pub trait Hook {
    /// A peer has connected; it has no client yet.
    async fn on_opening(&self, _session: &Session) -> Result<(), Failure> {
        Ok(())
    }

    /// The session has its client.
    async fn on_opened(&self, _session: &Session) -> Result<(), Failure> {
        Ok(())
    }

    /// The session's first byte has arrived; called once.
    async fn on_traffic(&self, _session: &Session) -> Result<(), Failure> {
        Ok(())
    }

    /// The peer sent `bytes`; the verdict says what the database gets.
    async fn on_traffic_from_client(&self, _session: &Session, bytes: Bytes) -> Result<Verdict, Failure> {
        Ok(Verdict::Pass(bytes))
    }

    /// The database has been sent `bytes`.
    async fn on_traffic_to_server(&self, _session: &Session, _bytes: &Bytes) -> Result<(), Failure> {
        Ok(())
    }

    /// The database sent `bytes`; the verdict says what the peer gets.
    async fn on_traffic_from_server(&self, _session: &Session, bytes: Bytes) -> Result<Verdict, Failure> {
        Ok(Verdict::Pass(bytes))
    }

    /// The peer has been sent `bytes`.
    async fn on_traffic_to_client(&self, _session: &Session, _bytes: &Bytes) -> Result<(), Failure> {
        Ok(())
    }

    /// The session is about to end.
    async fn on_closing(&self, _session: &Session) -> Result<(), Failure> {
        Ok(())
    }

    /// The session has ended.
    async fn on_closed(&self, _session: &Session) -> Result<(), Failure> {
        Ok(())
    }
}

/// The hooks of one worker, in their order.
#[derive(Default)]
pub struct Hooks {
    links: Vec<Link>,
}

struct Link {
    name: String,
    on_error: OnError,
    hook: Box<dyn Hook>,
}

/// The names of the hooks that are built in.
pub const BUILT_IN: [&str; 2] = ["log", "limit"];

/// Makes the hook that `config` names.
///
/// # Errors
/// A sentence about the name, or about the hook's own settings.
pub fn build(config: &HookConfig, random: &Random) -> Result<Box<dyn Hook>, String> {
    match config.name.as_str() {
        "log" => Ok(Box::new(log::Log::new(&config.config, random)?)),
        "limit" => Ok(Box::new(limit::Limit::new(&config.config)?)),
        other => Err(format!("there is no hook called {other:?}; the hooks are {}", BUILT_IN.join(" and "))),
    }
}

// === impl Hooks ===

impl Hooks {
    /// The chain of `configs`, which were checked by [`build`] before.
    ///
    /// # Errors
    /// The first hook's that cannot be made.
    pub fn new(configs: &[HookConfig], random: &Random) -> Result<Hooks, String> {
        let link = |config: &HookConfig| {
            let hook = build(config, random)?;
            Ok(Link { name: config.name.clone(), on_error: config.on_error, hook })
        };
        Ok(Hooks { links: configs.iter().map(link).collect::<Result<_, String>>()? })
    }

    /// A chain of one hook.
    #[cfg(test)]
    pub(crate) fn of(hook: impl Hook + 'static, on_error: OnError) -> Hooks {
        Hooks { links: vec![Link { name: "test".to_owned(), on_error, hook: Box::new(hook) }] }
    }

    /// Whether there is none, so that nothing has to be asked.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Tells every hook that `moment` has come; `false` when one failed that closes on errors.
    pub(crate) async fn notify(&self, moment: Moment<'_>, session: &Session, metrics: &SessionMetrics) -> bool {
        for link in &self.links {
            let told = match moment {
                Moment::Opening => link.hook.on_opening(session).await,
                Moment::Opened => link.hook.on_opened(session).await,
                Moment::Traffic => link.hook.on_traffic(session).await,
                Moment::Sent(Direction::ToDatabase, bytes) => link.hook.on_traffic_to_server(session, bytes).await,
                Moment::Sent(Direction::ToPeer, bytes) => link.hook.on_traffic_to_client(session, bytes).await,
                Moment::Closing => link.hook.on_closing(session).await,
                Moment::Closed => link.hook.on_closed(session).await,
            };
            if let Err(failure) = told
                && link.failed(&failure, session, metrics) == OnError::Close
            {
                return false;
            }
        }
        true
    }

    /// What the hooks make of `bytes`, each of what the one before it passed.
    pub(crate) async fn judge(
        &self,
        direction: Direction,
        mut bytes: Bytes,
        session: &Session,
        metrics: &SessionMetrics,
    ) -> Verdict {
        for link in &self.links {
            let verdict = match direction {
                Direction::ToDatabase => link.hook.on_traffic_from_client(session, bytes.clone()).await,
                Direction::ToPeer => link.hook.on_traffic_from_server(session, bytes.clone()).await,
            };
            match verdict {
                Ok(Verdict::Pass(passed)) => bytes = passed,
                Ok(verdict @ (Verdict::Reply(_) | Verdict::Close)) => return verdict,
                Err(failure) => match link.failed(&failure, session, metrics) {
                    OnError::Pass => {}
                    OnError::Close => return Verdict::Close,
                },
            }
        }
        Verdict::Pass(bytes)
    }
}

/// A moment of a session of which hooks are told.
#[derive(Clone, Copy)]
pub(crate) enum Moment<'a> {
    /// `on_opening`.
    Opening,
    /// `on_opened`.
    Opened,
    /// `on_traffic`.
    Traffic,
    /// `on_traffic_to_server` or `on_traffic_to_client`.
    Sent(Direction, &'a Bytes),
    /// `on_closing`.
    Closing,
    /// `on_closed`.
    Closed,
}

// === impl Link ===

impl Link {
    fn failed(&self, failure: &Failure, session: &Session, metrics: &SessionMetrics) -> OnError {
        metrics.hook_failed(&self.name);
        error!(
            error = %failure, hook = self.name, session = session.id, proxy = %session.proxy,
            on_error = ?self.on_error, "A hook failed"
        );
        self.on_error
    }
}
