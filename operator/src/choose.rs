//! Which configuration a pod wants: who asked for a sidecar, in which words, and which of the namespace's they mean.

use std::sync::Arc;

use crds::GatewayConfig;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::inject::existing;
use crate::inject::{Reason, Refusal};
use crate::names::{DEFAULT_CONFIG, INJECT};

/// The annotation of a pod that only mirrors a file on a node: the kubelet runs it, whatever becomes of the mirror.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// More configurations than this are not named in a sentence.
const MOST_NAMES: usize = 5;

/// Who wants the sidecar: a pod that asked and cannot be served is denied, one whose namespace asked is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The pod itself, by its annotation.
    Pod,
    /// The namespace, by its label, for all of its pods.
    Namespace,
}

/// A pod that nobody wants a sidecar for; nobody needs to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// Neither the pod nor its namespace asked.
    NotAsked,
    /// The pod's annotation says `"false"`.
    SaidNo,
    /// The pod mirrors a static one.
    MirrorPod,
}

/// A wish for a sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Who has it.
    pub asker: Asker,
    /// The configuration, or what is wrong with the way in which it was named.
    pub which: Result<Which, Refusal>,
}

/// A configuration that could be meant.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// The configuration, or why it cannot be read.
    pub known: Result<Arc<GatewayConfig>, String>,
}

/// The configuration that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one named `default`, else the only one.
    Any,
    /// This one.
    Named(String),
}

// === impl Asker ===

impl Asker {
    /// The path of the webhook that is called for such pods.
    pub const fn path(self) -> &'static str {
        match self {
            Asker::Pod => "/inject/pod",
            Asker::Namespace => "/inject/namespace",
        }
    }
}

// === impl Quiet ===

impl Quiet {
    /// The word for it in metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Quiet::NotAsked => "NotAsked",
            Quiet::SaidNo => "SaidNo",
            Quiet::MirrorPod => "MirrorPod",
        }
    }
}

/// What is wished for `pod`, about which the webhook of `called` was called.
pub fn wish(pod: &Pod, called: Asker) -> Result<Wish, Quiet> {
    if pod.annotations().contains_key(MIRROR) {
        return Err(Quiet::MirrorPod);
    }
    let recorded = existing::recorded_config(pod);
    match (pod.annotations().get(INJECT).map(String::as_str), called) {
        (Some("false"), _) => Err(Quiet::SaidNo),
        (None, Asker::Pod) => Err(Quiet::NotAsked),
        (None, Asker::Namespace) => {
            Ok(Wish { asker: called, which: Ok(recorded.map_or(Which::Any, |name| Which::Named(name.into()))) })
        }
        (Some(words), _) => Ok(Wish { asker: Asker::Pod, which: read(words, recorded) }),
    }
}

/// Reads the annotation of a pod that, if it has the sidecar already, was given the configuration `recorded`.
fn read(words: &str, recorded: Option<&str>) -> Result<Which, Refusal> {
    let name = match (words, recorded) {
        ("true", None) => return Ok(Which::Any),
        ("true", Some(recorded)) => recorded,
        (words, _) => words,
    };
    if !is_name(name) {
        return Err(Reason::BadAnnotation.because(format!(
            "the annotation {INJECT} is {:?}, which is no name of a GatewayConfig; write \"true\", \"false\" or a name",
            shorten(name)
        )));
    }
    match recorded {
        Some(recorded) if recorded != name => Err(Reason::NameTaken.because(format!(
            "the pod has the sidecar of GatewayConfig {recorded:?} already, and its annotation {INJECT} asks for \
             {name:?}; remove the sidecar and its volumes from the manifest, or the annotation"
        ))),
        _ => Ok(Which::Named(name.into())),
    }
}

/// The one of `candidates`, all of which are of `namespace`, that is meant.
pub fn choose(which: &Which, namespace: &str, candidates: &[Candidate]) -> Result<Arc<GatewayConfig>, Refusal> {
    let named = |name: &str| candidates.iter().find(|candidate| candidate.name == name);
    let found = match which {
        Which::Named(name) => named(name).ok_or_else(|| not_found(name, namespace, candidates))?,
        Which::Any => match (named(DEFAULT_CONFIG), candidates) {
            (Some(candidate), _) | (None, [candidate]) => candidate,
            (None, []) => return Err(no_config(namespace)),
            (None, several) => return Err(many_configs(namespace, several)),
        },
    };
    let name = &found.name;
    let config = found.known.as_ref().map_err(|sentence| {
        let what = format!("GatewayConfig {name:?} in namespace {namespace:?} cannot be read: {sentence}");
        Reason::ConfigUnreadable.because(what)
    })?;
    if config.metadata.deletion_timestamp.is_some() {
        return Err(Reason::ConfigDeleting.because(format!(
            "GatewayConfig {name:?} in namespace {namespace:?} is being deleted; wait, and apply it again"
        )));
    }
    Ok(config.clone())
}

fn no_config(namespace: &str) -> Refusal {
    Reason::NoConfig.because(format!(
        "there is no GatewayConfig in namespace {namespace:?}; apply one, or write {INJECT}: \"false\""
    ))
}

fn many_configs(namespace: &str, candidates: &[Candidate]) -> Refusal {
    Reason::ManyConfigs.because(format!(
        "namespace {namespace:?} has {} GatewayConfigs, {}, and none is named {DEFAULT_CONFIG}; write the one you mean \
         into the annotation {INJECT}",
        candidates.len(),
        names(candidates)
    ))
}

fn not_found(name: &str, namespace: &str, candidates: &[Candidate]) -> Refusal {
    let there = match candidates {
        [] => "there is none".to_owned(),
        candidates => format!("there is {}", names(candidates)),
    };
    Reason::ConfigNotFound.because(format!(
        "GatewayConfig {name:?} is not found in namespace {namespace:?}, {there}; apply it, or correct the annotation \
         {INJECT}"
    ))
}

/// The names, in order, for a sentence.
fn names(candidates: &[Candidate]) -> String {
    let mut names: Vec<String> = candidates.iter().map(|candidate| format!("{:?}", candidate.name)).collect();
    names.sort();
    let more = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    let shown = names.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// Whether `text` can be the name of a configuration.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = |c: char| plain(c) || c == '-' || c == '.';
    text.len() <= 52 && text.starts_with(plain) && text.ends_with(plain) && text.chars().all(fits)
}

/// The start of a text that may be very long.
pub(crate) fn shorten(text: &str) -> String {
    if text.chars().count() <= 64 { text.into() } else { text.chars().take(60).chain("...".chars()).collect() }
}
