//! `server.auth.mode: scram`: peers prove the password of a Secret.

use cast::frontend::{V3_0, V3_2, query, startup, transcript};
use cast::process::{attempt, run};
use cast::wire::Address;
use cast::{Frontend, Gateway, Manifest, Proxy, eventually};

use crate::stage::{MODES, PASSWORD, Stage};

/// The modes in which the gateway logs in itself.
const MANAGED: [&str; 2] = [MODES[1], MODES[2]];
/// The password of `shop`, whom only the gateway knows.
const FRONT: &str = "vorne-Anders-7";

/// A proxy that asks for name and password of the Secret `front`.
fn asking(proxy: Proxy) -> Proxy {
    proxy.set("server.auth.mode", "scram").set("server.auth.secretName", "front")
}

fn stage() -> Stage {
    let stage = Stage::set();
    stage.put_login("front", "shop", FRONT);
    stage
}

/// Proxies of both modes over TCP (with TLS for those who want it), and one over a Unix socket.
fn gateway(stage: &Stage) -> Gateway {
    let tls = |proxy: Proxy| proxy.set("server.tls.mode", "allow").set("server.tls.secretName", "server");
    let socket = Address::Unix(stage.secrets.join(".s.PGSQL.5999"));
    let unix = asking(stage.proxy("session")).named("unix").listening_on(&socket);
    let proxies = MANAGED.map(|mode| tls(asking(stage.proxy(mode))).set("pool.minIdle", 0)).into_iter().chain([unix]);
    stage.gateway(Manifest::of(proxies).set("log.level", "trace"))
}

/// Each way in: the proxy, and what `psql` is told of it.
fn ways(stage: &Stage) -> [(&'static str, String); 9] {
    let roots = stage.roots(&stage.authority);
    [
        ("session", "sslmode=disable".into()),
        ("transaction", "sslmode=disable".into()),
        ("unix", String::new()),
        ("session", "sslmode=require channel_binding=disable".into()),
        ("session", "sslmode=require channel_binding=prefer".into()),
        ("session", "sslmode=require channel_binding=require".into()),
        ("session", "sslmode=require channel_binding=require ssl_max_protocol_version=TLSv1.2".into()),
        ("session", format!("sslmode=verify-full sslrootcert={roots} channel_binding=require")),
        ("transaction", format!("sslmode=verify-full sslrootcert={roots} channel_binding=require")),
    ]
}

#[test]
fn who_proves_the_password_is_let_in_and_nobody_else_by_any_way() {
    let stage = stage();
    let gateway = gateway(&stage);
    for (proxy, words) in ways(&stage) {
        let address = gateway.address_of(proxy);
        let ask = |user: &str, password: &str| {
            stage.ask(&address, &format!("user={user} {words}"), password, "select current_user, 'let in'")
        };
        let failures = || gateway.metric("postern_auth_failures_total", &[("proxy", proxy)]);
        let before = failures();
        // The database sees whom the gateway logs in as.
        assert_eq!(ask("shop", FRONT), (true, "app|let in\n".to_owned()), "{proxy} {words}");
        assert!((failures() - before).abs() < f64::EPSILON, "{proxy} {words}");
        for (user, password) in [("shop", "vorne-anders-7"), ("nobody", FRONT), ("app", PASSWORD)] {
            let (ok, said) = ask(user, password);
            let expected = format!("FATAL:  password authentication failed for user \"{user}\"\nHINT:  User name");
            assert!(!ok && said.contains(&expected), "{proxy} {words}: {said}");
        }
        gateway.expect_metric("postern_auth_failures_total", &[("proxy", proxy)], before + 3.0);
        gateway.expect_quiet(proxy);
    }
    let (ok, said) = stage.ask(
        &gateway.address_of("session"),
        "user=shop sslmode=disable channel_binding=require",
        FRONT,
        "select 1",
    );
    assert!(!ok && said.contains("channel binding required"), "{said}");
    // Whoever asks its user for the password first has failed nothing.
    let failed = gateway.metric("postern_auth_failures_total", &[("proxy", "session")]);
    let (ok, said) =
        attempt(stage.psql(&gateway.address_of("session"), "user=shop", "").env_remove("PGPASSWORD").arg("-w"));
    assert!(!ok && said.contains("no password supplied"), "{said}");
    gateway.expect_quiet("session");
    gateway.expect_metric("postern_auth_failures_total", &[("proxy", "session")], failed);
    nothing_is_told(&gateway);
    gateway.ends_well();
}

/// Neither passwords nor proofs are in the log, which is at its most talkative, nor in what can be asked for.
#[track_caller]
fn nothing_is_told(gateway: &Gateway) {
    let told = [gateway.lines().join("\n"), gateway.get("/metrics").body, gateway.get("/config").body].concat();
    for secret in [FRONT, "vorne-anders", PASSWORD, ",p="] {
        assert!(!told.contains(secret), "{secret} is told");
    }
    assert!(told.contains("password authentication failed for user"), "the log says who was refused");
}

#[test]
fn every_connection_of_pgbench_proves_the_password() {
    let stage = stage();
    let gateway = gateway(&stage);
    let script = stage.secrets.join("script.sql");
    std::fs::write(&script, "select 1;\n").unwrap();
    for (proxy, words) in ways(&stage) {
        let mut command = stage.postgres.pgbench_at(&gateway.address_of(proxy));
        command.args(["-n", "-C", "-c", "4", "-t", "10", "-U", "shop", "-f"]).arg(&script);
        command.env("PGPASSWORD", FRONT).env("HOME", &*stage.secrets);
        for (name, key) in [
            ("PGSSLMODE", "sslmode="),
            ("PGCHANNELBINDING", "channel_binding="),
            ("PGSSLROOTCERT", "sslrootcert="),
            ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version="),
        ] {
            command.envs(words.split_whitespace().find_map(|word| word.strip_prefix(key)).map(|value| (name, value)));
        }
        let report = run(&mut command);
        assert!(report.contains("actually processed: 40/40"), "{proxy} {words}: {report}");
    }
    gateway.ends_well();
}

#[test]
fn a_peer_holds_no_client_until_it_has_proved_its_password() {
    let stage = stage();
    let gateway = stage.gateway(asking(stage.proxy("session")).set("pool.size", 1).set("pool.minIdle", 0));
    let address = gateway.address_of("session");
    let mut hanging: Vec<_> = (0..8)
        .map(|_| {
            let mut peer = Frontend::dial(&address);
            peer.send(&startup(V3_0, &[("user", "shop"), ("database", "postgres")]));
            let asked = peer.message().unwrap();
            assert_eq!((asked.tag, &asked.body[..]), (b'R', &b"\0\0\0\x0aSCRAM-SHA-256\0\0"[..]));
            peer
        })
        .collect();
    for state in ["idle", "lent", "dialing"] {
        assert!(gateway.metric("postern_pool_clients", &[("state", state)]).abs() < f64::EPSILON, "{state}");
    }
    assert!(gateway.metric("postern_pool_waiting", &[]).abs() < f64::EPSILON);
    assert_eq!(stage.ask(&address, "user=shop", FRONT, "select 'served'"), (true, "served\n".to_owned()));
    // What they say instead is refused, and is seen by nobody else.
    for peer in &mut hanging {
        peer.send(&query("select 'injected'"));
        let said = peer.until_end();
        assert_eq!(
            said.last().and_then(cast::frontend::Message::sqlstate).as_deref(),
            Some("08P01"),
            "{}",
            transcript(&said)
        );
    }
    assert!(stage.postgres.query("select count(*) from pg_stat_activity where query like '%injec' || 'ted%'") == "0");
    gateway.expect_quiet("session");
    gateway.ends_well();
}

#[test]
fn the_protocol_is_negotiated_before_the_password_is_asked_for() {
    let stage = stage();
    let gateway = stage.gateway(asking(stage.proxy("session")));
    let mut peer = Frontend::dial(&gateway.address_of("session"));
    peer.send(&startup(V3_2, &[("user", "shop"), ("_pq_.strange", "1")]));
    let tags = [peer.message().unwrap().tag, peer.message().unwrap().tag];
    assert_eq!(tags, [b'v', b'R']);
    drop(peer);
    gateway.ends_well();
}

#[test]
fn a_rotated_secret_is_asked_for_at_once_and_sessions_stay() {
    let stage = stage();
    let gateway = stage.gateway(asking(stage.proxy("session")));
    let address = gateway.address_of("session");
    let ask = |user: &str, password: &str| stage.ask(&address, &format!("user={user}"), password, "select 'let in'");
    let stays = cast::process::Process::start(
        "psql",
        cast::process::owned(cast::install::program("psql"))
            .args(stage.psql(&address, "user=shop", FRONT).get_args())
            .args(["-c", "select 'here'", "-c", "select pg_sleep(600)"])
            .env("PGPASSWORD", FRONT),
    );
    eventually("it is in", || stays.lines().concat().contains("here"));
    for (password, old) in [("zweitens", FRONT), ("drittens", "zweitens")] {
        stage.put_login("front", "shop", password);
        assert!(!ask("shop", old).0, "{old}");
        assert_eq!(ask("shop", password), (true, "let in\n".to_owned()));
    }
    stage.put_login("front", "laden", "drittens");
    assert!(!ask("shop", "drittens").0);
    assert!(ask("laden", "drittens").0);
    // A Secret that is of no use lets nobody in, and does not say where it is.
    stage.put("front", "password", "");
    let (ok, said) = ask("laden", "drittens");
    assert!(!ok && said.contains("cannot tell whether a password is right") && !said.contains("front"), "{said}");
    stage.put("front", "password", "drittens");
    assert!(ask("laden", "drittens").0);
    let sleeping = "select count(*) from pg_stat_activity where query like 'select pg_sleep(600)%'";
    assert_eq!(stage.postgres.query(sleeping), "1");
    drop(stays);
    gateway.ends_well();
}
