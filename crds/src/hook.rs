//! `spec.hooks[]`: code that sees, and may change, what passes.

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
pub struct Hook {
    /// A built-in hook, `log` or `limit`, or the name that a plugin shall have in logs and metrics. Live.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Where a plugin's code comes from. Default: none, the hook is a built-in one. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub source: Option<String>,

    /// What becomes of the bytes when the hook fails: they `pass` as if it were not there, or the session is closed
    /// (`close`). Live.
    pub on_error: OnError,

    /// The hook's own settings. Live.
    #[schemars(schema_with = "free_form")]
    pub config: Map<String, Value>,
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

/// An object of which only the hook knows the keys.
fn free_form(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
