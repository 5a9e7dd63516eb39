//! Whoever reaches the admin address may ask, and no more: it stops neither probes nor sessions, and learns nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cast::{Gateway, Peer, Proxy, Scripted, Stopwatch};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// Where probes come from here.
const NODE: [u8; 4] = [127, 0, 0, 1];
/// Where the others come from.
const STRANGER: [u8; 4] = [127, 0, 0, 9];
/// How long a probe may take beside all of them: the kubelet gives it two seconds.
const MOST_DELAY: Duration = Duration::from_secs(1);

#[track_caller]
fn stage() -> (Scripted, Gateway) {
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()));
    (database, gateway)
}

/// Connects to the admin address from this one.
fn dial(source: [u8; 4], gateway: &Gateway) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((source, 0))).unwrap();
    connect(&socket, &gateway.admin()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    stream
}

/// All that is answered to these bytes until the connection ends; nothing where it is reset.
#[track_caller]
fn answer(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = dial(STRANGER, gateway);
    // It may have heard enough.
    let _ = stream.write_all(bytes);
    let mut heard = Vec::new();
    let ended = stream.read_to_end(&mut heard);
    let is_open = ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    assert!(!is_open, "{} is never answered", bytes[..bytes.len().min(80)].escape_ascii());
    String::from_utf8_lossy(&heard).into_owned()
}

/// Looks that probes are answered in time, and sessions served.
#[track_caller]
fn expect_served(gateway: &Gateway) {
    let watch = Stopwatch::start();
    for path in ["/livez", "/readyz", "/startupz", "/metrics", "/config"] {
        assert_eq!(gateway.get(path).status, 200, "{path}");
    }
    Peer::dial(&gateway.address()).echoes(b"hello");
    assert!(watch.elapsed() < MOST_DELAY, "it took {:?}", watch.elapsed());
}

#[test]
fn who_keeps_every_place_keeps_no_probe_from_being_answered() {
    let (_database, gateway) = stage();
    for source in [STRANGER, NODE] {
        let mut kept = Vec::new();
        for round in 0..5 {
            for begun in [&b""[..], b"GET /metrics HTTP/1.1\r\nX: ", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"] {
                kept.extend((0..40).map(|_| {
                    let mut stream = dial(source, &gateway);
                    stream.write_all(begun).unwrap();
                    stream
                }));
                expect_served(&gateway);
            }
            assert!(gateway.process().open_files() < 100, "{round}: {} files", gateway.process().open_files());
        }
    }
    gateway.ends_well();
}

#[test]
fn whoever_has_few_connections_keeps_them_beside_whoever_has_many() {
    let (_database, gateway) = stage();
    let mut scraper = dial(NODE, &gateway);
    let _many: Vec<_> = (0..200).map(|_| dial(STRANGER, &gateway)).collect();
    write!(scraper, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut heard = String::new();
    scraper.read_to_string(&mut heard).unwrap();
    assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    gateway.ends_well();
}

#[test]
fn a_request_without_an_end_takes_no_memory() {
    let (_database, gateway) = stage();
    expect_served(&gateway);
    let before = gateway.process().resident_memory();
    let endless =
        ["GET / HTTP/1.1\r\nX: ", "GET /", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n"];
    for begun in endless {
        let many: Vec<_> = (0..32)
            .map(|_| {
                let mut stream = dial(STRANGER, &gateway);
                stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
                stream.write_all(begun.as_bytes()).unwrap();
                // Until it is refused, or nobody takes any more.
                let _ = stream.write_all(&vec![b'x'; 4 << 20]);
                stream
            })
            .collect();
        let after = gateway.process().resident_memory();
        assert!(after < before + (3 << 20), "{begun}: from {before} to {after} bytes");
        drop(many);
        expect_served(&gateway);
    }
    gateway.ends_well();
}

#[test]
fn whatever_is_asked_is_answered_in_fixed_words_or_not_at_all() {
    let (_database, gateway) = stage();
    let asks = |line: &str| format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let with = |head: &str| format!("GET /livez HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n");
    let many = (0..10_000).map(|number| format!("X-{number}: forged\r\n")).collect::<Vec<_>>().concat();
    let long = "forged".repeat(200_000);
    let mut table: Vec<(&[&str], Vec<u8>)> = vec![
        (&["431", ""], with(&many).into()),
        (&["431", ""], with(&format!("X: {long}")).into()),
        (&["414", "431", ""], asks(&format!("GET /{long}")).into()),
        (&["200"], [with("Content-Length: 1000000000000").as_bytes(), &vec![b'x'; 1 << 20]].concat()),
        (&["200"], [with("Transfer-Encoding: chunked").as_bytes(), b"ffff\r\n", &vec![b'x'; 1 << 16]].concat()),
        (&["400"], with("Content-Length: -1").into()),
        (&["400"], with("Content-Length: 1\r\nContent-Length: 2").into()),
        (&["400"], with("X: a\0b").into()),
        (&["400", ""], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        (&["400", ""], b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".repeat(9)),
        (&["400", ""], b"GET\r\n\r\n".into()),
        (&["400", ""], vec![0; 10_000]),
        (&["200"], asks("GET /livez?forged=1").into()),
        (&["200"], asks("GET http://forged.example/livez").into()),
    ];
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FORGED"] {
        table.push((&["405"], asks(&format!("{method} /config")).into()));
    }
    table.push((&["405"], asks("CONNECT forged.example:5432").into()));
    for path in
        ["/metrics/", "//metrics", "/%6detrics", "/metrics%00", "/forged", "/config/../metrics", "/%2e%2e/forged"]
    {
        table.push((&["404"], asks(&format!("GET {path}")).into()));
    }
    for (expected, bytes) in table {
        let heard = answer(&gateway, &bytes);
        let status = heard.split(' ').nth(1).unwrap_or_default();
        let said = bytes[..bytes.len().min(60)].escape_ascii();
        assert!(expected.contains(&status), "{said}: {heard}");
        assert!(!heard.contains("forged"), "{said} is repeated: {heard}");
    }
    expect_served(&gateway);
    gateway.ends_well();
}

#[test]
fn a_flood_of_scrapes_leaves_sessions_their_turn() {
    let (_database, gateway) = stage();
    let is_over = AtomicBool::new(false);
    let pipelined = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let flood = || {
        let mut bytes = vec![0; 1 << 20];
        while !is_over.load(Ordering::Relaxed) {
            let mut stream = dial(STRANGER, &gateway);
            let _ = stream.write_all(pipelined.as_bytes());
            while stream.read(&mut bytes).is_ok_and(|read| read > 0) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    };
    let worst = std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(flood);
        }
        let mut peer = Peer::dial(&gateway.address());
        let delays = (0..300).map(|_| {
            let watch = Stopwatch::start();
            peer.echoes(b"hello");
            watch.elapsed()
        });
        let worst = delays.max().unwrap_or_default();
        is_over.store(true, Ordering::Relaxed);
        worst
    });
    assert!(worst < MOST_DELAY, "an echo took {worst:?}");
    gateway.ends_well();
}
