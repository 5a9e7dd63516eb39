//! What is written, and what is left alone.

use super::*;
use crate::fake::{FakeApi, refusal};
use serde_json::{Value, json};
use std::sync::Mutex;

const MAP: &str = "/api/v1/namespaces/shop/configmaps/orders-postern";
const CONFIG: &str = "/apis/postern.dev/v1alpha1/namespaces/shop/gatewayconfigs/orders";

fn config(pool: u32) -> GatewayConfig {
    let document = json!({
        "apiVersion": crds::API_VERSION, "kind": crds::KIND,
        "metadata": { "name": "orders", "namespace": "shop", "uid": "the-uid", "generation": pool },
        "spec": { "proxies": [{ "name": "orders", "client": { "addresses": ["db:5432"] }, "pool": { "size": pool } }] }
    });
    serde_json::from_value(document).expect("a resource")
}

/// An API server that has the resource in this generation, and keeps the one `ConfigMap`.
async fn keeping(there: Option<Value>, generation: i64) -> FakeApi {
    let kept = Mutex::new((there, 0));
    FakeApi::new(move |asked| {
        let (kept, version) = &mut *kept.lock().expect("nobody panics here");
        let is_old = |there: &Value| {
            let wanted = &asked.body["metadata"]["resourceVersion"];
            !wanted.is_null() && *wanted != there["metadata"]["resourceVersion"]
        };
        match (asked.method.as_str(), kept.as_ref()) {
            ("GET", _) if asked.path == CONFIG => {
                (200, json!({ "metadata": { "name": "orders", "uid": "the-uid", "generation": generation } }))
            }
            ("GET", Some(there)) => (200, there.clone()),
            ("GET", None) => refusal(404, "NotFound"),
            (_, Some(there)) if is_old(there) => refusal(409, "Conflict"),
            _ => {
                *version += 1;
                let written = kept.insert(asked.body.clone());
                written["metadata"]["resourceVersion"] = json!(version.to_string());
                (200, written.clone())
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_is_not_there_is_written_once() {
    let api = keeping(None, 5).await;
    assert_eq!(ensure(&api.client, &config(5)).await.expect("it is delivered"), Delivered::Written);
    assert_eq!(ensure(&api.client, &config(5)).await.expect("it is delivered"), Delivered::There);
    assert_eq!(api.asked(), [format!("GET {MAP}"), format!("PATCH {MAP}"), format!("GET {MAP}")]);
    let written = &api.requests()[1];
    assert_eq!(written.query, "&fieldManager=postern-operator");
    assert_eq!(written.body["data"]["hosts"], HOSTS);
    let document = written.body["data"]["gateway.yaml"].as_str().expect("a document");
    assert_eq!(document, render(&config(5)).document);
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
    let api = keeping(None, 6).await;
    ensure(&api.client, &config(5)).await.expect("it is delivered");
    assert_eq!(ensure(&api.client, &config(6)).await.expect("it is delivered"), Delivered::Written);
    let asked = api.asked();
    assert_eq!(asked[2..], [format!("GET {MAP}"), format!("GET {CONFIG}"), format!("PATCH {MAP}")]);
    let written = &api.requests()[4];
    assert_eq!(written.query, "&force=true&fieldManager=postern-operator");
    assert_eq!(written.body["metadata"]["resourceVersion"], "1", "only what was read is overwritten");
}

/// Who has an old view: a replica whose watch is behind, or one that stood still while another has led.
#[tokio::test]
async fn what_was_delivered_of_a_newer_resource_is_not_overwritten() {
    let api = keeping(None, 6).await;
    ensure(&api.client, &config(6)).await.expect("it is delivered");
    assert_eq!(ensure(&api.client, &config(5)).await.expect("it looks again"), Delivered::Outdated);
    assert_eq!(api.asked()[2..], [format!("GET {MAP}"), format!("GET {CONFIG}")]);
}

#[tokio::test]
async fn what_is_delivered_after_we_have_looked_is_not_overwritten() {
    let newest = Mutex::new(5);
    let api = FakeApi::new(move |asked| {
        let mut newest = newest.lock().expect("nobody panics here");
        match asked.method.as_str() {
            "GET" if asked.path == CONFIG => {
                (200, json!({ "metadata": { "name": "orders", "uid": "the-uid", "generation": *newest } }))
            }
            "GET" => (200, json!({ "metadata": {
                "name": "orders-postern", "resourceVersion": newest.to_string(), "labels": { "postern.dev/managed": "true" }
            } })),
            _ => {
                // Between our look and our write comes an edit, and its delivery.
                *newest += 1;
                refusal(409, "Conflict")
            }
        }
    })
    .await;
    assert_eq!(ensure(&api.client, &config(5)).await.expect("it looks again"), Delivered::Outdated);
    let asked = api.asked();
    let once = [format!("GET {MAP}"), format!("GET {CONFIG}")];
    assert_eq!(asked, [&once[..], &[format!("PATCH {MAP}")], &once].concat());
}

#[tokio::test]
async fn what_is_gone_or_made_anew_is_not_delivered_any_more() {
    let api = keeping(None, 5).await;
    let mut before = config(5);
    before.metadata.uid = Some("an older one".into());
    ensure(&api.client, &config(5)).await.expect("it is delivered");
    assert_eq!(ensure(&api.client, &before).await.expect("it looks again"), Delivered::Outdated);
}

#[tokio::test]
async fn what_is_a_strangers_is_never_adopted() {
    let api = keeping(Some(json!({ "metadata": { "name": "orders-postern", "namespace": "shop" } })), 5).await;
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
    let api = keeping(None, 5).await;
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
