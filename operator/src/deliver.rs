//! The `ConfigMap` from which the sidecars of a namespace read a configuration: written whole, by server-side apply,
//! owned by the resource, and never taken from somebody else.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::{GatewayConfig, Problem};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use thiserror::Error;

use crate::api::{ApiError, within};
use crate::inject;
use crate::names;
use crate::render::{HOSTS, Rendered, render};

/// How long reading, or writing, it may take.
const LIMIT: Duration = Duration::from_millis(1500);

/// Bytes that a `ConfigMap` holds, at most, less what we put beside the document.
const MAX_DOCUMENT: usize = 1024 * 1024 - 4096;

/// Others who write it as well may be faster than we this often, less one.
const ATTEMPTS: usize = 3;

/// Of more problems than this only the number is said.
const MAX_PROBLEMS: usize = 20;

/// How a configuration stands to its `ConfigMap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It was there.
    There,
    /// It is there now.
    Written,
    /// It is not, and must not be: the resource has been edited, or made anew, since this one was read.
    Outdated,
}

/// Why a configuration cannot be delivered.
#[derive(Debug, Error)]
pub enum DeliverError {
    /// It cannot be served.
    #[error("{0}")]
    Invalid(String),
    /// Its `ConfigMap`'s name belongs to somebody else.
    #[error(
        "the ConfigMap {0:?} exists and is not Postern's (it lacks the label postern.dev/managed=true); \
         delete or rename it, or name the GatewayConfig otherwise"
    )]
    Taken(String),
    /// The API server does not let us.
    #[error("cannot {0} {1:?}: {2}")]
    Api(&'static str, String, #[source] ApiError),
}

/// Sees to it that the `ConfigMap` of `config` is there and says what the resource says.
pub async fn ensure(client: &Client, config: &GatewayConfig) -> Result<Delivered, DeliverError> {
    check(config)?;
    apply(client, config, render(config)).await
}

/// Whether `config` can be served, by the rules that operator and gateway share, and in a pod.
pub fn check(config: &GatewayConfig) -> Result<(), DeliverError> {
    let mut problems = crds::validate(&config.spec);
    if problems.is_empty() {
        problems = inject::problems(&config.spec);
    }
    if problems.is_empty() { Ok(()) } else { Err(DeliverError::Invalid(sentences(&problems))) }
}

/// Brings the `ConfigMap` of `config` to what was rendered, unless `config` is not what the API server has now.
///
/// What is known here may be old: a watch is behind, or this replica stood still. So before something is overwritten the
/// resource is looked at once more, after its `ConfigMap` was read, and the change holds only for the version of that: what
/// somebody has delivered of a newer resource came later than both, and is never overwritten.
pub async fn apply(client: &Client, config: &GatewayConfig, rendered: Rendered) -> Result<Delivered, DeliverError> {
    let wanted = config_map(config, rendered)?;
    for _ in 1..ATTEMPTS {
        match attempt(client, config, wanted.clone()).await {
            Err(DeliverError::Api(_, _, error)) if error.is_conflict() => {}
            done => return done,
        }
    }
    attempt(client, config, wanted).await
}

/// Tries once; a conflict if somebody else was faster.
async fn attempt(client: &Client, config: &GatewayConfig, mut wanted: ConfigMap) -> Result<Delivered, DeliverError> {
    let name = wanted.name_any();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &config.namespace().unwrap_or_default());
    let there = within(LIMIT, api.get_opt(&name)).await;
    let there = there.map_err(|error| DeliverError::Api("read the ConfigMap", name.clone(), error))?;
    if let Some(there) = &there {
        if !is_ours(there) {
            return Err(DeliverError::Taken(name));
        }
        if says_the_same(there, &wanted) {
            return Ok(Delivered::There);
        }
        if !is_newest(client, config).await? {
            return Ok(Delivered::Outdated);
        }
        // Another one that has taken the place of this one meanwhile, or was written, is refused by the API server.
        wanted.metadata.uid = there.uid();
        wanted.metadata.resource_version = there.resource_version();
    }
    let mut how = PatchParams::apply(names::FIELD_MANAGER);
    // What is not there yet needs no force, and a stranger that appears at this moment then is in conflict with us.
    how.force = there.is_some();
    match within(LIMIT, api.patch(&name, &how, &Patch::Apply(&wanted))).await {
        Ok(_) => Ok(Delivered::Written),
        Err(error) if error.is_conflict() && there.is_none() => Err(DeliverError::Taken(name)),
        Err(error) => Err(DeliverError::Api("write the ConfigMap", name, error)),
    }
}

/// Whether the API server has this resource, and no newer one.
async fn is_newest(client: &Client, config: &GatewayConfig) -> Result<bool, DeliverError> {
    let (namespace, name) = (config.namespace().unwrap_or_default(), config.name_any());
    let api: Api<GatewayConfig> = Api::namespaced(client.clone(), &namespace);
    let there = within(LIMIT, api.get_metadata_opt(&name)).await;
    let there = there.map_err(|error| DeliverError::Api("read the GatewayConfig", name, error))?;
    Ok(there
        .is_some_and(|there| there.uid() == config.uid() && there.metadata.generation == config.metadata.generation))
}

/// Whether `there` says what `wanted` says, as far as it is ours to say.
fn says_the_same(there: &ConfigMap, wanted: &ConfigMap) -> bool {
    there.data == wanted.data && labels(there) == labels(wanted) && owner(there) == owner(wanted)
}

fn labels(map: &ConfigMap) -> [Option<&String>; 3] {
    [names::MANAGED, names::CONFIG, names::MANAGED_BY].map(|label| map.labels().get(label))
}

fn owner(map: &ConfigMap) -> Option<&str> {
    let owners = map.owner_references();
    owners.iter().find(|owner| owner.kind == crds::KIND).map(|owner| owner.uid.as_str())
}

/// Whether the operator has made this `ConfigMap`.
pub fn is_ours(map: &ConfigMap) -> bool {
    map.labels().get(names::MANAGED).is_some_and(|value| value == "true")
}

/// The `ConfigMap` that holds what was rendered of `config`.
fn config_map(config: &GatewayConfig, rendered: Rendered) -> Result<ConfigMap, DeliverError> {
    if rendered.document.len() > MAX_DOCUMENT {
        let length = rendered.document.len();
        let message = format!("it has {length} bytes, and a ConfigMap holds at most {MAX_DOCUMENT}; shorten it");
        return Err(DeliverError::Invalid(message));
    }
    let name = config.name_any();
    let label = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let labels = [(names::MANAGED_BY, "postern"), (names::MANAGED, "true"), (names::CONFIG, &name)];
    let mut map = ConfigMap::default();
    map.metadata.name = Some(names::config_map(&name));
    map.metadata.namespace = config.namespace();
    map.metadata.labels = Some(labels.into_iter().map(label).collect());
    map.metadata.owner_references = owner_reference(config).map(|owner| vec![owner]);
    let data = [(names::CONFIG_KEY.to_owned(), rendered.document), (names::HOSTS_KEY.to_owned(), HOSTS.to_owned())];
    map.data = Some(BTreeMap::from(data));
    Ok(map)
}

/// With the resource goes what was delivered of it; what is deleted otherwise does not hold the resource.
fn owner_reference(config: &GatewayConfig) -> Option<OwnerReference> {
    let owner = config.controller_owner_ref(&())?;
    Some(OwnerReference { block_owner_deletion: Some(false), ..owner })
}

/// Everything that is wrong, one after the other.
pub fn sentences(problems: &[Problem]) -> String {
    let mut said: Vec<String> = problems.iter().take(MAX_PROBLEMS).map(ToString::to_string).collect();
    if problems.len() > MAX_PROBLEMS {
        said.push(format!("there are {} more problems; correct these first", problems.len() - MAX_PROBLEMS));
    }
    said.join("; ")
}

#[cfg(test)]
mod tests;
