use std::sync::{Arc, Mutex};

use base64_of::decode;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::ObjectMeta;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::fake::{Asked, FakeApi, refusal};
use crate::names;
use crds::{Client as Database, GatewayConfig, GatewayConfigSpec, Proxy};

mod base64_of {
    use k8s_openapi::ByteString;

    /// The text of which this is the base64.
    pub(super) fn decode(text: &serde_json::Value) -> Vec<u8> {
        serde_json::from_value::<ByteString>(text.clone()).expect("it is base64").0
    }
}

const CONFIGS: &str = "/apis/postern.dev/v1alpha1/namespaces/shop/gatewayconfigs";

fn config(name: &str) -> GatewayConfig {
    let client = Database { addresses: vec!["db.example:5432".into()], ..Database::default() };
    let proxies = vec![Proxy { name: "orders".into(), client, ..Proxy::default() }];
    let mut config = GatewayConfig::new(name, GatewayConfigSpec { proxies, ..GatewayConfigSpec::default() });
    config.metadata.namespace = Some("shop".into());
    config.metadata.uid = Some(format!("uid-of-{name}"));
    config
}

/// What was delivered of `config` before.
fn delivered(config: &GatewayConfig) -> ConfigMap {
    let name = config.name_any();
    let labels = [(names::MANAGED, "true"), (names::CONFIG, name.as_str())];
    let metadata = ObjectMeta {
        name: Some(names::config_map(&name)),
        namespace: Some("shop".into()),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        owner_references: Some(vec![kube::Resource::controller_owner_ref(config, &()).expect("it has a uid")]),
        ..ObjectMeta::default()
    };
    let data = [(names::CONFIG_KEY.to_owned(), "spec: {}".to_owned())].into();
    ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
}

fn defaults() -> Defaults {
    Defaults {
        image: "gateway".into(),
        image_pull_policy: "IfNotPresent".into(),
        image_pull_secrets: Vec::new(),
        requests: crate::settings::Resources::default(),
        limits: crate::settings::Resources::default(),
    }
}

/// A replica, and the API server that it knows.
struct Replica {
    review: Review,
    api: FakeApi,
    metrics: Metrics,
    _writer: JoinSet<()>,
}

impl Replica {
    async fn new(
        configs: &[GatewayConfig],
        maps: Vec<ConfigMap>,
        answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
    ) -> Self {
        let api = FakeApi::new(answer).await;
        let metrics = Metrics::new().expect("the names are fine");
        let (events, write) =
            Events::new(api.client.clone(), "operator-0".into(), metrics.clone(), CancellationToken::new());
        let mut writer = JoinSet::new();
        writer.spawn(write);
        let caches = Caches::with(configs, maps);
        let review = Review::new(api.client.clone(), caches, (events, metrics.clone()), defaults());
        Self { review, api, metrics, _writer: writer }
    }

    /// With one configuration that was delivered, and an API server that takes events.
    async fn ready() -> Self {
        let orders = config("orders");
        let map = delivered(&orders);
        Self::new(&[orders], vec![map], |asked| (201, asked.body.clone())).await
    }

    async fn ask(&self, called: Asker, request: Value) -> Value {
        let answer = self.review.answer(called, &bytes(&review(&request))).await.expect("it is a review");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!((&answer["apiVersion"], &answer["kind"]), (&json!(API_VERSION), &json!(KIND)));
        assert_eq!(answer["response"]["uid"], "the-uid");
        answer["response"].clone()
    }

    fn counted(&self) -> Vec<String> {
        let metrics = self.metrics.encode().expect("text");
        let counts = metrics.lines().filter(|line| line.starts_with("postern_operator_injections_total{"));
        counts.map(|line| line.trim_start_matches("postern_operator_injections_total").to_owned()).collect()
    }

    /// Waits until an event was written.
    async fn event(&self) -> Value {
        loop {
            let events = self.api.requests().into_iter().find(|asked| asked.path.ends_with("/events"));
            if let Some(event) = events {
                return event.body;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn bytes(review: &Value) -> Vec<u8> {
    serde_json::to_vec(review).expect("JSON")
}

fn review(request: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": KIND, "request": request})
}

fn request(pod: &Value) -> Value {
    json!({
        "uid": "the-uid", "namespace": "shop", "operation": "CREATE", "object": pod,
        "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": {"group": "", "version": "v1", "resource": "pods"},
    })
}

/// A pod that asks so, for a `ReplicaSet`.
fn pod(asks: &str) -> Value {
    json!({
        "metadata": {
            "generateName": "web-", "annotations": {"postern.dev/inject": asks},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": true}],
        },
        "spec": {"containers": [{"name": "app"}]},
    })
}

fn bare(asks: &str) -> Value {
    let mut pod = pod(asks);
    pod["metadata"]["ownerReferences"] = Value::Null;
    pod
}

#[tokio::test]
async fn a_pod_that_asks_is_changed_and_counted_once() {
    let replica = Replica::ready().await;
    let answer = replica.ask(Asker::Pod, request(&pod("true"))).await;
    assert_eq!((&answer["allowed"], &answer["patchType"]), (&json!(true), &json!("JSONPatch")));
    assert_eq!(answer["auditAnnotations"], json!({"config": "orders", "decision": "injected", "reason": "Injected"}));
    let patch: json_patch::Patch = serde_json::from_slice(&decode(&answer["patch"])).expect("a patch");
    let mut made = pod("true");
    json_patch::patch(&mut made, &patch).expect("it applies");
    assert_eq!(made["metadata"]["labels"]["postern.dev/config"], "orders");
    let again = replica.ask(Asker::Pod, request(&made)).await;
    assert_eq!((&again["allowed"], again.get("patch")), (&json!(true), None));
    assert_eq!(replica.counted(), ["{decision=\"injected\",reason=\"Injected\"} 1"]);
    assert!(replica.api.asked().is_empty(), "the caches know all of it: {:?}", replica.api.asked());
}

#[tokio::test]
async fn a_pod_that_cannot_be_served_is_denied_and_its_owner_told() {
    let replica = Replica::ready().await;
    let mut unlucky = pod("true");
    unlucky["spec"]["hostNetwork"] = true.into();
    let answer = replica.ask(Asker::Pod, request(&unlucky)).await;
    assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)));
    let sentence = answer["status"]["message"].as_str().expect("a sentence");
    assert!(sentence.starts_with("the pod has its node's network"), "{sentence}");
    let event = replica.event().await;
    assert_eq!((&event["reason"], &event["type"]), (&json!("HostNetwork"), &json!("Warning")));
    assert_eq!((&event["regarding"]["kind"], &event["regarding"]["name"]), (&json!("ReplicaSet"), &json!("web")));
    assert_eq!(event["note"], sentence);
    assert_eq!(replica.counted(), ["{decision=\"denied\",reason=\"HostNetwork\"} 1"]);
}

#[tokio::test]
async fn a_pod_whose_namespace_asked_is_created_and_its_owner_told() {
    let replica = Replica::ready().await;
    let mut unlucky = pod("true");
    unlucky["metadata"]["annotations"] = Value::Null;
    unlucky["spec"]["hostNetwork"] = true.into();
    let answer = replica.ask(Asker::Namespace, request(&unlucky)).await;
    assert_eq!((&answer["allowed"], answer.get("patch"), answer.get("warnings")), (&json!(true), None, None));
    assert_eq!(replica.event().await["reason"], "HostNetwork");
    assert_eq!(replica.counted(), ["{decision=\"skipped\",reason=\"HostNetwork\"} 1"]);
}

#[tokio::test]
async fn who_creates_a_bare_pod_is_warned() {
    let replica = Replica::ready().await;
    let mut odd = bare("true");
    odd["metadata"]["annotations"]["postern.dev/colour"] = "blue".into();
    odd["spec"]["containers"][0]["env"] = json!([{"name": "PGHOST", "value": "elsewhere"}]);
    let answer = replica.ask(Asker::Pod, request(&odd)).await;
    let warnings = answer["warnings"].as_array().expect("warnings");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.as_str().is_some_and(|text| text.len() <= 256)));
    let mut skipped = bare("true");
    skipped["metadata"]["annotations"] = Value::Null;
    skipped["spec"]["hostNetwork"] = true.into();
    let answer = replica.ask(Asker::Namespace, request(&skipped)).await;
    assert!(
        answer["warnings"][0].as_str().is_some_and(|text| text.starts_with("no sidecar was injected: the pod has"))
    );
    assert!(replica.api.asked().is_empty(), "there is nobody to tell of it in an event");
}

#[tokio::test]
async fn what_is_odd_about_a_pod_is_told_to_its_owner() {
    let replica = Replica::ready().await;
    let mut odd = pod("true");
    odd["spec"]["containers"][0]["env"] = json!([{"name": "URL", "value": "postgres://u:secret@db.example/x"}]);
    let answer = replica.ask(Asker::Pod, request(&odd)).await;
    assert_eq!((&answer["allowed"], answer.get("warnings")), (&json!(true), None));
    let event = replica.event().await;
    assert_eq!(event["reason"], "BypassesGateway");
    assert!(!event.to_string().contains("secret"), "{event}");
}

#[tokio::test]
async fn a_dry_run_is_answered_alike_and_leaves_no_trace() {
    let list = |_: &Asked| (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": []}));
    let replica = Replica::new(&[config("orders")], Vec::new(), list).await;
    let mut dry = request(&pod("true"));
    dry["dryRun"] = true.into();
    let answer = replica.ask(Asker::Pod, dry.clone()).await;
    assert_eq!(answer["allowed"], true);
    assert!(answer.get("patch").is_some());
    dry["object"] = pod("another");
    let answer = replica.ask(Asker::Pod, dry).await;
    assert_eq!(answer["auditAnnotations"]["reason"], "ConfigNotFound");
    assert_eq!(replica.api.asked(), [format!("GET {CONFIGS}")], "it looked, and that is all");
    assert!(replica.counted().is_empty());
}

#[tokio::test]
async fn a_configuration_that_the_cache_lacks_is_looked_for_once() {
    let replica = Replica::new(&[], Vec::new(), |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", CONFIGS) => {
            (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [config("orders")]}))
        }
        ("GET", _) => refusal(404, "NotFound"),
        _ => (200, asked.body.clone()),
    })
    .await;
    let answer = replica.ask(Asker::Pod, request(&pod("orders"))).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    let asked = replica.api.asked();
    assert_eq!(asked[0], format!("GET {CONFIGS}"));
    let map = "/api/v1/namespaces/shop/configmaps/orders-postern";
    assert_eq!(asked[1..], [format!("GET {map}"), format!("PATCH {map}")], "and then it is delivered");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let list = |_: &Asked| (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": []}));
    let replica = Replica::new(&[], Vec::new(), list).await;
    let answer = replica.ask(Asker::Pod, request(&bare("orders"))).await;
    assert_eq!(answer["allowed"], false);
    assert_eq!(
        answer["status"]["message"],
        "GatewayConfig \"orders\" is not found in namespace \"shop\", there is none; apply it, or correct the \
         annotation postern.dev/inject"
    );
    assert_eq!(replica.api.asked(), [format!("GET {CONFIGS}")]);
}

#[tokio::test]
async fn an_api_server_that_does_not_tell_is_the_reason() {
    let replica = Replica::new(&[], Vec::new(), |_| refusal(500, "etcd is away")).await;
    let answer = replica.ask(Asker::Pod, request(&bare("orders"))).await;
    assert_eq!(
        answer["status"]["message"],
        "the GatewayConfigs of namespace \"shop\" are not known yet, and the API server did not tell: etcd is away"
    );
    assert_eq!(replica.counted(), ["{decision=\"denied\",reason=\"ConfigUnreadable\"} 1"]);
}

#[tokio::test]
async fn a_configuration_that_cannot_be_delivered_denies_the_pod() {
    let answer = |asked: &Asked| match asked.method.as_str() {
        "GET" => refusal(404, "NotFound"),
        _ => refusal(403, "the quota is used up"),
    };
    let replica = Replica::new(&[config("orders")], Vec::new(), answer).await;
    let answer = replica.ask(Asker::Pod, request(&bare("orders"))).await;
    assert_eq!(answer["allowed"], false);
    let sentence = answer["status"]["message"].as_str().expect("a sentence");
    assert!(
        sentence.starts_with("the configuration of GatewayConfig \"orders\" could not be delivered: "),
        "{sentence}"
    );
    assert!(sentence.contains("the quota is used up"), "{sentence}");
}

#[tokio::test]
async fn what_is_no_new_pod_is_none_of_our_business() {
    let replica = Replica::ready().await;
    for (key, value) in [
        ("operation", json!("UPDATE")),
        ("subResource", json!("ephemeralcontainers")),
        ("kind", json!({"group": "apps", "version": "v1", "kind": "Deployment"})),
    ] {
        let mut request = request(&pod("true"));
        request[key] = value;
        let answer = replica.ask(Asker::Pod, request).await;
        assert_eq!((&answer["allowed"], answer.get("patch")), (&json!(true), None));
    }
    assert!(replica.counted().is_empty());
}

#[tokio::test]
async fn what_is_no_review_is_refused_with_a_sentence() {
    let replica = Replica::ready().await;
    let refused =
        async |body: &[u8]| replica.review.answer(Asker::Pod, body).await.expect_err("it is none").to_string();
    assert!(refused(b"").await.starts_with("this is no AdmissionReview: EOF"));
    assert!(refused(b"{}").await.contains("and admission.k8s.io/v1 AdmissionReview is answered here"));
    assert!(refused(&b"[".repeat(100_000)).await.starts_with("this is no AdmissionReview: "));
    let old = json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": KIND, "request": request(&pod("true"))});
    assert!(refused(&bytes(&old)).await.contains("v1beta1"));
    assert_eq!(refused(&bytes(&review(&Value::Null))).await, Error::NoRequest.to_string());
    assert_eq!(refused(&bytes(&review(&json!({"uid": ""})))).await, Error::NoRequest.to_string());
}

#[tokio::test]
async fn a_pod_of_any_shape_gets_an_answer() {
    let replica = Replica::ready().await;
    for pod in
        [json!(null), json!({}), json!([]), json!({"metadata": 1}), json!({"metadata": {}, "spec": {"containers": 1}})]
    {
        for called in [Asker::Pod, Asker::Namespace] {
            let answer = replica.ask(called, request(&pod)).await;
            assert_eq!(answer["allowed"], called == Asker::Namespace, "{pod}");
        }
    }
}

/// The caches may be behind in what they have, and a look at one moment may fail, whatever happens elsewhere.
#[tokio::test]
async fn a_second_default_is_found_although_the_cache_has_only_others() {
    let looks = Arc::new(Mutex::new(0));
    let counted = looks.clone();
    let replica = Replica::new(&[config("a"), config("b")], vec![delivered(&config("default"))], move |asked| {
        if asked.path != CONFIGS {
            return if asked.method == "GET" { refusal(404, "NotFound") } else { (200, asked.body.clone()) };
        }
        *counted.lock().expect("nobody panics") += 1;
        (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [config("a"), config("default")]}))
    })
    .await;
    let answer = replica.ask(Asker::Pod, request(&bare("true"))).await;
    assert_eq!(answer["auditAnnotations"]["config"], "default", "{answer}");
    assert_eq!(*looks.lock().expect("nobody panics"), 1);
}
