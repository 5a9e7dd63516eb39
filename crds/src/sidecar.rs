//! `spec.sidecar`: what the injector adds to pods.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the injector adds to pods.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "Sidecar::default")]
pub struct Sidecar {
    /// The gateway's image. Default: the operator's own version. Restart-required.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// What the container asks for, and may use.
    pub resources: Resources,

    /// How the application finds the gateway: by environment `variables` (PGHOST, PGPORT and
    /// `POSTERN_<NAME>_HOST`, `_PORT`), by the database's own host names (`hosts`), or not at all (`none`).
    /// Restart-required.
    pub env: SidecarEnv,
}

/// What a container asks for, and may use.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "Resources::default")]
pub struct Resources {
    /// What the container is scheduled by. Default: the operator's. Restart-required.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub requests: BTreeMap<String, Quantity>,

    /// What the container may not exceed. Default: the operator's, which limits memory only. Restart-required.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub limits: BTreeMap<String, Quantity>,
}

/// How the application finds the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SidecarEnv {
    /// By environment variables.
    #[default]
    Variables,
    /// By the database's own host names.
    Hosts,
    /// Not at all.
    None,
}
