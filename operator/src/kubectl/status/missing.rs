//! Pods that should have a gateway: those that run without one, and those that were refused and never came to be.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace as Space, Pod};
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};

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
        let Some(name) = about.strip_prefix("ReplicaSet/") else { continue };
        let sets: Api<ReplicaSet> = look.api(Some(&namespace));
        let Ok(Some(set)) = within(CALL, sets.get_opt(name)).await else { continue };
        let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let there = set.status.as_ref().map_or(0, |status| status.replicas);
        if there < wanted {
            advice.push(Advice::problem(
                reason,
                match wanted - there {
                    1 => format!("1 pod of {about} in namespace {namespace} is refused: {sentence}"),
                    many => format!("{many} pods of {about} in namespace {namespace} are refused: {sentence}"),
                },
            ));
        }
    }
    advice
}
