//! PgBouncer's exporter, as Debian has it, at our console.

use std::io::{Read, Write};
use std::net::TcpStream;

use cast::install::program;
use cast::loopback::free_address;
use cast::process::{Process, owned};
use cast::time::found;

use crate::stage::Stage;

#[test]
fn the_exporter_of_debian_finds_its_metrics() {
    // It asks for this database, and cannot be told another.
    let stage = Stage::of("transaction", |proxy| proxy.set("server.console", "pgbouncer").set("pool.size", 7));
    let mut peer = stage.peer();
    (0..5).for_each(|_| drop(peer.ask("select 1")));
    let at = free_address();
    let cast::wire::Address::Tcp(gateway) = stage.address() else { panic!("it listens on TCP") };
    let mut command = owned(program("prometheus-pgbouncer-exporter"));
    command.args(["--host", &at.ip().to_string(), "--port", &at.port().to_string()]);
    command.args(["--pgbouncer-host", &gateway.ip().to_string(), "--pgbouncer-port", &gateway.port().to_string()]);
    command.args(["--pgbouncer-user", "postgres"]);
    let _exporter = Process::start("the exporter", &mut command);
    let scrape = || {
        let mut stream = TcpStream::connect(at).ok()?;
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.contains("200 OK").then_some(answer)
    };
    let metrics = found("the exporter answers", scrape);
    let line = |name: &str| {
        let found = metrics.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
        found.unwrap_or_else(|| panic!("no {name}:\n{metrics}")).to_owned()
    };
    for (name, value) in [
        ("pgbouncer_requests_total{database=\"db\"}", "5.0"),
        ("pgbouncer_pool_size{database=\"postgres\"}", "7.0"),
        ("pgbouncer_waiting_clients{database=\"db\",user=\"postgres\"}", "0.0"),
        ("pgbouncer_active_clients{database=\"db\",user=\"postgres\"}", "2.0"),
        ("pgbouncer_databases", "1.0"),
        ("pgbouncer_used_clients", "2.0"),
    ] {
        assert_eq!(line(name).rsplit(' ').next(), Some(value), "{name}");
    }
    assert!(line("pgbouncer_received_bytes_total{database=\"db\"}").ends_with(".0"));
}
