//! What peers do wrong, and a database that says what nobody asked for.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use cast::backend;
use cast::frontend::query;
use cast::postgres::psql;
use cast::process::attempt;
use cast::wire::Wire;
use cast::{Folder, Frontend, Gateway, Postgres, Scripted};

use crate::modes;
use crate::pace::{Pace, Strikes};
use crate::site::{self, Site};

/// The mode of all pools here.
const MODE: &str = "transaction";

struct NotUnderstood {
    gateway: Gateway,
    _postgres: Postgres,
}

struct WrongPassword {
    gateway: Gateway,
    _postgres: Postgres,
    _secrets: Folder,
}

struct Desync {
    gateway: Gateway,
    strikes: Strikes,
    _database: Scripted,
    _secrets: Folder,
}

// === it speaks something else ===

pub(crate) fn not_understood() -> Box<dyn Site> {
    let postgres = Postgres::start();
    let gateway = Gateway::start(modes::proxy("passthrough", &postgres.address()));
    Box::new(NotUnderstood { gateway, _postgres: postgres })
}

impl Site for NotUnderstood {
    fn gateways(&self) -> Vec<SocketAddr> {
        vec![self.gateway.admin()]
    }

    fn go_on(&mut self, _: Pace) {
        let Ok(mut wire) = Wire::dial(&self.gateway.address_of("passthrough")) else { return };
        wire.read_within(Some(Duration::from_secs(10))).expect("a stream has timeouts");
        // It is turned away, with words or without.
        let _ = wire.write_all(b"GET /healthz HTTP/1.1\r\nHost: orders\r\n\r\n");
        let _ = wire.read_to_end(&mut Vec::new());
    }
}

// === it proves another password ===

pub(crate) fn wrong_password() -> Box<dyn Site> {
    let (postgres, secrets) = (Postgres::start(), modes::secrets());
    let proxy = modes::proxy(MODE, &postgres.address());
    let proxy = proxy.set("server.auth.mode", "scram").set("server.auth.secretName", "app");
    let gateway = site::gateway(proxy, &secrets);
    fs::write(secrets.join("app/password"), "correct").expect("our folder is writable");
    Box::new(WrongPassword { gateway, _postgres: postgres, _secrets: secrets })
}

impl Site for WrongPassword {
    fn gateways(&self) -> Vec<SocketAddr> {
        vec![self.gateway.admin()]
    }

    fn go_on(&mut self, _: Pace) {
        let mut psql = psql(&self.gateway.address_of(MODE));
        psql.args(["-U", "postgres", "-d", "postgres", "-c", "select 1"]).env("PGPASSWORD", "wrong");
        let (is_let_in, _) = attempt(&mut psql);
        assert!(!is_let_in, "a wrong password is let in");
    }
}

// === it is answered twice ===

pub(crate) fn desync() -> Box<dyn Site> {
    let database = Scripted::tcp(|mut wire| {
        if backend::first(&mut wire) != Some(backend::First::Session) {
            return;
        }
        // The gateway may have left.
        let _ = wire.write_all(&backend::welcome().concat());
        while let Some((tag, body)) = backend::heard(&mut wire) {
            let answer = backend::answer(tag, &body);
            let times = if body.starts_with(b"select 'twice'") { 2 } else { 1 };
            if wire.write_all(&answer.repeat(times)).is_err() {
                break;
            }
        }
    });
    let secrets = modes::secrets();
    let gateway = site::gateway(modes::proxy(MODE, database.address()), &secrets);
    Box::new(Desync { gateway, strikes: Strikes::default(), _database: database, _secrets: secrets })
}

impl Site for Desync {
    fn gateways(&self) -> Vec<SocketAddr> {
        vec![self.gateway.admin()]
    }

    fn go_on(&mut self, pace: Pace) {
        if self.strikes.is_due(pace) {
            let mut peer = Frontend::login(&self.gateway.address_of(MODE));
            peer.send(&query("select 'twice'"));
            peer.until_ready(1);
        }
    }
}
