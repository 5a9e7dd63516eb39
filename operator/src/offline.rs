//! `operator inject`: the webhook's decision on manifests, without a cluster.
//!
//! Pods, and whatever makes pods, get the sidecar in their template; all other documents pass as they are.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use crds::{API_VERSION, GatewayConfig, GatewayConfigSpec, KIND, shape};
use json_patch::jsonptr::PointerBuf;
use json_patch::{Patch, PatchOperation};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::choose::{Asker, Candidate};
use crate::deliver::sentences;
use crate::inject::{Decision, Defaults, Injection, Question, decide};
use crate::settings::Sidecars;

/// A larger file is not read.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// The namespace of manifests that name none.
const NAMESPACE: &str = "default";

/// The command line of `operator inject`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// The manifests: pods, or what makes pods; `-` is the standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// A GatewayConfig, or several, from which the pods choose; may be repeated.
    #[arg(short, long = "config", value_name = "FILE", required = true)]
    pub configs: Vec<PathBuf>,
    /// What is printed: the manifests with the sidecar, or only what is changed in them.
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    pub output: Output,
    /// Treat every pod as if its namespace had asked.
    #[arg(long)]
    pub namespace_asks: bool,
    /// What sidecars are like.
    #[command(flatten)]
    pub sidecars: Sidecars,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// The manifests.
    Yaml,
    /// A JSON patch for each manifest that is changed.
    Patch,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is to be printed.
    pub printed: String,
    /// What is to be said beside it.
    pub said: Vec<String>,
    /// Whether a pod that asked was denied.
    pub is_denied: bool,
}

/// Why nothing came of it.
#[derive(Debug, Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(String, #[source] io::Error),
    /// A file is not YAML.
    #[error("{0} is not YAML: {1}")]
    Yaml(String, #[source] serde_yaml::Error),
    /// A file has no manifest.
    #[error("{0} has no manifest")]
    Empty(String),
    /// A file of configurations has something else, or one that is wrong.
    #[error("{0}: {1}")]
    Config(String, String),
    /// What was made cannot be printed.
    #[error("cannot print a manifest: {0}")]
    Print(#[from] serde_yaml::Error),
}

// === impl Outcome ===

impl Outcome {
    /// Injects as `settings` say.
    pub fn of(settings: &Settings) -> Result<Self, Error> {
        let called = if settings.namespace_asks { Asker::Namespace } else { Asker::Pod };
        let configs = read_all(&settings.configs)?;
        let injector = Injector { configs, called, defaults: Defaults::from(&settings.sidecars) };
        Self::by(&injector, read(&settings.file)?, settings.output)
    }

    /// What `injector` makes of these manifests.
    pub(crate) fn by(injector: &Injector, manifests: Vec<Value>, output: Output) -> Result<Self, Error> {
        let mut outcome = Self::default();
        let mut printed = Vec::new();
        for manifest in manifests {
            let changed = injector.inject(manifest, &mut outcome);
            match output {
                Output::Yaml => printed.push(serde_yaml::to_string(&changed.manifest)?),
                Output::Patch if changed.patch.is_empty() => {}
                Output::Patch => printed.push(format!("{:#}\n", changed.patch)),
            }
        }
        if !outcome.is_denied {
            outcome.printed = printed.join("---\n");
        }
        Ok(outcome)
    }
}

/// Decides as the webhook does.
pub(crate) struct Injector {
    /// With the namespace of each; without one it serves every namespace.
    pub(crate) configs: Vec<(String, Candidate)>,
    /// Who asks for pods that say nothing themselves.
    pub(crate) called: Asker,
    /// What sidecars are like.
    pub(crate) defaults: Defaults,
}

/// A manifest, and what was changed in it.
struct Changed {
    manifest: Value,
    patch: Patch,
}

// === impl Injector ===

impl Injector {
    /// Gives `manifest`, or each item of a list, its sidecar.
    fn inject(&self, mut manifest: Value, outcome: &mut Outcome) -> Changed {
        let mut operations = Vec::new();
        if manifest["kind"] == "List" {
            let count = manifest["items"].as_array().map_or(0, Vec::len);
            for index in 0..count {
                let Changed { manifest: item, patch } = self.inject(manifest["items"][index].take(), outcome);
                manifest["items"][index] = item;
                operations.extend(within(&["items", &index.to_string()], patch));
            }
        } else if let Some(path) = template(&manifest) {
            let namespace = manifest["metadata"]["namespace"].as_str().unwrap_or(NAMESPACE).to_owned();
            let pod = path.iter().fold(&manifest, |place, key| &place[*key]).clone();
            let title = title(&manifest);
            if let Some(injection) = self.decide((&pod, &namespace), &title, outcome) {
                *path.iter().fold(&mut manifest, |place, key| &mut place[*key]) = injection.pod;
                operations.extend(within(path, injection.patch));
            }
        }
        Changed { manifest, patch: Patch(operations) }
    }

    fn decide(&self, (pod, namespace): (&Value, &str), title: &str, outcome: &mut Outcome) -> Option<Injection> {
        let configs = self.configs.iter().filter(|(place, _)| place.is_empty() || place == namespace);
        let candidates: Vec<Candidate> = configs.map(|(_, candidate)| candidate.clone()).collect();
        let question = Question { pod, namespace, called: self.called };
        match decide(question, &candidates, &self.defaults) {
            Decision::Leave(quiet) => outcome.said.push(format!("{title}: left as it is ({})", quiet.reason())),
            Decision::Skip(refusal) => {
                outcome.said.push(format!("{title}: left as it is ({}): {refusal}", refusal.reason.word()));
            }
            Decision::Deny(refusal) => {
                outcome.is_denied = true;
                outcome.said.push(format!("{title}: denied ({}): {refusal}", refusal.reason.word()));
            }
            Decision::Inject(injection) => {
                for note in &injection.notes {
                    outcome.said.push(format!("{title}: {}: {}", note.reason, note.sentence));
                }
                return Some(*injection);
            }
        }
        None
    }
}

/// Where in a manifest the pod is; nothing if it makes none.
fn template(manifest: &Value) -> Option<&'static [&'static str]> {
    let group = manifest["apiVersion"].as_str()?.split_once('/').map_or("", |(group, _)| group);
    Some(match (group, manifest["kind"].as_str()?) {
        ("", "Pod") => &[],
        ("", "ReplicationController")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job") => &["spec", "template"],
        ("batch", "CronJob") => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    })
}

/// How a manifest is called in a sentence.
pub(crate) fn title(manifest: &Value) -> String {
    let metadata = &manifest["metadata"];
    let name = metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or("without name");
    format!("{} {name}", manifest["kind"].as_str().unwrap_or_default())
}

/// The operations of `part`, which is about what is at `path` of something larger, for all of that.
fn within(path: &[&str], part: Patch) -> Vec<PatchOperation> {
    let prefixed = |pointer: &mut PointerBuf| {
        let mut whole = PointerBuf::from_tokens(path.iter().copied());
        whole.append(&pointer);
        *pointer = whole;
    };
    let operation = |mut operation| {
        match &mut operation {
            PatchOperation::Add(add) => prefixed(&mut add.path),
            PatchOperation::Remove(remove) => prefixed(&mut remove.path),
            PatchOperation::Replace(replace) => prefixed(&mut replace.path),
            PatchOperation::Test(test) => prefixed(&mut test.path),
            PatchOperation::Move(shift) => {
                prefixed(&mut shift.from);
                prefixed(&mut shift.path);
            }
            PatchOperation::Copy(copy) => {
                prefixed(&mut copy.from);
                prefixed(&mut copy.path);
            }
        }
        operation
    };
    part.0.into_iter().map(operation).collect()
}

/// The configurations of these files, each with its namespace; without one it serves every namespace.
pub(crate) fn read_all(files: &[PathBuf]) -> Result<Vec<(String, Candidate)>, Error> {
    let mut configs = Vec::new();
    for file in files {
        for manifest in read(file)? {
            configs.push(config(file, manifest)?);
        }
    }
    Ok(configs)
}

fn config(file: &Path, mut manifest: Value) -> Result<(String, Candidate), Error> {
    let wrong = |what: String| Error::Config(file.display().to_string(), what);
    if manifest["apiVersion"] != API_VERSION || manifest["kind"] != KIND {
        return Err(wrong(format!("{} is no {KIND} of {API_VERSION}; give it to --file", title(&manifest))));
    }
    let problems = match manifest.get_mut("spec") {
        Some(spec) => shape::check(spec),
        None => return Err(wrong("spec: it is missing; write the proxies below it".into())),
    };
    if !problems.is_empty() {
        return Err(wrong(sentences(&problems)));
    }
    let spec = GatewayConfigSpec::deserialize(&manifest["spec"]).map_err(|error| wrong(error.to_string()))?;
    let text = |key: &str| manifest["metadata"][key].as_str().unwrap_or_default().to_owned();
    let name = Some(text("name")).filter(|name| !name.is_empty()).unwrap_or_else(|| "default".into());
    let config = GatewayConfig::new(&name, spec);
    Ok((text("namespace"), Candidate { name, known: Ok(Arc::new(config)) }))
}

/// The documents of a file that are not empty.
pub(crate) fn read(file: &Path) -> Result<Vec<Value>, Error> {
    let shown = if file == Path::new("-") { "the standard input".to_owned() } else { file.display().to_string() };
    let text = read_text(file).map_err(|error| Error::Read(shown.clone(), error))?;
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(&text) {
        match Value::deserialize(document).map_err(|error| Error::Yaml(shown.clone(), error))? {
            Value::Null => {}
            document @ Value::Object(_) => documents.push(document),
            _ => return Err(Error::Empty(shown)),
        }
    }
    if documents.is_empty() { Err(Error::Empty(shown)) } else { Ok(documents) }
}

fn read_text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = |source: &mut dyn Read, text: &mut String| source.take(MAX_FILE + 1).read_to_string(text);
    if file == Path::new("-") {
        read(&mut io::stdin().lock(), &mut text)
    } else {
        read(&mut fs::File::open(file)?, &mut text)
    }?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_FILE} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
