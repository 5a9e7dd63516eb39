//! What is delivered to sidecars: the resource as the file that a gateway reads.
//!
//! It depends on nothing but the resource, and a value that equals its default is left out, so that an older sidecar
//! refuses only what somebody uses.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crds::{API_VERSION, GatewayConfig, GatewayConfigSpec, Hook, KIND, Proxy};
use kube::ResourceExt;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The sidecar's `/etc/hosts` where the pod's maps the database's names to the sidecar itself.
pub const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// The hexadecimal digits by which a pod records the part of the resource with which it was created.
const SIDECAR_HASH: usize = 16;

/// A resource as the file that a gateway reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The file: a manifest in YAML.
    pub document: String,
    /// The SHA-256 of its bytes, in hexadecimal digits.
    pub hash: String,
}

/// Writes `config` as the file that a gateway reads.
pub fn render(config: &GatewayConfig) -> Rendered {
    let mut metadata = json!({ "name": config.name_any() });
    if let Some(namespace) = config.namespace() {
        metadata["namespace"] = namespace.into();
    }
    let spec = sparse(&config.spec);
    let manifest = json!({ "apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec });
    // Only a map whose keys are no texts cannot be written, and JSON has none.
    let document = serde_yaml::to_string(&sorted(manifest)).unwrap_or_default();
    let hash = digest(document.as_bytes());
    Rendered { document, hash }
}

/// The names of the Secrets that a sidecar needs, sorted.
pub fn secrets(spec: &GatewayConfigSpec) -> Vec<String> {
    let named = spec.proxies.iter().flat_map(|proxy| {
        [
            proxy.server.auth.secret_name.as_ref(),
            proxy.server.tls.secret_name.as_ref(),
            proxy.client.tls.secret_name.as_ref(),
            proxy.client.auth.as_ref().map(|auth| &auth.secret_name),
        ]
    });
    named.flatten().collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

/// A short hash of what of the resource only a new pod gets: what the injector adds.
pub fn sidecar_hash(spec: &GatewayConfigSpec) -> String {
    let mut sidecar = value(&spec.sidecar);
    prune(&mut sidecar, &value(&crds::Sidecar::default()));
    let mut hash = digest(sorted(sidecar).to_string().as_bytes());
    hash.truncate(SIDECAR_HASH);
    hash
}

/// The SHA-256 of `bytes`, in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// `spec` without what equals its default.
fn sparse(spec: &GatewayConfigSpec) -> Value {
    let mut sparse = value(spec);
    prune_each(&mut sparse["proxies"], &value(&Proxy::default()));
    prune_each(&mut sparse["hooks"], &value(&Hook::default()));
    prune(&mut sparse, &value(&GatewayConfigSpec::default()));
    sparse
}

fn value(part: &impl Serialize) -> Value {
    serde_json::to_value(part).unwrap_or_default()
}

fn prune_each(list: &mut Value, default: &Value) {
    list.as_array_mut().into_iter().flatten().for_each(|one| prune(one, default));
}

/// Takes out of `value` what `default` says as well.
fn prune(value: &mut Value, default: &Value) {
    let (Value::Object(map), Value::Object(defaults)) = (value, default) else { return };
    map.retain(|key, inner| {
        let Some(default) = defaults.get(key) else { return true };
        prune(inner, default);
        let is_empty_section = default.is_object() && inner.as_object().is_some_and(Map::is_empty);
        inner != default && !is_empty_section
    });
}

/// The same with its keys in order, whatever the order in which they were put in.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            entries.into_iter().map(|(key, value)| (key, sorted(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(list) => list.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests;
