//! The process as a whole: what is bound, the workers that serve it, and how a changed configuration is taken over.
//! Lives on the main thread.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::clock::{sleep, timeout};
use crate::config::pins::{Held, Pins};
use crate::config::{Config, Listen, LogFormat, PeerAuth};
use crate::console::Console;
use crate::hooks::Hooks;
use crate::log;
use crate::metrics::{Metrics, SessionMetrics};
use crate::net::{Endpoint, Stream};
use crate::postgres::cancel::Cancels;
use crate::random::Random;
use crate::secrets::{self, Secrets};
use crate::server::{self, Bound, Place, Reception, Socket, Unserved, bind};
use crate::shutdown::{CLOSING_TIME, Drain};
use crate::worker::{Accepted, Command, Commands, Common, Handle};

mod pulse;
mod takeover;

pub use pulse::Pulse;
use takeover::TakeOver;

/// A running gateway.
pub struct Gateway {
    config: Arc<Config>,
    fixed: Fixed,
    /// What of the configuration needs a restart, one sentence each.
    restart_required: Vec<String>,
    workers: Vec<Handle>,
    /// How far they are with the configuration.
    takeover: TakeOver,
    metrics: Metrics,
    drain: Drain,
    /// Every socket that is open, and the address that peers dial.
    open: HashMap<Place, String>,
    /// Where several workers share the peers, the main thread accepts them.
    acceptors: Vec<Acceptor>,
}

/// What stays for the life of the process, whatever a changed configuration says.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Where proxies listen.
    pub pins: Pins,
    /// Where the admin endpoints were asked for.
    pub admin: SocketAddr,
    /// The form of the log.
    pub log_format: LogFormat,
    /// Where the Secrets are that the configuration names.
    pub secrets: Secrets,
    /// The way to whoever answers consoles.
    pub console: Console,
    /// Whether the process ends after the applications that it serves, so that nobody is there to be waited for.
    pub is_sidecar: bool,
}

/// A socket that the main thread accepts from.
struct Acceptor {
    place: Place,
    socket: Socket,
    task: AbortHandle,
}

/// Hands accepted peers to the workers in turn.
struct HandOut {
    proxy: Arc<str>,
    workers: Vec<Commands>,
    next: Cell<usize>,
    metrics: SessionMetrics,
}

/// Why a configuration is not served.
#[derive(Debug, Error)]
pub enum Error {
    /// A socket cannot be opened.
    #[error(transparent)]
    Bind(#[from] bind::Error),
    /// Two proxies would have one socket: one of them has it because it could not move.
    #[error("proxies {0:?} and {1:?} would listen on the same address; make one change first and the other then")]
    Clash(Arc<str>, Arc<str>),
    /// A Secret is missing, or of no use.
    #[error("proxy {0:?}: {1}; a pod gets the Secrets that its configuration named at its start: restart the pod")]
    Secret(Arc<str>, #[source] secrets::Error),
    /// A hook's settings are wrong.
    #[error("spec.hooks: {0}")]
    Hook(String),
    /// No thread can be had, or a worker has ended.
    #[error("cannot run a worker: {0}")]
    Worker(#[from] std::io::Error),
}

/// How long a worker may take to show that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(2);

// === impl Gateway ===

impl Gateway {
    /// Binds everything, starts the workers, and serves `config`.
    ///
    /// # Errors
    /// What cannot be had; nothing is left open then.
    pub async fn start(config: Config, fixed: Fixed, metrics: Metrics, drain: Drain) -> Result<Gateway, Error> {
        let empty = Config { proxies: Vec::new(), ..config.clone() };
        let workers = config.workers.get();
        let (counted, secrets, console) = (metrics.clone(), fixed.secrets.clone(), fixed.console.clone());
        let common = Common { metrics: counted, secrets, cancels: Cancels::default(), console, workers };
        let workers = match workers {
            1 => vec![Handle::start_here(common, &drain)],
            many => (0..many).map(|index| Handle::start(index, common.clone(), &drain)).collect::<Result<_, _>>()?,
        };
        let mut gateway = Gateway {
            config: Arc::new(empty),
            fixed,
            restart_required: Vec::new(),
            workers,
            takeover: TakeOver::default(),
            metrics,
            drain,
            open: HashMap::new(),
            acceptors: Vec::new(),
        };
        gateway.apply(config).await?;
        Ok(gateway)
    }

    /// Takes a changed configuration over as a whole, or not at all. No session is dropped. It counts as applied once
    /// there is no [`shortfall`](Gateway::shortfall).
    ///
    /// # Errors
    /// What cannot be had; the configuration before is served as if nothing had happened.
    pub async fn apply(&mut self, config: Config) -> Result<(), Error> {
        let Held { config, mut restart_required } = self.fixed.pins.hold(config, &self.config);
        refuse_clashes(&config)?;
        refuse_missing_secrets(&config, &self.fixed.secrets)?;
        Hooks::new(&config.hooks, &Random::from_system()).map_err(Error::Hook)?;
        // What no thread could take over is opened anew.
        self.takeover.unserved().iter().for_each(|unserved| drop(self.open.remove(&unserved.place)));
        let mut opened = Vec::new();
        for proxy in &config.proxies {
            let place = Place::of(proxy);
            if !self.open.contains_key(&place) {
                opened.push((place, Bound::bind(proxy).map_err(|error| error.beside(&self.open))?));
            }
        }
        // From here on nothing fails.
        restart_required.extend(self.kept_settings(&config));
        self.note_restart_required(restart_required);
        self.set_modes(&config);
        let config = Arc::new(config);
        self.note_open(&config, &opened);
        self.hand_over(&config, opened).await;
        self.config = config;
        Ok(())
    }

    /// A sentence for each setting that the process keeps.
    fn kept_settings(&self, config: &Config) -> Vec<String> {
        let (fixed, format) = (&self.fixed, log::form(config.log.format));
        let settings = [
            ("spec.workers", config.workers.to_string(), self.workers.len().to_string()),
            ("spec.log.format", format.to_string(), fixed.log_format.to_string()),
            ("spec.admin.address", config.admin.to_string(), fixed.admin.to_string()),
        ];
        let changed = settings.iter().filter(|(_, wanted, now)| wanted != now);
        changed.map(|(path, wanted, now)| format!("{path}: {wanted} needs a restart; until then it is {now}")).collect()
    }

    /// Says once what needs a restart.
    fn note_restart_required(&mut self, sentences: Vec<String>) {
        for sentence in sentences.iter().filter(|sentence| !self.restart_required.contains(sentence)) {
            warn!("A change waits: {sentence}");
        }
        self.restart_required = sentences;
    }

    /// A socket that stays open may have other permissions from now on.
    fn set_modes(&self, config: &Config) {
        for proxy in &config.proxies {
            if let Listen::Unix { path, mode } = &proxy.server.listen
                && self.open.contains_key(&Place::of(proxy))
                && let Err(error) = bind::set_mode(path, *mode)
            {
                warn!(proxy = %proxy.name, path = %path.display(), %error, "Cannot change the socket's permissions");
            }
        }
    }

    /// Keeps the list of what is open, and says what is new.
    fn note_open(&mut self, config: &Config, opened: &[(Place, Bound)]) {
        let places: Vec<_> = config.proxies.iter().map(|proxy| Place::of(proxy)).collect();
        self.open.retain(|place, address| {
            let is_kept = places.contains(place);
            if !is_kept {
                info!(%address, "No longer listening");
            }
            is_kept
        });
        for proxy in &config.proxies {
            let place = Place::of(proxy);
            if let Some((_, bound)) = opened.iter().find(|(opened, _)| *opened == place) {
                let (address, network) = (bound.address(), proxy.server.listen.network());
                info!(proxy = %proxy.name, network, %address, "Listening");
                self.open.insert(place, address);
            }
        }
    }

    /// Gives the configuration to the workers, with the sockets where there is one worker, and waits until they have it;
    /// for those that hang, not for long.
    async fn hand_over(&mut self, config: &Arc<Config>, opened: Vec<(Place, Bound)>) {
        let (mut for_worker, mut for_main) = (Vec::new(), Vec::new());
        for (place, bound) in opened {
            let is_shared = self.workers.len() > 1 && !matches!(bound, Bound::Udp(_));
            if is_shared { for_main.push((place, bound)) } else { for_worker.push((place, bound)) }
        }
        // Nobody is handed to a proxy that its worker has forgotten by then.
        self.acceptors.iter().for_each(|acceptor| acceptor.task.abort());
        self.takeover = TakeOver::begin(&self.workers, config, for_worker);
        // Who has not answered by then is asked about again by `shortfall`.
        let _ = timeout(HEARTBEAT, self.takeover.answered()).await;
        let unserved = self.accept(config, for_main);
        self.takeover.add(unserved);
    }

    /// Why not every worker serves the configuration that was applied last, if that is so: it may change by itself.
    pub fn shortfall(&mut self) -> Option<String> {
        self.takeover.shortfall()
    }

    /// Accepts on behalf of several workers.
    fn accept(&mut self, config: &Config, opened: Vec<(Place, Bound)>) -> Vec<Unserved> {
        let mut sockets: Vec<(Place, Socket)> = Vec::new();
        for acceptor in self.acceptors.drain(..) {
            sockets.push((acceptor.place, acceptor.socket));
        }
        let unserved = Socket::adopt_all(&mut sockets, opened);
        for proxy in &config.proxies {
            let place = Place::of(proxy);
            let found = sockets.iter().find(|(known, _)| *known == place);
            let Some((_, socket @ Socket::Streams(listener))) = found else { continue };
            let hand_out = HandOut {
                proxy: proxy.name.clone(),
                workers: self.workers.iter().map(Handle::commands).collect(),
                next: Cell::new(0),
                metrics: self.metrics.proxy(&proxy.name).session,
            };
            let task = tokio::task::spawn_local(server::serve(listener.clone(), hand_out)).abort_handle();
            self.acceptors.push(Acceptor { place, socket: socket.clone(), task });
        }
        unserved
    }

    /// The configuration that is served.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// What of the configuration needs a restart, one sentence each; the rest of it is served.
    pub fn restart_required(&self) -> &[String] {
        &self.restart_required
    }

    /// Each proxy with the address that peers dial.
    pub fn addresses(&self) -> Vec<(Arc<str>, String)> {
        let address = |place| self.open.get(&place).cloned().unwrap_or_default();
        self.config.proxies.iter().map(|proxy| (proxy.name.clone(), address(Place::of(proxy)))).collect()
    }

    /// The workers' side for asking whether they are alive, and what they know.
    pub fn pulse(&self) -> Pulse {
        Pulse::of(&self.workers)
    }

    /// Returns when no session is left, or when the time is over; until then sessions are served, or closed.
    pub async fn finish(self) {
        self.drain.begin();
        tokio::select! {
            biased;
            () = no_session_is_left(&self.workers) => info!("Drained"),
            () = self.close_sessions() => {}
        }
        self.acceptors.iter().for_each(|acceptor| acceptor.task.abort());
        self.workers.into_iter().for_each(Handle::stop);
    }

    /// Serves on while the application shuts down, and closes sessions at their boundaries when the time is nearly over;
    /// a sidecar outlives its application and begins with that. In the end sessions are cut off.
    async fn close_sessions(&self) {
        let limit = self.config.drain_timeout;
        let closing_time = if self.fixed.is_sidecar {
            info!(?limit, "Draining: no application is left; closing sessions");
            self.drain.orphan();
            limit
        } else {
            info!(?limit, "Draining: still serving, not ready any more");
            sleep(limit.saturating_sub(CLOSING_TIME)).await;
            info!("Closing sessions between two exchanges");
            limit.min(CLOSING_TIME)
        };
        self.drain.close();
        sleep(closing_time).await;
        warn!("The drain time is over; the remaining sessions are cut off");
        self.drain.end();
        // Sessions that are cut off tell their peers and their hooks.
        sleep(Duration::from_millis(200)).await;
    }
}

/// Refuses a configuration with a Secret that is not here: a pod gets those that its configuration named when it was
/// created.
fn refuse_missing_secrets(config: &Config, secrets: &Secrets) -> Result<(), Error> {
    for proxy in &config.proxies {
        let missing = |error| Error::Secret(proxy.name.clone(), error);
        if let Some(auth) = &proxy.client.auth {
            secrets.login(&auth.secret).map_err(missing)?;
        }
        if let PeerAuth::Scram(secret) = &proxy.server.auth {
            secrets.login(secret).map_err(missing)?;
        }
        if let Some(tls) = &proxy.server.tls {
            secrets.read(&tls.secret, "tls.crt").map_err(missing)?;
        }
        if let Some(secret) = proxy.client.tls.as_ref().and_then(|tls| tls.secret.as_ref()) {
            secrets.look_for(secret).map_err(missing)?;
        }
    }
    Ok(())
}

/// Refuses a configuration in which two proxies have one socket.
fn refuse_clashes(config: &Config) -> Result<(), Error> {
    let mut places = HashMap::new();
    for proxy in &config.proxies {
        if let Some(other) = places.insert(Place::of(proxy), &proxy.name) {
            return Err(Error::Clash(other.clone(), proxy.name.clone()));
        }
    }
    Ok(())
}

/// Returns in a moment in which no worker has a session.
async fn no_session_is_left(workers: &[Handle]) {
    loop {
        for worker in workers {
            ask(worker, Command::AwaitLast).await;
        }
        // While one worker was waited for, another may have been given a peer.
        let mut left = 0;
        for worker in workers {
            left += ask(worker, Command::Count).await.unwrap_or(0);
        }
        if left == 0 {
            return;
        }
    }
}

/// What a worker answers; nothing when it is gone.
async fn ask<T>(worker: &Handle, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    if worker.send(question(answer)) { answered.await.ok() } else { None }
}

// === impl HandOut ===

impl Reception for HandOut {
    fn admit(&self, peer: Stream, _remote: Endpoint) {
        let turn = self.next.get();
        self.next.set((turn + 1) % self.workers.len());
        // A peer that left already, or a worker that is gone: the peer sees its connection close.
        if let Ok(accepted) = Accepted::new(peer) {
            self.workers[turn].send(Command::Admit(self.proxy.clone(), accepted));
        }
    }

    fn turned_away(&self, reason: &'static str) {
        self.metrics.refused(reason);
    }
}

#[cfg(test)]
pub(crate) mod tests;
