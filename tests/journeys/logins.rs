//! The gateway logs in to a real PostgreSQL by each method of `pg_hba.conf`, and hears its refusals.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use cast::process::{is_root, run};
use cast::wire::Address;
use cast::{Folder, Postgres, Random, eventually};
use gateway::config::Target;
use gateway::net::Stream;
use gateway::postgres::login::{Backend, Channel, Error, Startup, login, login_over, will_do};
use gateway::postgres::wire::{Parameters, Version};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Each user is asked in the way that is their name; everybody else for SCRAM.
const RULES: &str = "local postgres postgres trust\n\
                     host all rejected all reject\n\
                     host all trust all trust\n\
                     host all password all password\n\
                     host all md5 all md5\n\
                     host all all all scram-sha-256\n\
                     local all all scram-sha-256\n";
const USERS: &str = "create role trust login; create role rejected login; create role password login password 'secret'; \
                     create role scram login password 'secret'; \
                     set password_encryption = 'md5'; create role md5 login password 'secret'";

/// A PostgreSQL with those users, which takes TLS, too.
struct Database {
    postgres: Postgres,
    certificate: CertificateDer<'static>,
    _folder: Folder,
}

// === impl Database ===

impl Database {
    #[track_caller]
    fn start() -> Self {
        let folder = Folder::new("logins");
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["db.example".to_owned()]).unwrap();
        for (name, content) in [("hba", RULES), ("crt", &cert.pem()), ("key", &signing_key.serialize_pem())] {
            let path = folder.join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if is_root() {
                run(Command::new("chown").arg("postgres").arg(&path));
            }
        }
        let path = |name| folder.join(name).display().to_string();
        let settings = [
            ("hba_file", path("hba")),
            ("ssl", "on".into()),
            ("ssl_cert_file", path("crt")),
            ("ssl_key_file", path("key")),
        ];
        let postgres = Postgres::with(&settings.each_ref().map(|(name, value)| (*name, value.as_str())));
        postgres.query(USERS);
        Self { postgres, certificate: cert.der().clone(), _folder: folder }
    }

    fn of(user: &str, database: &str) -> Startup {
        let parameters = vec![("application_name".into(), "journey".into())];
        Startup { version: Version::V3_2, user: user.into(), database: database.into(), parameters }
    }

    async fn tcp(&self) -> Stream {
        let Address::Tcp(address) = self.postgres.address() else { unreachable!("it listens on TCP") };
        Stream::Tcp(TcpStream::connect(address).await.unwrap())
    }

    async fn unix(&self) -> Stream {
        let Address::Unix(path) = self.postgres.socket() else { unreachable!("it has a Unix socket") };
        Stream::Unix(UnixStream::connect(path).await.unwrap())
    }

    /// A connection that PostgreSQL was asked to encrypt, and the hash of its certificate.
    async fn tls(&self) -> (TlsStream<TcpStream>, Vec<u8>) {
        let Stream::Tcp(mut tcp) = self.tcp().await else { unreachable!("it is TCP") };
        tcp.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.unwrap();
        assert_eq!(tcp.read_u8().await.unwrap(), b'S');
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("db.example").unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        (tls, sha256(&self.certificate))
    }

    async fn log_in(&self, user: &str, password: &str) -> Result<Backend, Error> {
        login(&mut self.tcp().await, &Self::of(user, "postgres"), password).await
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).to_vec()
}

#[track_caller]
fn eventually_done<T>(journey: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(journey)
}

/// The SQLSTATE of a refusal.
#[track_caller]
fn code(said: Result<Backend, Error>) -> String {
    match said {
        Err(Error::Refused(said)) => String::from(&*said.code),
        other => panic!("no refusal: {other:?}"),
    }
}

fn reported(backend: &mut Backend) -> &mut Parameters {
    &mut backend.memory.parameters
}

#[test]
fn each_method_of_pg_hba_logs_in() {
    let database = Database::start();
    eventually_done(async {
        for user in ["trust", "password", "md5", "scram"] {
            let mut stream = database.tcp().await;
            let mut backend = login(&mut stream, &Database::of(user, "postgres"), "secret").await.unwrap();
            let settings = reported(&mut backend).clone();
            assert_eq!(settings.get("session_authorization"), Some(user), "{settings:?}");
            assert_eq!(settings.get("application_name"), Some("journey"));
            // It negotiates, and a key that is longer needs the newer protocol.
            let length = backend.key.as_ref().map(|key| key.secret.len());
            assert_eq!(length, Some(if backend.version == Version::V3_2 { 32 } else { 4 }), "{backend:?}");
            // The connection is at peace: what is asked next is answered.
            for settings in [settings, Parameters::default()] {
                *reported(&mut backend) = settings;
                for (target, expected) in [(Target::Primary, true), (Target::ReadWrite, true), (Target::Standby, false)]
                {
                    assert_eq!(will_do(&mut stream, &mut backend, target).await.unwrap(), expected, "{target:?}");
                }
            }
        }
        login(&mut database.unix().await, &Database::of("scram", "postgres"), "secret").await.unwrap();
    });
}

#[test]
fn a_database_that_refuses_says_why() {
    let database = Database::start();
    eventually_done(async {
        for user in ["password", "md5", "scram", "nobody"] {
            assert_eq!(code(database.log_in(user, "Secret").await), "28P01", "{user}");
        }
        assert_eq!(code(database.log_in("rejected", "secret").await), "28000");
        let said = login(&mut database.tcp().await, &Database::of("scram", "nowhere"), "secret").await;
        assert_eq!(code(said), "3D000");
        let wrong = Startup { parameters: vec![("nonsense".into(), "1".into())], ..Database::of("scram", "postgres") };
        assert_eq!(code(login(&mut database.tcp().await, &wrong, "secret").await), "42704");
    });
}

#[test]
fn a_database_that_is_about_to_stop_is_told_from_one_that_refuses_us() {
    let database = Database::start();
    eventually_done(async {
        let mut stays = database.tcp().await;
        login(&mut stays, &Database::of("scram", "postgres"), "secret").await.unwrap();
        // It waits for those who are there, and takes nobody else.
        let pid = Pid::from_raw(database.postgres.pid().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let mut said = database.log_in("scram", "secret").await;
        for _ in 0..1000 {
            if said.is_err() {
                break;
            }
            said = database.log_in("scram", "secret").await;
        }
        assert_eq!(code(said), "57P03");
    });
}

#[test]
fn over_tls_the_password_is_bound_to_the_certificate() {
    let database = Database::start();
    let startup = Database::of("scram", "postgres");
    eventually_done(async {
        let (mut tls, hash) = database.tls().await;
        let mut backend = login_over(&mut tls, Channel::Tls(Some(hash)), &startup, "secret").await.unwrap();
        assert!(will_do(&mut tls, &mut backend, Target::Primary).await.unwrap());
        // Somebody in between would show another certificate.
        let (mut tls, _) = database.tls().await;
        let said = login_over(&mut tls, Channel::Tls(Some(vec![7; 32])), &startup, "secret").await;
        assert_eq!(code(said), "28000");
        let (mut tls, _) = database.tls().await;
        login_over(&mut tls, Channel::Tls(None), &startup, "secret").await.unwrap();
        // What is asked for in clear text goes over TLS, and not over a network without.
        let (mut tls, _) = database.tls().await;
        login_over(&mut tls, Channel::Tls(None), &Database::of("password", "postgres"), "secret").await.unwrap();
        let mut tcp = database.tcp().await;
        let said = login_over(&mut tcp, Channel::Network, &Database::of("password", "postgres"), "secret").await;
        assert!(matches!(said, Err(Error::Unsupported(_))), "{said:?}");
    });
}

/// Characters around which passwords are prepared in different ways.
const RANGES: [(u32, u32); 16] = [
    (0x20, 0x7e),
    (0x01, 0x1f),
    (0x80, 0xff),
    (0x300, 0x345),
    (0x5d0, 0x5ea),
    (0x627, 0x64a),
    (0x6dd, 0x70f),
    (0x1d00, 0x1fff),
    (0x2000, 0x206f),
    (0x2150, 0x2190),
    (0x3000, 0x3100),
    (0xac00, 0xac80),
    (0xe000, 0xe010),
    (0xf900, 0xfdff),
    (0xfe00, 0xffff),
    (0x1d150, 0x1d200),
];

#[test]
fn a_password_of_any_characters_logs_in() {
    let seed = 42;
    let mut random = Random::seeded(seed);
    let mut passwords: Vec<String> =
        ["\u{ad}", "\u{2168}\u{340}", "a\u{200b}b", "\u{627}1\u{628}", "\u{627}\u{2168}"].map(String::from).into();
    while passwords.len() < 150 {
        let length = 1 + random.below(6);
        let password: String = (0..length)
            .filter_map(|_| {
                let (first, last) = RANGES[usize::try_from(random.below(16)).unwrap()];
                char::from_u32(first + u32::try_from(random.below(u64::from(last - first + 1))).unwrap())
            })
            .collect();
        if !password.is_empty() {
            passwords.push(password);
        }
    }
    let mut roles = String::new();
    for (number, password) in passwords.iter().enumerate() {
        write!(roles, "create role p{number} login password E'").unwrap();
        for character in password.chars() {
            write!(roles, "\\U{:08x}", u32::from(character)).unwrap();
        }
        roles.push_str("';");
    }
    let database = Database::start();
    database.postgres.query(&roles);
    eventually_done(async {
        for (number, password) in passwords.iter().enumerate() {
            let said = database.log_in(&format!("p{number}"), password).await;
            assert!(said.is_ok(), "{} of seed {seed}: {said:?}", password.escape_unicode());
        }
    });
    eventually("nobody is left", || {
        database
            .postgres
            .query("select count(*) from pg_stat_activity where usename like 'p_%' and usename <> 'postgres'")
            == "0"
    });
}
