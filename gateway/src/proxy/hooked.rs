//! The scanner of a session with hooks. Hooks answer at once, so what they let pass goes on from where it was read;
//! only what they put in its place, or let wait, is kept until it is gone.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::presence::Presence;
use super::relay::Direction;
use super::scanner::{self, Decision, Scanner};
use crate::clock::{Sleep, sleep_until};
use crate::hooks::{self, Judgement, Moment, Session, Verdict};
use crate::metrics::ProxyMetrics;

/// Asks the hooks about every chunk.
pub(super) struct Hooked {
    chain: Rc<Chain>,
    to_database: Side,
    to_peer: Side,
}

/// What the hooks of one session share, and what is told of it.
pub(super) struct Chain {
    pub(super) hooks: hooks::Chain,
    pub(super) session: Session,
    pub(super) metrics: Rc<ProxyMetrics>,
    /// Whether the first byte has been announced.
    pub(super) has_traffic: Cell<bool>,
    /// What is told of the session.
    pub(super) presence: Presence,
}

/// One direction's chunk: judged, then sent, then reported; one at a time.
#[derive(Default)]
enum Side {
    #[default]
    Empty,
    /// What it comes to, and what is waited for before that.
    Judged(Option<Box<Sleep>>, scanner::Verdict),
    Sending(Bytes),
    /// A hook that closes on errors failed after the bytes were gone.
    Failed,
}

// === impl Hooked ===

impl Hooked {
    pub(super) fn new(chain: Rc<Chain>) -> Hooked {
        Hooked { chain, to_database: Side::Empty, to_peer: Side::Empty }
    }

    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::ToDatabase => &mut self.to_database,
            Direction::ToPeer => &mut self.to_peer,
        }
    }
}

impl Scanner for Hooked {
    fn scan(&mut self, direction: Direction, bytes: &[u8]) -> Decision {
        let Judgement { verdict, not_before } = self.chain.judge(direction, bytes);
        let verdict = match verdict {
            Verdict::Pass if not_before.is_none() => return Decision::Forward,
            Verdict::Pass | Verdict::Delay(_) => scanner::Verdict::Pass(Bytes::copy_from_slice(bytes)),
            Verdict::Replace(other) => scanner::Verdict::Pass(other.into()),
            Verdict::Reply(reply) => scanner::Verdict::Reply(reply.into()),
            Verdict::Close => scanner::Verdict::Close,
        };
        *self.side(direction) = Side::Judged(not_before.map(|moment| Box::new(sleep_until(moment))), verdict);
        Decision::Hold
    }

    fn forwarded(&mut self, direction: Direction, bytes: &[u8], is_sent: bool) {
        *self.side(direction) = match is_sent {
            true if self.chain.report(direction, bytes) => Side::Empty,
            true => Side::Failed,
            false => Side::Sending(Bytes::copy_from_slice(bytes)),
        };
    }

    fn poll_verdict(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<Option<scanner::Verdict>> {
        let side = self.side(direction);
        match side {
            Side::Judged(Some(wait), _) => ready!(Pin::new(wait).poll(cx)),
            Side::Judged(None, _) => {}
            Side::Failed => return Poll::Ready(Some(scanner::Verdict::Close)),
            Side::Empty | Side::Sending(_) => return Poll::Ready(None),
        }
        let Side::Judged(_, verdict) = std::mem::take(side) else { return Poll::Ready(None) };
        if let scanner::Verdict::Pass(bytes) = &verdict
            && !bytes.is_empty()
        {
            *side = Side::Sending(bytes.clone());
        }
        Poll::Ready(Some(verdict))
    }

    fn poll_sent(&mut self, direction: Direction, _cx: &mut Context<'_>) -> Poll<()> {
        let side = self.side(direction);
        if let Side::Sending(bytes) = side {
            let bytes = std::mem::take(bytes);
            let is_well = self.chain.report(direction, &bytes);
            *self.side(direction) = if is_well { Side::Empty } else { Side::Failed };
        }
        Poll::Ready(())
    }
}

// === impl Chain ===

impl Chain {
    /// Tells the hooks that the peer is there, and waits until they let it in; `false` when one of them does not.
    pub(super) async fn open(&self) -> bool {
        match self.hooks.open(&self.session, &self.metrics.session) {
            Ok(None) => true,
            Ok(Some(not_before)) => {
                sleep_until(not_before).await;
                true
            }
            Err(()) => false,
        }
    }

    /// Tells the hooks; `false` when one of them wants the session to end.
    pub(super) fn notify(&self, moment: Moment<'_>) -> bool {
        self.hooks.notify(moment, &self.session, &self.metrics.session)
    }

    /// What the hooks make of `bytes`.
    pub(super) fn judge(&self, direction: Direction, bytes: &[u8]) -> Judgement {
        if !self.has_traffic.replace(true) && !self.notify(Moment::Traffic) {
            return Judgement { verdict: Verdict::Close, not_before: None };
        }
        self.hooks.judge(direction, bytes, &self.session, &self.metrics.session)
    }

    /// Tells the hooks that `bytes` have been sent; `false` when one of them wants the session to end.
    pub(super) fn report(&self, direction: Direction, bytes: &[u8]) -> bool {
        self.notify(Moment::Sent(direction, bytes))
    }
}
