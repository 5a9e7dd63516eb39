//! What is made of each error that a gateway can have with its database.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::kubectl::live::{LastError, Pool};

fn held() -> Held {
    let auth = json!({ "secretName": "orders-db" });
    let client = json!({ "addresses": ["db:5433", "db-1.example.com:5432"], "auth": auth });
    let proxies = json!([{ "name": "billing" }, { "name": "orders", "protocol": "postgres", "client": client }]);
    let config = json!({ "metadata": { "name": "orders", "namespace": "shop" }, "spec": { "proxies": proxies } });
    serde_json::from_value(config).expect("a configuration")
}

fn namespace(service: Option<Service>) -> Namespace {
    Namespace {
        name: "shop".into(),
        labels: Ok(BTreeMap::new()),
        configs: vec![held()],
        delivered: Ok(BTreeMap::new()),
        secrets: BTreeMap::new(),
        services: BTreeMap::from([("db".to_owned(), Ok(service))]),
        service_names: vec!["cache".into(), "database".into()],
    }
}

/// What is said of an error while this Service is there.
fn said(cause: &str, service: Option<Service>) -> String {
    let database = json!({ "state": "away", "cause": cause, "retry": { "nextDialSeconds": 3.1 } });
    let proxy: live::Proxy =
        serde_json::from_value(json!({ "name": "orders", "database": database })).expect("a proxy");
    let advice = advice(&proxy, &held(), &namespace(service));
    assert!(advice.len() == 1 && advice[0].is_problem(), "{advice:?}");
    format!("{}: {}", advice[0].reason, advice[0].sentence)
}

fn service(port: u16, ready: usize) -> Service {
    Service { name: "db in namespace shop".into(), ports: vec![port], is_without_ports: false, ready }
}

#[test]
fn each_error_is_told_with_what_mends_it() {
    let refused = "cannot connect to 10.1.2.3:5433: Connection refused (os error 111)";
    let login = |said: &str| format!("10.1.2.3:5433 refused the login: FATAL: {said}");
    let edit = "spec.proxies[1].client.addresses: kubectl edit gatewayconfig orders -n shop";
    for (cause, service, parts) in [
        (
            "cannot resolve db:5433: no address",
            None,
            vec!["DatabaseUnresolved: ", "no Service \"db\"", "has cache, database", edit],
        ),
        (
            "cannot resolve db:5433: no address",
            Some(service(5433, 1)),
            vec!["DatabaseUnresolved: ", edit, "or the name service"],
        ),
        (refused, Some(service(5432, 1)), vec!["DatabasePort: ", "has no port 5433, but 5432", edit]),
        (refused, Some(service(5433, 0)), vec!["DatabaseDown: ", "has no ready endpoint", "start the database's pods"]),
        (refused, Some(service(5433, 1)), vec!["DatabaseDown: ", "start the database", "dialed again in 3.1 s"]),
        (refused, None, vec!["DatabaseDown: ", "start the database"]),
        ("no answer from db:5433 within 1s", None, vec!["DatabaseSilent: ", "NetworkPolicy", edit]),
        (
            "cannot encrypt the connection to db:5433: the database does not offer TLS; set ssl = on there",
            None,
            vec!["DatabaseTls: ", "set ssl = on there", "spec.proxies[1].client.tls of GatewayConfig orders"],
        ),
        ("cannot log in to db:5433: it hangs up", None, vec!["DatabaseAway: ", "it hangs up"]),
        (
            &login("password authentication failed for user \"app\" (28P01)"),
            None,
            vec!["DatabaseLogin: ", "Secret \"orders-db\"", "kubectl edit secret orders-db -n shop"],
        ),
        (&login("database \"x\" does not exist (3D000)"), None, vec!["DatabaseLogin: ", "client.auth.database"]),
        (&login("sorry, too many clients already (53300)"), None, vec!["DatabaseFull: ", "lower pool.size"]),
    ] {
        let said = said(cause, service);
        for part in parts.into_iter().chain([cause]) {
            assert!(said.contains(part), "{part:?} is missing: {said}");
        }
    }
}

#[test]
fn who_waits_is_told_for_what() {
    let mut proxy = live::Proxy { name: "orders".into(), mode: "session".into(), ..live::Proxy::default() };
    proxy.database.state = "up".into();
    proxy.pool = Pool { size: 2, lent: 2, waiting: 3, longest_wait_seconds: 4.0, ..Pool::default() };
    let sentence = |proxy: &live::Proxy| advice(proxy, &held(), &namespace(None)).pop().map(|advice| advice.sentence);
    let full = sentence(&proxy).expect("somebody waits");
    for part in ["3 peers wait", "the longest for 4 s", "all 2 of its connections", "raise spec.proxies[1].pool.size"] {
        assert!(full.contains(part), "{full}");
    }
    proxy.pool.paused = true;
    assert!(sentence(&proxy).expect("somebody waits").contains("RESUME"));
    // One for whom a connection is about to be dialed waits for nobody.
    proxy.pool = Pool { size: 2, lent: 1, dialing: 1, waiting: 1, ..Pool::default() };
    assert_eq!(sentence(&proxy), None);
}

#[test]
fn an_error_that_is_over_is_no_problem_and_soon_forgotten() {
    let mut proxy = live::Proxy { name: "orders".into(), ..live::Proxy::default() };
    proxy.database.state = "up".into();
    proxy.database.last_error = Some(LastError { ago_seconds: 3.0, text: "it broke".into() });
    let told = advice(&proxy, &held(), &namespace(None));
    assert!(told.len() == 1 && !told[0].is_problem() && told[0].sentence.contains("3 s ago: it broke"), "{told:?}");
    proxy.database.last_error = Some(LastError { ago_seconds: RECENT + 1.0, text: "it broke".into() });
    assert_eq!(advice(&proxy, &held(), &namespace(None)), []);
}

#[test]
fn a_state_of_another_version_is_read_as_far_as_it_is_known() {
    let state: Value = json!({ "proxies": [{ "name": "a", "new": 1, "database": { "state": "up" } }], "later": {} });
    let state: live::State = serde_json::from_value(state).expect("a state");
    assert_eq!((state.proxies[0].database.state.as_str(), state.proxies[0].pool), ("up", Pool::default()));
}
