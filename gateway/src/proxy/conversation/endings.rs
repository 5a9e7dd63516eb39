//! How a conversation ends otherwise than by the peer's leave, and what the peer is told last.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::{Conversation, Ended};
use crate::clock::timeout;
use crate::postgres::exchange;
use crate::postgres::wire::ErrorResponse;
use crate::proxy::turned_away::{killed, shutting_down};

/// How long a peer may take to hear the last words.
const FAREWELL: Duration = Duration::from_secs(1);

// === impl Conversation ===

impl Conversation<'_> {
    /// The database has closed the connection.
    pub(super) fn database_left(&mut self, error: Option<io::Error>) -> Ended {
        self.in_doubt = true;
        match (&self.lease, &error) {
            (Some(lease), Some(error)) => lease.failed(error),
            (Some(lease), None) => lease.closed_by_the_database(),
            (None, _) => {}
        }
        if self.exchange.is_over() {
            // It has told the peer itself why.
            return Ended::Database;
        }
        let how = error.as_ref().map_or_else(|| "it closed the connection".to_owned(), ToString::to_string);
        self.last_words = Some(
            ErrorResponse::fatal("08006", "the connection to the database was lost")
                .detail(format!("What was asked last may have been done or not: {how}."))
                .hint("Connect again; the gateway waits for the database to come back."),
        );
        Ended::DatabaseFailed(error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()))
    }

    /// A side broke the rules: the session ends, and on any doubt the client with it.
    pub(super) fn offended(&mut self, error: &exchange::Error) -> Ended {
        let (code, is_peers) = match error {
            exchange::Error::Peer(_) | exchange::Error::LongName => ("08P01", true),
            exchange::Error::TooMany(_) | exchange::Error::TooManyOwed | exchange::Error::LongStatement(_) => {
                ("53400", true)
            }
            exchange::Error::Database(_) | exchange::Error::Desync(_) => ("08P01", false),
            exchange::Error::Settings(_) => ("22023", false),
            exchange::Error::Over(said) => {
                let ended = self.database_left(None);
                self.last_words = Some(ErrorResponse::clone(said));
                return ended;
            }
        };
        // What a peer says wrongly does not reach the database: what it said before is noted, and shows whether there is a doubt.
        self.in_doubt |= !is_peers;
        self.last_words = Some(ErrorResponse::fatal(code, error.to_string()));
        if is_peers {
            return Ended::Protocol(error.to_string());
        }
        if let exchange::Error::Database(_) | exchange::Error::Desync(_) = error {
            self.proxy.sessions.metrics.pool.desync.inc();
        }
        Ended::DatabaseFailed(io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
    }

    /// Tells the peer how it ended, where it can still be told between two messages.
    pub(super) async fn part(&mut self, ended: &Ended) {
        match ended {
            Ended::Drain | Ended::Cut => self.last_words = Some(shutting_down()),
            Ended::Killed => self.last_words = Some(killed()),
            _ => {}
        }
        let Some(words) = self.last_words.take() else { return };
        if self.exchange.is_within_answer() {
            self.peer.reset_on_close();
            return;
        }
        let mut out = std::mem::take(&mut self.to_peer).to_vec();
        words.write(&mut out);
        let said = async {
            self.peer.write_all(&out).await?;
            self.peer.flush().await?;
            self.peer.shutdown().await
        };
        // Whoever does not listen is not told.
        let _ = timeout(FAREWELL, said).await;
    }
}
