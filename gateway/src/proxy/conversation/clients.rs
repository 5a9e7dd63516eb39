//! Which client a peer has: lent when it says something, given back when nothing of it is left, waited for in between.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Conversation, Ended};
use crate::clock::Instant;
use crate::pool::Lease;
use crate::postgres::cancel::Victim;
use crate::postgres::wire::ErrorResponse;
use crate::proxy::turned_away::words_of;
use crate::view::SessionState;

// === impl Conversation ===

impl Conversation<'_> {
    /// Takes a client for what the peer says; where there is none at once, the peer begins to wait.
    pub(super) fn take_client(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if let Some(lease) = self.proxy.pool.try_get(&self.route) {
            self.lend(lease, cx)?;
            return Ok(true);
        }
        let (pool, route) = (self.proxy.pool.clone(), self.route.clone());
        self.presence.waits();
        self.waiting = Some(Box::pin(async move { pool.get(&route).await }));
        Ok(false)
    }

    pub(super) fn receive_lease(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let Some(waiting) = &mut self.waiting else { return Ok(false) };
        let Poll::Ready(got) = waiting.as_mut().poll(cx) else {
            return match self.registration.target().poll_given_up(cx) {
                Poll::Ready(()) => self.stop_waiting(cx),
                Poll::Pending => Ok(false),
            };
        };
        self.waiting = None;
        let lease = got.map_err(|error| {
            self.proxy.sessions.metrics.session.refused(error.reason());
            self.last_words = Some(words_of(&error));
            Ended::Refused(error)
        })?;
        self.presence.is(SessionState::Active, Instant::now());
        self.lend(lease, cx)?;
        let early = std::mem::take(&mut self.early);
        self.on_from_peer(&early, cx)?;
        Ok(true)
    }

    /// Somebody has cancelled what the peer waits for: that is answered with an error, and the rest is heard.
    pub(super) fn stop_waiting(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        self.waiting = None;
        self.presence.is(SessionState::Idle, Instant::now());
        let mut said = std::mem::take(&mut self.early);
        let cancelled = ErrorResponse::error("57014", "canceling statement due to user request");
        let mut answer = Vec::new();
        let Some(length) = self.exchange.refuse(&said, &cancelled, &mut answer) else {
            self.last_words = Some(ErrorResponse { severity: "FATAL".into(), ..cancelled });
            return Err(Ended::Cancelled);
        };
        self.write_peer(&answer, cx)?;
        said.drain(..length);
        if !said.is_empty() {
            self.heed(&said, cx)?;
        }
        Ok(true)
    }

    /// From now on the peer talks to this client.
    pub(super) fn lend(&mut self, lease: Lease, cx: &mut Context<'_>) -> Result<(), Ended> {
        self.quiet.database = false;
        self.presence.has(lease.number());
        let lease = self.lease.insert(lease);
        let mut out = Vec::new();
        if let Some(backend) = &mut lease.client().backend {
            self.exchange.begin(&mut backend.memory, &mut out);
        }
        self.aim();
        if out.is_empty() { Ok(()) } else { self.write_database(&out, cx) }
    }

    /// A CancelRequest of the peer ends the query of this client.
    pub(super) fn aim(&mut self) {
        let Some(lease) = &mut self.lease else { return };
        let client = lease.client();
        let (address, remote) = (&client.address, &client.stream);
        let Some(backend) = &mut client.backend else { return };
        if backend.victim.is_none()
            && let Some(key) = backend.key.clone()
        {
            let victim = Victim::new(key, (address.clone(), remote.remote()), self.config.clone());
            backend.victim = Some(Arc::new(victim));
        }
        self.registration.target().aim(backend.victim.clone());
    }

    /// The database leaves before the peer has asked anything: the peer need not know.
    pub(super) fn do_without_client(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        self.presence.has_none();
        lease.closed_by_the_database();
        // Whoever cancels now hits nobody: the client is closed.
        let _ = self.registration.target().release();
    }

    /// Gives the client back as soon as nothing of the peer is left in it.
    pub(super) fn release_if_free(&mut self) {
        if !self.exchange.is_free() || !self.to_database.is_empty() || self.exchange.is_over() {
            return;
        }
        let Some(lease) = self.lease.take() else { return };
        self.presence.has_none();
        // Somebody cancels what has just ended: the next peer's query must not be what it hits.
        if self.registration.target().release() { lease.give_back() } else { drop(lease) }
    }

    /// The session ends: what can be made clean is, and all else is destroyed.
    pub(super) fn give_up_client(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        let is_sound =
            self.exchange.is_between() && !self.exchange.is_over() && self.to_database.is_empty() && !self.in_doubt;
        if self.registration.target().release() && is_sound {
            lease.give_back_dirty(self.exchange.is_in_transaction());
        }
    }
}
