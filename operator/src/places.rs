//! Who has a place at a server of ours, and who gives it up when there is none left: pure bookkeeping, and the tokens by which
//! connections take part in it.
//!
//! A server does not know who asks, only from which address. So addresses share what there is: where it does not suffice,
//! the one that has the most of it gives way, with what it has not finished first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Bytes of all bodies together, while they arrive and while they are decided on.
const MEMORY: usize = 12 * 1024 * 1024;
/// Of them, what one address may have.
const SHARE: usize = MEMORY / 2;
/// How long to wait for memory before somebody else has to give some back: what arrives without a pause is done by then.
const PATIENCE: Duration = Duration::from_millis(250);

/// All places.
#[derive(Clone)]
pub(crate) struct Places(Arc<Inner>);

struct Inner {
    book: Mutex<Book>,
    freed: Notify,
}

/// A place, until it is dropped.
pub(crate) struct Place {
    places: Places,
    number: u64,
    evicted: CancellationToken,
}

/// The memory is needed by others who have less of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Crowded;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has said nothing yet.
    Silent,
    /// A handshake, or a request, arrives.
    Arriving,
    /// A request has arrived and is decided on.
    Answering,
    /// The answer is on its way.
    Answered,
    /// The answer has left, and nothing has come since.
    Idle,
}

/// Who has what.
struct Book {
    /// Connections at one time.
    most: usize,
    held: BTreeMap<u64, Held>,
    /// Of all places together.
    bytes: usize,
    /// Counts what happens, so that it is known what was first.
    events: u64,
}

/// What one connection has.
struct Held {
    source: IpAddr,
    stage: Stage,
    since: u64,
    bytes: usize,
    evicted: CancellationToken,
}

// === impl Places ===

impl Places {
    /// So many places.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Inner { book: Mutex::new(Book::new(most)), freed: Notify::new() }))
    }

    /// A place for a connection from `source`, even if there is none: see [`Places::make_room`].
    pub(crate) fn enter(&self, source: IpAddr) -> Place {
        let evicted = CancellationToken::new();
        let number = self.book().enter(source.to_canonical(), evicted.clone());
        Place { places: self.clone(), number, evicted }
    }

    /// Waits until there are not more places taken than there are, and sees to it that this does not last.
    pub(crate) async fn make_room(&self, newcomer: &Place) {
        loop {
            let mut freed = std::pin::pin!(self.0.freed.notified());
            freed.as_mut().enable();
            if self.book().make_room(newcomer.number) {
                return;
            }
            freed.await;
        }
    }

    /// Held only while something is looked up or noted.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Place ===

impl Place {
    /// Ends when this place is needed by somebody else.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.places.book().advance(self.number, stage, |_| true);
    }

    /// Enters a stage, if the one that it is in is such a one.
    pub(crate) fn enter_from(&self, stage: Stage, is_such: fn(Stage) -> bool) -> bool {
        self.places.book().advance(self.number, stage, is_such)
    }

    /// Takes memory for so many more bytes, as soon as there is some.
    pub(crate) async fn take(&self, bytes: usize) -> Result<(), Crowded> {
        loop {
            let mut freed = std::pin::pin!(self.places.0.freed.notified());
            freed.as_mut().enable();
            if self.places.book().take(self.number, bytes) {
                return Ok(());
            }
            if timeout(PATIENCE, freed).await.is_err() && !self.places.book().make_memory(self.number, bytes) {
                return Err(Crowded);
            }
        }
    }

    /// Gives back what it took.
    pub(crate) fn give_back(&self) {
        self.places.book().give_back(self.number);
        self.places.0.freed.notify_waiters();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.book().leave(self.number);
        self.places.0.freed.notify_waiters();
    }
}

// === impl Book ===

impl Book {
    fn new(most: usize) -> Self {
        Self { most, held: BTreeMap::new(), bytes: 0, events: 0 }
    }

    fn enter(&mut self, source: IpAddr, evicted: CancellationToken) -> u64 {
        self.events += 1;
        let held = Held { source, stage: Stage::Arriving, since: self.events, bytes: 0, evicted };
        self.held.insert(self.events, held);
        self.events
    }

    fn leave(&mut self, number: u64) {
        self.give_back(number);
        self.held.remove(&number);
    }

    fn advance(&mut self, number: u64, stage: Stage, is_such: impl Fn(Stage) -> bool) -> bool {
        self.events += 1;
        let Some(held) = self.held.get_mut(&number).filter(|held| is_such(held.stage)) else { return false };
        (held.stage, held.since) = (stage, self.events);
        true
    }

    /// Whether there is a place for everybody; if not, and nobody is on the way out, somebody is sent.
    fn make_room(&self, newcomer: u64) -> bool {
        if self.held.len() <= self.most {
            return true;
        }
        let leaving = self.held.values().filter(|held| held.evicted.is_cancelled()).count();
        if self.held.len() - leaving > self.most
            && let Some(held) = self.most_dispensable(newcomer)
        {
            held.evicted.cancel();
        }
        false
    }

    /// The connection whose place the newcomer gets: of the address that has the most, what has not finished first. What is
    /// decided on gives way to other addresses only.
    fn most_dispensable(&self, newcomer: u64) -> Option<&Held> {
        let own = self.held.get(&newcomer).map(|held| held.source);
        let mut places: HashMap<IpAddr, usize> = HashMap::new();
        for held in self.held.values() {
            *places.entry(held.source).or_default() += 1;
        }
        let others = self.held.iter().filter(|(number, held)| **number != newcomer && !held.evicted.is_cancelled());
        let others = others.filter(|(_, held)| held.stage != Stage::Answering || Some(held.source) != own);
        others.map(|(_, held)| held).max_by_key(|held| {
            let places = places.get(&held.source).copied().unwrap_or_default();
            (places, held.stage.dispensable(), Reverse(held.since))
        })
    }

    fn take(&mut self, number: u64, bytes: usize) -> bool {
        let Some(source) = self.held.get(&number).map(|held| held.source) else { return false };
        if self.bytes + bytes > MEMORY || self.bytes_of(source) + bytes > SHARE {
            return false;
        }
        self.bytes += bytes;
        if let Some(held) = self.held.get_mut(&number) {
            held.bytes += bytes;
        }
        true
    }

    fn give_back(&mut self, number: u64) {
        if let Some(held) = self.held.get_mut(&number) {
            self.bytes -= std::mem::take(&mut held.bytes);
        }
    }

    /// Sends away who holds the most without having finished, so that `number` gets so many more bytes: of the address that
    /// holds the most, or of its own if that has its share. False if that is itself.
    fn make_memory(&self, number: u64, bytes: usize) -> bool {
        let Some(own) = self.held.get(&number).map(|held| held.source) else { return false };
        let has_its_share = self.bytes_of(own) + bytes > SHARE;
        let unfinished = self.held.iter().filter(|(_, held)| {
            held.stage == Stage::Arriving && !held.evicted.is_cancelled() && (held.source == own || !has_its_share)
        });
        let wanted = |other: u64| if other == number { bytes } else { 0 };
        let mut of_sources: HashMap<IpAddr, usize> = HashMap::new();
        for held in self.held.values() {
            *of_sources.entry(held.source).or_default() += held.bytes;
        }
        let heaviest = unfinished.max_by_key(|(other, held)| {
            let of_source = of_sources.get(&held.source).copied().unwrap_or_default();
            (of_source, held.bytes + wanted(**other), Reverse(held.since))
        });
        match heaviest {
            Some((heaviest, _)) if *heaviest == number => return false,
            // Others may have nothing to give back: all of it is decided on, which does not last.
            Some((_, held)) if held.bytes > 0 => held.evicted.cancel(),
            Some(_) | None => {}
        }
        true
    }

    fn bytes_of(&self, source: IpAddr) -> usize {
        self.held.values().filter(|held| held.source == source).map(|held| held.bytes).sum()
    }
}

// === impl Stage ===

impl Stage {
    /// How little is lost with such a connection.
    fn dispensable(self) -> u8 {
        match self {
            Stage::Silent | Stage::Arriving | Stage::Answered => 2,
            Stage::Idle => 1,
            Stage::Answering => 0,
        }
    }
}

#[cfg(test)]
mod tests;
