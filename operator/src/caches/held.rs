//! A configuration as the API server holds it, also one that cannot be read.

use std::borrow::Cow;
use std::sync::Arc;

use crds::{GatewayConfig, GatewayConfigSpec, GatewayConfigStatus, shape};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::deliver::sentences;

/// A configuration, or what makes it unreadable, in one sentence.
pub type Known = Result<Arc<GatewayConfig>, String>;

/// A configuration as the API server holds it.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its name and the like, without annotations.
    pub metadata: ObjectMeta,
    /// What it says.
    pub known: Known,
    /// What was last written about it.
    pub status: GatewayConfigStatus,
}

/// As it comes over the wire.
#[derive(Deserialize)]
struct Wire {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Held, D::Error> {
        let Wire { mut metadata, spec, status } = Wire::deserialize(source)?;
        metadata.managed_fields = None;
        metadata.annotations = None;
        // Whoever wrote a status that we cannot read wrote nothing that we need.
        let status = serde_json::from_value(status).unwrap_or_default();
        let known = read(spec).map(|spec| Arc::new(GatewayConfig { metadata: metadata.clone(), spec, status: None }));
        Ok(Held { metadata, known, status })
    }
}

/// Reads a spec, or says what hinders. Keys that this version does not know hinder nobody: the API server has accepted
/// them, so there is a newer operator about.
fn read(spec: Value) -> Result<GatewayConfigSpec, String> {
    GatewayConfigSpec::deserialize(&spec).map_err(|error| {
        let mut spec = spec;
        let problems = shape::check(&mut spec);
        if problems.is_empty() { error.to_string() } else { sentences(&problems) }
    })
}

// === impl Held ===

impl Held {
    /// What is deleted, and only held by somebody's finalizer.
    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
}

impl Resource for Held {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        GatewayConfig::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        GatewayConfig::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        GatewayConfig::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        GatewayConfig::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
