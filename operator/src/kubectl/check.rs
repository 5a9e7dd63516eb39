//! `kubectl postern check -f FILE` and `diff -f FILE`: what a configuration would be in this cluster before it is applied:
//! whether it can be served, its Secrets and addresses are there, and what it changes, in which pods.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use crds::{GatewayConfigStatus, HostPort, Network};
use kube::ResourceExt;
use serde::Serialize;

use super::advice::{Advice, sorted};
use super::changes::{Change, Reach, changes};
use super::look::Look;
use super::print::{self, Output, Paint, Tone};
use super::proposal::{self, Proposal};
use super::snapshot::{Namespace, PodView};
use super::words::count;
use super::{Ending, Error, config, pod};
use crate::caches::Held;
use crate::names;

/// Pods that are named.
const MOST_NAMED: usize = 10;

/// The command line of `check` and `diff`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// The manifest, or several in one file; `-` is the standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// The form of the answer.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// What a configuration would be in this cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether the cluster has one of this name already.
    pub is_new: bool,
    /// What would change.
    pub changes: Vec<Change>,
    /// The running pods whose gateways would follow.
    pub pods: Vec<String>,
    /// What was looked at, a sentence each.
    pub checked: Vec<String>,
    /// What somebody should do.
    pub advice: Vec<Advice>,
}

/// Says what is wrong with the configurations of a file.
pub async fn check(look: &Look, namespace: &str, settings: &Settings) -> Result<Ending, Error> {
    let verdicts = verdicts(look, namespace, settings).await?;
    let paint = Paint::of_terminal();
    print::show(&verdicts, settings.output, || verdicts.iter().map(|verdict| verdict.text(paint)).collect())?;
    let is_wrong = verdicts.iter().flat_map(|verdict| &verdict.advice).any(Advice::is_problem);
    Ok(if is_wrong { Ending::Wrong } else { Ending::Fine })
}

/// Says what the configurations of a file would change; as with other programs of that name, a difference is exit status 1.
pub async fn diff(look: &Look, namespace: &str, settings: &Settings) -> Result<Ending, Error> {
    let verdicts = verdicts(look, namespace, settings).await?;
    let paint = Paint::of_terminal();
    print::show(&verdicts, settings.output, || verdicts.iter().map(|verdict| verdict.differences(paint)).collect())?;
    let differs = verdicts.iter().any(|verdict| verdict.is_new || !verdict.changes.is_empty());
    let is_wrong = verdicts.iter().flat_map(|verdict| &verdict.advice).any(Advice::is_problem);
    Ok(if differs || is_wrong { Ending::Wrong } else { Ending::Fine })
}

async fn verdicts(look: &Look, namespace: &str, settings: &Settings) -> Result<Vec<Verdict>, Error> {
    let mut verdicts = Vec::new();
    for proposal in proposal::read(&settings.file, namespace)? {
        verdicts.push(Box::pin(Verdict::of(look, proposal)).await?);
    }
    Ok(verdicts)
}

// === impl Verdict ===

impl Verdict {
    async fn of(look: &Look, proposal: Proposal) -> Result<Self, Error> {
        let Proposal { namespace, name, read } = proposal;
        let there = look.configs(Some(&namespace)).await?;
        let there = there.into_iter().find(|held| held.name_any() == name);
        let mut verdict = Self {
            namespace: namespace.clone(),
            name,
            is_new: there.is_none(),
            changes: Vec::new(),
            pods: Vec::new(),
            checked: Vec::new(),
            advice: Vec::new(),
        };
        let new = match read {
            Ok(new) => new,
            Err(problems) => {
                let told = problems.iter().map(|problem| Advice::problem("Invalid", problem.to_string()));
                verdict.advice.extend(told);
                return Ok(verdict);
            }
        };
        if let Some(Ok(old)) = there.as_ref().map(|held| held.known.as_ref()) {
            verdict.changes = changes(&old.spec, &new.spec);
        }
        let labels = format!("{}=true,{}={}", names::INJECTED, names::CONFIG, verdict.name);
        let pods = look.pods(Some(&namespace), &labels).await?;
        let views = look.glances(pods).await;
        verdict.pods = views.iter().filter(|view| view.seen.is_some()).map(|view| view.pod.name_any()).collect();
        // The new one stands where the cluster has the old one.
        let held =
            Held { metadata: new.metadata.clone(), known: Ok(new.into()), status: GatewayConfigStatus::default() };
        let mut space = look.namespace(&namespace, vec![held]).await;
        look.secrets(&mut space).await;
        look.services(&mut space).await;
        verdict.judge(&space, &views);
        Ok(verdict)
    }

    fn judge(&mut self, space: &Namespace, views: &[PodView]) {
        let Some(Ok(new)) = space.configs.first().map(|held| held.known.as_ref()) else { return };
        self.advice.extend(config::secrets(new, space));
        let secrets = crate::render::secrets(&new.spec);
        let found = secrets.iter().filter(|name| matches!(space.secrets.get(*name), Some(Ok(Some(_))))).count();
        if found > 0 && self.advice.is_empty() {
            let noun = count(found as u64, "Secret is", "Secrets are");
            self.checked.push(format!("{noun} there with the keys that are needed"));
        }
        for (index, proxy) in new.spec.proxies.iter().enumerate() {
            if proxy.client.network == Network::Unix {
                let sentence = "not checked, because only a pod sees the sockets in it";
                self.checked.push(format!("spec.proxies[{index}].client.addresses: {sentence}"));
                continue;
            }
            for address in &proxy.client.addresses {
                let Ok(to) = address.parse::<HostPort>() else { continue };
                self.judge_address(&format!("spec.proxies[{index}].client.addresses: {address}"), &to, (space, views));
            }
        }
        self.advice = sorted(std::mem::take(&mut self.advice));
    }

    /// Whether pods reach `to`: by what the cluster knows of the name, or because one does already.
    fn judge_address(&mut self, setting: &str, to: &HostPort, (space, views): (&Namespace, &[PodView])) {
        let shown = to.to_string();
        let reaches = |view: &&PodView| {
            let proxies = pod::proxies(view).iter().map(|proxy| &proxy.database);
            proxies
                .into_iter()
                .any(|it| it.state == "up" && it.addresses.first() == Some(&shown) && it.addresses.len() == 1)
        };
        if let Some(view) = views.iter().find(reaches) {
            return self.checked.push(format!("{setting} is reached by pod {}", view.pod.name_any()));
        }
        let told = match space.services.get(&to.host) {
            Some(Ok(Some(service))) if !service.has_port(to.port) => Advice::problem(
                "DatabasePort",
                format!("{setting}: Service {} has no port {}; correct the address", service.name, to.port),
            ),
            Some(Ok(Some(service))) if service.ready == 0 && !service.is_without_ports => {
                Advice::hint("DatabaseDown", format!("{setting}: Service {} has no ready endpoint", service.name))
            }
            Some(Ok(Some(service))) => {
                return self.checked.push(format!("{setting} is Service {}, which has endpoints", service.name));
            }
            Some(Ok(None)) if !to.host.contains('.') => Advice::problem(
                "DatabaseUnresolved",
                format!(
                    "{setting}: there is no Service {:?} in namespace {}; create it, or correct the address",
                    to.host, space.name
                ),
            ),
            Some(Err(why)) => Advice::hint("NotChecked", format!("{setting}: not checked: {why}")),
            Some(Ok(None)) | None => Advice::hint(
                "NotChecked",
                format!(
                    "{setting}: not checked, because only a pod can tell whether a name from outside leads anywhere"
                ),
            ),
        };
        self.advice.push(told);
    }

    /// What came of checking it.
    fn text(&self, paint: Paint) -> String {
        let mut text = self.title(paint);
        for sentence in &self.checked {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {sentence}");
        }
        let _ = writeln!(text, "  {}", self.reach());
        text += &print::advice(&self.advice, paint);
        if !self.advice.iter().any(Advice::is_problem) {
            text += &paint.paint("It can be served.\n", Tone::Good);
        }
        text
    }

    /// What it would change.
    fn differences(&self, paint: Paint) -> String {
        let mut text = self.title(paint);
        for change in &self.changes {
            let Change { path, before, after, effect } = change;
            let (word, tone) = match effect {
                Reach::Live => ("live", Tone::Good),
                Reach::RestartRequired => ("restart-required", Tone::Odd),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {path}: {} -> {}  {}", shown(before), shown(after), paint.paint(word, tone));
        }
        let _ = writeln!(text, "  {}", self.reach());
        text += &print::advice(&self.advice, paint);
        text
    }

    fn title(&self, paint: Paint) -> String {
        let title = format!("{} {} in namespace {}", crds::KIND, self.name, self.namespace);
        format!("{}{}\n", paint.paint(&title, Tone::Head), if self.is_new { " (new)" } else { "" })
    }

    /// How many pods would follow.
    fn reach(&self) -> String {
        let pods = count(self.pods.len() as u64, "pod", "pods");
        if self.is_new {
            return format!("it is new; {pods} would follow it");
        }
        if self.changes.is_empty() {
            return format!("it says what the cluster has already; none of {pods} would change");
        }
        let restarts = self.changes.iter().filter(|change| change.effect == Reach::RestartRequired).count() as u64;
        let named = match self.pods.as_slice() {
            [] => String::new(),
            names if names.len() > MOST_NAMED => format!(" ({} and others)", names[..MOST_NAMED].join(", ")),
            names => format!(" ({})", names.join(", ")),
        };
        let settings = count(self.changes.len() as u64, "setting changes", "settings change");
        let waiting = match restarts {
            0 => String::new(),
            restarts => {
                format!("; {} only after a restart", count(restarts, "of them takes effect", "of them take effect"))
            }
        };
        format!("{settings}, and {pods}{named} would follow{waiting}")
    }
}

fn shown(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "none".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
