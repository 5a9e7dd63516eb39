//! The limits of time of one conversation, and what the peer is told when one has passed.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tracing::warn;

use super::{Conversation, Ended, Expired, Passed};
use crate::clock::sleep;
use crate::postgres::wire::ErrorResponse;

/// How long the rest of a message may take that keeps a client outside a transaction: shorter ones keep none, and a peer
/// writes a long one at once.
const REST: Duration = Duration::from_secs(10);

// === impl Conversation ===

impl Conversation<'_> {
    pub(super) fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if self.poll_silence(cx).is_ready() {
            return Poll::Ready(self.silent_for_too_long());
        }
        while let Some(watchdog) = &mut self.watchdog {
            match std::task::ready!(watchdog.poll(cx)) {
                Passed::End(expired) => {
                    self.last_words = Some(words_of(expired));
                    return Poll::Ready(Ended::Expired(expired));
                }
                Passed::BePatient => self.with_client(|client| client.set_user_timeout(None)),
                Passed::Warn => self.cancel_slow_query(),
            }
        }
        Poll::Pending
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.most_silence() else {
            self.silence = None;
            return Poll::Pending;
        };
        Pin::new(self.silence.get_or_insert_with(|| sleep(limit))).poll(cx)
    }

    /// How long the peer may say nothing while it keeps its client from others and the database waits for it.
    fn most_silence(&self) -> Option<Duration> {
        if self.lease.is_none() || !self.to_database.is_empty() {
            return None;
        }
        if self.exchange.is_in_transaction() {
            let is_idle = self.exchange.is_between() || self.exchange.awaits_rest();
            return self.config.pool.idle_transaction_timeout.filter(|_| is_idle);
        }
        self.exchange.is_kept_by_a_beginning().then_some(REST)
    }

    fn silent_for_too_long(&mut self) -> Ended {
        if self.exchange.is_in_transaction() {
            self.last_words = Some(ErrorResponse::fatal(
                "25P03",
                "terminating connection: the transaction was idle for longer than pool.idleTransactionTimeout",
            ));
            return Ended::IdleTransaction;
        }
        let sentence = format!("protocol violation: the rest of a message did not come within {REST:?}");
        self.last_words = Some(ErrorResponse::fatal("08P01", sentence.as_str()));
        Ended::Protocol(sentence)
    }

    fn cancel_slow_query(&mut self) {
        self.proxy.sessions.metrics.session.receive_timeouts.inc();
        let limit = self.config.client.receive_timeout.unwrap_or_default();
        warn!(side = "database", ?limit, "The database has not answered within receiveTimeout; cancelling the query");
        self.proxy.cancel_later(self.registration.key().clone());
    }
}

fn words_of(expired: Expired) -> ErrorResponse {
    match expired {
        Expired::Idle => {
            ErrorResponse::fatal("57P05", "terminating connection: idle for longer than server.idleTimeout")
        }
        Expired::Send => ErrorResponse::fatal("08006", "the database took nothing for longer than client.sendDeadline"),
        Expired::Receive | Expired::Abandoned => {
            ErrorResponse::fatal("08006", "the database answered nothing for longer than client.receiveDeadline")
        }
    }
}
