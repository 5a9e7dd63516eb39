//! `spec.proxies[].pool`: how many clients there are, and how long peers wait for one.

use crate::Duration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many clients there are, and how long peers wait for one.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "Pool::default")]
#[x_kube(validation = Rule::new("!has(self.minIdle) || !has(self.size) || self.minIdle <= self.size")
    .message("minIdle may not exceed size").field_path(".minIdle"))]
pub struct Pool {
    /// Connections to the database at one time. Default: 100 where a connection serves one session, 10 where the
    /// gateway logs in itself (`client.auth`). Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub size: Option<u32>,

    /// Connections kept warm for peers to come; equal to `size` keeps all of them. Default: 1, but none for a database
    /// that speaks first, such as MariaDB, unless it is written here. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_idle: Option<u32>,

    /// How long a client is lent: for a whole `session`, or for a `transaction` only. `transaction` needs
    /// `client.auth`. Live.
    pub mode: PoolMode,

    /// How long a peer waits for a client before it is refused; `0s` refuses at once. Live.
    pub acquire_timeout: Duration,

    /// Peers that wait at one time; while the database is up, those for whom a client is being dialed do not count. Live.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_waiting: u32,

    /// A warm client is replaced before it has been idle for this long; `0s` is never. Default: `30s`, because
    /// databases drop who does not log in; `10m` where the gateway logs in itself. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_idle: Option<Duration>,

    /// A client that is not lent is replaced before it is this old, a few at a time; `0s` is never. Live.
    pub max_age: Duration,

    /// A transaction without a query ends after this; `0s` is never. Where `client.auth` is present. Live.
    pub idle_transaction_timeout: Duration,
}

/// How long a client is lent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PoolMode {
    /// For a session.
    #[default]
    Session,
    /// For a transaction.
    Transaction,
}

// === impl Pool ===

impl Default for Pool {
    fn default() -> Self {
        Self {
            size: None,
            min_idle: None,
            mode: PoolMode::default(),
            acquire_timeout: Duration::from_secs(30),
            max_waiting: 1000,
            max_idle: None,
            max_age: Duration::from_secs(3600),
            idle_transaction_timeout: Duration::ZERO,
        }
    }
}
