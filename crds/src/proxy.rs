//! `spec.proxies[]`: one server, one pool, and the rules between them.

use crate::{Client, Network, Pool, Server};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One server, one pool, and the rules between them.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "Proxy::default")]
#[schemars(extend("required" = ["name", "client"]))]
#[x_kube(
    validation = Rule::new("has(self.protocol) && self.protocol == 'postgres' || !has(self.client.auth)")
        .message("client.auth needs protocol postgres").field_path(".client.auth"),
    validation = Rule::new("!has(self.protocol) || self.protocol != 'postgres' || !has(self.client.network) || self.client.network != 'udp'")
        .message("protocol postgres does not run over udp; use tcp or unix").field_path(".client.network"),
    validation = Rule::new("!has(self.server) || !has(self.server.console) || self.server.console == '' || has(self.protocol) && self.protocol == 'postgres'")
        .message("server.console needs protocol postgres").field_path(".server.console"),
    validation = Rule::new("!has(self.pool) || !has(self.pool.mode) || self.pool.mode == 'session' || has(self.client.auth)")
        .message("pool.mode transaction needs client.auth").field_path(".pool.mode"),
    validation = Rule::new("!has(self.client.targetSessionAttrs) || self.client.targetSessionAttrs == 'any' || has(self.client.auth)")
        .message("targetSessionAttrs other than any needs client.auth").field_path(".client.targetSessionAttrs"),
    validation = Rule::new("!has(self.server) || !has(self.server.auth) || !has(self.server.auth.mode) || self.server.auth.mode == 'trust' || has(self.client.auth)")
        .message("server.auth.mode scram needs client.auth").field_path(".server.auth.mode"),
    validation = Rule::new("!has(self.pool) || !has(self.pool.idleTransactionTimeout) || self.pool.idleTransactionTimeout == '0s' || has(self.client.auth)")
        .message("idleTransactionTimeout needs client.auth").field_path(".pool.idleTransactionTimeout"),
    validation = Rule::new("!has(self.server) || !has(self.server.network) || (self.server.network == 'udp') == (has(self.client.network) && self.client.network == 'udp')")
        .message("udp goes with udp only; give server and client both the network udp, or neither").field_path(".server.network"),
    validation = Rule::new("!has(self.server) || !has(self.server.address) || (has(self.server.network) ? self.server.network == 'unix' : has(self.client.network) && self.client.network == 'unix') == self.server.address.startsWith('/')")
        .message("a unix server listens on an absolute path, a tcp or udp server on a literal IP:port").field_path(".server.address")
)]
pub struct Proxy {
    /// Names the proxy in logs and metrics, and finds it again when the configuration changes. Live.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// What is understood of what passes: `opaque` is nothing, so any database works; `postgres` is the PostgreSQL wire
    /// protocol. Live.
    pub protocol: Protocol,

    /// How peers, the application's connections, reach us.
    pub server: Server,

    /// How many connections to the database there are, and how long peers wait for one.
    pub pool: Pool,

    /// How the database is reached.
    pub client: Client,
}

/// What a proxy understands of what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// Nothing: bytes.
    #[default]
    Opaque,
    /// The PostgreSQL wire protocol.
    Postgres,
}

// === impl Proxy ===

impl Proxy {
    /// The network on which peers come: the server's own, else the client's.
    pub fn server_network(&self) -> Network {
        self.server.network.unwrap_or(self.client.network)
    }

    /// Whether the gateway itself logs in to the database, so that a clean client can serve many sessions.
    pub fn is_managed(&self) -> bool {
        self.protocol == Protocol::Postgres && self.client.auth.is_some()
    }
}
