//! `spec.admin`: the HTTP endpoints for probes, metrics and the effective configuration.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The HTTP endpoints for probes, metrics and the effective configuration.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "Admin::default")]
pub struct Admin {
    /// Where `/livez`, `/readyz`, `/startupz`, `/metrics` and `/config` are served: a literal `IP:port`. Without IPv6
    /// `[::]` becomes `0.0.0.0`. Restart-required.
    #[schemars(length(min = 1, max = 64))]
    pub address: String,
}

// === impl Admin ===

impl Default for Admin {
    fn default() -> Self {
        Self { address: "[::]:19187".into() }
    }
}
