//! The decision on one pod, pure: the pod, what could be meant, and the operator's defaults go in; a patch, or the reason
//! for none, comes out. The webhook, `operator inject` and the tests share it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crds::{GatewayConfig, GatewayConfigSpec, Problem};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::choose::{Asker, Candidate, choose, wish};
use crate::names::{CONFIG, CONTAINER, INJECTED, SIDECAR_HASH};
use crate::render;
use crate::settings::{Resources, Sidecars};

mod decision;
mod refusal;
mod obstacles;
mod overrides;
mod quantity;
mod places;
mod hosts;
pub mod existing;
mod sidecar;
mod finding;
mod bypass;
mod draft;

pub use decision::{Decision, Injection, Note};
pub use refusal::{Reason, Refusal};

use draft::Draft;
use finding::Finding;
use overrides::Overrides;
use places::Layout;
use sidecar::Sidecar;

/// What a sidecar is like where neither its configuration nor its pod says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// Its image.
    pub image: String,
    /// When the kubelet pulls it.
    pub image_pull_policy: String,
    /// The Secrets for pulling it.
    pub image_pull_secrets: Vec<String>,
    /// What it asks for.
    pub requests: Resources,
    /// What it may use.
    pub limits: Resources,
}

/// A pod about which somebody asks.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The pod, as it was sent.
    pub pod: &'a Value,
    /// The namespace in which it will be.
    pub namespace: &'a str,
    /// The webhook that was called.
    pub called: Asker,
}

/// What every container may ask for.
const COMMON_RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// More notes than this are not told of one pod.
const MOST_NOTES: usize = 16;
/// What is said of a sidecar that was not what we would add.
const REPLACED: &str = "the pod came with a sidecar that was made from another state of the configuration, or by another \
                        version, so it was replaced; leave postern-gateway and its volumes out of what you create pods from";
/// Containers of service meshes, which need neither our variables nor our sockets, and before which nothing reaches the
/// network once they have begun.
const MESHES: [&str; 16] = [
    "istio-init",
    "istio-validation",
    "istio-proxy",
    "enable-core-dump",
    "linkerd-init",
    "linkerd-network-validator",
    "linkerd-proxy",
    "linkerd-debug",
    "consul-connect-inject-init",
    "consul-dataplane",
    "envoy-sidecar",
    "kuma-init",
    "kuma-validation",
    "kuma-sidecar",
    "proxyinit",
    "osm-init",
];

// === impl Defaults ===

impl From<&Sidecars> for Defaults {
    fn from(sidecars: &Sidecars) -> Self {
        Self {
            image: sidecars.gateway_image.clone(),
            image_pull_policy: sidecars.image_pull_policy.clone(),
            image_pull_secrets: sidecars.image_pull_secrets.clone(),
            requests: sidecars.sidecar_requests.clone(),
            limits: sidecars.sidecar_limits.clone(),
        }
    }
}

/// Whether Kubernetes would read `text` as an amount of something.
pub fn is_amount(text: &str) -> bool {
    quantity::parse(text).is_some()
}

/// What is wrong with `spec` for every pod, though `crds::validate` accepts it because a gateway run by hand can do it.
pub fn problems(spec: &GatewayConfigSpec) -> Vec<Problem> {
    let mut problems = places::problems(spec);
    let resources = &spec.sidecar.resources;
    for (key, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        for (name, amount) in amounts.iter().filter(|(_, amount)| quantity::parse(&amount.0).is_none()) {
            let what = format!("{:?} is no amount; write one such as 100m or 64Mi", amount.0);
            problems.push(Problem::new(format!("spec.sidecar.resources.{key}.{name}"), what));
        }
    }
    let names: BTreeSet<&String> = resources.requests.keys().chain(resources.limits.keys()).collect();
    for name in names.into_iter().filter(|name| !COMMON_RESOURCES.contains(&name.as_str())) {
        // Kubernetes schedules an extended resource only whole, and has a domain in its name.
        if !name.contains('/') || resources.requests.get(name) != resources.limits.get(name) {
            let known = COMMON_RESOURCES.join(", ");
            let what = format!("no container may have it; use {known}, or DOMAIN/NAME with equal requests and limits");
            problems.push(Problem::new(format!("spec.sidecar.resources.limits.{name}"), what));
        }
    }
    if spec.sidecar.image.as_ref().is_some_and(|image| image.contains(|c: char| c.is_whitespace() || c.is_control())) {
        let what = "an image has no blanks; write one such as registry.example/postern/gateway:0.1.0";
        problems.push(Problem::new("spec.sidecar.image", what));
    }
    problems
}

/// Decides what becomes of a pod, where `candidates` are the configurations of its namespace.
pub fn decide(question: Question<'_>, candidates: &[Candidate], defaults: &Defaults) -> Decision {
    let pod = match read(question.pod) {
        Ok(pod) => pod,
        Err(refusal) => return Decision::refuse(question.called, refusal),
    };
    let wish = match wish(&pod, question.called) {
        Ok(wish) => wish,
        Err(quiet) => return Decision::Leave(quiet),
    };
    let decided = wish
        .which
        .and_then(|which| choose(&which, question.namespace, candidates))
        .and_then(|config| inject((question.pod, &pod), wish.asker, &config, defaults));
    match decided {
        Ok(injection) => Decision::Inject(Box::new(injection)),
        Err(refusal) => Decision::refuse(wish.asker, refusal),
    }
}

/// What of a pod is read.
#[derive(Deserialize)]
struct Read {
    metadata: Option<ObjectMeta>,
    spec: Option<PodSpec>,
}

/// Reads a pod, but for its status, which it has not yet.
pub fn read(pod: &Value) -> Result<Pod, Refusal> {
    obstacles::check_size(pod)?;
    if !pod.is_object() {
        // What is read of it could come from a list as well, which no patch would make a pod.
        return Err(Reason::BadPod.because("the pod cannot be read: it is no object"));
    }
    let read = Read::deserialize(pod).map_err(|error| error.to_string()).and_then(|read| {
        let spec = Some(read.spec.ok_or("it has no spec")?);
        Ok(Pod { metadata: read.metadata.unwrap_or_default(), spec, status: None })
    });
    read.map_err(|error| Reason::BadPod.because(format!("the pod cannot be read: {error}")))
}

/// Gives `pod`, which is `raw`, the sidecar of `config`.
fn inject(
    (raw, pod): (&Value, &Pod),
    asker: Asker,
    config: &Arc<GatewayConfig>,
    defaults: &Defaults,
) -> Result<Injection, Refusal> {
    let no_spec = PodSpec::default();
    let mut spec = pod.spec.as_ref().unwrap_or(&no_spec);
    obstacles::check_pod(spec)?;
    obstacles::check_config(config)?;
    let mut layout = Layout::of(&config.spec).map_err(|problems| obstacles::invalid(config, &problems))?;
    let overrides = Overrides::read(pod.annotations())?;
    layout.move_to(&overrides.ports, &config.name_any())?;
    let sidecar = Sidecar::new((config, &layout), &overrides, spec, defaults)?;
    let hash = render::sidecar_hash(&config.spec);
    let mut draft = Draft::new(raw);
    let present = existing::recorded_config(pod).and_then(|_| existing::sidecar(spec));
    let is_again = present.is_some_and(|present| existing::is_current(pod, present, (&sidecar, &hash)));
    let mut notes = Vec::new();
    let cleared: Pod;
    if !is_again {
        notes.extend(present.map(|_| Note::new("SidecarReplaced", REPLACED)));
        notes.extend(overrides::notes(pod.annotations()));
        existing::undo(spec, present, &mut draft);
        if draft.is_changed() {
            cleared = read(draft.pod())?;
            spec = cleared.spec.as_ref().unwrap_or(&no_spec);
        }
        obstacles::check_names(spec)?;
        add_sidecar(sidecar, &layout, defaults, &mut draft);
        draft.set(&["metadata", "annotations", SIDECAR_HASH], hash.into());
    }
    obstacles::check_ports(spec, config, &layout)?;
    place_sidecar(&mut draft);
    finding::map_names(&layout.aliases, spec, &mut draft)?;
    notes.extend(Finding::new(&config.spec, &layout).give(spec, &mut draft));
    notes.truncate(MOST_NOTES);
    draft.set(&["metadata", "labels", INJECTED], "true".into());
    draft.set(&["metadata", "labels", CONFIG], config.name_any().into());
    let (patch, made) = draft.finish();
    Ok(Injection { asker, config: config.clone(), patch, pod: made, is_again, notes })
}

/// Adds the container and what belongs to it.
fn add_sidecar(sidecar: Sidecar, layout: &Layout, defaults: &Defaults, draft: &mut Draft) {
    draft.push(&["spec", "initContainers"], sidecar.written.container);
    for volume in sidecar.written.volumes {
        draft.push(&["spec", "volumes"], volume);
    }
    for secret in &defaults.image_pull_secrets {
        if !draft.has(&["spec", "imagePullSecrets"], "name", secret) {
            draft.push(&["spec", "imagePullSecrets"], json!({ "name": secret }));
        }
    }
    let sysctls = ["spec", "securityContext", "sysctls"];
    if let Some(port) = sidecar::privileged_port(layout)
        && !draft.has(&sysctls, "name", sidecar::FIRST_FREE_PORT_SYSCTL)
    {
        draft.push(&sysctls, json!({ "name": sidecar::FIRST_FREE_PORT_SYSCTL, "value": port.to_string() }));
    }
}

/// Puts the sidecar where the containers behind it have a database: first, but behind a mesh without which it would not
/// reach one.
fn place_sidecar(draft: &mut Draft) {
    let path = ["spec", "initContainers"];
    let list = draft.list(&path);
    let Some(from) = list.iter().position(|container| container["name"] == CONTAINER) else { return };
    let others: Vec<(bool, bool)> = list
        .iter()
        .filter(|container| container["name"] != CONTAINER)
        .map(|container| (container["name"].as_str().is_some_and(is_mesh), container["restartPolicy"] == "Always"))
        .collect();
    let has_native_mesh = others.iter().any(|(mesh, native)| *mesh && *native);
    let to = if has_native_mesh {
        others.iter().rposition(|(mesh, _)| *mesh).map_or(0, |last| last + 1)
    } else {
        others.iter().take_while(|(mesh, _)| *mesh).count()
    };
    draft.shift(&path, from, to);
}

/// Whether the container of that name is a mesh's.
fn is_mesh(name: &str) -> bool {
    MESHES.contains(&name)
}

#[cfg(test)]
mod tests;
