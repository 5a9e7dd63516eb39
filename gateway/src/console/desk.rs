//! The main thread's side of the consoles: it knows the whole gateway, and asks the workers to do what a console wants.

use std::rc::Rc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::command::{Command, Proxies, Victims};
use super::samples::Samples;
use super::settings::{resident, settings};
use super::table::{Row, Show};
use super::tables::{self, Facts, ProxyFacts};
use super::usage::Usage;
use super::{Answer, Console, Question};
use crate::admin::Admin;
use crate::clock::{Instant, sleep_until};
use crate::config::ProxyConfig;
use crate::postgres::wire::ErrorResponse;
use crate::secrets::Secrets;
use crate::view::View;

/// Answers what consoles ask.
pub(crate) struct Desk {
    asked: mpsc::Receiver<Question>,
    counter: Rc<Counter>,
}

/// What all answers need.
struct Counter {
    admin: Rc<Admin>,
    secrets: Secrets,
    reloads: mpsc::Sender<Reload>,
    samples: Samples,
}

/// Asks whoever follows the file to read it now; answered with why it is not served, if so.
pub(crate) type Reload = oneshot::Sender<Result<(), String>>;

/// Questions that nobody has looked at.
const MOST_QUESTIONS: usize = 64;

// === impl Desk ===

impl Desk {
    /// A desk, and the consoles' way to it.
    pub(crate) fn new(admin: Rc<Admin>, secrets: Secrets, reloads: mpsc::Sender<Reload>) -> (Desk, Console) {
        let (asks, asked) = mpsc::channel(MOST_QUESTIONS);
        let counter = Rc::new(Counter { admin, secrets, reloads, samples: Samples::default() });
        (Desk { asked, counter }, Console::new(asks))
    }

    /// Answers for as long as it is polled; whoever waits for the end of something holds up nobody.
    pub(crate) async fn serve(mut self) {
        let mut answering = JoinSet::new();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                biased;
                question = self.asked.recv() => {
                    let Some(question) = question else { return };
                    let counter = self.counter.clone();
                    answering.spawn_local(async move { counter.serve(question).await });
                }
                Some(_) = answering.join_next(), if !answering.is_empty() => {}
                () = sleep_until(next) => {
                    next = Instant::now() + Samples::INTERVAL;
                    self.counter.samples.take(&self.counter.usages());
                }
            }
        }
    }
}

// === impl Counter ===

impl Counter {
    async fn serve(&self, question: Question) {
        let Question { command, mut answer } = question;
        let done = match command {
            Command::Show(show) => Ok(self.show(show).await),
            Command::Pause(which) => self.pause(&which, &mut answer).await,
            Command::Resume(which) => self.resume(which).await,
            Command::Reconnect(which) => self.reconnect(&which).await,
            Command::Reload => self.reload().await,
            Command::Kill(victims, _) => self.kill(victims).await,
            Command::Setting(_) | Command::Help | Command::Nothing(_) => Ok(Vec::new()),
        };
        // Whoever asked may have left.
        let _ = answer.send(done);
    }

    async fn show(&self, show: Show) -> Vec<Row> {
        tables::rows(show, &self.facts(show).await)
    }

    async fn facts(&self, show: Show) -> Facts {
        let view = self.admin.view().await;
        let config = self.admin.config();
        let of = |name: &str| {
            let proxies = config.iter().flat_map(|config| &config.proxies);
            proxies.into_iter().find(|proxy| *proxy.name == *name).map(|proxy| self.proxy(proxy)).unwrap_or_default()
        };
        let settings = if show == Show::Config { settings(&self.admin.document()) } else { Vec::new() };
        Facts {
            proxies: view.proxies.iter().map(|proxy| of(&proxy.name)).collect(),
            view,
            settings,
            resident: resident(),
            now: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
        }
    }

    fn proxy(&self, config: &ProxyConfig) -> ProxyFacts {
        let auth = config.client.auth.as_ref();
        let user = auth.and_then(|auth| self.secrets.username(&auth.secret).ok()).map(|user| user.to_string());
        let total = Usage::of(&self.admin.metrics_of(&config.name));
        ProxyFacts {
            database: auth.and_then(|auth| auth.database.as_deref()).map(str::to_owned).or_else(|| user.clone()),
            user,
            max_age: config.pool.max_age,
            total,
            lately: self.samples.since(&config.name, total),
        }
    }

    fn usages(&self) -> Vec<(String, Usage)> {
        let config = self.admin.config();
        let proxies = config.iter().flat_map(|config| &config.proxies);
        proxies.map(|proxy| (proxy.name.to_string(), Usage::of(&self.admin.metrics_of(&proxy.name)))).collect()
    }

    /// Holds the clients back, and waits until none is lent any more; whoever stops waiting resumes them.
    async fn pause(&self, which: &Proxies, waits: &mut oneshot::Sender<Answer>) -> Answer {
        let view = self.known(which).await?;
        if let Some(proxy) = of(&view, which).find(|(_, is_paused)| *is_paused) {
            return Err(not_now(&format!("proxy {:?} is paused already", proxy.0)));
        }
        let pulse = self.admin.pulse();
        let is_done = tokio::select! {
            biased;
            () = pulse.pause(which) => true,
            () = waits.closed() => false,
        };
        if !is_done {
            pulse.resume(which).await;
        }
        Ok(Vec::new())
    }

    async fn resume(&self, which: Proxies) -> Answer {
        let view = self.known(&which).await?;
        if !of(&view, &which).any(|(_, is_paused)| is_paused) {
            return Err(not_now(&match which {
                Proxies::All => "no proxy is paused".to_owned(),
                Proxies::Named(name) => format!("proxy {name:?} is not paused"),
            }));
        }
        self.admin.pulse().resume(&which).await;
        Ok(Vec::new())
    }

    async fn reconnect(&self, which: &Proxies) -> Answer {
        self.known(which).await?;
        self.admin.pulse().reconnect(which).await;
        Ok(Vec::new())
    }

    async fn reload(&self) -> Answer {
        let (reload, reloaded) = oneshot::channel();
        let refused = |reason: String| {
            ErrorResponse::error("F0000", format!("the configuration is not served: {reason}"))
                .hint("What was served before still is; SHOW CONFIG tells it.")
        };
        let is_asked = self.reloads.send(reload).await.is_ok();
        match reloaded.await {
            Ok(Ok(())) => Ok(Vec::new()),
            Ok(Err(reason)) => Err(Box::new(refused(reason))),
            Err(_) if is_asked => Err(Box::new(refused("the gateway is ending".to_owned()))),
            Err(_) => Err(Box::new(refused("nobody follows the file any more".to_owned()))),
        }
    }

    async fn kill(&self, victims: Victims) -> Answer {
        if let Victims::Of(name) = &victims {
            self.known(&Proxies::Named(name.clone())).await?;
        }
        let killed = self.admin.pulse().kill(&victims).await;
        match victims {
            Victims::Session(number) if killed == 0 => {
                let sentence = format!("there is no session {number}");
                Err(Box::new(ErrorResponse::error("42704", sentence).hint("SHOW CLIENTS lists them by their id.")))
            }
            Victims::Session(_) | Victims::Of(_) => Ok(Vec::new()),
        }
    }

    /// The gateway as it is, if it has the proxy.
    async fn known(&self, which: &Proxies) -> Result<View, Box<ErrorResponse>> {
        let view = self.admin.view().await;
        let Proxies::Named(name) = which else { return Ok(view) };
        match view.proxies.iter().find(|proxy| proxy.name == *name) {
            Some(proxy) if proxy.network == "udp" => {
                let sentence = format!("proxy {name:?} has no pool: its peers send datagrams");
                Err(Box::new(ErrorResponse::error("0A000", sentence)))
            }
            Some(_) => Ok(view),
            None => {
                let names: Vec<_> = view.proxies.iter().map(|proxy| proxy.name.as_str()).collect();
                let response = ErrorResponse::error("3D000", format!("there is no proxy {name:?}"));
                Err(Box::new(response.hint(format!("There are: {}.", names.join(", ")))))
            }
        }
    }
}

/// The proxies that are meant and have a pool, and whether they are paused.
fn of<'a>(view: &'a View, which: &'a Proxies) -> impl Iterator<Item = (&'a str, bool)> {
    let with_pool = view.proxies.iter().filter(|proxy| proxy.network != "udp");
    with_pool.filter(|proxy| which.are(&proxy.name)).map(|proxy| (proxy.name.as_str(), proxy.pool.paused))
}

#[expect(clippy::unnecessary_box_returns, reason = "answers carry it so, to be small when all is well")]
fn not_now(sentence: &str) -> Box<ErrorResponse> {
    Box::new(ErrorResponse::error("55000", sentence))
}
