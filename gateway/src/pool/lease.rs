//! A client that one session has, and how it ends: lent again, reset first, or closed.

use std::io::{self, ErrorKind};
use std::rc::Rc;

use super::{Inner, reset};
use crate::client::Client;
use crate::clock::Instant;
use crate::route::Route;
use crate::view::ClientState;

/// A client that one session has. Dropping it gives it back when it was never touched, and destroys it otherwise.
pub struct Lease {
    pub(super) pool: Rc<Inner>,
    pub(super) client: Option<Box<Client>>,
    route: Route,
    pub(super) generation: u64,
    pub(super) is_spent: bool,
    /// Why it ends, if it does not come back.
    pub(super) end: &'static str,
}

// === impl Lease ===

impl Lease {
    pub(super) fn new(pool: &Rc<Inner>, client: Box<Client>) -> Lease {
        let (route, generation) = (client.route.clone(), pool.generation.get());
        client.note.state.set(ClientState::Lent);
        Lease { pool: pool.clone(), client: Some(client), route, generation, is_spent: false, end: "session" }
    }

    /// The client; from now on nobody else will have it.
    ///
    /// # Panics
    /// Never: a lease has its client until it is dropped.
    pub fn client(&mut self) -> &mut Client {
        self.is_spent = true;
        self.client.as_mut().expect("a lease has its client until it is dropped")
    }

    /// The client's number.
    pub(crate) fn number(&self) -> u64 {
        self.client.as_ref().map_or(0, |client| client.note.number)
    }

    /// The database was the first to close; it may be shutting down, so nobody's client is dialed at once.
    pub fn closed_by_the_database(&self) {
        // Other protocols may end their sessions so.
        if self.pool.is_managed() {
            self.pool.report.went_wrong("the database closed a connection that a session had");
        }
        self.pool.was_closed_on.set(true);
    }

    /// The connection failed like this. Where that is because nothing comes back, idle clients may be cut off as well, and
    /// nobody shall find that out by losing what it asks; lent ones are heard of by their sessions.
    pub fn failed(&self, error: &io::Error) {
        self.closed_by_the_database();
        if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) {
            self.pool.close_idle("cut_off");
        }
    }

    /// The route that it was dialed for.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The client is clean: no transaction, nothing owed, nothing left behind. It goes to the next who waits, else
    /// becomes idle.
    pub fn give_back(mut self) {
        self.is_spent = false;
    }

    /// The client is between two messages, but not clean: the pool resets it while it counts as lent.
    pub fn give_back_dirty(self, in_transaction: bool) {
        reset::start(self, in_transaction);
    }

    /// The database is no longer what `targetSessionAttrs` asks for: a new generation, of which the clients are new,
    /// while lent ones finish. Clients of an older generation say nothing new.
    pub fn demoted(&self) {
        if self.generation != self.pool.generation.get() {
            return;
        }
        self.pool.generation.set(self.generation + 1);
        self.pool.close_idle("demoted");
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let is_paused = self.pool.paused.get();
        let is_current =
            self.generation == self.pool.generation.get() && !self.pool.closed.is_cancelled() && !is_paused;
        let now = Instant::now();
        let is_young = client.backend.is_none() || client.retires.is_none_or(|at| now < at);
        if is_current && is_young && !self.is_spent {
            client.note.state.set(ClientState::Idle);
            let idle = Inner::idle(client, now);
            self.pool.change(|slots| slots.give_back(&self.route, idle));
            self.pool.serve_waiters();
            self.pool.wake_if_wanted();
        } else {
            self.pool.change(|slots| slots.give_up(&self.route));
            self.pool.discard(client, if self.is_spent || !is_current { self.end } else { "recycled" });
            self.pool.changed.notify_one();
        }
        if is_paused {
            self.pool.returned.notify_waiters();
        }
    }
}
