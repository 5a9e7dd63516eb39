//! What the API server is told, as it goes over the wire.

use std::collections::BTreeMap;

use json_patch::Patch;
use k8s_openapi::ByteString;
use serde::Serialize;

use super::{API_VERSION, KIND};
use crate::api::cut;

/// Of a denial this many characters are told; what is in a pod has no limit of its own yet.
const MAX_DENIAL: usize = 1024;
/// Longer warnings may be cut anywhere on their way.
const MAX_WARNING: usize = 250;
/// More warnings than this may not arrive.
const MOST_WARNINGS: usize = 16;

/// An answer.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<&'static str, String>,
}

/// Why not.
#[derive(Debug, Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

/// What an answer comes in.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: &'a Answer,
}

// === impl Answer ===

impl Answer {
    pub(super) fn allow(uid: &str) -> Self {
        Self { uid: uid.to_owned(), allowed: true, ..Self::default() }
    }

    pub(super) fn deny(uid: &str, message: &str) -> Self {
        let status = Status { code: 403, reason: "Forbidden", message: cut(message, MAX_DENIAL) };
        Self { uid: uid.to_owned(), status: Some(status), ..Self::default() }
    }

    /// With this change, if it is one.
    pub(super) fn change(mut self, patch: &Patch) -> Self {
        if !patch.is_empty() {
            // A patch consists of texts and JSON, so it can be written.
            self.patch = serde_json::to_vec(patch).ok().map(ByteString);
            self.patch_type = Some("JSONPatch");
        }
        self
    }

    pub(super) fn warn(mut self, sentence: impl AsRef<str>) -> Self {
        if self.warnings.len() < MOST_WARNINGS {
            self.warnings.push(cut(sentence.as_ref(), MAX_WARNING));
        }
        self
    }

    pub(super) fn audit(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.audit_annotations.insert(key, value.into());
        self
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let envelope = Envelope { api_version: API_VERSION, kind: KIND, response: self };
        // It consists of texts, so it can be written.
        serde_json::to_vec(&envelope).unwrap_or_default()
    }
}
