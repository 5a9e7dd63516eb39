//! Others who write what is the operator's: each write is one that somebody with the rights for it could make.

use cast::cluster::Kubectl;
use serde_json::{Value, json};

use crate::world::{CONFIGS, World};

/// `nonsense`, as JSON carries bytes.
const NONSENSE: &str = "bm9uc2Vuc2U=";

/// A `ConfigMap` of ours gets another content or another owner, becomes what it was before, or is deleted.
pub(crate) fn write_map(world: &mut World<'_>) {
    let map = format!("{}-postern", world.one_of(&CONFIGS));
    let how = world.random.below(6);
    world.say(&format!("    {map}, in way {how}"));
    let patch = match how {
        0 => json!({"data": {"gateway.yaml": "nonsense"}}),
        1 => json!({"data": {"hosts": null, "more": "of it"}}),
        2 => json!({"metadata": {"ownerReferences": null}}),
        3 => json!({"metadata": {"labels": {"postern.dev/config": "other"}}}),
        4 => {
            world.stage.try_kubectl(["delete", "configmap", &map, "--wait=false"]);
            return;
        }
        _ => return write_what_it_was(world, &map),
    };
    merge(&world.stage, &["configmap", &map], &patch);
}

/// As somebody does who has read it, waits a moment, and writes without looking again.
fn write_what_it_was(world: &mut World<'_>, map: &str) {
    let read = world.stage.try_kubectl(["get", "configmap", map, "-o", "json"]);
    let Ok(read) = serde_json::from_str::<Value>(&read.out) else { return };
    crate::users::edit(world);
    world.rest(std::time::Duration::from_secs(2));
    merge(&world.stage, &["configmap", map], &json!({"data": read["data"]}));
}

/// The Secret of the certificates is deleted, or a part of it is spoilt.
pub(crate) fn write_secret(world: &mut World<'_>) {
    let parts = ["", "tls.crt", "tls.key", "ca.crt", "ca.key", "previous-ca.crt"];
    let part = world.one_of(&parts);
    world.say(&format!("    {}", if part.is_empty() { "it is deleted" } else { part }));
    if part.is_empty() {
        world.system.try_kubectl(["delete", "secret", "postern-webhook-tls", "--wait=false"]);
    } else {
        merge(&world.system, &["secret", "postern-webhook-tls"], &json!({"data": {part: NONSENSE}}));
    }
}

/// One of the two webhooks believes nobody, or somebody else.
pub(crate) fn write_bundle(world: &mut World<'_>) {
    let stranger = rcgen::generate_simple_self_signed(["stranger".to_owned()]).expect("the system has randomness");
    let stranger = base64(&stranger.cert.pem());
    let (webhook, bundle) = (world.random.below(2), world.one_of(&["", stranger.as_str()]));
    world.say(&format!("    of webhook {webhook}, {} bytes", bundle.len()));
    let field = format!("/webhooks/{webhook}/clientConfig/caBundle");
    let patch = json!([{"op": "add", "path": field, "value": bundle}]).to_string();
    let words = ["patch", "mutatingwebhookconfiguration", "zz-postern", "--type=json", "-p", &patch];
    world.cluster.try_kubectl(words);
}

/// The status says what is not so.
pub(crate) fn write_status(world: &mut World<'_>) {
    let config = world.one_of(&CONFIGS);
    world.say(&format!("    {config}"));
    let patch = json!({"status": {"observedGeneration": 4711, "configHash": "by hand", "conditions": []}});
    merge(&world.stage, &["gatewayconfig", config, "--subresource=status"], &patch);
}

/// The lease is somebody's who never leads, or nobody's.
pub(crate) fn take_lease(world: &mut World<'_>) {
    if world.random.below(2) == 0 {
        world.system.try_kubectl(["delete", "lease", "postern-operator", "--wait=false"]);
    } else {
        merge(&world.system, &["lease", "postern-operator"], &json!({"spec": {"holderIdentity": "somebody"}}));
    }
}

/// It may fail: the object may be gone.
fn merge(kubectl: &Kubectl, what: &[&str], patch: &Value) {
    let patch = patch.to_string();
    kubectl.try_kubectl([&["patch"], what, &["--type=merge", "-p", &patch]].concat());
}

/// As JSON carries bytes.
fn base64(text: &str) -> String {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec()))
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .expect("bytes are written as text")
}
