//! How the application finds the gateway: by variables, by the database's own names, or not at all.

use crds::{GatewayConfigSpec, SidecarEnv};
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec};
use serde_json::json;

use super::bypass::Databases;
use super::draft::Draft;
use super::hosts::Alias;
use super::places::{Layout, Place, Postgres};
use super::{Note, Reason, Refusal, is_mesh};
use crate::names::{CONTAINER, RUN_FOLDER, RUN_VOLUME};

/// A container whose environment names one of these finds its database its own way.
const OF_LIBPQ: [&str; 4] = ["PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE"];

/// What the containers of the application are given.
pub(super) struct Finding {
    /// PGHOST and PGPORT, if there is a PostgreSQL to find.
    pair: Vec<(String, String)>,
    /// The host and the port, or the socket, of every proxy.
    each: Vec<(String, String)>,
    databases: Databases,
    env: SidecarEnv,
}

// === impl Finding ===

impl Finding {
    pub(super) fn new(spec: &GatewayConfigSpec, layout: &Layout) -> Self {
        let env = spec.sidecar.env;
        let places = if env == SidecarEnv::Variables { layout.places.as_slice() } else { &[] };
        let of = |postgres| places.iter().filter(move |place| place.postgres == postgres);
        let first = of(Postgres::Certainly).chain(of(Postgres::Probably)).find_map(Place::host_and_port);
        let pair = first.into_iter().flat_map(|(host, port)| [("PGHOST".into(), host), ("PGPORT".into(), port)]);
        let each = places.iter().flat_map(variables).collect();
        Self { pair: pair.collect(), each, databases: Databases::of(spec), env }
    }

    /// Gives every container of the application what it needs; says what is odd about them.
    pub(super) fn give(&self, pod: &PodSpec, draft: &mut Draft) -> Vec<Note> {
        let mut notes = Vec::new();
        for (list, containers) in
            [("initContainers", pod.init_containers.as_deref().unwrap_or_default()), ("containers", &pod.containers)]
        {
            // Ours, that may have been put before them, has moved them.
            let now = draft.list(&["spec", list]).iter().enumerate();
            let places: Vec<usize> = now.filter(|(_, now)| now["name"] != CONTAINER).map(|(index, _)| index).collect();
            let theirs = containers.iter().filter(|container| container.name != CONTAINER);
            for (index, container) in places.into_iter().zip(theirs).filter(|(_, container)| !is_mesh(&container.name))
            {
                self.give_one(container, &["spec", list, &index.to_string()], draft, &mut notes);
            }
        }
        notes
    }

    fn give_one(&self, container: &Container, path: &[&str], draft: &mut Draft, notes: &mut Vec<Note>) {
        let env = container.env.as_deref().unwrap_or_default();
        notes.extend(self.bypasses(container, env));
        let named = |name: &str| env.iter().any(|variable| variable.name == name);
        let present: Vec<&str> = OF_LIBPQ.into_iter().filter(|name| named(name)).collect();
        let ours = |name: &str| self.is_ours(env, name);
        let pair = if present.is_empty() { self.pair.as_slice() } else { &[] };
        let wanted: Vec<&(String, String)> = pair.iter().chain(&self.each).filter(|(name, _)| !named(name)).collect();
        if !present.is_empty() && !self.pair.is_empty() && !present.iter().all(|name| ours(name)) {
            let (name, present) = (&container.name, present.join(", "));
            notes.push(Note::new(
                "VariablesPresent",
                format!("container {name:?} has {present} already, so PGHOST and PGPORT were not set in it"),
            ));
        }
        let env = [path, &["env"]].concat();
        // In front, so that the application's own variables can refer to them.
        for (name, value) in wanted.into_iter().rev() {
            draft.insert(&env, 0, json!({ "name": name, "value": value }));
        }
        let mounts = [path, &["volumeMounts"]].concat();
        if draft.has(&mounts, "mountPath", RUN_FOLDER) {
            if !draft.has(&mounts, "name", RUN_VOLUME) {
                let name = &container.name;
                let what = format!("container {name:?} has a volume of its own at {RUN_FOLDER}, so it sees no sockets");
                notes.push(Note::new("NotMounted", what));
            }
        } else {
            draft.push(&mounts, json!({ "name": RUN_VOLUME, "mountPath": RUN_FOLDER }));
        }
    }

    /// Whether the variable `name` of `env` says what we would say.
    fn is_ours(&self, env: &[EnvVar], name: &str) -> bool {
        let value = env.iter().find(|variable| variable.name == name).and_then(|variable| variable.value.as_ref());
        self.pair.iter().any(|(ours, said)| ours == name && Some(said) == value)
    }

    fn bypasses(&self, container: &Container, env: &[EnvVar]) -> Vec<Note> {
        let found = env.iter().filter_map(|variable| {
            let database = self.databases.named_in(variable.value.as_deref()?)?;
            let (container, variable) = (&container.name, &variable.name);
            let instead = match self.env {
                SidecarEnv::Variables if OF_LIBPQ.contains(&variable.as_str()) => {
                    "remove it, and the container is given the gateway's own"
                }
                SidecarEnv::Variables => "dial $(PGHOST):$(PGPORT) or $(POSTERN_<PROXY>_HOST) instead",
                SidecarEnv::Hosts => {
                    "only names can lead to the gateway, so use one in spec.proxies[].client.addresses"
                }
                SidecarEnv::None => "dial the proxy's own address instead",
            };
            let what = format!("{variable} of container {container:?} names {database}, which bypasses the gateway");
            Some(Note::new("BypassesGateway", format!("{what}; {instead}")))
        });
        found.collect()
    }
}

/// `POSTERN_<NAME>_HOST` and the like.
pub(super) fn variables(place: &Place) -> Vec<(String, String)> {
    let name = place.proxy.to_ascii_uppercase().replace('-', "_");
    let mut variables = Vec::new();
    if let Some((host, port)) = place.host_and_port() {
        variables.push((format!("POSTERN_{name}_HOST"), host));
        variables.push((format!("POSTERN_{name}_PORT"), port));
    }
    if let crds::Listen::Unix(path) = &place.listen {
        variables.push((format!("POSTERN_{name}_SOCKET"), path.display().to_string()));
    }
    variables
}

/// Makes the names lead to the gateway, in every container but ours.
pub(super) fn map_names(aliases: &[Alias], pod: &PodSpec, draft: &mut Draft) -> Result<(), Refusal> {
    for alias in aliases {
        let ip = alias.ip.to_string();
        let mut names = alias.names.clone();
        for present in pod.host_aliases.iter().flatten() {
            let theirs = present.hostnames.as_deref().unwrap_or_default();
            if let Some(name) = names.iter().find(|name| present.ip != ip && theirs.contains(name)) {
                return Err(Reason::AliasClash.because(format!(
                    "the pod's hostAliases map {name:?} to {}, and with sidecar.env: hosts that name leads to the \
                     gateway; remove it there, or set sidecar.env: variables",
                    present.ip
                )));
            }
            names.retain(|name| present.ip != ip || !theirs.contains(name));
        }
        if !names.is_empty() {
            draft.push(&["spec", "hostAliases"], json!({ "ip": ip, "hostnames": names }));
        }
    }
    Ok(())
}
