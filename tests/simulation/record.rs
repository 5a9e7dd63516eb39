//! What happened in a run, and how often.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;

use tokio::time::Instant;

/// What happened, in order.
pub struct Record {
    begin: Instant,
    /// Whether each line is told at once, as who looks for a seed that does not end wants it.
    is_told: bool,
    /// When time stopped, in seconds.
    end: Cell<Option<f64>>,
    lines: RefCell<Vec<String>>,
    broken: RefCell<Vec<String>>,
    tally: RefCell<Tally>,
}

/// How often each thing happened.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<&'static str, u64>);

/// What a check of many seeds must have seen.
const EVERYTHING: &[&str] = &[
    "opaque exchange",
    "opaque session cut",
    "query",
    "prepared query",
    "transaction",
    "write",
    "cancelled",
    "own setting",
    "refused",
    "session of SQL cut",
    "datagram answered",
    "datagram lost",
    "waited in order",
    "host crashed",
    "host froze",
    "link refused",
    "link dark",
    "link cut",
    "name moved",
    "name silent",
    "reconfigured",
    "answer broken off",
    "drained",
    "drained in trouble",
];

// === impl Record ===

impl Record {
    /// Begins now.
    pub fn begin() -> Record {
        Record {
            begin: Instant::now(),
            is_told: std::env::var_os("POSTERN_TELL").is_some(),
            end: Cell::new(None),
            lines: RefCell::default(),
            broken: RefCell::default(),
            tally: RefCell::default(),
        }
    }

    /// Something happened.
    pub fn note(&self, what: impl fmt::Display) {
        let now = self.end.get().unwrap_or_else(|| self.begin.elapsed().as_secs_f64());
        let line = format!("{now:>9.3} {what}");
        if self.is_told {
            eprintln!("{line}");
        }
        self.lines.borrow_mut().push(line);
    }

    /// Simulated time stops.
    pub fn stop(&self) {
        self.end.set(Some(self.begin.elapsed().as_secs_f64()));
    }

    /// The same, to be counted.
    pub fn count(&self, what: &'static str) {
        *self.tally.borrow_mut().0.entry(what).or_default() += 1;
    }

    /// A promise was broken.
    pub fn broken(&self, promise: impl fmt::Display) {
        self.note(format_args!("BROKEN: {promise}"));
        self.broken.borrow_mut().push(promise.to_string());
    }

    /// All of it: what happened, the broken promises, and the counts.
    pub fn finish(&self) -> (String, Vec<String>, Tally) {
        (self.lines.borrow().join("\n"), self.broken.take(), self.tally.take())
    }
}

// === impl Tally ===

impl Tally {
    /// Adds another run's.
    pub fn add(&mut self, other: &Tally) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// A simulation in which something never happens proves nothing about it.
    pub fn expect_everything_happened(&self) {
        let missing: Vec<_> = EVERYTHING.iter().filter(|what| !self.0.contains_key(**what)).collect();
        assert!(missing.is_empty(), "these never happened: {missing:?}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<_> = self.0.iter().map(|(what, count)| format!("{what} {count}")).collect();
        out.write_str(&counts.join(", "))
    }
}
