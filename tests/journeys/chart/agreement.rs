//! The chart and the operator mean the same by the same names, flags and ports.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use clap::Parser;
use operator::{names, status};
use serde_json::json;

use crate::render::Chart;
use crate::{Program, operator_pod, settings};

#[test]
fn the_operator_accepts_the_arguments_of_its_deployment() {
    let objects = Chart::new()
        .set("image.pullSecrets=[\"one\", \"two\"]")
        .set("sidecar.resources.requests={\"cpu\": 1, \"memory\": \"32Mi\"}")
        .set("sidecar.resources.limits=null")
        .set("webhook.certManager.enabled=true")
        .set("operator.leaseDuration=1m30s")
        .set("webhook.port=8443")
        .render();
    let settings = settings(&objects);
    assert_eq!(settings.sidecars.image_pull_secrets, ["one", "two"]);
    let amounts: Vec<_> =
        settings.sidecars.sidecar_requests.iter().map(|(name, amount)| format!("{name}={}", amount.0)).collect();
    assert_eq!(amounts, ["cpu=1", "memory=32Mi"]);
    assert!(settings.sidecars.sidecar_limits.is_empty());
    assert!(settings.external_certificate);
    assert_eq!(settings.lease_duration.as_secs(), 90);
    assert_eq!(settings.webhook_address.port(), 8443);
}

#[test]
fn the_charts_defaults_are_the_operators() {
    let by_chart = settings(&Chart::new().render());
    let Program::Run(alone) =
        Program::parse_from(["operator", "run", "--gateway-image", &by_chart.sidecars.gateway_image])
    else {
        panic!("run is run");
    };
    assert_eq!(format!("{by_chart:#?}"), format!("{alone:#?}"));
    let image = format!("registry.example.com/postern/gateway:{}", cast::images::VERSION);
    assert_eq!(by_chart.sidecars.gateway_image, image);
}

#[test]
fn the_test_pod_asks_the_webhook_configuration_of_the_chart() {
    let objects = Chart::new().render();
    let test = objects.the("Pod", "postern-test");
    assert_eq!(test["metadata"]["annotations"]["helm.sh/hook"], "test");
    let arguments = test["spec"]["containers"][0]["args"].as_array().expect("it has arguments");
    let arguments = arguments.iter().map(|argument| argument.as_str().expect("a word"));
    let Program::Probe(probe) = Program::parse_from(["operator"].into_iter().chain(arguments)) else {
        panic!("probe is probe");
    };
    objects.the("MutatingWebhookConfiguration", &probe.webhook_configuration);
}

#[test]
fn the_chart_and_the_operator_give_things_the_same_names() {
    let objects = Chart::with_everything().render();
    let settings = settings(&objects);
    objects.the("Service", &settings.service);
    objects.the("MutatingWebhookConfiguration", &settings.webhook_configuration);
    let rules = &objects.the("Role", "postern-operator")["rules"];
    let named: Vec<_> =
        rules.as_array().into_iter().flatten().filter_map(|rule| rule["resourceNames"][0].as_str()).collect();
    assert_eq!(named, [settings.lease.as_str(), settings.certificate_secret.as_str()]);
    let sidecars = objects.the("PodMonitor", "postern-sidecars");
    assert_eq!(sidecars["spec"]["podMetricsEndpoints"][0]["port"], names::ADMIN_PORT);
    assert_eq!(sidecars["spec"]["selector"]["matchLabels"], json!({names::INJECTED: "true"}));
    let let_out = &objects.the("NetworkPolicy", "postern-operator")["spec"]["egress"][2]["to"][0];
    assert_eq!(let_out["podSelector"]["matchLabels"], json!({names::INJECTED: "true"}));
}

#[test]
fn ports_lead_from_the_service_to_where_the_operator_listens() {
    let objects = Chart::new().set("webhook.port=8443").set("operator.httpPort=8080").render();
    let settings = settings(&objects);
    let container = &operator_pod(&objects)["containers"][0];
    let ports: HashMap<_, _> = container["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| (port["name"].as_str(), port["containerPort"].as_u64()))
        .collect();
    assert_eq!(ports[&Some("webhook")], Some(u64::from(settings.webhook_address.port())));
    assert_eq!(ports[&Some("http")], Some(u64::from(settings.http_address.port())));
    assert_eq!(objects.the("Service", "postern-webhook")["spec"]["ports"][0]["targetPort"], "webhook");
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "http");
    }
    let labels = &objects.the("Deployment", "postern-operator")["spec"]["template"]["metadata"]["labels"];
    for (key, value) in objects.the("Service", "postern-webhook")["spec"]["selector"].as_object().into_iter().flatten()
    {
        assert_eq!(&labels[key], value);
    }
    assert_ne!(objects.the("Pod", "postern-test")["metadata"]["labels"], *labels);
}

#[test]
fn its_own_pods_pass_pod_security_restricted() {
    let objects = Chart::new().render();
    for spec in [operator_pod(&objects), &objects.the("Pod", "postern-test")["spec"]] {
        for container in spec["containers"].as_array().into_iter().flatten() {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["runAsNonRoot"], true);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
            assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}));
            assert!(context["runAsUser"].is_null(), "the image names a user, and a cluster may choose another");
            for amount in ["cpu", "memory"] {
                assert!(container["resources"]["requests"][amount].is_string(), "a quota may ask for {amount}");
            }
        }
    }
}

#[test]
fn the_operations_page_explains_every_annotation_condition_and_reason() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/OPERATIONS.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let annotations = [
        names::INJECT,
        names::IMAGE,
        names::LOG_LEVEL,
        names::CPU_REQUEST,
        names::MEMORY_REQUEST,
        names::CPU_LIMIT,
        names::MEMORY_LIMIT,
        names::CONFIG_HASH,
        names::SIDECAR_HASH,
    ];
    let conditions = [status::ACCEPTED, status::PROGRAMMED, status::READY, status::DEGRADED, status::RESTART_REQUIRED];
    let reasons = status::REASONS.map(|(reason, _)| reason);
    for word in annotations.into_iter().chain(conditions).chain(reasons) {
        assert!(page.contains(&format!("`{word}`")), "operator/OPERATIONS.md does not speak of {word}");
    }
    assert!(page.contains(&format!("`{}PROXY`", names::PORT_PREFIX)));
}
