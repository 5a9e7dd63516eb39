//! Streams of changes: they pass through where the peer logs in itself, and are refused where the gateway does.

use std::process::Command;

use cast::frontend::{Message, V3_0, transcript};
use cast::install::program;
use cast::process::run;
use cast::wire::Address;
use cast::{Folder, Frontend, Postgres};

use crate::modes::{self, MANAGED};

/// One of PostgreSQL's programs that connects to `address`, and never asks for a password.
fn tool(name: &str, address: &Address) -> Command {
    let Address::Tcp(address) = address else { panic!("{address} is no TCP address") };
    let mut command = Command::new(program(name));
    command.args([
        "-U",
        "postgres",
        "-w",
        "--no-loop",
        "-h",
        &address.ip().to_string(),
        "-p",
        &address.port().to_string(),
    ]);
    command
}

#[test]
fn streams_of_changes_pass_through_unchanged() {
    // pg_receivewal refuses servers that are newer than it is.
    let postgres = Postgres::of_the_system(&[("wal_level", "logical")]);
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    let address = gateway.address_of("passthrough");
    let folder = Folder::new("wal");
    let slot = ["--slot=physical", "--create-slot", "--if-not-exists"];
    run(tool("pg_receivewal", &address).args(slot));
    postgres.query("create table changes (what text); insert into changes values ('before')");
    let end = postgres.query("select pg_current_wal_lsn()");
    postgres.query("insert into changes values ('after')");
    let target = folder.display().to_string();
    run(tool("pg_receivewal", &address).args(["--slot=physical", "--endpos", &end, "-D", &target]));
    let mut segments =
        std::fs::read_dir(&*folder).unwrap().map(|segment| std::fs::read(segment.unwrap().path()).unwrap());
    let has_row = |segment: Vec<u8>| segment.windows(6).any(|window| window == b"before");
    assert!(segments.any(has_row), "the row is in no segment");

    let logical = ["-d", "postgres", "--slot=logical"];
    run(tool("pg_recvlogical", &address).args(logical).args(["--create-slot", "-P", "test_decoding"]));
    postgres.query("insert into changes select 'streamed ' || n from generate_series(1, 1000) n");
    let end = postgres.query("select pg_current_wal_insert_lsn()");
    postgres.query("insert into changes values ('more')");
    let changes = run(tool("pg_recvlogical", &address).args(logical).args(["--start", "-f", "-", "--endpos", &end]));
    assert!(changes.contains("'streamed 1'") && changes.contains("'streamed 1000'"), "{}", changes.len());
    gateway.expect_quiet("passthrough");
    gateway.ends_well();
}

#[test]
fn where_the_gateway_logs_in_streams_of_changes_are_refused_with_a_sentence() {
    let postgres = Postgres::start();
    let secrets = modes::secrets();
    let gateway = modes::gateway(&postgres, &secrets);
    let who = [("user", "postgres"), ("database", "postgres")];
    for mode in MANAGED {
        let address = gateway.address_of(mode);
        for value in ["true", "on", "1", "yes", "database"] {
            let (mut peer, said) = Frontend::login_as(&address, V3_0, &[&who[..], &[("replication", value)]].concat());
            assert_eq!(
                said.last().and_then(Message::sqlstate).as_deref(),
                Some("0A000"),
                "{mode}: {}",
                transcript(&said)
            );
            let sentence = said.last().and_then(|said| said.field(b'M')).unwrap_or_default();
            assert_eq!(sentence, "the gateway serves no replication where it logs in itself", "{mode}");
            assert!(peer.message().is_none(), "{mode}: the connection ends");
        }
        for value in ["false", "off", "0", "no", "False"] {
            let (mut peer, _) = Frontend::login_as(&address, V3_0, &[&who[..], &[("replication", value)]].concat());
            assert!(peer.ask("select 'served'").contains("served"), "{mode}: {value} is none");
        }
    }
    gateway.expect_metric("postern_desync_total", &[], 0.0);
    assert_eq!(postgres.query("select count(*) from pg_stat_activity where backend_type = 'walsender'"), "0");
    gateway.ends_well();
}
