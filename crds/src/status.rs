//! `status`: what the operator observed. Files ignore it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the operator observed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "GatewayConfigStatus::default")]
pub struct GatewayConfigStatus {
    /// The generation of the resource that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// By this sidecars tell which configuration they serve: the SHA-256 of the delivered file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub config_hash: Option<String>,

    /// The pods that this configuration concerns.
    pub pods: Pods,

    /// What these pods may open together, to compare with the database's own limit.
    pub connections: Connections,

    /// The first of the pods that fail.
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub failing: Vec<FailingPod>,

    /// `Accepted`, `Programmed`, `Ready`, `Degraded` and `RestartRequired`.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Pods, counted by how they stand to the configuration.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "Pods::default")]
pub struct Pods {
    /// Pods that asked for this configuration.
    pub matched: i32,
    /// Of those, pods that have the sidecar.
    pub injected: i32,
    /// Of those, pods that serve the newest configuration.
    pub up_to_date: i32,
    /// Of those, pods whose gateway is ready.
    pub ready: i32,
    /// Pods that refused the configuration, or whose gateway fails.
    pub failed: i32,
    /// Pods that could not be asked.
    pub unknown: i32,
}

/// Connections to the database that pods may open together.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "Connections::default")]
pub struct Connections {
    /// Connections that one pod may open, over all proxies and workers.
    pub per_pod: i64,
    /// Connections that all injected pods may open.
    pub total: i64,
}

/// A pod that fails, and why.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "FailingPod::default")]
#[schemars(extend("required" = ["name"]))]
pub struct FailingPod {
    /// The pod's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// What is wrong, for people.
    #[schemars(length(max = 1024))]
    pub reason: String,
}
