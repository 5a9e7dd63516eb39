//! What a person can ask of a pool: to lend nobody a client for a while, and to replace its clients.

use super::slots::Slots;
use super::{Inner, Pool};

// === impl Pool ===

impl Pool {
    /// Lends no client any more, and closes those that nobody has: for a database that is about to be moved or mended.
    /// Whoever has one keeps it, whoever needs one waits as ever, and nothing is dialed.
    pub(crate) fn pause(&self) {
        self.inner.paused.set(true);
        self.inner.close_idle("paused");
    }

    /// Returns when no client of a pool that is paused is lent, or when it is not paused any more; cancel-safe.
    pub(crate) async fn paused(&self) {
        loop {
            let returned = self.inner.returned.notified();
            if !self.inner.paused.get() || self.inner.slots.borrow().counts().lent == 0 {
                return;
            }
            returned.await;
        }
    }

    /// Lends again; whoever waits is served in order.
    pub(crate) fn resume(&self) {
        self.inner.paused.set(false);
        self.inner.returned.notify_waiters();
        self.inner.serve_waiters();
        self.inner.changed.notify_one();
    }

    /// Replaces the clients: those that nobody has are closed one after the other, and lent ones when they come back.
    pub(crate) fn reconnect(&self) {
        self.inner.start_over();
        self.inner.changed.notify_one();
    }
}

// === impl Inner ===

impl Inner {
    /// Begins a new generation, of which the clients are new, while lent ones finish.
    pub(super) fn start_over(&self) {
        self.generation.set(self.generation.get() + 1);
        self.change(Slots::retire_idle);
    }

    /// Closes those clients at once that nobody has.
    pub(super) fn close_idle(&self, reason: &str) {
        self.change(Slots::retire_idle);
        while let Some(client) = self.change(Slots::take_stale) {
            self.discard(client, reason);
        }
        self.changed.notify_one();
    }
}
