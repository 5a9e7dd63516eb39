//! Handshakes over real sockets, with authorities and certificates of their own.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, date_time_ymd,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio_rustls::server::TlsStream as ServerStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::client::{self, Client, Watched};
use crate::config::{self, ClientConfig, ClientTls, PeerTls, TlsMode};
use crate::net::Stream;

const MODES: [TlsMode; 4] = [TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull];
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

fn on_a_worker<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = Builder::new_current_thread();
    runtime.enable_all().build_local(LocalOptions::default()).expect("a runtime").block_on(test)
}

// === who signs, and what is signed ===

struct Authority(CertifiedIssuer<'static, KeyPair>);

struct Certified {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Authority {
        Authority::with(name, KeyPair::generate().expect("a key"))
    }

    fn with(name: &str, key: KeyPair) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn signs(&self, names: &[&str]) -> Certified {
        self.signs_but(names, |_| ())
    }

    fn signs_but(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Certified {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        Certified { certificate: params.signed_by(&key, &self.0).expect("a certificate"), key }
    }
}

impl Certified {
    fn server(&self) -> ServerConfig {
        let versions = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = versions.expect("versions").with_no_client_auth();
        self.shown_by(builder)
    }

    fn shown_by(&self, builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>) -> ServerConfig {
        let key = PrivateKeyDer::from_pem_slice(self.key.serialize_pem().as_bytes()).expect("a key");
        builder.with_single_cert(vec![self.certificate.der().clone()], key).expect("a certificate and its key")
    }
}

/// Secrets in a folder that goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        Folder(std::env::temp_dir().join(format!("postern-tls-{name}-{}", std::process::id())))
    }

    fn put(&self, secret: &str, key: &str, content: &str) {
        std::fs::create_dir_all(self.0.join(secret)).expect("a folder");
        std::fs::write(self.0.join(secret).join(key), content).expect("a file");
    }

    fn put_identity(&self, secret: &str, identity: &Certified) {
        self.put(secret, "tls.crt", &identity.certificate.pem());
        self.put(secret, "tls.key", &identity.key.serialize_pem());
    }

    fn secrets(&self) -> Secrets {
        Secrets::in_folder(&self.0)
    }

    fn context(&self) -> client::Context {
        client::Context::new(self.secrets())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// === who meets ===

fn tls(mode: TlsMode) -> ClientTls {
    ClientTls { mode, secret: Some("ca".into()), server_name: None, is_direct: false }
}

fn named(mode: TlsMode, name: &str) -> ClientTls {
    ClientTls { server_name: Some(name.into()), ..tls(mode) }
}

fn config_for(addr: SocketAddr, tls: &ClientTls) -> ClientConfig {
    let manifest = format!(
        "apiVersion: postern.dev/v1alpha1\nkind: GatewayConfig\nmetadata: {{name: test}}\nspec:\n  proxies:\n  - name: db\n    \
         client: {{network: tcp, addresses: ['{addr}'], dialTimeout: 0s}}\n    server: {{network: tcp, address: \
         '127.0.0.1:0'}}\n"
    );
    let config = config::load(manifest.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"));
    ClientConfig { tls: Some(tls.clone()), ..config.proxies[0].client.clone() }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let addr = listener.local_addr().expect("an address");
    (listener, addr)
}

/// A database that has been dialed and asked for TLS, if `tls` says so.
async fn asked(listener: &TcpListener, is_direct: bool) -> io::Result<TcpStream> {
    let (mut tcp, _) = listener.accept().await?;
    if !is_direct {
        let mut request = [0; 8];
        tcp.read_exact(&mut request).await?;
        assert_eq!(request, SSL_REQUEST);
        tcp.write_all(b"S").await?;
    }
    Ok(tcp)
}

/// A dial to a database that shows what `server` says: how either of them sees it.
async fn meet(
    server: &ServerConfig,
    tls: &ClientTls,
    context: &client::Context,
) -> (Result<Client, String>, io::Result<ServerStream<TcpStream>>) {
    let (listener, addr) = listener().await;
    let config = config_for(addr, tls);
    let (dialed, accepted) = tokio::join!(client::dial(&config, context), async {
        let tcp = asked(&listener, tls.is_direct).await?;
        TlsAcceptor::from(Arc::new(server.clone())).accept(tcp).await
    });
    let prefix = format!("cannot encrypt the connection to {addr}: ");
    let dialed = dialed.map_err(|error| {
        let sentence = error.to_string();
        sentence.strip_prefix(&prefix).unwrap_or_else(|| panic!("{sentence}")).to_owned()
    });
    (dialed, accepted)
}

async fn both(server: &ServerConfig, context: &client::Context) -> (Client, ServerStream<TcpStream>) {
    let (client, database) = meet(server, &tls(TlsMode::VerifyFull), context).await;
    (client.expect("a client"), database.expect("a database"))
}

/// What the dial comes to.
async fn outcome(server: &ServerConfig, tls: &ClientTls, context: &client::Context) -> Result<(), String> {
    meet(server, tls, context).await.0.map(|client| assert!(client.stream.is_tls()))
}

// === towards the database ===

#[test]
fn each_mode_verifies_what_libpqs_verifies() {
    let (ours, strangers) = (Authority::new("ours"), Authority::new("strangers"));
    let folder = Folder::new("modes");
    // Two authorities in one file, as while one is rotated out.
    folder.put("ca", "ca.crt", &format!("{}{}", Authority::new("before").pem(), ours.pem()));
    let expired = ours.signs_but(&["127.0.0.1"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let early = ours.signs_but(&["127.0.0.1"], |params| params.not_before = date_time_ymd(4000, 1, 1));
    let common = ours.signs_but(&[], |params| params.distinguished_name.push(DnType::CommonName, "127.0.0.1"));
    let unknown =
        Err("the database's certificate is of an authority that ca.crt of Secret \"ca\" does not have; put the \
                       authority's certificate there, or have the database send the ones in between");
    let ended = Err("the database's certificate has expired; renew it there, and look at the clocks");
    let not_yet = Err("the database's certificate is not valid yet; look at the clocks");
    let misnamed =
        Err("the database's certificate is not for \"127.0.0.1\" but for other.test, 10.0.0.1; dial it by such a \
                        name, set client.tls.serverName, or use verify-ca");
    let rows = [
        ("ours, for this host", ours.signs(&["127.0.0.1"]), Ok(()), Ok(())),
        ("a common name alone", common, Ok(()), Ok(())),
        ("another host", ours.signs(&["other.test", "10.0.0.1"]), Ok(()), misnamed),
        ("strangers'", strangers.signs(&["127.0.0.1"]), unknown, unknown),
        ("expired", expired, ended, ended),
        ("from the future", early, not_yet, not_yet),
    ];
    on_a_worker(async {
        for (case, shown, with_ca, with_name) in &rows {
            for mode in MODES {
                let expected = match mode {
                    TlsMode::Prefer | TlsMode::Require => Ok(()),
                    TlsMode::VerifyCa => *with_ca,
                    TlsMode::VerifyFull => *with_name,
                };
                let met = outcome(&shown.server(), &tls(mode), &folder.context()).await;
                assert_eq!(met, expected.map_err(str::to_owned), "{case}, {mode:?}");
            }
        }
    });
}

#[test]
fn a_server_name_stands_for_the_host() {
    let (ours, folder) = (Authority::new("ours"), Folder::new("name"));
    folder.put("ca", "ca.crt", &ours.pem());
    let server = ours.signs(&["db.test", "*.pool.test"]).server();
    on_a_worker(async {
        for name in ["db.test", "a.pool.test"] {
            assert_eq!(outcome(&server, &named(TlsMode::VerifyFull, name), &folder.context()).await, Ok(()), "{name}");
        }
        for name in ["a.db.test", "a.b.pool.test", "127.0.0.1"] {
            let met = outcome(&server, &named(TlsMode::VerifyFull, name), &folder.context()).await;
            let sentence = format!("the database's certificate is not for {name:?} but for db.test, *.pool.test; ");
            assert!(met.as_ref().is_err_and(|said| said.starts_with(&sentence)), "{name}: {met:?}");
        }
    });
}

#[test]
fn a_certificate_that_signs_itself_is_its_own_authority() {
    let (folder, itself) = (Folder::new("itself"), Authority::new("127.0.0.1"));
    folder.put("ca", "ca.crt", &itself.pem());
    let key = PrivateKeyDer::from_pem_slice(itself.0.key().serialize_pem().as_bytes()).expect("a key");
    let versions = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = versions.expect("versions").with_no_client_auth();
    let server = builder.with_single_cert(vec![itself.0.der().clone()], key).expect("a certificate");
    on_a_worker(async {
        assert_eq!(outcome(&server, &tls(TlsMode::VerifyFull), &folder.context()).await, Ok(()));
    });
}

#[test]
fn both_versions_of_tls_are_spoken() {
    let (ours, folder) = (Authority::new("ours"), Folder::new("versions"));
    folder.put("ca", "ca.crt", &ours.pem());
    let shown = ours.signs(&["127.0.0.1"]);
    on_a_worker(async {
        for (version, name) in [(&rustls::version::TLS12, "TLSv1.2"), (&rustls::version::TLS13, "TLSv1.3")] {
            let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]);
            let server = shown.shown_by(builder.expect("a version").with_no_client_auth());
            let (client, _database) = both(&server, &folder.context()).await;
            assert_eq!(client.stream.tls_version(), Some(name));
        }
    });
}

#[test]
fn a_database_that_speaks_tls_first_must_say_that_it_speaks_postgresql() {
    let (ours, folder) = (Authority::new("ours"), Folder::new("direct"));
    folder.put("ca", "ca.crt", &ours.pem());
    let direct = ClientTls { is_direct: true, ..tls(TlsMode::VerifyFull) };
    let mut server = ours.signs(&["127.0.0.1"]).server();
    on_a_worker(async {
        let silent = outcome(&server, &direct, &folder.context()).await;
        assert!(
            silent.as_ref().is_err_and(|said| said.contains("does not say that it speaks PostgreSQL")),
            "{silent:?}"
        );
        server.alpn_protocols = vec![b"postgresql".to_vec()];
        assert_eq!(outcome(&server, &direct, &folder.context()).await, Ok(()));
        server.alpn_protocols = vec![b"h2".to_vec()];
        let other = outcome(&server, &direct, &folder.context()).await;
        assert_eq!(other, Err("the database does not speak PostgreSQL behind this TLS (ALPN)".to_owned()));
    });
}

#[test]
fn only_one_byte_answers_the_request() {
    let mixed = "more than one byte answered the request for TLS: somebody on the way may have put it there, so the \
                 connection is not used";
    let none = "the database does not offer TLS; set ssl = on there, or client.tls.mode to prefer or disable if the way to \
                it is trusted";
    let rows = [
        (TlsMode::Prefer, &b"N"[..], None),
        (TlsMode::Require, b"N", Some(none)),
        (TlsMode::VerifyFull, b"N", Some(none)),
        (TlsMode::Prefer, b"NR", Some(mixed)),
        (TlsMode::Require, b"SR\0\0\0\x08\0\0\0\0", Some(mixed)),
        (
            TlsMode::Prefer,
            b"Eout of memory\0",
            Some(
                "the database answered the request for TLS with an error: it is out of resources, or too old for TLS; its \
                 log says which",
            ),
        ),
        (
            TlsMode::Prefer,
            b"HTTP/1.1 400",
            Some("what answered the request for TLS does not speak PostgreSQL; look at client.addresses"),
        ),
        (TlsMode::Prefer, b"", Some("the database closed the connection when it was asked for TLS; its log says why")),
    ];
    let folder = Folder::new("answers");
    on_a_worker(async {
        for (mode, answer, refused) in rows {
            let (listener, addr) = listener().await;
            let (config, context) = (config_for(addr, &ClientTls { secret: None, ..tls(mode) }), folder.context());
            let (dialed, tcp) = tokio::join!(client::dial(&config, &context), async {
                let (mut tcp, _) = listener.accept().await.expect("a client");
                tcp.read_exact(&mut [0; 8]).await.expect("a request");
                tcp.write_all(answer).await.expect("a client that reads");
                tcp.shutdown().await.expect("a client that reads");
                tcp
            });
            drop(tcp);
            let said = dialed.map(|client| assert!(!client.stream.is_tls())).map_err(|error| error.to_string());
            let refused = refused.map(|sentence| format!("cannot encrypt the connection to {addr}: {sentence}"));
            assert_eq!(said.err(), refused, "{mode:?} {}", answer.escape_ascii());
        }
    });
}

#[test]
fn a_database_that_asks_for_a_certificate_gets_ours() {
    let (ours, folder) = (Authority::new("ours"), Folder::new("certificate"));
    folder.put("ca", "ca.crt", &ours.pem());
    let mut roots = RootCertStore::empty();
    roots.add(ours.0.der().clone()).expect("an authority");
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().expect("a verifier");
    let versions = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let server = ours.signs(&["127.0.0.1"]).shown_by(versions.expect("versions").with_client_cert_verifier(verifier));
    on_a_worker(async {
        // With TLS 1.3 the refusal comes after the handshake.
        let (client, database) = meet(&server, &tls(TlsMode::VerifyFull), &folder.context()).await;
        assert!(database.is_err());
        let error = client.expect("our side is done").stream.read_u8().await.expect_err("refused");
        let sentence = "the database asks for a client certificate; put one into tls.crt and tls.key of the Secret that \
                        client.tls.secretName names";
        assert_eq!(error.to_string(), sentence);
        let identity = ours.signs(&["app"]);
        folder.put_identity("ca", &identity);
        let (_client, database) = both(&server, &folder.context()).await;
        assert_eq!(database.get_ref().1.peer_certificates(), Some(&[identity.certificate.der().clone()][..]));
    });
}

#[test]
fn a_rotated_secret_is_used_by_the_next_handshake() {
    let (old, new, folder) = (Authority::new("old"), Authority::new("new"), Folder::new("rotation"));
    folder.put("ca", "ca.crt", &old.pem());
    let (server, context, secrets) = (new.signs(&["127.0.0.1"]).server(), folder.context(), folder.secrets());
    let wanted = tls(TlsMode::VerifyFull);
    on_a_worker(async {
        let before = context.tls.config(&wanted, &secrets).expect("a configuration");
        assert!(outcome(&server, &wanted, &context).await.is_err());
        assert!(Arc::ptr_eq(&before, &context.tls.config(&wanted, &secrets).expect("the same")), "nothing changed");
        folder.put("ca", "ca.crt", &new.pem());
        assert_eq!(outcome(&server, &wanted, &context).await, Ok(()));
    });
}

#[test]
fn a_secret_that_is_of_no_use_is_said_without_its_content() {
    let (ours, folder) = (Authority::new("ours"), Folder::new("useless"));
    let (identity, other) = (ours.signs(&["app"]), ours.signs(&["app"]));
    let ca = |name, content: &str| folder.put(name, "ca.crt", content);
    ca("empty", "");
    ca("noise", "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n");
    for name in ["half", "pair", "locked"] {
        ca(name, &ours.pem());
        folder.put(name, "tls.crt", &identity.certificate.pem());
    }
    folder.put("pair", "tls.key", &other.key.serialize_pem());
    let locked = identity.key.serialize_pem().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    folder.put("locked", "tls.key", &locked);
    let rows = [
        ("empty", "ca.crt of Secret \"empty\" holds no certificate in PEM; give it one"),
        ("noise", "ca.crt of Secret \"noise\" holds a certificate that cannot be understood; replace it"),
        ("none", "cannot read key ca.crt of Secret \"none\" ("),
        ("half", "cannot read key tls.key of Secret \"half\" ("),
        ("pair", "tls.key of Secret \"pair\" is not the key of the certificate in tls.crt; replace both together"),
        ("locked", "tls.key of Secret \"locked\" holds no private key in PEM that is not encrypted; give it one"),
    ];
    for (secret, sentence) in rows {
        let wanted = ClientTls { secret: Some(secret.into()), ..tls(TlsMode::VerifyFull) };
        let said = TlsToDatabase::default().config(&wanted, &folder.secrets()).expect_err("no use").to_string();
        assert!(said.starts_with(sentence), "{said}");
    }
}

#[test]
fn a_silent_database_is_given_up_after_the_dial_timeout() {
    let mut runtime = Builder::new_current_thread();
    runtime.enable_all().start_paused(true);
    runtime.build_local(LocalOptions::default()).expect("a runtime").block_on(async {
        let (listener, addr) = listener().await;
        let limit = Duration::from_secs(7);
        let config = ClientConfig { dial_timeout: Some(limit), ..config_for(addr, &tls(TlsMode::Prefer)) };
        let (begin, context) = (tokio::time::Instant::now(), Folder::new("silent").context());
        let (dialed, _silent) = tokio::join!(client::dial(&config, &context), listener.accept());
        assert!(matches!(dialed, Err(client::Error::Timeout(..))), "{dialed:?}");
        assert_eq!(begin.elapsed(), limit);
    });
}

// === the stream ===

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
        (&include_bytes!("fixtures/rsa-sha512.pem")[..], Some(64)),
        (&include_bytes!("fixtures/pss-sha384.pem")[..], Some(48)),
        (&include_bytes!("fixtures/ed25519.pem")[..], None),
    ];
    for (pem, length) in fixtures {
        let certificate = CertificateDer::from_pem_slice(pem).expect("a certificate");
        assert_eq!(stream::end_point(&certificate).map(|hash| hash.len()), length);
    }
}

// === towards peers ===

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
