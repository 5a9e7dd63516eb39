//! `kubectl postern logs`: what gateways have logged, of a pod or of all pods of a configuration; or the operator.

use clap::Args;
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::LogParams;

use super::installation::OPERATOR;
use super::look::Look;
use super::{Ending, Error, print};
use crate::names;

/// Pods whose logs are read at one time.
const MOST_PODS: usize = 50;
/// Characters of a line; a longer one is cut.
const MAX_LINE: usize = 16 * 1024;

/// The command line of `logs`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// `pod/NAME`, `gatewayconfig/NAME`, or only a pod's name; all gateways of the namespace where nothing is named.
    #[arg(value_name = "KIND/NAME")]
    pub what: Option<String>,
    /// The operator's log instead.
    #[arg(long, conflicts_with = "what")]
    pub operator: bool,
    /// Go on as more is logged.
    #[arg(short, long)]
    pub follow: bool,
    /// The last lines of each.
    #[arg(long, default_value_t = 100, value_name = "LINES")]
    pub tail: i64,
}

/// Prints logs; where there are several, each line begins with its pod.
pub async fn run(look: &Look, namespace: &str, settings: &Settings) -> Result<Ending, Error> {
    let (space, container) =
        if settings.operator { (look.operator_namespace(), "operator") } else { (namespace, names::CONTAINER) };
    let mut pods = if settings.operator { operators(look).await? } else { gateways(look, namespace, settings).await? };
    if pods.is_empty() {
        return Err(Error::Failed(format!("there is no such pod with a gateway in namespace {namespace}")));
    }
    pods.truncate(MOST_PODS);
    let is_one = pods.len() == 1;
    let how = LogParams {
        container: Some(container.to_owned()),
        follow: settings.follow,
        tail_lines: Some(settings.tail),
        ..LogParams::default()
    };
    let read = pods.into_iter().map(|pod| {
        let (name, api, how) = (pod.name_any(), look.api::<Pod>(Some(space)), how.clone());
        async move {
            let prefix = if is_one { String::new() } else { format!("{name}: ") };
            let mut lines = match api.log_stream(&name, &how).await {
                Ok(stream) => stream.lines(),
                Err(error) => return print::say(&format!("{name}: cannot be read: {error}\n")),
            };
            while let Some(line) = lines.try_next().await? {
                let line: String = line.chars().take(MAX_LINE).collect();
                print::say(&format!("{prefix}{line}\n"))?;
            }
            Ok(())
        }
    });
    let ended: Vec<_> = futures::stream::iter(read).buffer_unordered(MOST_PODS).collect().await;
    ended.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(Ending::Fine)
}

/// The operator's pods.
pub async fn operators(look: &Look) -> Result<Vec<Pod>, Error> {
    let pods = look.pods(Some(look.operator_namespace()), "").await?;
    let is_operator = |pod: &Pod| {
        pod.spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.as_deref())
            .is_some_and(|account| account == OPERATOR)
    };
    Ok(pods.into_iter().filter(is_operator).collect())
}

async fn gateways(look: &Look, namespace: &str, settings: &Settings) -> Result<Vec<Pod>, Error> {
    let injected = format!("{}=true", names::INJECTED);
    let Some(what) = &settings.what else { return look.pods(Some(namespace), &injected).await };
    let (kind, name) = what.split_once('/').unwrap_or(("pod", what));
    match kind {
        "pod" | "pods" | "po" => Ok(look.pod(namespace, name).await?.into_iter().collect()),
        "gatewayconfig" | "gatewayconfigs" | "gwc" => {
            look.pods(Some(namespace), &format!("{injected},{}={name}", names::CONFIG)).await
        }
        _ => Err(Error::Usage(format!("{kind} has no gateway's log; name pod/NAME or gatewayconfig/NAME"))),
    }
}
