//! The database's end of PostgreSQL's protocol, as far as a scripted database needs it.

use std::io::{Read, Write};

use crate::frontend::message;
use crate::wire::Wire;

/// What a connection wants first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// To begin a session.
    Session,
    /// To end a query.
    Cancel,
}

/// Reads the packet with which a connection begins, refusing to encrypt; `None` where it ends before.
pub fn first(wire: &mut Wire) -> Option<First> {
    loop {
        let mut head = [0; 8];
        wire.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let mut rest = vec![0; usize::try_from(length).ok()?.checked_sub(8)?];
        wire.read_exact(&mut rest).ok()?;
        match u32::from_be_bytes([head[4], head[5], head[6], head[7]]) {
            80_877_103 | 80_877_104 => wire.write_all(b"N").ok()?,
            80_877_102 => return Some(First::Cancel),
            _ => return Some(First::Session),
        }
    }
}

/// The messages of a login, up to ReadyForQuery.
pub fn welcome() -> Vec<Vec<u8>> {
    let setting = |name: &str, value: &str| message(b'S', format!("{name}\0{value}\0").as_bytes());
    vec![
        message(b'R', &0_u32.to_be_bytes()),
        setting("server_version", "15.0"),
        setting("client_encoding", "UTF8"),
        setting("standard_conforming_strings", "on"),
        message(b'K', b"\0\0\0\x07key!"),
        message(b'Z', b"I"),
    ]
}

/// Reads one message: its type and body; `None` at the end.
pub fn heard(wire: &mut Wire) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    wire.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let mut body = vec![0; usize::try_from(length).ok()?.checked_sub(4)?];
    wire.read_exact(&mut body).ok()?;
    Some((head[0], body))
}

/// The right answer to a message, where it has one: each query has one row.
pub fn answer(tag: u8, body: &[u8]) -> Vec<u8> {
    match tag {
        b'Q' if body.starts_with(b"DISCARD") => [message(b'C', b"DISCARD ALL\0"), message(b'Z', b"I")].concat(),
        b'Q' => row(),
        _ => Vec::new(),
    }
}

/// An answer of one row.
pub fn row() -> Vec<u8> {
    [message(b'D', b"\0\x01\0\0\0\x06served"), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}
