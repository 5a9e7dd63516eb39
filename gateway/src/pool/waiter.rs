//! Whoever waits for a client: how one joins the queue, is served, and leaves.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::slots::{Counts, Slots, Ticket};
use super::{Call, Error, Inner, Lease, Route};
use crate::clock::Instant;
use crate::config::PoolConfig;

/// A place in the queue; dropping it leaves.
pub(super) struct Waiter<'a> {
    pool: &'a Inner,
    route: &'a Route,
    ticket: Ticket,
    pub(super) lease: oneshot::Receiver<Result<Lease, Error>>,
}

// === impl Inner ===

impl Inner {
    /// Joins the queue, unless the limits or an `acquireTimeout` of zero forbid to wait.
    pub(super) fn queue<'a>(&'a self, config: &PoolConfig, route: &'a Route) -> Result<Waiter<'a>, Error> {
        if self.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        if let Some(said) = self.refusals.borrow().fresh(route) {
            return Err(Error::Refused(said));
        }
        let is_away = self.away.borrow().is_some() || self.paused.get();
        let (waiting, is_exhausted) = {
            let slots = self.slots.borrow();
            let waiting = if is_away { slots.counts().waiting } else { slots.waiting_for_a_lent_client() };
            (waiting, slots.is_exhausted(route))
        };
        if is_away || is_exhausted {
            if config.acquire_timeout.is_zero() {
                return Err(self.refusal(Duration::ZERO));
            }
            if waiting >= config.max_waiting {
                return Err(Error::TooManyWaiting(waiting));
            }
        }
        let (call, lease) = oneshot::channel();
        let call = Call { lease: call, is_impatient: config.acquire_timeout.is_zero() };
        let ticket = self.change(|slots| slots.queue(route, call, Instant::now()));
        self.changed.notify_one();
        Ok(Waiter { pool: self, route, ticket, lease })
    }

    /// Why a peer that waited this long got nothing: the true cause.
    pub(super) fn refusal(&self, waited: Duration) -> Error {
        if self.paused.get() {
            return Error::Paused { waited };
        }
        if let Some(cause) = &*self.away.borrow() {
            return Error::Away { waited, cause: cause.clone() };
        }
        let (Counts { lent, dialing, .. }, size) = (self.slots.borrow().counts(), self.slots.borrow().size());
        if dialing > 0 && lent < size { Error::Dialing { waited, lent, size } } else { Error::Busy { waited, size } }
    }

    /// Hands idle clients to those who wait, in order.
    pub(super) fn serve_waiters(self: &Rc<Self>) {
        if self.paused.get() {
            return;
        }
        while let Some((call, client)) = self.change(Slots::serve) {
            // A waiter that left in this moment drops the lease, which comes back here.
            drop(call.lease.send(Ok(self.lease(client))));
        }
    }
}

// === impl Waiter ===

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let is_waited_for = self.pool.change(|slots| {
            slots.leave(self.route, self.ticket);
            slots.counts().waiting > 0
        });
        if is_waited_for {
            // What was kept for this one may be somebody else's now.
            self.pool.changed.notify_one();
        }
    }
}
