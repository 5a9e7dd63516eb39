//! Routes that the database has refused: whoever comes soon after hears the same, without a dial.

use std::sync::Arc;
use std::time::Duration;

use super::{Error, Inner};
use crate::clock::Instant;
use crate::postgres::wire::ErrorResponse;
use crate::route::Route;

/// What the database said, by route.
#[derive(Default)]
pub(super) struct Refusals(Vec<(Route, Instant, Arc<ErrorResponse>)>);

/// Whoever comes this soon after a refusal gets the same answer.
pub(super) const REFUSAL_HOLDS: Duration = Duration::from_secs(1);
/// Refusals that are remembered at one time.
const MOST_REFUSALS: usize = 64;

// === impl Refusals ===

impl Refusals {
    /// What the database said of `route` a moment ago.
    pub(super) fn fresh(&self, route: &Route) -> Option<Arc<ErrorResponse>> {
        let fresh = self.0.iter().find(|(refused, at, _)| refused == route && at.elapsed() < REFUSAL_HOLDS)?;
        Some(fresh.2.clone())
    }

    /// Another way to the database may have another answer.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Remembers the answer, for a moment.
    fn add(&mut self, route: &Route, said: Arc<ErrorResponse>) {
        self.0.retain(|(refused, at, _)| refused != route && at.elapsed() < REFUSAL_HOLDS);
        if self.0.len() < MOST_REFUSALS {
            self.0.push((route.clone(), Instant::now(), said));
        }
    }
}

// === impl Inner ===

impl Inner {
    /// The database refused `route`: whoever waits for it hears so at once, and whoever comes soon after.
    pub(super) fn refuse(&self, route: &Route, said: ErrorResponse) {
        let said = Arc::new(said);
        self.refusals.borrow_mut().add(route, said.clone());
        for call in self.change(|slots| slots.dismiss(|waited_for, _| waited_for == route)) {
            // Who has left meanwhile needs no answer.
            drop(call.lease.send(Err(Error::Refused(said.clone()))));
        }
    }
}
