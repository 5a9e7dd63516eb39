//! Handshakes with peers.

use tokio_rustls::TlsConnector;

use super::*;
use crate::config::PeerTls;

/// A peer with these protocols (ALPN), and the gateway that has read some bytes of it before: how either sees it.
async fn admit(
    folder: &Folder,
    authority: &Authority,
    alpn: &[&[u8]],
    (read_before, is_direct): (usize, bool),
) -> (io::Result<tokio_rustls::client::TlsStream<TcpStream>>, Result<Stream, String>) {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).expect("an authority");
    let versions = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let mut config = versions.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let (listener, addr) = listener().await;
    let (secrets, ours) = (folder.secrets(), PeerTls { is_required: true, secret: "server".into() });
    tokio::join!(
        async {
            let tcp = TcpStream::connect(addr).await?;
            let name = "gateway.test".try_into().expect("a name");
            TlsConnector::from(Arc::new(config)).connect(name, tcp).await
        },
        async {
            let (mut tcp, _) = listener.accept().await.expect("a peer");
            let mut already_read = vec![0; read_before];
            tcp.read_exact(&mut already_read).await.expect("the beginning of a handshake");
            let accepted = TlsToPeers::default().accept(tcp, &already_read, (&ours, &secrets), is_direct).await;
            accepted.map_err(|error| error.to_string())
        }
    )
}

#[test]
fn a_peer_is_served_whatever_was_read_of_it_before() {
    let (authority, folder) = (Authority::new("ours"), Folder::new("peer"));
    let shown = authority.signs(&["gateway.test"]);
    folder.put_identity("server", &shown);
    on_a_worker(async {
        for (read_before, is_direct, alpn) in [
            (0, false, &[][..]),
            (1, true, &[&b"postgresql"[..]][..]),
            (100, true, &[b"postgresql"]),
            (5, false, &[b"postgresql"]),
        ] {
            let (peer, ours) = admit(&folder, &authority, alpn, (read_before, is_direct)).await;
            let (mut peer, mut ours) = (peer.expect("a handshake"), ours.expect("a handshake"));
            peer.write_all(b"question").await.expect("a gateway");
            let mut read = [0; 8];
            ours.read_exact(&mut read).await.expect("a peer");
            ours.write_all(b"answer").await.expect("a peer");
            ours.flush().await.expect("a peer");
            let mut answer = [0; 6];
            peer.read_exact(&mut answer).await.expect("a gateway");
            assert_eq!((&read, &answer), (b"question", b"answer"));
            let hash = ring::digest::digest(&ring::digest::SHA256, shown.certificate.der());
            assert_eq!(ours.channel_binding().as_deref(), Some(hash.as_ref()));
        }
    });
}

#[test]
fn a_peer_that_speaks_tls_first_must_say_that_it_speaks_postgresql() {
    let (authority, folder) = (Authority::new("ours"), Folder::new("alpn"));
    folder.put_identity("server", &authority.signs(&["gateway.test"]));
    on_a_worker(async {
        let (_, ours) = admit(&folder, &authority, &[], (5, true)).await;
        assert!(ours.as_ref().is_err_and(|said| said.contains("does not say that it speaks PostgreSQL")), "{ours:?}");
        // However much of its greeting was read before.
        for read_before in [0, 5, 150] {
            let (peer, ours) = admit(&folder, &authority, &[b"h2"], (read_before, true)).await;
            assert_eq!(ours.err().as_deref(), Some("the peer asks for another protocol than PostgreSQL (ALPN)"));
            let error = peer.expect_err("refused").to_string();
            assert_eq!(error, "received fatal alert: NoApplicationProtocol", "{read_before}");
        }
    });
}

#[test]
fn what_is_no_tls_is_refused() {
    let (authority, folder) = (Authority::new("ours"), Folder::new("no-tls"));
    folder.put_identity("server", &authority.signs(&["gateway.test"]));
    on_a_worker(async {
        let (listener, addr) = listener().await;
        let _peer = TcpStream::connect(addr).await.expect("a gateway");
        let (tcp, _) = listener.accept().await.expect("a peer");
        let ours = PeerTls { is_required: true, secret: "server".into() };
        let accepted =
            TlsToPeers::default().accept(tcp, b"GET / HTTP/1.1\r\n", (&ours, &folder.secrets()), false).await;
        assert_eq!(
            accepted.err().map(|error| error.to_string()).as_deref(),
            Some("the peer sends something that is no TLS")
        );
    });
}
