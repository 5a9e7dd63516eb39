//! An application whose part of the page is used as it is, through the page's gateway, before a real PostgreSQL.
//!
//! Its program makes its table, and at each line on its input has twenty sessions at one time write and read ten orders each,
//! and prints how many were right. It knows of the gateway what a pod's environment says: PGHOST and PGPORT.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use cast::postgres::psql;
use cast::process::{owned, run};
use cast::wire::Address;
use cast::{Folder, Gateway, Postgres, eventually};

use crate::page::Recipe;

/// What the Secret of the recipes has.
const PASSWORD: &str = "correct horse";
/// The sessions of an application.
const SESSIONS: f64 = 20.0;
/// The connections that they share, as the page says.
const SIZE: u32 = 10;
/// What a round comes to if all is right.
const RIGHT: &str = "200";
/// How long a round may take, or getting ready: a virtual machine for Java begins slowly on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// A program that runs.
struct Application {
    child: Child,
    input: Option<ChildStdin>,
    said: Receiver<String>,
}

/// What the page promises of each application.
#[track_caller]
pub(crate) fn check(program: &Command) {
    let mut postgres = database();
    let secrets = secrets();
    let gateway = Recipe::of("Applications").serve(&postgres.address(), &secrets);
    let mut application = Application::start(program, &gateway.address_of("orders"));
    assert_eq!(application.hears(), "ready");
    // A lock of the session, which some take while they make their table, keeps a connection until they have done.
    let kept = kept(&gateway);
    assert_eq!(application.asks(), RIGHT, "orders that were written and read");
    expect_shared(&gateway, &postgres, kept);
    // The database restarts: no session loses anything, and who asks meanwhile waits.
    postgres.stop();
    application.says();
    eventually("somebody waits for the database", || {
        gateway.metric("postern_pool_waiting", &[("proxy", "orders")]) > 0.0
    });
    postgres.start_again();
    assert_eq!(application.hears(), RIGHT, "orders while the database restarted");
    expect_shared(&gateway, &postgres, kept);
    let mut count = psql(&postgres.socket());
    let count = run(count.args(["-U", "postgres", "-d", "orders", "-c", "select count(*) from orders"]));
    assert_eq!(count.trim(), "400", "orders in the database");
    application.ends();
    gateway.expect_quiet("orders");
    gateway.ends_well();
}

/// More sessions than connections, none of which stays with its peer.
#[track_caller]
fn expect_shared(gateway: &Gateway, postgres: &Postgres, kept_before: f64) {
    let metric = |name| gateway.metric(name, &[("proxy", "orders")]);
    assert!(metric("postern_sessions") >= SESSIONS, "{} sessions", metric("postern_sessions"));
    let open = "select count(*) from pg_stat_activity where usename = 'orders'";
    let open: u32 = postgres.query(open).parse().unwrap();
    assert!(open <= SIZE, "{open} connections to the database");
    assert!((kept(gateway) - kept_before).abs() < f64::EPSILON, "connections stay with their peers");
    assert!(metric("postern_desync_total").abs() < f64::EPSILON, "a connection was in doubt");
}

/// How many connections have stayed with their peers.
fn kept(gateway: &Gateway) -> f64 {
    gateway.metric("postern_pins_total", &[("proxy", "orders")])
}

/// Who comes proves the password, as everywhere; only the gateway has it.
fn database() -> Postgres {
    let postgres = Postgres::start();
    postgres.query(&format!("create role orders login password '{PASSWORD}'"));
    postgres.query("create database orders owner orders");
    postgres.admit(&["host all all all scram-sha-256"]);
    postgres
}

fn secrets() -> Folder {
    let secrets = Folder::new("secrets");
    fs::create_dir(secrets.join("orders-login")).unwrap();
    fs::write(secrets.join("orders-login/username"), "orders").unwrap();
    fs::write(secrets.join("orders-login/password"), PASSWORD).unwrap();
    secrets
}

// === impl Application ===

impl Application {
    #[track_caller]
    fn start(program: &Command, gateway: &Address) -> Self {
        let Address::Tcp(gateway) = gateway else { panic!("the recipe listens on {gateway}") };
        let mut command = owned(program.get_program());
        command
            .args(program.get_args())
            .env("PGHOST", gateway.ip().to_string())
            .env("PGPORT", gateway.port().to_string());
        if let Some(folder) = program.get_current_dir() {
            command.current_dir(folder);
        }
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("cannot run {program:?}: {error}"));
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        let (lines, said) = channel();
        std::thread::spawn(move || {
            // Nobody hears the rest when the journey is over.
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        Self { child, input, said }
    }

    /// Has it begin a round.
    fn says(&mut self) {
        self.input.as_mut().expect("it has not ended").write_all(b"go\n").expect("it listens");
    }

    /// What it prints next.
    #[track_caller]
    fn hears(&self) -> String {
        self.said.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("the application says nothing: {error}"))
    }

    #[track_caller]
    fn asks(&mut self) -> String {
        self.says();
        self.hears()
    }

    /// Lets it end: its input is over.
    #[track_caller]
    fn ends(mut self) {
        drop(self.input.take());
        let status = self.child.wait().expect("it was started");
        assert!(status.success(), "the application ended with {status}");
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
