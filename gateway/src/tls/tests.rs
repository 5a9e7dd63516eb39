//! Handshakes over real sockets, with authorities and certificates of their own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::SigningKey;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream as ServerStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::client::{self, Client};
use crate::config::{self, ClientConfig, ClientTls, TlsMode};
use crate::net::Stream;
use crate::route::Route;

mod stream;
mod to_peers;

const MODES: [TlsMode; 4] = [TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull];
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

fn on_a_worker<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = Builder::new_current_thread();
    runtime.enable_all().build_local(LocalOptions::default()).expect("a runtime").block_on(test)
}

/// Dials the default route.
async fn dial(config: &ClientConfig, context: &client::Context) -> Result<Client, client::Error> {
    client::dial(config, context, &Route::default()).await
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
        client::Context::new(self.secrets(), crate::roll::Numbers::of_worker(0, 1))
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
    let (dialed, accepted) = tokio::join!(dial(&config, context), async {
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
        folder.put("ca", "ca.crt", &Authority::new("127.0.0.1").pem());
        let said = outcome(&server, &tls(TlsMode::VerifyCa), &folder.context()).await;
        assert!(said.as_ref().is_err_and(|said| said.contains("is of an authority that ca.crt")), "{said:?}");
    });
}

/// `certified` without its extensions, as a certificate of version 1.
fn version_1(certified: &Certified) -> CertificateDer<'static> {
    let sequence = |content: &[u8]| {
        let length = u16::try_from(content.len()).expect("a short certificate").to_be_bytes();
        [&[0x30, 0x82], &length[..], content].concat()
    };
    let (_, parsed) = X509Certificate::from_der(certified.certificate.der()).expect("a certificate");
    let (inner, key) = (parsed.tbs_certificate.as_ref(), parsed.public_key().raw);
    // Behind its length and its version, up to its key.
    let end = inner.windows(key.len()).position(|at| at == key).expect("its key") + key.len();
    let version = inner.windows(5).position(|at| at == [0xa0, 3, 2, 1, 2]).expect("its version") + 5;
    let inner = sequence(&inner[version..end]);
    let signature = certified.key.sign(&inner).expect("a signature");
    let algorithm = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let signature_length = u8::try_from(signature.len() + 1).expect("a short signature");
    let signature = [&[3, signature_length, 0], &signature[..]].concat();
    sequence(&[&inner[..], &algorithm, &signature].concat()).into()
}

#[test]
fn a_certificate_of_version_1_encrypts_and_is_verified_only_as_itself() {
    let (ours, folder) = (Authority::new("ours"), Folder::new("version-1"));
    folder.put("ca", "ca.crt", &ours.pem());
    let named = ours.signs_but(&[], |params| params.distinguished_name.push(DnType::CommonName, "127.0.0.1"));
    let (old, stranger) = (version_1(&named), ours.signs(&["127.0.0.1"]));
    let server = |key: &KeyPair| {
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a key");
        let key = rustls::crypto::ring::sign::any_supported_type(&key).expect("a key");
        let shown = rustls::sign::CertifiedKey::new(vec![old.clone()], key);
        let versions = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let resolver = rustls::sign::SingleCertAndKey::from(shown);
        versions.expect("versions").with_no_client_auth().with_cert_resolver(Arc::new(resolver))
    };
    on_a_worker(async {
        let (its, context) = (server(&named.key), folder.context());
        for mode in [TlsMode::Prefer, TlsMode::Require] {
            assert_eq!(outcome(&its, &tls(mode), &context).await, Ok(()), "{mode:?}");
            let forged = outcome(&server(&stranger.key), &tls(mode), &context).await;
            assert!(forged.as_ref().is_err_and(|said| said.contains("bears a false signature")), "{forged:?}");
        }
        for mode in [TlsMode::VerifyCa, TlsMode::VerifyFull] {
            let said = outcome(&its, &tls(mode), &context).await;
            assert!(said.as_ref().is_err_and(|said| said.contains("X.509 version 1")), "{said:?}");
        }
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
            let (dialed, tcp) = tokio::join!(dial(&config, &context), async {
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
        let (dialed, _silent) = tokio::join!(dial(&config, &context), listener.accept());
        assert!(matches!(dialed, Err(client::Error::Timeout(..))), "{dialed:?}");
        assert_eq!(begin.elapsed(), limit);
    });
}
