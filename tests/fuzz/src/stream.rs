//! A connection whose other end follows a script: it says what an input tells it to, in pieces of any length, and keeps what it
//! hears.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Who is at the other end.
pub trait Other {
    /// What it says next, where all that it said was read; `None`: it closes.
    fn says(&mut self, heard: &[u8]) -> Option<Vec<u8>>;
}

/// The connection.
pub struct Stream<O> {
    /// Who is at the other end.
    pub other: O,
    /// All that it was told.
    pub heard: Vec<u8>,
    /// All of what it said that was read.
    pub said: Vec<u8>,
    unread: Vec<u8>,
    at: usize,
    /// Bytes of one read, at most.
    most: usize,
}

// === impl Stream ===

impl<O> Stream<O> {
    /// One on which reads give at most `most` bytes; 0 is as many as there are.
    pub fn new(other: O, most: u8) -> Stream<O> {
        let most = if most == 0 { usize::MAX } else { most.into() };
        Stream { other, heard: Vec::new(), said: Vec::new(), unread: Vec::new(), at: 0, most }
    }
}

impl<O: Other + Unpin> AsyncRead for Stream<O> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.at == this.unread.len() {
            let Some(next) = this.other.says(&this.heard) else { return Poll::Ready(Ok(())) };
            (this.unread, this.at) = (next, 0);
        }
        let length = (this.unread.len() - this.at).min(buffer.remaining()).min(this.most);
        let read = &this.unread[this.at..this.at + length];
        buffer.put_slice(read);
        this.said.extend_from_slice(read);
        this.at += length;
        Poll::Ready(Ok(()))
    }
}

impl<O: Unpin> AsyncWrite for Stream<O> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().heard.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The bodies of all whole messages of this type in `stream`, from the last one that is none on.
pub fn bodies(mut stream: &[u8], tag: u8) -> Vec<&[u8]> {
    let mut bodies = Vec::new();
    while let [first, length @ ..] = stream {
        let Some((length, rest)) = length.split_first_chunk::<4>() else { break };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX).saturating_sub(4);
        let Some((body, rest)) = rest.split_at_checked(length) else { break };
        if *first == tag {
            bodies.push(body);
        }
        stream = rest;
    }
    bodies
}
