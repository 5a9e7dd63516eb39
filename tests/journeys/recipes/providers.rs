//! What providers of PostgreSQL want to see, as far as it can be had here: a certificate of a private authority for the name
//! that is dialed, and Secrets as they are laid out.

use std::fs;
use std::process::Command;

use cast::process::{attempt, run};
use cast::{Folder, Gateway};

use crate::authority::{Authority, PASSWORD, Stage};
use crate::page::Recipe;

/// The user of the recipes.
const USER: &str = "orders";

/// A Secret with these keys.
fn put(secrets: &Folder, secret: &str, keys: &[(&str, &str)]) {
    fs::create_dir_all(secrets.join(secret)).unwrap();
    for (key, content) in keys {
        fs::write(secrets.join(secret).join(key), content).unwrap();
    }
}

/// The Secrets of the recipes, with this authority in one of them.
fn secrets(authorities: &str, authority: &Authority) -> Folder {
    let secrets = Folder::new("secrets");
    put(&secrets, "orders-login", &[("username", USER), ("password", PASSWORD)]);
    put(&secrets, authorities, &[("ca.crt", &authority.pem())]);
    secrets
}

/// A PostgreSQL that shows a certificate for this host, with the user of the recipes and their database.
fn provider(host: &str, user: &str, database: &str) -> Stage {
    let stage = Stage::set();
    stage.the_database_shows(&stage.authority, host);
    stage.postgres.query(&format!("create role {user} login password '{PASSWORD}'"));
    stage.postgres.query(&format!("create database {database} owner {user}"));
    stage
}

/// What is asked through the gateway as `user`: whether the gateway's own connection is encrypted, and as whom it came.
fn asked(gateway: &Gateway, user: &str, database: &str) -> (bool, String) {
    let sql =
        "select current_user || ' ' || current_database() || ' ' || ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let mut psql = cast::postgres::psql(&gateway.address_of("orders"));
    attempt(psql.args(["-U", user, "-d", database, "-c", sql]))
}

#[track_caller]
fn expect_served(gateway: &Gateway, user: &str, database: &str) {
    let (ok, said) = asked(gateway, user, database);
    assert!(ok, "{said}");
    assert_eq!(said.trim(), format!("{user} {database} true"));
}

/// The database is not believed, and the log says this.
#[track_caller]
fn expect_refused(gateway: Gateway, why: &str) {
    let line = gateway.says("The database");
    let error = line["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains(why), "{line}");
    gateway.ends_well();
}

#[test]
fn rds_is_believed_by_the_name_of_its_endpoint() {
    let recipe = || Recipe::of("Amazon RDS and Aurora");
    let host = recipe().host();
    let stage = provider(&host, USER, "orders");
    // Their bundle has many authorities; the right one is among them.
    let bundle: String = (0..120).map(|number| Authority::new(&format!("region {number}")).pem()).collect();
    let secrets = secrets("rds-ca", &stage.authority);
    put(&secrets, "rds-ca", &[("ca.crt", &format!("{bundle}{}", stage.authority.pem()))]);
    let gateway = recipe().expecting(&host).serve(&stage.postgres.address(), &secrets);
    expect_served(&gateway, USER, "orders");
    gateway.ends_well();
    // A name of one's own is in no certificate.
    let gateway = recipe().expecting("db.example").serve(&stage.postgres.address(), &secrets);
    expect_refused(gateway, "the database's certificate is not for \"db.example\" but for ");
    // Without the one authority the others vouch for nothing.
    put(&secrets, "rds-ca", &[("ca.crt", &bundle)]);
    let gateway = recipe().expecting(&host).serve(&stage.postgres.address(), &secrets);
    expect_refused(gateway, "is of an authority that ca.crt of Secret \"rds-ca\" does not have");
}

#[test]
fn cloud_sql_is_believed_by_its_own_authority_or_by_its_name() {
    // The name of an authority of the instance's own is none of a host.
    let stage = provider("project:instance", USER, "orders");
    let secrets = secrets("cloudsql-ca", &stage.authority);
    let own = || Recipe::nth("Google Cloud SQL", 0);
    let gateway = own().serve(&stage.postgres.address(), &secrets);
    expect_served(&gateway, USER, "orders");
    gateway.ends_well();
    stage.the_database_shows(&Authority::new("somebody else's instance"), "project:instance");
    expect_refused(own().serve(&stage.postgres.address(), &secrets), "is of an authority that ca.crt");
    // A shared authority vouches for other customers as well: only the name tells.
    let shared = || Recipe::nth("Google Cloud SQL", 1);
    stage.the_database_shows(&stage.authority, &shared().server_name().expect("the recipe names it"));
    let gateway = shared().serve(&stage.postgres.address(), &secrets);
    expect_served(&gateway, USER, "orders");
    gateway.ends_well();
    stage.the_database_shows(&stage.authority, "another.customer.europe-west3.sql.goog");
    expect_refused(shared().serve(&stage.postgres.address(), &secrets), "the database's certificate is not for");
}

#[test]
fn cloudnativepg_has_secrets_that_fit_as_they_are() {
    let recipe = Recipe::of("CloudNativePG");
    let host = recipe.host();
    let stage = provider(&host, "owner", "app");
    let secrets = Folder::new("secrets");
    let uri = format!("postgresql://app:{PASSWORD}@{host}:5432/app");
    let place = [
        ("host", &*host),
        ("port", "5432"),
        ("dbname", "app"),
        ("uri", &uri),
        ("jdbc-uri", "jdbc:..."),
        ("pgpass", "..."),
    ];
    put(
        &secrets,
        "orders-db-app",
        &[&[("username", "app"), ("user", "app"), ("password", PASSWORD)], &place[..]].concat(),
    );
    put(&secrets, "orders-db-ca", &[("ca.crt", &stage.authority.pem()), ("ca.key", "never read")]);
    let gateway = recipe.expecting(&host).serve(&stage.postgres.address(), &secrets);
    expect_served(&gateway, "app", "app");
    assert!(gateway.lines().iter().all(|line| !line.contains("never read") && !line.contains(PASSWORD)));
    gateway.ends_well();
}

#[test]
fn openssl_tells_which_names_a_certificate_has() {
    let stage = provider("db.example", USER, "orders");
    let address = stage.postgres.address();
    let page = crate::page::page().text;
    let line = page.lines().find_map(|line| line.split_once("`openssl s_client ")).expect("the page asks openssl").1;
    let command = line.split_once('`').expect("a command ends").0;
    let (before, after) = command.split_once("10.20.0.5:5432").expect("the recipe's address");
    let said = run(Command::new("sh").args(["-c", &format!("openssl s_client {before}{address}{after} 2>/dev/null")]));
    assert!(said.contains("DNS:db.example"), "{said}");
}
