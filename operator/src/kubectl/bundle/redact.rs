//! What is left out of things before they leave the cluster.

use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;
use serde_json::{Value, json};

use crate::names::{CONTAINER, PREFIX};

/// What of a container that is not ours is kept; of its environment only the names.
const KEPT: [&str; 6] = ["name", "image", "ports", "resources", "restartPolicy", "volumeMounts"];
/// The annotation in which `kubectl apply` keeps all that somebody wrote, values of variables among it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object without what only machines read, and what repeats what somebody wrote.
pub(super) fn object(thing: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(thing).unwrap_or_default();
    clean(&mut value);
    // A Deployment has containers in its template.
    if let Some(spec) = value.pointer_mut("/spec/template/spec") {
        containers(spec);
    }
    value
}

/// A pod, of whose own containers only the outside is kept.
pub(super) fn pod(pod: &Pod) -> Value {
    let mut value = serde_json::to_value(pod).unwrap_or_default();
    clean(&mut value);
    // Of others' annotations nothing is known; some tools keep secrets there.
    if let Some(Value::Object(annotations)) = value.pointer_mut("/metadata/annotations") {
        annotations.retain(|name, _| name.starts_with(PREFIX));
    }
    if let Some(spec) = value.get_mut("spec") {
        containers(spec);
    }
    value
}

fn clean(value: &mut Value) {
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.remove("managedFields");
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(LAST_APPLIED);
        }
    }
}

fn containers(spec: &mut Value) {
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            outside(container);
        }
    }
}

/// Keeps of a container what says nothing about its secrets.
fn outside(container: &mut Value) {
    let is_ours = container["name"] == CONTAINER || container["name"] == "operator";
    let Value::Object(fields) = container else { return };
    let names: Vec<Value> = fields
        .get("env")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|variable| json!({ "name": variable["name"] }))
        .collect();
    if !is_ours {
        fields.retain(|key, _| KEPT.contains(&key.as_str()));
    }
    if !names.is_empty() {
        fields.insert("env".to_owned(), names.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_people_wrote_into_a_pod_is_left_out_wherever_it_is() {
        let planted = "planted-secret";
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "app", "annotations": {
                LAST_APPLIED: format!("{{\"env\": \"{planted}\"}}"), "vault.example/token": planted, "postern.dev/inject": "orders"
            } },
            "spec": {
                "initContainers": [
                    { "name": "postern-gateway", "image": "gateway", "args": ["run"], "env": [{ "name": "A", "value": planted }] },
                    { "name": "migrate", "command": ["psql", planted] }
                ],
                "containers": [{
                    "name": "app", "image": "app", "args": [planted], "env": [{ "name": "PGPASSWORD", "value": planted }],
                    "livenessProbe": { "httpGet": { "port": 80, "httpHeaders": [{ "name": "Authorization", "value": planted }] } }
                }]
            }
        }))
        .expect("a pod");
        let kept = super::pod(&pod).to_string();
        assert!(!kept.contains(planted), "{kept}");
        for part in ["PGPASSWORD", "postern.dev/inject", "\"args\":[\"run\"]", "migrate"] {
            assert!(kept.contains(part), "{part} is missing: {kept}");
        }
    }
}
