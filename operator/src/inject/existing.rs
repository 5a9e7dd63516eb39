//! A pod that has a sidecar already: a second call of the webhook, a manifest injected by hand, the copy of a pod.
//!
//! If it is what we would add, it stays. If it was made from another state of the configuration, or by another version, all
//! that came with it goes, and the pod is injected as if it never had any.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crds::Listen;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};
use kube::ResourceExt;
use serde_json::Value;

use super::draft::Draft;
use super::finding::variables;
use super::places::{Layout, Place, Postgres};
use super::sidecar::{self, Sidecar};
use crate::names::{
    ADMIN_PORT, CONFIG_VOLUME, CONTAINER, HOSTS_KEY, POD_VOLUME, RUN_VOLUME, SECRET_VOLUME_PREFIX, SIDECAR_HASH,
    TOKEN_VOLUME, config_of_map,
};

/// What a volume of ours is made of, as far as nobody else has a say in it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source<'a> {
    ConfigMap(&'a str),
    Secret(&'a str),
    Pod,
    Empty,
}

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

/// Whether the name of a volume is one of ours.
pub(super) fn is_ours(volume: &str) -> bool {
    [CONFIG_VOLUME, POD_VOLUME, RUN_VOLUME, TOKEN_VOLUME].contains(&volume) || volume.starts_with(SECRET_VOLUME_PREFIX)
}

/// Whether `container` of `pod`, and what belongs to it, is what we would add: `wanted`, with this hash.
///
/// What other webhooks may change is not looked at: images are mirrored, resources and probes adjusted.
pub(super) fn is_current(pod: &Pod, container: &Container, (wanted, hash): (&Sidecar, &str)) -> bool {
    let has_port = |number: i32| {
        let ports = container.ports.iter().flatten();
        ports.into_iter().any(|port| port.name.as_deref() == Some(ADMIN_PORT) && port.container_port == number)
    };
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    pod.annotations().get(SIDECAR_HASH).is_none_or(|recorded| recorded == hash)
        && container.args == wanted.container.args
        && wanted.container.ports.iter().flatten().all(|port| has_port(port.container_port))
        && mounts(container) == mounts(&wanted.container)
        && sources(volumes) == sources(&wanted.volumes)
}

fn mounts(container: &Container) -> BTreeSet<(&str, &str, &str)> {
    let mounts = container.volume_mounts.iter().flatten().filter(|mount| is_ours(&mount.name));
    mounts.map(|mount| (&*mount.name, &*mount.mount_path, mount.sub_path.as_deref().unwrap_or_default())).collect()
}

fn sources<'a>(volumes: impl IntoIterator<Item = &'a Volume>) -> BTreeSet<(&'a str, Option<Source<'a>>)> {
    let ours = volumes.into_iter().filter(|volume| is_ours(&volume.name));
    ours.map(|volume| (volume.name.as_str(), source(volume))).collect()
}

/// What the volume is made of, if that is what one of its name is made of when we add it.
fn source(volume: &Volume) -> Option<Source<'_>> {
    match volume.name.as_str() {
        CONFIG_VOLUME => {
            let map = volume.config_map.as_ref()?.name.as_str();
            config_of_map(map).map(|_| Source::ConfigMap(map))
        }
        POD_VOLUME => volume.downward_api.as_ref().map(|_| Source::Pod),
        RUN_VOLUME | TOKEN_VOLUME => volume.empty_dir.as_ref().map(|_| Source::Empty),
        _ => volume.secret.as_ref()?.secret_name.as_deref().map(Source::Secret),
    }
}

/// Takes out of the draft of `spec` what an earlier injection has put in: the container and what it was told of, or, where
/// somebody has taken only the container, what is left of it.
pub(super) fn undo(spec: &PodSpec, container: Option<&Container>, draft: &mut Draft) {
    remove_volumes(spec, draft);
    let Some(container) = container else { return };
    let layout = layout(container);
    let names = |entry: &Value, name: &str| entry["name"] == name;
    draft.remove(&["spec", "initContainers"], |entry| names(entry, CONTAINER));
    for list in ["initContainers", "containers"] {
        for index in 0..draft.list(&["spec", list]).len() {
            remove_variables(&layout.places, &["spec", list, &index.to_string(), "env"], draft);
        }
    }
    if container.volume_mounts.iter().flatten().any(|mount| mount.sub_path.as_deref() == Some(HOSTS_KEY)) {
        // 127.0.0.1 is the pod's own: who has an alias there may have it from somebody else.
        let own = Ipv4Addr::LOCALHOST.to_string();
        let ips = layout.places.iter().filter_map(Place::host_and_port).map(|(ip, _)| ip).filter(|ip| *ip != own);
        let ips: BTreeSet<String> = ips.collect();
        draft.remove(&["spec", "hostAliases"], |alias| alias["ip"].as_str().is_some_and(|ip| ips.contains(ip)));
    }
    if let Some(port) = sidecar::privileged_port(&layout) {
        let is_ours = |entry: &Value| {
            names(entry, sidecar::FIRST_FREE_PORT_SYSCTL) && entry["value"].as_str() == Some(&*port.to_string())
        };
        draft.remove(&["spec", "securityContext", "sysctls"], is_ours);
    }
}

/// Removes the volumes that are like ours in name and kind, and that no container uses but ours; all may use the sockets'.
fn remove_volumes(spec: &PodSpec, draft: &mut Draft) {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let theirs = containers.filter(|container| container.name != CONTAINER);
    let used: BTreeSet<&str> =
        theirs.flat_map(|container| container.volume_mounts.iter().flatten()).map(|mount| &*mount.name).collect();
    let is_free = |volume: &&Volume| volume.name == RUN_VOLUME || !used.contains(&*volume.name);
    let ours = spec.volumes.iter().flatten().filter(|volume| is_ours(&volume.name) && source(volume).is_some());
    let ours: BTreeSet<&str> = ours.filter(is_free).map(|volume| &*volume.name).collect();
    draft.remove(&["spec", "volumes"], |entry| entry["name"].as_str().is_some_and(|name| ours.contains(name)));
}

/// Removes from the list at `path` the variables that lead to `places`.
fn remove_variables(places: &[Place], path: &[&str], draft: &mut Draft) {
    let is = |entry: &Value, name: &str, value: &str| entry["name"] == name && entry["value"] == value;
    for place in places {
        let ours = variables(place);
        let env = draft.list(path);
        if !ours.iter().any(|(name, value)| env.iter().any(|entry| is(entry, name, value))) {
            continue;
        }
        if let Some((host, port)) = place.host_and_port() {
            let pair = [("PGHOST", &host), ("PGPORT", &port)];
            if pair.iter().all(|(name, value)| env.iter().any(|entry| is(entry, name, value))) {
                draft.remove(path, |entry| pair.iter().any(|(name, value)| is(entry, name, value)));
            }
        }
        draft.remove(path, |entry| ours.iter().any(|(name, value)| is(entry, name, value)));
    }
}

/// Where the sidecar was told to listen.
fn layout(container: &Container) -> Layout {
    let place = |value: &String| {
        let (proxy, addresses) = value.split_once('=')?;
        let listen = Listen::from_word(addresses.split(',').next().unwrap_or(addresses)).ok()?;
        Some(Place { proxy: proxy.into(), written: listen.clone(), listen, postgres: Postgres::Unknown })
    };
    let admin = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(ADMIN_PORT));
    let admin = admin.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(u16::MAX);
    let admin = SocketAddr::from((Ipv6Addr::UNSPECIFIED, admin));
    Layout { places: values(container, "--listen").filter_map(place).collect(), admin, aliases: Vec::new() }
}

/// What the sidecar was given behind each `flag`.
fn values<'a>(sidecar: &'a Container, flag: &str) -> impl Iterator<Item = &'a String> {
    let args = sidecar.args.as_deref().unwrap_or_default();
    args.iter().zip(args.iter().skip(1)).filter(move |(name, _)| *name == flag).map(|(_, value)| value)
}
