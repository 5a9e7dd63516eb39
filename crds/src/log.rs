//! `spec.log`: what is logged, and how.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is logged, and how.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "Log::default")]
pub struct Log {
    /// The least severe that is logged: `error`, `warn`, `info`, `debug` (a line for each chunk that passes) or
    /// `trace`. Live.
    pub level: LogLevel,

    /// One JSON object per line (`json`), or lines for reading (`text`).
    /// Default: `text` on a terminal, `json` elsewhere. Restart-required.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LogFormat")]
    pub format: Option<LogFormat>,
}

/// How severe something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// Something failed for good.
    Error,
    /// Something failed and is being dealt with.
    Warn,
    /// What an operator wants to read.
    #[default]
    Info,
    /// A line for each chunk.
    Debug,
    /// Everything.
    Trace,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For reading by eye.
    Text,
}
