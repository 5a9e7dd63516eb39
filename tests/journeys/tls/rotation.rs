//! Certificates are replaced while sessions live.

use cast::{Frontend, Process, eventually};

use crate::stage::{Authority, MODES, PASSWORD, Stage};

/// A `psql` that has a session and keeps it.
fn staying(stage: &Stage, address: &cast::wire::Address, words: &str) -> Process {
    let mut command = cast::process::owned(cast::install::program("psql"));
    command.args(stage.psql(address, words, PASSWORD).get_args()).env("PGPASSWORD", PASSWORD);
    command.args(["-c", "select 'here'", "-c", "select pg_sleep(600)"]);
    let process = Process::start("psql", &mut command);
    eventually("it is in", || process.lines().concat().contains("here"));
    process
}

#[test]
fn a_certificate_is_replaced_towards_peers_and_sessions_stay() {
    for mode in MODES {
        let stage = Stage::set();
        let proxy = stage.proxy(mode).named("db").set("server.tls.mode", "require");
        let gateway = stage.gateway(proxy.set("server.tls.secretName", "server"));
        let words =
            |authority: &Authority| format!("user=app sslmode=verify-full sslrootcert={}", stage.roots(authority));
        let (ours, next) = (&stage.authority, Authority::new("next"));
        let stays = staying(&stage, &gateway.address(), &words(ours));
        stage.put_identity("server", &next.vouches_for("127.0.0.1"));
        let ask = |authority| stage.ask(&gateway.address(), &words(authority), PASSWORD, "select 'let in'");
        assert_eq!(ask(&next), (true, "let in\n".to_owned()), "{mode}");
        assert!(!ask(ours).0, "{mode}: the old certificate is still shown");
        let sleeping = "select count(*) from pg_stat_activity where query like 'select pg_sleep(600)%'";
        assert_eq!(stage.postgres.query(sleeping), "1", "{mode}");
        drop(stays);
        gateway.ends_well();
    }
}

#[test]
fn an_authority_is_replaced_towards_the_database_and_sessions_stay() {
    for mode in MODES {
        let stage = Stage::set();
        let host = match stage.postgres.address() {
            cast::wire::Address::Tcp(address) => address.ip().to_string(),
            cast::wire::Address::Unix(_) => unreachable!("it listens on TCP"),
        };
        let proxy = stage.proxy(mode).named("db").set("pool.minIdle", 0).set("pool.acquireTimeout", "1s");
        let proxy = proxy.set("client.tls.mode", "verify-full").set("client.tls.secretName", "ca");
        let gateway = stage.gateway(proxy);
        let stays = staying(&stage, &gateway.address(), "user=app sslmode=disable");
        let next = Authority::new("next");
        stage.the_database_shows(&next, &host);
        // Until the Secret follows, new connections are refused, and it is said why.
        eventually("the database shows its new certificate", || {
            let (_, said) = Frontend::login_as(
                &gateway.address(),
                cast::frontend::V3_0,
                &[("user", "app"), ("database", "postgres")],
            );
            said.last()
                .is_some_and(|last| last.field(b'M').is_some_and(|said| said.contains("of an authority that ca.crt")))
        });
        stage.put("ca", "ca.crt", &next.pem());
        let ask = || stage.ask(&gateway.address(), "user=app sslmode=disable", PASSWORD, "select 'let in'");
        eventually("the new authority counts", || ask() == (true, "let in\n".to_owned()));
        let sleeping = "select count(*) from pg_stat_activity where query like 'select pg_sleep(600)%'";
        assert_eq!(stage.postgres.query(sleeping), "1", "{mode}");
        drop(stays);
        gateway.ends_well();
    }
}
