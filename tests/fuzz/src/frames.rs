//! Where messages begin: the same, however the stream is cut.

use gateway::postgres::frames::{Frames, Sender, Step};
use gateway::postgres::wire::{Error, HEADER};

use super::input::{Input, pieces};

/// What was found in a stream.
#[derive(Debug, PartialEq)]
struct Found {
    /// Type, announced length and as much of the body as there was.
    messages: Vec<(u8, usize, Vec<u8>)>,
    refused: Option<Error>,
    /// Whether something has begun and not ended, and how much is missing.
    open: (bool, bool, usize),
}

/// How long the pieces are, then the stream.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let size = input.byte();
    let stream = input.rest();
    for sender in [Sender::Peer, Sender::Database] {
        let whole = found(sender, std::iter::once(stream));
        assert_eq!(found(sender, pieces(stream, size)), whole);
        assert_eq!(found(sender, pieces(stream, 1)), whole);
    }
}

fn found<'a>(sender: Sender, pieces: impl Iterator<Item = &'a [u8]>) -> Found {
    let mut frames = Frames::new(sender);
    let mut messages: Vec<(u8, usize, Vec<u8>)> = Vec::new();
    let mut refused = None;
    'stream: for piece in pieces {
        let mut rest = piece;
        loop {
            match frames.step(rest) {
                Ok(None) => break,
                Ok(Some(Step::Head { tag, body, kept })) => {
                    messages.push((tag, body, Vec::new()));
                    rest = &rest[HEADER - kept..];
                }
                Ok(Some(Step::Body { tag, bytes, is_last })) => {
                    let (last, announced, body) = messages.last_mut().expect("a body follows a head");
                    body.extend_from_slice(&rest[..bytes]);
                    assert_eq!((tag, is_last), (*last, body.len() == *announced));
                    rest = &rest[bytes..];
                }
                Err(error) => {
                    refused = Some(error);
                    break 'stream;
                }
            }
        }
    }
    let open = (frames.is_within(), frames.is_in_body(), frames.left());
    Found { messages, open: if refused.is_some() { (false, false, 0) } else { open }, refused }
}
