//! Who is here now: sessions and clients enter when they begin and leave when they end, so that they can be looked at from
//! outside at no cost in between. Their numbers are the process's: no two workers give the same.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;

/// Somebody who can be on a [`Roll`].
pub(crate) trait Placed {
    /// Where on it; the roll alone changes that.
    fn place(&self) -> &Cell<usize>;
}

/// Everybody who is here, in no order.
pub(crate) struct Roll<T>(RefCell<Vec<Rc<T>>>);

/// A place on a roll, kept for as long as this is.
pub(crate) struct Enrolled<T: Placed> {
    roll: Rc<Roll<T>>,
    entry: Rc<T>,
}

/// The numbers that one worker gives.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    next: Rc<Cell<u64>>,
    /// How many workers there are.
    step: u64,
}

// === impl Roll ===

impl<T: Placed> Roll<T> {
    /// Puts somebody on it, for as long as the place is kept.
    pub(crate) fn enter(self: &Rc<Self>, entry: T) -> Enrolled<T> {
        let entry = Rc::new(entry);
        let mut entries = self.0.borrow_mut();
        entry.place().set(entries.len());
        entries.push(entry.clone());
        drop(entries);
        Enrolled { roll: self.clone(), entry }
    }

    /// How many are on it.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// How many of them `are_meant`.
    pub(crate) fn count(&self, are_meant: impl Fn(&T) -> bool) -> usize {
        self.0.borrow().iter().filter(|entry| are_meant(entry)).count()
    }

    /// At most `most` of them: those that `rank` puts first, and of equals the ones with the least `number`; in the order
    /// of their numbers.
    pub(crate) fn first<K: Ord>(&self, most: usize, rank: impl Fn(&T) -> K, number: impl Fn(&T) -> u64) -> Vec<Rc<T>> {
        let mut chosen = self.0.borrow().clone();
        if most < chosen.len() {
            chosen.select_nth_unstable_by_key(most, |entry| (rank(entry), number(entry)));
            chosen.truncate(most);
        }
        chosen.sort_unstable_by_key(|entry| number(entry));
        chosen
    }
}

impl<T> Default for Roll<T> {
    fn default() -> Self {
        Roll(RefCell::default())
    }
}

// === impl Enrolled ===

impl<T: Placed> Deref for Enrolled<T> {
    type Target = Rc<T>;

    fn deref(&self) -> &Rc<T> {
        &self.entry
    }
}

impl<T: Placed + std::fmt::Debug> std::fmt::Debug for Enrolled<T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.entry.fmt(out)
    }
}

impl<T: Placed> Drop for Enrolled<T> {
    fn drop(&mut self) {
        let mut entries = self.roll.0.borrow_mut();
        let place = self.entry.place().get();
        let gone = (place < entries.len()).then(|| entries.swap_remove(place));
        if let Some(moved) = entries.get(place) {
            moved.place().set(place);
        }
        // What many have needed at one time is not kept for few.
        let room = entries.capacity();
        if entries.len() < room / 4 {
            entries.shrink_to(room / 2);
        }
        drop(entries);
        drop(gone);
    }
}

// === impl Numbers ===

impl Numbers {
    /// Those of worker `index` (from 0) of so many.
    pub(crate) fn of_worker(index: usize, workers: usize) -> Numbers {
        Numbers { next: Rc::new(Cell::new(index as u64 + 1)), step: workers as u64 }
    }

    /// A number that nobody has.
    pub(crate) fn next(&self) -> u64 {
        let next = self.next.get();
        self.next.set(next.wrapping_add(self.step));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Guest(u64, Cell<usize>);

    impl Placed for Guest {
        fn place(&self) -> &Cell<usize> {
            &self.1
        }
    }

    fn enter(roll: &Rc<Roll<Guest>>, number: u64) -> Enrolled<Guest> {
        roll.enter(Guest(number, Cell::default()))
    }

    fn numbers(roll: &Roll<Guest>, most: usize) -> Vec<u64> {
        roll.first(most, |guest| guest.0 % 2, |guest| guest.0).iter().map(|guest| guest.0).collect()
    }

    #[test]
    fn whoever_leaves_is_off_the_roll_and_nobody_else() {
        let roll = Rc::new(Roll::default());
        let mut guests: Vec<_> = (0..100).map(|number| enter(&roll, number)).collect();
        // In an order that is neither that of their coming nor its reverse.
        for round in 0..100 {
            let gone = guests.swap_remove(round * 7 % guests.len());
            drop(gone);
            let mut left: Vec<_> = guests.iter().map(|guest| guest.0).collect();
            left.sort_unstable();
            assert_eq!(numbers(&roll, usize::MAX), left);
            assert!(guests.iter().all(|guest| Rc::ptr_eq(&roll.0.borrow()[guest.1.get()], guest)));
        }
        assert_eq!((roll.len(), roll.0.borrow().capacity() < 8), (0, true));
    }

    #[test]
    fn the_first_by_rank_are_chosen_and_told_by_number() {
        let roll = Rc::new(Roll::default());
        let _guests: Vec<_> = [5, 4, 3, 2, 1, 0].map(|number| enter(&roll, number)).into();
        assert_eq!(numbers(&roll, 4), [0, 1, 2, 4]);
        assert_eq!(numbers(&roll, 0), [0; 0]);
    }

    #[test]
    fn no_two_workers_give_the_same_number() {
        let (first, second) = (Numbers::of_worker(0, 2), Numbers::of_worker(1, 2));
        let given = [first.next(), second.next(), first.next(), second.next()];
        assert_eq!(given, [1, 2, 3, 4]);
    }
}
