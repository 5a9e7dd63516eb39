//! What was found in the cluster when somebody asked; from here on nothing is looked up any more, so that every sentence is
//! a function of this.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::Value;

use super::live::Live;
use crate::caches::Held;
use crate::choose::{Asker, Candidate};
use crate::names;
use crate::sidecars::pod::Seen;

/// Something that was looked up, or why it could not be.
pub type Known<T> = Result<T, String>;

/// The operator, and what lets the API server reach it.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The operator's namespace.
    pub namespace: String,
    /// The webhook configuration, if there is one.
    pub webhook: Known<Option<MutatingWebhookConfiguration>>,
    /// The operator's Deployment, if there is one.
    pub operator: Known<Option<Deployment>>,
    /// What the operator may not do, if anything.
    pub lacks: Known<Option<String>>,
}

/// What of a namespace matters to its pods.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Known<BTreeMap<String, String>>,
    /// Its configurations.
    pub configs: Vec<Held>,
    /// By configuration, the hash of what is delivered, and the uid of the resource that it was delivered of.
    pub delivered: Known<BTreeMap<String, Delivered>>,
    /// The keys of those Secrets that matter; nothing where there is no such Secret.
    pub secrets: BTreeMap<String, Known<Option<BTreeSet<String>>>>,
    /// The Services that databases' hosts name, by host; nothing where there is none.
    pub services: BTreeMap<String, Known<Option<Service>>>,
    /// The names of all Services here, where a database's host names none.
    pub service_names: Vec<String>,
}

/// What the operator has delivered of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The hash of the file.
    pub hash: String,
    /// The uid of the resource that owns it.
    pub owner: Option<String>,
    /// Whether the operator has made it.
    pub is_ours: bool,
}

/// A Service, as far as a database may be behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its namespace and name.
    pub name: String,
    /// Its ports.
    pub ports: Vec<u16>,
    /// Whether the name leads outside, or directly to pods: then its ports say nothing.
    pub is_without_ports: bool,
    /// Endpoints that are ready.
    pub ready: usize,
}

/// A pod, and what it says of itself.
#[derive(Clone, Debug)]
pub struct PodView {
    /// The pod.
    pub pod: Pod,
    /// The same as it came.
    pub raw: Value,
    /// What matters of it if it has a gateway.
    pub seen: Option<Seen>,
    /// Who made it, up to whom nobody made; nothing where nobody did.
    pub owner: Known<Option<Owner>>,
    /// What its gateway says; nothing where it has none.
    pub live: Option<Known<Live>>,
    /// Warnings of the kubelet and others about it.
    pub warnings: Vec<Warning>,
}

/// Who makes pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its own annotations, which are not its pods'.
    pub annotations: BTreeMap<String, String>,
}

/// What somebody had to say in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub namespace: String,
    /// About what: `ReplicaSet/app-1`.
    pub about: String,
    /// The word.
    pub reason: String,
    /// The sentence.
    pub sentence: String,
}

// === impl Namespace ===

impl Namespace {
    /// The configurations among which a pod chooses.
    pub fn candidates(&self) -> Vec<Candidate> {
        let candidate = |held: &Held| Candidate { name: held.name_any(), known: held.known.clone() };
        self.configs.iter().map(candidate).collect()
    }

    /// The configuration of this name.
    pub fn config(&self, name: &str) -> Option<&Held> {
        self.configs.iter().find(|held| held.name_any() == name)
    }

    /// Who asks for the pods of this namespace that say nothing themselves.
    pub fn called(&self) -> Asker {
        let label = self.labels.as_ref().ok().and_then(|labels| labels.get(names::INJECT));
        if label.is_some_and(|label| label == names::ENABLED) { Asker::Namespace } else { Asker::Pod }
    }

    /// What is delivered of `held`, if it was delivered of this very resource.
    pub fn delivered_of(&self, held: &Held) -> Option<&Delivered> {
        let delivered = self.delivered.as_ref().ok()?.get(&held.name_any())?;
        (delivered.is_ours && delivered.owner == held.metadata.uid).then_some(delivered)
    }
}

// === impl PodView ===

impl PodView {
    /// What a person types to restart it.
    pub fn restart(&self) -> String {
        let namespace = self.pod.namespace().unwrap_or_default();
        match &self.owner {
            Ok(Some(Owner { kind, name, .. })) if ["Deployment", "StatefulSet", "DaemonSet"].contains(&&**kind) => {
                format!("kubectl rollout restart {}/{name} -n {namespace}", kind.to_lowercase())
            }
            Ok(None) => format!("kubectl delete pod {} -n {namespace}, and create it again", self.pod.name_any()),
            _ => format!("kubectl delete pod {} -n {namespace}", self.pod.name_any()),
        }
    }
}
