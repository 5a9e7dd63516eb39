//! What a gateway says of itself on `/state`: its pools, its databases, and what went wrong last.
//!
//! A field that is missing has its default, because gateways are of other versions too.

use serde::Deserialize;

use crate::sidecars::ask::Report;

/// What a gateway says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// Which configuration it serves.
    pub report: Report,
    /// What it does right now; nothing from a gateway that is too old to say.
    pub state: Option<State>,
}

/// What a gateway does right now.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Its version.
    pub version: String,
    /// How long it has been running.
    pub uptime_seconds: f64,
    /// Whether it is about to end.
    pub draining: bool,
    /// Which configuration it serves.
    pub config: Report,
    /// Its proxies.
    pub proxies: Vec<Proxy>,
}

/// What one proxy does right now.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxy {
    /// Its name.
    pub name: String,
    /// `opaque`, `passthrough`, `session` or `transaction`.
    pub mode: String,
    /// Where peers dial.
    pub address: String,
    /// Peers that are connected.
    pub sessions: u64,
    /// Connections to the database.
    pub pool: Pool,
    /// The database.
    pub database: Database,
    /// Counters since the start.
    pub totals: Totals,
}

/// The connections of one proxy to its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pool {
    /// At most.
    pub size: u64,
    /// Ready for the next peer.
    pub idle: u64,
    /// With a peer.
    pub lent: u64,
    /// About to be.
    pub dialing: u64,
    /// Peers that wait.
    pub waiting: u64,
    /// The one that has waited longest.
    pub longest_wait_seconds: f64,
    /// Whether nothing is lent until somebody resumes.
    pub paused: bool,
}

/// How one proxy stands to its database.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Database {
    /// `up`, `away`, `down` or `unknown`.
    pub state: String,
    /// Since when.
    pub since_seconds: f64,
    /// Where it may be.
    pub addresses: Vec<String>,
    /// Where it is.
    pub current: Option<String>,
    /// Why it is away.
    pub cause: Option<String>,
    /// The last thing that went wrong.
    pub last_error: Option<LastError>,
    /// Where the schedule stands while it is away.
    pub retry: Option<Retry>,
}

/// The last thing that went wrong.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LastError {
    /// How long ago.
    pub ago_seconds: f64,
    /// What.
    pub text: String,
}

/// Where a schedule stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// Dials of this round so far.
    pub attempt: u64,
    /// Of so many.
    pub of: u64,
    /// 1 while the schedule runs; more once it is over, and the pace is steady.
    pub round: u64,
    /// Until the next one.
    pub next_dial_seconds: Option<f64>,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Totals {
    /// Peers that came.
    pub sessions: u64,
    /// Peers that were refused.
    pub refused: u64,
    /// Transactions.
    pub transactions: u64,
    /// Queries.
    pub queries: u64,
    /// Bytes towards the database.
    pub bytes_to_database: u64,
    /// Bytes towards peers.
    pub bytes_to_peers: u64,
}

// === impl Proxy ===

impl Proxy {
    /// Why it has no database right now, if it has none: it is away, or it answers and lets nobody in.
    pub fn trouble(&self) -> Option<&str> {
        let last = self.database.last_error.as_ref().map(|error| error.text.as_str());
        let is_of_login = |text: &&str| text.contains(" refused the login: ") || text.starts_with("cannot log in to ");
        let is_empty = self.pool.idle + self.pool.lent == 0;
        self.database.trouble().or_else(|| last.filter(is_of_login).filter(|_| is_empty))
    }
}

// === impl Database ===

impl Database {
    /// Whether it was dialed, and is not there.
    pub fn is_away(&self) -> bool {
        matches!(self.state.as_str(), "away" | "down")
    }

    /// What is wrong with it, if anything is right now: why it is away, or what hinders the first connection.
    pub fn trouble(&self) -> Option<&str> {
        let last = self.last_error.as_ref().map(|error| error.text.as_str());
        match self.state.as_str() {
            "up" => None,
            "away" | "down" => self.cause.as_deref().or(last),
            _ => last,
        }
    }
}
