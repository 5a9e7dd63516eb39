//! Watches warm clients: what the database says first is kept, and one that it closes is no longer lent.

use std::task::{Context, Poll, Waker};

use tracing::debug;

use super::{Inner, reset};
use crate::client::{Client, Watched};
use crate::postgres::wire::{HEADER, tag};

// === impl Inner ===

impl Inner {
    /// Ready when the database closed a warm client: watches all of them, and keeps what the database says first.
    pub(super) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_managed() {
            return self.look_at_idle();
        }
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

    /// Looks at the clients that the gateway logged in, without waiting for one: each is looked at again when lent.
    fn look_at_idle(&self) -> Poll<()> {
        let mut doubts = Vec::new();
        let lost = self.change(|slots| {
            slots.remove_idle(|idle| {
                let doubt = doubt(&mut idle.client);
                doubts.extend(doubt);
                doubt.is_some()
            })
        });
        if lost.is_empty() {
            return Poll::Pending;
        }
        for (client, doubt) in lost.into_iter().zip(doubts) {
            debug!(proxy = %self.proxy_name(), address = %client.address, ?doubt, "A warm client is lost");
            let reason = self.reason_of(doubt);
            self.discard(client, reason);
        }
        Poll::Ready(())
    }

    /// Why `client` is closed instead of lent, if so.
    pub(super) fn objection(&self, client: &mut Client) -> Option<&'static str> {
        if client.backend.is_none() {
            return (!client.stream.is_open()).then_some("database");
        }
        // Almost always nothing has come. Of what is encrypted a part may have been read already.
        if client.early.is_empty() && !client.stream.is_tls() && client.stream.is_silent() {
            return None;
        }
        // What is left is half a message.
        let is_half = |client: &Client| (!client.early.is_empty()).then_some(Doubt::Nonsense);
        // The runtime may not have heard yet what the kernel knows, and what is sent to a closed connection is lost.
        let is_heard = |client: &Client| (!client.stream.is_silent()).then_some(Doubt::Closed);
        let doubt = doubt(client).or_else(|| is_half(client)).or_else(|| is_heard(client));
        doubt.map(|doubt| self.reason_of(doubt))
    }

    /// The end as a metric's label; a doubt is counted as one.
    fn reason_of(&self, doubt: Doubt) -> &'static str {
        match doubt {
            Doubt::Closed => "database",
            Doubt::Nonsense => {
                self.metrics.desync.inc();
                "desync"
            }
        }
    }
}

/// Why a managed client cannot be lent any more. Looks at a flag only, unless the database said something.
fn doubt(client: &mut Client) -> Option<Doubt> {
    let mut cx = Context::from_waker(Waker::noop());
    if client.backend.is_none() || client.stream.poll_read_ready(&mut cx).is_pending() {
        return None;
    }
    if client.look() == Watched::Closed {
        return Some(Doubt::Closed);
    }
    let said = std::mem::take(&mut client.early);
    let mut taken = 0;
    loop {
        match reset::next_message(&said[taken..]) {
            Ok(Some((tag, body))) => {
                match tag {
                    tag::PARAMETER_STATUS if reset::keep_parameter(client, body).is_ok() => {}
                    tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE => {}
                    tag::ERROR_RESPONSE => return Some(Doubt::Closed),
                    _ => return Some(Doubt::Nonsense),
                }
                taken += HEADER + body.len();
            }
            Ok(None) => break,
            Err(_) => return Some(Doubt::Nonsense),
        }
    }
    client.early.extend_from_slice(&said[taken..]);
    None
}

/// What is wrong with a warm client.
#[derive(Clone, Copy, Debug)]
enum Doubt {
    /// The database closed it.
    Closed,
    /// The database said what nobody asked for.
    Nonsense,
}
