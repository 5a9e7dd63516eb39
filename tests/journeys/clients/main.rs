//! Real drivers of five languages, each with its own behaviours: what comes of them is the same through every mode as
//! directly. The programs are in `tests/clients`; what they need is fetched with the tools of their languages.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::collections::BTreeMap;
use std::process::Command;

use cast::process::{attempt, owned};
use cast::wire::Address;
use cast::{Gateway, Manifest, Postgres};

#[path = "../postgres/modes.rs"]
#[expect(dead_code, reason = "the other journeys need all of it")]
mod modes;
mod workshop;

use modes::ALL;

/// One driver, and how it differs from what is common to all.
struct Driver {
    command: fn() -> Command,
    /// The common behaviours that it does not have.
    lacks: &'static [&'static str],
    /// Behaviours of its own, or outcomes that are written differently, as of any database.
    own: &'static [(&'static str, &'static str)],
    /// Why connections stay with its peers in transaction pooling.
    pins: &'static [&'static str],
}

/// What a behaviour comes to.
const COMMON: [(&str, &str); 22] = [
    ("connect", "clients 3MB"),
    ("simple", "1 two"),
    ("types", "9 values the same"),
    ("prepared", "210"),
    ("many", "100 4950"),
    ("transaction", "1,3"),
    ("recovery", "22012 25P02 3"),
    ("unique", "23505 tokens_pkey"),
    ("notice", "heard 7"),
    ("altered", "1 2"),
    ("copy", "1000 1000"),
    ("cursor", "1000 499500"),
    ("stream", "20000 2000000"),
    ("listen", "hello"),
    ("cancel", "cancelled 1"),
    ("timeout", "57014"),
    ("reconnects", "50"),
    ("pool", "500"),
    ("timezone", "Asia/Tokyo"),
    ("reset", "clients 4MB"),
    ("lock", "false true"),
    ("temporary", "3"),
];

/// What `lock`, `listen`, `reset` (it sets `work_mem`) and `temporary` leave behind.
const USUAL_PINS: &[&str] = &["advisory_lock", "listen", "set", "temporary"];

/// Fewer connections than the ten that each driver's pool opens: peers in transaction pooling have to share them.
const SHARED: u32 = 4;
/// As many connections as the programs open, where each peer has its own.
const OWN: u32 = 20;
/// How long one program may take, in seconds.
const PATIENCE: &str = "400";

#[test]
fn psycopg2_behaves_as_without_us() {
    // It writes values into its statements, also a mebibyte.
    let pins = &["advisory_lock", "listen", "long", "set", "temporary"];
    check(&Driver { command: || workshop::python("psycopg2"), lacks: &["prepared", "altered"], own: &[], pins });
}

#[test]
fn psycopg3_behaves_as_without_us() {
    check(&Driver { command: || workshop::python("psycopg3"), lacks: &[], own: &[], pins: USUAL_PINS });
}

#[test]
fn asyncpg_behaves_as_without_us() {
    let own = &[("looked_up", "glad,sad")];
    check(&Driver { command: || workshop::python("asyncpg"), lacks: &[], own, pins: USUAL_PINS });
}

#[test]
fn pg8000_behaves_as_without_us() {
    check(&Driver { command: || workshop::python("pg8000"), lacks: &[], own: &[], pins: USUAL_PINS });
}

#[test]
fn sqlalchemy_behaves_as_without_us() {
    let lacks = &["prepared", "notice", "altered", "copy", "listen", "cancel", "reset"];
    let pins = &["advisory_lock", "temporary"];
    check(&Driver { command: || workshop::python("sqlalchemy"), lacks, own: &[], pins });
}

#[test]
fn django_behaves_as_without_us() {
    let lacks = &["prepared", "notice", "altered", "copy", "listen", "cancel", "reset"];
    // It writes values into its statements, also a mebibyte, and its iterators use cursors that outlast their transaction.
    // The time zone that it sets by `set_config` keeps no connection.
    let pins = &["advisory_lock", "hold_cursor", "long", "temporary"];
    check(&Driver { command: || workshop::python("django"), lacks, own: &[], pins });
}

#[test]
fn node_postgres_behaves_as_without_us() {
    check(&Driver { command: workshop::node_postgres, lacks: &[], own: &[], pins: USUAL_PINS });
}

#[test]
fn pgx_behaves_as_without_us() {
    let own = &[("described", "210"), ("unnamed", "210")];
    check(&Driver { command: || workshop::go("pgx"), lacks: &[], own, pins: USUAL_PINS });
}

#[test]
fn lib_pq_behaves_as_without_us() {
    check(&Driver { command: || workshop::go("libpq"), lacks: &[], own: &[], pins: USUAL_PINS });
}

#[test]
fn tokio_postgres_behaves_as_without_us() {
    let own = &[("looked_up", "mood _mood"), ("types", "8 values the same")];
    check(&Driver { command: || workshop::rust("on_tokio_postgres"), lacks: &[], own, pins: USUAL_PINS });
}

#[test]
fn sqlx_behaves_as_without_us() {
    check(&Driver { command: || workshop::rust("on_sqlx"), lacks: &["notice"], own: &[], pins: USUAL_PINS });
}

#[test]
fn pgjdbc_behaves_as_without_us() {
    check(&Driver { command: workshop::pgjdbc, lacks: &[], own: &[], pins: USUAL_PINS });
}

/// Runs a driver's program directly and through every mode.
#[track_caller]
fn check(driver: &Driver) {
    let expected: BTreeMap<_, _> = COMMON.iter().chain(driver.own).copied().collect();
    let expected: BTreeMap<_, _> = expected.into_iter().filter(|(name, _)| !driver.lacks.contains(name)).collect();
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::start(
        Manifest::of(ALL.map(|mode| {
            let size = if mode == "transaction" { SHARED } else { OWN };
            modes::proxy(mode, &postgres.address()).set("pool.size", size)
        })),
        &secrets,
    );
    let direct = outcomes(driver, &postgres.address());
    assert_eq!(differing(&expected, &direct), "", "directly, so the program or the driver is at fault");
    for mode in ALL {
        let through = outcomes(driver, &gateway.address_of(mode));
        assert_eq!(differing(&expected, &through), "", "{mode}");
        gateway.expect_quiet(mode);
        assert!(gateway.metric("postern_desync_total", &[("proxy", mode)]).abs() < f64::EPSILON, "{mode}");
    }
    assert_eq!(pins(&gateway), driver.pins, "why connections stayed with their peers");
    gateway.ends_well();
}

/// What came of each behaviour of the program at this address.
#[track_caller]
fn outcomes(driver: &Driver, address: &Address) -> BTreeMap<String, String> {
    let program = (driver.command)();
    let mut command = owned("timeout");
    command.arg(PATIENCE).arg(program.get_program()).args(program.get_args());
    let (ok, said) = attempt(command.arg(format!("postgresql://postgres@{address}/postgres")));
    assert!(ok, "{program:?} failed: {said}");
    said.lines().filter_map(|line| line.split_once('\t')).map(|(name, what)| (name.into(), what.into())).collect()
}

/// A line for each behaviour that came to something else.
fn differing(expected: &BTreeMap<&str, &str>, outcomes: &BTreeMap<String, String>) -> String {
    let missing = expected.iter().filter(|(name, _)| !outcomes.contains_key(**name));
    let missing = missing.map(|(name, _)| format!("{name} did not run"));
    let other = outcomes.iter().filter(|(name, outcome)| expected.get(&***name) != Some(&&***outcome));
    let other = other.map(|(name, outcome)| {
        format!("{name}: {outcome:?} instead of {:?}", expected.get(&**name).unwrap_or(&"no such behaviour"))
    });
    missing.chain(other).collect::<Vec<_>>().join("\n")
}

/// Why connections stayed with their peers, in the order of the alphabet.
fn pins(gateway: &Gateway) -> Vec<&'static str> {
    let reasons = ["advisory_lock", "hold_cursor", "listen", "load", "long", "prepare", "set", "temporary"];
    let happened = |reason: &str| gateway.metric("postern_pins_total", &[("proxy", "transaction"), ("reason", reason)]);
    reasons.into_iter().filter(|reason| happened(reason) > 0.0).collect()
}
