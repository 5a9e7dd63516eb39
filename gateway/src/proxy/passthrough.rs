//! A peer's own login passes through; the key is noted that the database gives it for cancelling, so that its
//! CancelRequest finds the server that serves it. Of what is said only channel binding is touched, where it cannot work.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::relay::Direction;
use super::scanner::{Decision, Scanner, Verdict};
use crate::client::Client;
use crate::config::{Address, ProxyConfig};
use crate::net::{Endpoint, Stream};
use crate::postgres::cancel::{Cancels, Registration, Victim};
use crate::postgres::frames::{Frames, Sender, Step};
use crate::postgres::wire::{CancelKey, HEADER, tag};

mod binding;

use binding::Unbound;

/// Looks on while a peer logs in, and then no more.
pub(super) struct Login<S> {
    inner: S,
    watch: Option<Watch>,
    unbound: Option<Box<Unbound>>,
    /// What the peer shall receive in the place of what was said to it.
    instead: Option<Bytes>,
    /// The peer's key, for as long as its session lasts.
    registration: Option<Registration>,
}

/// Reads the database's side of a login.
struct Watch {
    frames: Frames,
    body: Vec<u8>,
    cancels: Cancels,
    /// Where the victim of a CancelRequest is.
    place: (Address, Endpoint),
    config: Arc<ProxyConfig>,
}

/// A key for cancelling is not longer.
const MOST_KEY: usize = 260;

// === impl Login ===

impl<S> Login<S> {
    pub(super) fn new(
        inner: S,
        cancels: &Cancels,
        (peer, client): (&Stream, &Client),
        config: &Arc<ProxyConfig>,
    ) -> Login<S> {
        let watch = Watch {
            frames: Frames::new(Sender::Database),
            body: Vec::new(),
            cancels: cancels.clone(),
            place: (client.address.clone(), client.stream.remote()),
            config: config.clone(),
        };
        let unbound = Unbound::between(peer, &client.stream).map(Box::new);
        Login { inner, watch: Some(watch), unbound, instead: None, registration: None }
    }
}

impl<S: Scanner> Scanner for Login<S> {
    #[inline]
    fn scan(&mut self, direction: Direction, bytes: &[u8]) -> Decision {
        if direction == Direction::ToPeer
            && let Some(watch) = &mut self.watch
        {
            let is_done = watch.look(bytes, &mut self.registration);
            if is_done {
                self.watch = None;
            }
        }
        if direction == Direction::ToPeer && self.unbound.is_some() {
            return self.scan_unbound(bytes);
        }
        self.inner.scan(direction, bytes)
    }

    #[inline]
    fn poll_verdict(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<Option<Verdict>> {
        if direction == Direction::ToPeer
            && let Some(instead) = self.instead.take()
        {
            return Poll::Ready(Some(Verdict::Pass(instead)));
        }
        self.inner.poll_verdict(direction, cx)
    }

    #[inline]
    fn poll_sent(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_sent(direction, cx)
    }
}

impl<S: Scanner> Login<S> {
    /// Hands on what the peer shall receive of what the database says.
    fn scan_unbound(&mut self, bytes: &[u8]) -> Decision {
        let Some(unbound) = &mut self.unbound else { return Decision::Forward };
        let (said, goes_on) = unbound.look(bytes);
        if !goes_on {
            self.unbound = None;
        }
        if said == bytes {
            return self.inner.scan(Direction::ToPeer, bytes);
        }
        if said.is_empty() || self.inner.scan(Direction::ToPeer, &said) == Decision::Forward {
            self.instead = Some(said.into());
        }
        Decision::Hold
    }
}

// === impl Watch ===

impl Watch {
    /// Looks for the key; whether the login is over.
    fn look(&mut self, mut bytes: &[u8], registration: &mut Option<Registration>) -> bool {
        loop {
            match self.frames.step(bytes) {
                Ok(None) => return false,
                // What makes no sense is the peer's to judge.
                Err(_) | Ok(Some(Step::Head { tag: tag::READY_FOR_QUERY, .. })) => return true,
                Ok(Some(Step::Head { kept, .. })) => {
                    self.body.clear();
                    bytes = &bytes[HEADER - kept..];
                }
                Ok(Some(Step::Body { tag, bytes: length, is_last })) => {
                    let (part, rest) = bytes.split_at(length);
                    bytes = rest;
                    if tag == tag::BACKEND_KEY_DATA && self.body.len() + length <= MOST_KEY {
                        self.body.extend_from_slice(part);
                        if is_last {
                            *registration = self.register();
                        }
                    }
                }
            }
        }
    }

    fn register(&self) -> Option<Registration> {
        let key = CancelKey::read(&self.body)?;
        let registration = self.cancels.adopt(key.clone());
        registration.target().aim(Some(Arc::new(Victim::new(key, self.place.clone(), self.config.clone()))));
        Some(registration)
    }
}
