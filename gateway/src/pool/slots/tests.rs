//! The bookkeeping by itself: the limit, the order, and that nobody is forgotten.

use std::time::Duration;

use proptest::prelude::*;

use super::arrival::HEAD_START;
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
    slots.queue(&0, 'a', Instant::now());
    let b = slots.queue(&0, 'b', Instant::now());
    slots.queue(&0, 'c', Instant::now());
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
    slots.queue(&0, 'a', Instant::now());
    dialed(&mut slots, 1);
    assert_eq!(slots.take(&0, Instant::now), None);
    assert_eq!(slots.serve(), Some(('a', 1)));
}

#[test]
fn the_client_that_is_recycled_next_is_lent_first() {
    let mut slots = Slots::new(2, 0, Order::OldestFirst);
    dialed(&mut slots, 1);
    dialed(&mut slots, 2);
    assert_eq!(slots.take(&0, Instant::now), Some(1));
    slots.give_back(&0, idle(1));
    assert_eq!(slots.take(&0, Instant::now), Some(1));
}

#[test]
fn a_smaller_size_is_reached_as_lent_clients_end() {
    let mut slots: Slots<u8, u32, char> = Slots::new(2, 2, Order::OldestFirst);
    dialed(&mut slots, 1);
    dialed(&mut slots, 2);
    assert!(slots.take(&0, Instant::now).is_some() && slots.take(&0, Instant::now).is_some());
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
    slots.queue(&7, 'a', Instant::now());
    slots.set_may_make_room(false);
    assert_eq!(slots.wanted(true), None);
    assert_eq!(slots.make_room(&7), None);
    slots.set_may_make_room(true);
    assert_eq!(slots.take(&0, || Instant::now() + 2 * HEAD_START), None, "the room is owed to the waiter");
    assert_eq!(slots.wanted(true), Some(&7));
    assert_eq!(slots.make_room(&7), Some(1));
    let vacancy = slots.vacancy(&7).expect("the room that was made");
    slots.fill(vacancy, idle(2));
    assert_eq!(slots.serve(), Some(('a', 2)));
}

/// Size 1, its client of route 0 is lent; route 7 waits, and route 0 `later` than that.
fn handed_over(later: Duration) -> Slots<u8, u32, char> {
    let begin = Instant::now();
    let mut slots: Slots<u8, u32, char> = Slots::new(1, 0, Order::NewestFirst);
    dialed(&mut slots, 1);
    assert_eq!(slots.take(&0, || begin), Some(1));
    slots.queue(&7, 'a', begin);
    slots.queue(&0, 'b', begin + later);
    slots.give_back(&0, idle(1));
    slots
}

#[test]
fn a_client_that_comes_back_goes_to_its_own_route_without_a_login() {
    let mut slots = handed_over(HEAD_START);
    assert_eq!(slots.wanted(true), None);
    assert_eq!(slots.serve(), Some(('b', 1)));
    slots.give_back(&0, idle(1));
    assert_eq!(slots.take(&0, || Instant::now() + 3 * HEAD_START), None, "a newcomer is later still");
    assert_eq!((slots.serve(), slots.wanted(true)), (None, Some(&7)), "nobody else wants it");
}

#[test]
fn who_waits_for_longer_than_the_head_start_has_a_client_of_another_route_closed_for_it() {
    let mut slots = handed_over(HEAD_START + Duration::from_millis(1));
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
    Wait(u64),
    Queue(u8),
    Leave(u8, u64),
    Dial(u8),
    Fail,
    Connect,
    Take(u8),
    Serve,
    GiveUp,
    GiveBack,
    MakeRoom(u8),
    Lose,
    Resize(usize),
    Retire,
    TakeStale,
}

fn moves() -> impl Strategy<Value = Move> {
    let route = || 0..3_u8;
    prop_oneof![
        (0..800_u64).prop_map(Move::Wait),
        route().prop_map(Move::Queue),
        (route(), 0..20_u64).prop_map(|(route, ticket)| Move::Leave(route, ticket)),
        route().prop_map(Move::Dial),
        Just(Move::Fail),
        Just(Move::Connect),
        route().prop_map(Move::Take),
        Just(Move::Serve),
        Just(Move::GiveUp),
        Just(Move::GiveBack),
        route().prop_map(Move::MakeRoom),
        Just(Move::Lose),
        (0..6_usize).prop_map(Move::Resize),
        Just(Move::Retire),
        Just(Move::TakeStale),
    ]
}

/// A waiter knows its route and its number; a client knows its route.
type Routes = Slots<u8, u8, (u8, u64)>;

fn client_of(route: u8) -> Idle<u8> {
    Idle { client: route, since: Instant::now(), expires: None }
}

proptest! {
    #[test]
    fn any_moves_keep_the_limit_and_the_order_of_each_route(moves in proptest::collection::vec(moves(), 0..300)) {
        let mut slots = Routes::new(4, 1, Order::OldestFirst);
        let (mut vacancies, mut lent, mut now) = (Vec::new(), Vec::new(), Instant::now());
        let (mut served, mut number) = ([None; 3], 0);
        for step in moves {
            let before = slots.counts();
            match step {
                Move::Wait(millis) => now += Duration::from_millis(millis),
                Move::Queue(route) => { number += 1; slots.queue(&route, (route, number), now); }
                Move::Leave(route, ticket) => slots.leave(&route, Ticket(ticket)),
                Move::Dial(route) => vacancies.extend(slots.vacancy(&route).map(|vacancy| (vacancy, route))),
                Move::Fail => if let Some((vacancy, _)) = vacancies.pop() { slots.abandon(vacancy) },
                Move::Connect => if let Some((vacancy, route)) = vacancies.pop() { slots.fill(vacancy, client_of(route)) },
                Move::Take(route) => lent.extend(slots.take(&route, || now)),
                Move::Serve => if let Some(((route, number), client)) = slots.serve() {
                    prop_assert_eq!(route, client, "a client serves its own route only");
                    prop_assert!(served[usize::from(route)] < Some(number), "first come, first served");
                    served[usize::from(route)] = Some(number);
                    lent.push(client);
                },
                Move::GiveUp => if let Some(route) = lent.pop() { slots.give_up(&route) },
                Move::GiveBack => if let Some(route) = lent.pop() { slots.give_back(&route, client_of(route)) },
                Move::MakeRoom(route) => { slots.make_room(&route); }
                Move::Lose => { slots.remove_idle(|_| true); }
                Move::Resize(size) => slots.resize(size, 1),
                Move::Retire => slots.retire_idle(),
                Move::TakeStale => { slots.take_stale(); }
            }
            let now = slots.counts();
            let total = |counts: Counts| counts.idle + counts.lent + counts.dialing;
            prop_assert!(total(now) <= slots.size() || total(now) <= total(before), "nothing grows beyond the size");
            prop_assert_eq!((now.lent, now.dialing), (lent.len(), vacancies.len()), "the counts are the truth");
        }
    }
}

/// Peers of several routes in a pool as it is run: each comes, is served, has its client for a while, and gives it back.
struct Run {
    slots: Routes,
    now: Instant,
    /// When a dial is over, and its route.
    dials: Vec<(Instant, Vacancy<u8>, u8)>,
    /// When a client is given back, and its route.
    lent: Vec<(Instant, u8)>,
    /// Whoever waits, in order of arrival: number, route and since when.
    waiting: Vec<(u64, u8, Instant)>,
    served: u64,
    logins: u64,
    /// Whether who gives a client back wants one again at once.
    comes_again: bool,
}

/// What a dial with its login takes.
const LOGIN: Duration = Duration::from_millis(30);

impl Run {
    fn new(size: usize) -> Run {
        let slots = Routes::new(size, 0, Order::NewestFirst);
        let (dials, lent, waiting) = (Vec::new(), Vec::new(), Vec::new());
        Run { slots, now: Instant::now(), dials, lent, waiting, served: 0, logins: 0, comes_again: false }
    }

    /// A peer comes, and will have its client for `hold`.
    fn come(&mut self, route: u8, hold: Duration) {
        if self.slots.take(&route, || self.now).is_some() {
            self.check(route, self.now);
            self.lend(route, hold);
        } else {
            let number = self.served + self.waiting.len() as u64;
            self.slots.queue(&route, (route, number), self.now);
            self.waiting.push((number, route, self.now));
        }
    }

    fn lend(&mut self, route: u8, hold: Duration) {
        self.served += 1;
        self.lent.push((self.now + hold, route));
    }

    /// Whoever is served came at most the head start after everybody of another route who has no client coming.
    fn check(&self, route: u8, since: Instant) {
        for other in (0..3).filter(|other| *other != route) {
            let dials = self.dials.iter().filter(|(_, _, of)| *of == other).count();
            let first = self.waiting.iter().filter(|(_, of, _)| *of == other).nth(dials);
            let is_overdue = first.is_some_and(|(_, _, first)| *first + HEAD_START < since);
            assert!(!is_overdue, "route {other} is overdue, and route {route} is served");
        }
    }

    /// What the pool does whenever something has happened.
    fn settle(&mut self, hold: Duration) {
        loop {
            while let Some(((route, number), client)) = self.slots.serve() {
                assert_eq!(route, client);
                let place = self.waiting.iter().position(|(other, _, _)| *other == number).expect("it waits");
                let (_, _, since) = self.waiting.remove(place);
                self.check(route, since);
                self.lend(route, hold);
            }
            let Some(route) = self.slots.wanted(true).copied() else { return };
            let _closed: Option<u8> = self.slots.make_room(&route);
            let vacancy = self.slots.vacancy(&route).expect("what is wanted has a place");
            self.logins += 1;
            self.dials.push((self.now + LOGIN, vacancy, route));
        }
    }

    /// Lets the next thing happen that is due by `until`.
    fn step(&mut self, until: Instant, hold: Duration) -> bool {
        let dial = self.dials.iter().map(|(at, _, _)| *at).min().filter(|at| *at <= until);
        let lent = self.lent.iter().map(|(at, _)| *at).min().filter(|at| *at <= until);
        match (dial, lent) {
            (None, None) => {
                self.now = until;
                return false;
            }
            (Some(at), lent) if lent.is_none_or(|lent| at <= lent) => {
                let place = self.dials.iter().position(|(other, _, _)| *other == at).expect("it is the least");
                let (_, vacancy, route) = self.dials.remove(place);
                self.now = at;
                self.slots.fill(vacancy, client_of(route));
            }
            (_, at) => {
                let at = at.expect("it comes first");
                let place = self.lent.iter().position(|(other, _)| *other == at).expect("it is the least");
                let (_, route) = self.lent.remove(place);
                self.now = at;
                self.slots.give_back(&route, client_of(route));
                if self.comes_again {
                    self.come(route, hold);
                }
            }
        }
        self.settle(hold);
        true
    }
}

proptest! {
    #[test]
    fn everybody_of_every_route_is_served_and_nobody_is_passed_by_for_long(
        size in 1..4_usize,
        peers in proptest::collection::vec((0..3_u8, 0..400_u64, 1..600_u64), 1..120),
    ) {
        let mut run = Run::new(size);
        let count = peers.len() as u64;
        for (route, pause, hold) in peers {
            let hold = Duration::from_millis(hold);
            let until = run.now + Duration::from_millis(pause);
            while run.step(until, hold) {}
            run.come(route, hold);
            run.settle(hold);
        }
        let until = run.now + Duration::from_hours(1);
        while run.step(until, Duration::from_millis(1)) {}
        prop_assert_eq!((run.served, run.waiting.len()), (count, 0), "everybody was served");
    }
}

#[test]
fn routes_that_share_one_client_take_turns_of_the_head_start_and_do_not_log_in_at_each_hand_over() {
    let mut run = Run { comes_again: true, ..Run::new(1) };
    let (hold, minute) = (Duration::from_millis(10), Duration::from_mins(1));
    for route in [0, 1, 0, 1] {
        run.come(route, hold);
    }
    run.settle(hold);
    let until = run.now + minute;
    while run.step(until, hold) {}
    let turns = minute.as_millis() / HEAD_START.as_millis();
    assert!((turns - 5..=turns + 5).contains(&u128::from(run.logins)), "{} logins", run.logins);
    assert!(run.served > 5000, "{} were served", run.served);
}
