//! What a peer and the database say to each other, in any order: each direction stays a stream of whole messages, however it is
//! cut, and a client is free only when nothing is owed and nothing half said.

use gateway::config::PoolMode;
use gateway::postgres::exchange::{Error, Exchange, Memory, Wishes};
use gateway::postgres::frames::{Frames, Sender, Step};
use gateway::postgres::passage::Onward;
use gateway::postgres::statements::Statements;
use gateway::postgres::wire::{ErrorResponse, HEADER, Parameters, message};

use super::input::Input;

/// Clients that are lent in turn.
const CLIENTS: usize = 2;
/// What is said often enough is said without writing it out.
const SAYINGS: [(u8, &[u8]); 12] = [
    (b'P', b"a\0select 1\0\0\0"),
    (b'B', b"\0a\0\0\0\0\0\0\0"),
    (b'D', b"Sa\0"),
    (b'E', b"\0\0\0\0\0"),
    (b'C', b"Sa\0"),
    (b'S', b""),
    (b'H', b""),
    (b'Q', b"begin\0"),
    (b'Q', b"copy t from stdin\0"),
    (b'c', b""),
    (b'P', b"\0select 2\0\0\0"),
    (b'Q', b"deallocate a\0"),
];
const ANSWERS: [(u8, &[u8]); 12] = [
    (b'1', b""),
    (b'2', b""),
    (b'T', b"\0\0"),
    (b'C', b"SELECT 1\0"),
    (b'3', b""),
    (b'Z', b"I"),
    (b'Z', b"T"),
    (b'n', b""),
    (b'G', b"\0\0\0"),
    (b'E', b"SERROR\0VERROR\0C42P01\0Mno\0\0"),
    (b't', b"\0\0"),
    (b'C', b"DEALLOCATE\0"),
];

/// A peer, and the clients that it is lent.
struct Talk {
    exchange: Exchange,
    clients: [Memory; CLIENTS],
    lent: Option<usize>,
    loans: usize,
    to_database: Checked,
    to_peer: Checked,
}

/// What went in one direction, and where in a message it ends.
struct Checked {
    sent: Vec<u8>,
    frames: Frames,
}

/// What is left when all is said.
#[derive(Debug, PartialEq)]
struct Outcome {
    to_database: Vec<u8>,
    to_peer: Vec<u8>,
    /// The settings as the peer knows them.
    parameters: Parameters,
    loans: usize,
    is_lent: bool,
}

/// How the pool lends, the length of pieces, then who says what.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mode, size) = (input.one_of(&[PoolMode::Transaction, PoolMode::Session]), input.byte());
    let whole = Talk::new(mode).outcome(input, usize::MAX);
    for size in [usize::from(size), 1] {
        assert_eq!(Talk::new(mode).outcome(input, size.max(1)), whole, "in pieces of {size}");
    }
    // What a peer has wished for is given back as soon as it says something, so that it may be seen where that is cut.
    let wishes = Wishes::new(["application_name"], &memory(0).parameters);
    let mut talk = Talk::new(mode);
    talk.exchange = talk.exchange.wishing(wishes).known_as(7);
    // It may end early, but as it should.
    let _ = talk.hold(input, usize::from(size.max(1)));
}

/// What a client knows that has just logged in.
fn memory(index: usize) -> Memory {
    let mut memory = Memory::default();
    let zone = ["UTC", "CET"][index];
    for (name, value) in [("TimeZone", zone), ("application_name", "it's"), ("standard_conforming_strings", "on")] {
        memory.parameters.set(name, value);
    }
    memory.initial.clone_from(&memory.parameters);
    memory.process = u32::try_from(index).ok();
    memory
}

/// Some messages, by numbers.
fn said(script: &mut Input<'_>, known: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    match script.below(4) {
        0 => out.extend_from_slice(script.piece()),
        1 => {
            let tag = script.byte();
            message(&mut out, tag, |out| out.extend_from_slice(script.piece()));
        }
        count => {
            for _ in 0..count * 2 - 3 {
                let (tag, body) = script.one_of(known);
                message(&mut out, tag, |out| out.extend_from_slice(body));
            }
        }
    }
    out
}

// === impl Talk ===

impl Talk {
    fn new(mode: PoolMode) -> Talk {
        Talk {
            exchange: Exchange::new(mode, Statements::default(), memory(0).parameters),
            clients: std::array::from_fn(memory),
            lent: None,
            loans: 0,
            to_database: Checked::new(Sender::Peer),
            to_peer: Checked::new(Sender::Database),
        }
    }

    /// What comes of a whole script; of one that ends early, why it does.
    fn outcome(mut self, script: Input<'_>, size: usize) -> Result<Outcome, Error> {
        self.hold(script, size)?;
        Ok(Outcome {
            to_database: self.to_database.sent,
            to_peer: self.to_peer.sent,
            parameters: self.exchange.parameters().clone(),
            loans: self.loans,
            is_lent: self.lent.is_some(),
        })
    }

    /// Both say what the script tells them to, in pieces of `size` bytes.
    fn hold(&mut self, mut script: Input<'_>, size: usize) -> Result<(), Error> {
        while !script.is_empty() {
            if script.below(2) == 0 {
                for piece in said(&mut script, &SAYINGS).chunks(size) {
                    self.says(piece)?;
                }
            } else {
                for piece in said(&mut script, &ANSWERS).chunks(size) {
                    self.hears(piece)?;
                }
            }
            self.release();
        }
        Ok(())
    }

    fn says(&mut self, piece: &[u8]) -> Result<(), Error> {
        if self.exchange.has_terminated() {
            return Ok(());
        }
        if self.lent.is_none() {
            self.may_be_refused(piece);
            if self.exchange.keep(piece)? {
                return Ok(());
            }
            self.lend();
        }
        let memory = &mut self.clients[self.lent.unwrap_or_default()];
        let (mut onward, mut back) = (Vec::new(), Vec::new());
        let went = self.exchange.from_peer(piece, memory, &mut onward, &mut back)?;
        if let Onward::AsItIs(length) = went {
            let is_all = piece.len() - length < HEADER || self.exchange.has_terminated();
            assert!(is_all, "more than the beginning of a header was kept");
        }
        self.to_database.send(went, piece, &onward);
        self.to_peer.send(Onward::Rewritten, &[], &back);
        Ok(())
    }

    fn hears(&mut self, piece: &[u8]) -> Result<(), Error> {
        let Some(lent) = self.lent else { return Ok(()) };
        let mut onward = Vec::new();
        let went = self.exchange.from_database(piece, &mut self.clients[lent], &mut onward)?;
        self.to_peer.send(went, piece, &onward);
        assert_eq!(self.exchange.is_within_answer(), self.to_peer.frames.is_within());
        Ok(())
    }

    fn lend(&mut self) {
        let next = self.loans % CLIENTS;
        (self.lent, self.loans) = (Some(next), self.loans + 1);
        let mut first = Vec::new();
        self.exchange.begin(&mut self.clients[next], &mut first);
        self.to_database.send(Onward::Rewritten, &[], &first);
    }

    /// Takes the client back as soon as nothing of the peer is left in it.
    fn release(&mut self) {
        let exchange = &self.exchange;
        assert!(!exchange.is_full() || exchange.is_owed());
        if !exchange.is_free() {
            return;
        }
        assert!(
            exchange.is_between() && exchange.is_at_boundary() && !exchange.is_owed() && !exchange.is_in_transaction()
        );
        assert!(!self.to_database.frames.is_within(), "half a message was sent");
        assert!(!self.to_peer.frames.is_within(), "half an answer was given");
        self.lent = None;
    }

    /// What is refused is a whole question, and the answer to it is whole.
    fn may_be_refused(&self, early: &[u8]) {
        let mut out = Vec::new();
        let refused = self.exchange.refuse(early, &ErrorResponse::error("57014", "no"), &mut out);
        let Some(length) = refused else { return };
        let (mut question, mut answer) = (Checked::new(Sender::Peer), Checked::new(Sender::Database));
        question.send(Onward::AsItIs(length), early, &[]);
        answer.send(Onward::Rewritten, &[], &out);
        assert!(!question.frames.is_within() && !answer.frames.is_within() && out.ends_with(b"Z\0\0\0\x05I"));
    }
}

// === impl Checked ===

impl Checked {
    fn new(sender: Sender) -> Checked {
        Checked { sent: Vec::new(), frames: Frames::new(sender) }
    }

    fn send(&mut self, went: Onward, piece: &[u8], onward: &[u8]) {
        let bytes = match went {
            Onward::AsItIs(length) => &piece[..length],
            Onward::Rewritten => onward,
        };
        self.sent.extend_from_slice(bytes);
        let mut rest = bytes;
        while let Some(step) = self.frames.step(rest).expect("a message that its sender may send") {
            rest = match step {
                Step::Head { kept, .. } => &rest[HEADER - kept..],
                Step::Body { bytes, .. } => &rest[bytes..],
            };
        }
    }
}
