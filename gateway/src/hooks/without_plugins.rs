//! What stands in the place of plugins in a gateway that is built without them: none is ever configured.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Make;
use crate::config::HookConfig;
use crate::metrics::Metrics;
use crate::secrets::Secrets;

/// Where the files are that a configuration names.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder of the configuration.
    pub folder: PathBuf,
    /// Where the Secrets are.
    pub secrets: Secrets,
}

/// The plugins of one configuration: none.
#[derive(Clone, Debug, Default)]
pub struct Plugins;

/// Finds no plugins.
#[derive(Clone, Debug)]
pub struct Loader;

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
    /// Whether its code is just not here.
    pub is_absent: bool,
    /// What is wrong.
    pub sentence: String,
}

// === impl Places ===

impl Places {
    /// Where the files are that the configuration in `file` names.
    pub fn of(file: &Path, secrets: Secrets) -> Places {
        Places { folder: file.parent().unwrap_or(Path::new("")).to_owned(), secrets }
    }
}

// === impl Loader ===

impl Loader {
    /// One that would find the code in `places`.
    pub fn new(_places: Places, _metrics: Metrics) -> Loader {
        Loader
    }

    /// Loads the plugins among `hooks`.
    ///
    /// # Errors
    /// There is one.
    #[expect(clippy::unused_async, reason = "with plugins it takes its time")]
    pub async fn load_aside(&self, hooks: &[HookConfig]) -> Result<Plugins, Refused> {
        self.load(hooks)
    }

    /// Loads the plugins among `hooks`.
    ///
    /// # Errors
    /// There is one.
    pub fn load(&self, hooks: &[HookConfig]) -> Result<Plugins, Refused> {
        let sentence = "this gateway was built without plugins".to_owned();
        match hooks.iter().enumerate().find(|(_, hook)| hook.plugin.is_some()) {
            Some((index, hook)) => Err(Refused { index, name: hook.name.clone(), is_absent: false, sentence }),
            None => Ok(Plugins),
        }
    }

    /// Loads the plugins among `hooks`, and tells of each what it is.
    pub fn examine(&self, hooks: &[HookConfig]) -> Vec<Result<Found, Refused>> {
        self.load(hooks).err().into_iter().map(Err).collect()
    }
}

// === impl Plugins ===

impl Plugins {
    #[expect(clippy::unused_self, reason = "with plugins it is asked for one")]
    pub(super) fn maker(&self, name: &str) -> Result<Make, String> {
        Err(format!("the plugin {name:?} was not loaded"))
    }
}
