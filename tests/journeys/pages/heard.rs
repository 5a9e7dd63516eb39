//! Sentences of `gateway/TROUBLESHOOTING.md` as psql and the log have them: each trouble is made, and what is heard of it is on
//! the page.

use std::process::Command;

use cast::loopback::free_address;
use cast::postgres::psql;
use cast::process::attempt;
use cast::{Folder, Gateway, Manifest, Page, Postgres, Process, Proxy, eventually};

/// A gateway that logs in to a database, and the Secret by which it does.
struct Stage {
    postgres: Postgres,
    secrets: Folder,
}

/// The page's quotations, of which `...` may be anything.
fn quotations() -> Vec<Vec<String>> {
    let page = Page::read("gateway/TROUBLESHOOTING.md");
    let quoted = page.text.lines().filter_map(|line| line.strip_prefix("> "));
    quoted.map(|line| line.split("...").map(|piece| piece.replace('"', "")).collect()).collect()
}

/// Whether the pieces follow one another in the text.
fn is_heard(pieces: &[String], text: &str) -> bool {
    let text = text.replace(['"', '\\'], "");
    pieces.iter().try_fold(&*text, |rest, piece| rest.split_once(&**piece).map(|(_, rest)| rest)).is_some()
}

/// What was heard has this in it, and the page quotes the sentence that it is of.
#[track_caller]
fn expect_quoted(heard: &str, what: &str) {
    assert!(heard.contains(what), "{what:?} was not heard, but: {heard}");
    let quoted = quotations().into_iter().find(|pieces| is_heard(pieces, heard) && pieces.concat().contains(what));
    assert!(quoted.is_some(), "the page does not quote what was heard: {heard}");
}

// === impl Stage ===

impl Stage {
    fn set() -> Self {
        let secrets = Folder::new("secrets");
        std::fs::create_dir(secrets.join("app")).unwrap();
        std::fs::write(secrets.join("app/username"), "postgres").unwrap();
        std::fs::write(secrets.join("app/password"), "wrong").unwrap();
        Self { postgres: Postgres::start(), secrets }
    }

    fn proxy(&self) -> Proxy {
        managed(Proxy::to(&self.postgres.address()))
    }

    #[track_caller]
    fn serve(&self, manifest: impl Into<Manifest>) -> Gateway {
        Gateway::with(manifest).told(&["--secrets", &self.secrets.display().to_string()]).start()
    }
}

fn managed(proxy: Proxy) -> Proxy {
    let proxy = proxy.set("protocol", "postgres").set("pool.mode", "transaction");
    proxy.set("client.auth.secretName", "app").set("client.auth.database", "postgres")
}

/// psql as this user, in its own words.
fn asks(gateway: &Gateway, user: &str) -> Command {
    let mut command = psql(&gateway.address());
    command.args(["-U", user, "-d", "postgres"]);
    command
}

/// What psql hears that fails.
#[track_caller]
fn hears(command: &mut Command) -> String {
    let (ok, heard) = attempt(command);
    assert!(!ok, "nothing went wrong: {heard}");
    heard
}

/// A psql in a transaction, for as long as it is kept.
#[track_caller]
fn in_a_transaction(gateway: &Gateway) -> Process {
    let psql = asks(gateway, "postgres");
    let mut command = Command::new(psql.get_program());
    command.args(psql.get_args()).args(["-c", "begin", "-c", "select 'begun'", "-c", "select pg_sleep(600)"]);
    let process = Process::start("a transaction", &mut command);
    eventually("the transaction has begun", || process.lines().iter().any(|line| line == "begun"));
    process
}

#[test]
fn what_peers_hear_who_have_no_connection() {
    let stage = Stage::set();
    let proxy = stage.proxy().set("pool.size", 1).set("pool.minIdle", 1).set("pool.acquireTimeout", "300ms");
    let gateway = stage.serve(proxy.set("server.maxPeers", 2));
    let _busy = in_a_transaction(&gateway);
    let heard = hears(asks(&gateway, "postgres").args(["-c", "select 1"]));
    expect_quoted(&heard, "are lent; raise pool.size or shorten the sessions");
    let other = stage.serve(stage.proxy().set("server.maxPeers", 1));
    let _one = in_a_transaction(&other);
    expect_quoted(&hears(asks(&other, "postgres").args(["-c", "select 1"])), "server.maxPeers allows no more");
    let nowhere = managed(Proxy::to(&free_address().into())).set("pool.acquireTimeout", "300ms");
    let gateway = stage.serve(nowhere);
    let heard = hears(asks(&gateway, "postgres").args(["-c", "select 1"]));
    expect_quoted(&heard, "the database is away, and did not come back within ");
    expect_quoted(&heard, "cannot connect to ");
    expect_quoted(&gateway.says("The database is away").to_string(), "The database is away; reconnecting");
}

#[test]
fn what_peers_hear_who_are_not_let_in() {
    let stage = Stage::set();
    let gateway = stage.serve(stage.proxy());
    let stranger = hears(asks(&gateway, "stranger").args(["-c", "select 1"]));
    expect_quoted(&stranger, "is not the one that this proxy logs in as");
    let replication =
        hears(psql(&gateway.address()).args(["-d", "user=postgres dbname=postgres replication=database"]));
    expect_quoted(&replication, "the gateway serves no replication where it logs in itself");
    // The database asks for the password, and the Secret has a wrong one.
    stage.postgres.query("create role asked login password 'right'");
    stage.postgres.admit(&["host all all all scram-sha-256"]);
    std::fs::write(stage.secrets.join("app/username"), "asked").unwrap();
    let gateway = stage.serve(stage.proxy());
    let refused = hears(asks(&gateway, "asked").args(["-c", "select 1"]));
    assert!(refused.contains("password authentication failed"), "{refused}");
    expect_quoted(&gateway.says("The database cannot").to_string(), "The database cannot be logged in to");
    std::fs::remove_file(stage.secrets.join("app/username")).unwrap();
    let heard = hears(asks(&gateway, "asked").args(["-c", "select 1"]));
    expect_quoted(&heard, "the gateway cannot log in: ");
    expect_quoted(&heard, "cannot read key ");
}

#[test]
fn what_peers_hear_whose_connection_ends() {
    let mut stage = Stage::set();
    let pause = ["-c", "\\! sleep 2", "-c", "select 1"];
    let gateway = stage.serve(stage.proxy().set("server.idleTimeout", "500ms"));
    let heard = hears(asks(&gateway, "postgres").args([&["-c", "select 1"], &pause[..]].concat()));
    expect_quoted(&heard, "idle for longer than server.idleTimeout");
    let gateway = stage.serve(stage.proxy().set("pool.idleTransactionTimeout", "500ms"));
    let heard = hears(asks(&gateway, "postgres").args([&["-c", "begin"], &pause[..]].concat()));
    expect_quoted(&heard, "idle for longer than pool.idleTransactionTimeout");
    let gateway = stage.serve(stage.proxy().set("client.receiveDeadline", "500ms"));
    let heard = hears(asks(&gateway, "postgres").args(["-c", "select pg_sleep(600)"]));
    expect_quoted(&heard, "the database answered nothing for longer than client.receiveDeadline");
    let gateway = stage.serve(stage.proxy());
    let lost = in_a_transaction(&gateway);
    stage.postgres.kill();
    let heard = || lost.lines().join("\n");
    eventually("the peer hears of it", || heard().contains("the connection to the database was lost"));
    expect_quoted(&heard(), "the connection to the database was lost");
}

#[test]
fn what_the_log_says_of_a_database_that_will_not_do() {
    let stage = Stage::set();
    let log = |proxy: Proxy| stage.serve(proxy.set("pool.minIdle", 1)).says("The database").to_string();
    let standby = log(stage.proxy().set("client.targetSessionAttrs", "standby"));
    expect_quoted(&standby, "is no server that will do: ");
    let bare = log(stage.proxy().set("client.tls.mode", "require"));
    expect_quoted(&bare, "the database does not offer TLS; set ssl = on there");
    let nameless = log(managed(Proxy::reaching("tcp", "no-such-database.invalid:5432")));
    expect_quoted(&nameless, "cannot resolve ");
}

#[test]
fn what_the_log_says_of_configurations() {
    let stage = Stage::set();
    let mut gateway = stage.serve(stage.proxy());
    gateway.edit_text("nonsense");
    expect_quoted(&gateway.says("Configuration refused").to_string(), "Configuration refused; the last one stays");
    let taken = Gateway::with(stage.proxy().listening_on(&gateway.address()));
    let taken = taken.told(&["--secrets", &stage.secrets.display().to_string()]).end();
    expect_quoted(&taken.lines.join("\n"), "cannot listen on ");
    let unknown = Gateway::with(stage.proxy().set("client.auth.secretName", "nobody")).end();
    expect_quoted(&unknown.lines.join("\n"), "a pod gets the Secrets that its configuration named at its start");
}
