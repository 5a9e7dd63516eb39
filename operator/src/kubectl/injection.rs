//! Why a pod has a gateway, or has none: the webhook's own decision, and what people do beside it.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;
use kube::ResourceExt;
use serde_json::Value;

use super::advice::Advice;
use super::explanation::Explanation;
use super::snapshot::{Installation, Namespace, Owner, PodView};
use crate::choose::{Asker, Quiet};
use crate::inject::{Decision, Injection, Question, decide};
use crate::names;

/// About this a sentence on injection is.
const ABOUT: &str = "injection";

/// What the webhook decides about a pod, or the template of one, in a namespace as it is now.
pub fn decision(pod: &Value, namespace: &Namespace, installation: &Installation) -> Decision {
    let question = Question { pod, namespace: &namespace.name, called: namespace.called() };
    decide(question, &namespace.candidates(), &installation.defaults())
}

/// Says of a pod why it has a gateway, or has none.
pub fn explain(view: &PodView, namespace: &Namespace, installation: &Installation, out: &mut Explanation) {
    let has_gateway = crate::inject::existing::recorded_config(&view.pod).is_some();
    if !has_gateway && let Some(advice) = excluded(namespace, installation).filter(|_| asks(&view.raw)) {
        out.tell(ABOUT, "it asks for a gateway, and its namespace is left out");
        return out.advise([advice]);
    }
    let decision = decision(&view.raw, namespace, installation);
    match (has_gateway, decision) {
        (true, Decision::Inject(injection)) => {
            let config = injection.config.name_any();
            out.tell(ABOUT, format!("{}, and it has the gateway of GatewayConfig {config}", asked(&injection, view)));
            out.advise(notes(&injection));
        }
        (true, Decision::Leave(_)) => {
            out.tell(
                ABOUT,
                "it has a gateway that neither it nor its namespace asks for: it was injected by hand, or asked then",
            );
        }
        (true, Decision::Skip(refusal) | Decision::Deny(refusal)) => {
            out.tell(ABOUT, "it has a gateway, but a pod like it would get none today");
            out.advise([Advice::problem(refusal.reason.word(), format!("its next pod gets no gateway: {refusal}"))]);
        }
        (false, Decision::Leave(quiet)) => {
            out.tell(ABOUT, format!("it has no gateway: {}", said_of(quiet)));
            out.advise(quiet_advice(quiet, view.owner.as_ref().ok().and_then(Option::as_ref), namespace));
        }
        (false, Decision::Skip(refusal) | Decision::Deny(refusal)) => {
            out.tell(ABOUT, "it was to have a gateway, and cannot have one");
            out.advise([Advice::problem(refusal.reason.word(), refusal.sentence)]);
        }
        (false, Decision::Inject(injection)) => {
            let config = injection.config.name_any();
            out.tell(
                ABOUT,
                format!("{}, and it runs without the gateway of GatewayConfig {config}", asked(&injection, view)),
            );
            out.advise([absent(view, installation)]);
        }
    }
}

/// What the webhook would make of the template of `owner`, which makes pods.
pub fn foresee(
    template: &Value,
    owner: &Owner,
    (namespace, installation): (&Namespace, &Installation),
    out: &mut Explanation,
) {
    if let Some(advice) = excluded(namespace, installation).filter(|_| asks(template)) {
        return out.advise([advice]);
    }
    match decision(template, namespace, installation) {
        Decision::Inject(injection) => {
            let config = injection.config.name_any();
            out.tell(ABOUT, format!("its pods get the gateway of GatewayConfig {config}"));
            out.advise(notes(&injection));
        }
        Decision::Leave(quiet) => {
            out.tell(ABOUT, format!("its pods get no gateway: {}", said_of(quiet)));
            out.advise(quiet_advice(quiet, Some(owner), namespace));
        }
        Decision::Skip(refusal) => {
            out.tell(ABOUT, "its pods are created without the gateway that their namespace asks for");
            out.advise([Advice::problem(refusal.reason.word(), refusal.sentence)]);
        }
        Decision::Deny(refusal) => {
            out.tell(ABOUT, "its pods are refused, because they ask for a gateway and cannot have one");
            out.advise([Advice::problem(refusal.reason.word(), refusal.sentence)]);
        }
    }
}

/// The configuration that the pods of this template get, if they get one.
pub fn config_of(template: &Value, namespace: &Namespace, installation: &Installation) -> Option<String> {
    match decision(template, namespace, installation) {
        Decision::Inject(injection) => Some(injection.config.name_any()),
        _ => None,
    }
}

/// Who asked, and how.
fn asked(injection: &Injection, view: &PodView) -> String {
    match injection.asker {
        Asker::Namespace => format!("its namespace asked by the label {}: {}", names::INJECT, names::ENABLED),
        Asker::Pod => {
            let words = view.pod.annotations().get(names::INJECT).map_or("", String::as_str);
            format!("it asked by the annotation {}: {words:?}", names::INJECT)
        }
    }
}

/// What is odd about it, and hinders nothing; who goes round the gateway should be told louder.
fn notes(injection: &Injection) -> Vec<Advice> {
    let note = |note: &crate::inject::Note| match note.reason {
        "BypassesGateway" => Advice::problem(note.reason, note.sentence.clone()),
        _ => Advice::hint(note.reason, note.sentence.clone()),
    };
    injection.notes.iter().map(note).collect()
}

fn said_of(quiet: Quiet) -> String {
    match quiet {
        Quiet::NotAsked => "neither the pod nor its namespace asks".to_owned(),
        Quiet::SaidNo => format!("its annotation {} says \"false\"", names::INJECT),
        Quiet::MirrorPod => "it mirrors a static pod, which the API server has no say in".to_owned(),
    }
}

/// What somebody may have meant who gets no gateway and no refusal.
fn quiet_advice(quiet: Quiet, owner: Option<&Owner>, namespace: &Namespace) -> Option<Advice> {
    let inject = names::INJECT;
    let space = &namespace.name;
    match quiet {
        Quiet::MirrorPod => None,
        Quiet::SaidNo => Some(Advice::hint(
            "SaidNo",
            format!(
                "the pod refuses a gateway by its annotation {inject}: \"false\"; if it shall have one, write \"true\" or \
                 the name of a GatewayConfig there, in what the pod is created from"
            ),
        )),
        Quiet::NotAsked => {
            if let Some(owner) = owner.filter(|owner| owner.annotations.contains_key(inject)) {
                let (kind, name, value) = (&owner.kind, &owner.name, &owner.annotations[inject]);
                return Some(Advice::problem(
                    "AnnotationOnOwner",
                    format!(
                        "the annotation {inject}: {value:?} is on the {kind} {name:?} and not on its pods; move it to \
                         {}.metadata.annotations: {}",
                        template_path(kind),
                        annotate(owner, value, space)
                    ),
                ));
            }
            let label = namespace.labels.as_ref().ok().and_then(|labels| labels.get(inject));
            if let Some(label) = label {
                return Some(Advice::problem(
                    "NamespaceLabel",
                    format!(
                        "the label {inject} of namespace {space} is {label:?}, which means nothing; kubectl label namespace \
                         {space} {inject}={} --overwrite",
                        names::ENABLED
                    ),
                ));
            }
            let one = owner.map_or_else(
                || format!("write {inject}: \"true\" into its annotations"),
                |owner| annotate(owner, "true", space),
            );
            Some(Advice::hint(
                "NotAsked",
                format!(
                    "nobody asked for a gateway; for this one: {one}; for all new pods of the namespace: kubectl label \
                     namespace {space} {inject}={}",
                    names::ENABLED
                ),
            ))
        }
    }
}

fn template_path(kind: &str) -> &'static str {
    if kind == "CronJob" { "spec.jobTemplate.spec.template" } else { "spec.template" }
}

/// What a person types to have the pods of `owner` ask.
fn annotate(owner: &Owner, value: &str, namespace: &str) -> String {
    let (kind, name) = (owner.kind.to_lowercase(), &owner.name);
    let mut patch = serde_json::json!({ "metadata": { "annotations": { names::INJECT: value } } });
    for key in template_path(&owner.kind).rsplit('.') {
        patch = serde_json::json!({ key: patch });
    }
    format!("kubectl patch {kind} {name} -n {namespace} -p '{patch}'")
}

/// A pod that asked, and runs without: it was created when nobody looked.
fn absent(view: &PodView, installation: &Installation) -> Advice {
    let is_there = installation.webhook.as_ref().is_ok_and(Option::is_some);
    let first = if is_there { "" } else { "first bring the webhook back, then " };
    Advice::problem(
        "NotInjected",
        format!(
            "the pod asked for a gateway and was created without one, while the webhook was not there; {first}restart it: {}",
            view.restart()
        ),
    )
}

/// Whether the pod itself asks.
fn asks(pod: &Value) -> bool {
    pod["metadata"]["annotations"][names::INJECT].as_str().is_some_and(|words| words != "false")
}

/// What is to be said where the webhook leaves the whole namespace out.
fn excluded(namespace: &Namespace, installation: &Installation) -> Option<Advice> {
    let webhook = installation.webhook.as_ref().ok()?.as_ref()?;
    let leaves_out = |entry: &MutatingWebhook| {
        let expressions = entry.namespace_selector.as_ref().and_then(|it| it.match_expressions.as_ref());
        expressions.into_iter().flatten().any(|expression| {
            let names = expression.values.as_deref().unwrap_or_default();
            expression.key == "kubernetes.io/metadata.name"
                && expression.operator == "NotIn"
                && names.contains(&namespace.name)
        })
    };
    let entries = webhook.webhooks.as_deref().unwrap_or_default();
    entries.iter().all(leaves_out).then(|| {
        Advice::problem(
            "NamespaceExcluded",
            format!(
                "the webhook leaves namespace {} out, so no pod there gets a gateway; take it out of the chart's value \
                 webhook.excludedNamespaces, or run the pod in another namespace",
                namespace.name
            ),
        )
    })
}
