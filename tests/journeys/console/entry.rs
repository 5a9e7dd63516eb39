//! Who is let in to the console, and how a real database of that name is reached.

use cast::frontend::{V3_0, transcript};
use cast::process::{attempt, run};
use cast::time::found;
use cast::wire::Address;
use cast::{Folder, Frontend, Gateway, Manifest, Namespace, Postgres, Proxy};

use crate::stage::{PASSWORD, Stage, managed, psql};

#[test]
fn the_console_asks_for_the_password_that_the_proxy_asks_for() {
    let scram = |proxy: Proxy| proxy.set("server.auth.mode", "scram").set("server.auth.secretName", "app");
    let stage = Stage::of("transaction", scram);
    let said = run(stage.psql().env("PGPASSWORD", PASSWORD).args(["-c", "SHOW VERSION"]));
    assert!(said.contains("Postern"), "{said}");
    let (is_in, said) = attempt(stage.psql().env("PGPASSWORD", "guessed").args(["-c", "SHOW VERSION"]));
    assert!(!is_in && said.contains("password authentication failed"), "{said}");
    stage.gateway.expect_metric("postern_auth_failures_total", &[], 1.0);
}

#[test]
fn whoever_is_believed_must_be_the_user_of_the_secret() {
    let stage = Stage::of("session", |proxy| proxy);
    let mut stranger = cast::postgres::psql(&stage.address());
    let (is_in, said) = attempt(stranger.args(["-U", "stranger", "-d", "postern", "-c", "SHOW POOLS"]));
    assert!(!is_in && said.contains("is not the one that this proxy logs in as"), "{said}");
}

#[test]
fn a_database_of_that_name_is_reached_where_there_is_no_console_or_one_of_another_name() {
    let postgres = Postgres::start();
    postgres.query("create database postern");
    let proxies = [
        Proxy::to(&postgres.address()).named("passthrough").set("protocol", "postgres"),
        Proxy::to(&postgres.address()).named("asked").set("protocol", "postgres").set("server.console", "postern"),
        managed(&postgres.address(), "session").named("none").set("server.console", ""),
        managed(&postgres.address(), "session").named("other").set("server.console", "pgbouncer"),
        managed(&postgres.address(), "session").named("default"),
    ];
    let stage = Stage::with(postgres, Manifest::of(proxies));
    let answers = |proxy: &str, database: &str, asked: &str| {
        attempt(psql(&stage.gateway.address_of(proxy), database).args(["-c", asked]))
    };
    for proxy in ["passthrough", "none", "other"] {
        let (is_done, said) = answers(proxy, "postern", "select current_database()");
        assert!(is_done && said.trim() == "postern", "{proxy}: {said}");
    }
    for (proxy, database) in [("asked", "postern"), ("other", "pgbouncer"), ("default", "postern")] {
        let (is_done, said) = answers(proxy, database, "SHOW VERSION");
        assert!(is_done && said.contains("Postern"), "{proxy}: {said}");
    }
}

#[test]
fn a_console_is_for_no_other_host() {
    let folder = Folder::new("console");
    let secrets = folder.join("secrets/app");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("username"), "postgres").unwrap();
    std::fs::write(secrets.join("password"), PASSWORD).unwrap();
    let (near, far) = Namespace::pair();
    let at = near.ip();
    let proxy = managed(&Address::Tcp("127.0.0.1:9".parse().unwrap()), "session");
    let proxy = proxy.set("server.address", "0.0.0.0:5432").set("pool.minIdle", 0);
    let proxy = proxy.set("server.auth.mode", "scram").set("server.auth.secretName", "app");
    let told = ["--secrets", &folder.join("secrets").display().to_string()].map(str::to_owned);
    let _gateway = Gateway::with(proxy).told(&told.each_ref().map(String::as_str)).on(near).start();
    let ask = || {
        let who = [("user", "postgres"), ("database", "postern")];
        let address = Address::Tcp((at, 5432).into());
        found("it is reached", || far.within(|| Frontend::try_dial(&address).ok()));
        far.within(|| transcript(&Frontend::login_as(&address, V3_0, &who).1))
    };
    let said = ask();
    assert!(said.contains("28000") && said.contains("same pod"), "{said}");
}
