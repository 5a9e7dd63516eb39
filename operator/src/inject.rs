//! The decision on one pod, pure: the pod, what could be meant, and the operator's defaults go in; a patch, or the reason
//! for none, comes out. The webhook, `operator inject` and the tests share it.

use std::sync::Arc;

use crds::{GatewayConfig, GatewayConfigSpec, Listen, Problem, validate};
use json_patch::Patch;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::choose::{Asker, Candidate, Quiet, choose, wish};
use crate::names::{
    CONFIG, CONFIG_VOLUME, CONTAINER, INJECTED, POD_VOLUME, PORT_PREFIX, RUN_VOLUME, SECRET_VOLUME_PREFIX,
    SIDECAR_HASH, TOKEN_VOLUME,
};
use crate::render;
use crate::settings::{Resources, Sidecars};

mod refusal;
mod overrides;
mod quantity;
mod places;
mod hosts;
pub mod existing;
mod sidecar;
mod finding;
mod bypass;
mod draft;

pub use refusal::{Reason, Refusal};

use draft::Draft;
use finding::Finding;
use overrides::Overrides;
use places::Layout;

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

/// What becomes of a pod.
#[derive(Clone, Debug)]
pub enum Decision {
    /// It is created with this change.
    Inject(Box<Injection>),
    /// It is created as it is, and nobody wanted anything else.
    Leave(Quiet),
    /// It is created as it is, though its namespace wanted a sidecar.
    Skip(Refusal),
    /// It is not created, because it wanted a sidecar.
    Deny(Refusal),
}

/// A change that gives a pod its sidecar.
#[derive(Clone, Debug)]
pub struct Injection {
    /// Who wanted it.
    pub asker: Asker,
    /// The configuration that was chosen.
    pub config: Arc<GatewayConfig>,
    /// The change; empty if there is nothing to change.
    pub patch: Patch,
    /// What the change makes of the pod.
    pub pod: Value,
    /// Whether the pod had the sidecar before, so that it was counted and talked about already.
    pub is_again: bool,
    /// What is odd, and hinders nothing.
    pub notes: Vec<Note>,
}

/// Something odd that hinders nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// A word for events.
    pub reason: &'static str,
    /// What is odd, and where.
    pub sentence: String,
}

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

// === impl Note ===

impl Note {
    fn new(reason: &'static str, sentence: impl Into<String>) -> Self {
        Self { reason, sentence: sentence.into() }
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

// === impl Decision ===

impl Decision {
    /// Who asked is denied, who did not is skipped.
    pub fn refuse(asker: Asker, refusal: Refusal) -> Self {
        match asker {
            Asker::Pod => Decision::Deny(refusal),
            Asker::Namespace => Decision::Skip(refusal),
        }
    }

    /// Why there is no sidecar, if somebody wanted one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Decision::Skip(refusal) | Decision::Deny(refusal) => Some(refusal),
            Decision::Inject(_) | Decision::Leave(_) => None,
        }
    }

    /// The same decision for another reason.
    #[must_use]
    pub fn because(self, refusal: Refusal) -> Self {
        match self {
            Decision::Skip(_) => Decision::Skip(refusal),
            Decision::Deny(_) => Decision::Deny(refusal),
            decision => decision,
        }
    }

    /// What was decided, and why, as metrics have it.
    pub fn words(&self) -> (&'static str, &'static str) {
        match self {
            Decision::Inject(injection) if injection.is_again => ("injected", "AlreadyInjected"),
            Decision::Inject(_) => ("injected", "Injected"),
            Decision::Leave(quiet) => ("skipped", quiet.reason()),
            Decision::Skip(refusal) => ("skipped", refusal.reason.word()),
            Decision::Deny(refusal) => ("denied", refusal.reason.word()),
        }
    }
}

/// Reads a pod.
pub fn read(pod: &Value) -> Result<Pod, Refusal> {
    let read = Pod::deserialize(pod).map_err(|error| error.to_string());
    let read = read.and_then(|pod| if pod.spec.is_some() { Ok(pod) } else { Err("it has no spec".into()) });
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
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    check_pod(spec)?;
    check_config(config)?;
    let layout = Layout::of(&config.spec).map_err(|problems| invalid(config, &problems))?;
    let mut draft = Draft::new(raw);
    let existing = existing::recorded_config(pod).and_then(|_| existing::sidecar(spec));
    let (layout, mut notes) = match existing {
        Some(container) => (layout.pinned_by(container), Vec::new()),
        None => add_sidecar(pod, (config, layout), defaults, &mut draft)?,
    };
    check_ports(spec, config, &layout)?;
    place_sidecar(&mut draft);
    finding::map_names(&layout.aliases, spec, &mut draft)?;
    notes.extend(Finding::new(&config.spec, &layout).give(spec, &mut draft));
    draft.set(&["metadata", "labels", INJECTED], "true".into());
    draft.set(&["metadata", "labels", CONFIG], config.name_any().into());
    let (patch, made) = draft.finish();
    Ok(Injection { asker, config: config.clone(), patch, pod: made, is_again: existing.is_some(), notes })
}

/// Adds the container and what belongs to it.
fn add_sidecar(
    pod: &Pod,
    (config, mut layout): (&GatewayConfig, Layout),
    defaults: &Defaults,
    draft: &mut Draft,
) -> Result<(Layout, Vec<Note>), Refusal> {
    let no_spec = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    check_names(spec)?;
    let overrides = Overrides::read(pod.annotations())?;
    layout.move_to(&overrides.ports, &config.name_any())?;
    let container = sidecar::container((config, &layout), &overrides, spec, defaults)?;
    draft.push(&["spec", "initContainers"], container);
    for volume in sidecar::volumes(config) {
        draft.push(&["spec", "volumes"], volume);
    }
    for secret in &defaults.image_pull_secrets {
        if !draft.has(&["spec", "imagePullSecrets"], "name", secret) {
            draft.push(&["spec", "imagePullSecrets"], json!({ "name": secret }));
        }
    }
    let sysctls = ["spec", "securityContext", "sysctls"];
    if let Some(port) = sidecar::privileged_port(&layout)
        && !draft.has(&sysctls, "name", sidecar::FIRST_FREE_PORT_SYSCTL)
    {
        draft.push(&sysctls, json!({ "name": sidecar::FIRST_FREE_PORT_SYSCTL, "value": port.to_string() }));
    }
    draft.set(&["metadata", "annotations", SIDECAR_HASH], render::sidecar_hash(&config.spec).into());
    Ok((layout, overrides::notes(pod.annotations())))
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
        .map(|container| (is_mesh(container), container["restartPolicy"] == "Always"))
        .collect();
    let has_native_mesh = others.iter().any(|(mesh, native)| *mesh && *native);
    let to = if has_native_mesh {
        others.iter().rposition(|(mesh, _)| *mesh).map_or(0, |last| last + 1)
    } else {
        others.iter().take_while(|(mesh, _)| *mesh).count()
    };
    draft.shift(&path, from, to);
}

fn is_mesh(container: &Value) -> bool {
    container["name"].as_str().is_some_and(|name| MESHES.contains(&name))
}

/// Whether the container of that name is none of the application's.
fn is_ours_or_a_mesh(name: &str) -> bool {
    name == CONTAINER || MESHES.contains(&name)
}

fn check_pod(spec: &PodSpec) -> Result<(), Refusal> {
    if spec.host_network == Some(true) {
        return Err(Reason::HostNetwork.because(
            "the pod has its node's network, where the gateway would be open to everybody on the node and clash with the \
             next such pod; remove hostNetwork, or write postern.dev/inject: \"false\"",
        ));
    }
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return Err(Reason::Windows.because(
            "the pod is for Windows (spec.os.name), and the gateway is for Linux; write postern.dev/inject: \"false\"",
        ));
    }
    Ok(())
}

/// Nothing in a pod without a sidecar may be named like a part of it.
fn check_names(spec: &PodSpec) -> Result<(), Refusal> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if containers.map(|container| &container.name).any(|name| name == CONTAINER) {
        return Err(Reason::NameTaken.because(format!(
            "the pod has a container {CONTAINER:?} that is not the sidecar as it is injected; rename it, or remove it"
        )));
    }
    let ours = [CONFIG_VOLUME, POD_VOLUME, RUN_VOLUME, TOKEN_VOLUME];
    let is_ours = |name: &&String| ours.contains(&name.as_str()) || name.starts_with(SECRET_VOLUME_PREFIX);
    match spec.volumes.iter().flatten().map(|volume| &volume.name).find(is_ours) {
        Some(name) => Err(Reason::NameTaken
            .because(format!("the pod has a volume {name:?}, and the sidecar needs one of that name; rename it"))),
        None => Ok(()),
    }
}

fn check_config(config: &GatewayConfig) -> Result<(), Refusal> {
    let mut found = validate(&config.spec);
    if found.is_empty() {
        found = problems(&config.spec);
    }
    if found.is_empty() { Ok(()) } else { Err(invalid(config, &found)) }
}

fn invalid(config: &GatewayConfig, problems: &[Problem]) -> Refusal {
    let first = problems.first().map(ToString::to_string).unwrap_or_default();
    let more = match problems.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    Reason::ConfigInvalid.because(format!("GatewayConfig {:?} is invalid: {first}{more}", config.name_any()))
}

/// No container may declare a port on which the sidecar listens.
fn check_ports(spec: &PodSpec, config: &GatewayConfig, layout: &Layout) -> Result<(), Refusal> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    for container in containers.filter(|container| container.name != CONTAINER) {
        for (number, protocol) in declared(container) {
            let holds = |listen: &Listen| match listen {
                Listen::Tcp(addr) => protocol == "TCP" && i32::from(addr.port()) == number,
                Listen::Udp(addr) => protocol == "UDP" && i32::from(addr.port()) == number,
                Listen::Unix(_) => false,
            };
            let (name, config) = (&container.name, config.name_any());
            if let Some(place) = layout.places.iter().find(|place| holds(&place.listen)) {
                let (proxy, listen) = (&place.proxy, &place.listen);
                let hint = if layout.aliases.is_empty() {
                    format!("the annotation {PORT_PREFIX}{proxy} gives the proxy another")
                } else {
                    "let the container listen elsewhere, or set sidecar.env: variables".to_owned()
                };
                return Err(Reason::PortClash.because(format!(
                    "container {name:?} declares port {number}/{protocol}, on which proxy {proxy:?} of GatewayConfig \
                     {config:?} listens ({listen}); {hint}"
                )));
            }
            if holds(&Listen::Tcp(layout.admin)) {
                return Err(Reason::PortClash.because(format!(
                    "container {name:?} declares port {number}/{protocol}, where admin.address of GatewayConfig \
                     {config:?} is; change one of the two"
                )));
            }
        }
    }
    Ok(())
}

fn declared(container: &Container) -> impl Iterator<Item = (i32, &str)> {
    container.ports.iter().flatten().map(|port| (port.container_port, port.protocol.as_deref().unwrap_or("TCP")))
}

#[cfg(test)]
mod tests;
