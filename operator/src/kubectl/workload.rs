//! What makes pods: a Deployment and its like. Whether its pods get a gateway is in its template, also where none was ever
//! created.

use kube::ResourceExt;
use serde_json::Value;

use super::advice::Advice;
use super::explanation::Explanation;
use super::snapshot::{Installation, Namespace, Owner, PodView, Warning};
use super::{config, injection, pod};

/// A workload, its pods, and what was said when they could not be created.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What it is called.
    pub owner: Owner,
    /// What its pods are made from.
    pub template: Value,
    /// The first of its pods.
    pub pods: Vec<PodView>,
    /// Pods that were not looked at.
    pub more: usize,
    /// Warnings about it and what it owns.
    pub warnings: Vec<Warning>,
}

/// Says how the pods of a workload stand, and what those would be like that it makes next.
pub fn explain(workload: &Workload, namespace: &Namespace, installation: &Installation) -> Explanation {
    let mut out = Explanation::of(&workload.owner.kind, &namespace.name, &workload.owner.name);
    injection::foresee(&workload.template, &workload.owner, (namespace, installation), &mut out);
    let with = workload.pods.iter().filter(|view| view.seen.is_some()).count();
    let more = if workload.more > 0 { format!(", and {} more", workload.more) } else { String::new() };
    out.tell("pods", format!("{} that run or start, {with} of them with a gateway{more}", workload.pods.len()));
    let chosen = injection::config_of(&workload.template, namespace, installation);
    if let Some(held) = chosen.and_then(|name| namespace.config(&name)) {
        out.advise(config::advice(held, namespace));
    }
    for view in &workload.pods {
        let explained = pod::explain(view, namespace, installation);
        let name = view.pod.name_any();
        out.advise(explained.advice.into_iter().filter(Advice::is_problem).map(|advice| named(advice, &name)));
    }
    out.advise(installation.advice());
    if !out.has_problem() {
        // What was said when pods could not be created matters only where nothing here explains it.
        out.advise(workload.warnings.iter().filter(|warning| warning.reason == "FailedCreate").map(|warning| {
            Advice::hint("FailedCreate", format!("{} could not create a pod: {}", warning.about, warning.sentence))
        }));
    }
    out.finish()
}

/// What is wrong with one pod of several says with which.
fn named(advice: Advice, pod: &str) -> Advice {
    let is_general = advice.sentence.contains(pod) || !IS_OF_ONE.contains(&advice.reason.as_str());
    if is_general { advice } else { Advice { sentence: format!("pod {pod:?}: {}", advice.sentence), ..advice } }
}

/// Reasons whose sentences are about one pod.
const IS_OF_ONE: [&str; 5] = ["RestartRequired", "SidecarFails", "SidecarImage", "PoolTooSmall", "NotInjected"];
