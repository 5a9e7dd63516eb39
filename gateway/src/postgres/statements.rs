//! Prepared statements: which the peers of a proxy have, and which a client has. Pure.
//!
//! In transaction pooling a peer meets another client each time. So a statement that a peer prepares gets a name of ours
//! on whatever client runs it; peers that prepare the same text share it. Everything is bounded.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use foldhash::fast::RandomState;

use super::effects::Leaves;

/// A statement that at least one peer has prepared.
#[derive(Debug)]
pub struct Statement {
    number: u64,
    /// Grows when the database says that what it had planned does not fit any more.
    edition: Cell<u32>,
    /// The [reading](Reading), and behind it the definition.
    key: Box<[u8]>,
    /// Where that begins; nothing is before it where the statement is not shared.
    begin: usize,
    /// What it may leave behind when it is run.
    pub leaves: Leaves,
    /// The bytes of all statements, this one among them.
    bytes_of_all: Rc<Cell<usize>>,
}

/// The settings by which the database reads a text, each with a zero byte behind it. A statement keeps the literals as they
/// were read when it was prepared, so only peers with the same settings can share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading(Vec<u8>);

/// One edition of a statement, as clients have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Edition {
    number: u64,
    edition: u32,
}

/// All statements of a proxy that peers have; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Statements(Rc<RefCell<Known>>);

#[derive(Debug, Default)]
struct Known {
    by_key: HashMap<Box<[u8]>, Weak<Statement>>,
    next: u64,
    /// So many may be remembered, and so many bytes of them, before those that nobody has any more are forgotten.
    tidy_at: (usize, usize),
    /// How many bytes are remembered.
    remembered: usize,
    /// The bytes of the statements that peers have, each counted once.
    bytes_of_all: Rc<Cell<usize>>,
}

/// The statements of one peer, by its own names; the one without a name has the empty one.
#[derive(Debug, Default)]
pub struct Names {
    by_name: HashMap<Rc<[u8]>, Rc<Statement>, RandomState>,
    /// The one without a name: many drivers use no other.
    unnamed: Option<Rc<Statement>>,
    /// Its name.
    empty: Rc<[u8]>,
    bytes: usize,
}

/// A statement, and what its peer calls it.
#[derive(Clone, Debug)]
pub struct Named {
    /// What the peer calls it.
    pub name: Rc<[u8]>,
    /// What it is.
    pub statement: Rc<Statement>,
}

/// The statements that one client has.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Each with the time of its last use.
    named: HashMap<Edition, u64, RandomState>,
    /// What the one without a name is, where that is known.
    pub unnamed: Option<Edition>,
    clock: u64,
}

/// There are more statements than there may be; the sentence is for the peer that wants one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// It has too many itself.
    #[error("more than {MOST_STATEMENTS} prepared statements, or {MOST_BYTES} bytes of them")]
    OfOne,
    /// All peers together have.
    #[error("more than {MOST_OF_ALL} bytes of prepared statements of all clients together")]
    OfAll,
}

/// Statements of one peer.
pub const MOST_STATEMENTS: usize = 5_000;
/// Bytes of the texts of one peer's statements.
pub const MOST_BYTES: usize = 16 << 20;
/// Bytes of the texts of all peers' statements, of which the gateway has two copies: no number of peers takes its memory.
pub const MOST_OF_ALL: usize = 64 << 20;
/// So many bytes of statements that nobody has any more may be remembered beside the others.
const MOST_FORGOTTEN: usize = 1 << 20;
/// Statements that one client keeps; the one that was not used for the longest makes room.
pub const MOST_PREPARED: usize = 200;
/// What our names begin with; a peer's own name that does so never reaches the database.
pub const PREFIX: &str = "postern_";

// === impl Statement ===

impl Statement {
    /// The body of its Parse behind the name: the text, a zero byte, and the types of its parameters.
    pub fn definition(&self) -> &[u8] {
        &self.key[self.begin..]
    }

    /// Whether it is the same statement for a peer whose texts are read so; `None`: nobody knows how.
    pub fn suits(&self, reading: Option<&Reading>) -> bool {
        self.begin == 0 || reading.is_some_and(|reading| reading.0 == self.key[..self.begin])
    }

    /// The edition that is to be used now.
    pub fn edition(&self) -> Edition {
        Edition { number: self.number, edition: self.edition.get() }
    }

    /// What the database had planned for it does not fit any more: every client prepares it anew.
    pub fn renew(&self) {
        self.edition.set(self.edition.get().wrapping_add(1));
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        self.bytes_of_all.set(self.bytes_of_all.get() - self.key.len());
    }
}

// === impl Reading ===

impl Reading {
    /// With these settings, in their order; `None`: one that the database does not tell.
    pub fn new<'a>(settings: impl IntoIterator<Item = Option<&'a str>>) -> Reading {
        let mut reading = Vec::with_capacity(64);
        for setting in settings {
            // No value begins with this.
            reading.extend_from_slice(setting.unwrap_or("\u{1}").as_bytes());
            reading.push(0);
        }
        Reading(reading)
    }
}

// === impl Edition ===

impl Edition {
    /// Appends the name by which clients have it, and the zero byte that ends it.
    pub fn write_name(self, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(PREFIX.as_bytes());
        out.extend_from_slice(digits.format(self.number).as_bytes());
        out.push(b'_');
        out.extend_from_slice(digits.format(self.edition).as_bytes());
        out.push(0);
    }
}

// === impl Statements ===

impl Statements {
    /// The statement with this definition that is read so; `leaves` is asked for what is new.
    ///
    /// # Errors
    /// There is no room for a new one.
    pub fn intern(
        &self,
        reading: Reading,
        definition: &[u8],
        leaves: impl FnOnce() -> Leaves,
    ) -> Result<Rc<Statement>, TooMany> {
        let Reading(mut key) = reading;
        let begin = key.len();
        key.extend_from_slice(definition);
        let mut known = self.0.borrow_mut();
        if let Some(statement) = known.by_key.get(&*key).and_then(Weak::upgrade) {
            return Ok(statement);
        }
        known.tidy();
        let statement = known.add(&key, begin, leaves)?;
        if known.by_key.insert(key.into(), Rc::downgrade(&statement)).is_none() {
            known.remembered += statement.key.len();
        }
        Ok(statement)
    }

    /// A statement that nobody shares.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn single(&self, definition: &[u8], leaves: Leaves) -> Result<Rc<Statement>, TooMany> {
        self.0.borrow_mut().add(definition, 0, || leaves)
    }

    /// How many statements are remembered.
    pub fn len(&self) -> usize {
        self.0.borrow().by_key.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Known {
    fn add(&mut self, key: &[u8], begin: usize, leaves: impl FnOnce() -> Leaves) -> Result<Rc<Statement>, TooMany> {
        let bytes = self.bytes_of_all.get() + key.len();
        if bytes > MOST_OF_ALL {
            return Err(TooMany::OfAll);
        }
        self.bytes_of_all.set(bytes);
        self.next += 1;
        let (number, edition, bytes_of_all) = (self.next, Cell::new(0), self.bytes_of_all.clone());
        Ok(Rc::new(Statement { number, edition, key: key.into(), begin, leaves: leaves(), bytes_of_all }))
    }

    /// Forgets what no peer has any more, from time to time: each statement pays for it once.
    fn tidy(&mut self) {
        let (statements, bytes) = self.tidy_at;
        if self.by_key.len() >= statements || self.remembered >= bytes {
            self.by_key.retain(|_, statement| statement.strong_count() > 0);
            self.remembered = self.by_key.keys().map(|key| key.len()).sum();
            self.tidy_at = ((self.by_key.len() * 2).max(64), self.remembered * 2 + MOST_FORGOTTEN);
        }
    }
}

// === impl Names ===

impl Names {
    /// The statement that the peer calls `name`.
    pub fn get(&self, name: &[u8]) -> Option<&Rc<Statement>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.by_name.get(name) }
    }

    /// The same, with the name itself.
    pub fn named(&self, name: &[u8]) -> Option<Named> {
        let (name, statement) = match name {
            [] => (&self.empty, self.unnamed.as_ref()?),
            name => self.by_name.get_key_value(name)?,
        };
        Some(Named { name: name.clone(), statement: statement.clone() })
    }

    /// From now on `name` is this statement; which one it was.
    ///
    /// # Errors
    /// The peer has too many.
    pub fn insert(&mut self, name: &[u8], statement: Rc<Statement>) -> Result<Option<Rc<Statement>>, TooMany> {
        let bytes = self.bytes + name.len() + statement.definition().len();
        if bytes > MOST_BYTES || self.by_name.len() >= MOST_STATEMENTS {
            return Err(TooMany::OfOne);
        }
        let replaced = self.remove(name);
        self.bytes += name.len() + statement.definition().len();
        if name.is_empty() {
            self.unnamed = Some(statement);
        } else {
            self.by_name.insert(name.into(), statement);
        }
        Ok(replaced)
    }

    /// From now on the peer's name is another statement of the same definition.
    pub fn read_anew(&mut self, named: &Named) {
        if let Some(statement) = self.by_name.get_mut(&named.name) {
            *statement = named.statement.clone();
        }
    }

    /// The peer has no statement called `name` any more.
    pub fn remove(&mut self, name: &[u8]) -> Option<Rc<Statement>> {
        let statement = if name.is_empty() { self.unnamed.take()? } else { self.by_name.remove(name)? };
        self.bytes -= name.len() + statement.definition().len();
        Some(statement)
    }

    /// The peer has no statement any more.
    pub fn clear(&mut self) {
        *self = Names::default();
    }

    /// It has these again, but for names that are others' meanwhile.
    pub fn add_missing(&mut self, before: Names) {
        let Names { by_name, unnamed, empty, .. } = before;
        for (name, statement) in by_name.into_iter().chain(unnamed.map(|statement| (empty, statement))) {
            if self.get(&name).is_none() {
                // It had them a moment ago, so they are not too many.
                let _ = self.insert(&name, statement);
            }
        }
    }
}

// === impl Prepared ===

impl Prepared {
    /// Whether the client has it; then it counts as used.
    pub fn uses(&mut self, edition: Edition) -> bool {
        self.clock += 1;
        let clock = self.clock;
        self.named.get_mut(&edition).map(|used| *used = clock).is_some()
    }

    /// The client has it from now on. What makes room for it is returned, and must be closed.
    pub fn add(&mut self, edition: Edition) -> Option<Edition> {
        self.clock += 1;
        let oldest = (self.named.len() >= MOST_PREPARED && !self.named.contains_key(&edition))
            .then(|| self.named.iter().min_by_key(|(_, used)| **used).map(|(edition, _)| *edition))
            .flatten();
        if let Some(oldest) = oldest {
            self.named.remove(&oldest);
        }
        self.named.insert(edition, self.clock);
        oldest
    }

    /// The client does not have it, or not any more.
    pub fn remove(&mut self, edition: Edition) {
        self.named.remove(&edition);
        if self.unnamed == Some(edition) {
            self.unnamed = None;
        }
    }

    /// The client has these as well.
    pub fn add_missing(&mut self, before: Prepared) {
        self.named.extend(before.named.into_keys().map(|edition| (edition, 0)));
    }

    /// The client has none any more.
    pub fn clear(&mut self) {
        self.named.clear();
        self.unnamed = None;
    }

    /// How many it has.
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Reading {
        Reading::new([Some("UTF8")])
    }

    #[test]
    fn peers_share_a_statement_and_it_is_forgotten_with_the_last_of_them() {
        let statements = Statements::default();
        let first = statements.intern(reading(), b"select 1\0\0\0", || Leaves::Nothing).expect("there is room");
        let second = statements.intern(reading(), b"select 1\0\0\0", || panic!("it is known")).expect("there is room");
        assert!(Rc::ptr_eq(&first, &second));
        let other = statements.intern(reading(), b"select 2\0\0\0", || Leaves::Nothing).expect("there is room");
        assert_ne!(first.edition(), other.edition());
        drop((first, second, other));
        for number in 0..1000 {
            drop(statements.intern(reading(), format!("select {number}").as_bytes(), || Leaves::Nothing));
        }
        assert!(statements.len() <= 64, "{}", statements.len());
    }

    #[test]
    fn only_peers_whose_texts_are_read_alike_share_a_statement() {
        let (statements, other) = (Statements::default(), Reading::new([Some("LATIN1")]));
        let intern = |reading| statements.intern(reading, b"select 1", || Leaves::Nothing).expect("there is room");
        let (one, two) = (intern(reading()), intern(other.clone()));
        assert_ne!(one.edition(), two.edition());
        assert_eq!(one.definition(), two.definition());
        assert!(one.suits(Some(&reading())) && !one.suits(Some(&other)) && !one.suits(None));
        let single = statements.single(b"select 1", Leaves::Nothing).expect("there is room");
        assert!(single.suits(Some(&other)) && single.suits(None));
        assert_ne!(Reading::new([None, Some("x")]), Reading::new([Some(""), Some("x")]));
    }

    #[test]
    fn what_nobody_has_any_more_takes_no_room_however_many_others_there_are() {
        let statements = Statements::default();
        let text = |number: u64, length: usize| format!("{number:length$}").into_bytes();
        let had: Vec<_> =
            (0..5000).map(|number| statements.intern(reading(), &text(number, 8), || Leaves::Nothing)).collect();
        for number in 0..1000 {
            drop(statements.intern(reading(), &text(number, 60_000), || Leaves::Nothing));
        }
        let remembered = statements.0.borrow().by_key.keys().map(|key| key.len()).sum::<usize>();
        assert!(remembered < 2 * MOST_FORGOTTEN, "{remembered} bytes");
        drop(had);
        assert_eq!(statements.0.borrow().bytes_of_all.get(), 0);
    }

    #[test]
    fn all_peers_together_may_not_have_statements_without_end() {
        let statements = Statements::default();
        let long = vec![b'x'; 1 << 20];
        let had: Vec<_> = (0..MOST_OF_ALL >> 20).map(|_| statements.single(&long, Leaves::Nothing)).collect();
        assert!(had.iter().all(Result::is_ok));
        assert_eq!(statements.single(b"x", Leaves::Nothing).err(), Some(TooMany::OfAll));
        assert_eq!(statements.intern(reading(), b"x", || Leaves::Nothing).err(), Some(TooMany::OfAll));
        drop(had);
        assert!(statements.intern(reading(), b"x", || Leaves::Nothing).is_ok());
    }

    #[test]
    fn the_one_that_was_not_used_for_the_longest_makes_room() {
        let mut prepared = Prepared::default();
        let edition = |number: usize| Edition { number: number as u64, edition: 0 };
        for number in 0..MOST_PREPARED {
            assert_eq!(prepared.add(edition(number)), None);
        }
        assert!(prepared.uses(edition(0)));
        assert_eq!(prepared.add(edition(MOST_PREPARED)), Some(edition(1)));
        assert!(prepared.uses(edition(0)) && !prepared.uses(edition(1)));
        assert_eq!(prepared.len(), MOST_PREPARED);
    }

    #[test]
    fn a_peer_may_not_have_statements_without_end() {
        let (statements, mut names) = (Statements::default(), Names::default());
        let statement = statements.intern(reading(), b"select 1\0", || Leaves::Nothing).expect("there is room");
        for number in 0..MOST_STATEMENTS {
            names.insert(&number.to_be_bytes(), statement.clone()).expect("it is one of the allowed");
        }
        assert_eq!(names.insert(b"one more", statement.clone()).err(), Some(TooMany::OfOne));
        assert!(names.remove(&7_usize.to_be_bytes()).is_some());
        names.insert(b"one more", statement).expect("there is room again");
    }

    #[test]
    fn a_renewed_statement_has_another_name() {
        let statement =
            Statements::default().intern(reading(), b"select 1\0", || Leaves::Nothing).expect("there is room");
        let name = |statement: &Statement| {
            let mut out = Vec::new();
            statement.edition().write_name(&mut out);
            out
        };
        let before = name(&statement);
        statement.renew();
        assert_eq!((before, name(&statement)), (b"postern_1_0\0".to_vec(), b"postern_1_1\0".to_vec()));
    }
}
