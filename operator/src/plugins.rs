//! Plugins that come from `ConfigMap`s: which code a configuration means, by its digest, and what has to be delivered
//! beside it.
//!
//! A digest is written into every such hook, so that what is rendered says everything: other code is another
//! configuration, which is delivered, awaited and reported like any edit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::{GatewayConfig, GatewayConfigSpec, Hook, PluginConfigMap, Problem};

use crate::caches::{Code, PluginMap};
use crate::names;

/// Bytes of plugins that are delivered with one configuration, at most: a `ConfigMap` holds little more.
pub const MAX_PLUGINS: usize = 900 * 1024;
/// More keys than this are not named in a sentence.
const MOST_KEYS: usize = 5;
/// What a digest in the resource begins with.
const ALGORITHM: &str = "sha256:";

/// Code that is delivered beside a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Carried {
    /// The SHA-256 of its bytes, in hexadecimal digits.
    pub digest: String,
    /// The `ConfigMap` that it comes from.
    pub map: String,
    /// The key under which it stands there.
    pub key: String,
}

/// `config` with the digest of every plugin that comes from a `ConfigMap`, which `look` finds by its name; or why not.
pub fn pin(
    config: &Arc<GatewayConfig>,
    look: impl Fn(&str) -> Option<Arc<PluginMap>>,
) -> Result<Arc<GatewayConfig>, Vec<Problem>> {
    if !config.spec.hooks.iter().any(|hook| config_map(hook).is_some()) {
        return Ok(config.clone());
    }
    let mut pinned = GatewayConfig::clone(config);
    let (mut sizes, mut problems) = (BTreeMap::new(), Vec::new());
    for (index, hook) in pinned.spec.hooks.iter_mut().enumerate() {
        let Some(source) = config_map(hook) else { continue };
        match find(source, hook.digest.as_deref(), &look) {
            Ok(code) => {
                hook.digest = Some(format!("{ALGORITHM}{}", code.digest));
                sizes.insert(code.digest, code.size);
            }
            Err((key, sentence)) => problems.push(Problem::new(format!("spec.hooks[{index}].{key}"), sentence)),
        }
    }
    let size: usize = sizes.values().sum();
    if size > MAX_PLUGINS {
        let sentence = format!(
            "the plugins from ConfigMaps have {size} bytes together, and {MAX_PLUGINS} are delivered at most; make them \
             smaller, or put them into an image and name them by source.file"
        );
        problems.push(Problem::new("spec.hooks", sentence));
    }
    if problems.is_empty() { Ok(Arc::new(pinned)) } else { Err(problems) }
}

/// The code that `source` means, which has to be what `digest` says; or what is wrong, and with which setting.
fn find(
    source: &PluginConfigMap,
    digest: Option<&str>,
    look: impl Fn(&str) -> Option<Arc<PluginMap>>,
) -> Result<Code, (&'static str, String)> {
    let PluginConfigMap { name, key } = source;
    let Some(map) = look(name) else {
        let label = names::PLUGIN;
        let sentence =
            format!("there is no ConfigMap {name:?} with the label {label}: \"true\" here; create it, or label it");
        return Err(("source.configMap.name", sentence));
    };
    let Some(code) = map.code.get(key) else {
        let keys: Vec<&str> = map.code.keys().take(MOST_KEYS).map(String::as_str).collect();
        let keys = if keys.is_empty() { "nothing".into() } else { keys.join(", ") };
        let sentence =
            format!("the ConfigMap {name:?} has no {key:?} in its binaryData, which holds {keys}; correct one of them");
        return Err(("source.configMap.key", sentence));
    };
    match digest.map(|digest| digest.trim_start_matches(ALGORITHM)) {
        Some(digest) if digest != code.digest => {
            let found = &code.digest;
            let sentence = format!(
                "the ConfigMap {name:?} holds other code under {key:?}, {ALGORITHM}{found}; write that digest, or put back \
                 the code that is meant"
            );
            Err(("digest", sentence))
        }
        _ => Ok(code.clone()),
    }
}

/// What has to be delivered beside `spec`, whose plugins are pinned; each code once.
pub fn carried(spec: &GatewayConfigSpec) -> Vec<Carried> {
    let carried = spec.hooks.iter().filter_map(|hook| {
        let PluginConfigMap { name, key } = config_map(hook)?;
        let digest = hook.digest.as_deref()?.strip_prefix(ALGORITHM)?;
        Some(Carried { digest: digest.to_owned(), map: name.clone(), key: key.clone() })
    });
    let mut digests = BTreeSet::new();
    carried.filter(|carried| digests.insert(carried.digest.clone())).collect()
}

/// The `ConfigMap`s that the plugins of `spec` come from.
pub fn maps(spec: &GatewayConfigSpec) -> impl Iterator<Item = &str> {
    spec.hooks.iter().filter_map(config_map).map(|source| source.name.as_str())
}

/// The Secrets that the plugins of `spec` come from, each with its key.
pub fn secrets(spec: &GatewayConfigSpec) -> impl Iterator<Item = (&String, &String)> {
    let secrets = spec.hooks.iter().filter_map(|hook| hook.source.as_ref()?.secret.as_ref());
    secrets.map(|source| (&source.name, &source.key))
}

fn config_map(hook: &Hook) -> Option<&PluginConfigMap> {
    hook.source.as_ref()?.config_map.as_ref()
}

// === impl Carried ===

impl Carried {
    /// The file under which the gateway looks for it, beside its configuration.
    pub fn file(&self) -> String {
        names::plugin_file(&self.digest)
    }
}

#[cfg(test)]
mod tests;
