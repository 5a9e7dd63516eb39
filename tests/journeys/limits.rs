//! Whatever runs out ends in one clear sentence that says what and where, or in a refusal that a person can read.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::Duration;

use cast::gateway::{Ended, cli};
use cast::time::pause;
use cast::wire::Address;
use cast::{Disk, Folder, Gateway, Manifest, Peer, Proxy, Scripted, eventually};

const DB: [(&str, &str); 1] = [("proxy", "db")];

/// The one sentence of a gateway that could not start.
#[track_caller]
fn sentence(ended: &Ended) -> String {
    assert_eq!(ended.status.code(), Some(1), "{:?}", ended.lines);
    let errors: Vec<_> = ended.lines.iter().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "one sentence, not {errors:#?}");
    assert!(!errors[0].contains("panicked"), "{}", errors[0]);
    errors[0].clone()
}

#[test]
fn more_peers_than_max_peers_are_refused_with_the_reason_and_the_others_live_on() {
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()).set("server.maxPeers", 3));
    let mut peers: Vec<_> = (0..3).map(|_| Peer::dial(&gateway.address())).collect();
    for peer in &mut peers {
        peer.echoes(b"hello");
    }
    let mut fourth = Peer::dial(&gateway.address());
    assert!(fourth.closed_within(Duration::from_secs(10)).is_some());
    gateway.expect_metric("postern_sessions_refused_total", &[("proxy", "db"), ("reason", "max_peers")], 1.0);
    let said = gateway.says("Peer refused");
    assert!(said.to_string().contains("server.maxPeers"), "{said}");
    for peer in &mut peers {
        peer.echoes(b"still here");
    }
    gateway.expect_metric("postern_sessions", &DB, 3.0);
    drop(peers);
    gateway.expect_quiet("db");
}

#[test]
fn more_waiting_peers_than_max_waiting_are_refused_and_the_others_are_served_in_order() {
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()).set("pool.size", 1).set("pool.maxWaiting", 2));
    let mut first = Peer::dial(&gateway.address());
    first.echoes(b"hello");
    let mut second = Peer::dial(&gateway.address());
    gateway.expect_metric("postern_pool_waiting", &DB, 1.0);
    let mut third = Peer::dial(&gateway.address());
    gateway.expect_metric("postern_pool_waiting", &DB, 2.0);
    let mut fourth = Peer::dial(&gateway.address());
    assert!(fourth.closed_within(Duration::from_secs(10)).is_some());
    gateway.expect_metric("postern_sessions_refused_total", &[("proxy", "db"), ("reason", "max_waiting")], 1.0);
    drop(first);
    second.echoes(b"second");
    assert!(third.closed_within(Duration::from_millis(200)).is_none(), "the third still waits");
    drop(second);
    third.wire().read_within(Some(Duration::from_secs(10))).unwrap();
    third.echoes(b"third");
    drop(third);
    gateway.expect_quiet("db");
}

#[test]
fn a_peer_that_cannot_have_a_client_in_time_is_told_that_all_are_lent() {
    let database = Scripted::echo();
    let proxy = Proxy::to(database.address()).set("pool.size", 1).set("pool.acquireTimeout", "300ms");
    let gateway = Gateway::start(proxy);
    let mut first = Peer::dial(&gateway.address());
    first.echoes(b"hello");
    let mut second = Peer::dial(&gateway.address());
    assert!(second.closed_within(Duration::from_secs(10)).is_some());
    gateway.expect_metric("postern_sessions_refused_total", &[("proxy", "db"), ("reason", "busy")], 1.0);
    assert!(gateway.says("Peer refused").to_string().contains("pool.size"));
    first.echoes(b"undisturbed");
}

#[test]
fn with_few_file_descriptors_peers_are_refused_or_wait_and_nothing_spins_or_exits() {
    let database = Scripted::echo();
    let proxy = Proxy::to(database.address()).set("pool.acquireTimeout", "2s");
    let mut gateway = Gateway::with(proxy).limited_to_open_files(64).start();
    let mut peers: Vec<_> = (0..100).map(|_| Peer::dial(&gateway.address())).collect();
    let served = peers.iter_mut().filter_map(|peer| {
        peer.wire().read_within(Some(Duration::from_secs(3))).unwrap();
        peer.try_echo(b"hello").ok()
    });
    let served = served.count();
    assert!((10..50).contains(&served), "{served} of 100 peers were served with 64 descriptors");
    let before = gateway.cpu_time();
    pause(Duration::from_secs(2));
    let used = gateway.cpu_time().saturating_sub(before);
    assert!(used < Duration::from_millis(200), "{used:?} of processor time in 2 s");
    assert!(gateway.runs());
    let said = gateway.lines().iter().filter(|line| line.contains("file descriptor")).count();
    assert!((1..200).contains(&said), "it says {said} times that descriptors are short");
    drop(peers);
    gateway.expect_quiet("db");
    Peer::dial(&gateway.address()).echoes(b"as before");
    gateway.ends_well();
}

#[test]
fn an_address_in_use_is_named_and_the_exit_status_is_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let database = Scripted::echo();
    let proxy = Proxy::to(database.address()).listening_on(&Address::Tcp(address));
    let said = sentence(&Gateway::with(proxy).end());
    assert!(said.contains(&address.to_string()) && said.contains("in use"), "{said}");
    let manifest = Manifest::of([Proxy::to(database.address())]).set("admin.address", address.to_string());
    let said = sentence(&Gateway::with(manifest).end());
    assert!(said.contains(&address.to_string()) && said.contains("in use"), "{said}");
}

#[test]
fn a_full_disk_for_the_socket_is_named_and_the_exit_status_is_1() {
    let disk = Disk::of_kilobytes(64);
    let _ballast = disk.fill();
    let database = Scripted::echo();
    let ended =
        Gateway::with(Proxy::to(database.address()).listening_on(&Address::Unix(disk.join("peers.sock")))).end();
    let said = sentence(&ended);
    assert!(said.contains("peers.sock") && said.contains("space"), "{said}");
}

#[test]
fn a_folder_that_is_not_there_and_a_file_that_is_no_socket_are_named() {
    let folder = Folder::new("place");
    let database = Scripted::echo();
    let at = |path: &str| Proxy::to(database.address()).listening_on(&Address::Unix(folder.join(path)));
    let said = sentence(&Gateway::with(at("missing/peers.sock")).end());
    assert!(said.contains("missing/peers.sock"), "{said}");
    fs::write(folder.join("precious"), "data").unwrap();
    let said = sentence(&Gateway::with(at("precious")).end());
    assert!(said.contains("precious"), "{said}");
    assert_eq!(fs::read_to_string(folder.join("precious")).unwrap(), "data", "what is no socket is not replaced");
}

#[test]
fn a_stale_socket_is_replaced_and_the_new_one_is_for_every_user() {
    let folder = Folder::new("stale");
    let path = folder.join("peers.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()).listening_on(&Address::Unix(path.clone())));
    Peer::dial(&gateway.address()).echoes(b"hello");
    let metadata = fs::metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o666);
    // A socket that somebody listens at is no stale one.
    let second = Gateway::with(Proxy::to(database.address()).listening_on(&Address::Unix(path.clone()))).end();
    assert!(sentence(&second).contains("peers.sock"), "{:?}", second.lines);
    Peer::dial(&gateway.address()).echoes(b"undisturbed");
    gateway.ends_well();
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_exit_status_is_1() {
    let folder = Folder::new("unreadable");
    for (path, reason) in [("missing.yaml", "No such file"), ("", "directory")] {
        let path = folder.join(path).display().to_string();
        let (code, text) = cli(&["run", "-f", &path]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&path) && text.contains(reason), "{text}");
        assert_eq!(cli(&["check", "-f", &path]).0, Some(1));
    }
}

#[test]
fn every_malformed_manifest_is_refused_with_its_sentences_by_check_and_by_run() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/manifests");
    let mut manifests = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let expected: Vec<_> = text.lines().filter_map(|line| line.trim_end().strip_prefix("# expect: ")).collect();
        if expected.is_empty() {
            continue;
        }
        manifests += 1;
        for command in ["check", "run"] {
            let (code, said) = cli(&[command, "-f", &path.display().to_string()]);
            assert_eq!(code, Some(1), "{command} {}: {said}", path.display());
            // The log is JSON, in which a quotation mark is written with a backslash.
            let said = said.replace("\\\"", "\"").replace("\\\\", "\\");
            for sentence in &expected {
                assert!(said.contains(sentence), "{command} {}: {sentence:?} is not in {said}", path.display());
            }
        }
    }
    assert!(manifests >= 30, "{manifests} malformed manifests");
}

#[test]
fn wrong_usage_ends_with_status_2_and_a_sentence() {
    let cases: [(&[&str], &str); 8] = [
        (&[], "gateway --help"),
        (&["run"], "POSTERN_CONFIG"),
        (&["fly"], "fly"),
        (&["run", "-f"], "-f"),
        (&["run", "-f", "x", "--fly"], "--fly"),
        (&["check"], "--file"),
        (&["check", "-f", "x", "-o", "xml"], "neither text nor json"),
        (&["wait"], "--admin"),
    ];
    for (arguments, why) in cases {
        let (code, text) = cli(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.starts_with("gateway: ") && text.contains(why), "{arguments:?}: {text}");
    }
    let (code, text) = cli(&["--version"]);
    assert_eq!((code, text.starts_with("gateway ")), (Some(0), true), "{text}");
    for arguments in [&["--help"][..], &["run", "--help"], &["wait", "--help"], &["check", "--help"]] {
        let (code, text) = cli(arguments);
        assert_eq!((code, text.starts_with("Usage: gateway ")), (Some(0), true), "{text}");
    }
}

#[test]
fn a_value_may_follow_its_option_or_an_equals_sign() {
    let folder = Folder::new("options");
    let file = folder.join("gateway.yaml").display().to_string();
    fs::write(&file, Manifest::of([Proxy::to(&Address::Unix("/nowhere".into()))]).text()).unwrap();
    let apart = cli(&["check", "--file", &file, "--output", "json"]);
    assert_eq!(apart.0, Some(0), "{}", apart.1);
    assert_eq!(cli(&["check", &format!("--file={file}"), "--output=json"]), apart);
}

#[test]
fn each_idle_session_costs_little_memory() {
    let database = Scripted::exchanging();
    let gateway = Gateway::start(Proxy::to(database.address()).set("pool.size", 500).set("server.maxPeers", 500));
    let idle = gateway.process().resident_memory();
    assert!(idle < 8 << 20, "{idle} bytes resident without a session");
    let mut peers: Vec<_> = (0..400).map(|_| Peer::dial(&gateway.address())).collect();
    for (peer, seed) in peers.iter_mut().zip(0..) {
        peer.exchange(cast::peer::Exchange { seed, up: 100, down: 10_000 }).unwrap();
    }
    let grown = gateway.process().resident_memory().saturating_sub(idle);
    assert!(grown / 400 < 8 * 1024, "{} bytes for each of 400 idle sessions", grown / 400);
    drop(peers);
    gateway.expect_quiet("db");
    eventually("the files are closed", || gateway.process().open_files() < 60);
}
