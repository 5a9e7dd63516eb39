//! Messages to and from the database before anybody else uses the connection: all of it is bounded.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Error;
use crate::postgres::wire::{self, ErrorResponse, HEADER, tag};

/// A connection on which the database says nothing that was not asked for: what follows the last answer is a doubt.
pub(super) struct Conversation<'a, S> {
    stream: &'a mut S,
    /// What has been received and not been taken.
    received: BytesMut,
    messages: usize,
    bytes: usize,
}

/// One message of the database.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) body: Bytes,
}

/// PostgreSQL's own messages have some hundred bytes; only an error can be long.
const MAX_MESSAGE: usize = 64 * 1024;
/// A login has about twenty, more where many settings are reported, or a trigger at login says something.
const MAX_MESSAGES: usize = 500;
/// All of them together.
const MAX_BYTES: usize = 1024 * 1024;
/// The longest error of a server that cannot start a process for us (libpq's `MAX_ERRLEN`).
const MAX_OLD_ERROR: usize = 30_000;
/// One read takes all that PostgreSQL says in a turn.
const CHUNK: usize = 4096;

// === impl Conversation ===

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Conversation<'a, S> {
    pub(super) fn over(stream: &'a mut S) -> Self {
        Self { stream, received: BytesMut::new(), messages: 0, bytes: 0 }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Result<Message, Error> {
        self.receive(HEADER).await?;
        let tag = self.received[0];
        let length = i32::from_be_bytes([self.received[1], self.received[2], self.received[3], self.received[4]]);
        let size = usize::try_from(length).ok().filter(|size| (4..=MAX_MESSAGE).contains(size));
        let Some(size) = size else {
            // Before protocol 3 an error had no length, and a server that cannot fork still answers so.
            if tag == tag::ERROR_RESPONSE && self.messages == 0 && length > 0 {
                return Err(self.old_error().await);
            }
            return Err(wire::Error::Length { tag, length }.into());
        };
        self.messages += 1;
        self.bytes += size;
        if self.messages > MAX_MESSAGES || self.bytes > MAX_BYTES {
            return Err(Error::TooMuch);
        }
        self.receive(1 + size).await?;
        let body = self.received.split_to(1 + size).split_off(HEADER).freeze();
        Ok(Message { tag, body })
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Error> {
        self.received.first().map_or(Ok(()), |tag| Err(wire::Error::Type(*tag).into()))
    }

    /// Until there are so many bytes.
    async fn receive(&mut self, size: usize) -> Result<(), Error> {
        while self.received.len() < size {
            self.received.reserve(CHUNK.max(size - self.received.len()));
            if self.stream.read_buf(&mut self.received).await? == 0 {
                let why = "the database closed the connection during the login";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why).into());
            }
        }
        Ok(())
    }

    /// Reads text up to a zero byte or the end.
    async fn old_error(&mut self) -> Error {
        while !self.received.contains(&0) && self.received.len() < MAX_OLD_ERROR {
            if self.receive(self.received.len() + 1).await.is_err() {
                break;
            }
        }
        let text = self.received[1..].split(|byte| *byte == 0).next().unwrap_or_default();
        let message = String::from_utf8_lossy(text).trim().to_owned();
        Error::Refused(ErrorResponse { severity: "FATAL".into(), message: message.into(), ..ErrorResponse::default() })
    }
}
