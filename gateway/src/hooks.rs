//! What plugins see, and may change. One trait, its methods in the order of the lifecycle diagram; a chain calls the
//! hooks in the order of the configuration, each on what the one before it made of the bytes. Each session has hooks of
//! its own, which only it calls, one call at a time; none of them waits. Where none is registered, none of this is on the
//! way of a byte.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use thiserror::Error;
use tracing::error;

use crate::clock::Instant;
use crate::config::{HookConfig, OnError, Protocol};
use crate::log::Sparse;
use crate::metrics::SessionMetrics;
use crate::net::Endpoint;
use crate::proxy::relay::Direction;
use crate::random::Random;

mod log;
mod limit;
#[cfg(feature = "plugins")]
pub mod plugin;
#[cfg(not(feature = "plugins"))]
#[path = "hooks/without_plugins.rs"]
pub mod plugin;

pub mod rehearsal;

use plugin::Plugins;

/// One session, as a hook sees it.
#[derive(Debug)]
pub struct Session {
    /// Unique in the process; it is in every line of the log about this session.
    pub id: u64,
    /// The proxy that serves it.
    pub proxy: Arc<str>,
    /// What the proxy understands of what passes.
    pub protocol: Protocol,
    /// Where the peer dialed from.
    pub peer: Endpoint,
}

/// A failure of a hook.
#[derive(Debug, Error)]
#[error("{sentence}")]
pub struct Failure {
    /// What went wrong.
    pub sentence: String,
    /// Whether it is told only that nothing has changed since the last one in this session.
    pub is_known: bool,
    /// What goes on where `onError` has the bytes pass, if they are not to go on as they are.
    pub instead: Option<Vec<u8>>,
}

/// What becomes of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They go on.
    Pass,
    /// They go on, but not before this moment.
    Delay(Instant),
    /// These go on in their place.
    Replace(Vec<u8>),
    /// Nothing goes on, and whoever sent them gets this.
    Reply(Vec<u8>),
    /// The session ends.
    Close,
}

/// Sees what passes in one session. Every method does nothing by default; a failure is counted, and the hook's `onError`
/// says what becomes of the bytes.
pub trait Hook {
    /// A peer has connected; it has no client yet, and gets none before the moment that is returned.
    fn on_opening(&mut self, _session: &Session) -> Result<Option<Instant>, Failure> {
        Ok(None)
    }

    /// The session has its client.
    fn on_opened(&mut self, _session: &Session) -> Result<(), Failure> {
        Ok(())
    }

    /// The session's first byte has arrived; called once.
    fn on_traffic(&mut self, _session: &Session) -> Result<(), Failure> {
        Ok(())
    }

    /// The peer sent `bytes`; the verdict says what the database gets.
    fn on_traffic_from_client(&mut self, _session: &Session, _bytes: &[u8]) -> Result<Verdict, Failure> {
        Ok(Verdict::Pass)
    }

    /// The database has been sent `bytes`.
    fn on_traffic_to_server(&mut self, _session: &Session, _bytes: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    /// The database sent `bytes`; the verdict says what the peer gets.
    fn on_traffic_from_server(&mut self, _session: &Session, _bytes: &[u8]) -> Result<Verdict, Failure> {
        Ok(Verdict::Pass)
    }

    /// The peer has been sent `bytes`.
    fn on_traffic_to_client(&mut self, _session: &Session, _bytes: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    /// A hook behind this one has answered the peer, which said what this one let pass, with `reply`.
    fn on_reply(&mut self, _reply: &[u8]) {}

    /// The session is about to end.
    fn on_closing(&mut self, _session: &Session) -> Result<(), Failure> {
        Ok(())
    }

    /// The session has ended.
    fn on_closed(&mut self, _session: &Session) -> Result<(), Failure> {
        Ok(())
    }
}

/// The hooks of one worker, in their order: of each, what makes one for a session.
#[derive(Default)]
pub struct Hooks {
    makers: Vec<Maker>,
}

struct Maker {
    name: Arc<str>,
    on_error: OnError,
    failures: Rc<Sparse>,
    make: Make,
}

type Make = Box<dyn Fn(&Session) -> Box<dyn Hook>>;

/// The hooks of one session, in their order.
#[derive(Default)]
pub(crate) struct Chain {
    links: RefCell<Vec<Link>>,
}

struct Link {
    name: Arc<str>,
    on_error: OnError,
    failures: Rc<Sparse>,
    hook: Box<dyn Hook>,
}

/// What all hooks together make of bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// Never a delay, which is told apart.
    pub(crate) verdict: Verdict,
    /// Nothing becomes of it before this moment.
    pub(crate) not_before: Option<Instant>,
}

/// A moment of a session of which hooks are told.
#[derive(Clone, Copy)]
pub(crate) enum Moment<'a> {
    /// `on_opened`.
    Opened,
    /// `on_traffic`.
    Traffic,
    /// `on_traffic_to_server` or `on_traffic_to_client`.
    Sent(Direction, &'a [u8]),
    /// `on_closing`.
    Closing,
    /// `on_closed`.
    Closed,
}

/// The names of the hooks that are built in.
pub const BUILT_IN: [&str; 2] = ["log", "limit"];

/// What makes the built-in hook that `config` names.
///
/// # Errors
/// A sentence about the name, or about the hook's own settings.
fn built_in(config: &HookConfig, random: &Random) -> Result<Make, String> {
    match config.name.as_str() {
        "log" => log::maker(&config.config, random),
        "limit" => limit::maker(&config.config),
        other => Err(format!("there is no hook called {other:?}; the hooks are {}", BUILT_IN.join(" and "))),
    }
}

/// Says what is wrong with the settings of a built-in hook.
///
/// # Errors
/// A sentence about the name, or about the hook's own settings.
pub fn check_built_in(config: &HookConfig) -> Result<(), String> {
    built_in(config, &Random::from_seed(0)).map(drop)
}

// === impl Failure ===

impl Failure {
    /// One that nobody has heard of.
    pub fn new(sentence: impl Into<String>) -> Failure {
        Failure { sentence: sentence.into(), is_known: false, instead: None }
    }
}

// === impl Hooks ===

impl Hooks {
    /// The hooks of `configs`, whose settings were checked before; plugins are those that were loaded for it.
    ///
    /// # Errors
    /// The first hook's that cannot be made.
    pub fn new(configs: &[HookConfig], plugins: &Plugins, random: &Random) -> Result<Hooks, String> {
        let maker = |config: &HookConfig| {
            let make = match config.plugin {
                None => built_in(config, random)?,
                Some(_) => plugins.maker(&config.name)?,
            };
            let (name, failures) = (config.name.as_str().into(), Rc::default());
            Ok(Maker { name, on_error: config.on_error, failures, make })
        };
        Ok(Hooks { makers: configs.iter().map(maker).collect::<Result<_, String>>()? })
    }

    /// Hooks of which there is one, for the only session of a test.
    #[cfg(test)]
    pub(crate) fn of(hook: impl Hook + Clone + 'static, on_error: OnError) -> Hooks {
        let make = move |_: &Session| Box::new(hook.clone()) as Box<dyn Hook>;
        Hooks { makers: vec![Maker { name: "test".into(), on_error, failures: Rc::default(), make: Box::new(make) }] }
    }

    /// The hooks of a session that begins.
    pub(crate) fn chain(&self, session: &Session) -> Chain {
        let link = |maker: &Maker| {
            let Maker { name, on_error, failures, make } = maker;
            let (name, failures) = (name.clone(), failures.clone());
            Link { name, on_error: *on_error, failures, hook: make(session) }
        };
        Chain { links: RefCell::new(self.makers.iter().map(link).collect()) }
    }
}

// === impl Chain ===

impl Chain {
    /// Whether there is none, so that nothing has to be asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.links.borrow().is_empty()
    }

    /// Tells every hook that a peer has connected; from when on it may have a client, or that it may not because one
    /// failed that closes on errors.
    pub(crate) fn open(&self, session: &Session, metrics: &SessionMetrics) -> Result<Option<Instant>, ()> {
        let mut not_before = None;
        for link in self.links.borrow_mut().iter_mut() {
            match link.hook.on_opening(session) {
                Ok(moment) => not_before = not_before.max(moment),
                Err(failure) => match link.failed(&failure, session, metrics) {
                    OnError::Pass => {}
                    OnError::Close => return Err(()),
                },
            }
        }
        Ok(not_before)
    }

    /// Tells every hook that `moment` has come; `false` when one failed that closes on errors.
    pub(crate) fn notify(&self, moment: Moment<'_>, session: &Session, metrics: &SessionMetrics) -> bool {
        for link in self.links.borrow_mut().iter_mut() {
            let hook = &mut link.hook;
            let told = match moment {
                Moment::Opened => hook.on_opened(session),
                Moment::Traffic => hook.on_traffic(session),
                Moment::Sent(Direction::ToDatabase, bytes) => hook.on_traffic_to_server(session, bytes),
                Moment::Sent(Direction::ToPeer, bytes) => hook.on_traffic_to_client(session, bytes),
                Moment::Closing => hook.on_closing(session),
                Moment::Closed => hook.on_closed(session),
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
    pub(crate) fn judge(
        &self,
        direction: Direction,
        bytes: &[u8],
        session: &Session,
        metrics: &SessionMetrics,
    ) -> Judgement {
        let (mut bytes, mut not_before) = (Cow::Borrowed(bytes), None);
        let mut links = self.links.borrow_mut();
        for index in 0..links.len() {
            let link = &mut links[index];
            let verdict = match direction {
                Direction::ToDatabase => link.hook.on_traffic_from_client(session, &bytes),
                Direction::ToPeer => link.hook.on_traffic_from_server(session, &bytes),
            };
            match verdict {
                Ok(Verdict::Pass) => {}
                Ok(Verdict::Delay(moment)) => not_before = not_before.max(Some(moment)),
                Ok(Verdict::Replace(other)) => bytes = Cow::Owned(other),
                Ok(Verdict::Reply(reply)) => {
                    if direction == Direction::ToDatabase {
                        links[..index].iter_mut().for_each(|link| link.hook.on_reply(&reply));
                    }
                    return Judgement { verdict: Verdict::Reply(reply), not_before };
                }
                Ok(Verdict::Close) => return Judgement { verdict: Verdict::Close, not_before },
                Err(failure) => match link.failed(&failure, session, metrics) {
                    OnError::Pass => bytes = failure.instead.map_or(bytes, Cow::Owned),
                    OnError::Close => return Judgement { verdict: Verdict::Close, not_before },
                },
            }
            if bytes.is_empty() {
                // There is nothing to be judged.
                break;
            }
        }
        let verdict = match bytes {
            Cow::Borrowed(_) => Verdict::Pass,
            Cow::Owned(other) => Verdict::Replace(other),
        };
        Judgement { verdict, not_before }
    }
}

// === impl Link ===

impl Link {
    fn failed(&self, failure: &Failure, session: &Session, metrics: &SessionMetrics) -> OnError {
        metrics.hook_failed(&self.name);
        if !failure.is_known
            && let Some(more) = self.failures.may_say()
        {
            error!(
                error = %failure, hook = &*self.name, session = session.id, proxy = %session.proxy,
                on_error = ?self.on_error, more, "A hook failed"
            );
        }
        self.on_error
    }
}
