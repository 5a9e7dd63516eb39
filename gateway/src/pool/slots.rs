//! The pool's bookkeeping: how many clients there are, which are idle, and who waits in which order. Pure: no clock of
//! its own, no I/O, no await. `K` is a route, `C` is a client, `W` is the way to hand one to a waiter.

use std::collections::VecDeque;

use tokio::time::Instant;

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
    waiters: VecDeque<(Ticket, W)>,
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
        let waited_for = self.oldest_uncovered().filter(|(_, lane)| room > 0 || self.evictable(&lane.route).is_some());
        if let Some((_, lane)) = waited_for {
            return Some(&lane.route);
        }
        let lane = &self.lanes[0];
        let is_cold = lane.waiters.len() + self.min_idle > lane.idle.len() + lane.dialing;
        (may_warm && is_cold && room > 0).then_some(&lane.route)
    }

    /// The route of whoever waits longest.
    pub(super) fn oldest_waiters_route(&self) -> Option<&K> {
        let lanes = self.lanes.iter().filter_map(|lane| Some((lane.waiters.front()?.0, lane)));
        lanes.min_by_key(|(ticket, _)| *ticket).map(|(_, lane)| &lane.route)
    }

    /// How many waiters have no dial that could serve them, because the size does not allow it.
    pub(super) fn waiting_for_a_lent_client(&self) -> usize {
        self.uncovered_before(Ticket(u64::MAX)).saturating_sub(self.room())
    }

    /// Whether one more waiter for `route` would have to wait until a lent client ends.
    pub(super) fn is_exhausted(&self, route: &K) -> bool {
        let is_covered = self.lane(route).is_some_and(|lane| lane.covered() > lane.waiters.len());
        !is_covered && self.uncovered_before(Ticket(u64::MAX)) >= self.room()
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
        let is_waited_for = self.oldest_uncovered().is_some_and(|(_, lane)| lane.route == *route);
        let place = self.evictable(route).filter(|_| is_waited_for)?;
        let idle = self.lanes[place].idle.pop_front()?;
        let route = self.lanes[place].route.clone();
        self.tidy(&route);
        Some(idle.client)
    }

    // --- lending ---

    /// An idle client for a newcomer. Whoever waits goes first, unless it has a dial of its own or room for one.
    pub(super) fn take(&mut self, route: &K) -> Option<C> {
        let place = self.place(route)?;
        if self.waiting > 0 && (!self.lanes[place].waiters.is_empty() || self.is_owed_to_waiters()) {
            return None;
        }
        self.lend(place)
    }

    /// The next pair of a waiter and a client for it.
    pub(super) fn serve(&mut self) -> Option<(W, C)> {
        if self.waiting == 0 {
            return None;
        }
        let servable = self.lanes.iter().enumerate().filter(|(_, lane)| !lane.idle.is_empty());
        let servable = servable.filter_map(|(place, lane)| Some((lane.waiters.front()?.0, place)));
        let (ticket, place) = servable.min()?;
        if self.is_owed_to_older(ticket) {
            return None;
        }
        let client = self.lend(place)?;
        let (_, waiter) = self.lanes[place].waiters.pop_front()?;
        self.waiting -= 1;
        Some((waiter, client))
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

    /// Queues a newcomer behind everybody who waits.
    pub(super) fn queue(&mut self, route: &K, waiter: W) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting += 1;
        self.lane_mut(route).waiters.push_back((ticket, waiter));
        ticket
    }

    /// Takes a waiter out of the queue; nothing happens when it is served already.
    pub(super) fn leave(&mut self, route: &K, ticket: Ticket) {
        let Some(place) = self.place(route) else { return };
        let waiters = &mut self.lanes[place].waiters;
        // Tickets only grow, so the queue is sorted.
        if let Ok(at) = waiters.binary_search_by_key(&ticket, |(ticket, _)| *ticket) {
            waiters.remove(at);
            self.waiting -= 1;
            self.tidy(route);
        }
    }

    /// Takes the waiters out of the queue of which `is_done` says so.
    pub(super) fn dismiss(&mut self, mut is_done: impl FnMut(&K, &W) -> bool) -> Vec<W> {
        let mut dismissed = Vec::new();
        for lane in &mut self.lanes {
            for (ticket, waiter) in std::mem::take(&mut lane.waiters) {
                if is_done(&lane.route, &waiter) {
                    dismissed.push(waiter);
                } else {
                    lane.waiters.push_back((ticket, waiter));
                }
            }
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
            for mut idle in std::mem::take(&mut lane.idle) {
                if is_done(&mut idle) { removed.push(idle.client) } else { lane.idle.push_back(idle) }
            }
        }
        self.tidy_all();
        removed
    }

    /// When the next idle client is to be recycled.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.lanes.iter().flat_map(|lane| &lane.idle).filter_map(|idle| idle.expires).min()
    }

    // --- the order of arrival over all routes ---

    /// Whether all room there is, and this idle client as well, is owed to those who waited before `ticket`.
    fn is_owed_to_older(&self, ticket: Ticket) -> bool {
        self.may_make_room && self.uncovered_before(ticket) > self.room()
    }

    /// Whether an idle client that nobody of its route waits for is owed to those of other routes all the same.
    fn is_owed_to_waiters(&self) -> bool {
        self.may_make_room && self.uncovered_before(Ticket(u64::MAX)) >= self.room()
    }

    /// How many waited before `ticket` and have neither an idle client nor a dial of their route.
    fn uncovered_before(&self, ticket: Ticket) -> usize {
        self.lanes.iter().map(|lane| lane.before(ticket).saturating_sub(lane.covered())).sum()
    }

    /// How many could be dialed without taking anything from anybody who waits.
    fn room(&self) -> usize {
        let spare: usize = self.lanes.iter().map(Lane::spare).sum();
        self.free() + self.stale.len() + if self.may_make_room { spare } else { 0 }
    }

    fn oldest_uncovered(&self) -> Option<(Ticket, &Lane<K, C, W>)> {
        let lanes = self.lanes.iter().filter_map(|lane| Some((lane.waiters.get(lane.covered())?.0, lane)));
        lanes.min_by_key(|(ticket, _)| *ticket)
    }

    /// The lane with the idle client that has been so for the longest; spare ones first.
    fn evictable(&self, route: &K) -> Option<usize> {
        let others = self.lanes.iter().enumerate().filter(|(_, lane)| self.may_make_room && lane.route != *route);
        let coldest = others.filter_map(|(place, lane)| Some((lane.spare() == 0, lane.idle.front()?.since, place)));
        coldest.min().map(|(_, _, place)| place)
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

    /// How many waited before `ticket`.
    fn before(&self, ticket: Ticket) -> usize {
        self.waiters.partition_point(|(other, _)| *other < ticket)
    }

    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.waiters.is_empty() && self.lent + self.dialing == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn idle(client: u32) -> Idle<u32> {
        Idle { client, since: Instant::now(), expires: None }
    }

    fn dialed(slots: &mut Slots<u8, u32, char>, client: u32) {
        let vacancy = slots.vacancy(&0).expect("room for one more");
        slots.fill(vacancy, idle(client));
    }

    #[test]
    fn a_waiter_is_served_in_order() {
        let mut slots = Slots::new(3, 0, Order::OldestFirst);
        slots.queue(&0, 'a');
        let b = slots.queue(&0, 'b');
        slots.queue(&0, 'c');
        slots.leave(&0, b);
        dialed(&mut slots, 1);
        dialed(&mut slots, 2);
        assert_eq!(slots.serve(), Some(('a', 1)));
        assert_eq!(slots.serve(), Some(('c', 2)));
        assert_eq!(slots.serve(), None);
    }

    #[test]
    fn a_newcomer_never_overtakes_a_waiter() {
        let mut slots = Slots::new(2, 0, Order::OldestFirst);
        slots.queue(&0, 'a');
        dialed(&mut slots, 1);
        assert_eq!(slots.take(&0), None);
        assert_eq!(slots.serve(), Some(('a', 1)));
    }

    #[test]
    fn the_client_that_is_recycled_next_is_lent_first() {
        let mut slots = Slots::new(2, 0, Order::OldestFirst);
        dialed(&mut slots, 1);
        dialed(&mut slots, 2);
        assert_eq!(slots.take(&0), Some(1));
        slots.give_back(&0, idle(1));
        assert_eq!(slots.take(&0), Some(1));
    }

    #[test]
    fn a_smaller_size_is_reached_as_lent_clients_end() {
        let mut slots: Slots<u8, u32, char> = Slots::new(2, 2, Order::OldestFirst);
        dialed(&mut slots, 1);
        dialed(&mut slots, 2);
        assert!(slots.take(&0).is_some() && slots.take(&0).is_some());
        slots.resize(1, 1);
        slots.give_up(&0);
        assert_eq!(slots.wanted(true), None);
        assert!(slots.vacancy(&0).is_none());
        slots.give_up(&0);
        assert_eq!(slots.wanted(true), Some(&0));
    }

    #[test]
    fn an_idle_client_of_another_route_makes_room_for_a_waiter_and_not_while_no_dial_could_succeed() {
        let mut slots: Slots<u8, u32, char> = Slots::new(1, 0, Order::NewestFirst);
        dialed(&mut slots, 1);
        slots.queue(&7, 'a');
        slots.set_may_make_room(false);
        assert_eq!(slots.wanted(true), None);
        assert_eq!(slots.make_room(&7), None);
        slots.set_may_make_room(true);
        assert_eq!(slots.take(&0), None, "the room is owed to the waiter");
        assert_eq!(slots.wanted(true), Some(&7));
        assert_eq!(slots.make_room(&7), Some(1));
        let vacancy = slots.vacancy(&7).expect("the room that was made");
        slots.fill(vacancy, idle(2));
        assert_eq!(slots.serve(), Some(('a', 2)));
    }

    #[test]
    fn a_client_that_comes_back_does_not_pass_an_older_waiter_of_another_route_by() {
        let mut slots: Slots<u8, u32, char> = Slots::new(1, 0, Order::NewestFirst);
        dialed(&mut slots, 1);
        assert_eq!(slots.take(&0), Some(1));
        slots.queue(&7, 'a');
        slots.queue(&0, 'b');
        slots.give_back(&0, idle(1));
        assert_eq!(slots.serve(), None);
        assert_eq!(slots.wanted(true), Some(&7));
        assert_eq!(slots.make_room(&7), Some(1));
        let vacancy = slots.vacancy(&7).expect("the room that was made");
        slots.fill(vacancy, idle(2));
        assert_eq!(slots.serve(), Some(('a', 2)));
        slots.give_up(&7);
        assert_eq!(slots.wanted(true), Some(&0));
    }

    #[derive(Clone, Copy, Debug)]
    enum Move {
        Queue,
        Leave(u64),
        Dial,
        Fail,
        Connect,
        Take,
        Serve,
        GiveUp,
        GiveBack,
        Lose,
        Resize(usize),
        Retire,
        TakeStale,
    }

    fn moves() -> impl Strategy<Value = Move> {
        prop_oneof![
            Just(Move::Queue),
            (0..20_u64).prop_map(Move::Leave),
            Just(Move::Dial),
            Just(Move::Fail),
            Just(Move::Connect),
            Just(Move::Take),
            Just(Move::Serve),
            Just(Move::GiveUp),
            Just(Move::GiveBack),
            Just(Move::Lose),
            (0..6_usize).prop_map(Move::Resize),
            Just(Move::Retire),
            Just(Move::TakeStale),
        ]
    }

    proptest! {
        #[test]
        fn any_moves_keep_the_limit_and_the_order(moves in proptest::collection::vec(moves(), 0..200)) {
            let mut slots: Slots<u8, u32, u64> = Slots::new(4, 1, Order::OldestFirst);
            let (mut vacancies, mut lent, mut next, mut served) = (Vec::new(), Vec::new(), 0, None);
            for step in moves {
                let before = slots.counts();
                match step {
                    Move::Queue => { let Ticket(ticket) = slots.queue(&0, slots.next_ticket); prop_assert!(ticket < slots.next_ticket); }
                    Move::Leave(ticket) => slots.leave(&0, Ticket(ticket)),
                    Move::Dial => vacancies.extend(slots.vacancy(&0)),
                    Move::Fail => if let Some(vacancy) = vacancies.pop() { slots.abandon(vacancy) },
                    Move::Connect => if let Some(vacancy) = vacancies.pop() { next += 1; slots.fill(vacancy, idle(next)) },
                    Move::Take => lent.extend(slots.take(&0)),
                    Move::Serve => if let Some((waiter, client)) = slots.serve() {
                        prop_assert!(served < Some(waiter), "the queue is first come, first served");
                        served = Some(waiter);
                        lent.push(client);
                    },
                    Move::GiveUp => if lent.pop().is_some() { slots.give_up(&0) },
                    Move::GiveBack => if let Some(client) = lent.pop() { slots.give_back(&0, idle(client)) },
                    Move::Lose => { slots.remove_idle(|_| true); }
                    Move::Resize(size) => slots.resize(size, 1),
                    Move::Retire => slots.retire_idle(),
                    Move::TakeStale => drop(slots.take_stale()),
                }
                let now = slots.counts();
                let total = |counts: Counts| counts.idle + counts.lent + counts.dialing;
                prop_assert!(total(now) <= slots.size() || total(now) <= total(before), "nothing grows beyond the size");
                prop_assert_eq!((now.lent, now.dialing), (lent.len(), vacancies.len()), "the counts are the truth");
            }
        }
    }
}
