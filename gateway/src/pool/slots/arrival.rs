//! Who is next over all routes. A client goes to whoever waits longest for its own route, since a login is dear, unless
//! somebody of another route has waited for longer than that by [`HEAD_START`]: then it is closed to make room.

use std::time::Duration;

use super::{Lane, Slots};
use crate::clock::Instant;

/// By so much may somebody who came later be served first.
pub(super) const HEAD_START: Duration = Duration::from_secs(1);

// === impl Slots ===

impl<K: Clone + Default + PartialEq, C, W> Slots<K, C, W> {
    /// How many have waited for so much longer than somebody since `since` that they go first; not while no dial could
    /// succeed.
    pub(super) fn overdue(&self, since: Instant) -> usize {
        let Some(limit) = since.checked_sub(HEAD_START).filter(|_| self.may_make_room) else { return 0 };
        self.lanes.iter().map(|lane| lane.uncovered_before(limit)).sum()
    }

    /// How many have neither an idle client nor a dial of their route.
    pub(super) fn uncovered(&self) -> usize {
        self.lanes.iter().map(|lane| lane.waiters.len().saturating_sub(lane.covered())).sum()
    }

    /// How many could be dialed without taking anything from anybody who waits.
    pub(super) fn room(&self) -> usize {
        let spare: usize = self.lanes.iter().map(Lane::spare).sum();
        self.free() + self.stale.len() + if self.may_make_room { spare } else { 0 }
    }

    /// Since when the one waits, and for which route, who waits longest without being sure of a client.
    pub(super) fn oldest_uncovered(&self) -> Option<(Instant, &K)> {
        let lanes = self.lanes.iter().filter_map(|lane| Some((lane.waiters.get(lane.covered())?, &lane.route)));
        lanes.min_by_key(|(waiter, _)| waiter.ticket).map(|(waiter, route)| (waiter.since, route))
    }

    /// The lane with an idle client to close for somebody who waits for `route` since `since`: one that nobody waits
    /// for, else one whose waiters came too late; of those the one that has been idle for the longest.
    pub(super) fn evictable(&self, route: &K, since: Instant) -> Option<usize> {
        let others = self.lanes.iter().enumerate().filter(|(_, lane)| self.may_make_room && lane.route != *route);
        let coldest = others.filter_map(|(place, lane)| {
            let is_wanted = lane.spare() == 0;
            let is_late = || lane.waiters.front().is_some_and(|first| since + HEAD_START < first.since);
            (!is_wanted || is_late()).then_some((is_wanted, lane.idle.front()?.since, place))
        });
        coldest.min().map(|(_, _, place)| place)
    }
}
