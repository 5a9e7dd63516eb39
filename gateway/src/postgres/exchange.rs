//! What the database still owes to a peer, and what becomes of each message. Pure: bytes in, bytes out.
//!
//! Each message that a peer sends is noted in the order in which the database will answer; each answer settles the first
//! note. A client may be lent to somebody else only when nothing is owed, no message is half sent, no transaction is open,
//! and nothing was left behind (`is_free`). Whatever does not fit the notes is a doubt, and ends the client.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::BufMut;
use thiserror::Error;

use super::effects::{FOLLOWING, Pin};
use super::frames::{Frames, Sender};
use super::statements::{Edition, Named, Names, Prepared, Statement, Statements, TooMany};
use super::wire::{self, ErrorResponse, Parameters, Status, message, tag};
use crate::config::PoolMode;

mod from_peer;
mod named;
mod from_database;
mod skipped;
mod reading;
mod alone;
mod wishes;

use skipped::Preparing;
pub use wishes::Wishes;

/// One peer's conversation with whichever client it has.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not whatever the others are")]
pub struct Exchange {
    mode: PoolMode,
    peer: Frames,
    database: Frames,
    /// What becomes of the rest of the message that is passing, by direction.
    to_database: Fate,
    to_peer: Fate,
    /// The part of the peer's message that has arrived, where it must be whole to be understood.
    held: Vec<u8>,
    /// What has arrived of the database's message, where it is read.
    held_answer: Vec<u8>,
    reads_answer: bool,
    /// Whether a part of an answer was passed on, and the rest was not.
    is_within_answer: bool,
    owed: VecDeque<Owed>,
    status: Status,
    /// Whether messages were sent since the last Sync that the database does not answer with ReadyForQuery.
    is_open: bool,
    /// Whether the database ignores everything up to the next Sync.
    is_skipping: bool,
    /// Whether the database takes CopyData.
    is_copying_in: bool,
    /// Whether the database has said that it ends the connection.
    is_over: bool,
    has_terminated: bool,
    pin: Option<Pin>,
    names: Names,
    statements: Statements,
    /// What the client is told to prepare once more, until the database has answered.
    preparing: Vec<Preparing>,
    /// The settings as the peer knows them.
    parameters: Parameters,
    /// What the peer's settings are when it resets them.
    wishes: Wishes,
    /// As which process the peer knows whatever client it has.
    process: Option<u32>,
    /// Whether settings of the peer may have changed, or may change back, since nothing was owed and no transaction open.
    is_setting: bool,
    /// Whether the client has to be given the peer's settings, and the peer to be told of them.
    has_reset: bool,
    tally: Tally,
}

/// What one client knows by heart, and takes along from peer to peer.
#[derive(Debug, Default)]
pub struct Memory {
    /// The settings as the database reports them.
    pub parameters: Parameters,
    /// The same as they were after the login.
    pub initial: Parameters,
    /// The statements that are prepared.
    pub prepared: Prepared,
    /// As which process its notifications name it.
    pub process: Option<u32>,
    /// How many statements were deallocated in place of others. Each has a name of its own, as one that was cancelled in
    /// between is there still.
    placeholders: u32,
}

/// What has happened since somebody looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// ReadyForQuery was received so many times.
    pub answered: u64,
    /// After so many of them no transaction was open.
    pub transactions: u64,
    /// Parse messages that were answered here.
    pub parses_saved: u64,
    /// Parse messages that peers did not send.
    pub parses_added: u64,
    /// The first sign that the server accepts no writes: SQLSTATE 25006, or a setting that says so.
    pub refuses_writes: bool,
    /// A new reason why the client stays with the peer.
    pub pinned: Option<Pin>,
}

/// Why a session cannot go on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// The peer does not speak the protocol.
    #[error("protocol violation: {0}")]
    Peer(#[from] wire::Error),
    /// The peer wants to have too much.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// A statement's head is longer than anything that is a name.
    #[error("protocol violation: a name is too long")]
    LongName,
    /// The peer asks and asks, and nothing of it is answered.
    #[error("more than {} messages wait for their answers", 2 * MOST_OWED)]
    TooManyOwed,
    /// A statement that is to be shared is too long.
    #[error("a prepared statement has {0} bytes, and at most {MOST_HELD} are remembered")]
    LongStatement(usize),
    /// The database does not speak the protocol.
    #[error("the database does not speak the protocol: {0}")]
    Database(wire::Error),
    /// The database said what nobody asked for: nobody knows any more whose answer comes next.
    #[error("nobody asked the database for a message of type {}", .0.escape_ascii())]
    Desync(u8),
    /// The peer's settings cannot be had on this client.
    #[error("the database refused a setting of the session: {0}")]
    Settings(String),
    /// The database ended the connection while it was given the peer's settings; what it said is for the peer.
    #[error("{0}")]
    Over(Box<ErrorResponse>),
}

/// What becomes of the body of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    /// It goes on.
    #[default]
    Keep,
    /// It does not.
    Drop,
    /// It is held until the message is whole, and may be written otherwise then.
    Hold,
    /// The message's beginning was rewritten and noted; the rest goes on.
    Rest,
}

/// Who wants an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Peer,
    Us,
}

/// What the database, or we ourselves, still have to say.
#[derive(Debug)]
enum Owed {
    /// ParseComplete; which statement of ours it is or would be, by which name of the peer, whether it is there only then, and
    /// what it replaces.
    Parse {
        whom: Whom,
        edition: Option<Edition>,
        name: Option<Box<[u8]>>,
        is_new: bool,
        replaced: Option<Rc<Statement>>,
    },
    /// BindComplete; the statement, where it is one of ours.
    Bind(Option<Named>),
    /// RowDescription or NoData, after a ParameterDescription where a statement is described: that, where it is one of ours.
    Described(Option<Named>),
    /// CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute,
    /// CloseComplete; which statement of ours it closes.
    Close { whom: Whom, edition: Option<Edition> },
    /// ReadyForQuery.
    Sync,
    /// Anything, up to ReadyForQuery.
    Query,
    /// FunctionCallResponse and ReadyForQuery.
    FunctionCall,
    /// Nothing: here a COPY ended.
    CopyEnd,
    /// CommandComplete of what a Query begins with that the peer did not ask for.
    Prelude,
    /// Nothing: what the Query before it makes the peer and the client forget, and they have again if it fails.
    Forgotten(Option<Box<(Names, Prepared)>>),
    /// ParseComplete, from us.
    Parsed(Box<[u8]>),
    /// CloseComplete, from us; what was closed, in case that it never was.
    Closed(Box<[u8]>, Option<Rc<Statement>>),
    /// Anything, up to ReadyForQuery: the answer to a query of ours. The peer may hear of the settings in it.
    Own { is_told: bool },
}

/// Longer messages of a peer are not held to be understood.
pub const MOST_HELD: usize = 1 << 20;
/// The names of a portal and a statement are not longer.
const MOST_NAMES: usize = 16 * 1024;
/// The name of a statement that is to be remembered is not longer: PostgreSQL tells 63 bytes of it apart.
const MOST_NAME: usize = 1024;
/// The beginning of a message of this length is kept without a client; for the rest of a longer one a client waits.
const MOST_ALONE: usize = 16 * 1024;
/// While so many answers are owed, the peer is not heard.
const MOST_OWED: usize = 16 * 1024;
/// So many of them must be the database's to give. PostgreSQL holds answers back until it has 8 KiB of them or is told to
/// flush, and the shortest has 5 bytes: with more than 1,638 it has given some.
const LEAST_OWED: usize = 2048;

// === impl Exchange ===

impl Exchange {
    /// A peer that has just been welcomed, and was told these settings.
    pub fn new(mode: PoolMode, statements: Statements, parameters: Parameters) -> Exchange {
        Exchange {
            mode,
            peer: Frames::new(Sender::Peer),
            database: Frames::new(Sender::Database),
            to_database: Fate::Keep,
            to_peer: Fate::Keep,
            held: Vec::new(),
            held_answer: Vec::new(),
            reads_answer: false,
            is_within_answer: false,
            owed: VecDeque::new(),
            status: Status::Idle,
            is_open: false,
            is_skipping: false,
            is_copying_in: false,
            is_over: false,
            has_terminated: false,
            pin: None,
            names: Names::default(),
            statements,
            preparing: Vec::new(),
            parameters,
            wishes: Wishes::default(),
            process: None,
            is_setting: false,
            has_reset: false,
            tally: Tally::default(),
        }
    }

    /// Of a peer that has wished for settings when it began.
    #[must_use]
    pub fn wishing(self, wishes: Wishes) -> Exchange {
        Exchange { wishes, ..self }
    }

    /// Of a peer that was given a key with this process.
    #[must_use]
    pub fn known_as(self, process: u32) -> Exchange {
        Exchange { process: Some(process), ..self }
    }

    /// A client was lent: its settings become the peer's, by a query whose answer nobody sees. What must be sent first is
    /// appended to `out`.
    pub fn begin(&mut self, memory: &mut Memory, out: &mut Vec<u8>) {
        self.database = Frames::new(Sender::Database);
        (self.status, self.is_over) = (Status::Idle, false);
        self.give_settings(memory, out);
    }

    /// Gives the client the peer's settings, where they differ.
    fn give_settings(&mut self, memory: &mut Memory, out: &mut Vec<u8>) {
        let is_told = std::mem::take(&mut self.has_reset);
        if self.parameters.unify(&mut memory.parameters) {
            return;
        }
        let differing = FOLLOWING.iter().filter_map(|name| {
            let (wanted, found) = (self.parameters.get(name)?, memory.parameters.get(name)?);
            (wanted != found).then_some((*name, wanted))
        });
        let mut settings = differing.peekable();
        if settings.peek().is_none() {
            return;
        }
        message(out, tag::QUERY, |out| {
            out.extend_from_slice(b"select ");
            for (index, (name, value)) in settings.enumerate() {
                let comma = if index == 0 { "" } else { "," };
                out.extend_from_slice(format!("{comma}pg_catalog.set_config('{name}',").as_bytes());
                literal(out, value);
                out.extend_from_slice(b",false)");
            }
            out.put_u8(0);
        });
        // A Query ends the statement without a name.
        memory.prepared.unnamed = None;
        self.owed.push_back(Owed::Own { is_told });
    }

    /// Whether the client can be lent to somebody else.
    pub fn is_free(&self) -> bool {
        self.is_between() && self.is_unbound() && !self.holds_long()
    }

    /// Whether nothing of the peer outlives its transaction, and none is open.
    fn is_unbound(&self) -> bool {
        self.status == Status::Idle && self.is_sharing()
    }

    /// Whether the client goes to others after the transaction.
    fn is_sharing(&self) -> bool {
        self.pin.is_none() && self.mode == PoolMode::Transaction
    }

    /// Whether nothing is owed and nothing half said, so that the client could be reset.
    pub fn is_between(&self) -> bool {
        self.owed.is_empty()
            && !self.is_open
            && !self.is_copying_in
            && !self.database.is_within()
            && !self.is_half_sent()
    }

    /// Whether the session may end here without anybody noticing: it is between two transactions.
    pub fn is_at_boundary(&self) -> bool {
        self.is_between() && self.status == Status::Idle
    }

    /// Whether a part of a message was sent to the database, and the rest was not. What is held was not.
    fn is_half_sent(&self) -> bool {
        self.peer.is_in_body() && matches!(self.to_database, Fate::Keep | Fate::Rest)
    }

    /// Whether the beginning of a message is held that is not to be kept without a client.
    fn holds_long(&self) -> bool {
        self.held.len() + self.peer.left() > MOST_ALONE && !self.held.is_empty()
    }

    /// Whether nothing happens before the peer has sent the rest of a message.
    pub fn awaits_rest(&self) -> bool {
        let is_begun = self.is_half_sent() || !self.held.is_empty();
        is_begun && self.owed.is_empty() && !self.is_open && !self.is_copying_in && !self.database.is_within()
    }

    /// Whether the client could be lent to somebody else if the peer had not begun a message.
    pub fn is_kept_by_a_beginning(&self) -> bool {
        self.awaits_rest() && self.is_unbound()
    }

    /// Whether so much is owed that the peer should not be heard before the database has answered some of it.
    pub fn is_full(&self) -> bool {
        let are_the_databases =
            |owed: &&Owed| !matches!(owed, Owed::Parsed(_) | Owed::Closed(..) | Owed::CopyEnd | Owed::Forgotten(_));
        self.owed.len() >= MOST_OWED
            && self.owed.iter().filter(are_the_databases).take(LEAST_OWED).count() == LEAST_OWED
    }

    /// Whether the database owes an answer.
    pub fn is_owed(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether the database answers, and needs nothing more for it: not the end of a COPY, and no Sync.
    pub fn is_answering(&self) -> bool {
        !self.owed.is_empty() && !self.is_open && !self.is_copying_in
    }

    /// Whether a part of an answer was passed on, and the rest was not.
    pub fn is_within_answer(&self) -> bool {
        self.is_within_answer
    }

    /// Whether a transaction is open.
    pub fn is_in_transaction(&self) -> bool {
        self.status != Status::Idle
    }

    /// Whether the peer has said that it leaves.
    pub fn has_terminated(&self) -> bool {
        self.has_terminated
    }

    /// Whether the database has said that it ends the connection.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Why the client stays with the peer.
    pub fn pin(&self) -> Option<Pin> {
        self.pin
    }

    /// What has happened since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// The settings as the peer knows them.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn pin_by(&mut self, pin: Option<Pin>) {
        if self.is_sharing() && pin.is_some() {
            self.pin = pin;
            self.tally.pinned = pin;
        }
    }

    fn owes(&mut self, owed: Owed, is_ready_then: bool) {
        self.owed.push_back(owed);
        self.is_open = true;
        if is_ready_then {
            self.begin_anew();
        }
    }

    /// Gives the answers that are ours as soon as it is their turn, and drops what nobody answers.
    fn settle(&mut self, memory: &mut Memory, mut answer: impl FnMut(u8)) {
        while let Some(Owed::Parsed(_) | Owed::Closed(..) | Owed::CopyEnd | Owed::Forgotten(_)) = self.owed.front() {
            match self.owed.pop_front() {
                Some(Owed::Parsed(_)) => answer(tag::PARSE_COMPLETE),
                Some(Owed::Closed(..)) => answer(tag::CLOSE_COMPLETE),
                Some(Owed::Forgotten(Some(forgotten))) => self.remember(*forgotten, memory),
                _ => {}
            }
        }
    }
}

// === impl Owed ===

impl Owed {
    /// ParseComplete for what is no statement of ours.
    fn parse(whom: Whom) -> Owed {
        Owed::Parse { whom, edition: None, name: None, is_new: false, replaced: None }
    }

    /// CloseComplete for what is none.
    fn close(whom: Whom) -> Owed {
        Owed::Close { whom, edition: None }
    }
}

/// Appends `value` as a literal, whatever is in it.
fn literal(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(b"E'");
    for byte in value.bytes() {
        if byte == b'\'' || byte == b'\\' {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests;
