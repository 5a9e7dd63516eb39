//! What a text means to the database, which some settings decide: what it leaves behind, and with whom a statement of it can
//! be shared. Pure.

use std::rc::Rc;

use super::{Exchange, Memory};
use crate::postgres::effects::{self, Leaves, Pin};
use crate::postgres::encoding;
use crate::postgres::statements::{Reading, Statement, TooMany};
use crate::postgres::wire::split_text;

/// The settings of a peer by which its texts are read: literals of dates and times among them, and names.
const READERS: [&str; 5] = ["client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "search_path"];

/// The one that a peer cannot change without keeping its client, so that what counts is the client's.
const STRINGS: &str = "standard_conforming_strings";

// === impl Exchange ===

impl Exchange {
    /// What `sql` leaves behind.
    pub(super) fn leaves(&self, sql: &[u8], memory: &Memory) -> Leaves {
        let is_plain = self.parameters.get("client_encoding").is_none_or(|name| encoding::is_plain(name.as_bytes()));
        if memory.parameters.get(STRINGS) == Some("off") || !is_plain {
            // Literals end elsewhere then than they are read here.
            return if effects::has_traces(sql) { Leaves::Kept(Pin::Set) } else { Leaves::Nothing };
        }
        effects::leaves(sql, |name| memory.parameters.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)))
    }

    /// Keeps in mind what something leaves behind that was sent.
    pub(super) fn heed(&mut self, leaves: Leaves) {
        match leaves {
            Leaves::Nothing => {}
            Leaves::Settings => self.is_setting = true,
            Leaves::Kept(pin) => self.pin_by(Some(pin)),
        }
    }

    /// How the database reads what the peer sends now; `None`: it may change before it is read, or the peer has settings that
    /// nobody knows.
    pub(super) fn reading(&self, memory: &Memory) -> Option<Reading> {
        if self.is_setting || self.pin.is_some() {
            return None;
        }
        let settings = READERS.iter().map(|name| self.parameters.get(name));
        Some(Reading::new(settings.chain([memory.parameters.get(STRINGS)])))
    }

    /// What the peer prepares now by this definition; only one with a name can be shared.
    pub(super) fn statement(
        &self,
        is_unnamed: bool,
        definition: &[u8],
        memory: &Memory,
    ) -> Result<Rc<Statement>, TooMany> {
        let (sql, _) = split_text(definition).unwrap_or((definition, &[]));
        let leaves = || self.leaves(sql, memory);
        match self.reading(memory).filter(|_| !is_unnamed) {
            Some(reading) => self.statements.intern(reading, definition, leaves),
            None => self.statements.single(definition, leaves()),
        }
    }
}
