//! A database that lets everybody in and then says what a journey wants it to say.

use std::io::{Read, Write};

use cast::frontend::{claiming, message};
use cast::wire::Wire;

/// What has been asked of it first.
pub(crate) enum First {
    /// To begin a session.
    Session,
    /// To end a query.
    Cancel,
}

/// Reads the packet with which a connection begins, refusing to encrypt; `None` where it ends before.
pub(crate) fn first(wire: &mut Wire) -> Option<First> {
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
pub(crate) fn welcome() -> Vec<Vec<u8>> {
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
pub(crate) fn heard(wire: &mut Wire) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    wire.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let mut body = vec![0; usize::try_from(length).ok()?.checked_sub(4)?];
    wire.read_exact(&mut body).ok()?;
    Some((head[0], body))
}

/// The right answer to a message, where it has one.
pub(crate) fn answer(tag: u8, body: &[u8]) -> Vec<u8> {
    match tag {
        b'Q' if body.starts_with(b"DISCARD") => [message(b'C', b"DISCARD ALL\0"), message(b'Z', b"I")].concat(),
        b'Q' => row(),
        _ => Vec::new(),
    }
}

/// Answers every Query with one row, until the connection ends.
pub(crate) fn answers_well(wire: &mut Wire) {
    while let Some((tag, body)) = heard(wire) {
        if wire.write_all(&answer(tag, &body)).is_err() {
            break;
        }
    }
}

/// An answer of one row.
pub(crate) fn row() -> Vec<u8> {
    [message(b'D', b"\0\x01\0\0\0\x06served"), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}

/// Every message that a database may say, well formed.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    let error = b"SERROR\0VERROR\0C42601\0Mwrong\0\0";
    let row = b"\0\x01\0\0\0\x05value";
    let description = b"\0\x01column\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
    let mut all = welcome();
    all.extend(
        [
            (b'1', &b""[..]),
            (b'2', b""),
            (b'3', b""),
            (b'n', b""),
            (b's', b""),
            (b'I', b""),
            (b'c', b""),
            (b't', b"\0\x01\0\0\0\x19"),
            (b'T', description),
            (b'D', row),
            (b'C', b"SELECT 1\0"),
            (b'E', error),
            (b'N', error),
            (b'A', b"\0\0\0\x07channel\0payload\0"),
            (b'G', b"\0\0\x01\0\0"),
            (b'H', b"\0\0\x01\0\0"),
            (b'W', b"\0\0\x01\0\0"),
            (b'd', b"data"),
            (b'V', b"\0\0\0\x05value"),
            (b'v', b"\0\0\0\x02\0\0\0\0"),
        ]
        .map(|(tag, body)| message(tag, body)),
    );
    all
}

/// What no database may say: false lengths of every message, and messages of no type.
pub(crate) fn nonsense() -> Vec<Vec<u8>> {
    let known: Vec<u8> = messages().iter().map(|message| message[0]).collect();
    let lengths = [0, 3, -1, i32::MAX, i32::MIN];
    let false_lengths = known.iter().flat_map(|tag| lengths.map(|length| claiming(*tag, length, b"")));
    let unknown = (0..=u8::MAX).filter(|tag| !known.contains(tag)).map(|tag| message(tag, b"\0\0\0\0"));
    false_lengths.chain(unknown).collect()
}
