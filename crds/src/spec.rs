//! The resource itself and the settings that concern the whole gateway.

use crate::{Admin, Duration, GatewayConfigStatus, Hook, Log, Proxy, Sidecar};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one gateway does: its proxies, and what concerns the whole process.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "postern.dev",
    version = "v1alpha1",
    kind = "GatewayConfig",
    shortname = "gwc",
    category = "postern",
    namespaced,
    status = "GatewayConfigStatus",
    derive = "PartialEq",
    doc = "The configuration of a database gateway. `gateway run -f` reads the same document from a file.",
    validation = Rule::new("size(self.metadata.name) <= 52").message("metadata.name has at most 52 characters"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.pods.injected"),
    printcolumn(name = "Up-To-Date", type_ = "integer", json_path = ".status.pods.upToDate"),
    printcolumn(name = "Connections", type_ = "integer", json_path = ".status.connections.total"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", default = "GatewayConfigSpec::default")]
#[schemars(extend("required" = ["proxies"]))]
pub struct GatewayConfigSpec {
    /// The proxies, each one a server, a pool and the rules between them. Live.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(p, !has(p.server) || !has(p.server.address) || p.server.address.endsWith(':0') || self.exists_one(q, has(q.server) && has(q.server.address) && q.server.address == p.server.address && (has(q.server.network) ? q.server.network == 'udp' : has(q.client.network) && q.client.network == 'udp') == (has(p.server.network) ? p.server.network == 'udp' : has(p.client.network) && p.client.network == 'udp')))")
            .message("two proxies may not listen on the same address; give each one its own")
    )]
    pub proxies: Vec<Proxy>,

    /// Code that sees, and may change, what passes; called in this order. Live.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub hooks: Vec<Hook>,

    /// Threads that serve peers. Sizes and limits of a proxy hold for each of them. Restart-required.
    #[schemars(range(min = 1, max = 64))]
    pub workers: u32,

    /// From the signal to end until the end of the process, at most; keep it below the pod's termination grace period.
    /// Sessions are closed at their boundaries 5 s before. Live.
    pub drain_timeout: Duration,

    /// What `/readyz` follows: `listening` is ready as soon as every proxy accepts peers, `database` only while every
    /// database is up as well. Live.
    pub readiness: Readiness,

    /// What is logged, and how.
    pub log: Log,

    /// The HTTP endpoints for probes, metrics and the effective configuration.
    pub admin: Admin,

    /// What the injector adds to pods; without effect on a gateway run by hand.
    pub sidecar: Sidecar,
}

/// What `/readyz` follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Readiness {
    /// Ready as soon as every listener is open.
    #[default]
    Listening,
    /// Ready while every database is up as well.
    Database,
}

// === impl GatewayConfigSpec ===

impl Default for GatewayConfigSpec {
    fn default() -> Self {
        Self {
            proxies: Vec::new(),
            hooks: Vec::new(),
            workers: 1,
            drain_timeout: Duration::from_secs(25),
            readiness: Readiness::default(),
            log: Log::default(),
            admin: Admin::default(),
            sidecar: Sidecar::default(),
        }
    }
}
