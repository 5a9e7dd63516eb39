//! `kubectl postern explain`: why something is as it is, in sentences.

use clap::Args;
use kube::ResourceExt;

use super::explanation::Explanation;
use super::kind::{KINDS, Kind};
use super::look::Look;
use super::print::{self, Output, Paint};
use super::snapshot::Namespace;
use super::{Ending, Error, config, pod, workload};
use crate::caches::Held;

/// The command line of `explain`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// What is to be explained: `pod/NAME`, `deployment/NAME` (or another workload), `gatewayconfig/NAME`, or only a name.
    #[arg(required = true, num_args = 1..=2, value_name = "KIND/NAME")]
    pub what: Vec<String>,
    /// The form of the explanation.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Pod(String),
    Config(String),
    Workload(Kind, String),
    /// Whatever has this name.
    Any(String),
}

// === impl Settings ===

impl Settings {
    /// Whether it can be told what is meant.
    pub fn check(&self) -> Result<(), Error> {
        Subject::read(&self.what).map(drop)
    }
}

/// Explains one thing.
pub async fn run(look: &Look, namespace: &str, settings: &Settings) -> Result<Ending, Error> {
    let subject = Subject::read(&settings.what)?;
    let explanation = Box::pin(explain(look, namespace, &subject)).await?;
    print::show(&explanation, settings.output, || print::explanation(&explanation, Paint::of_terminal()))?;
    Ok(if explanation.has_problem() { Ending::Wrong } else { Ending::Fine })
}

async fn explain(look: &Look, namespace: &str, subject: &Subject) -> Result<Explanation, Error> {
    let configs = look.configs(Some(namespace)).await?;
    match subject {
        Subject::Pod(name) => {
            let found = explain_pod(look, namespace, name, configs).await?;
            found.ok_or_else(|| {
                Error::Failed(format!(
                    "there is no pod {name} in namespace {namespace}; one that was refused was never created, so ask about \
                     what makes it: kubectl postern explain deployment/NAME -n {namespace}"
                ))
            })
        }
        Subject::Config(name) => {
            let found = explain_config(look, namespace, name, configs).await;
            found.ok_or_else(|| absent("GatewayConfig", name, namespace))
        }
        Subject::Workload(kind, name) => {
            let found = explain_workload(look, namespace, (*kind, name), configs).await?;
            found.ok_or_else(|| absent(kind.kind, name, namespace))
        }
        Subject::Any(name) => {
            if let Some(found) = explain_pod(look, namespace, name, configs.clone()).await? {
                return Ok(found);
            }
            for kind in KINDS {
                if let Some(found) = explain_workload(look, namespace, (kind, name), configs.clone()).await? {
                    return Ok(found);
                }
            }
            let found = explain_config(look, namespace, name, configs).await;
            found.ok_or_else(|| absent("pod, workload or GatewayConfig", name, namespace))
        }
    }
}

fn absent(kind: &str, name: &str, namespace: &str) -> Error {
    Error::Failed(format!("there is no {kind} {name} in namespace {namespace}; is -n right?"))
}

async fn explain_pod(
    look: &Look,
    namespace: &str,
    name: &str,
    configs: Vec<Held>,
) -> Result<Option<Explanation>, Error> {
    let Some(pod) = look.pod(namespace, name).await? else { return Ok(None) };
    let (view, space, installation) = tokio::join!(
        Box::pin(look.view(pod)),
        Box::pin(surroundings(look, namespace, configs)),
        Box::pin(look.installation())
    );
    Ok(Some(pod::explain(&view, &space, &installation)))
}

async fn explain_config(look: &Look, namespace: &str, name: &str, configs: Vec<Held>) -> Option<Explanation> {
    if !configs.iter().any(|held| held.name_any() == name) {
        return None;
    }
    let (space, installation) = tokio::join!(surroundings(look, namespace, configs), look.installation());
    space.config(name).map(|held| config::explain(held, &space, &installation))
}

async fn explain_workload(
    look: &Look,
    namespace: &str,
    (kind, name): (Kind, &str),
    configs: Vec<Held>,
) -> Result<Option<Explanation>, Error> {
    let Some(found) = look.workload(namespace, kind, name).await? else { return Ok(None) };
    let (space, installation) = tokio::join!(surroundings(look, namespace, configs), look.installation());
    Ok(Some(workload::explain(&found, &space, &installation)))
}

/// All that the pods of a namespace depend on.
async fn surroundings(look: &Look, namespace: &str, configs: Vec<Held>) -> Namespace {
    let mut space = look.namespace(namespace, configs).await;
    look.secrets(&mut space).await;
    look.services(&mut space).await;
    space
}

// === impl Subject ===

impl Subject {
    fn read(words: &[String]) -> Result<Self, Error> {
        let (kind, name) = match words {
            [one] => match one.split_once('/') {
                Some((kind, name)) => (kind, name),
                None => return Ok(Subject::Any(one.clone())),
            },
            [kind, name] => (kind.as_str(), name.as_str()),
            _ => return Err(Error::Usage("name one thing, as in pod/NAME".to_owned())),
        };
        // As kubectl writes them: deployment.apps/NAME.
        let lower = kind.to_ascii_lowercase();
        let word = lower.split('.').next().unwrap_or_default();
        match word {
            "pod" | "pods" | "po" => Ok(Subject::Pod(name.to_owned())),
            "gatewayconfig" | "gatewayconfigs" | "gwc" => Ok(Subject::Config(name.to_owned())),
            _ => match KINDS.into_iter().find(|known| known.words.contains(&word)) {
                Some(known) => Ok(Subject::Workload(known, name.to_owned())),
                None => Err(Error::Usage(format!(
                    "{kind} cannot be explained; pod, gatewayconfig, deployment, statefulset, daemonset, replicaset, job and \
                     cronjob can"
                ))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_written_as_kubectl_has_it() {
        let read = |words: &[&str]| Subject::read(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert!(matches!(read(&["pod/app"]), Ok(Subject::Pod(name)) if name == "app"));
        assert!(matches!(read(&["po", "app"]), Ok(Subject::Pod(name)) if name == "app"));
        assert!(matches!(read(&["gwc/orders"]), Ok(Subject::Config(name)) if name == "orders"));
        assert!(matches!(read(&["Deployment.apps/app"]), Ok(Subject::Workload(kind, _)) if kind.kind == "Deployment"));
        assert!(matches!(read(&["app"]), Ok(Subject::Any(name)) if name == "app"));
        assert!(matches!(read(&["secret/app"]), Err(Error::Usage(_))));
    }
}
