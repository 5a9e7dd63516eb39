//! `spec.proxies[].client`: how the database is reached.

use crate::{Duration, Network};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// More retries than this are not made, unless `disableBackoffCaps`.
pub const MAX_RETRIES: u32 = 10;

/// A larger `backoffMultiplier` counts as this, unless `disableBackoffCaps`.
pub const MAX_BACKOFF_MULTIPLIER: f64 = 10.0;

/// A longer wait between two dials is shortened to this, unless `disableBackoffCaps`.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// How the database is reached.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "Client::default")]
#[schemars(extend("required" = ["addresses"]))]
#[x_kube(validation = Rule::new(r"has(self.network) && self.network == 'unix' ? self.addresses.all(a, a.startsWith('/')) : self.addresses.all(a, a.matches('^([^:/ ]+|\\[[0-9a-fA-F:.]+\\]):[0-9]{1,5}$'))")
    .message("addresses are host:port, or absolute paths where network is unix").field_path(".addresses"))]
pub struct Client {
    /// `tcp`, `unix` or `udp`. Live.
    pub network: Network,

    /// The database, in order of preference: `host:port` each (an IPv6 address in brackets), or the absolute path of a
    /// socket. Names are resolved again at each dial. Live.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 261)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub addresses: Vec<String>,

    /// Which of the addresses will do, by the state of the server found there: `any`, `read-write`, `read-only`,
    /// `primary`, `standby` or `prefer-standby`. All but `any` need `client.auth`. Live.
    pub target_session_attrs: TargetSessionAttrs,

    /// Bounds one dial: resolving, connecting, TLS and login; `0s` is no bound. Live.
    pub dial_timeout: Duration,

    /// Attempts after the first before the database counts as down; `0` is one attempt. At most 10 are made, unless
    /// `disableBackoffCaps`. Live.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub retries: u32,

    /// The unit of the waits between attempts: before retry *n* we wait backoff x backoffMultiplier^*n*. `0s` retries at
    /// once. A wait is at most 60 s, unless `disableBackoffCaps`. Live.
    pub backoff: Duration,

    /// By this each wait grows over the one before; fractions are exact, `0` retries at once. At most 10 counts, unless
    /// `disableBackoffCaps`. Live.
    #[schemars(range(min = 0.0))]
    pub backoff_multiplier: f64,

    /// Lifts the caps of `retries`, `backoff` and `backoffMultiplier`. Live.
    pub disable_backoff_caps: bool,

    /// Each wait is shortened by a random part of at most this fraction, 0 to 1, so that a fleet does not dial in step.
    /// Live.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: f64,

    /// While a peer waits and the database is down it is dialed about this often, beside the schedule; `0s` is off. Live.
    pub probe: Duration,

    /// Bytes of one read, up to 16 MiB. Results are streamed, so it bounds neither a message nor a result. Live.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub receive_chunk_size: u32,

    /// A send to the database that takes longer ends its connection; `0s` is no bound. Live.
    pub send_deadline: Duration,

    /// Silence of the database after something was sent to it ends its connection after this; `0s` is no bound. Live.
    pub receive_deadline: Duration,

    /// Silence of the database after something was sent to it is warned of and counted after this, and ends nothing;
    /// where `client.auth` is present the query is cancelled. `0s` is never. Live.
    pub receive_timeout: Duration,

    /// TCP keep-alive starts, and repeats, after this; `0s` is off. Live.
    pub tcp_keep_alive_period: Duration,

    /// Sent bytes that stay unacknowledged for this long end the connection; `0s` is the system's default. Live.
    pub tcp_user_timeout: Duration,

    /// Encryption between us and the database.
    pub tls: ClientTls,

    /// The gateway's own login. Its presence makes the proxy a managed one: clients are authenticated beforehand, reset
    /// and reused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<ClientAuth>,
}

/// Which server of the addresses will do, by its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TargetSessionAttrs {
    /// Any server.
    #[default]
    Any,
    /// One that accepts writes.
    ReadWrite,
    /// One that refuses writes.
    ReadOnly,
    /// One that is not in recovery.
    Primary,
    /// One that is in recovery.
    Standby,
    /// A standby, else any.
    PreferStandby,
}

/// Encryption between us and the database.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "ClientTls::default")]
#[x_kube(validation = Rule::new("!has(self.mode) || !self.mode.startsWith('verify-') || has(self.secretName)")
    .message("mode verify-ca and mode verify-full need secretName").field_path(".secretName"))]
pub struct ClientTls {
    /// `disable`, `prefer` (if the database offers it), `require` (whatever its certificate), `verify-ca` (signed by
    /// the Secret's authority) or `verify-full` (and for this host). Live.
    pub mode: ClientTlsMode,

    /// The Secret with `ca.crt` and, for a client certificate, `tls.crt` and `tls.key`.
    /// Default: none; `verify-ca` and `verify-full` need one. Restart-required.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,

    /// The name that the certificate must bear. Default: the host of the address. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub server_name: Option<String>,

    /// How TLS begins: `postgres` asks for it in PostgreSQL's way, `direct` starts with it. Live.
    pub negotiation: TlsNegotiation,
}

/// How much of the database's identity is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientTlsMode {
    /// No encryption.
    #[default]
    Disable,
    /// Encryption if the database offers it.
    Prefer,
    /// Encryption, whatever the certificate.
    Require,
    /// A certificate of the known authority.
    VerifyCa,
    /// A certificate of the known authority, for this host.
    VerifyFull,
}

/// How TLS begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TlsNegotiation {
    /// By PostgreSQL's SSLRequest.
    #[default]
    Postgres,
    /// With the first byte.
    Direct,
}

/// The gateway's own login.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "ClientAuth::default")]
#[schemars(extend("required" = ["secretName"]))]
pub struct ClientAuth {
    /// The Secret with `username` and `password`. Restart-required.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: String,

    /// The database that warm clients are connected to. Default: the one named like the user. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub database: Option<String>,
}

// === impl Client ===

impl Default for Client {
    fn default() -> Self {
        Self {
            network: Network::default(),
            addresses: Vec::new(),
            target_session_attrs: TargetSessionAttrs::default(),
            dial_timeout: Duration::from_secs(60),
            retries: 3,
            backoff: Duration::from_secs(1),
            backoff_multiplier: 2.0,
            disable_backoff_caps: false,
            jitter: 0.0,
            probe: Duration::from_millis(500),
            receive_chunk_size: 8192,
            send_deadline: Duration::ZERO,
            receive_deadline: Duration::ZERO,
            receive_timeout: Duration::ZERO,
            tcp_keep_alive_period: Duration::from_secs(30),
            tcp_user_timeout: Duration::from_secs(15),
            tls: ClientTls::default(),
            auth: None,
        }
    }
}
