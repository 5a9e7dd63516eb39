//! `spec.hooks[]`: code that sees, and may change, what passes.

use crate::{Duration, Size};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The hooks that need no plugin.
pub const BUILT_IN_HOOKS: [&str; 2] = ["log", "limit"];

/// One hook of the chain.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "Hook::default")]
#[schemars(extend("required" = ["name"]))]
#[x_kube(validation = Rule::new("!has(self.source) || size([has(self.source.configMap), has(self.source.secret), has(self.source.file), has(self.source.oci)].filter(is_written, is_written)) == 1")
    .message("a plugin comes from exactly one of configMap, secret, file and oci").field_path(".source"))]
#[x_kube(validation = Rule::new("!has(self.source) || !has(self.source.oci)")
    .message("this version fetches nothing from a registry; put the plugin into a ConfigMap").field_path(".source"))]
#[x_kube(validation = Rule::new("!has(self.digest) || has(self.source)")
    .message("digest is a plugin's, and needs source").field_path(".digest"))]
pub struct Hook {
    /// A built-in hook, `log` or `limit`, or the name that a plugin shall have in logs and metrics. Live.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Where a plugin's code comes from, which is a WebAssembly component: exactly one of the four. Without it the hook
    /// is a built-in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<PluginSource>,

    /// What the plugin's code has to be: `sha256:` and the 64 hexadecimal digits of its SHA-256. Other code is refused.
    /// Default: whatever the source holds. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,

    /// What becomes of the bytes when the hook fails: they `pass` as if it were not there, or the session is closed
    /// (`close`). Live.
    pub on_error: OnError,

    /// What a plugin may take; it is stopped where it takes more, and has failed.
    pub limits: PluginLimits,

    /// The hook's own settings; a plugin gets them as JSON. Live.
    #[schemars(schema_with = "free_form")]
    pub config: Map<String, Value>,
}

/// Where a plugin's code comes from: exactly one of these.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "PluginSource::default")]
pub struct PluginSource {
    /// A ConfigMap of the same namespace that has the label `postern.dev/plugin: "true"`, with the code in its
    /// `binaryData`. It is brought to running pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<PluginConfigMap>,

    /// A Secret of the same namespace, mounted into the pod when it is created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<PluginSecret>,

    /// A file where the gateway runs, as its image has it; relative to the folder of the configuration.
    /// Default: none. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub file: Option<String>,

    /// An artifact of a registry. This version fetches none, and refuses it. Default: none. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub oci: Option<String>,
}

/// One value of a ConfigMap.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "PluginConfigMap::default")]
#[schemars(extend("required" = ["name"]))]
pub struct PluginConfigMap {
    /// The ConfigMap's name. Live.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,

    /// The key under which the code stands. Live.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-zA-Z0-9][-._a-zA-Z0-9]*$"))]
    pub key: String,
}

/// One value of a Secret.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "PluginSecret::default")]
#[schemars(extend("required" = ["name"]))]
pub struct PluginSecret {
    /// The Secret's name. Restart-required.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,

    /// The key under which the code stands. Live.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-zA-Z0-9][-._a-zA-Z0-9]*$"))]
    pub key: String,
}

/// What a plugin may take.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "PluginLimits::default")]
pub struct PluginLimits {
    /// Memory of one session's instance, in bytes or with `Ki`, `Mi` or `Gi`. Live.
    pub memory: Size,

    /// Instructions of one call, roughly. Live.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub fuel: u32,

    /// Time of one call; other sessions of the same thread wait for so long at most. Live.
    pub time: Duration,
}

/// What becomes of the bytes when a hook fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnError {
    /// They pass.
    #[default]
    Pass,
    /// The session is closed.
    Close,
}

/// The key under which a plugin's code stands, where nothing else is written.
const DEFAULT_KEY: &str = "plugin.wasm";

// === impl PluginConfigMap ===

impl Default for PluginConfigMap {
    fn default() -> Self {
        Self { name: String::new(), key: DEFAULT_KEY.into() }
    }
}

// === impl PluginSecret ===

impl Default for PluginSecret {
    fn default() -> Self {
        Self { name: String::new(), key: DEFAULT_KEY.into() }
    }
}

// === impl PluginLimits ===

impl Default for PluginLimits {
    fn default() -> Self {
        Self { memory: Size::from_mebibytes(16), fuel: 10_000_000, time: Duration::from_millis(5) }
    }
}

/// An object of which only the hook knows the keys.
fn free_form(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
