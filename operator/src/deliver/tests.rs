//! What is written, and what is left alone.

use super::*;
use crate::fake::{FakeApi, refusal};
use serde_json::{Value, json};
use std::sync::Mutex;

const MAP: &str = "/api/v1/namespaces/shop/configmaps/orders-postern";

fn config(pool: u32) -> GatewayConfig {
    let document = json!({
        "apiVersion": crds::API_VERSION, "kind": crds::KIND,
        "metadata": { "name": "orders", "namespace": "shop", "uid": "the-uid" },
        "spec": { "proxies": [{ "name": "orders", "client": { "addresses": ["db:5432"] }, "pool": { "size": pool } }] }
    });
    serde_json::from_value(document).expect("a resource")
}

/// An API server that keeps the one `ConfigMap`.
async fn keeping(there: Option<Value>) -> FakeApi {
    let kept = Mutex::new(there);
    FakeApi::new(move |asked| {
        let mut kept = kept.lock().expect("nobody panics here");
        match (asked.method.as_str(), kept.clone()) {
            ("GET", Some(there)) => (200, there),
            ("GET", None) => refusal(404, "NotFound"),
            _ => (200, kept.insert(asked.body.clone()).clone()),
        }
    })
    .await
}

#[tokio::test]
async fn what_is_not_there_is_written_once() {
    let api = keeping(None).await;
    let first = ensure(&api.client, &config(5)).await.expect("it is delivered");
    assert!(first.written);
    let second = ensure(&api.client, &config(5)).await.expect("it is delivered");
    assert_eq!(second, Delivered { hash: first.hash.clone(), written: false });
    assert_eq!(api.asked(), [format!("GET {MAP}"), format!("PATCH {MAP}"), format!("GET {MAP}")]);
    let written = &api.requests()[1];
    assert_eq!(written.query, "&fieldManager=postern-operator");
    assert_eq!(written.body["data"]["hosts"], HOSTS);
    let document = written.body["data"]["gateway.yaml"].as_str().expect("a document");
    assert_eq!(crate::render::digest(document.as_bytes()), first.hash);
    assert_eq!(
        written.body["metadata"],
        json!({
            "name": "orders-postern", "namespace": "shop",
            "labels": {
                "app.kubernetes.io/managed-by": "postern", "postern.dev/managed": "true", "postern.dev/config": "orders"
            },
            "ownerReferences": [{
                "apiVersion": "postern.dev/v1alpha1", "kind": "GatewayConfig", "name": "orders", "uid": "the-uid",
                "controller": true, "blockOwnerDeletion": false
            }]
        })
    );
}

#[tokio::test]
async fn what_is_ours_is_brought_up_to_date_by_force() {
    let api = keeping(None).await;
    ensure(&api.client, &config(5)).await.expect("it is delivered");
    assert!(ensure(&api.client, &config(6)).await.expect("it is delivered").written);
    assert_eq!(api.requests()[3].query, "&force=true&fieldManager=postern-operator");
}

#[tokio::test]
async fn what_is_a_strangers_is_never_adopted() {
    let api = keeping(Some(json!({ "metadata": { "name": "orders-postern", "namespace": "shop" } }))).await;
    let error = ensure(&api.client, &config(5)).await.expect_err("it is somebody else's");
    assert_eq!(
        error.to_string(),
        "the ConfigMap \"orders-postern\" exists and is not Postern's (it lacks the label postern.dev/managed=true); \
         delete or rename it, or name the GatewayConfig otherwise"
    );
    assert_eq!(api.asked(), [format!("GET {MAP}")]);
}

#[tokio::test]
async fn what_is_invalid_is_not_even_asked_for() {
    let api = keeping(None).await;
    let mut invalid = config(5);
    invalid.spec.proxies[0].pool.min_idle = Some(6);
    let error = ensure(&api.client, &invalid).await.expect_err("it is invalid");
    assert_eq!(
        error.to_string(),
        "spec.proxies[0].pool.minIdle: 6 is more than pool.size, 5; lower it or raise the size"
    );
    assert_eq!(api.asked(), [""; 0]);
}

#[tokio::test]
async fn a_refusal_says_what_we_wanted_and_what_the_server_says() {
    let api = FakeApi::new(|_| refusal(403, "configmaps is forbidden")).await;
    let error = ensure(&api.client, &config(5)).await.expect_err("it is forbidden");
    assert_eq!(error.to_string(), "cannot read the ConfigMap \"orders-postern\": configmaps is forbidden");
}

#[test]
fn a_document_that_no_config_map_holds_is_invalid() {
    let rendered = Rendered { document: "x".repeat(MAX_DOCUMENT + 1), hash: String::new() };
    let error = config_map(&config(5), rendered).expect_err("it is too long");
    assert!(matches!(error, DeliverError::Invalid(_)), "{error}");
}
