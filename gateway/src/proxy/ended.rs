//! How sessions end: by whom, and whether something may have been cut off.

use std::io;

use super::watchdog::Expired;
use crate::pool;

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The peer closed first.
    Peer,
    /// The database closed first.
    Database,
    /// The peer closed its half while it waited for a client.
    GaveUp,
    /// The connection to the peer failed.
    PeerFailed(io::Error),
    /// The connection to the database failed.
    DatabaseFailed(io::Error),
    /// The pool had no client for it.
    Refused(pool::Error),
    /// A datagram session that had been idle for long, when another peer needed its place.
    MadeRoom,
    /// A limit of time passed.
    Expired(Expired),
    /// A hook closed it.
    Hook,
    /// The peer was not welcome, and has been told why: the metric's word, and the sentence.
    Unwelcome(&'static str, String),
    /// The peer broke the protocol's rules.
    Protocol(String),
    /// The peer waited for a client, and somebody cancelled that.
    Cancelled,
    /// A transaction was open for too long, and nothing happened in it.
    IdleTransaction,
    /// Somebody ended it from the console.
    Killed,
    /// The gateway is being shut down, and the session was between two exchanges.
    Drain,
    /// The gateway is being shut down, and the time was over.
    Cut,
}

// === impl Ended ===

impl Ended {
    /// The end as a metric's label.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Ended::Peer => "peer",
            Ended::Database => "database",
            Ended::GaveUp => "peer_gave_up",
            Ended::PeerFailed(_) => "peer_failed",
            Ended::DatabaseFailed(_) => "database_failed",
            Ended::Refused(error) => error.reason(),
            Ended::Expired(expired) => expired.reason(),
            Ended::MadeRoom => "made_room",
            Ended::Hook => "hook",
            Ended::Unwelcome(reason, _) => reason,
            Ended::Protocol(_) => "protocol",
            Ended::Cancelled => "cancelled",
            Ended::IdleTransaction => "idle_transaction",
            Ended::Killed => "killed",
            Ended::Drain => "drain",
            Ended::Cut => "cut",
        }
    }

    /// Whether something may have been cut off, so that the other side must see a reset and not a regular end.
    pub(crate) fn is_abrupt(&self) -> bool {
        match self {
            Ended::GaveUp
            | Ended::PeerFailed(_)
            | Ended::DatabaseFailed(_)
            | Ended::Refused(_)
            | Ended::Hook
            | Ended::Cut => true,
            Ended::Expired(expired) => expired.is_abrupt(),
            Ended::Peer
            | Ended::Database
            | Ended::MadeRoom
            | Ended::Drain
            // These have been told.
            | Ended::Unwelcome(..)
            | Ended::Protocol(_)
            | Ended::Killed
            | Ended::Cancelled
            | Ended::IdleTransaction => false,
        }
    }
}
