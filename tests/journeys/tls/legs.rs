//! The leg to the peer and the leg to the database, each encrypted or not, in each mode.

use cast::frontend::{Message, V3_0, transcript};
use cast::{Frontend, Manifest, Postgres, Proxy};

use crate::stage::{Authority, MODES, PASSWORD, Stage, to};

/// `client.tls.mode`, as libpq's `sslmode`.
const TO_DATABASE: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

fn named(mode: &str, is_encrypted: bool, to_database: &str) -> String {
    format!("{mode}-{}-{to_database}", if is_encrypted { "tls" } else { "plain" })
}

fn encrypting(proxy: Proxy, mode: &str) -> Proxy {
    let proxy = proxy.set("client.tls.mode", mode);
    if mode.starts_with("verify") { proxy.set("client.tls.secretName", "ca") } else { proxy }
}

#[test]
fn each_leg_is_encrypted_as_it_is_asked_to_be_in_every_mode() {
    let stage = Stage::set();
    let every = || {
        let legs = [false, true].into_iter().flat_map(|leg| TO_DATABASE.map(|to_database| (leg, to_database)));
        MODES.into_iter().flat_map(move |mode| legs.clone().map(move |(leg, to_database)| (mode, leg, to_database)))
    };
    let proxies = every().map(|(mode, is_encrypted, to_database)| {
        let proxy = encrypting(stage.proxy(mode), to_database).named(&named(mode, is_encrypted, to_database));
        let proxy = proxy.set("pool.minIdle", 0);
        if is_encrypted {
            proxy.set("server.tls.mode", "require").set("server.tls.secretName", "server")
        } else {
            proxy
        }
    });
    let gateway = stage.gateway(Manifest::of(proxies));
    let roots = stage.roots(&stage.authority);
    for (mode, is_encrypted, to_database) in every() {
        let proxy = named(mode, is_encrypted, to_database);
        let to_us =
            if is_encrypted { format!("sslmode=verify-full sslrootcert={roots}") } else { "sslmode=disable".into() };
        // Where the login passes over two certificates, it can be bound to neither.
        let is_unbound = mode == "passthrough" && is_encrypted && to_database != "disable";
        let binding = if is_unbound { "disable" } else { "prefer" };
        let words = format!("user=app {to_us} channel_binding={binding}");
        let sql = "select ssl, md5(string_agg(n::text, ',')) from pg_stat_ssl, generate_series(1, 20000) n \
                   where pid = pg_backend_pid() group by ssl";
        let said = stage.ask(&gateway.address_of(&proxy), &words, PASSWORD, sql);
        let encrypted = if to_database == "disable" { "f" } else { "t" };
        assert_eq!(said, (true, format!("{encrypted}|5f4f3335d00797d0daeb39ddc697fec7\n")), "{proxy}");
        if is_encrypted {
            let (ok, said) = stage.ask(&gateway.address_of(&proxy), "user=app sslmode=disable", PASSWORD, "select 1");
            assert!(!ok && said.contains("the gateway accepts encrypted connections only"), "{proxy}: {said}");
        }
        gateway.expect_quiet(&proxy);
    }
    gateway.ends_well();
}

/// What a peer of `proxy` is told, and by which SQLSTATE, that is not let in.
#[track_caller]
fn refused(stage: &Stage, proxy: Proxy) -> (String, String) {
    let gateway = stage.gateway(proxy.named("db").set("pool.acquireTimeout", "2s"));
    let who = [("user", "app"), ("database", "postgres")];
    let (_, said) = Frontend::login_as(&gateway.address(), V3_0, &who);
    let last = said.last().unwrap_or_else(|| panic!("nothing was said"));
    let code = last.sqlstate().unwrap_or_else(|| panic!("no error: {}", transcript(&said)));
    gateway.ends_well();
    (code, last.field(b'M').unwrap_or_default())
}

#[test]
fn a_database_that_is_not_who_it_should_be_is_refused_with_one_sentence() {
    let stage = Stage::set();
    let plain = Postgres::start();
    stage.put("other-ca", "ca.crt", &Authority::new("another").pem());
    for mode in MODES {
        let tls = |name: &str, secret: &str| {
            stage.proxy(mode).set("client.tls.mode", name).set("client.tls.secretName", secret)
        };
        let cases = [
            (tls("verify-full", "other-ca"), "is of an authority that ca.crt of Secret \"other-ca\" does not have"),
            (tls("verify-ca", "other-ca"), "is of an authority that ca.crt of Secret \"other-ca\" does not have"),
            (
                tls("verify-full", "ca").set("client.tls.serverName", "db.example"),
                "the database's certificate is not for \"db.example\" but for",
            ),
            (
                to(&plain.address(), mode).set("client.tls.mode", "require"),
                "the database does not offer TLS; set ssl = on there, or client.tls.mode to prefer or disable",
            ),
        ];
        for (proxy, expected) in cases {
            let (code, said) = refused(&stage, proxy);
            assert!(code == "57P03" && said.contains(expected), "{mode}: {code} {said}");
        }
        // Whoever does not ask for the name gets the same database.
        let lenient = tls("verify-ca", "ca").set("client.tls.serverName", "db.example").named("db");
        let gateway = stage.gateway(lenient);
        let said = stage.ask(&gateway.address(), "user=app sslmode=disable", PASSWORD, "select 'let in'");
        assert_eq!(said, (true, "let in\n".to_owned()), "{mode}");
        gateway.ends_well();
    }
    let preferring = to(&plain.address(), "passthrough").set("client.tls.mode", "prefer").named("db");
    let gateway = stage.gateway(preferring);
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let said = stage.ask(&gateway.address(), "user=postgres sslmode=disable", "", sql);
    assert_eq!(said, (true, "f\n".to_owned()));
    gateway.ends_well();
}

#[test]
fn a_client_certificate_logs_in_where_the_database_asks_for_one() {
    let stage = Stage::set();
    stage.put_login("app", "certified", "of no use");
    stage.put("client", "ca.crt", &stage.authority.pem());
    stage.put_identity("client", &stage.authority.vouches_for("certified"));
    for mode in MODES {
        let proxy = stage.proxy(mode).named("db").set("client.tls.mode", "verify-full");
        let gateway = stage.gateway(proxy.clone().set("client.tls.secretName", "client"));
        let said = stage.ask(&gateway.address(), "user=certified sslmode=disable", "", "select current_user");
        assert_eq!(said, (true, "certified\n".to_owned()), "{mode}");
        gateway.ends_well();
        let gateway = stage.gateway(proxy.set("client.tls.secretName", "ca"));
        let who = [("user", "certified"), ("database", "postgres")];
        let (_, said) = Frontend::login_as(&gateway.address(), V3_0, &who);
        let code = said.last().and_then(Message::sqlstate);
        assert_eq!(code.as_deref(), Some("28000"), "{mode}: {}", transcript(&said));
        gateway.ends_well();
    }
}
