use std::net::Ipv4Addr;

use super::*;

const MOST: usize = 256;

/// The address that ends so.
fn source(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

/// A book in which each of these addresses has so many connections, in these stages.
fn book(of: &[(u8, usize, Stage)]) -> Book {
    let mut book = Book::new(MOST);
    for (last, count, stage) in of {
        for _ in 0..*count {
            let number = book.enter(source(*last), CancellationToken::new());
            book.advance(number, *stage, |_| true);
        }
    }
    book
}

/// Lets one more connection in; says whose place it gets, and how far that was.
fn newcomer(book: &mut Book, last: u8) -> Option<(u8, Stage)> {
    let number = book.enter(source(last), CancellationToken::new());
    assert!(!book.make_room(number), "there is no place");
    let evicted = book.held.values().find(|held| held.evicted.is_cancelled())?;
    let IpAddr::V4(source) = evicted.source else { panic!("it is one of ours") };
    Some((source.octets()[3], evicted.stage))
}

#[test]
fn as_long_as_there_are_places_nobody_is_sent_away() {
    let mut book = book(&[(1, MOST - 1, Stage::Arriving)]);
    let last = book.enter(source(1), CancellationToken::new());
    assert!(book.make_room(last));
    assert!(book.held.values().all(|held| !held.evicted.is_cancelled()));
}

#[test]
fn the_address_with_the_most_connections_gives_way_to_all_others() {
    for stage in [Stage::Silent, Stage::Arriving, Stage::Answering, Stage::Answered, Stage::Idle] {
        let mut book = book(&[(1, 3, Stage::Arriving), (2, MOST - 3, stage)]);
        assert_eq!(newcomer(&mut book, 1), Some((2, stage)));
    }
}

#[test]
fn of_one_address_what_has_not_finished_gives_way_first_and_what_is_decided_on_never() {
    let mut mixed = book(&[(1, 250, Stage::Answering), (1, 5, Stage::Idle), (1, 1, Stage::Arriving)]);
    assert_eq!(newcomer(&mut mixed, 1), Some((1, Stage::Arriving)));
    let mut idle = book(&[(1, 250, Stage::Answering), (1, 6, Stage::Idle)]);
    assert_eq!(newcomer(&mut idle, 1), Some((1, Stage::Idle)));
    let mut busy = book(&[(1, MOST, Stage::Answering)]);
    assert_eq!(newcomer(&mut busy, 1), None, "it waits until one is done");
}

#[test]
fn who_has_been_about_it_the_longest_gives_way_first() {
    let mut book = book(&[(1, MOST, Stage::Arriving)]);
    newcomer(&mut book, 1);
    assert!(book.held.values().next().expect("the first").evicted.is_cancelled());
}

#[test]
fn for_one_newcomer_one_gives_way() {
    let mut book = book(&[(1, MOST, Stage::Arriving)]);
    let number = book.enter(source(2), CancellationToken::new());
    assert!(!book.make_room(number) && !book.make_room(number));
    assert_eq!(book.held.values().filter(|held| held.evicted.is_cancelled()).count(), 1);
}

#[test]
fn no_address_gets_more_than_its_share_of_the_memory() {
    let mut book = book(&[(1, 2, Stage::Arriving), (2, 1, Stage::Arriving)]);
    let numbers: Vec<u64> = book.held.keys().copied().collect();
    assert!(book.take(numbers[0], SHARE - 10));
    assert!(!book.take(numbers[1], 11) && book.take(numbers[1], 10));
    assert!(book.take(numbers[2], SHARE));
    book.leave(numbers[0]);
    assert!(book.take(numbers[1], SHARE - 10));
}

#[test]
fn the_heaviest_body_of_the_heaviest_address_gives_way_to_others() {
    let mut book = book(&[(1, 2, Stage::Arriving), (2, 1, Stage::Arriving), (3, 1, Stage::Arriving)]);
    let numbers: Vec<u64> = book.held.keys().copied().collect();
    let taken =
        [SHARE / 3, SHARE / 3 * 2, SHARE - 100].into_iter().zip(&numbers).all(|(bytes, who)| book.take(*who, bytes));
    assert!(taken && !book.take(numbers[3], 1024));
    assert!(book.make_memory(numbers[3], 1024));
    let evicted: Vec<bool> = book.held.values().map(|held| held.evicted.is_cancelled()).collect();
    assert_eq!(evicted, [false, true, false, false]);
}

#[test]
fn who_would_be_the_heaviest_is_refused_itself() {
    let mut book = book(&[(1, 1, Stage::Arriving), (2, 1, Stage::Answering)]);
    let numbers: Vec<u64> = book.held.keys().copied().collect();
    assert!(book.take(numbers[0], SHARE) && book.take(numbers[1], SHARE));
    assert!(!book.make_memory(numbers[0], 1));
}

#[tokio::test(start_paused = true)]
async fn memory_that_is_given_back_goes_to_who_waits() {
    let places = Places::new(MOST);
    let (first, second) = (places.enter(source(1)), places.enter(source(1)));
    first.take(SHARE).await.expect("it is free");
    let give_back = async {
        tokio::time::sleep(PATIENCE / 2).await;
        first.give_back();
    };
    let (taken, ()) = tokio::join!(second.take(SHARE), give_back);
    assert_eq!(taken, Ok(()));
    assert!(!first.evicted.is_cancelled(), "what goes on is waited for");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_go_on_is_sent_away_for_who_waits() {
    let places = Places::new(MOST);
    let (first, second) = (places.enter(source(1)), places.enter(source(1)));
    first.take(SHARE).await.expect("it is free");
    let leave = async {
        first.evicted().await;
        drop(first);
    };
    let (taken, ()) = tokio::join!(second.take(1024), leave);
    assert_eq!(taken, Ok(()));
}
