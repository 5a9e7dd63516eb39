//! A peer's conversation with whichever client it is lent, as the tests of an exchange and the fuzzer hold it.

use crate::config::PoolMode;
use crate::postgres::exchange::{Error, Exchange, Memory};
use crate::postgres::passage::Onward;
use crate::postgres::statements::Statements;
use crate::postgres::wire::{HEADER, message};

/// A peer, and what went on to either side.
pub(super) struct Talk {
    pub(super) exchange: Exchange,
    pub(super) to_database: Vec<u8>,
    pub(super) to_peer: Vec<u8>,
}

/// The end of a question.
pub(super) const SYNC: (u8, &[u8]) = (b'S', b"");

// === impl Talk ===

impl Talk {
    pub(super) fn new(statements: &Statements) -> Talk {
        Talk::with(PoolMode::Transaction, statements, &memory())
    }

    pub(super) fn with(mode: PoolMode, statements: &Statements, memory: &Memory) -> Talk {
        let exchange = Exchange::new(mode, statements.clone(), memory.parameters.clone());
        Talk { exchange, to_database: Vec::new(), to_peer: Vec::new() }
    }

    pub(super) fn says(&mut self, memory: &mut Memory, piece: &[u8]) -> Result<(), Error> {
        let mut out = Vec::new();
        match self.exchange.from_peer(piece, memory, &mut out, &mut self.to_peer)? {
            Onward::AsItIs(length) => self.to_database.extend_from_slice(&piece[..length]),
            Onward::Rewritten => self.to_database.extend_from_slice(&out),
        }
        Ok(())
    }

    pub(super) fn hears(&mut self, memory: &mut Memory, piece: &[u8]) -> Result<(), Error> {
        let mut out = Vec::new();
        match self.exchange.from_database(piece, memory, &mut out)? {
            Onward::AsItIs(length) => self.to_peer.extend_from_slice(&piece[..length]),
            Onward::Rewritten => self.to_peer.extend_from_slice(&out),
        }
        Ok(())
    }

    /// The types, with the bodies as text, of what has gone to the database.
    pub(super) fn sent(&mut self) -> Vec<String> {
        shown(&std::mem::take(&mut self.to_database))
    }

    /// The types of what has gone to the peer.
    pub(super) fn answered(&mut self) -> String {
        shown(&std::mem::take(&mut self.to_peer)).iter().map(|message| &message[..1]).collect()
    }
}

/// The messages of a stream, the bodies as text.
pub(super) fn shown(mut stream: &[u8]) -> Vec<String> {
    let mut messages = Vec::new();
    while !stream.is_empty() {
        let length = u32::from_be_bytes(stream[1..5].try_into().unwrap()) as usize;
        let body = String::from_utf8_lossy(&stream[HEADER..=length]).replace('\0', "|");
        messages.push(format!("{}{body}", char::from(stream[0])));
        stream = &stream[length + 1..];
    }
    messages
}

/// What a client knows that has just logged in.
pub(super) fn memory() -> Memory {
    let mut memory = Memory::default();
    for (name, value) in [("TimeZone", "UTC"), ("application_name", ""), ("standard_conforming_strings", "on")] {
        memory.parameters.set(name, value);
    }
    memory
}

/// These messages, one after the other.
pub(super) fn stream(messages: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, body) in messages {
        message(&mut out, *tag, |out| out.extend_from_slice(body));
    }
    out
}
