//! Plugins: hooks that are WebAssembly components. The code is found ([`source`]), compiled once ([`sandbox`]), and each
//! session has an [`instance`] of its own, which is [offered](offer) little and may take little. What it is shown of a
//! session, and what becomes of its verdicts, is in [`attendant`].

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tokio::task::spawn_blocking;

use super::{Failure, Make};
use crate::config::{HookConfig, PluginConfig, PluginLimits};
use crate::metrics::{CallMetrics, Metrics, PluginMetrics};

mod source;
mod wit;
mod sandbox;
mod offer;
mod instance;
mod attendant;
mod messages;
mod refusals;
mod rows;
mod ledger;

pub use source::Places;

use attendant::Attendant;
use instance::{Alive, Function, Stopped};
use offer::{State, Voice};
use sandbox::Sandbox;
use source::{Digest, Missing};
use wit::PluginPre;
use wit::postern::plugin::types::Interests;

/// The plugins of one configuration. Cheap to clone.
#[derive(Clone, Default)]
pub struct Plugins(Vec<Arc<Plugin>>);

/// Finds, compiles and checks plugins, and remembers what it has compiled for the configuration that it saw last. Cheap to
/// clone.
#[derive(Clone)]
pub struct Loader {
    places: Places,
    metrics: Metrics,
    known: Arc<Mutex<Known>>,
}

/// What was compiled, or why it cannot be.
#[derive(Default)]
struct Known {
    sandbox: Option<Arc<Sandbox>>,
    codes: Vec<(Digest, Result<PluginPre<State>, String>)>,
}

/// A plugin that took its configuration.
struct Plugin {
    blueprint: Blueprint,
    interests: Interests,
    metrics: PluginMetrics,
    /// By function, for those that are called.
    calls: Vec<Option<CallMetrics>>,
}

/// All that an instance is made of.
struct Blueprint {
    name: Arc<str>,
    code: PluginPre<State>,
    sandbox: Arc<Sandbox>,
    /// The hook's settings, as JSON.
    config: String,
    limits: PluginLimits,
    voice: Arc<Voice>,
}

/// A plugin that can be had.
#[derive(Debug)]
pub struct Found {
    /// The hook's name.
    pub name: String,
    /// Of its code, as a configuration has it.
    pub digest: String,
    /// What it wants to be called for.
    pub hooks: Vec<&'static str>,
}

/// Why a plugin cannot be had.
#[derive(Debug, Error)]
#[error("spec.hooks[{index}]: the plugin {name:?}: {sentence}")]
pub struct Refused {
    /// Which of the hooks it is.
    pub index: usize,
    /// The hook's name.
    pub name: String,
    /// Whether its code is just not here, which a person who checks a configuration need not have.
    pub is_absent: bool,
    /// What is wrong.
    pub sentence: String,
}

// === impl Loader ===

impl Loader {
    /// One that finds the code in `places`.
    pub fn new(places: Places, metrics: Metrics) -> Loader {
        Loader { places, metrics, known: Arc::default() }
    }

    /// Loads the plugins among `hooks`, on a thread for that, because it takes its time.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub async fn load_aside(&self, hooks: &[HookConfig]) -> Result<Plugins, Refused> {
        if hooks.iter().all(|hook| hook.plugin.is_none()) {
            self.forget();
            return Ok(Plugins::default());
        }
        let (loader, hooks) = (self.clone(), hooks.to_vec());
        let outcome = spawn_blocking(move || loader.load(&hooks)).await;
        outcome.unwrap_or_else(|error| {
            let name = String::new();
            Err(Refused { index: 0, name, is_absent: false, sentence: format!("loading it was cut off: {error}") })
        })
    }

    /// Loads the plugins among `hooks`.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub fn load(&self, hooks: &[HookConfig]) -> Result<Plugins, Refused> {
        self.each(hooks).into_iter().map(|(_, loaded)| loaded.map(Arc::new)).collect::<Result<_, _>>().map(Plugins)
    }

    /// Loads the plugins among `hooks`, and tells of each what it is.
    pub fn examine(&self, hooks: &[HookConfig]) -> Vec<Result<Found, Refused>> {
        let examined = self.each(hooks).into_iter().map(|(digest, loaded)| match loaded {
            Ok(plugin) => Ok(Found {
                name: plugin.blueprint.name.to_string(),
                digest: format!("sha256:{}", source::hex(digest)),
                hooks: Function::ALL
                    .into_iter()
                    .filter(|function| plugin.calls(*function).is_some())
                    .map(Function::name)
                    .collect(),
            }),
            Err(refused) => Err(refused),
        });
        examined.collect()
    }

    /// Each of the plugins among `hooks`, and the digest of its code.
    fn each(&self, hooks: &[HookConfig]) -> Vec<(Digest, Result<Plugin, Refused>)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut known.codes);
        let plugins = hooks.iter().enumerate().filter_map(|(index, hook)| Some((index, hook, hook.plugin.as_ref()?)));
        let each = plugins.map(|(index, hook, plugin)| {
            let refused = |is_absent, sentence| Refused { index, name: hook.name.clone(), is_absent, sentence };
            let (code, digest) = match self.places.read(plugin) {
                Ok(read) => read,
                Err(Missing::Absent(sentence)) => return (Digest::default(), Err(refused(true, sentence))),
                Err(Missing::Wrong(sentence)) => return (Digest::default(), Err(refused(false, sentence))),
            };
            let compiled = known.compiled(&before, digest, &code);
            let loaded = compiled.and_then(|code| self.plugin(self.blueprint(hook, plugin, code)));
            (digest, loaded.map_err(|sentence| refused(false, sentence)))
        });
        each.collect()
    }

    fn blueprint(&self, hook: &HookConfig, plugin: &PluginConfig, (sandbox, code): Code) -> Blueprint {
        let name: Arc<str> = hook.name.as_str().into();
        let voice = Arc::new(Voice::new(name.clone(), self.metrics.plugin(&name)));
        let (config, limits) = (hook.config.to_string(), plugin.limits.clone());
        Blueprint { name, code, sandbox, config, limits, voice }
    }

    /// Has it take its configuration.
    fn plugin(&self, blueprint: Blueprint) -> Result<Plugin, String> {
        let metrics = self.metrics.plugin(&blueprint.name);
        let configured = Alive::new(&blueprint, 0);
        let interests = match configured {
            Ok((_, Ok(interests))) => interests,
            Ok((_, Err(sentence))) => return Err(format!("it refuses its configuration: {sentence}")),
            Err(Stopped { sentence, .. }) => return Err(format!("it does not take its configuration: {sentence}")),
        };
        let calls = |function: Function| {
            let is_called = function != Function::Configure && interests.contains(function.interest());
            is_called.then(|| metrics.calls(function.name()))
        };
        let calls = Function::ALL.into_iter().map(calls).collect();
        Ok(Plugin { blueprint, interests, metrics, calls })
    }

    /// Without plugins nothing of theirs is kept, but by sessions that still have one.
    fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Known::default();
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Loader").field("places", &self.places).finish_non_exhaustive()
    }
}

type Code = (Arc<Sandbox>, PluginPre<State>);

// === impl Known ===

impl Known {
    /// The machine code of `code`, which may be known from `before`.
    fn compiled(
        &mut self,
        before: &[(Digest, Result<PluginPre<State>, String>)],
        digest: Digest,
        code: &[u8],
    ) -> Result<Code, String> {
        let sandbox = match &self.sandbox {
            Some(sandbox) => sandbox.clone(),
            None => self.sandbox.insert(Arc::new(Sandbox::new()?)).clone(),
        };
        let found = self.codes.iter().chain(before).find(|(known, _)| *known == digest);
        let compiled = found.map_or_else(|| sandbox.compile(code), |(_, compiled)| compiled.clone());
        self.codes.push((digest, compiled.clone()));
        Ok((sandbox, compiled?))
    }
}

// === impl Plugins ===

impl Plugins {
    /// What makes the plugin's hook of this name for a session.
    ///
    /// # Errors
    /// It was not loaded.
    pub(super) fn maker(&self, name: &str) -> Result<Make, String> {
        let plugin = self.0.iter().find(|plugin| &*plugin.blueprint.name == name);
        let plugin = plugin.ok_or_else(|| format!("the plugin {name:?} was not loaded"))?.clone();
        Ok(Box::new(move |session| Box::new(Attendant::new(plugin.clone(), session))))
    }
}

// === impl Plugin ===

impl Plugin {
    /// Where calls of this function are counted; nothing where there are none.
    fn calls(&self, function: Function) -> Option<&CallMetrics> {
        self.calls.get(function as usize).and_then(Option::as_ref)
    }

    fn wants(&self, interest: Interests) -> bool {
        self.interests.contains(interest)
    }

    /// Counts what went wrong.
    fn failed(&self, function: Function, Stopped { reason, sentence }: Stopped) -> Failure {
        self.metrics.failed(function.name(), reason);
        Failure::new(format!("{}: {sentence}", function.name()))
    }

    /// Counts a call that cannot be made, because one before it failed.
    fn is_dead(&self, function: Function) -> Failure {
        self.metrics.failed(function.name(), "dead");
        Failure { is_known: true, ..Failure::new("it has failed before in this session") }
    }
}

#[cfg(test)]
mod tests;
