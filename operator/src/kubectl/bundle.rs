//! `kubectl postern support-bundle`: all that somebody else needs who is asked for help, in one archive; no Secret, no value
//! of an environment variable, and nothing of a container that is not ours but its name, image and ports.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{ListParams, LogParams};
use serde::Serialize;
use serde_json::{Value, json};

use super::forward::Gateway;
use super::look::Look;
use super::status::Status;
use super::{Ending, Error, logs, print};
use crate::api::{CALL, within};
use crate::names;

mod archive;
mod redact;

use archive::Archive;
use redact::{object, pod};

/// Pods whose gateways are asked.
const MOST_PODS: usize = 50;
/// Of each log the last lines.
const LINES: i64 = 2000;
/// And at most so many bytes.
const MAX_LOG: i64 = 4 * 1024 * 1024;

/// The command line of `support-bundle`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Where to write it; `-` is the standard output. By default postern-support-TIME.tar.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Writes the archive.
pub async fn run(look: &Look, namespace: &str, settings: &Settings) -> Result<Ending, Error> {
    let now = Timestamp::now();
    let scope = (!settings.all_namespaces).then_some(namespace);
    let name = format!("postern-support-{}.tar", now.strftime("%Y%m%dT%H%M%SZ"));
    let file = settings.file.clone().unwrap_or_else(|| PathBuf::from(&name));
    let mut archive = Archive::new(name.trim_end_matches(".tar"), now.as_second());
    let about = json!({ "made": now.to_string(), "by": concat!("kubectl-postern ", env!("CARGO_PKG_VERSION")), "namespace": scope });
    archive.yaml("about.yaml", &about)?;
    Box::pin(gather(look, scope, &mut archive)).await?;
    let bytes = archive.finish()?;
    if file.as_os_str() == "-" {
        io::stdout().lock().write_all(&bytes)?;
        return Ok(Ending::Fine);
    }
    let shown = file.display();
    let cannot = |error: io::Error| Error::Failed(format!("cannot write {shown}: {error}"));
    File::create_new(&file).and_then(|mut file| file.write_all(&bytes)).map_err(cannot)?;
    print::say(&format!(
        "{shown}: {} bytes. It holds no Secret and no value of an environment variable; look through it before you pass it on.\n",
        bytes.len()
    ))?;
    Ok(Ending::Fine)
}

/// Puts everything in; what cannot be had is noted as such.
async fn gather(look: &Look, scope: Option<&str>, archive: &mut Archive) -> Result<(), Error> {
    let status = Box::pin(Status::of(look, scope)).await?;
    archive.yaml("status.yaml", &status)?;
    let installation = look.installation().await;
    archive.yaml("operator/webhook.yaml", &found(&installation.webhook))?;
    archive.yaml("operator/deployment.yaml", &found(&installation.operator))?;
    for replica in logs::operators(look).await.unwrap_or_default() {
        let name = replica.name_any();
        archive.yaml(&format!("operator/{name}/pod.yaml"), &pod(&replica))?;
        let log = log(look, look.operator_namespace(), (&name, "operator")).await;
        archive.text(&format!("operator/{name}/log"), &log)?;
        let port = Gateway::at(look.client(), look.operator_namespace(), &name, operator_port(&replica));
        archive.text(&format!("operator/{name}/metrics"), &port.text("/metrics").await.unwrap_or_else(|why| why))?;
    }
    let configs = look.configs(scope).await?;
    let mut spaces: BTreeSet<String> = configs.iter().map(|held| held.namespace().unwrap_or_default()).collect();
    spaces.extend(scope.map(str::to_owned));
    spaces.insert(look.operator_namespace().to_owned());
    for space in &spaces {
        namespace(look, space, archive).await?;
    }
    let mut pods = look.pods(scope, &format!("{}=true", names::INJECTED)).await?;
    pods.truncate(MOST_PODS);
    for one in pods {
        gateway(look, one, archive).await?;
    }
    Ok(())
}

/// The resources, what was delivered of them, and what was said, in one namespace.
async fn namespace(look: &Look, name: &str, archive: &mut Archive) -> Result<(), Error> {
    let configs: Result<Vec<crds::GatewayConfig>, _> = look.list(Some(name), ListParams::default()).await;
    archive.yaml(&format!("{name}/gatewayconfigs.yaml"), &list(configs))?;
    let labelled = ListParams::default().labels(&format!("{}=true", names::MANAGED));
    let maps: Result<Vec<ConfigMap>, _> = look.list(Some(name), labelled).await;
    archive.yaml(&format!("{name}/configmaps.yaml"), &list(maps))?;
    let events: Result<Vec<Event>, _> = look.list(Some(name), ListParams::default()).await;
    archive.yaml(&format!("{name}/events.yaml"), &list(events))?;
    Ok(())
}

/// One pod with a gateway: as the API server has it, what its gateway says, and what that has logged.
async fn gateway(look: &Look, one: Pod, archive: &mut Archive) -> Result<(), Error> {
    let (space, name) = (one.namespace().unwrap_or_default(), one.name_any());
    let folder = format!("{space}/{name}");
    archive.yaml(&format!("{folder}/pod.yaml"), &pod(&one))?;
    archive.text(&format!("{folder}/log"), &log(look, &space, (&name, names::CONTAINER)).await)?;
    let view = look.glance(one).await;
    let Some(seen) = &view.seen else { return Ok(()) };
    for (path, file) in [("/state", "state.json"), ("/config", "config.json"), ("/metrics", "metrics")] {
        let said = match Gateway::of(look.client(), seen) {
            Ok(gateway) => gateway.text(path).await,
            Err(why) => Err(why),
        };
        archive.text(&format!("{folder}/{file}"), &said.unwrap_or_else(|why| why))?;
    }
    Ok(())
}

async fn log(look: &Look, namespace: &str, (pod, container): (&str, &str)) -> String {
    let how = LogParams {
        container: Some(container.to_owned()),
        tail_lines: Some(LINES),
        limit_bytes: Some(MAX_LOG),
        ..LogParams::default()
    };
    let log = within(CALL, look.api::<Pod>(Some(namespace)).logs(pod, &how)).await;
    log.unwrap_or_else(|error| format!("cannot be read: {error}\n"))
}

/// Where an operator's replica serves its metrics.
fn operator_port(pod: &Pod) -> u16 {
    let ports =
        pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|container| container.ports.iter().flatten());
    let http = ports.into_iter().find(|port| port.name.as_deref() == Some("http"));
    http.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(9187)
}

/// What was looked up, or why it could not be.
fn found<T: Serialize>(known: &Result<Option<T>, String>) -> Value {
    match known {
        Ok(Some(thing)) => object(thing),
        Ok(None) => json!("it is not there"),
        Err(why) => json!({ "notKnown": why }),
    }
}

fn list<T: Serialize>(found: Result<Vec<T>, crate::api::ApiError>) -> Value {
    match found {
        Ok(all) => all.iter().map(object).collect(),
        Err(error) => json!({ "notKnown": error.to_string() }),
    }
}
