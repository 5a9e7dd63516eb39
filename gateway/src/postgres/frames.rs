//! Where messages begin in a stream of bytes, whatever its pieces are. Pure.
//!
//! Only headers are looked at: a message is a range of what was read, never a copy, so its size costs nothing. A header
//! that is cut is kept until it is complete.

use super::wire::{Error, HEADER, tag};

/// Who sends the messages of a stream: each side has its own types and limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The database client.
    Peer,
    /// The database.
    Database,
}

/// One direction's position between and within messages.
#[derive(Clone, Debug)]
pub struct Frames {
    sender: Sender,
    /// The beginning of a header that is not complete yet.
    cut: [u8; HEADER],
    have: usize,
    /// What is missing of the body of the current message.
    left: usize,
    tag: u8,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A message of this type begins, and has a body of so many bytes. Its header was `HEADER` bytes, of which as many lay
    /// in earlier pieces as `kept` says.
    Head {
        /// The type.
        tag: u8,
        /// The length of the body.
        body: usize,
        /// Bytes of the header from earlier pieces.
        kept: usize,
    },
    /// So many bytes of the current message's body follow.
    Body {
        /// The type.
        tag: u8,
        /// Bytes of this piece.
        bytes: usize,
        /// Whether the message ends with them.
        is_last: bool,
    },
}

/// PostgreSQL's own limit for messages that carry data (`PQ_LARGE_MESSAGE_LIMIT`).
const LARGE: usize = 0x3fff_ffff;
/// PostgreSQL's own limit for all others (`PQ_SMALL_MESSAGE_LIMIT`).
const SMALL: usize = 10_000;

// === impl Frames ===

impl Frames {
    /// At the beginning of a stream.
    pub fn new(sender: Sender) -> Frames {
        Frames { sender, cut: [0; HEADER], have: 0, left: 0, tag: 0 }
    }

    /// Whether a message has begun and not ended, or its header is not complete.
    pub fn is_within(&self) -> bool {
        self.left > 0 || self.have > 0
    }

    /// Whether a message's header has passed, and its body has not ended.
    pub fn is_in_body(&self) -> bool {
        self.left > 0
    }

    /// How much of the current message's body is missing.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Steps over the whole body of a message whose header has just passed.
    pub fn pass_body(&mut self) {
        self.left = 0;
    }

    /// The next step into `rest`, which is what was read and not yet stepped over; `None` when more must be read.
    ///
    /// # Errors
    /// The sender may not say this: nothing that follows can be understood.
    pub fn step(&mut self, rest: &[u8]) -> Result<Option<Step>, Error> {
        if self.left > 0 {
            if rest.is_empty() {
                return Ok(None);
            }
            let bytes = self.left.min(rest.len());
            self.left -= bytes;
            return Ok(Some(Step::Body { tag: self.tag, bytes, is_last: self.left == 0 }));
        }
        let kept = self.have;
        let header = if kept == 0 && rest.len() >= HEADER {
            [rest[0], rest[1], rest[2], rest[3], rest[4]]
        } else {
            let new = rest.len().min(HEADER - kept);
            self.cut[kept..kept + new].copy_from_slice(&rest[..new]);
            self.have += new;
            if self.have < HEADER {
                return Ok(None);
            }
            self.have = 0;
            self.cut
        };
        let tag = header[0];
        let length = i32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let body = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
        let most = self.sender.most(tag).ok_or(Error::Type(tag))?;
        let body = body.filter(|body| *body <= most).ok_or(Error::Length { tag, length })?;
        (self.tag, self.left) = (tag, body);
        Ok(Some(Step::Head { tag, body, kept }))
    }
}

// === impl Sender ===

impl Sender {
    /// The longest body of a message; `None` where there is no such message. Within a session nobody asks a peer for a
    /// password, so it may not send one.
    fn most(self, tag: u8) -> Option<usize> {
        match self {
            Sender::Peer => match tag {
                tag::QUERY | tag::PARSE | tag::BIND | tag::FUNCTION_CALL | tag::COPY_DATA => Some(LARGE),
                tag::SYNC | tag::FLUSH | tag::COPY_DONE | tag::TERMINATE => Some(0),
                tag::EXECUTE | tag::DESCRIBE | tag::CLOSE | tag::COPY_FAIL => Some(SMALL),
                _ => None,
            },
            Sender::Database => match tag {
                tag::PARSE_COMPLETE
                | tag::BIND_COMPLETE
                | tag::CLOSE_COMPLETE
                | tag::NO_DATA
                | tag::EMPTY_QUERY_RESPONSE
                | tag::PORTAL_SUSPENDED
                | tag::COPY_DONE => Some(0),
                tag::READY_FOR_QUERY => Some(1),
                tag::NOTIFICATION_RESPONSE
                | tag::COMMAND_COMPLETE
                | tag::DATA_ROW
                | tag::ERROR_RESPONSE
                | tag::COPY_IN_RESPONSE
                | tag::COPY_OUT_RESPONSE
                | tag::COPY_BOTH_RESPONSE
                | tag::COPY_DATA
                | tag::NOTICE_RESPONSE
                | tag::PARAMETER_STATUS
                | tag::ROW_DESCRIPTION
                | tag::FUNCTION_CALL_RESPONSE
                | tag::PARAMETER_DESCRIPTION
                | tag::AUTHENTICATION
                | tag::BACKEND_KEY_DATA
                | tag::NEGOTIATE_PROTOCOL_VERSION => Some(LARGE),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::postgres::wire::message;

    /// The messages that are found in `pieces`: type and body.
    fn found(sender: Sender, pieces: &[&[u8]]) -> Result<Vec<(u8, Vec<u8>)>, Error> {
        let (mut frames, mut messages) = (Frames::new(sender), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while let Some(step) = frames.step(rest)? {
                match step {
                    Step::Head { tag, kept, .. } => {
                        messages.push((tag, Vec::new()));
                        rest = &rest[HEADER - kept..];
                    }
                    Step::Body { bytes, .. } => {
                        let (_, body): &mut (u8, Vec<u8>) = messages.last_mut().expect("a body follows a head");
                        body.extend_from_slice(&rest[..bytes]);
                        rest = &rest[bytes..];
                    }
                }
            }
        }
        assert!(!frames.is_within(), "the stream ends with a message");
        Ok(messages)
    }

    #[test]
    fn messages_are_found_wherever_the_stream_is_cut() {
        let mut stream = Vec::new();
        message(&mut stream, tag::QUERY, |out| out.extend_from_slice(b"select 1\0"));
        message(&mut stream, tag::SYNC, |_| ());
        message(&mut stream, tag::COPY_DATA, |out| out.extend_from_slice(&[7; 20]));
        let whole = found(Sender::Peer, &[&stream]).expect("messages");
        assert_eq!(whole.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), b"QSd");
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(found(Sender::Peer, &pieces).as_ref(), Ok(&whole), "{first}, {second}");
            }
        }
    }

    #[test]
    fn lengths_and_types_that_no_message_has_are_refused() {
        let header = |tag: u8, length: i32| [&[tag][..], &length.to_be_bytes()].concat();
        for length in [0, 3, -1, i32::MAX, i32::MIN] {
            let refused = found(Sender::Peer, &[&header(tag::QUERY, length)]);
            assert_eq!(refused, Err(Error::Length { tag: tag::QUERY, length }));
        }
        assert_eq!(found(Sender::Peer, &[&header(tag::SYNC, 5)]), Err(Error::Length { tag: tag::SYNC, length: 5 }));
        for foreign in [0, b'Z', b'R', b'T', b'p', 0xff] {
            assert_eq!(found(Sender::Peer, &[&header(foreign, 4)]), Err(Error::Type(foreign)));
        }
        assert_eq!(found(Sender::Database, &[&header(b'Q', 4)]), Err(Error::Type(b'Q')));
    }

    proptest! {
        #[test]
        fn any_split_of_any_stream_gives_the_same_messages(
            bodies in proptest::collection::vec((0_usize..3, proptest::collection::vec(any::<u8>(), 0..40)), 0..12),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut stream = Vec::new();
            for (kind, body) in &bodies {
                let tag = [tag::DATA_ROW, tag::COPY_DATA, tag::NOTICE_RESPONSE][*kind];
                message(&mut stream, tag, |out| out.extend_from_slice(body));
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(found(Sender::Database, &pieces), found(Sender::Database, &[&stream]));
        }

        #[test]
        fn any_bytes_are_messages_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frames = Frames::new(Sender::Database);
            let mut rest = &bytes[..];
            while let Ok(Some(step)) = frames.step(rest) {
                rest = match step {
                    Step::Head { kept, .. } => &rest[HEADER - kept..],
                    Step::Body { bytes, .. } => &rest[bytes..],
                };
            }
        }
    }
}
