use std::time::Duration;

use bytes::BufMut;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::timeout;

use super::*;
use crate::postgres::scram::password;
use crate::postgres::wire::{message, text};

const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const READY: &[u8] = b"Z\0\0\0\x05I";

mod scram;
mod state;

fn startup() -> Startup {
    let parameters = vec![("application_name".into(), "orders".into())];
    Startup { version: Version::V3_2, user: "app".into(), database: "orders".into(), parameters }
}

fn one(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, tag, |out| out.extend_from_slice(body));
    out
}

fn ask(code: u32, rest: &[u8]) -> Vec<u8> {
    one(tag::AUTHENTICATION, &[&code.to_be_bytes(), rest].concat())
}

fn reported(name: &str, value: &str) -> Vec<u8> {
    one(tag::PARAMETER_STATUS, format!("{name}\0{value}\0").as_bytes())
}

fn refusal(code: &str, words: &str) -> Vec<u8> {
    let mut out = Vec::new();
    ErrorResponse::fatal(code, words).write(&mut out);
    out
}

/// What PostgreSQL says to somebody whom it believes.
fn welcome() -> Vec<u8> {
    let key = one(tag::BACKEND_KEY_DATA, &[&[0, 0, 0, 9], [1; 32].as_slice()].concat());
    let notice = one(tag::NOTICE_RESPONSE, b"SNOTICE\0Mhello\0\0");
    [OK, &reported("in_hot_standby", "off"), &notice, &reported("server_version", "18.1"), &key, READY].concat()
}

/// A login at a database that says all of this at once, and then closes.
async fn answered(bytes: &[u8]) -> Result<Backend, Error> {
    answered_over(bytes, Channel::Network, "secret").await
}

async fn answered_over(bytes: &[u8], channel: Channel, password: &str) -> Result<Backend, Error> {
    let (mut ours, mut database) = duplex(8 * 1024 * 1024);
    database.write_all(bytes).await.expect("there is room");
    // It is still read, but has said all.
    database.shutdown().await.expect("it is open");
    let startup = startup();
    let login = login_over(&mut ours, channel, &startup, password);
    timeout(Duration::from_hours(1), login).await.expect("it ends by itself")
}

/// What the sentence of a failure is.
fn words(said: Result<Backend, Error>) -> String {
    said.expect_err("a failure").to_string()
}

#[tokio::test(start_paused = true)]
async fn what_the_database_reports_is_kept() {
    let backend = answered(&welcome()).await.expect("a login");
    let expected = [("in_hot_standby", "off"), ("server_version", "18.1")];
    assert_eq!(backend.memory.parameters.iter().collect::<Vec<_>>(), expected);
    let key = backend.key.expect("a key");
    assert_eq!((key.process, &*key.secret, backend.version), (9, [1; 32].as_slice(), Version::V3_2));
    let without = answered(&[OK, READY].concat()).await.expect("a proxy before a database may give no key");
    assert_eq!(without.key, None);
}

#[tokio::test(start_paused = true)]
async fn the_first_packet_names_user_database_and_settings() {
    let (mut ours, mut database) = duplex(1024);
    database.write_all(&welcome()).await.expect("there is room");
    login_over(&mut ours, Channel::Network, &startup(), "secret").await.expect("a login");
    drop(ours);
    let mut heard = Vec::new();
    database.read_to_end(&mut heard).await.expect("all that was said");
    let (request, length) = Request::read(&heard).expect("a packet").expect("a whole one");
    let Request::Startup(startup) = request else { panic!("{request:?}") };
    assert_eq!((startup.version, startup.user(), startup.database()), (Version::V3_2, "app", "orders"));
    assert_eq!(startup.get("application_name"), Some("orders"));
    assert_eq!(length, heard.len(), "nobody asked for more");
}

#[tokio::test]
async fn settings_that_no_database_takes_are_not_sent() {
    let (mut ours, mut database) = duplex(1024);
    let startup = Startup { parameters: vec![("options".into(), "x".repeat(MAX_STARTUP).into())], ..startup() };
    let said = words(login_over(&mut ours, Channel::Network, &startup, "secret").await);
    assert!(said.contains("10000 bytes"), "{said}");
    drop(ours);
    assert_eq!(database.read_to_end(&mut Vec::new()).await.expect("the end"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_cut_fails_wherever_it_is_cut() {
    let bytes = welcome();
    for cut in 0..bytes.len() {
        let said = answered(&bytes[..cut]).await;
        let is_end = matches!(&said, Err(Error::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof);
        assert!(is_end, "cut at {cut}: {said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_version_is_negotiated() {
    let negotiate = |version: u32, options: &[&str]| {
        let mut body = version.to_be_bytes().to_vec();
        body.put_u32(u32::try_from(options.len()).expect("few"));
        for option in options {
            text(&mut body, option);
        }
        [one(tag::NEGOTIATE_PROTOCOL_VERSION, &body), welcome()].concat()
    };
    for older in [0, Version::V3_0.0] {
        let backend = answered(&negotiate(older, &[])).await.expect("a login");
        assert_eq!(backend.version, Version::V3_0);
    }
    assert_eq!(answered(&negotiate(2, &[])).await.expect("a login").version, Version::V3_2);
    for never in [1, 3, Version::V3_0.0 | 1, Version::V3_0.0 | 3, 4 << 16, 2 << 16, u32::MAX] {
        assert!(matches!(answered(&negotiate(never, &[])).await, Err(Error::Protocol(_))), "{never}");
    }
    // Nobody asked for that.
    assert!(matches!(answered(&negotiate(0, &["_pq_.x"])).await, Err(Error::Protocol(_))));
    assert!(matches!(answered(&negotiate(0, &["application_name"])).await, Err(Error::Protocol(_))));
    let body = negotiate(0, &[]);
    let twice = [&body[..body.len() - welcome().len()], &body].concat();
    assert!(matches!(answered(&twice).await, Err(Error::Protocol(wire::Error::Type(b'v')))));
    // An announced option that is missing, and a count that no message has.
    let lying = one(tag::NEGOTIATE_PROTOCOL_VERSION, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(answered(&[lying, welcome()].concat()).await, Err(Error::Protocol(_))));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_negotiate_is_told_from_one_that_refuses_us() {
    let old = refusal("0A000", "unsupported frontend protocol 3.2: server supports 2.0 to 3.0");
    assert!(matches!(answered(&old).await, Err(Error::Version(Version::V3_2, _))));
    let proxy = refusal("08P01", "bad packet header");
    assert!(matches!(answered(&proxy).await, Err(Error::Version(..))));
    let absent = refusal("3D000", "database \"orders\" does not exist");
    assert!(matches!(answered(&absent).await, Err(Error::Refused(_))));
    // Who has asked for a password has understood the version.
    let later = [ask(5, &[1; 4]), proxy.clone()].concat();
    assert!(matches!(answered(&later).await, Err(Error::Refused(_))));
    let (mut ours, mut database) = duplex(1024);
    database.write_all(&proxy).await.expect("there is room");
    let oldest = Startup { version: Version::V3_0, ..startup() };
    let said = login_over(&mut ours, Channel::Network, &oldest, "secret").await;
    assert!(matches!(said, Err(Error::Refused(_))), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_keeps_the_database_s_words_whatever_is_missing() {
    for at in [vec![], OK.to_vec(), [ask(3, b""), OK.to_vec(), reported("a", "b")].concat()] {
        let said = answered_over(&[at, refusal("57P03", "starting up")].concat(), Channel::Host, "secret").await;
        let Err(Error::Refused(said)) = said else { panic!("{said:?}") };
        assert_eq!((&*said.severity, &*said.code, &*said.message), ("FATAL", "57P03", "starting up"));
    }
    let bare = one(tag::ERROR_RESPONSE, b"Mtoo bad\0\0");
    let said = words(answered(&[OK, &bare].concat()).await);
    assert_eq!(said, ": too bad (no SQLSTATE)");
    assert!(matches!(answered(&[OK, &one(tag::ERROR_RESPONSE, b"")].concat()).await, Err(Error::Refused(_))));
    assert!(matches!(answered(&[OK, &one(tag::ERROR_RESPONSE, b"Cxx")].concat()).await, Err(Error::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn an_error_from_before_protocol_3_is_understood() {
    let old = b"Ecould not fork new process for connection: Cannot allocate memory\n\0";
    for said in [answered(old).await, answered(&old[..old.len() - 1]).await] {
        let Err(Error::Refused(said)) = said else { panic!("{said:?}") };
        assert_eq!(&*said.message, "could not fork new process for connection: Cannot allocate memory");
    }
    let endless = answered(&[b"Ex".as_slice(), &vec![b'x'; 1_000_000]].concat()).await;
    let Err(Error::Refused(said)) = endless else { panic!("{endless:?}") };
    assert!(said.message.len() < 50_000, "{}", said.message.len());
}

#[tokio::test(start_paused = true)]
async fn a_password_itself_is_not_sent_where_others_may_listen() {
    let asked = [ask(3, b""), welcome()].concat();
    let said = words(answered(&asked).await);
    assert!(said.contains("client.tls") && !said.contains("secret"), "{said}");
    for channel in [Channel::Host, Channel::Tls(None), Channel::Tls(Some(vec![7; 32]))] {
        answered_over(&asked, channel, "secret").await.expect("a login");
    }
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_password_is_what_the_database_asked_for() {
    let md5 = password::md5("app", "secret", [1, 2, 3, 4]);
    for (asked, expected) in [(ask(3, b""), "secret"), (ask(5, &[1, 2, 3, 4]), &md5)] {
        let (mut ours, mut database) = duplex(1024);
        database.write_all(&[asked, welcome()].concat()).await.expect("there is room");
        login_over(&mut ours, Channel::Host, &startup(), "secret").await.expect("a login");
        drop(ours);
        let mut heard = Vec::new();
        database.read_to_end(&mut heard).await.expect("all that was said");
        assert!(heard.ends_with(&one(tag::PASSWORD, format!("{expected}\0").as_bytes())), "{heard:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_is_named() {
    for (asked, named) in [
        (ask(2, b""), "Kerberos"),
        (ask(7, b""), "gss"),
        (ask(9, b""), "sspi"),
        (ask(77, b"?"), "kind 77"),
        (ask(10, b"OAUTHBEARER\0\0"), "OAUTHBEARER"),
        (ask(10, b"\0"), "can do none"),
        (ask(10, b"SCRAM-SHA-256-PLUS\0\0"), "TLS"),
    ] {
        let said = answered(&asked).await;
        let Err(Error::Unsupported(said)) = said else { panic!("{said:?}") };
        assert!(said.contains(named), "{said}");
    }
    for asked in [ask(3, b""), ask(5, b"salt"), ask(10, b"SCRAM-SHA-256\0\0")] {
        let said = words(answered_over(&asked, Channel::Host, "").await);
        assert!(said.contains("empty"), "{said}");
    }
    answered_over(&welcome(), Channel::Host, "").await.expect("nobody asked for a password");
}

#[tokio::test(start_paused = true)]
async fn messages_out_of_order_are_refused() {
    let ready_at_once = [READY, OK].concat();
    let settings_at_once = [reported("a", "b"), welcome()].concat();
    let row = [OK, &one(tag::DATA_ROW, b"\0\0"), READY].concat();
    let asked_twice = [ask(5, b"salt"), ask(3, b""), welcome()].concat();
    let believed_twice = [OK, &welcome()].concat();
    let late = [ask(11, b"r=x"), welcome()].concat();
    let final_at_once = [ask(12, b"v=x"), welcome()].concat();
    let in_transaction = [OK, b"Z\0\0\0\x05T"].concat();
    let many = [ready_at_once, settings_at_once, row, asked_twice, believed_twice, late, final_at_once, in_transaction];
    for bytes in many {
        let said = answered_over(&bytes, Channel::Host, "secret").await;
        assert!(matches!(said, Err(Error::Protocol(_))), "{:?}: {said:?}", bytes.escape_ascii().to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn malformed_messages_are_refused() {
    for (tag, body) in [
        (tag::AUTHENTICATION, b"\0\0".as_slice()),
        (tag::AUTHENTICATION, b"\0\0\0\0x"),
        (tag::AUTHENTICATION, b"\0\0\0\x05abc"),
        (tag::AUTHENTICATION, b"\0\0\0\x05abcde"),
        (tag::AUTHENTICATION, b"\0\0\0\x0aSCRAM-SHA-256"),
        (tag::AUTHENTICATION, b"\0\0\0\x0aSCRAM-SHA-256\0"),
        (tag::AUTHENTICATION, b"\0\0\0\x0aSCRAM-SHA-256\0\0x"),
    ] {
        let said = answered(&one(tag, body)).await;
        assert!(matches!(said, Err(Error::Protocol(_))), "{body:?}: {said:?}");
    }
    for (tag, body) in [
        (tag::PARAMETER_STATUS, b"a\0b".as_slice()),
        (tag::PARAMETER_STATUS, b"a"),
        (tag::PARAMETER_STATUS, b"a\0b\0c"),
        (tag::BACKEND_KEY_DATA, b"\0\0\0\x01abc"),
        (tag::READY_FOR_QUERY, b""),
        (tag::READY_FOR_QUERY, b"II"),
    ] {
        let said = answered(&[OK, &one(tag, body)].concat()).await;
        assert!(matches!(said, Err(Error::Protocol(wire::Error::Body(_)))), "{body:?}: {said:?}");
    }
    for length in [i32::MIN, -1, 0, 3, 65_537, i32::MAX] {
        let bytes = [b"R".as_slice(), &length.to_be_bytes(), &[0; 100]].concat();
        assert!(matches!(answered(&bytes).await, Err(Error::Protocol(wire::Error::Length { .. }))), "{length}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_goes_on_and_on_is_left() {
    let notice = one(tag::NOTICE_RESPONSE, b"\0");
    for begin in [b"".as_slice(), OK] {
        let bytes = [begin, &notice.repeat(1000), &welcome()].concat();
        assert!(matches!(answered(&bytes).await, Err(Error::TooMuch)));
    }
    let long = one(tag::NOTICE_RESPONSE, &vec![b'x'; 60_000]);
    assert!(matches!(answered(&[OK, &long.repeat(20), READY].concat()).await, Err(Error::TooMuch)));
    answered(&[OK, &long, READY].concat()).await.expect("a long notice is none of our business");
}

#[tokio::test(start_paused = true)]
async fn what_follows_the_last_answer_is_a_doubt() {
    for more in [b"x".as_slice(), b"S", b"Z\0\0\0\x05I"] {
        let said = answered(&[&welcome(), more].concat()).await;
        assert!(matches!(said, Err(Error::Protocol(wire::Error::Type(_)))), "{said:?}");
    }
}

#[tokio::test]
async fn what_a_stream_is_says_whether_others_may_listen() {
    let (unix, _other) = tokio::net::UnixStream::pair().expect("a pair");
    assert_eq!(Channel::of(&Stream::Unix(unix)), Channel::Host);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let tcp = tokio::net::TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
    assert_eq!(Channel::of(&Stream::Tcp(tcp)), Channel::Host);
}

proptest! {
    #[test]
    fn any_bytes_end_in_a_login_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), begin in 0_usize..4) {
        let begin: &[u8] = [b"".as_slice(), OK, b"R", b"R\0\0\0"][begin];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let said = runtime.expect("a runtime").block_on(answered(&[begin, &bytes].concat()));
prop_assert!(said.is_err() || bytes.ends_with(READY));
    }
}
