//! A database that lets everybody in and then says what a journey wants it to say.

use std::io::Write;

pub(crate) use cast::backend::{First, answer, first, heard, row, welcome};
use cast::frontend::{claiming, message};
use cast::wire::Wire;

/// Answers every Query with one row, until the connection ends.
pub(crate) fn answers_well(wire: &mut Wire) {
    while let Some((tag, body)) = heard(wire) {
        if wire.write_all(&answer(tag, &body)).is_err() {
            break;
        }
    }
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
