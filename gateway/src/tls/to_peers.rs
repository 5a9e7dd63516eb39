//! Encryption that peers are offered.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use tokio_rustls::TlsAcceptor;

use super::{ALPN, Built, Error, Identity, TlsStream, digest, of_no_use, provider, stream, words};
use crate::config::PeerTls;
use crate::net::{Stream, TcpStream};
use crate::secrets::Secrets;

/// The gateway's side of handshakes with peers; remembers what it built from a Secret. Cheap to clone.
#[derive(Clone, Default)]
pub struct TlsToPeers(Built<Acceptance>);

struct Acceptance {
    config: Arc<ServerConfig>,
    channel_binding: Option<Vec<u8>>,
}

// === impl TlsToPeers ===

impl TlsToPeers {
    /// Shakes hands with a peer, of which `already_read` has been read. Where TLS comes first (`is_direct`), a peer must
    /// say by ALPN that it speaks PostgreSQL, so that no other protocol is taken for it.
    ///
    /// # Errors
    /// The Secret is of no use, or the peer does not agree.
    pub async fn accept(
        &self,
        tcp: TcpStream,
        already_read: &[u8],
        (config, secrets): (&PeerTls, &Secrets),
        is_direct: bool,
    ) -> Result<Stream, Error> {
        let acceptance = self.acceptance(&config.secret, secrets)?;
        let mut begun = Ok(());
        let mut accepting = TlsAcceptor::from(acceptance.config.clone())
            .accept_with(tcp, |session| begun = begin(session, already_read));
        if let Err(error) = begun {
            // The alert leaves if it can now; nobody waits for what comes of it.
            let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut accepting).poll(cx))).await;
            return Err(words::of_peer(&error));
        }
        let accepted = accepting.await.map_err(words::of_peer_io)?;
        if is_direct && accepted.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(Error::NoAlpn(
                "the peer begins with TLS, but does not say that it speaks PostgreSQL (ALPN); use a driver that does, or \
                 sslnegotiation=postgres",
            ));
        }
        Ok(Stream::Tls(Box::new(TlsStream::to_peer(accepted, acceptance.channel_binding.clone()))))
    }

    fn acceptance(&self, secret: &str, secrets: &Secrets) -> Result<Arc<Acceptance>, Error> {
        let identity = Identity::read(secrets, secret)?;
        let from = digest(&[secret.as_bytes(), &identity.certificates, &identity.key]);
        self.0.get_or_build(from, || {
            let parsed = identity.parse(secret)?;
            let channel_binding = parsed.cert.first().and_then(|certificate| stream::end_point(certificate));
            let versions = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
            let builder = versions.map_err(|error| of_no_use(&error, secret))?.with_no_client_auth();
            let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(parsed)));
            config.alpn_protocols = vec![ALPN.to_vec()];
            // PostgreSQL resumes nothing either: peers keep their connections, and we keep no memory.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            Ok(Acceptance { config: Arc::new(config), channel_binding })
        })
    }
}

/// Feeds a session with what was read before it began.
fn begin(session: &mut rustls::ServerConnection, mut already_read: &[u8]) -> Result<(), rustls::Error> {
    while !already_read.is_empty() {
        if session.read_tls(&mut already_read).is_err() {
            return Err(rustls::Error::General("more than a handshake before it began".to_owned()));
        }
        session.process_new_packets()?;
    }
    Ok(())
}
