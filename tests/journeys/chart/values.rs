//! What may be set, and what is refused.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::render::Chart;
use crate::{operator_pod, settings};

#[test]
fn without_a_registry_it_names_the_value_that_is_missing() {
    let refusal = Chart::bare().refusal();
    assert!(
        refusal.contains("image.registry is not set; say where the images were pushed to, as in --set image.registry="),
        "{refusal}"
    );
}

#[test]
fn whole_references_need_no_registry() {
    let hash = "a".repeat(64);
    let gateway = format!("registry.example.com:5000/postern/gateway@sha256:{hash}");
    let chart = Chart::bare().set("image.operator=localhost/operator:dev").set(&format!("image.gateway={gateway}"));
    let objects = chart.render();
    let container = &operator_pod(&objects)["containers"][0];
    assert_eq!(container["image"], "localhost/operator:dev");
    assert_eq!(settings(&objects).sidecars.gateway_image, gateway);
}

#[test]
fn a_value_that_cannot_be_meant_is_refused_by_its_name() {
    for (assignment, named) in [
        ("image.registri=x", "registri"),
        ("replicas=3", "replicas"),
        ("operator.replicas=0", "replicas"),
        ("operator.replicas=two", "replicas"),
        ("image.registry=https://registry.example.com", "registry"),
        ("image.registry=registry example", "registry"),
        ("image.tag=a/b", "tag"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.pullSecrets=[{\"name\": \"x\"}]", "pullSecrets"),
        ("operator.logLevel=loud", "logLevel"),
        ("operator.leaseDuration=15", "leaseDuration"),
        ("operator.resources.requests.cpu=lots", "cpu"),
        ("sidecar.resources.limit.memory=1Gi", "limit"),
        ("sidecar.resources.limits.memory=1GB", "memory"),
        ("webhook.failurePolicy=Retry", "failurePolicy"),
        ("webhook.timeoutSeconds=31", "timeoutSeconds"),
        ("webhook.port=0", "port"),
        ("webhook.certificateLifetime=a month", "certificateLifetime"),
        ("webhook.excludedNamespaces=[\"Not_A_Name\"]", "excludedNamespaces"),
        ("webhook.certManager.issuerRef={\"kind\": \"ClusterIssuer\"}", "issuerRef"),
        ("networkPolicy.apiServerPorts=[]", "apiServerPorts"),
        ("crds.enabled=maybe", "enabled"),
        ("prometheusRule.without=[\"desync\"]", "without"),
        ("dashboard.labels={\"grafana_dashboard\": 1}", "labels"),
        ("operator.httpPort=10250", "webhook.port and operator.httpPort are both 10250"),
        ("operator.hostNetwork=true", "operator.hostNetwork needs another webhook.port than 10250"),
    ] {
        let refusal = Chart::new().set(assignment).refusal();
        assert!(refusal.contains(named), "{assignment}: {refusal}");
    }
}

#[test]
fn every_value_has_a_default_a_type_and_a_comment() {
    let folder = Chart::bare().folder().to_owned();
    let read = |file: &str| fs::read_to_string(folder.join(file)).expect("the chart has this file");
    let text = read("values.yaml");
    let values: Value = serde_yaml::from_str(&text).expect("values are YAML");
    let schema: Value = serde_json::from_str(&read("values.schema.json")).expect("the schema is JSON");
    same_keys("", &values, &schema);
    assert!(text.lines().filter(|line| line.trim_start().starts_with('#')).count() > 20, "values.yaml says too little");
}

/// Both have the same keys, as far down as the schema knows them.
fn same_keys(path: &str, values: &Value, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else { return };
    if schema["description"].as_str() == Some(OPEN) {
        return;
    }
    assert_eq!(schema["additionalProperties"], false, "{path} takes any key");
    let (of_values, of_schema) = (values.as_object().expect("an object"), properties.keys());
    let of_schema: BTreeSet<_> = of_schema.map(String::as_str).filter(|key| *key != "global").collect();
    assert_eq!(of_values.keys().map(String::as_str).collect::<BTreeSet<_>>(), of_schema, "{path}");
    for (key, value) in of_values {
        same_keys(&format!("{path}.{key}"), value, &properties[key]);
    }
}

/// What the schema says of the only section whose keys have no defaults.
const OPEN: &str = "Who signs the certificate; default: an authority that is made for this alone.";
