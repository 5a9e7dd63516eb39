use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::certificates::bundle;
use crate::fake::{Asked, FakeApi, refusal};
use crate::probes::Readiness;

const SECRETS: &str = "/api/v1/namespaces/postern-system/secrets";
const SECRET: &str = "/api/v1/namespaces/postern-system/secrets/postern-webhook-tls";
const HOOK: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/zz-postern";

/// What the cluster holds.
#[derive(Clone, Default)]
struct Cluster(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    secret: Option<Value>,
    version: u64,
    hook: Value,
    hook_version: u64,
    /// While it is not empty, every write is refused so.
    refuses: Option<u16>,
}

impl Cluster {
    fn new() -> Self {
        let cluster = Self::default();
        cluster.state().hook = json!({
            "metadata": {"name": "zz-postern", "resourceVersion": "h0"},
            "webhooks": [{
                "name": "pod.inject.postern.dev", "admissionReviewVersions": ["v1"], "sideEffects": "NoneOnDryRun",
                "clientConfig": {"service": {"name": "postern-webhook", "namespace": "postern-system"}},
            }],
        });
        cluster
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this")
    }

    async fn serve(&self) -> FakeApi {
        let cluster = self.clone();
        FakeApi::new(move |asked| cluster.answer(asked)).await
    }

    fn answer(&self, asked: &Asked) -> (u16, Value) {
        let mut state = self.state();
        if let Some(code) = state.refuses.filter(|_| asked.method != "GET") {
            return refusal(code, "the fence refuses");
        }
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", SECRET) => state.secret.clone().map_or_else(|| refusal(404, "NotFound"), |secret| (200, secret)),
            ("POST", SECRETS) if state.secret.is_none() => (201, state.keep(&asked.body)),
            ("POST", SECRETS) => refusal(409, "AlreadyExists"),
            ("PUT", SECRET) => {
                let same =
                    |secret: &Value| secret["metadata"]["resourceVersion"] == asked.body["metadata"]["resourceVersion"];
                match &state.secret {
                    None => refusal(404, "NotFound"),
                    Some(secret) if !same(secret) => refusal(409, "Conflict"),
                    Some(_) => (200, state.keep(&asked.body)),
                }
            }
            ("PATCH", HOOK) => {
                let patch: json_patch::Patch = serde_json::from_value(asked.body.clone()).expect("a JSON patch");
                match json_patch::patch(&mut state.hook, &patch) {
                    Ok(()) => {
                        state.edit_hook(|_| {});
                        (200, state.hook.clone())
                    }
                    Err(_) => refusal(422, "the test failed"),
                }
            }
            ("GET", HOOK) if state.hook.is_null() => refusal(404, "NotFound"),
            ("GET", HOOK) => (200, state.hook.clone()),
            other => panic!("nobody should ask for {other:?}"),
        }
    }

    fn bundle(&self) -> String {
        let hook: MutatingWebhookConfiguration = serde_json::from_value(self.state().hook.clone()).expect("one");
        let bundle = hook.webhooks.expect("webhooks")[0].client_config.ca_bundle.clone().unwrap_or_default();
        String::from_utf8(bundle.0).expect("PEM")
    }
}

impl State {
    /// Somebody writes the webhook configuration.
    fn edit_hook(&mut self, edit: impl FnOnce(&mut Value)) {
        self.hook_version += 1;
        edit(&mut self.hook);
        self.hook["metadata"]["resourceVersion"] = format!("h{}", self.hook_version).into();
    }

    fn keep(&mut self, secret: &Value) -> Value {
        self.version += 1;
        let mut secret = secret.clone();
        secret["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.secret = Some(secret.clone());
        secret
    }
}

/// A replica; what its watches tell is what the cluster holds when it acts.
struct Replica {
    keeper: Keeper,
    cluster: Cluster,
    readiness: Readiness,
}

impl Replica {
    fn new(api: &FakeApi, cluster: &Cluster, arguments: &[&str]) -> Self {
        #[derive(clap::Parser)]
        struct Run {
            #[command(flatten)]
            settings: Settings,
        }
        let arguments = ["run", "--gateway-image", "gateway"].iter().chain(arguments);
        let settings = <Run as clap::Parser>::parse_from(arguments).settings;
        let readiness = Readiness::default();
        let latches = [readiness.latch("certificate"), readiness.latch("caBundle")];
        let metrics = Metrics::new().expect("the names are fine");
        let keeper = Keeper::new(&api.client, &settings, (Current::default(), metrics), latches);
        Self { keeper, cluster: cluster.clone(), readiness }
    }

    fn look(&mut self) {
        let state = self.cluster.state();
        let secret = state.secret.clone().map(|secret| serde_json::from_value(secret).expect("a Secret"));
        let hook = (!state.hook.is_null()).then(|| serde_json::from_value(state.hook.clone()).expect("one"));
        (self.keeper.seen.secret, self.keeper.seen.configuration) = (secret.into(), hook.into());
    }

    async fn act(&mut self) -> Duration {
        self.keeper.act().await
    }

    fn served(&self) -> &str {
        &self.keeper.seen.served.served.certificate
    }

    fn is_ready(&self) -> bool {
        self.readiness.hindrances().is_empty()
    }

    /// Whether the API server believes what is served.
    fn is_believed(&self) -> bool {
        let bundle = self.cluster.bundle();
        let authorities: Vec<&str> = bundle.split_inclusive("-----END CERTIFICATE-----\n").collect();
        self.keeper.seen.served.is_trusted_by(&authorities, &self.keeper.names, now())
    }
}

async fn one() -> (FakeApi, Cluster, Replica) {
    let cluster = Cluster::new();
    let api = cluster.serve().await;
    let mut replica = Replica::new(&api, &cluster, &[]);
    replica.look();
    replica.act().await;
    (api, cluster, replica)
}

#[tokio::test]
async fn the_first_replica_makes_everything_and_is_believed() {
    let (api, cluster, replica) = one().await;
    assert!(replica.is_ready() && replica.is_believed());
    assert_eq!(api.asked(), [format!("POST {SECRETS}"), format!("GET {SECRET}"), format!("PATCH {HOOK}")]);
    let secret = cluster.state().secret.clone().expect("it was made");
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let keys: Vec<&String> = secret["data"].as_object().expect("data").keys().collect();
    assert_eq!(keys, ["ca.crt", "ca.key", "tls.crt", "tls.key"]);
}

#[tokio::test]
async fn before_the_watch_has_told_anything_nothing_is_written() {
    let cluster = Cluster::new();
    let api = cluster.serve().await;
    let mut replica = Replica::new(&api, &cluster, &[]);
    replica.act().await;
    assert!(api.asked().is_empty() && !replica.is_ready());
}

#[tokio::test]
async fn of_two_replicas_that_begin_at_one_time_one_wins_and_the_other_follows() {
    let cluster = Cluster::new();
    let api = cluster.serve().await;
    let (mut first, mut second) = (Replica::new(&api, &cluster, &[]), Replica::new(&api, &cluster, &[]));
    first.look();
    second.look();
    first.act().await;
    second.act().await;
    // The second was refused, has looked, and acts by what it saw: first of the Secret, then of the bundle.
    second.act().await;
    second.act().await;
    assert_eq!(first.served(), second.served());
    assert!(first.is_believed() && second.is_believed() && second.is_ready());
    assert_eq!(cluster.state().version, 1);
}

#[tokio::test]
async fn a_secret_that_is_there_is_followed_and_nothing_is_written() {
    let (api, cluster, first) = one().await;
    let mut second = Replica::new(&api, &cluster, &[]);
    second.look();
    second.act().await;
    assert_eq!(first.served(), second.served());
    assert!(second.is_ready());
    assert_eq!(api.asked().len(), 3, "{:?}", api.asked());
}

/// Its watch on the Secret is behind, the one on the webhook configuration is not.
#[tokio::test]
async fn a_replica_with_an_old_view_of_the_secret_leaves_the_newer_bundle() {
    let (_api, cluster, mut behind) = one().await;
    behind.look();
    let Told::Present(old) = &behind.keeper.seen.secret else { panic!("it is there") };
    let old = old.clone();
    let newer = renewed(&cluster).await;
    behind.look();
    behind.keeper.seen.secret = Told::Present(old);
    assert_eq!(behind.act().await, Duration::ZERO, "it has learned that its view was old");
    assert_eq!(cluster.bundle(), newer);
    behind.act().await;
    assert_eq!(cluster.bundle(), newer);
    assert!(behind.is_believed() && behind.is_ready());
}

/// The Secret is renewed, and the bundle written, between its look at the Secret and its own write.
#[tokio::test]
async fn a_bundle_that_is_written_meanwhile_is_not_overwritten() {
    let (_api, cluster, mut slow) = one().await;
    cluster.state().edit_hook(|hook| hook["webhooks"][0]["clientConfig"]["caBundle"] = Value::Null);
    slow.look();
    let newer = renewed(&cluster).await;
    let Told::Present(seen) = slow.keeper.seen.configuration.clone() else { panic!("it is there") };
    let patch = bundle::patch(&seen, &slow.keeper.names, "an old authority").expect("it lacks one");
    assert!(!slow.keeper.write_bundle(&seen, patch).await.expect("it is told of the newer one"));
    assert_eq!(cluster.bundle(), newer);
    slow.act().await;
    slow.act().await;
    assert_eq!(cluster.bundle(), newer);
    assert!(slow.is_ready());
}

/// Another replica makes a new authority, and tells the API server of it; says what that believes now.
async fn renewed(cluster: &Cluster) -> String {
    let api = cluster.serve().await;
    let mut other = Replica::new(&api, cluster, &[]);
    other.look();
    other.act().await;
    let before = other.keeper.seen.served.clone();
    let renewed = issue::carry_out(Plan::NewAuthority, before, (&other.keeper.names, other.keeper.lifetimes), now());
    let secret = other.keeper.empty();
    let secret = Secret { data: Some(renewed.expect("keys can be made").write()), ..secret };
    cluster.state().keep(&serde_json::to_value(secret).expect("JSON"));
    other.look();
    other.act().await;
    cluster.bundle()
}

#[tokio::test]
async fn a_deleted_secret_is_made_again_and_the_certificate_stays_until_the_new_authority_is_trusted() {
    let (_api, cluster, mut replica) = one().await;
    let (served, bundle) = (replica.served().to_owned(), cluster.bundle());
    cluster.state().secret = None;
    replica.look();
    replica.act().await;
    assert_eq!(replica.served(), served);
    assert!(cluster.bundle().ends_with(&bundle) && cluster.bundle() != bundle, "the new authority, and the one before");
    assert!(replica.is_believed() && replica.is_ready());
}

#[tokio::test]
async fn a_secret_made_garbage_is_written_again_with_its_type() {
    let (_api, cluster, mut replica) = one().await;
    let served = replica.served().to_owned();
    let garbage = json!({"metadata": {"name": "postern-webhook-tls"}, "type": "Opaque", "data": {"tls.crt": "AAAA"}});
    cluster.state().keep(&garbage);
    replica.look();
    replica.act().await;
    assert_eq!(replica.served(), served);
    assert!(replica.is_believed());
    assert_eq!(cluster.state().secret.as_ref().expect("there")["type"], "Opaque");
}

#[tokio::test]
async fn a_replica_that_knows_nothing_heals_garbage_too() {
    let cluster = Cluster::new();
    cluster.state().keep(&json!({"metadata": {"name": "postern-webhook-tls"}, "data": {"ca.crt": "AAAA"}}));
    let api = cluster.serve().await;
    let mut replica = Replica::new(&api, &cluster, &[]);
    replica.look();
    replica.act().await;
    assert!(replica.is_believed() && replica.is_ready());
}

#[tokio::test]
async fn a_bundle_that_somebody_removed_is_written_again() {
    let (_api, cluster, mut replica) = one().await;
    cluster.state().edit_hook(|hook| hook["webhooks"][0]["clientConfig"]["caBundle"] = Value::Null);
    replica.look();
    replica.act().await;
    assert!(replica.is_believed());
}

#[tokio::test]
async fn webhooks_that_were_rearranged_meanwhile_are_looked_at_again() {
    let (_api, cluster, mut replica) = one().await;
    let ours = cluster.state().hook["webhooks"][0].clone();
    replica.look();
    let Told::Present(seen) = &mut replica.keeper.seen.configuration else { panic!("it is there") };
    seen.webhooks.as_mut().expect("webhooks")[0].client_config.ca_bundle = None;
    let other = json!({"name": "other", "clientConfig": {}, "admissionReviewVersions": [], "sideEffects": "None"});
    cluster.state().edit_hook(|hook| hook["webhooks"] = json!([other, ours]));
    assert_eq!(replica.act().await, Duration::ZERO, "the patch was refused, and it has looked");
    assert!(cluster.state().hook["webhooks"][0]["clientConfig"].get("caBundle").is_none());
    replica.act().await;
    assert!(replica.is_ready());
}

#[tokio::test]
async fn a_bundle_that_may_not_be_written_is_tried_again_after_a_pause() {
    let (_api, cluster, mut replica) = one().await;
    cluster.state().edit_hook(|hook| hook["webhooks"][0]["clientConfig"]["caBundle"] = Value::Null);
    cluster.state().refuses = Some(422);
    replica.look();
    assert_eq!([replica.act().await, replica.act().await], [FIRST_PAUSE, FIRST_PAUSE * 2]);
    cluster.state().refuses = None;
    replica.act().await;
    assert!(replica.is_believed());
}

#[tokio::test]
async fn without_a_webhook_configuration_nobody_waits_for_a_bundle() {
    let cluster = Cluster::new();
    cluster.state().hook = Value::Null;
    let api = cluster.serve().await;
    let mut replica = Replica::new(&api, &cluster, &[]);
    replica.look();
    replica.act().await;
    assert!(replica.is_ready());
}

#[tokio::test]
async fn who_may_not_write_goes_on_with_what_it_has_and_pauses_longer_and_longer() {
    let (_api, cluster, mut replica) = one().await;
    cluster.state().secret = None;
    cluster.state().refuses = Some(403);
    replica.look();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        pauses.push(replica.act().await.as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert!(replica.is_believed());
    cluster.state().refuses = None;
    assert!(replica.act().await > FIRST_PAUSE);
}

#[tokio::test]
async fn somebody_elses_certificate_is_served_and_never_written() {
    let (_api, cluster, first) = one().await;
    let certificate = first.served().to_owned();
    let api = cluster.serve().await;
    let mut replica = Replica::new(&api, &cluster, &["--external-certificate"]);
    cluster.state().hook["webhooks"][0]["clientConfig"]["caBundle"] = Value::Null;
    replica.look();
    replica.act().await;
    assert_eq!(replica.served(), certificate);
    assert!(replica.is_ready());
    cluster.state().secret = None;
    replica.look();
    replica.act().await;
    assert!(replica.is_ready(), "what was served last is still trusted: {:?}", replica.readiness.hindrances());
    assert!(replica.keeper.current.get().is_some(), "what was there last goes on");
    assert!(api.asked().is_empty(), "{:?}", api.asked());
}
