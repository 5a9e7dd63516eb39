//! Whether the operator is there, can be reached, and may do what it must.

use clap::Parser;
use k8s_openapi::api::apps::v1::Deployment;

use super::advice::Advice;
use super::snapshot::Installation;
use crate::inject::Defaults;
use crate::settings::Settings;

/// The webhook configuration of the chart.
pub const WEBHOOK: &str = "zz-postern";
/// The operator's Deployment, and its service account.
pub const OPERATOR: &str = "postern-operator";
/// The first argument of the operator's container.
const RUN: &str = "run";

/// The operator's command line, as the chart writes it.
#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    settings: Settings,
}

// === impl Installation ===

impl Installation {
    /// What sidecars are like, by the operator's own command line; the program's own defaults where that is not known.
    pub fn defaults(&self) -> Defaults {
        let deployment = self.operator.as_ref().ok().and_then(Option::as_ref);
        let parsed = deployment.and_then(arguments).and_then(|words| CommandLine::try_parse_from(words).ok());
        Defaults::from(&parsed.map(|line| line.settings.sidecars).unwrap_or_default())
    }

    /// What is wrong with it, and what could not be found out.
    pub fn advice(&self) -> Vec<Advice> {
        let mut advice = Vec::new();
        self.judge_webhook(&mut advice);
        self.judge_operator(&mut advice);
        let namespace = &self.namespace;
        match &self.lacks {
            Ok(Some(rights)) => advice.push(Advice::problem(
                "OperatorRights",
                format!(
                    "the operator may not {rights}, so edits do not arrive; give its service account \
                     {namespace}/{OPERATOR} the roles of the chart back: {}",
                    self.upgrade()
                ),
            )),
            Ok(None) => {}
            Err(why) => advice.push(unknown("what the operator may do", why)),
        }
        advice
    }

    fn judge_webhook(&self, advice: &mut Vec<Advice>) {
        let webhook = match &self.webhook {
            Err(why) => return advice.push(unknown(&format!("the webhook configuration {WEBHOOK}"), why)),
            Ok(None) => {
                return advice.push(Advice::problem(
                    "WebhookMissing",
                    format!(
                        "the webhook configuration {WEBHOOK} is not there, so new pods start without a gateway; bring \
                         it back: {}",
                        self.upgrade()
                    ),
                ));
            }
            Ok(Some(webhook)) => webhook,
        };
        let is_trusted = |bundle: &Option<k8s_openapi::ByteString>| bundle.as_ref().is_some_and(|it| !it.0.is_empty());
        let entries = webhook.webhooks.as_deref().unwrap_or_default();
        if let Some(entry) = entries.iter().find(|entry| !is_trusted(&entry.client_config.ca_bundle)) {
            advice.push(Advice::problem(
                "WebhookUntrusted",
                format!(
                    "{} of the webhook configuration {WEBHOOK} has no caBundle, so the API server does not trust the \
                     operator and refuses pods that ask; the operator writes it, and says in its log why it does not: \
                     kubectl logs deployment/{OPERATOR} -n {}",
                    entry.name, self.namespace
                ),
            ));
        }
    }

    fn judge_operator(&self, advice: &mut Vec<Advice>) {
        let namespace = &self.namespace;
        let deployment = match &self.operator {
            Err(why) => return advice.push(unknown("the operator's Deployment", why)),
            Ok(None) => {
                return advice.push(Advice::problem(
                    "OperatorMissing",
                    format!(
                        "there is no Deployment {OPERATOR} in namespace {namespace}, so nothing is injected and edits do \
                         not arrive; install the chart there, or say by --operator-namespace where it is"
                    ),
                ));
            }
            Ok(Some(deployment)) => deployment,
        };
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
        if wanted == 0 {
            advice.push(Advice::problem(
                "OperatorScaledDown",
                format!(
                    "the operator is scaled to 0, so pods that ask are refused and edits do not arrive; start it: kubectl \
                     scale deployment/{OPERATOR} --replicas=2 -n {namespace}"
                ),
            ));
        } else if ready == 0 {
            advice.push(Advice::problem(
                "OperatorNotReady",
                format!(
                    "none of the operator's {wanted} replicas is ready, so pods that ask are refused and edits do not \
                     arrive; see why: kubectl describe pods -n {namespace}, kubectl logs deployment/{OPERATOR} -n \
                     {namespace}"
                ),
            ));
        }
    }

    /// What a person types to have everything of the chart again.
    fn upgrade(&self) -> String {
        format!("helm upgrade postern charts/postern -n {} --reset-then-reuse-values", self.namespace)
    }
}

fn unknown(what: &str, why: &str) -> Advice {
    Advice::hint("NotKnown", format!("{what} is not known: {why}"))
}

/// The operator's command line, if its container is as the chart makes it.
fn arguments(deployment: &Deployment) -> Option<Vec<String>> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let container = pod.containers.iter().find(|container| container.name == "operator")?;
    let arguments = container.args.as_ref()?.split_first().filter(|(first, _)| *first == RUN)?.1;
    Some(std::iter::once(OPERATOR.to_owned()).chain(arguments.iter().cloned()).collect())
}
