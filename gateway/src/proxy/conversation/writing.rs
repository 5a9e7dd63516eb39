//! Both ways out of a conversation: what is not taken at once is kept, and goes first the next time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use super::{Conversation, Ended};
use crate::net::Stream;

// === impl Conversation ===

impl Conversation<'_> {
    pub(super) fn write_database(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Ended> {
        let sent = if self.to_database.is_empty() { self.send_database(bytes, cx)? } else { 0 };
        self.to_database.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    pub(super) fn flush_database(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if self.to_database.is_empty() {
            return Ok(false);
        }
        let mut unsent = std::mem::take(&mut self.to_database);
        let sent = self.send_database(&unsent, cx)?;
        unsent.advance(sent);
        self.to_database = if unsent.is_empty() { BytesMut::new() } else { unsent };
        if sent > 0 {
            self.release_if_free();
        }
        Ok(sent > 0)
    }

    fn send_database(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<usize, Ended> {
        let Some(lease) = self.lease.as_mut().filter(|_| !bytes.is_empty()) else { return Ok(0) };
        let stream = &mut lease.client().stream;
        let sent = send(stream, bytes, cx).map_err(|error| self.database_left(Some(error)))?;
        self.proxy.sessions.metrics.session.bytes_to_database.inc_by(sent as u64);
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.sent(sent, sent == bytes.len());
            if watchdog.ends_patience() {
                let limit = self.config.client.tcp_user_timeout;
                self.with_client(|client| client.set_user_timeout(limit));
            }
        }
        Ok(sent)
    }

    pub(super) fn write_peer(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Ended> {
        let sent = if self.to_peer.is_empty() { self.send_peer(bytes, cx)? } else { 0 };
        self.to_peer.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    pub(super) fn flush_peer(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if self.to_peer.is_empty() {
            return Ok(false);
        }
        let mut unsent = std::mem::take(&mut self.to_peer);
        let sent = self.send_peer(&unsent, cx)?;
        unsent.advance(sent);
        self.to_peer = if unsent.is_empty() { BytesMut::new() } else { unsent };
        Ok(sent > 0)
    }

    fn send_peer(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<usize, Ended> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let sent = send(self.peer, bytes, cx).map_err(Ended::PeerFailed)?;
        self.proxy.sessions.metrics.session.bytes_to_peer.inc_by(sent as u64);
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.sent_to_peer(sent, sent == bytes.len());
        }
        Ok(sent)
    }
}

/// Writes as much as is taken now; what an encrypted stream took is pushed on.
fn send(stream: &mut Stream, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<usize> {
    let sent = match Pin::new(&mut *stream).poll_write(cx, bytes) {
        Poll::Ready(sent) => sent?,
        Poll::Pending => 0,
    };
    match Pin::new(stream).poll_flush(cx) {
        Poll::Ready(flushed) => flushed.map(|()| sent),
        Poll::Pending => Ok(sent),
    }
}
