//! The pool's bookkeeping: how many clients there are, which are idle, and who waits in which order. Pure: no clock of
//! its own, no I/O, no await. `K` is a route, `C` is a client, `W` is the way to hand one to a waiter.

use std::collections::VecDeque;

use crate::clock::Instant;

mod arrival;

/// Counts and queues of one pool.
#[derive(Debug)]
pub(super) struct Slots<K, C, W> {
    size: usize,
    min_idle: usize,
    order: Order,
    /// Whether an idle client may be closed for a waiter of another route; not while no dial could succeed.
    may_make_room: bool,
    /// The default route's first; others are here while they have something.
    lanes: Vec<Lane<K, C, W>>,
    stale: VecDeque<C>,
    waiting: usize,
    next_ticket: u64,
}

/// The part of one route.
#[derive(Debug)]
struct Lane<K, C, W> {
    route: K,
    idle: VecDeque<Idle<C>>,
    lent: usize,
    dialing: usize,
    waiters: VecDeque<Waiter<W>>,
}

/// Somebody who waits.
#[derive(Debug)]
struct Waiter<W> {
    ticket: Ticket,
    since: Instant,
    call: W,
}

/// Which idle client is lent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The one that would be recycled next.
    OldestFirst,
    /// The one that was used last, so that the others grow cold and can be recycled.
    NewestFirst,
}

/// A client that nobody has.
#[derive(Debug)]
pub(super) struct Idle<C> {
    pub(super) client: C,
    /// Since when nobody has it.
    pub(super) since: Instant,
    /// When it is to be recycled.
    pub(super) expires: Option<Instant>,
}

/// The right to add one client of a route. Only [`Slots::vacancy`] makes one, so that the size cannot be exceeded; it
/// is given back by [`Slots::fill`] or [`Slots::abandon`].
#[derive(Debug)]
#[must_use]
pub(super) struct Vacancy<K>(K);

/// A waiter's place in the queue; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// What the gauges say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) idle: usize,
    pub(super) lent: usize,
    pub(super) dialing: usize,
    pub(super) waiting: usize,
}

// === impl Slots ===

impl<K: Clone + Default + PartialEq, C, W> Slots<K, C, W> {
    pub(super) fn new(size: usize, min_idle: usize, order: Order) -> Self {
        let lanes = vec![Lane::new(K::default())];
        Slots { size, min_idle, order, may_make_room: true, lanes, stale: VecDeque::new(), waiting: 0, next_ticket: 0 }
    }

    /// Changes the limits; what is lent beyond a smaller size is not replaced when it ends.
    pub(super) fn resize(&mut self, size: usize, min_idle: usize) {
        (self.size, self.min_idle) = (size, min_idle);
    }

    /// Whether an idle client may be closed for a waiter of another route.
    pub(super) fn set_may_make_room(&mut self, may_make_room: bool) {
        self.may_make_room = may_make_room;
    }

    /// Which idle client is lent first from now on.
    pub(super) fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { idle: self.stale.len(), waiting: self.waiting, ..Counts::default() };
        for lane in &self.lanes {
            counts.idle += lane.idle.len();
            counts.lent += lane.lent;
            counts.dialing += lane.dialing;
        }
        counts
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    // --- dials ---

    /// The route to dial next, so that everybody who waits is served in order and `min_idle` of the default route are
    /// warm, within the size.
    pub(super) fn wanted(&self, may_warm: bool) -> Option<&K> {
        let room = self.free() + self.stale.len();
        if self.waiting > 0
            && let Some((since, route)) = self.oldest_uncovered()
            && (room > 0 || self.evictable(route, since).is_some())
        {
            return Some(route);
        }
        let lane = &self.lanes[0];
        let is_cold = lane.waiters.len() + self.min_idle > lane.idle.len() + lane.dialing;
        (may_warm && is_cold && room > 0).then_some(&lane.route)
    }

    /// The route of whoever waits longest.
    pub(super) fn oldest_waiters_route(&self) -> Option<&K> {
        let lanes = self.lanes.iter().filter_map(|lane| Some((lane.waiters.front()?.ticket, lane)));
        lanes.min_by_key(|(ticket, _)| *ticket).map(|(_, lane)| &lane.route)
    }

    /// Since when the one waits who waits longest.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.waiters.front()).map(|waiter| waiter.since).min()
    }

    /// How many waiters have no dial that could serve them, because the size does not allow it.
    pub(super) fn waiting_for_a_lent_client(&self) -> usize {
        self.uncovered().saturating_sub(self.room())
    }

    /// Whether one more waiter for `route` would have to wait until a lent client ends.
    pub(super) fn is_exhausted(&self, route: &K) -> bool {
        let is_covered = self.lane(route).is_some_and(|lane| lane.covered() > lane.waiters.len());
        !is_covered && self.uncovered() >= self.room()
    }

    /// The right to dial, while the size allows one more.
    pub(super) fn vacancy(&mut self, route: &K) -> Option<Vacancy<K>> {
        (self.free() > 0).then(|| {
            self.lane_mut(route).dialing += 1;
            Vacancy(route.clone())
        })
    }

    /// A dial led to no client.
    #[expect(clippy::needless_pass_by_value, reason = "the right is used up")]
    pub(super) fn abandon(&mut self, vacancy: Vacancy<K>) {
        self.lane_mut(&vacancy.0).dialing -= 1;
        self.tidy(&vacancy.0);
    }

    /// A dial led to a client: it is idle until [`Slots::serve`] finds somebody who waits.
    #[expect(clippy::needless_pass_by_value, reason = "the right is used up")]
    pub(super) fn fill(&mut self, vacancy: Vacancy<K>, idle: Idle<C>) {
        let lane = self.lane_mut(&vacancy.0);
        lane.dialing -= 1;
        lane.idle.push_back(idle);
    }

    /// Where the size allows no dial for `route`: the client to close for it, a stale one or an idle one of another route.
    pub(super) fn make_room(&mut self, route: &K) -> Option<C> {
        if self.free() > 0 {
            return None;
        }
        if let Some(client) = self.stale.pop_front() {
            return Some(client);
        }
        let (since, _) = self.oldest_uncovered().filter(|(_, oldest)| *oldest == route)?;
        let place = self.evictable(route, since)?;
        let idle = self.lanes[place].idle.pop_front()?;
        let route = self.lanes[place].route.clone();
        self.tidy(&route);
        Some(idle.client)
    }

    // --- lending ---

    /// An idle client for a newcomer at `now`, which is asked for only where somebody waits. Whoever waits for the same
    /// route goes first, and whoever is overdue.
    pub(super) fn take(&mut self, route: &K, now: impl Fn() -> Instant) -> Option<C> {
        let place = self.place(route)?;
        if self.waiting > 0 {
            let overdue = self.overdue(now());
            // The client that would be taken is a part of the room.
            if !self.lanes[place].waiters.is_empty() || overdue > 0 && overdue >= self.room() {
                return None;
            }
        }
        self.lend(place)
    }

    /// The next pair of a waiter and a client for it.
    pub(super) fn serve(&mut self) -> Option<(W, C)> {
        if self.waiting == 0 {
            return None;
        }
        let servable = self.lanes.iter().enumerate().filter(|(_, lane)| !lane.idle.is_empty());
        let servable = servable.filter_map(|(place, lane)| Some((lane.waiters.front()?, place)));
        let (first, place) = servable.min_by_key(|(waiter, _)| waiter.ticket)?;
        // Who came later has still more that are older.
        if self.overdue(first.since) > self.room() {
            return None;
        }
        let client = self.lend(place)?;
        let waiter = self.lanes[place].waiters.pop_front()?;
        self.waiting -= 1;
        Some((waiter.call, client))
    }

    /// A lent client is gone.
    pub(super) fn give_up(&mut self, route: &K) {
        self.lane_mut(route).lent -= 1;
        self.tidy(route);
    }

    /// A lent client can be lent again, and is the first to be.
    pub(super) fn give_back(&mut self, route: &K, idle: Idle<C>) {
        let order = self.order;
        let lane = self.lane_mut(route);
        lane.lent -= 1;
        match order {
            Order::OldestFirst => lane.idle.push_front(idle),
            Order::NewestFirst => lane.idle.push_back(idle),
        }
    }

    // --- waiters ---

    /// Queues a newcomer at `since`, behind everybody of its route.
    pub(super) fn queue(&mut self, route: &K, call: W, since: Instant) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting += 1;
        self.lane_mut(route).waiters.push_back(Waiter { ticket, since, call });
        ticket
    }

    /// Takes a waiter out of the queue; nothing happens when it is served already.
    pub(super) fn leave(&mut self, route: &K, ticket: Ticket) {
        let Some(place) = self.place(route) else { return };
        let waiters = &mut self.lanes[place].waiters;
        // Tickets only grow, so the queue is sorted.
        if let Ok(at) = waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket) {
            waiters.remove(at);
            self.waiting -= 1;
            self.tidy(route);
        }
    }

    /// Takes the waiters out of the queue of which `is_done` says so.
    pub(super) fn dismiss(&mut self, mut is_done: impl FnMut(&K, &W) -> bool) -> Vec<W> {
        let mut dismissed = Vec::new();
        for lane in &mut self.lanes {
            let Lane { route, waiters, .. } = lane;
            dismissed
                .extend(take_out(waiters, |waiter| is_done(route, &waiter.call)).into_iter().map(|gone| gone.call));
        }
        self.waiting -= dismissed.len();
        self.tidy_all();
        dismissed
    }

    // --- idle and stale clients ---

    /// Makes those idle clients stale that a smaller size has no place for.
    pub(super) fn retire_surplus(&mut self) {
        let counts = self.counts();
        let mut surplus = (counts.idle + counts.lent + counts.dialing).saturating_sub(self.size);
        for lane in &mut self.lanes {
            let retired = surplus.min(lane.idle.len());
            self.stale.extend(lane.idle.drain(..retired).map(|idle| idle.client));
            surplus -= retired;
        }
        self.tidy_all();
    }

    /// Makes the idle clients stale: they are not lent any more, but count until they are taken out.
    pub(super) fn retire_idle(&mut self) {
        for lane in &mut self.lanes {
            self.stale.extend(lane.idle.drain(..).map(|idle| idle.client));
        }
        self.tidy_all();
    }

    /// Whether a stale client is left.
    pub(super) fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// The stale client that has been so for the longest.
    pub(super) fn take_stale(&mut self) -> Option<C> {
        self.stale.pop_front()
    }

    /// The idle clients, for looking at them.
    pub(super) fn idle_mut(&mut self) -> impl Iterator<Item = &mut Idle<C>> {
        self.lanes.iter_mut().flat_map(|lane| lane.idle.iter_mut())
    }

    /// Takes out the idle clients of which `is_done` says so.
    pub(super) fn remove_idle(&mut self, mut is_done: impl FnMut(&mut Idle<C>) -> bool) -> Vec<C> {
        let mut removed = Vec::new();
        for lane in &mut self.lanes {
            removed.extend(take_out(&mut lane.idle, &mut is_done).into_iter().map(|idle| idle.client));
        }
        if !removed.is_empty() {
            self.tidy_all();
        }
        removed
    }

    /// When the next idle client is to be recycled.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.lanes.iter().flat_map(|lane| &lane.idle).filter_map(|idle| idle.expires).min()
    }

    // --- lanes ---

    fn place(&self, route: &K) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.route == *route)
    }

    fn lane(&self, route: &K) -> Option<&Lane<K, C, W>> {
        self.place(route).map(|place| &self.lanes[place])
    }

    fn lane_mut(&mut self, route: &K) -> &mut Lane<K, C, W> {
        let place = self.place(route).unwrap_or_else(|| {
            self.lanes.push(Lane::new(route.clone()));
            self.lanes.len() - 1
        });
        &mut self.lanes[place]
    }

    /// Forgets a route that has nothing left.
    fn tidy(&mut self, route: &K) {
        if let Some(place) = self.place(route).filter(|place| *place > 0 && self.lanes[*place].is_empty()) {
            self.lanes.swap_remove(place);
        }
    }

    fn tidy_all(&mut self) {
        let mut is_default = true;
        self.lanes.retain(|lane| std::mem::take(&mut is_default) || !lane.is_empty());
    }

    fn lend(&mut self, place: usize) -> Option<C> {
        let lane = &mut self.lanes[place];
        let idle = match self.order {
            Order::OldestFirst => lane.idle.pop_front(),
            Order::NewestFirst => lane.idle.pop_back(),
        }?;
        lane.lent += 1;
        Some(idle.client)
    }

    fn free(&self) -> usize {
        let counts = self.counts();
        self.size.saturating_sub(counts.idle + counts.lent + counts.dialing)
    }
}

// === impl Lane ===

impl<K, C, W> Lane<K, C, W> {
    fn new(route: K) -> Self {
        Lane { route, idle: VecDeque::new(), lent: 0, dialing: 0, waiters: VecDeque::new() }
    }

    /// How many waiters are sure of a client.
    fn covered(&self) -> usize {
        self.idle.len() + self.dialing
    }

    /// Idle clients that nobody of this route waits for.
    fn spare(&self) -> usize {
        self.idle.len().saturating_sub(self.waiters.len().saturating_sub(self.dialing))
    }

    /// How many have waited since before `limit` and are not sure of a client.
    fn uncovered_before(&self, limit: Instant) -> usize {
        self.waiters.partition_point(|waiter| waiter.since < limit).saturating_sub(self.covered())
    }

    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.waiters.is_empty() && self.lent + self.dialing == 0
    }
}

/// Takes out of `queue` what `is_done`, in order; allocates only where there is something.
fn take_out<T>(queue: &mut VecDeque<T>, mut is_done: impl FnMut(&mut T) -> bool) -> Vec<T> {
    let (mut taken, mut at) = (Vec::new(), 0);
    while let Some(item) = queue.get_mut(at) {
        if is_done(item) { taken.extend(queue.remove(at)) } else { at += 1 }
    }
    taken
}

#[cfg(test)]
mod tests;
