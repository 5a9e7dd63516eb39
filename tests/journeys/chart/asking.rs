//! Which pods the API server asks the operator about.

use operator::names;
use serde_json::{Value, json};

use crate::cel::{self, Request};
use crate::pod;
use crate::render::{Chart, Objects};

#[test]
fn no_field_of_the_webhook_is_left_to_the_api_server_and_none_is_the_operators() {
    let objects = Chart::new().render();
    for webhook in webhooks(&objects) {
        let keys: Vec<_> = webhook.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let mut wanted = vec![
            "name",
            "admissionReviewVersions",
            "clientConfig",
            "failurePolicy",
            "matchPolicy",
            "reinvocationPolicy",
            "sideEffects",
            "timeoutSeconds",
            "rules",
            "namespaceSelector",
            "objectSelector",
            "matchConditions",
        ];
        wanted.sort_unstable();
        let mut keys = keys;
        keys.sort_unstable();
        assert_eq!(keys, wanted);
        assert_eq!(
            webhook["clientConfig"].as_object().map(serde_json::Map::len),
            Some(1),
            "a caBundle would be taken back"
        );
        assert_eq!(webhook["failurePolicy"], "Fail");
        assert_eq!(webhook["sideEffects"], "NoneOnDryRun");
    }
}

#[test]
fn the_webhook_is_asked_about_pods_that_asked_and_no_others() {
    let objects = Chart::new().set("webhook.excludedNamespaces=[\"legacy\"]").render();
    let ask = |namespace: &[(&str, &str)], annotations: Value| {
        let request = Request::create(pod(annotations));
        let labels = namespace.iter().copied().collect();
        let asked = webhooks(&objects).iter().filter(|webhook| {
            cel::selects(&webhook["namespaceSelector"], &labels)
                && cel::matches(&webhook["matchConditions"], &request).expect("an expression that cannot fail")
        });
        let paths: Vec<_> = asked.map(|webhook| webhook["clientConfig"]["service"]["path"].to_string()).collect();
        paths.join(" and ")
    };
    let (pod_asked, namespace_asked) = ("\"/inject/pod\"", "\"/inject/namespace\"");
    let shop = [("kubernetes.io/metadata.name", "shop")];
    let opted_in = [("kubernetes.io/metadata.name", "shop"), (names::INJECT, names::ENABLED)];
    let otherwise = [("kubernetes.io/metadata.name", "shop"), (names::INJECT, "disabled")];
    for (annotations, alone, in_opted) in [
        (Value::Null, "", namespace_asked),
        (json!({}), "", namespace_asked),
        (json!({"other": "true"}), "", namespace_asked),
        (json!({names::INJECT: "true"}), pod_asked, namespace_asked),
        (json!({names::INJECT: "orders"}), pod_asked, namespace_asked),
        (json!({names::INJECT: ""}), pod_asked, namespace_asked),
        (json!({names::INJECT: "false"}), "", ""),
        (json!({names::INJECT: "true", "kubernetes.io/config.mirror": "a"}), "", ""),
    ] {
        assert_eq!(ask(&shop, annotations.clone()), alone, "{annotations}");
        assert_eq!(ask(&otherwise, annotations.clone()), alone, "{annotations}");
        assert_eq!(ask(&opted_in, annotations.clone()), in_opted, "{annotations}, in a namespace that opted in");
        for excluded in ["kube-system", "kube-public", "kube-node-lease", "postern-system", "legacy"] {
            let namespace = [("kubernetes.io/metadata.name", excluded), (names::INJECT, names::ENABLED)];
            assert_eq!(ask(&namespace, annotations.clone()), "", "{annotations} in {excluded}");
        }
    }
}

fn webhooks(objects: &Objects) -> &[Value] {
    let configuration = objects.the("MutatingWebhookConfiguration", "zz-postern");
    configuration["webhooks"].as_array().map_or(&[], Vec::as_slice)
}
