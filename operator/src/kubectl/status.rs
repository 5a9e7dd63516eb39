//! `kubectl postern status`: all configurations and pods as a table, and what is wrong.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use kube::ResourceExt;
use serde::Serialize;
use tokio::time::sleep;

use super::advice::{Advice, sorted};
use super::look::Look;
use super::print::{self, Output, Paint};
use super::snapshot::{Installation, Namespace};
use super::{Ending, Error};
use crate::caches::Held;
use crate::names;

mod rows;
mod missing;
mod text;

pub use rows::{ConfigRow, DatabaseRow, PodRow};

/// From one look to the next where somebody watches.
const PERIOD: Duration = Duration::from_secs(2);
/// Pods whose gateways are asked; of more only the operator's own view is told.
const MOST_ASKED: usize = 500;
/// Clears a terminal.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// The command line of `status`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Look again every two seconds.
    #[arg(short, long, conflicts_with = "output")]
    pub watch: bool,
    /// The form of it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// How everything stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The configurations.
    pub configs: Vec<ConfigRow>,
    /// The pods that have a gateway, and those that should.
    pub pods: Vec<PodRow>,
    /// What somebody should do about the operator, and about pods that do not exist because they were refused.
    pub advice: Vec<Advice>,
}

/// Shows how everything stands, once or until somebody has seen enough.
pub async fn run(look: &Look, namespace: &str, settings: &Settings) -> Result<Ending, Error> {
    let scope = (!settings.all_namespaces).then_some(namespace);
    loop {
        let status = Box::pin(Status::of(look, scope)).await?;
        if !settings.watch {
            print::show(&status, settings.output, || status.text(scope, Paint::of_terminal()))?;
            return Ok(if status.has_problem() { Ending::Wrong } else { Ending::Fine });
        }
        let clear = if std::io::stdout().is_terminal() { CLEAR } else { "" };
        print::say(&format!("{clear}{}\n", status.text(scope, Paint::of_terminal())))?;
        sleep(PERIOD).await;
    }
}

// === impl Status ===

impl Status {
    /// How everything stands in a namespace, or in all.
    pub async fn of(look: &Look, scope: Option<&str>) -> Result<Self, Error> {
        let labelled = format!("{}=true", names::INJECTED);
        let (configs, pods, installation) =
            tokio::join!(look.configs(scope), look.pods(scope, &labelled), look.installation());
        let (configs, mut pods) = (configs?, pods?);
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none() && !has_ended(pod));
        let more = pods.len().saturating_sub(MOST_ASKED);
        pods.truncate(MOST_ASKED);
        let (views, mut spaces) = tokio::join!(look.glances(pods), spaces(look, scope, configs));
        let mut status = Self::default();
        for space in spaces.values() {
            status.configs.extend(space.configs.iter().map(|held| ConfigRow::of(held, space)));
        }
        let is_away =
            |view: &super::snapshot::PodView| super::pod::proxies(view).iter().any(|it| it.trouble().is_some());
        for view in &views {
            let Some(space) = spaces.get_mut(&view.pod.namespace().unwrap_or_default()) else { continue };
            if is_away(view) && space.services.is_empty() {
                look.services(space).await;
            }
            status.pods.extend(PodRow::of(view, space));
        }
        let missing = Box::pin(missing::find(look, scope, &spaces, &installation)).await;
        status.pods.extend(missing.pods);
        status.advice.extend(installation.advice());
        status.advice.extend(missing.advice);
        if more > 0 {
            let sentence = format!("{more} more pods were not asked; name a namespace by -n to see fewer");
            status.advice.push(Advice::hint("NotAsked", sentence));
        }
        status.advice = sorted(status.advice);
        Ok(status)
    }

    /// Whether anything is wrong.
    pub fn has_problem(&self) -> bool {
        let rows = self.configs.iter().flat_map(|row| &row.advice).chain(self.pods.iter().flat_map(|row| &row.advice));
        rows.chain(&self.advice).any(Advice::is_problem)
    }
}

/// Whether a pod runs no more.
fn has_ended(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// What of each namespace with configurations matters to its pods; of the one that is meant also where it has none.
async fn spaces(look: &Look, scope: Option<&str>, configs: Vec<Held>) -> BTreeMap<String, Namespace> {
    let mut by_namespace: BTreeMap<String, Vec<Held>> = BTreeMap::new();
    by_namespace.extend(scope.map(|name| (name.to_owned(), Vec::new())));
    for held in configs {
        by_namespace.entry(held.namespace().unwrap_or_default()).or_default().push(held);
    }
    let mut spaces = BTreeMap::new();
    for (name, configs) in by_namespace {
        let mut space = look.namespace(&name, configs).await;
        look.secrets(&mut space).await;
        spaces.insert(name, space);
    }
    spaces
}

/// What installation and namespaces a pod is judged by.
type Surroundings<'a> = (&'a BTreeMap<String, Namespace>, &'a Installation);
