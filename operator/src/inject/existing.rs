//! A pod that has its sidecar already: a second call of the webhook, a manifest injected by hand, the copy of a pod.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::names::{CONFIG_VOLUME, CONTAINER, config_of_map};

/// The configuration whose sidecar `pod` has, if it has one.
pub fn recorded_config(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    sidecar(spec)?;
    let volume = spec.volumes.iter().flatten().find(|volume| volume.name == CONFIG_VOLUME)?;
    config_of_map(&volume.config_map.as_ref()?.name)
}

/// Our container, if `spec` has it.
pub(super) fn sidecar(spec: &PodSpec) -> Option<&Container> {
    let is_ours =
        |container: &&Container| container.name == CONTAINER && container.restart_policy.as_deref() == Some("Always");
    spec.init_containers.iter().flatten().find(is_ours)
}

/// The address on which the sidecar was told to listen for `proxy`, for as long as the pod lives.
pub(super) fn pinned<'a>(sidecar: &'a Container, proxy: &str) -> Option<&'a str> {
    let addresses = values(sidecar, "--listen").filter_map(|value| value.strip_prefix(proxy)?.strip_prefix('='));
    addresses.map(|address| address.split(',').next().unwrap_or(address)).next()
}

/// Where the sidecar was told to have its admin endpoints, for as long as the pod lives.
pub(super) fn pinned_admin(sidecar: &Container) -> Option<SocketAddr> {
    values(sidecar, "--admin").find_map(|address| address.parse().ok())
}

/// What the sidecar was given behind each `flag`.
fn values<'a>(sidecar: &'a Container, flag: &str) -> impl Iterator<Item = &'a String> {
    let args = sidecar.args.as_deref().unwrap_or_default();
    args.iter().zip(args.iter().skip(1)).filter(move |(name, _)| *name == flag).map(|(_, value)| value)
}
