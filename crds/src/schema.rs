//! The schema of the resource, as the API server gets it and as files are compared with it.

use crate::GatewayConfig;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

/// The last words of a setting's description: when a change of it takes effect.
const EFFECTS: [&str; 2] = ["Live.", "Restart-required."];

/// The custom resource definition.
pub fn crd() -> Value {
    let mut crd = serde_json::to_value::<CustomResourceDefinition>(GatewayConfig::crd()).unwrap_or_default();
    if let Some(root) = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        tidy(root);
    }
    crd
}

/// The schema of `spec` alone.
pub fn spec() -> Value {
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    crd().pointer_mut(path).map(Value::take).unwrap_or_default()
}

/// The schema of `spec` without its words and rules: what [`shape`](crate::shape) compares files with. It is committed
/// and compiled in, so that a gateway reads a few kilobytes where it would else generate a megabyte.
pub fn shape() -> Result<String, serde_json::Error> {
    let mut schema = spec();
    strip(&mut schema);
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}

fn strip(schema: &mut Value) {
    if let Value::Object(map) = schema {
        let is_schema = map.contains_key("type") || map.contains_key("x-kubernetes-int-or-string");
        if is_schema {
            map.retain(|key, _| {
                !["description", "x-kubernetes-validations", "default", "format"].contains(&key.as_str())
            });
        }
        map.values_mut().for_each(strip);
    }
}

/// The custom resource definition as YAML, with a word on where it comes from.
pub fn yaml() -> Result<String, serde_yaml::Error> {
    Ok(format!("# Generated from the types in crds/src by `cargo crdgen write`.\n{}", serde_yaml::to_string(&crd())?))
}

/// The template of the chart: the same definition, behind the chart's values.
pub fn chart_template() -> Result<String, serde_yaml::Error> {
    const METADATA: &str = "\nmetadata:\n";
    const KEEP: &str =
        "  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n";
    let yaml = yaml()?.replacen(METADATA, &format!("{METADATA}{KEEP}"), 1);
    Ok(format!("{{{{- if .Values.crds.enabled }}}}\n{yaml}{{{{- end }}}}\n"))
}

/// Brings what schemars generates into the form that the API server likes:
/// sections default to `{}`, so that the defaults inside them apply; an absent value is never `null`, so that `has()`
/// in rules means what it says; required keys have no default; no number has a format the API server does not know; and
/// a description is one line. What is in a list has its defaults in words only: see [`say_defaults`].
fn tidy(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("nullable");
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if object.get("type") == Some(&json!("object")) && object.get("default").is_some_and(Value::is_object) {
        object.insert("default".into(), json!({}));
    }
    if object.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        object.insert("format".into(), json!("int32"));
    }
    if object.contains_key("x-kubernetes-int-or-string") {
        object.remove("description");
    }
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    let required = object.get("required").cloned().unwrap_or_default();
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties {
            tidy(property);
            let is_required = required.as_array().is_some_and(|names| names.contains(&json!(name)));
            if let (true, Some(property)) = (is_required, property.as_object_mut()) {
                property.remove("default");
            }
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(inner) {
            tidy(inner);
        }
    }
    if let Some(items) = object.get_mut("items") {
        say_defaults(items);
    }
}

/// Turns the defaults inside of `schema`, which is of a list's entries, into words of their descriptions.
///
/// Who applies a manifest compares lists as a whole. An API server that fills in defaults there makes them differ from what was
/// applied for ever, so that nothing changes and yet everything says that something did. The gateway and the operator
/// fill them in themselves.
fn say_defaults(schema: &mut Value) {
    for (_, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        say_defaults(property);
        let Some(default) = property.as_object_mut().and_then(|property| property.remove("default")) else { continue };
        let default = match default {
            Value::String(default) => default,
            Value::Number(default) => default.as_f64().unwrap_or_default().to_string(),
            // A section, of which each setting says its own.
            Value::Object(_) if property["properties"].is_object() => continue,
            other => other.to_string(),
        };
        if let Some(Value::String(description)) = property.get_mut("description")
            && let Some(end) = EFFECTS.iter().find_map(|effect| description.strip_suffix(effect)).map(str::len)
        {
            description.insert_str(end, &format!("Default: `{default}`. "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_definition_is_the_generated_one() {
        let committed = include_str!("../gatewayconfig.yaml");
        assert!(committed == yaml().unwrap(), "crds/gatewayconfig.yaml is stale; run `cargo crdgen write`");
    }

    #[test]
    fn the_shape_is_the_one_of_the_schema() {
        assert!(
            include_str!("../shape.json") == shape().unwrap(),
            "crds/shape.json is stale; run `cargo crdgen write`"
        );
    }

    #[test]
    fn the_chart_holds_the_generated_definition() {
        let committed = include_str!("../../charts/postern/templates/crd.yaml");
        assert!(committed == chart_template().unwrap(), "the chart's crd.yaml is stale; run `cargo crdgen write`");
    }
}
