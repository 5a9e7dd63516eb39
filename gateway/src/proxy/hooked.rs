//! The scanner of a session with hooks: it owns what was read until the hooks have judged it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::presence::Presence;
use super::relay::Direction;
use super::scanner::{Decision, Scanner, Verdict};
use crate::hooks::{Hooks, Moment, Session};
use crate::metrics::ProxyMetrics;

/// Asks the hooks about every chunk.
pub(super) struct Hooked {
    chain: Rc<Chain>,
    to_database: Side,
    to_peer: Side,
}

/// What the hooks of one session share, and what is told of it.
pub(super) struct Chain {
    pub(super) hooks: Rc<Hooks>,
    pub(super) session: Session,
    pub(super) metrics: Rc<ProxyMetrics>,
    /// Whether the first byte has been announced.
    pub(super) has_traffic: std::cell::Cell<bool>,
    /// What is told of the session.
    pub(super) presence: Presence,
}

type Waiting<T> = Pin<Box<dyn Future<Output = T>>>;

/// One direction's chunk: judged, then sent, then reported; one at a time.
#[derive(Default)]
enum Side {
    #[default]
    Empty,
    Judging(Waiting<Verdict>),
    Sending(Bytes),
    Reporting(Waiting<bool>),
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
        let judged = self.chain.clone().judge(direction, Bytes::copy_from_slice(bytes));
        *self.side(direction) = Side::Judging(Box::pin(judged));
        Decision::Hold
    }

    fn poll_verdict(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<Option<Verdict>> {
        let side = self.side(direction);
        let verdict = match side {
            Side::Judging(judging) => ready!(judging.as_mut().poll(cx)),
            Side::Failed => Verdict::Close,
            Side::Empty | Side::Sending(_) | Side::Reporting(_) => return Poll::Ready(None),
        };
        *side = match &verdict {
            Verdict::Pass(bytes) if !bytes.is_empty() => Side::Sending(bytes.clone()),
            Verdict::Pass(_) | Verdict::Reply(_) | Verdict::Close => Side::Empty,
        };
        Poll::Ready(Some(verdict))
    }

    fn poll_sent(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<()> {
        let chain = self.chain.clone();
        let side = self.side(direction);
        if let Side::Sending(bytes) = side {
            let bytes = std::mem::take(bytes);
            *side = Side::Reporting(Box::pin(chain.report(direction, bytes)));
        }
        if let Side::Reporting(reporting) = side {
            let is_well = ready!(reporting.as_mut().poll(cx));
            *side = if is_well { Side::Empty } else { Side::Failed };
        }
        Poll::Ready(())
    }
}

// === impl Chain ===

impl Chain {
    /// Tells the hooks; `false` when one of them wants the session to end.
    pub(super) async fn notify(&self, moment: Moment<'_>) -> bool {
        self.hooks.notify(moment, &self.session, &self.metrics.session).await
    }

    pub(super) async fn judge(self: Rc<Self>, direction: Direction, bytes: Bytes) -> Verdict {
        if !self.has_traffic.replace(true) && !self.notify(Moment::Traffic).await {
            return Verdict::Close;
        }
        self.hooks.judge(direction, bytes, &self.session, &self.metrics.session).await
    }

    pub(super) async fn report(self: Rc<Self>, direction: Direction, bytes: Bytes) -> bool {
        self.notify(Moment::Sent(direction, &bytes)).await
    }
}
