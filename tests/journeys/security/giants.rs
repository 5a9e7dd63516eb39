//! Messages of a gigabyte pass or are refused; neither takes memory.

use std::io::Write;

use cast::backend::{First, answer, first, heard, welcome};
use cast::frontend::{V3_0, claiming, message, query, startup};
use cast::wire::{Address, Wire};
use cast::{Folder, Frontend, Gateway, Manifest, Proxy, Scripted};

/// What a giant claims to have.
const CLAIMED: i32 = 0x3fff_ffff;
/// How much of it is sent.
const SENT: usize = 64 << 20;
/// How much is sent at a time.
const PIECE: usize = 1 << 20;
/// What the gateway may hold more than before.
const MOST_GROWTH: u64 = 6 << 20;
/// The modes in which it reads messages.
const MODES: [&str; 2] = ["session", "transaction"];

/// A database that answers `select 'giant X'` with a message of type X without an end, and a gateway before it.
#[track_caller]
fn stage() -> (Scripted, Folder, Gateway) {
    let database = Scripted::tcp(|mut wire| {
        if first(&mut wire) == Some(First::Session) && wire.write_all(&welcome().concat()).is_ok() {
            serve(&mut wire);
        }
    });
    let secrets = Folder::new("secrets");
    std::fs::create_dir(secrets.join("app")).unwrap();
    std::fs::write(secrets.join("app/username"), "postgres").unwrap();
    std::fs::write(secrets.join("app/password"), "secret").unwrap();
    let proxies = MODES.map(|mode| {
        let proxy = Proxy::to(database.address()).named(mode).set("protocol", "postgres").set("pool.mode", mode);
        proxy.set("client.auth.secretName", "app").set("pool.size", 2)
    });
    let folder = secrets.display().to_string();
    let gateway = Gateway::with(Manifest::of(proxies)).told(&["--secrets", &folder]).start();
    (database, secrets, gateway)
}

fn serve(wire: &mut Wire) {
    while let Some((tag, body)) = heard(wire) {
        let Some(kind) = body.strip_prefix(b"select 'giant ").and_then(|rest| rest.first()) else {
            if wire.write_all(&answer(tag, &body)).is_err() {
                return;
            }
            continue;
        };
        let _ = wire.write_all(&claiming(*kind, CLAIMED, b""));
        let piece = vec![b'x'; PIECE];
        for _ in 0..SENT / PIECE {
            if wire.write_all(&piece).is_err() {
                break;
            }
        }
        return;
    }
}

#[track_caller]
fn expect_served(gateway: &Gateway, mode: &str) {
    let said = Frontend::login(&gateway.address_of(mode)).ask("select 'served'");
    assert!(said.contains("served"), "{mode}: {said}");
}

#[test]
fn a_database_that_says_a_gigabyte_takes_no_memory() {
    let (_database, _secrets, gateway) = stage();
    for mode in MODES {
        expect_served(&gateway, mode);
        let before = gateway.process().resident_memory();
        for kind in b"DdENSATCVtGHIWKRZ12\x00" {
            let mut peer = Frontend::login(&gateway.address_of(mode));
            peer.send(&query(&format!("select 'giant {}'", char::from(*kind))));
            let mut most = before;
            while !peer.raw(PIECE).is_empty() {
                most = most.max(gateway.process().resident_memory());
            }
            assert!(most < before + MOST_GROWTH, "{mode}, {}: from {before} to {most} bytes", char::from(*kind));
            expect_served(&gateway, mode);
        }
        gateway.expect_quiet(mode);
    }
    gateway.ends_well();
}

/// Sends a giant as far as it is taken; the most memory that the gateway had meanwhile.
#[track_caller]
fn says(gateway: &Gateway, address: &Address, kind: u8, begin: &[u8]) -> u64 {
    let mut peer = Frontend::dial(address);
    peer.send(&startup(V3_0, &[("user", "postgres"), ("database", "postgres")]));
    peer.until_ready(1);
    peer.send(&claiming(kind, CLAIMED, begin));
    let piece = vec![b'x'; PIECE];
    let pieces = (0..SENT / PIECE).map(|_| {
        peer.send(&piece);
        gateway.process().resident_memory()
    });
    pieces.max().unwrap_or_default()
}

#[test]
fn a_peer_that_says_a_gigabyte_takes_no_memory() {
    let (_database, _secrets, gateway) = stage();
    for mode in MODES {
        let address = gateway.address_of(mode);
        expect_served(&gateway, mode);
        let before = gateway.process().resident_memory();
        for (kind, begin) in [
            (b'P', &b"name\0select "[..]),
            (b'P', b""),
            (b'B', b"\0name\0"),
            (b'B', b""),
            (b'd', b""),
            (b'F', b""),
            (b'p', b""),
            (b'x', b""),
        ] {
            let most = says(&gateway, &address, kind, begin);
            assert!(most < before + MOST_GROWTH, "{mode}, {}: from {before} to {most} bytes", char::from(kind));
            expect_served(&gateway, mode);
        }
        gateway.expect_quiet(mode);
    }
    gateway.ends_well();
}

#[test]
fn settings_without_an_end_take_no_memory() {
    let database = Scripted::tcp(|mut wire| {
        if first(&mut wire) != Some(First::Session) || wire.write_all(&welcome().concat()).is_err() {
            return;
        }
        while let Some((tag, body)) = heard(&mut wire) {
            let settings = (0..200).map(|number| {
                let value = "x".repeat(60_000);
                message(b'S', format!("a.b{number}\0{value}\0").as_bytes())
            });
            let settings = if body.starts_with(b"select 'settings") { settings.collect() } else { Vec::new() };
            if wire.write_all(&[settings.concat(), answer(tag, &body)].concat()).is_err() {
                return;
            }
        }
    });
    let secrets = Folder::new("secrets");
    std::fs::create_dir(secrets.join("app")).unwrap();
    std::fs::write(secrets.join("app/username"), "postgres").unwrap();
    std::fs::write(secrets.join("app/password"), "secret").unwrap();
    let proxy = Proxy::to(database.address()).set("protocol", "postgres").set("client.auth.secretName", "app");
    let folder = secrets.display().to_string();
    let gateway = Gateway::with(proxy).told(&["--secrets", &folder]).start();
    let before = gateway.process().resident_memory();
    let mut peers: Vec<_> = (0..8).map(|_| Frontend::login(&gateway.address())).collect();
    for peer in &mut peers {
        peer.ask("select 'settings'");
    }
    let after = gateway.process().resident_memory();
    assert!(after < before + MOST_GROWTH, "from {before} to {after} bytes");
    drop(peers);
    gateway.expect_quiet("db");
    gateway.ends_well();
}
