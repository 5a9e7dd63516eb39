//! The chart, rendered by Helm without a cluster.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use cast::cluster::{self, Release};
use serde::Deserialize;
use serde_json::Value;

/// What the chart is rendered with.
#[derive(Clone)]
pub(crate) struct Chart {
    folder: PathBuf,
    sets: Vec<String>,
}

/// The objects that come out.
pub(crate) struct Objects(Vec<Value>);

/// Switches everything on that is off.
const EVERYTHING: [&str; 5] = [
    "podMonitor.enabled=true",
    "prometheusRule.enabled=true",
    "dashboard.enabled=true",
    "networkPolicy.enabled=true",
    "crds.enabled=true",
];

/// The Helm that is built beside the cluster: the same on every machine.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let tell = |line: &str| eprintln!("      {line}");
        let programs = Release::newest().and_then(|release| cluster::find_or_build(&release, &tell));
        programs.unwrap_or_else(|error| panic!("{error:#}")).join("helm")
    })
}

// === impl Chart ===

impl Chart {
    /// The chart as it is, without any value.
    pub(crate) fn bare() -> Self {
        Self::at(Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/postern"))
    }

    /// The chart in another folder.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder, sets: Vec::new() }
    }

    /// The chart with the one value that it needs.
    pub(crate) fn new() -> Self {
        Self::bare().set("image.registry=registry.example.com/postern")
    }

    /// The chart with everything that can be switched on.
    pub(crate) fn with_everything() -> Self {
        EVERYTHING.into_iter().fold(Self::new(), Self::set)
    }

    /// Sets a value, as `--set-json` does where it begins like JSON, else as `--set` does.
    #[must_use]
    pub(crate) fn set(mut self, assignment: &str) -> Self {
        let value = assignment.split_once('=').map_or("", |(_, value)| value);
        let flag = if value.starts_with(['[', '{', '"']) { "--set-json" } else { "--set" };
        self.sets.extend([flag.to_owned(), assignment.to_owned()]);
        self
    }

    /// Where the chart is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a command of Helm on it.
    pub(crate) fn helm(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.args(arguments).arg(&self.folder).args(["--namespace", "postern-system"]).args(&self.sets);
        command.output().expect("helm can be run")
    }

    /// The manifests, as Helm prints them.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        let output = self.helm(&["template", "postern"]);
        assert!(output.status.success(), "helm template failed: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("helm prints UTF-8")
    }

    /// The manifests, parsed.
    #[track_caller]
    pub(crate) fn render(&self) -> Objects {
        let documents = serde_yaml::Deserializer::from_str(&self.text())
            .map(|document| Value::deserialize(document).expect("helm prints YAML"))
            .filter(|object| !object.is_null())
            .collect();
        Objects(documents)
    }

    /// Why Helm does not render it.
    #[track_caller]
    pub(crate) fn refusal(&self) -> String {
        let output = self.helm(&["template", "postern"]);
        assert!(!output.status.success(), "helm rendered {:?}", self.sets);
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

// === impl Objects ===

impl Objects {
    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Value> {
        self.0.iter()
    }

    /// Those of one kind.
    pub(crate) fn of_kind<'a>(&'a self, kind: &'static str) -> impl Iterator<Item = &'a Value> {
        self.iter().filter(move |object| object["kind"] == kind)
    }

    /// The one of this kind and name.
    #[track_caller]
    pub(crate) fn the(&self, kind: &str, name: &str) -> &Value {
        self.iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
            .unwrap_or_else(|| panic!("there is no {kind} {name}; there are {:?}", self.names()))
    }

    /// `kind/name` of each, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let name = |object: &Value| {
            format!(
                "{}/{}",
                object["kind"].as_str().unwrap_or_default(),
                object["metadata"]["name"].as_str().unwrap_or_default()
            )
        };
        let mut names: Vec<_> = self.iter().map(name).collect();
        names.sort();
        names
    }
}
