//! Pods that should have a gateway: those that run without one, and those that were refused and never came to be.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Namespace as Space, Pod};
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::{PodRow, Surroundings};
use crate::api::{CALL, within};
use crate::choose::Asker;
use crate::events::CONTROLLER;
use crate::kubectl::advice::Advice;
use crate::kubectl::explanation::Explanation;
use crate::kubectl::injection;
use crate::kubectl::look::Look;
use crate::kubectl::snapshot::{Installation, Namespace, Warning};
use crate::names;
use crate::sidecars::uninjected::{LEFT_OUT, asks_for};

/// Pods without a gateway that are looked at.
const MOST_PODS: usize = 50;
/// Refusals that are looked into.
const MOST_REFUSALS: usize = 20;
/// Pods that one answer holds.
const PAGE: u32 = 500;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Pods that run without the gateway that they, or their namespace, asked for.
    pub(super) pods: Vec<PodRow>,
    /// What could not be created, and why.
    pub(super) advice: Vec<Advice>,
}

/// Looks for pods that should have a gateway.
pub(super) async fn find(
    look: &Look,
    scope: Option<&str>,
    spaces: &BTreeMap<String, Namespace>,
    installation: &Installation,
) -> Missing {
    let (pods, refused) = tokio::join!(uninjected(look, scope, (spaces, installation)), refused(look, scope));
    Missing { pods, advice: refused }
}

async fn uninjected(look: &Look, scope: Option<&str>, surroundings: Surroundings<'_>) -> Vec<PodRow> {
    let (spaces, installation) = surroundings;
    let asking = asking(look, scope, spaces).await;
    let pods: Api<PartialObjectMeta<Pod>> = match scope {
        Some(namespace) => Api::namespaced(look.client().clone(), namespace),
        None => Api::all(look.client().clone()),
    };
    let mut page = ListParams::default()
        .labels(&format!("{}!=true", names::INJECTED))
        .fields("status.phase!=Succeeded,status.phase!=Failed")
        .limit(PAGE);
    let mut rows = Vec::new();
    while let Ok(list) = within(CALL, pods.list(&page)).await {
        for pod in &list.items {
            let namespace = pod.namespace().unwrap_or_default();
            let is_left_out = namespace == look.operator_namespace() || LEFT_OUT.contains(&namespace.as_str());
            let is_asked_for = asks_for(pod).is_some()
                || asking.contains(&namespace) && !pod.annotations().contains_key(names::INJECT);
            if rows.len() < MOST_PODS && is_asked_for && !is_left_out && pod.metadata.deletion_timestamp.is_none() {
                rows.extend(row(look, (&namespace, &pod.name_any()), (spaces, installation)).await);
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    rows
}

/// The namespaces that ask for all of their pods.
async fn asking(look: &Look, scope: Option<&str>, spaces: &BTreeMap<String, Namespace>) -> BTreeSet<String> {
    let known = spaces.values().filter(|space| space.called() == Asker::Namespace).map(|space| space.name.clone());
    let mut asking: BTreeSet<String> = known.collect();
    if scope.is_none() {
        let labelled = ListParams::default().labels(&format!("{}={}", names::INJECT, names::ENABLED));
        let all: Api<Space> = Api::all(look.client().clone());
        if let Ok(found) = within(CALL, all.list_metadata(&labelled)).await {
            asking.extend(found.iter().map(ResourceExt::name_any));
        }
    }
    asking
}

/// The row of a pod that runs without a gateway.
async fn row(look: &Look, (namespace, name): (&str, &str), surroundings: Surroundings<'_>) -> Option<PodRow> {
    let (spaces, installation) = surroundings;
    let pod = look.pod(namespace, name).await.ok()??;
    let view = look.view(pod).await;
    let looked;
    let space = if let Some(space) = spaces.get(namespace) {
        space
    } else {
        looked = look.namespace(namespace, Vec::new()).await;
        &looked
    };
    let mut out = Explanation::of("Pod", namespace, name);
    injection::explain(&view, space, installation, &mut out);
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    Some(PodRow { namespace, name, advice: out.finish().advice, ..PodRow::default() })
}

/// What was refused and is still not there: the operator says so in events on who makes the pods.
async fn refused(look: &Look, scope: Option<&str>) -> Vec<Advice> {
    let Ok(warnings) = look.warnings(scope, &format!("reportingComponent={CONTROLLER}")).await else {
        return Vec::new();
    };
    let mut told = BTreeSet::new();
    let mut advice = Vec::new();
    let newest = warnings.into_iter().filter(|warning| told.insert((warning.namespace.clone(), warning.about.clone())));
    for Warning { namespace, about, reason, sentence } in newest.take(MOST_REFUSALS) {
        let lacking = match about.split_once('/') {
            Some((kind, name)) => {
                look.object(&namespace, kind, name).await.map_or(0, |object| lacking(kind, &object.data))
            }
            None => 0,
        };
        let told = match lacking {
            ..=0 => continue,
            1 => format!("1 pod of {about} in namespace {namespace} is refused: {sentence}"),
            many => format!("{many} pods of {about} in namespace {namespace} are refused: {sentence}"),
        };
        advice.push(Advice::problem(reason, told));
    }
    advice
}

/// How many pods are missing of those that something of this kind makes itself.
fn lacking(kind: &str, object: &Value) -> i64 {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let count = |pointer: &str| number(pointer).unwrap_or_default();
    match kind {
        "ReplicaSet" | "StatefulSet" => number("/spec/replicas").unwrap_or(1) - count("/status/replicas"),
        "DaemonSet" => count("/status/desiredNumberScheduled") - count("/status/currentNumberScheduled"),
        "Job" => {
            let at_once = number("/spec/parallelism").unwrap_or(1);
            let left = number("/spec/completions").map_or(at_once, |wanted| wanted - count("/status/succeeded"));
            let is_over = object.pointer("/status/completionTime").is_some() || count("/status/failed") > 0;
            if is_over { 0 } else { at_once.min(left) - count("/status/active") }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_that_were_refused_are_missing_of_what_makes_them() {
        for (kind, object, missing) in [
            ("ReplicaSet", json!({"spec": {"replicas": 3}, "status": {"replicas": 1}}), 2),
            ("StatefulSet", json!({"spec": {}, "status": {}}), 1),
            ("DaemonSet", json!({"status": {"desiredNumberScheduled": 4, "currentNumberScheduled": 4}}), 0),
            ("DaemonSet", json!({"status": {"desiredNumberScheduled": 4}}), 4),
            ("Job", json!({"spec": {"parallelism": 1, "completions": 1}, "status": {}}), 1),
            ("Job", json!({"spec": {"parallelism": 1, "completions": 1}, "status": {"active": 1}}), 0),
            ("Job", json!({"spec": {"parallelism": 1, "completions": 1}, "status": {"succeeded": 1}}), 0),
            ("Job", json!({"spec": {"parallelism": 1, "completions": 1}, "status": {"failed": 1}}), 0),
            ("Deployment", json!({"spec": {"replicas": 3}}), 0),
        ] {
            assert_eq!(lacking(kind, &object), missing, "{kind} {object}");
        }
    }
}
