//! A `ConfigMap` with plugins as the API server holds it: of their code only the digests are kept.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::{Deserialize, Deserializer};

use crate::render::digest;

/// A `ConfigMap` with plugins.
#[derive(Clone, Debug, Default)]
pub struct PluginMap {
    /// Its name and the like, without annotations.
    pub metadata: ObjectMeta,
    /// The code under each key.
    pub code: BTreeMap<String, Code>,
}

/// A plugin's code, as far as it matters to who does not run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The SHA-256 of its bytes, in hexadecimal digits.
    pub digest: String,
    /// How many there are.
    pub size: usize,
}

/// As it comes over the wire.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    metadata: ObjectMeta,
    #[serde(default)]
    binary_data: BTreeMap<String, ByteString>,
}

impl<'de> Deserialize<'de> for PluginMap {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<PluginMap, D::Error> {
        let Wire { mut metadata, binary_data } = Wire::deserialize(source)?;
        metadata.managed_fields = None;
        metadata.annotations = None;
        let code = |ByteString(bytes): ByteString| Code { digest: digest(&bytes), size: bytes.len() };
        let code = binary_data.into_iter().map(|(key, bytes)| (key, code(bytes))).collect();
        Ok(PluginMap { metadata, code })
    }
}

impl Resource for PluginMap {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ConfigMap::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        ConfigMap::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        ConfigMap::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        ConfigMap::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
