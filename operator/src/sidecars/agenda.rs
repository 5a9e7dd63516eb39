//! What is to be done when, a thing at a time for each key, and not more at one time than a limit.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

/// Keys with the time at which something is due for them.
#[derive(Debug)]
pub(super) struct Agenda<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
    begun: usize,
    limit: usize,
}

// === impl Agenda ===

impl<K: Clone + Ord> Agenda<K> {
    /// Nothing is due; at most `limit` things are begun and not done.
    pub(super) fn new(limit: usize) -> Agenda<K> {
        Agenda { by_time: BTreeSet::new(), by_key: BTreeMap::new(), begun: 0, limit }
    }

    /// `key` is due at this time, whatever was said before.
    pub(super) fn put(&mut self, key: &K, at: Instant) {
        self.remove(key);
        self.by_key.insert(key.clone(), at);
        self.by_time.insert((at, key.clone()));
    }

    /// `key` is not due any more.
    pub(super) fn remove(&mut self, key: &K) {
        if let Some((key, at)) = self.by_key.remove_entry(key) {
            self.by_time.remove(&(at, key));
        }
    }

    /// Whether `key` is due at any time.
    pub(super) fn has(&self, key: &K) -> bool {
        self.by_key.contains_key(key)
    }

    /// Begins what is due the longest, if something is and there is room for it.
    pub(super) fn take(&mut self, now: Instant) -> Option<K> {
        if self.begun >= self.limit || self.by_time.first().is_none_or(|(at, _)| *at > now) {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        self.begun += 1;
        Some(key)
    }

    /// Something that was begun is done.
    pub(super) fn done(&mut self) {
        self.begun = self.begun.saturating_sub(1);
    }

    /// When the next thing can be begun; nothing while there is no room, since what is done then makes some.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.begun >= self.limit { None } else { self.by_time.first().map(|(at, _)| *at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_due_first_comes_first_and_never_more_than_there_is_room_for() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut agenda = Agenda::new(1);
        agenda.put(&"late", later);
        agenda.put(&"soon", later);
        agenda.put(&"soon", now);
        assert_eq!(agenda.take(now), Some("soon"));
        assert_eq!((agenda.take(later), agenda.next()), (None, None));
        agenda.done();
        assert_eq!((agenda.take(now), agenda.next()), (None, Some(later)));
        assert_eq!(agenda.take(later), Some("late"));
    }

    #[test]
    fn what_is_removed_is_not_due() {
        let now = Instant::now();
        let mut agenda = Agenda::new(1);
        agenda.put(&1, now);
        agenda.remove(&1);
        assert!(!agenda.has(&1));
        assert_eq!((agenda.take(now), agenda.next()), (None, None));
    }
}
