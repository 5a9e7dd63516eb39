//! One run of the gateway: it serves what the file says, follows the file, and drains at a signal.
//!
//! By hand, a configuration that cannot be served at the start is said, and ends the run. A sidecar never ends before its
//! signal, because beside an application that is shutting down nobody would start it again: it waits for a better one.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};
use tracing::{error, info, warn};

use crate::admin::{self, Admin};
use crate::clock::{Instant, sleep};
use crate::config::pins::Pins;
use crate::config::reload::{self, Source, Watch};
use crate::config::{self, Config, LogConfig};
use crate::console::{Desk, Reload};
use crate::gateway::{self, Fixed, Gateway};
use crate::limits;
use crate::log::{self, Log};
use crate::metrics::Metrics;
use crate::secrets::{self, Secrets};
use crate::shutdown::{Asked, Drain, Signals};

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration.
    pub file: PathBuf,
    /// The folder that holds one folder for each Secret that the configuration names.
    pub secrets: PathBuf,
    /// Where proxies and the admin endpoints listen, whatever the configuration says.
    pub pins: Pins,
    /// The folder of what the pod says; who has one is a sidecar.
    pub pod: Option<PathBuf>,
}

/// A run that is about to begin: what was read, and a log.
pub struct Run {
    options: Options,
    watch: Watch,
    log: Log,
    first: Candidate,
    admin: SocketAddr,
}

/// What was read of the file.
struct Candidate {
    /// Empty where it could not be read.
    hash: String,
    /// Its bytes.
    document: Rc<[u8]>,
    config: Result<Config, String>,
}

/// A run that has begun.
struct Running {
    options: Options,
    log: Log,
    fixed: Fixed,
    metrics: Metrics,
    drain: Drain,
    admin: Rc<Admin>,
    /// None before the first configuration that can be served.
    gateway: Option<Gateway>,
    /// What cannot be done now, and is tried again.
    pending: Option<Pending>,
    /// The document that was taken for served last, be it served or pending.
    offered: Rc<[u8]>,
}

/// What is tried again; the first two by a sidecar only.
enum Pending {
    /// The file is missing, for this reason, of which it was last spoken at this time.
    File(String, Instant),
    /// The configuration with this hash could not be served, for this reason: an address is taken, say.
    Configuration(String, Box<Config>, String),
    /// The configuration with this hash is not served by every worker yet, for this reason.
    Workers(String, String),
}

/// How often it is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How often it says that it waits for its configuration.
const REMINDER: Duration = Duration::from_secs(10);
/// Consoles that ask to read the file again at one time; others wait for their turn.
const MOST_RELOADS: usize = 4;
/// The file of the pod's folder that overrides `log.level`.
const LOG_LEVEL: &str = "log-level";

// === impl Options ===

impl Options {
    fn is_sidecar(&self) -> bool {
        self.pod.is_some()
    }

    fn understand(&self, read: io::Result<Vec<u8>>) -> Candidate {
        match read {
            Ok(bytes) => {
                let config = config::load(&bytes);
                let config = config.map_err(|found| if self.is_sidecar() { found.of_a_sidecar() } else { found });
                let config = config.map_err(|problems| problems.to_string());
                Candidate { hash: reload::hash(&bytes), config, document: bytes.into() }
            }
            Err(error) => {
                let reason = format!("cannot read {}: {error}", self.file.display());
                Candidate { hash: String::new(), config: Err(reason), document: Rc::default() }
            }
        }
    }
}

// === impl Run ===

impl Run {
    /// Reads the files for the first time, and begins to log.
    ///
    /// # Errors
    /// By hand, there is no configuration that could be served; the log says why, one line for each problem.
    pub fn prepare(options: Options) -> Result<Run, ExitCode> {
        let mut watch = Watch::default();
        let read = watch.follow(Source::Document, &options.file);
        let written = || read.as_ref().map_or_else(|_| config::admin_of(&[]), |bytes| config::admin_of(bytes));
        let admin = options.pins.admin().unwrap_or_else(written);
        let first = options.understand(read);
        let config = first.config.as_ref();
        let log = config.map_or_else(|_| Log::start(&LogConfig::default()), |config| Log::start(&config.log));
        if let (Err(reason), false) = (&first.config, options.is_sidecar()) {
            let file = if first.hash.is_empty() { String::new() } else { format!("{}: ", options.file.display()) };
            reason.lines().for_each(|problem| error!("Not served: {file}{problem}"));
            return Err(ExitCode::FAILURE);
        }
        let name = config.map_or("", |config| &config.name);
        info!(version = env!("CARGO_PKG_VERSION"), name, file = %options.file.display(), "Starting");
        if let Some(pod) = &options.pod {
            secrets::keep_from_neighbours();
            follow_level(&log, watch.follow(Source::LogLevel, &pod.join(LOG_LEVEL)));
        }
        Ok(Run { options, watch, log, first, admin })
    }

    /// Serves until a signal ends it.
    ///
    /// # Errors
    /// By hand, what cannot be served.
    pub async fn serve(self) -> anyhow::Result<ExitCode> {
        let Run { options, mut watch, log, first, admin } = self;
        let (mut signals, metrics, drain) = (Signals::new()?, Metrics::new()?, Drain::default());
        let (pins, log_format, is_sidecar) = (options.pins.clone(), log.format(), options.is_sidecar());
        let secrets = Secrets::in_folder(&options.secrets);
        let told = Admin::new(metrics.clone(), drain.clone(), log.events().clone());
        let (asks_to_reload, mut reloads) = mpsc::channel(MOST_RELOADS);
        let (desk, console) = Desk::new(told.clone(), secrets.clone(), asks_to_reload);
        let mut running = Running {
            options,
            admin: told,
            log,
            fixed: Fixed { pins, admin, log_format, secrets, console, is_sidecar },
            metrics,
            drain,
            gateway: None,
            pending: None,
            offered: Rc::default(),
        };
        let answering = running.begin(first).await?;
        let at_the_desk = spawn_local(desk.serve()).abort_handle();
        running.follow(&mut watch, &mut signals, &mut reloads).await;
        let ended = running.finish(&mut signals).await;
        answering.abort();
        at_the_desk.abort();
        Ok(ended)
    }
}

// === impl Running ===

impl Running {
    /// Serves for the first time; only then the admin endpoints answer.
    async fn begin(&mut self, first: Candidate) -> anyhow::Result<AbortHandle> {
        let bound = admin::bind(self.fixed.admin).await;
        let listener = match bound {
            Err(sentence) if self.fixed.is_sidecar => {
                error!("Not on its admin address yet: {sentence}");
                None
            }
            bound => Some(bound.map_err(anyhow::Error::msg)?),
        };
        match first.config {
            Ok(config) if !self.fixed.is_sidecar => {
                self.offered = first.document;
                self.apply(config).await?;
                self.acknowledge(first.hash, None);
            }
            _ => self.take_over(first).await,
        }
        let (addr, admin) = (self.fixed.admin, self.admin.clone());
        let answering = spawn_local(async move {
            let listener = match listener {
                Some(listener) => listener,
                None => admin::bind_at_last(addr, RETRY).await,
            };
            admin::serve(listener, admin).await;
        });
        Ok(answering.abort_handle())
    }

    /// Takes changes over until a signal asks for the end.
    async fn follow(&mut self, watch: &mut Watch, signals: &mut Signals, reloads: &mut mpsc::Receiver<Reload>) {
        let mut retry = sleep(RETRY);
        loop {
            let (source, read) = tokio::select! {
                biased;
                asked = signals.next() => match asked {
                    Asked::Stop => return,
                    Asked::Reload => (Source::Document, watch.read_again(Source::Document)),
                },
                Some(reload) = reloads.recv() => {
                    let read = watch.read_again(Source::Document);
                    // Whoever asked may have left.
                    let _ = reload.send(self.reload(read).await);
                    continue;
                }
                (source, bytes) = watch.changed() => (source, Ok(bytes)),
                () = &mut retry, if self.pending.is_some() => {
                    self.try_again().await;
                    retry = sleep(RETRY);
                    continue;
                }
            };
            match (source, read) {
                (Source::LogLevel, read) => follow_level(&self.log, read),
                (Source::Document, Err(error)) => {
                    let file = self.options.file.display();
                    warn!(%file, %error, "Cannot read the configuration; the last one stays");
                }
                (Source::Document, read) => self.take_over(self.options.understand(read)).await,
            }
        }
    }

    /// Takes the file over because somebody asks for that; why it is not served, if so.
    async fn reload(&mut self, read: io::Result<Vec<u8>>) -> Result<(), String> {
        if let Err(error) = &read {
            return Err(format!("cannot read {}: {error}", self.options.file.display()));
        }
        self.take_over(self.options.understand(read)).await;
        self.admin.reason_for_refusal().map_or(Ok(()), Err)
    }

    /// Serves a changed file as a whole, or refuses it as a whole and says why.
    async fn take_over(&mut self, candidate: Candidate) {
        self.pending = None;
        match candidate.config {
            Ok(config) => {
                self.offered = candidate.document;
                self.try_to_serve(candidate.hash, config, None).await;
            }
            Err(reason) if candidate.hash.is_empty() => {
                warn!(reason, "Waiting for the configuration");
                self.admin.waits(String::new(), reason.clone());
                self.pending = Some(Pending::File(reason, Instant::now()));
            }
            Err(reason) => self.refuse(candidate.hash, reason),
        }
    }

    /// Serves `config`, or says why not, unless that has been `said` already.
    async fn try_to_serve(&mut self, hash: String, config: Config, said: Option<String>) {
        let kept = self.fixed.is_sidecar.then(|| Box::new(config.clone()));
        let Err(error) = self.apply(config).await else { return self.acknowledge(hash, None) };
        let reason = error.to_string();
        if said.as_ref() != Some(&reason) {
            self.refuse(hash.clone(), reason.clone());
        }
        self.pending = kept.map(|config| Pending::Configuration(hash, config, reason));
    }

    async fn try_again(&mut self) {
        match self.pending.take() {
            Some(Pending::Configuration(hash, config, reason)) => self.try_to_serve(hash, *config, Some(reason)).await,
            Some(Pending::File(reason, said)) if said.elapsed() >= REMINDER => {
                warn!(reason, "Still waiting for the configuration");
                self.pending = Some(Pending::File(reason, Instant::now()));
            }
            Some(Pending::Workers(hash, reason)) => self.acknowledge(hash, Some(&reason)),
            pending => self.pending = pending,
        }
    }

    async fn apply(&mut self, config: Config) -> Result<(), gateway::Error> {
        if let Some(gateway) = &mut self.gateway {
            return gateway.apply(config).await;
        }
        limits::raise(&config);
        let (fixed, metrics, drain) = (self.fixed.clone(), self.metrics.clone(), self.drain.clone());
        let gateway = Gateway::start(config, fixed, metrics, drain).await?;
        self.admin.follow(gateway.pulse());
        self.gateway = Some(gateway);
        Ok(())
    }

    /// Tells that the configuration with this hash is applied, once every worker serves it; until then says why it is not,
    /// unless that has been `said` already.
    fn acknowledge(&mut self, hash: String, said: Option<&str>) {
        let Some(gateway) = &mut self.gateway else { return };
        let Some(reason) = gateway.shortfall() else {
            info!(hash, "Configuration applied");
            self.log.set_level(gateway.config().log.level);
            return self.admin.applied(gateway, hash, self.offered.clone());
        };
        if said != Some(&*reason) {
            error!(hash, reason, "Configuration not applied yet");
        }
        self.admin.waits(hash.clone(), reason.clone());
        self.pending = Some(Pending::Workers(hash, reason));
    }

    fn refuse(&self, hash: String, reason: String) {
        if self.gateway.is_some() {
            error!(hash, reason, "Configuration refused; the last one stays");
        } else {
            error!(hash, reason, "Configuration refused; waiting for a better one");
        }
        self.admin.refused(hash, reason);
    }

    /// Drains; a second signal ends it at once.
    async fn finish(self, signals: &mut Signals) -> ExitCode {
        let Some(gateway) = self.gateway else { return ExitCode::SUCCESS };
        tokio::select! {
            biased;
            () = gateway.finish() => ExitCode::SUCCESS,
            () = second_stop(signals) => {
                warn!("A second signal: ending at once");
                ExitCode::FAILURE
            }
        }
    }
}

async fn second_stop(signals: &mut Signals) {
    while signals.next().await != Asked::Stop {}
}

/// Logs as much as the pod asks for; where it asks for nothing, or for nonsense, as the configuration does.
fn follow_level(log: &Log, read: io::Result<Vec<u8>>) {
    let asked = read.map_err(|error| format!("cannot read it: {error}")).and_then(|bytes| log::asked_level(&bytes));
    log.ask_for(asked.as_ref().copied().unwrap_or_default());
    match asked {
        Ok(Some(wanted)) => info!(%wanted, "The pod asks for this log level"),
        Ok(None) => {}
        Err(sentence) => warn!("The pod's {LOG_LEVEL}: {sentence}; the configuration's log.level holds"),
    }
}

#[cfg(test)]
mod tests;
