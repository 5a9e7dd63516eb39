//! What `/state` says of a running gateway: what is so, to whoever is in the pod, and never more than fits.
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use cast::frontend::V3_0;
use cast::time::{comes_true, found};
use cast::wire::Address;
use cast::{Folder, Frontend, Gateway, Manifest, Namespace, Peer, Postgres, Proxy, Scripted};
use serde_json::{Value, json};

/// How long a change may take until it is told.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is told of the proxy `db`, once `is_so` of it.
#[track_caller]
fn told(gateway: &Gateway, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let reached = comes_true(PATIENCE, || {
        last = gateway.state()["proxies"][0].take();
        is_so(&last)
    });
    assert!(reached, "never told that {what}: {last:#}");
    last
}

/// How many of the list are in this state.
fn count(list: &Value, state: &str) -> usize {
    list.as_array().unwrap().iter().filter(|entry| entry["state"] == state).count()
}

#[test]
fn a_pool_is_told_as_it_is_with_who_has_a_client_and_who_waits() {
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()).set("pool.size", 2).set("pool.minIdle", 1));
    told(&gateway, "one is warm", |proxy| proxy["pool"]["idle"] == 1);
    let mut peers: Vec<_> = (0..2).map(|_| Peer::dial(&gateway.address())).collect();
    for peer in &mut peers {
        peer.echoes(b"hello");
    }
    let waiting = Peer::dial(&gateway.address());
    let proxy = told(&gateway, "one waits", |proxy| proxy["pool"]["waiting"] == 1);
    let pool = &proxy["pool"];
    assert_eq!(
        (&pool["size"], &pool["lent"], &pool["idle"], &pool["paused"]),
        (&json!(2), &json!(2), &json!(0), &json!(false))
    );
    assert_eq!(
        (&proxy["mode"], &proxy["network"], &proxy["maxPeers"]),
        (&json!("opaque"), &json!("tcp"), &json!(1000))
    );
    assert_eq!(
        (&proxy["sessions"], &proxy["sessionsListed"], &proxy["clientsListed"]),
        (&json!(3), &json!(3), &json!(2))
    );
    assert_eq!((count(&proxy["sessionList"], "active"), count(&proxy["sessionList"], "waiting")), (2, 1));
    assert_eq!(count(&proxy["clientList"], "lent"), 2);
    assert_eq!(proxy["address"], gateway.address().to_string());
    for session in proxy["sessionList"].as_array().unwrap() {
        assert_eq!((&session["user"], &session["application"]), (&Value::Null, &Value::Null), "{session}");
        let has_one = session["client"].is_u64();
        assert_eq!((has_one, &session["waits"]), (session["state"] == "active", &json!(!has_one)), "{session}");
    }
    for client in proxy["clientList"].as_array().unwrap() {
        assert_eq!(client["remote"], database.address().to_string());
    }
    told(&gateway, "the wait grows", |proxy| proxy["pool"]["longestWaitSeconds"].as_f64() > Some(0.2));
    drop((waiting, peers));
    let proxy = told(&gateway, "all have left", |proxy| proxy["sessions"] == 0 && proxy["pool"]["idle"] == 1);
    assert_eq!((&proxy["totals"]["sessions"], &proxy["totals"]["bytesToDatabase"]), (&json!(3), &json!(10)));
    assert_eq!((&proxy["sessionList"], &proxy["totals"]["dialsFailed"]), (&json!([]), &json!(0)));
}

#[test]
fn an_outage_is_told_with_its_cause_its_schedule_and_its_end() {
    let mut database = Scripted::echo();
    let address = database.address().to_string();
    let client = Proxy::to(database.address()).set("client.backoff", "500ms").set("client.retries", 1);
    let gateway = Gateway::start(client.set("pool.minIdle", 0).set("client.backoffMultiplier", 1));
    assert_eq!(told(&gateway, "nobody dialed", |_| true)["database"]["state"], "unknown");
    Peer::dial(&gateway.address()).echoes(b"hello");
    let up = told(&gateway, "it is up", |proxy| proxy["database"]["state"] == "up");
    let up = &up["database"];
    assert_eq!((&up["current"], &up["addresses"]), (&json!(address), &json!([address])));
    assert_eq!((&up["cause"], &up["retry"], &up["lastError"]), (&Value::Null, &Value::Null, &Value::Null));
    database.stop();
    let _waiting = Peer::dial(&gateway.address());
    let is_away = |proxy: &Value| proxy["database"]["state"] == "away" && proxy["database"]["retry"]["attempt"] == 1;
    let away = told(&gateway, "it is away", is_away);
    let retry = &away["database"]["retry"];
    assert_eq!((&retry["of"], &retry["round"], &retry["waits"]), (&json!(2), &json!(1), &json!([0.5])));
    assert!(retry["nextDialSeconds"].as_f64() <= Some(0.5), "{retry}");
    let cause = away["database"]["cause"].as_str().unwrap();
    assert!(cause.contains(&address) && cause.contains("refused"), "{cause}");
    assert_eq!(away["database"]["lastError"]["text"], cause);
    let down = told(&gateway, "it is down", |proxy| proxy["database"]["state"] == "down");
    let retry = &down["database"]["retry"];
    assert_eq!((&retry["round"], &retry["paceSeconds"]), (&json!(2), &json!(1.0)));
    assert!(down["totals"]["dialsFailed"].as_u64() >= Some(2), "{down}");
    database.start();
    let up = told(&gateway, "it is up again", |proxy| proxy["database"]["state"] == "up");
    assert_eq!((&up["database"]["cause"], &up["database"]["retry"]), (&Value::Null, &Value::Null));
    assert!(up["database"]["lastError"]["agoSeconds"].as_f64() >= Some(0.0), "{up}");
    let state = gateway.state();
    let events = state["events"].as_array().unwrap();
    let said = |text: &str| events.iter().position(|event| event["text"].as_str().unwrap().starts_with(text));
    let (away, back) = (said("The database is away"), said("Reconnected"));
    assert!(away.is_some() && away < back, "{events:?}");
    let event = &events[away.unwrap()];
    assert_eq!((&event["level"], &event["proxy"]), (&json!("warn"), &json!("db")));
}

/// A gateway that logs in to `postgres` itself.
#[track_caller]
fn managed(postgres: &Postgres, mode: &str) -> (Gateway, Folder) {
    let secrets = Folder::new("secrets");
    std::fs::create_dir(secrets.join("app")).unwrap();
    std::fs::write(secrets.join("app/username"), "postgres").unwrap();
    std::fs::write(secrets.join("app/password"), "xyzzy-planted").unwrap();
    let proxy = Proxy::to(&postgres.address()).set("protocol", "postgres").set("pool.mode", mode);
    let proxy = proxy.set("client.auth.secretName", "app").set("client.auth.database", "postgres");
    let folder: PathBuf = secrets.to_path_buf();
    (Gateway::with(proxy).told(&["--secrets", &folder.display().to_string()]).start(), secrets)
}

#[track_caller]
fn login(address: &Address) -> Frontend {
    let who = [("user", "postgres"), ("database", "postgres"), ("application_name", "shop")];
    Frontend::login_as(address, V3_0, &who).0
}

#[test]
fn a_peer_is_told_with_its_name_and_the_backend_that_serves_it() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let (gateway, _secrets) = managed(&postgres, mode);
        let mut peer = login(&gateway.address());
        let idle = told(&gateway, "it has asked nothing", |proxy| count(&proxy["sessionList"], "idle") == 1);
        let session = &idle["sessionList"][0];
        let who = [&session["user"], &session["database"], &session["application"]];
        assert_eq!((&idle["mode"], who), (&json!(mode), [&json!("postgres"), &json!("postgres"), &json!("shop")]));
        assert_eq!(session["client"].is_null(), mode == "transaction", "{session}");
        peer.ask("begin");
        let backend = peer.ask("select pg_backend_pid() as pid /* xyzzy-query */");
        let active = told(&gateway, "it has a client", |proxy| count(&proxy["sessionList"], "active") == 1);
        let (number, clients) = (&active["sessionList"][0]["client"], active["clientList"].as_array().unwrap());
        let client = clients.iter().find(|client| client["id"] == *number).unwrap();
        assert_eq!(client["state"], "lent", "{client}");
        assert!(backend.contains(&client["backendPid"].to_string()), "{client}\n{backend}");
        assert_eq!((&client["user"], &client["database"]), (&json!("postgres"), &json!("postgres")));
        peer.ask("commit");
        told(&gateway, "it has ended its transaction", |proxy| count(&proxy["sessionList"], "idle") == 1);
        peer.send(&cast::frontend::query("select pg_sleep(60)"));
        told(&gateway, "it asks something long", |proxy| count(&proxy["sessionList"], "active") == 1);
        drop(peer);
        let whole = gateway.get("/state").body;
        assert!(!whole.contains("xyzzy"), "{whole}");
    }
}

#[test]
fn several_workers_are_told_as_one() {
    let database = Scripted::echo();
    let proxy = Proxy::to(database.address()).set("pool.size", 5).set("pool.minIdle", 0).set("server.maxPeers", 20);
    let gateway = Gateway::start(Manifest::of([proxy]).set("workers", 2));
    let mut peers: Vec<_> = (0..6).map(|_| Peer::dial(&gateway.address())).collect();
    for peer in &mut peers {
        peer.echoes(b"hello");
    }
    let proxy = told(&gateway, "six are served", |proxy| proxy["pool"]["lent"] == 6);
    assert_eq!((&proxy["pool"]["size"], &proxy["maxPeers"], &proxy["sessions"]), (&json!(10), &json!(40), &json!(6)));
    for list in ["sessionList", "clientList"] {
        let mut ids: Vec<_> = proxy[list].as_array().unwrap().iter().map(|entry| entry["id"].as_u64()).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        ids.dedup();
        assert_eq!(ids.len(), 6, "no number is anybody else's: {ids:?}");
    }
    let state = gateway.state();
    assert_eq!((&state["workers"], &state["silentWorkers"], &state["draining"]), (&json!(2), &json!(0), &json!(false)));
    assert_eq!(state["config"], gateway.applied());
}

#[test]
fn no_more_is_listed_than_fits_and_who_waits_is_listed_first() {
    let database = Scripted::echo();
    let proxy = Proxy::to(database.address()).set("pool.size", 1050).set("pool.minIdle", 0);
    let gateway = Gateway::start(proxy.set("server.maxPeers", 2000).set("pool.maxWaiting", 2000));
    let mut peers: Vec<_> = (0..1100).map(|_| Peer::dial(&gateway.address())).collect();
    let proxy = told(&gateway, "all are here", |proxy| proxy["pool"]["lent"] == 1050 && proxy["sessions"] == 1100);
    assert_eq!((&proxy["sessionsListed"], &proxy["clientsListed"]), (&json!(1000), &json!(1000)));
    assert_eq!(proxy["sessionList"].as_array().unwrap().len(), 1000);
    assert_eq!(count(&proxy["sessionList"], "waiting"), 50);
    peers[0].echoes(b"hello");
}

/// The status that a question by this name from where `dial` dials is answered with.
fn status(mut stream: TcpStream, path: &str, host: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_browser_that_was_led_here_by_another_name_learns_nothing() {
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()));
    let dial = || TcpStream::connect(gateway.admin()).unwrap();
    for (host, expected) in [("localhost:1234", "200"), ("127.0.0.1", "200"), ("evil.example", "403")] {
        assert_eq!(status(dial(), "/state", host), expected, "{host}");
    }
    assert_eq!(status(dial(), "/metrics", "evil.example"), "200");
}

#[test]
fn another_host_learns_nothing_but_what_probes_and_scrapes_do() {
    let folder = Folder::new("state");
    let (near, far) = Namespace::pair();
    let at = near.ip();
    let proxy = Proxy::reaching("tcp", "127.0.0.1:9").listening_on(&Address::Unix(folder.join("peers.sock")));
    let manifest = Manifest::of([proxy]).set("admin.address", "0.0.0.0:0");
    let gateway = Gateway::with(manifest).on(near).start();
    let dial = || found("it is reached", || far.within(|| TcpStream::connect((at, gateway.admin().port())).ok()));
    for host in ["localhost".to_owned(), at.to_string()] {
        assert_eq!(status(dial(), "/state", &host), "403", "{host}");
        assert_eq!(status(dial(), "/livez", &host), "200", "{host}");
    }
}
