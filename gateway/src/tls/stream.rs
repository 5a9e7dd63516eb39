//! An encrypted connection over TCP. All of its buffers are bounded: rustls takes no more than one side's few records
//! before it waits for the socket or for its reader.

use std::io::{self, Read};
use std::ops::DerefMut;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ring::digest;
use rustls::{CommonState, ConnectionCommon, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use x509_parser::der_parser::{Oid, oid};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

use super::words;
use crate::net::TcpStream;

/// An encrypted connection over TCP.
#[derive(Debug)]
pub struct TlsStream {
    inner: tokio_rustls::TlsStream<TcpStream>,
    channel_binding: Option<Vec<u8>>,
}

/// A socket that is read without waiting.
struct TryRead<'a>(&'a TcpStream);

/// Records without data (tickets, new keys) that are looked at without waiting; who sends more has to wait.
const MOST_SILENT_READS: usize = 16;

// === impl TlsStream ===

impl TlsStream {
    pub(super) fn to_database(stream: tokio_rustls::client::TlsStream<TcpStream>) -> TlsStream {
        let inner = tokio_rustls::TlsStream::Client(stream);
        let shown = inner.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let channel_binding = shown.and_then(|certificate| end_point(certificate));
        TlsStream { inner, channel_binding }
    }

    pub(super) fn to_peer(
        stream: tokio_rustls::server::TlsStream<TcpStream>,
        channel_binding: Option<Vec<u8>>,
    ) -> TlsStream {
        TlsStream { inner: tokio_rustls::TlsStream::Server(stream), channel_binding }
    }

    /// The connection below.
    pub fn tcp(&self) -> &TcpStream {
        self.inner.get_ref().0
    }

    fn state(&self) -> &CommonState {
        self.inner.get_ref().1
    }

    /// `tls-server-end-point` of the server's certificate (RFC 5929): the database's, or towards a peer our own.
    pub fn channel_binding(&self) -> Option<Vec<u8>> {
        self.channel_binding.clone()
    }

    /// As PostgreSQL's `pg_stat_ssl` writes it.
    pub fn version(&self) -> Option<&'static str> {
        match self.state().protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
            ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
            _ => None,
        }
    }

    /// Data that was taken from the socket and not yet read.
    #[cfg(test)]
    pub(super) fn unread(&mut self) -> usize {
        let state = self.with_session(
            |_, session| session.process_new_packets().map(|state| state.plaintext_bytes_to_read()),
            |_, session| session.process_new_packets().map(|state| state.plaintext_bytes_to_read()),
        );
        state.unwrap_or_default()
    }

    /// Whether the other side has neither closed nor cut the connection; records without data are taken on the way.
    pub fn is_open(&mut self) -> bool {
        self.with_session(is_open, is_open)
    }

    /// Ready when there is data or an end, or when the socket has something that may be no data at all.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.state().wants_read() {
            return Poll::Ready(Ok(()));
        }
        self.tcp().poll_read_ready(cx)
    }

    /// Reads what is there without waiting.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Two closures for one idea: each kind of session has its own type, and they share one borrow of the buffer.
        match &mut self.inner {
            tokio_rustls::TlsStream::Client(stream) => {
                let (tcp, session) = stream.get_mut();
                try_read(tcp, session, buffer)
            }
            tokio_rustls::TlsStream::Server(stream) => {
                let (tcp, session) = stream.get_mut();
                try_read(tcp, session, buffer)
            }
        }
    }

    fn with_session<R>(
        &mut self,
        client: impl FnOnce(&TcpStream, &mut rustls::ClientConnection) -> R,
        server: impl FnOnce(&TcpStream, &mut rustls::ServerConnection) -> R,
    ) -> R {
        match &mut self.inner {
            tokio_rustls::TlsStream::Client(stream) => {
                let (tcp, session) = stream.get_mut();
                client(tcp, session)
            }
            tokio_rustls::TlsStream::Server(stream) => {
                let (tcp, session) = stream.get_mut();
                server(tcp, session)
            }
        }
    }

    /// Sends what was encrypted and not yet taken by the socket, if it can be sent now.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state().wants_write() { Pin::new(&mut self.inner).poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }
}

fn is_open<D>(tcp: &TcpStream, session: &mut impl DerefMut<Target = ConnectionCommon<D>>) -> bool {
    for _ in 0..MOST_SILENT_READS {
        let Ok(state) = session.process_new_packets() else { return false };
        if state.plaintext_bytes_to_read() > 0 {
            return true;
        }
        if state.peer_has_closed() {
            return false;
        }
        match session.read_tls(&mut TryRead(tcp)) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
    true
}

fn try_read<D>(
    tcp: &TcpStream,
    session: &mut impl DerefMut<Target = ConnectionCommon<D>>,
    buffer: &mut [u8],
) -> io::Result<usize> {
    for _ in 0..MOST_SILENT_READS {
        match session.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Data, the end, or the cut, which is an error.
            read => return read,
        }
        session.read_tls(&mut TryRead(tcp))?;
        session.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    Err(io::ErrorKind::WouldBlock.into())
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The other side may wait for what we still owe, before it sends what we wait for.
        // Where that fails, reading says so too, after what was said before.
        let _ = this.poll_rest(cx);
        Pin::new(&mut this.inner).poll_read(cx, buffer).map_err(words::of_reading)
    }
}

impl AsyncWrite for TlsStream {
    /// Encrypts no more before the socket has taken what was encrypted. What the last call leaves is sent by
    /// `poll_flush`, `poll_shutdown` or the next `poll_read`.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_rest(cx))?;
        Pin::new(&mut this.inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_rest(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

// === impl TryRead ===

impl Read for TryRead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// RFC 5929: the certificate's hash by the function of its signature, with SHA-256 in place of weaker ones. `None` for
/// signatures without such a function, as PostgreSQL has it.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = hash_of(&parsed)?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

fn hash_of(certificate: &X509Certificate<'_>) -> Option<&'static digest::Algorithm> {
    match SignatureAlgorithm::try_from(&certificate.signature_algorithm) {
        // It names its hash beside itself.
        Ok(SignatureAlgorithm::RSASSA_PSS(params)) => hash_named(params.hash_algorithm_oid()),
        _ => hash_named(&certificate.signature_algorithm.algorithm),
    }
}

/// The hash that an algorithm is, or signs.
fn hash_named(algorithm: &Oid<'_>) -> Option<&'static digest::Algorithm> {
    const WEAK_OR_SHA256: [Oid<'static>; 7] = [
        oid!(1.2.840.113549.1.1.4),   // MD5 with RSA
        oid!(1.2.840.113549.1.1.5),   // SHA-1 with RSA
        oid!(1.2.840.10045.4.1),      // SHA-1 with ECDSA
        oid!(1.3.14.3.2.26),          // SHA-1
        oid!(1.2.840.113549.1.1.11),  // SHA-256 with RSA
        oid!(1.2.840.10045.4.3.2),    // SHA-256 with ECDSA
        oid!(2.16.840.1.101.3.4.2.1), // SHA-256
    ];
    const SHA384: [Oid<'static>; 3] =
        [oid!(1.2.840.113549.1.1.12), oid!(1.2.840.10045.4.3.3), oid!(2.16.840.1.101.3.4.2.2)];
    const SHA512: [Oid<'static>; 3] =
        [oid!(1.2.840.113549.1.1.13), oid!(1.2.840.10045.4.3.4), oid!(2.16.840.1.101.3.4.2.3)];
    match algorithm {
        _ if WEAK_OR_SHA256.contains(algorithm) => Some(&digest::SHA256),
        _ if SHA384.contains(algorithm) => Some(&digest::SHA384),
        _ if SHA512.contains(algorithm) => Some(&digest::SHA512),
        _ => None,
    }
}
