//! What the gateway believes: a [`Config`] is complete, consistent and free of options that depend on one another.
//!
//! People write a `crds::GatewayConfigSpec`; `Config::try_from` turns it into this, once, and nothing behind it looks
//! at what was written again. Defaults that depend on the mode are resolved there (`design 3.11`).

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod tree;
mod document;
mod belief;
pub mod check;
pub mod pins;
pub mod reload;

pub use document::{MAX_DOCUMENT, Problems, admin_of};

/// All that one gateway process does.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The resource's name; for logs and `/config`.
    pub name: String,
    /// The proxies, in the order of the document; their names are unique.
    pub proxies: Vec<Arc<ProxyConfig>>,
    /// The hooks, in the order in which they are called.
    pub hooks: Vec<HookConfig>,
    /// Threads that serve peers; restart-required.
    pub workers: NonZeroUsize,
    /// From the first signal to the end of the process, at most.
    pub drain_timeout: Duration,
    /// What `/readyz` follows.
    pub readiness: Readiness,
    /// How much is logged, and in what form.
    pub log: LogConfig,
    /// Where the admin endpoints listen; restart-required.
    pub admin: SocketAddr,
}

/// What `/readyz` follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Ready as soon as every listener is open.
    Listening,
    /// Ready while every proxy's database is up as well.
    Database,
}

/// How much is logged, and in what form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The least severe level that is logged.
    pub level: tracing::Level,
    /// The form; `None` is text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For reading by eye.
    Text,
}

/// One server, one pool, and the rules between them.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyConfig {
    /// By this name a proxy is found again at a reload.
    pub name: Arc<str>,
    /// What the proxy understands of what passes.
    pub protocol: Protocol,
    /// How peers reach us.
    pub server: ServerConfig,
    /// How many clients there are, and how long peers wait for one.
    pub pool: PoolConfig,
    /// How the database is reached.
    pub client: ClientConfig,
}

/// What a proxy understands of what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Nothing: bytes.
    Opaque,
    /// The PostgreSQL wire protocol.
    Postgres,
}

/// How peers reach us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// The address that peers dial.
    pub listen: Listen,
    /// Peers at one time, for each worker.
    pub max_peers: usize,
    /// A session without a byte in either direction ends after this; `None`: never (UDP always has one).
    pub idle_timeout: Option<Duration>,
    /// The database whose name gets peers the console instead; `None`: there is none.
    pub console: Option<Arc<str>>,
    /// How peers prove who they are, where the gateway itself logs in to the database.
    pub auth: PeerAuth,
    /// Encryption that peers are offered; `None`: none.
    pub tls: Option<PeerTls>,
}

/// How peers prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAuth {
    /// Who can dial us is believed.
    Trust,
    /// By SCRAM-SHA-256, with the password of this Secret.
    Scram(Arc<str>),
}

/// Encryption that peers are offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTls {
    /// Whether peers without it are refused.
    pub is_required: bool,
    /// The Secret with `tls.crt` and `tls.key`.
    pub secret: Arc<str>,
}

/// An address that peers dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// A TCP address; port 0 is any free one.
    Tcp(SocketAddr),
    /// A UDP address; port 0 is any free one.
    Udp(SocketAddr),
    /// A Unix stream socket.
    Unix {
        /// Its absolute path, at most 107 bytes.
        path: PathBuf,
        /// Its permissions, so that any user id of the pod can connect.
        mode: u32,
    },
}

/// How many clients there are, and how long peers wait for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Clients at one time, dialing ones included, for each worker.
    pub size: NonZeroUsize,
    /// Clients that are kept warm.
    pub min_idle: usize,
    /// Whether the database is dialed before somebody needs it, because readiness follows it.
    pub dials_first: bool,
    /// Whether `min_idle` was written by a person: only then is a database that speaks first kept warm (`design 3.5`).
    pub min_idle_is_explicit: bool,
    /// How long a peer waits for a client; zero refuses at once.
    pub acquire_timeout: Duration,
    /// Peers that wait at one time, for each worker.
    pub max_waiting: usize,
    /// A warm client is recycled before it has been idle for this long; `None`: never.
    pub max_idle: Option<Duration>,
    /// A client that is not lent is recycled before it is this old; `None`: never.
    pub max_age: Option<Duration>,
    /// How long a client is lent.
    pub mode: PoolMode,
    /// A transaction without a query ends after this; `None`: never.
    pub idle_transaction_timeout: Option<Duration>,
}

/// How long a client is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// For a session.
    Session,
    /// For a transaction.
    Transaction,
}

/// How the database is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientConfig {
    /// The database's addresses, in order of preference; never empty.
    pub addresses: Vec<Address>,
    /// Bounds one dial: resolving and connecting; `None`: no bound.
    pub dial_timeout: Option<Duration>,
    /// When a failed dial is tried again.
    pub retry: RetryConfig,
    /// While a peer waits and the database is down, a dial at least this often; `None`: only the schedule's.
    pub probe: Option<Duration>,
    /// Bytes of one read, 1 to 16 MiB.
    pub receive_chunk_size: NonZeroUsize,
    /// A send to the database that takes longer ends the client; `None`: no bound.
    pub send_deadline: Option<Duration>,
    /// Silence of the database after bytes were sent to it ends the client after this; `None`: no bound.
    pub receive_deadline: Option<Duration>,
    /// Silence of the database after bytes were sent to it is warned of and counted after this; `None`: never.
    pub receive_timeout: Option<Duration>,
    /// Keep-alive probes start, and repeat, after this; `None`: off.
    pub tcp_keep_alive_period: Option<Duration>,
    /// Sent bytes that stay unacknowledged for this long end the client; `None`: the system's default.
    pub tcp_user_timeout: Option<Duration>,
    /// Encryption towards the database; `None`: none.
    pub tls: Option<ClientTls>,
    /// The gateway's own login; its presence makes the proxy a managed one.
    pub auth: Option<ClientAuth>,
    /// Which of the addresses will do; anything but `Any` needs `auth`.
    pub target: Target,
}

/// Encryption towards the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// How much of the database's identity is verified.
    pub mode: TlsMode,
    /// The Secret with `ca.crt` and, for a client certificate, `tls.crt` and `tls.key`.
    pub secret: Option<Arc<str>>,
    /// The name that the certificate must bear; `None`: the host of the address.
    pub server_name: Option<Arc<str>>,
    /// Whether TLS starts with the first byte, instead of being asked for in PostgreSQL's way.
    pub is_direct: bool,
}

/// How much of the database's identity is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Encryption if the database offers it, whatever its certificate.
    Prefer,
    /// Encryption, whatever the certificate.
    Require,
    /// A certificate of the known authority.
    VerifyCa,
    /// A certificate of the known authority, for this host.
    VerifyFull,
}

/// The gateway's own login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// The Secret with `username` and `password`.
    pub secret: Arc<str>,
    /// The database that warm clients are connected to; `None`: the one named like the user.
    pub database: Option<Arc<str>>,
}

/// Which server of the addresses will do, by its state (libpq's `target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any server.
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

/// An address of the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP host (name or literal address) and port.
    Tcp(HostPort),
    /// A UDP host (name or literal address) and port.
    Udp(HostPort),
    /// A Unix stream socket.
    Unix(PathBuf),
}

/// A host (name or literal address, without brackets) and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The name, resolved anew at each dial, or the literal address.
    pub host: Arc<str>,
    /// The port, never 0.
    pub port: u16,
}

/// When a failed dial is tried again: the seeds' "Retries and backoff", caps already applied to `retries` and `multiplier`.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryConfig {
    /// Attempts after the first.
    pub retries: u32,
    /// The unit of the waits; zero retries at once.
    pub backoff: Duration,
    /// Before retry *n* the wait is `backoff` x `multiplier`^n; zero retries at once.
    pub multiplier: f64,
    /// The longest single wait; `None` where the caps are disabled.
    pub cap: Option<Duration>,
    /// Each wait is shortened by a random part of at most this fraction, 0 to 1.
    pub jitter: f64,
}

/// One hook of the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct HookConfig {
    /// The name of a built-in hook.
    pub name: String,
    /// What becomes of the bytes when the hook fails.
    pub on_error: OnError,
    /// The hook's own settings.
    pub config: serde_json::Value,
}

/// What becomes of the bytes when a hook fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// They pass as if the hook were not there.
    Pass,
    /// The session is closed.
    Close,
}

/// Reads a document and believes it, or says everything that is wrong with it.
pub fn load(bytes: &[u8]) -> Result<Config, Problems> {
    Config::try_from(&document::Document::read(bytes)?.config)
}

// === impl ProxyConfig ===

impl ProxyConfig {
    /// Whether the gateway itself logs in to the database, so that a clean client can serve many sessions.
    pub fn is_managed(&self) -> bool {
        self.client.auth.is_some()
    }
}

// === impl LogConfig ===

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { level: tracing::Level::INFO, format: None }
    }
}

// === impl LogFormat ===

impl fmt::Display for LogFormat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            LogFormat::Json => "json",
            LogFormat::Text => "text",
        })
    }
}

// === impl Listen ===

impl Listen {
    /// The network as the configuration calls it.
    pub fn network(&self) -> &'static str {
        match self {
            Listen::Tcp(_) => "tcp",
            Listen::Udp(_) => "udp",
            Listen::Unix { .. } => "unix",
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(addr) | Listen::Udp(addr) => addr.fmt(out),
            Listen::Unix { path, .. } => path.display().fmt(out),
        }
    }
}

// === impl Address ===

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host) | Address::Udp(host) => host.fmt(out),
            Address::Unix(path) => path.display().fmt(out),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}
