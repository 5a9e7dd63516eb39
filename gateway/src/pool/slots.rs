//! The pool's bookkeeping: how many clients there are, which are idle, and who waits in which order. Pure: no clock of
//! its own, no I/O, no await. `C` is a client, `W` is the way to hand one to a waiter.

use std::collections::VecDeque;

use tokio::time::Instant;

/// Counts and queues of one pool.
#[derive(Debug)]
pub(super) struct Slots<C, W> {
    size: usize,
    min_idle: usize,
    idle: VecDeque<Idle<C>>,
    stale: VecDeque<C>,
    lent: usize,
    dialing: usize,
    waiters: VecDeque<(Ticket, W)>,
    next_ticket: u64,
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

/// The right to add one client. Only [`Slots::vacancy`] makes one, so that the size cannot be exceeded; it is given
/// back by [`Slots::fill`] or [`Slots::abandon`].
#[derive(Debug)]
#[must_use]
pub(super) struct Vacancy(());

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

impl<C, W> Slots<C, W> {
    pub(super) fn new(size: usize, min_idle: usize) -> Self {
        let (idle, stale, waiters) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Slots { size, min_idle, idle, stale, lent: 0, dialing: 0, waiters, next_ticket: 0 }
    }

    /// Changes the limits; what is lent beyond a smaller size is not replaced when it ends.
    pub(super) fn resize(&mut self, size: usize, min_idle: usize) {
        (self.size, self.min_idle) = (size, min_idle);
    }

    pub(super) fn counts(&self) -> Counts {
        let idle = self.idle.len() + self.stale.len();
        Counts { idle, lent: self.lent, dialing: self.dialing, waiting: self.waiters.len() }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// How many dials must start so that everybody who waits is served and `min_idle` are warm, within the size.
    pub(super) fn wanted(&self) -> usize {
        let need = self.waiters.len() + self.min_idle;
        need.saturating_sub(self.idle.len() + self.dialing).min(self.free() + self.stale.len())
    }

    /// How many waiters have no dial that could serve them, because the size does not allow it.
    pub(super) fn waiting_for_a_lent_client(&self) -> usize {
        self.waiters.len().saturating_sub(self.dialing + self.free() + self.stale.len())
    }

    /// Whether one more waiter would have to wait until a lent client ends.
    pub(super) fn is_exhausted(&self) -> bool {
        self.waiters.len() >= self.dialing + self.free() + self.stale.len()
    }

    /// The right to dial, while the size allows one more.
    pub(super) fn vacancy(&mut self) -> Option<Vacancy> {
        (self.free() > 0).then(|| {
            self.dialing += 1;
            Vacancy(())
        })
    }

    /// A dial led to no client.
    #[expect(clippy::needless_pass_by_value, reason = "the right is used up")]
    pub(super) fn abandon(&mut self, vacancy: Vacancy) {
        let Vacancy(()) = vacancy;
        self.dialing -= 1;
    }

    /// A dial led to `client`: it is idle until [`Slots::serve`] finds somebody who waits.
    pub(super) fn fill(&mut self, vacancy: Vacancy, idle: Idle<C>) {
        self.abandon(vacancy);
        self.idle.push_back(idle);
    }

    /// The oldest idle client, for a newcomer: the one that would be recycled next. Whoever waits goes first.
    pub(super) fn take(&mut self) -> Option<C> {
        if !self.waiters.is_empty() {
            return None;
        }
        self.lend_oldest()
    }

    /// The next pair of a waiter and a client for it.
    pub(super) fn serve(&mut self) -> Option<(W, C)> {
        if self.waiters.is_empty() || self.idle.is_empty() {
            return None;
        }
        let (_, waiter) = self.waiters.pop_front()?;
        self.lend_oldest().map(|client| (waiter, client))
    }

    /// A lent client is gone.
    pub(super) fn give_up(&mut self) {
        self.lent -= 1;
    }

    /// A lent client was never used: it is the first to be lent again.
    pub(super) fn give_back(&mut self, idle: Idle<C>) {
        self.lent -= 1;
        self.idle.push_front(idle);
    }

    /// Queues a newcomer behind everybody who waits.
    pub(super) fn queue(&mut self, waiter: W) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiters.push_back((ticket, waiter));
        ticket
    }

    /// Takes a waiter out of the queue; nothing happens when it is served already.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        // Tickets only grow, so the queue is sorted.
        if let Ok(place) = self.waiters.binary_search_by_key(&ticket, |(ticket, _)| *ticket) {
            self.waiters.remove(place);
        }
    }

    /// Takes the waiters out of the queue of which `is_done` says so.
    pub(super) fn dismiss(&mut self, mut is_done: impl FnMut(&W) -> bool) -> Vec<W> {
        let (done, waiting) = std::mem::take(&mut self.waiters).into_iter().partition(|(_, waiter)| is_done(waiter));
        self.waiters = waiting;
        let done: VecDeque<(Ticket, W)> = done;
        done.into_iter().map(|(_, waiter)| waiter).collect()
    }

    /// Makes those idle clients stale that a smaller size has no place for.
    pub(super) fn retire_surplus(&mut self) {
        let total = self.idle.len() + self.stale.len() + self.lent + self.dialing;
        let surplus = total.saturating_sub(self.size).min(self.idle.len());
        self.stale.extend(self.idle.drain(..surplus).map(|idle| idle.client));
    }

    /// Makes the idle clients stale: they are not lent any more, but count until they are taken out.
    pub(super) fn retire_idle(&mut self) {
        self.stale.extend(self.idle.drain(..).map(|idle| idle.client));
    }

    /// Whether a stale client is left.
    pub(super) fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Whether only stale clients stand in the way of one more dial.
    pub(super) fn is_full_of_stale(&self) -> bool {
        self.has_stale() && self.free() == 0
    }

    /// The stale client that has been so for the longest.
    pub(super) fn take_stale(&mut self) -> Option<C> {
        self.stale.pop_front()
    }

    /// The idle clients, for looking at them.
    pub(super) fn idle_mut(&mut self) -> impl Iterator<Item = &mut Idle<C>> {
        self.idle.iter_mut()
    }

    /// Takes out the idle clients of which `is_done` says so.
    pub(super) fn remove_idle(&mut self, mut is_done: impl FnMut(&mut Idle<C>) -> bool) -> Vec<C> {
        let mut removed = Vec::new();
        for mut idle in std::mem::take(&mut self.idle) {
            if is_done(&mut idle) { removed.push(idle.client) } else { self.idle.push_back(idle) }
        }
        removed
    }

    /// When the next idle client is to be recycled.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.idle.iter().filter_map(|idle| idle.expires).min()
    }

    fn lend_oldest(&mut self) -> Option<C> {
        let idle = self.idle.pop_front()?;
        self.lent += 1;
        Some(idle.client)
    }

    fn free(&self) -> usize {
        self.size.saturating_sub(self.idle.len() + self.stale.len() + self.lent + self.dialing)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn idle(client: u32) -> Idle<u32> {
        Idle { client, since: Instant::now(), expires: None }
    }

    fn dialed(slots: &mut Slots<u32, char>, client: u32) {
        let vacancy = slots.vacancy().expect("room for one more");
        slots.fill(vacancy, idle(client));
    }

    #[test]
    fn a_waiter_is_served_in_order() {
        let mut slots = Slots::new(3, 0);
        slots.queue('a');
        let b = slots.queue('b');
        slots.queue('c');
        slots.leave(b);
        dialed(&mut slots, 1);
        dialed(&mut slots, 2);
        assert_eq!(slots.serve(), Some(('a', 1)));
        assert_eq!(slots.serve(), Some(('c', 2)));
        assert_eq!(slots.serve(), None);
    }

    #[test]
    fn a_newcomer_never_overtakes_a_waiter() {
        let mut slots = Slots::new(2, 0);
        slots.queue('a');
        dialed(&mut slots, 1);
        assert_eq!(slots.take(), None);
        assert_eq!(slots.serve(), Some(('a', 1)));
    }

    #[test]
    fn the_client_that_is_recycled_next_is_lent_first() {
        let mut slots = Slots::new(2, 0);
        dialed(&mut slots, 1);
        dialed(&mut slots, 2);
        assert_eq!(slots.take(), Some(1));
        slots.give_back(idle(1));
        assert_eq!(slots.take(), Some(1));
    }

    #[test]
    fn a_smaller_size_is_reached_as_lent_clients_end() {
        let mut slots: Slots<u32, char> = Slots::new(2, 2);
        dialed(&mut slots, 1);
        dialed(&mut slots, 2);
        assert!(slots.take().is_some() && slots.take().is_some());
        slots.resize(1, 1);
        slots.give_up();
        assert_eq!(slots.wanted(), 0);
        assert!(slots.vacancy().is_none());
        slots.give_up();
        assert_eq!(slots.wanted(), 1);
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
            let mut slots: Slots<u32, u64> = Slots::new(4, 1);
            let (mut vacancies, mut lent, mut next, mut served) = (Vec::new(), Vec::new(), 0, None);
            for step in moves {
                let before = slots.counts();
                match step {
                    Move::Queue => { let Ticket(ticket) = slots.queue(slots.next_ticket); prop_assert!(ticket < slots.next_ticket); }
                    Move::Leave(ticket) => slots.leave(Ticket(ticket)),
                    Move::Dial => vacancies.extend(slots.vacancy()),
                    Move::Fail => if let Some(vacancy) = vacancies.pop() { slots.abandon(vacancy) },
                    Move::Connect => if let Some(vacancy) = vacancies.pop() { next += 1; slots.fill(vacancy, idle(next)) },
                    Move::Take => lent.extend(slots.take()),
                    Move::Serve => if let Some((waiter, client)) = slots.serve() {
                        prop_assert!(served < Some(waiter), "the queue is first come, first served");
                        served = Some(waiter);
                        lent.push(client);
                    },
                    Move::GiveUp => if lent.pop().is_some() { slots.give_up() },
                    Move::GiveBack => if let Some(client) = lent.pop() { slots.give_back(idle(client)) },
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
