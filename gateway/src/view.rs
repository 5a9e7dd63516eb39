//! What `/state` says: the gateway as it is at this moment. Each worker tells what it knows of its proxies, and what several
//! of them tell becomes one. Owned and plain: nothing here leads back to what it was told of.
//!
//! Times are seconds. What cannot be known, as the user of an opaque session, is null.

use serde::Serialize;
use tracing::Level;

use crate::admin::Status;
use crate::clock::Instant;
use crate::config::{PoolMode, Protocol, ProxyConfig};
use crate::log::Event;

mod merge;

pub use merge::merged;
pub(crate) use merge::shares;

/// The whole gateway.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// The version that runs.
    pub version: &'static str,
    /// The resource's name; empty before the first configuration.
    pub name: String,
    /// How long the process has run.
    pub uptime_seconds: f64,
    /// Whether it has been asked to end.
    pub draining: bool,
    /// How many workers there are.
    pub workers: usize,
    /// How many of them have not answered in time: what they know is missing.
    pub silent_workers: usize,
    /// What `/config` says.
    pub config: Status,
    /// Each proxy, in the order of the configuration.
    pub proxies: Vec<ProxyView>,
    /// The last lines of the log at level info or above, the oldest first.
    pub events: Vec<EventView>,
}

/// One proxy.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyView {
    /// Its name.
    pub name: String,
    /// `opaque` or `postgres`.
    pub protocol: &'static str,
    /// `opaque`, `passthrough`, `session` or `transaction`.
    pub mode: &'static str,
    /// The network of its peers.
    pub network: &'static str,
    /// The address that peers dial.
    pub address: String,
    /// Peers that are here.
    pub sessions: usize,
    /// Peers that may be here at one time.
    pub max_peers: usize,
    /// Its clients, and who waits for one.
    pub pool: PoolView,
    /// What is known of its database.
    pub database: DatabaseView,
    /// What has happened since the start of the process.
    pub totals: Totals,
    /// How many of the sessions are listed: those that wait first, then those with something to do, then the oldest.
    pub sessions_listed: usize,
    /// How many of the clients are listed: those that are lent first, then the oldest.
    pub clients_listed: usize,
    /// The sessions.
    pub session_list: Vec<SessionView>,
    /// The clients that are connected.
    pub client_list: Vec<ClientView>,
}

/// A pool.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolView {
    /// The most clients there may be.
    pub size: usize,
    /// Clients that are kept warm.
    pub min_idle: usize,
    /// Clients that nobody has.
    pub idle: usize,
    /// Clients that a session has, or that are being reset after it.
    pub lent: usize,
    /// How many of those that are lent are being reset.
    pub resetting: usize,
    /// Clients that are being dialed.
    pub dialing: usize,
    /// Peers that wait for a client.
    pub waiting: usize,
    /// For how long the first of them has waited.
    pub longest_wait_seconds: f64,
    /// Whether nobody gets a client until somebody resumes it.
    pub paused: bool,
}

/// What is known of a database.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseView {
    /// How it is.
    pub state: DatabaseState,
    /// For how long it has been so.
    pub since_seconds: f64,
    /// Its addresses, in order of preference.
    pub addresses: Vec<String>,
    /// Where the newest client leads.
    pub current: Option<String>,
    /// How long ago that one was dialed: of several workers the last counts.
    #[serde(skip)]
    pub current_seconds: f64,
    /// While it is not up: what the last dial met.
    pub cause: Option<String>,
    /// The last thing that went wrong, also when it is up.
    pub last_error: Option<ErrorView>,
    /// While it is not up: how it is dialed.
    pub retry: Option<RetryView>,
}

/// How a database is, the better state first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseState {
    /// Nobody dialed it yet, or of what it is a dial says nothing (UDP).
    Unknown,
    /// The last dial succeeded.
    Up,
    /// It is dialed by its schedule.
    Away,
    /// The schedule is over; it is dialed on at the pace of its last wait.
    Down,
}

/// Something that went wrong.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorView {
    /// How long ago.
    pub ago_seconds: f64,
    /// What it was.
    pub text: String,
}

/// How a database is dialed that is not up.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryView {
    /// Scheduled dials that have failed since it went away.
    pub attempt: u32,
    /// Dials of one schedule, the first included.
    pub of: u64,
    /// 1 while the schedule runs, 2 when it is over and each wait is as its last one (1 s to 30 s).
    pub round: u32,
    /// Until the next scheduled dial; null while one is under way.
    pub next_dial_seconds: Option<f64>,
    /// The waits of the schedule without jitter, at most 64 of them.
    pub waits: Vec<f64>,
    /// The wait between two dials once the schedule is over.
    pub pace_seconds: f64,
}

/// What has happened since the start of the process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Peers that were accepted.
    pub sessions: u64,
    /// Peers that were turned away.
    pub refused: u64,
    /// Bytes that were sent to the database.
    pub bytes_to_database: u64,
    /// Bytes that were sent to peers.
    pub bytes_to_peers: u64,
    /// Transactions that ended.
    pub transactions: u64,
    /// Times that the database was ready for the next query.
    pub queries: u64,
    /// Dials that have ended.
    pub dials: u64,
    /// Dials that led to no client.
    pub dials_failed: u64,
}

/// A session.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// Its number, as in the log.
    pub id: u64,
    /// Where the peer dialed from; `unix` where that has no name.
    pub peer: String,
    /// Who the peer says it is.
    pub user: Option<String>,
    /// The database that it asked for.
    pub database: Option<String>,
    /// What it calls itself.
    pub application: Option<String>,
    /// What it does.
    pub state: SessionState,
    /// How long it has been here.
    pub since_seconds: f64,
    /// How long it has been in its state.
    pub state_since_seconds: f64,
    /// Whether it waits for a client.
    pub waits: bool,
    /// The number of the client that it has.
    pub client: Option<u64>,
}

/// What a session does, the more urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// It waits for a client.
    Waiting,
    /// It has a client, and something to do with it.
    Active,
    /// It has none, or has asked nothing.
    Idle,
}

/// A client.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientView {
    /// Its number.
    pub id: u64,
    /// The database's end of it.
    pub remote: String,
    /// Our end of it.
    pub local: String,
    /// Who is logged in, where the gateway has done that.
    pub user: Option<String>,
    /// In which database.
    pub database: Option<String>,
    /// What becomes of it.
    pub state: ClientState,
    /// How long it has been connected.
    pub age_seconds: f64,
    /// The process of the database that serves it, where the gateway has logged in.
    pub backend_pid: Option<u32>,
}

/// What becomes of a client, the more urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientState {
    /// A session has it.
    Lent,
    /// What a session left behind is being removed.
    Resetting,
    /// Nobody has it.
    Idle,
}

/// A line of the log.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// How long ago it was logged.
    pub ago_seconds: f64,
    /// `error`, `warn` or `info`.
    pub level: &'static str,
    /// The proxy that it is about, if it says so.
    pub proxy: Option<String>,
    /// What it says.
    pub text: String,
}

/// So many sessions are listed over all, and so many clients: more than anybody reads, and some hundred KiB.
pub const MOST_LISTED: usize = 1000;

// === impl ProxyView ===

impl ProxyView {
    /// What its configuration says of a proxy that has been there since `began`, and nothing else.
    pub(crate) fn of(config: &ProxyConfig, began: Instant, now: Instant) -> ProxyView {
        let (protocol, mode) = match (config.protocol, config.is_managed(), config.pool.mode) {
            (Protocol::Opaque, ..) => ("opaque", "opaque"),
            (Protocol::Postgres, false, _) => ("postgres", "passthrough"),
            (Protocol::Postgres, true, PoolMode::Session) => ("postgres", "session"),
            (Protocol::Postgres, true, PoolMode::Transaction) => ("postgres", "transaction"),
        };
        ProxyView {
            name: config.name.to_string(),
            protocol,
            mode,
            network: config.server.listen.network(),
            address: config.server.listen.to_string(),
            sessions: 0,
            max_peers: config.server.max_peers,
            pool: PoolView::default(),
            database: DatabaseView {
                state: DatabaseState::Unknown,
                since_seconds: seconds(began, now),
                addresses: config.client.addresses.iter().map(ToString::to_string).collect(),
                current: None,
                current_seconds: 0.0,
                cause: None,
                last_error: None,
                retry: None,
            },
            totals: Totals::default(),
            sessions_listed: 0,
            clients_listed: 0,
            session_list: Vec::new(),
            client_list: Vec::new(),
        }
    }
}

// === impl EventView ===

impl EventView {
    pub(crate) fn of(event: Event, now: Instant) -> EventView {
        let level = match event.level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => "info",
        };
        EventView { ago_seconds: seconds(event.at, now), level, proxy: event.proxy, text: event.text }
    }
}

/// From `since` to `now`, to the millisecond.
pub(crate) fn seconds(since: Instant, now: Instant) -> f64 {
    (now.saturating_duration_since(since).as_secs_f64() * 1000.0).round() / 1000.0
}
