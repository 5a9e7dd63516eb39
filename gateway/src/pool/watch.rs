//! Watches warm clients: what the database says first is kept, and one that it closes is no longer lent.

use std::task::{Context, Poll};

use tracing::debug;

use super::Inner;
use crate::client::Watched;

// === impl Inner ===

impl Inner {
    /// Ready when the database closed a warm client: watches all of them, and keeps what the database says first.
    pub(super) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut spoke = false;
        let lost = self.change(|slots| {
            slots.remove_idle(|idle| {
                while idle.client.stream.poll_read_ready(cx).is_ready() {
                    match idle.client.look() {
                        Watched::Closed => return true,
                        Watched::Spoke => spoke = true,
                        Watched::Quiet => {}
                    }
                }
                false
            })
        });
        if spoke && !self.speaks_first.replace(true) {
            let proxy = self.proxy_name();
            debug!(%proxy, "The database speaks first: no client is kept warm unless pool.minIdle is written");
            self.resize();
        }
        if lost.is_empty() {
            return Poll::Pending;
        }
        for client in lost {
            debug!(proxy = %self.proxy_name(), address = %client.address, "The database closed a warm client");
            self.lost(client);
        }
        Poll::Ready(())
    }
}
