//! Whole turns, against an API server that is played.

use super::*;
use crate::fake::{Asked, FakeApi, refusal};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

const MAP: &str = "/api/v1/namespaces/shop/configmaps/orders-postern";
const STATUS: &str = "/apis/postern.dev/v1alpha1/namespaces/shop/gatewayconfigs/orders/status";

fn document() -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": KIND,
        "metadata": { "name": "orders", "namespace": "shop", "uid": "u", "generation": 2, "resourceVersion": "7" },
        "spec": { "proxies": [{ "name": "orders", "client": { "addresses": ["db:5432"] } }] }
    })
}

fn held(document: &Value) -> Held {
    serde_json::from_value(document.clone()).expect("a resource")
}

/// An API server that takes everything and had nothing.
fn obliging(asked: &Asked) -> (u16, Value) {
    match asked.method.as_str() {
        "GET" => refusal(404, "NotFound"),
        _ => (200, if asked.path == STATUS { document() } else { asked.body.clone() }),
    }
}

fn reconciler(api: &FakeApi, configs: &[GatewayConfig], delivered: Vec<ConfigMap>) -> Reconciler {
    let (client, triggers) = (api.client.clone(), Triggers::default());
    let metrics = Metrics::new().expect("the names are fine");
    let caches = Caches::with(configs, delivered);
    let (events, _) = Events::new(client.clone(), "pod".into(), metrics.clone(), CancellationToken::new());
    let turns = Turns::default();
    // It has looked about long ago.
    *turns.began.lock().expect("nobody panics here") = Instant::now().checked_sub(LOOK_ABOUT * 2);
    Reconciler {
        sidecars: Sidecars::new(client.clone(), metrics.clone(), triggers.clone()),
        uninjected: Uninjected::new(client.clone(), caches.clone(), triggers, metrics.clone(), "own"),
        client,
        caches,
        events,
        metrics,
        turns,
    }
}

/// What the last status that was written says of a condition.
fn condition(api: &FakeApi, name: &str) -> (String, String, String) {
    let requests = api.requests();
    let last = requests.iter().rfind(|asked| asked.path == STATUS).expect("a status was written");
    let all = last.body["status"]["conditions"].as_array().expect("it has conditions");
    let one = all.iter().find(|one| one["type"] == name).expect("it has this one");
    let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

#[tokio::test]
async fn a_configuration_is_delivered_and_its_status_written() {
    let api = FakeApi::new(obliging).await;
    let reconciler = reconciler(&api, &[], Vec::new());
    let action = reconciler.reconcile(&held(&document())).await.expect("all goes well");
    assert_eq!(action, Action::requeue(ANYWAY));
    assert_eq!(api.asked(), [format!("GET {MAP}"), format!("PATCH {MAP}"), format!("PATCH {STATUS}")]);
    let status = &api.requests()[2];
    assert_eq!(status.query, "&force=true&fieldManager=postern-operator");
    assert_eq!(status.body["metadata"], json!({ "name": "orders", "uid": "u", "resourceVersion": "7" }));
    assert_eq!(status.body["status"]["observedGeneration"], 2);
    assert_eq!(status.body["status"]["connections"], json!({ "perPod": 100, "total": 0 }));
    assert_eq!(condition(&api, "Ready").1, "NoPods");
}

#[tokio::test]
async fn a_second_turn_writes_nothing() {
    let api = FakeApi::new(obliging).await;
    let mut document = document();
    let config: GatewayConfig = serde_json::from_value(document.clone()).expect("a resource");
    let first = reconciler(&api, &[], Vec::new());
    first.reconcile(&held(&document)).await.expect("all goes well");
    let map: ConfigMap = serde_json::from_value(api.requests()[1].body.clone()).expect("a ConfigMap");
    let (status, so_far) = (api.requests()[2].body["status"].clone(), api.asked().len());
    // With the status that was just written still unseen ...
    let second = reconciler(&api, std::slice::from_ref(&config), vec![map.clone()]);
    second.turns.change(&ConfigKey::new("shop", "orders"), |turn| {
        let (seen, version) = (Some("7".into()), Some("8".into()));
        turn.written =
            Some(Written { seen, version, status: serde_json::from_value(status.clone()).expect("a status") });
    });
    second.reconcile(&held(&document)).await.expect("all goes well");
    // ... and with the status that came back.
    document["status"] = status;
    document["metadata"]["resourceVersion"] = json!("8");
    let third = reconciler(&api, &[config], vec![map]);
    third.reconcile(&held(&document)).await.expect("all goes well");
    assert_eq!(api.asked()[so_far..], [""; 0]);
}

#[tokio::test]
async fn what_is_invalid_is_not_delivered_and_the_last_good_one_stays() {
    let api = FakeApi::new(obliging).await;
    let mut invalid = document();
    invalid["spec"]["proxies"][0]["pool"] = json!({ "size": 1, "minIdle": 2 });
    let reconciler = reconciler(&api, &[], Vec::new());
    reconciler.reconcile(&held(&invalid)).await.expect("there is nothing to try again");
    assert_eq!(api.asked(), [format!("PATCH {STATUS}")]);
    let (status, reason, message) = condition(&api, "Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Invalid"));
    assert_eq!(message, "spec.proxies[0].pool.minIdle: 2 is more than pool.size, 1; lower it or raise the size");
}

#[tokio::test]
async fn what_cannot_be_read_is_told_like_what_is_invalid() {
    let api = FakeApi::new(obliging).await;
    let mut odd = document();
    odd["spec"]["drainTimeout"] = json!("99999999999999h");
    let reconciler = reconciler(&api, &[], Vec::new());
    reconciler.reconcile(&held(&odd)).await.expect("there is nothing to try again");
    let (status, reason, message) = condition(&api, "Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Invalid"));
    assert_eq!(message, "spec.drainTimeout: a duration is at most 292 years (2562047h47m16.854775807s)");
}

#[tokio::test]
async fn a_name_that_is_somebody_elses_is_told_and_looked_at_again() {
    let api = FakeApi::new(|asked| match asked.method.as_str() {
        "GET" => (200, json!({ "metadata": { "name": "orders-postern" } })),
        _ => obliging(asked),
    })
    .await;
    let reconciler = reconciler(&api, &[], Vec::new());
    let action = reconciler.reconcile(&held(&document())).await.expect("it is not an error of ours");
    assert_eq!(action, Action::requeue(TAKEN));
    assert_eq!(condition(&api, "Programmed").1, "ConfigMapTaken");
}

#[tokio::test]
async fn a_turn_that_failed_is_taken_again_with_growing_pauses() {
    let api =
        FakeApi::new(|asked| if asked.path == MAP { refusal(500, "etcd is away") } else { obliging(asked) }).await;
    let reconciler = reconciler(&api, &[], Vec::new());
    let held = held(&document());
    let error = reconciler.reconcile(&held).await.expect_err("it cannot be delivered");
    assert_eq!(error.to_string(), "cannot read the ConfigMap \"orders-postern\": etcd is away");
    assert_eq!(condition(&api, "Programmed").1, "DeliveryFailed");
    let pauses: Vec<Action> = (0..7).map(|_| again(&held, &error, &reconciler)).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30].map(|seconds| Action::requeue(Duration::from_secs(seconds))));
}

/// An edit came, and this replica's watch has not shown it yet: another replica has delivered it meanwhile.
#[tokio::test]
async fn a_turn_with_an_old_resource_overwrites_nothing_and_the_next_one_converges() {
    let mut newer = document();
    newer["metadata"]["generation"] = json!(3);
    newer["metadata"]["resourceVersion"] = json!("9");
    newer["spec"]["proxies"][0]["pool"] = json!({ "size": 20 });
    let map = json!({
        "metadata": { "name": "orders-postern", "resourceVersion": "8", "labels": { "postern.dev/managed": "true" } },
        "data": { "gateway.yaml": "of generation 3, and spoilt since" }
    });
    let there = newer.clone();
    let api = FakeApi::new(move |asked| match asked.method.as_str() {
        "GET" if asked.path == MAP => (200, map.clone()),
        "GET" => (200, json!({ "metadata": there["metadata"] })),
        _ => obliging(asked),
    })
    .await;
    let reconciler = reconciler(&api, &[], Vec::new());
    let action = reconciler.reconcile(&held(&document())).await.expect("it is no error");
    assert_eq!(action, Action::await_change());
    let read = [format!("GET {MAP}"), format!("GET {}", STATUS.trim_end_matches("/status"))];
    assert_eq!(api.asked(), read, "nothing is written");
    reconciler.reconcile(&held(&newer)).await.expect("all goes well");
    assert_eq!(api.asked()[2..], [&read[..], &[format!("PATCH {MAP}"), format!("PATCH {STATUS}")]].concat());
}

#[tokio::test]
async fn a_status_that_was_written_meanwhile_is_not_overwritten() {
    let api = FakeApi::new(|asked| match asked.path.as_str() {
        STATUS if asked.body["metadata"]["resourceVersion"] != "9" => refusal(409, "Conflict"),
        _ => obliging(asked),
    })
    .await;
    let reconciler = reconciler(&api, &[], Vec::new());
    let mut document = document();
    reconciler.reconcile(&held(&document)).await.expect("it is no error");
    let key = ConfigKey::new("shop", "orders");
    assert!(reconciler.turns.change(&key, |turn| turn.written.is_none()), "it counts as not written");
    document["metadata"]["resourceVersion"] = json!("9");
    reconciler.reconcile(&held(&document)).await.expect("all goes well");
    assert!(reconciler.turns.change(&key, |turn| turn.written.is_some()));
}

/// The cache still shows the version before our own last status.
#[tokio::test]
async fn the_next_status_follows_our_own_last_one() {
    let version = Mutex::new(7);
    let api = FakeApi::new(move |asked| {
        let mut version = version.lock().expect("nobody panics here");
        match asked.path.as_str() {
            STATUS if asked.body["metadata"]["resourceVersion"] != version.to_string() => refusal(409, "Conflict"),
            STATUS => {
                *version += 1;
                let mut written = document();
                written["metadata"]["resourceVersion"] = json!(version.to_string());
                (200, written)
            }
            _ => obliging(asked),
        }
    })
    .await;
    let reconciler = reconciler(&api, &[], Vec::new());
    reconciler.reconcile(&held(&document())).await.expect("all goes well");
    let mut invalid = document();
    invalid["spec"]["proxies"][0]["pool"] = json!({ "size": 1, "minIdle": 2 });
    reconciler.reconcile(&held(&invalid)).await.expect("all goes well");
    let key = ConfigKey::new("shop", "orders");
    assert_eq!(reconciler.turns.change(&key, |turn| turn.written.clone()?.version), Some("9".to_owned()));
}

#[tokio::test]
async fn a_new_leader_asks_before_it_tells() {
    let api = FakeApi::new(obliging).await;
    let mut reconciler = reconciler(&api, &[], Vec::new());
    reconciler.turns = Turns::default();
    let action = reconciler.reconcile(&held(&document())).await.expect("all goes well");
    assert_eq!(action, Action::requeue(SOON));
    assert!(!api.asked().contains(&format!("PATCH {STATUS}")), "{:?}", api.asked());
}

#[tokio::test]
async fn what_is_being_deleted_is_left_alone() {
    let api = FakeApi::new(obliging).await;
    let mut leaving = document();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let reconciler = reconciler(&api, &[], Vec::new());
    reconciler.reconcile(&held(&leaving)).await.expect("there is nothing to do");
    assert_eq!(api.asked(), [""; 0]);
}

#[tokio::test]
async fn every_configuration_has_a_turn_and_one_that_is_gone_is_forgotten() {
    let api = FakeApi::new(obliging).await;
    let config: GatewayConfig = serde_json::from_value(document()).expect("a resource");
    let reconciler = Arc::new(reconciler(&api, &[config], Vec::new()));
    let gone = ConfigKey::new("shop", "gone");
    reconciler.turns.change(&gone, |turn| turn.state = Some(ConfigState::Ready));
    let (triggers, stop) = (Triggers::default(), CancellationToken::new());
    let running = run(reconciler.clone(), triggers.clone(), stop.clone());
    let watching = async {
        while !api.asked().contains(&format!("PATCH {STATUS}")) {
            tokio::task::yield_now().await;
        }
        triggers.touch(gone.clone());
        while reconciler.turns.last.lock().expect("nobody panics here").contains_key(&gone) {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    futures::future::join(running, watching).await;
}
