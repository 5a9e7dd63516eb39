//! What an encrypted connection does once the handshake is over.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use tokio::io::AsyncWrite;

use super::*;
use crate::client::Watched;

/// Waits until the socket has something, and looks at it.
async fn look(client: &mut Client) -> Watched {
    poll_fn(|cx| client.stream.poll_read_ready(cx)).await.expect("a socket");
    client.look()
}

#[test]
fn a_ticket_is_nothing_that_the_database_says() {
    let (ours, folder) = (Authority::new("ours"), Folder::new("ticket"));
    folder.put("ca", "ca.crt", &ours.pem());
    on_a_worker(async {
        let (mut client, mut database) = both(&ours.signs(&["127.0.0.1"]).server(), &folder.context()).await;
        // Whatever the handshake left, and then new keys, which every client has to understand.
        database.get_mut().1.refresh_traffic_keys().expect("TLS 1.3");
        database.flush().await.expect("a client");
        assert_eq!(look(&mut client).await, Watched::Quiet);
        assert!(client.stream.is_open() && client.early.is_empty());
        database.write_all(b"hello").await.expect("a client");
        while look(&mut client).await != Watched::Spoke {}
        assert_eq!(client.early, b"hello");
        assert!(client.stream.is_open());
        database.shutdown().await.expect("a client");
        assert_eq!(look(&mut client).await, Watched::Closed);
        assert!(!client.stream.is_open());
    });
}

#[test]
fn a_farewell_that_nobody_read_is_an_end() {
    let (ours, folder) = (Authority::new("ours"), Folder::new("farewell"));
    folder.put("ca", "ca.crt", &ours.pem());
    on_a_worker(async {
        let (mut client, mut database) = both(&ours.signs(&["127.0.0.1"]).server(), &folder.context()).await;
        assert!(client.stream.is_open());
        database.shutdown().await.expect("a client");
        poll_fn(|cx| client.stream.poll_read_ready(cx)).await.expect("a socket");
        assert!(!client.stream.is_open());
    });
}

#[test]
fn a_cut_is_no_regular_end() {
    let (ours, folder) = (Authority::new("ours"), Folder::new("cut"));
    folder.put("ca", "ca.crt", &ours.pem());
    on_a_worker(async {
        for is_regular in [true, false] {
            let (mut client, mut database) = both(&ours.signs(&["127.0.0.1"]).server(), &folder.context()).await;
            database.write_all(b"half").await.expect("a client");
            database.flush().await.expect("a client");
            let mut read = [0; 4];
            client.stream.read_exact(&mut read).await.expect("the half");
            if is_regular {
                database.shutdown().await.expect("a client");
            } else {
                drop(database.into_inner().0);
            }
            let ended = client.stream.read(&mut read).await;
            let expected = if is_regular { Ok(0) } else { Err(io::ErrorKind::UnexpectedEof) };
            assert_eq!(ended.map_err(|error| error.kind()), expected);
        }
    });
}

#[test]
fn our_end_is_a_regular_one() {
    let (ours, folder) = (Authority::new("ours"), Folder::new("end"));
    folder.put("ca", "ca.crt", &ours.pem());
    on_a_worker(async {
        let (mut client, mut database) = both(&ours.signs(&["127.0.0.1"]).server(), &folder.context()).await;
        client.stream.shutdown().await.expect("a database");
        assert_eq!(database.read(&mut [0; 1]).await.expect("a farewell"), 0);
        // The other half goes on.
        database.write_all(b"late").await.expect("a client");
        let mut read = [0; 4];
        client.stream.read_exact(&mut read).await.expect("last words");
        assert_eq!(&read, b"late");
    });
}

#[test]
fn nothing_is_taken_for_a_reader_that_is_slow_and_nothing_is_lost() {
    let (ours, folder) = (Authority::new("ours"), Folder::new("slow"));
    folder.put("ca", "ca.crt", &ours.pem());
    on_a_worker(async {
        let (mut client, mut database) = both(&ours.signs(&["127.0.0.1"]).server(), &folder.context()).await;
        let chunk: Vec<u8> = (0..=255).cycle().take(256 * 1024).collect();
        let mut sent = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        // Until the sockets are full.
        let mut idle = 0;
        while idle < 100 {
            match Pin::new(&mut client.stream).poll_write(&mut cx, &chunk) {
                Poll::Ready(taken) => {
                    let taken = taken.expect("a database");
                    // rustls keeps no more than this beside what the socket takes.
                    sent.extend_from_slice(&chunk[..taken]);
                    idle = 0;
                }
                Poll::Pending => {
                    idle += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        assert!(Pin::new(&mut client.stream).poll_flush(&mut cx).is_pending(), "the rest waits for the reader");
        let mut read = vec![0; sent.len()];
        let (flushed, received) = tokio::join!(client.stream.flush(), database.read_exact(&mut read));
        flushed.expect("a database");
        received.expect("all of it");
        assert!(read == sent, "what was taken arrives as it was");
    });
}

#[test]
fn what_the_database_pours_out_waits_in_the_socket() {
    let (ours, folder) = (Authority::new("ours"), Folder::new("pours"));
    folder.put("ca", "ca.crt", &ours.pem());
    on_a_worker(async {
        let (mut client, database) = both(&ours.signs(&["127.0.0.1"]).server(), &folder.context()).await;
        let pouring = tokio::task::spawn_local(async move {
            let (mut database, chunk) = (database, vec![7; 1024 * 1024]);
            while database.write_all(&chunk).await.is_ok() {}
        });
        let mut byte = [0];
        for _ in 0..1000 {
            client.stream.read_exact(&mut byte).await.expect("a byte");
            let Stream::Tls(stream) = &mut client.stream else { panic!("TLS") };
            assert!(stream.unread() <= 64 * 1024, "{} bytes were taken from the socket unasked", stream.unread());
        }
        drop(client);
        pouring.await.expect("it ends with the client");
    });
}

#[test]
fn a_channel_is_bound_by_the_hash_of_the_certificates_signature() {
    let folder = Folder::new("binding");
    on_a_worker(async {
        let keys = [(&PKCS_ECDSA_P256_SHA256, &ring::digest::SHA256), (&PKCS_ECDSA_P384_SHA384, &ring::digest::SHA384)];
        for (algorithm, hash) in keys {
            let ours = Authority::with("ours", KeyPair::generate_for(algorithm).expect("a key"));
            folder.put("ca", "ca.crt", &ours.pem());
            let shown = ours.signs(&["127.0.0.1"]);
            let (client, _database) = both(&shown.server(), &folder.context()).await;
            let expected = ring::digest::digest(hash, shown.certificate.der());
            assert_eq!(client.stream.channel_binding().as_deref(), Some(expected.as_ref()));
        }
    });
    let fixtures = [
        (&include_bytes!("../fixtures/rsa-sha512.pem")[..], Some(64)),
        (&include_bytes!("../fixtures/pss-sha384.pem")[..], Some(48)),
        (&include_bytes!("../fixtures/ed25519.pem")[..], None),
    ];
    for (pem, length) in fixtures {
        let certificate = CertificateDer::from_pem_slice(pem).expect("a certificate");
        assert_eq!(crate::tls::stream::end_point(&certificate).map(|hash| hash.len()), length);
    }
}
