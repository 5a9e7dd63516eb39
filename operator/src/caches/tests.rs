//! What the caches tell.

use super::*;
use crate::fake::{FakeApi, refusal};
use crate::render::render;
use futures::FutureExt;
use serde_json::{Value, json};

fn config(namespace: &str, name: &str) -> GatewayConfig {
    let document = json!({
        "apiVersion": crds::API_VERSION, "kind": crds::KIND,
        "metadata": { "name": name, "namespace": namespace, "uid": format!("{name}-uid") },
        "spec": { "proxies": [{ "name": "a", "client": { "addresses": ["db:1"] } }] }
    });
    serde_json::from_value(document).expect("a resource")
}

fn map(config: &GatewayConfig, owner: &str) -> ConfigMap {
    let document: Value = json!({
        "metadata": {
            "name": names::config_map(&config.name_any()), "namespace": config.namespace(),
            "labels": { "postern.dev/managed": "true", "postern.dev/config": config.name_any() },
            "ownerReferences": [{ "apiVersion": "x", "kind": crds::KIND, "name": config.name_any(), "uid": owner }]
        },
        "data": { "gateway.yaml": render(config).document, "hosts": HOSTS, "other": "x".repeat(1000) }
    });
    serde_json::from_value(document).expect("a ConfigMap")
}

#[test]
fn configurations_are_found_by_namespace() {
    let caches = Caches::with(&[config("shop", "b"), config("shop", "a"), config("other", "c")], Vec::new());
    assert_eq!(caches.configs("shop"), ["a", "b"]);
    assert!(caches.config("shop", "a").expect("it is there").is_ok());
    assert!(caches.config("shop", "c").is_none());
}

#[test]
fn what_is_delivered_is_known_by_its_hash() {
    let config = config("shop", "a");
    let rendered = render(&config);
    let caches = Caches::with(std::slice::from_ref(&config), vec![map(&config, "a-uid")]);
    assert_eq!(caches.delivered("shop", "a"), Some(rendered.hash.clone()));
    assert!(caches.holds(&config, &rendered));
    let kept = caches.map("shop", "a").expect("it is there");
    assert_eq!(kept.data.as_ref().map(std::collections::BTreeMap::len), Some(2), "what is not ours is not kept");
}

#[test]
fn what_was_changed_by_somebody_is_not_what_we_delivered() {
    let config = config("shop", "a");
    let rendered = render(&config);
    let mut without_hosts = map(&config, "a-uid");
    without_hosts.data.iter_mut().for_each(|data| drop(data.remove(names::HOSTS_KEY)));
    let mut edited = map(&config, "a-uid");
    edited.data.iter_mut().for_each(|data| drop(data.insert(names::CONFIG_KEY.into(), "x".into())));
    // It goes with the resource that owned it, and is not of the one that is there now.
    let of_another = map(&config, "an-older-uid");
    for map in [without_hosts, edited, of_another] {
        let caches = Caches::with(std::slice::from_ref(&config), vec![map.clone()]);
        assert!(!caches.holds(&config, &rendered), "{map:?}");
    }
}

#[test]
fn a_resource_that_cannot_be_read_is_there_all_the_same() {
    let document = json!({
        "metadata": { "name": "a", "namespace": "shop", "annotations": { "big": "x" } },
        "spec": { "workers": "many" }, "status": { "pods": "none" }
    });
    let held: Held = serde_json::from_value(document).expect("it has a name");
    assert_eq!(ConfigKey::of(&held), ConfigKey::new("shop", "a"));
    assert_eq!(held.metadata.annotations, None);
    let sentence = held.known.expect_err("it cannot be read");
    assert!(sentence.contains("spec.workers: it is the text \"many\""), "{sentence}");
}

#[test]
fn keys_of_a_newer_version_are_no_hindrance() {
    let mut document = serde_json::to_value(config("shop", "a")).expect("JSON");
    document["spec"]["proxies"][0]["pool"]["colour"] = json!("blue");
    let held: Held = serde_json::from_value(document).expect("it has a name");
    assert_eq!(held.known.expect("it can be read").spec, config("shop", "a").spec);
}

#[test]
fn a_configuration_that_is_named_often_has_one_turn() {
    let triggers = Triggers::default();
    let key = ConfigKey::new("shop", "a");
    triggers.touch(key.clone());
    let mut stream = std::pin::pin!(triggers.stream());
    assert!(stream.next().now_or_never().is_none(), "nobody leads yet");
    triggers.open();
    triggers.touch_all([key.clone(), ConfigKey::new("shop", "b"), key.clone()]);
    assert_eq!(stream.next().now_or_never().flatten(), Some(key));
    assert_eq!(stream.next().now_or_never().flatten(), Some(ConfigKey::new("shop", "b")));
    assert!(stream.next().now_or_never().is_none());
}

#[tokio::test]
async fn everybody_who_waits_for_the_caches_is_told() {
    let list = json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "1" }, "items": [] });
    let api =
        FakeApi::new(
            move |asked| {
                if asked.query.contains("watch") { refusal(500, "another time") } else { (200, list.clone()) }
            },
        )
        .await;
    let metrics = Metrics::new().expect("the names are fine");
    let (caches, follow) = Caches::new(&api.client, Triggers::default(), metrics, CancellationToken::new());
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let caches = caches.clone();
        waiting.spawn(async move { caches.synced().await });
    }
    tokio::select! {
        () = async { while waiting.join_next().await.is_some() {} } => {}
        () = follow => panic!("it follows for as long as it is polled"),
    }
}
