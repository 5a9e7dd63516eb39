//! The caBundle: by it the API server knows that it speaks with us.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, TestOperation};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::Names;

/// What has to be changed so that the webhooks that lead to `names` are believed by `bundle`; nothing if nothing has.
///
/// The change is tied to the version that was read: whoever has written meanwhile makes it fail, and we look again.
pub(super) fn patch(configuration: &MutatingWebhookConfiguration, names: &Names, bundle: &str) -> Option<Patch> {
    let wanted = ByteString(bundle.as_bytes().to_vec());
    let webhooks = configuration.webhooks.iter().flatten().enumerate();
    let wrong = webhooks
        .filter(|(_, webhook)| leads_to(webhook, names))
        .filter(|(_, webhook)| webhook.client_config.ca_bundle.as_ref() != Some(&wanted));
    let changes: Vec<PatchOperation> = wrong
        .map(|(index, _)| {
            let path = PointerBuf::from_tokens(["webhooks", &index.to_string(), "clientConfig", "caBundle"]);
            let value = serde_json::to_value(&wanted).unwrap_or(Value::Null);
            PatchOperation::Add(AddOperation { path, value })
        })
        .collect();
    if changes.is_empty() {
        return None;
    }
    let (path, value) =
        (PointerBuf::from_tokens(["metadata", "resourceVersion"]), json!(configuration.resource_version()));
    let is_unchanged = PatchOperation::Test(TestOperation { path, value });
    Some(Patch([is_unchanged].into_iter().chain(changes).collect()))
}

fn leads_to(webhook: &MutatingWebhook, names: &Names) -> bool {
    let service = webhook.client_config.service.as_ref();
    service.is_some_and(|service| service.name == names.service && service.namespace == names.namespace)
}
