//! The caBundle: by it the API server knows that it speaks with us.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, TestOperation};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use serde_json::{Value, json};

use super::Names;

/// What has to be changed so that the webhooks that lead to `names` are believed by `bundle`; nothing if nothing has.
///
/// Each change is tied to the webhook's name: whoever rearranges them meanwhile makes it fail, and we look again.
pub(super) fn patch(configuration: &MutatingWebhookConfiguration, names: &Names, bundle: &str) -> Option<Patch> {
    let wanted = ByteString(bundle.as_bytes().to_vec());
    let webhooks = configuration.webhooks.iter().flatten().enumerate();
    let wrong = webhooks
        .filter(|(_, webhook)| leads_to(webhook, names))
        .filter(|(_, webhook)| webhook.client_config.ca_bundle.as_ref() != Some(&wanted));
    let operations: Vec<PatchOperation> = wrong
        .flat_map(|(index, webhook)| {
            let path = |rest: &[&str]| {
                let index = index.to_string();
                PointerBuf::from_tokens(["webhooks", &index].into_iter().chain(rest.iter().copied()))
            };
            let value = serde_json::to_value(&wanted).unwrap_or(Value::Null);
            [
                PatchOperation::Test(TestOperation { path: path(&["name"]), value: json!(webhook.name) }),
                PatchOperation::Add(AddOperation { path: path(&["clientConfig", "caBundle"]), value }),
            ]
        })
        .collect();
    (!operations.is_empty()).then_some(Patch(operations))
}

fn leads_to(webhook: &MutatingWebhook, names: &Names) -> bool {
    let service = webhook.client_config.service.as_ref();
    service.is_some_and(|service| service.name == names.service && service.namespace == names.namespace)
}
