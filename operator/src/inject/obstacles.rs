//! What hinders a pod from having its sidecar.

use crds::{GatewayConfig, Listen, Problem, validate};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use kube::ResourceExt;
use serde_json::Value;

use super::places::Layout;
use super::{Reason, Refusal, existing, problems};
use crate::names::{CONTAINER, PORT_PREFIX};

/// A pod with more containers runs nowhere, and would make a patch without end.
const MOST_CONTAINERS: usize = 256;
/// A pod with more volumes does neither.
const MOST_VOLUMES: usize = 1024;

/// A pod that would take much memory once it is read is not read.
pub(super) fn check_size(pod: &Value) -> Result<(), Refusal> {
    let count = |list: &str| pod["spec"][list].as_array().map_or(0, Vec::len);
    let containers = count("containers") + count("initContainers") + count("ephemeralContainers");
    for (count, most, what) in
        [(containers, MOST_CONTAINERS, "containers"), (count("volumes"), MOST_VOLUMES, "volumes")]
    {
        if count > most {
            let what = format!("the pod has {count} {what}, and one with more than {most} gets no sidecar");
            return Err(Reason::BadPod.because(format!("{what}; write postern.dev/inject: \"false\"")));
        }
    }
    Ok(())
}

pub(super) fn check_pod(spec: &PodSpec) -> Result<(), Refusal> {
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
pub(super) fn check_names(spec: &PodSpec) -> Result<(), Refusal> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if containers.map(|container| &container.name).any(|name| name == CONTAINER) {
        return Err(Reason::NameTaken.because(format!(
            "the pod has a container {CONTAINER:?} that is not the sidecar as it is injected; rename it, or remove it"
        )));
    }
    match spec.volumes.iter().flatten().map(|volume| &volume.name).find(|name| existing::is_ours(name)) {
        Some(name) => Err(Reason::NameTaken
            .because(format!("the pod has a volume {name:?}, and the sidecar needs one of that name; rename it"))),
        None => Ok(()),
    }
}

pub(super) fn check_config(config: &GatewayConfig) -> Result<(), Refusal> {
    let mut found = validate(&config.spec);
    if found.is_empty() {
        found = problems(&config.spec);
    }
    if found.is_empty() { Ok(()) } else { Err(invalid(config, &found)) }
}

pub(super) fn invalid(config: &GatewayConfig, problems: &[Problem]) -> Refusal {
    let first = problems.first().map(ToString::to_string).unwrap_or_default();
    let more = match problems.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    Reason::ConfigInvalid.because(format!("GatewayConfig {:?} is invalid: {first}{more}", config.name_any()))
}

/// No container may declare a port on which the sidecar listens.
pub(super) fn check_ports(spec: &PodSpec, config: &GatewayConfig, layout: &Layout) -> Result<(), Refusal> {
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
