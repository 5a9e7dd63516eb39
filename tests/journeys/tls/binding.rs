//! Channel binding of a login that passes through: where it cannot work, the peer is told what to do.

use cast::{Manifest, eventually};

use crate::stage::{PASSWORD, Stage};

#[test]
fn a_login_that_cannot_be_bound_to_a_certificate_is_refused_with_what_to_do() {
    let stage = Stage::set();
    let proxy = stage.proxy("passthrough").set("server.tls.mode", "allow").set("server.tls.secretName", "server");
    let encrypted = proxy.clone().named("encrypted").set("client.tls.mode", "require");
    let gateway = stage.gateway(Manifest::of([encrypted, proxy.named("plain")]));
    let ask = |proxy: &str, words: &str, password: &str| {
        stage.ask(&gateway.address_of(proxy), &format!("user=app {words}"), password, "select 'let in'")
    };
    let let_in = (true, "let in\n".to_owned());
    // Bound to the gateway's certificate, or believing that the database cannot bind: it can, to its own.
    for binding in ["require", "prefer"] {
        let (ok, said) = ask("encrypted", &format!("sslmode=require channel_binding={binding}"), PASSWORD);
        let tells =
            said.contains("FATAL:  SCRAM channel binding") && said.contains("Connect with channel_binding=disable");
        assert!(!ok && tells, "{binding}: {said}");
    }
    assert_eq!(ask("encrypted", "sslmode=require channel_binding=disable", PASSWORD), let_in);
    // Without TLS to the gateway nothing is offered that needs it.
    assert_eq!(ask("encrypted", "sslmode=disable", PASSWORD), let_in);
    // Without TLS to the database there is nothing to bind to.
    for words in ["sslmode=require", "sslmode=disable"] {
        assert_eq!(ask("plain", words, PASSWORD), let_in, "{words}");
    }
    for (proxy, words) in [
        ("encrypted", "sslmode=disable"),
        ("encrypted", "sslmode=require channel_binding=disable"),
        ("plain", "sslmode=require"),
    ] {
        let (ok, said) = ask(proxy, words, "falsch");
        let is_clear = said.contains("password authentication failed for user \"app\"") && !said.contains("HINT");
        assert!(!ok && is_clear, "{proxy} {words}: {said}");
    }
    gateway.ends_well();
}

#[test]
fn a_login_is_bound_through_the_gateway_where_it_shows_the_databases_own_certificate() {
    let stage = Stage::set();
    let shared = stage.authority.vouches_for("127.0.0.1");
    stage.put_identity("server", &shared);
    stage.the_database_has(&shared);
    let proxy = stage.proxy("passthrough").named("db").set("client.tls.mode", "require");
    let gateway = stage.gateway(proxy.set("server.tls.mode", "allow").set("server.tls.secretName", "server"));
    let words = "user=app sslmode=require channel_binding=require";
    eventually("the database shows the shared certificate, and psql is let in", || {
        stage.ask(&gateway.address(), words, PASSWORD, "select 'let in'") == (true, "let in\n".to_owned())
    });
    gateway.ends_well();
}
