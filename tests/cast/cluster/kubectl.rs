//! `kubectl` and `helm` for one cluster, and in it, maybe, for one namespace or as one user.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::outcome::{Outcome, bounded};
use crate::process::owned;
use crate::time::{Stopwatch, found, pause};

/// What a command may take that is not told to wait.
const PATIENCE: Duration = Duration::from_mins(2);

/// What [`Kubectl::wait_for`] waits at most.
const WAIT: Duration = Duration::from_mins(4);

/// The two tools, and what they speak to.
#[derive(Clone, Debug)]
pub struct Kubectl {
    pub(super) program: PathBuf,
    pub(super) helm: PathBuf,
    pub(super) kubeconfig: PathBuf,
    /// Where the tools keep what they remember.
    pub(super) cache: PathBuf,
    pub(super) namespace: Option<String>,
    pub(super) user: Option<String>,
}

/// Something that Kubernetes or a controller wanted people to know.
#[derive(Clone, Debug)]
pub struct Event {
    /// What it is about: `Pod/app`.
    pub about: String,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

// === impl Kubectl ===

impl Kubectl {
    /// The configuration file by which the cluster is reached.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The same tools as somebody else: `system:serviceaccount:NAMESPACE:NAME`, or any user.
    #[must_use]
    pub fn acting_as(&self, user: &str) -> Self {
        Self { user: Some(user.to_owned()), ..self.clone() }
    }

    /// The same tools for a namespace that is there already, such as that of the operator.
    #[must_use]
    pub fn in_namespace(&self, name: &str) -> Self {
        Self { namespace: Some(name.to_owned()), ..self.clone() }
    }

    /// `kubectl` or `helm`, ready to be given arguments and run in any way; it ends with the thread that starts it.
    pub fn command(&self, tool: &str) -> Command {
        let is_helm = tool == "helm";
        let mut command = owned(if is_helm { &self.helm } else { &self.program });
        if let Some(namespace) = &self.namespace {
            command.arg("--namespace").arg(namespace);
        }
        if let Some(user) = &self.user {
            command.arg(if is_helm { "--kube-as-user" } else { "--as" }).arg(user);
        }
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", self.cache.join("kubectl"))
            .env("KUBERC", "off");
        for (name, folder) in [("CACHE", "cache"), ("CONFIG", "config"), ("DATA", "data")] {
            command.env(format!("HELM_{name}_HOME"), self.cache.join("helm").join(folder));
        }
        command
    }

    /// Runs `kubectl` and returns what it printed; fails the test with kubectl's own words.
    #[track_caller]
    pub fn kubectl(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        self.try_kubectl(arguments).succeeded()
    }

    /// Runs `kubectl`.
    #[track_caller]
    pub fn try_kubectl(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        bounded(self.command("kubectl").args(arguments), "", PATIENCE)
    }

    /// Runs `helm` and returns what it printed; fails the test with helm's own words, and with what it waited for.
    #[track_caller]
    pub fn helm(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        let outcome = self.try_helm(arguments);
        if !outcome.ok {
            let state = self.try_kubectl(["get", "pods,events", "--all-namespaces", "--output=wide"]);
            panic!("{}\n{}{}", outcome.err, state.out, state.err);
        }
        outcome.out
    }

    /// Runs `helm`.
    #[track_caller]
    pub fn try_helm(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        bounded(self.command("helm").args(arguments), "", 5 * PATIENCE)
    }

    /// Applies YAML; fails the test with the API server's own words.
    #[track_caller]
    pub fn apply(&self, yaml: &str) -> String {
        self.try_apply(yaml).succeeded()
    }

    /// Applies YAML; warnings are in `err`.
    #[track_caller]
    pub fn try_apply(&self, yaml: &str) -> Outcome {
        self.with_input(["apply", "-f", "-"], yaml)
    }

    /// Creates what the YAML describes, also where the name is generated.
    #[track_caller]
    pub fn try_create(&self, yaml: &str) -> Outcome {
        self.with_input(["create", "-f", "-"], yaml)
    }

    /// Runs `kubectl` with a text on its standard input.
    #[track_caller]
    pub fn with_input(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, input: &str) -> Outcome {
        bounded(self.command("kubectl").args(arguments), input, PATIENCE)
    }

    /// Deletes things and waits until they have gone: `pod app`, or `pods -l app=shop`.
    #[track_caller]
    pub fn delete(&self, what: &str) -> String {
        self.kubectl(["delete", "--ignore-not-found"].into_iter().chain(what.split_whitespace()))
    }

    /// Something as the API server has it: `pod app`, or a list: `pods -l app=shop`.
    #[track_caller]
    pub fn get(&self, what: &str) -> Value {
        let text = self.kubectl(["get", "--output=json"].into_iter().chain(what.split_whitespace()));
        serde_json::from_str(&text).expect("kubectl prints JSON when it is asked for JSON")
    }

    /// One field, by a path such as `{.status.phase}`; empty when it is absent.
    #[track_caller]
    pub fn field(&self, what: &str, path: &str) -> String {
        let output = format!("--output=jsonpath={path}");
        self.kubectl(["get", &output].into_iter().chain(what.split_whitespace()))
    }

    /// Waits until something exists and is as wanted: `condition=Ready`, `jsonpath={.status.phase}=Succeeded`, `delete`.
    #[track_caller]
    pub fn wait_for(&self, what: &str, condition: &str) {
        self.wait_for_within(WAIT, what, condition);
    }

    /// The same with a patience of one's own; when it is over the test fails, with what the thing looks like.
    #[track_caller]
    pub fn wait_for_within(&self, patience: Duration, what: &str, condition: &str) {
        let watch = Stopwatch::start();
        let condition = format!("--for={condition}");
        loop {
            let left = patience.saturating_sub(watch.elapsed());
            let timeout = format!("--timeout={}s", left.as_secs().max(1));
            let words = ["wait", &condition, &timeout].into_iter().chain(what.split_whitespace());
            let outcome = bounded(self.command("kubectl").args(words), "", patience + PATIENCE);
            if outcome.ok {
                return;
            }
            let is_missing = ["not found", "no matching resources"].iter().any(|words| outcome.err.contains(words));
            if !is_missing || left.is_zero() {
                let looks = self.try_kubectl(["describe"].into_iter().chain(what.split_whitespace()));
                panic!("{what}, {condition}: {}\nIt looks like this:\n{}{}", outcome.err, looks.out, looks.err);
            }
            pause(Duration::from_millis(100));
        }
    }

    /// What a container has written.
    #[track_caller]
    pub fn logs(&self, pod: &str, container: &str) -> String {
        self.kubectl(["logs", pod, "--container", container])
    }

    /// Runs a command in a container.
    #[track_caller]
    pub fn exec(&self, pod: &str, container: &str, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        let mut command = self.command("kubectl");
        bounded(command.args(["exec", pod, "--container", container, "--"]).args(words), "", PATIENCE)
    }

    /// What a pod serves over HTTP, asked for through the API server; the port may be a name.
    #[track_caller]
    pub fn http_get(&self, pod: &str, port: &str, path: &str) -> Outcome {
        let namespace = self.namespace.as_deref().unwrap_or("default");
        let path = path.trim_start_matches('/');
        self.try_kubectl(["get", "--raw", &format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/{path}")])
    }

    /// The events about what begins with `about`, oldest first: `Pod/app`, `ReplicaSet/shop-`, or all of them.
    #[track_caller]
    pub fn events(&self, about: &str) -> Vec<Event> {
        let list = self.get("events --sort-by=.metadata.creationTimestamp");
        let events = list["items"].as_array().into_iter().flatten().map(Event::from);
        events.filter(|event| event.about.starts_with(about)).collect()
    }

    /// Waits for an event and returns its sentence.
    #[track_caller]
    pub fn expect_event(&self, about: &str, reason: &str) -> String {
        found(&format!("an event {reason} about {about}"), || {
            self.events(about).into_iter().rev().find(|event| event.reason == reason).map(|event| event.message)
        })
    }
}

// === impl Event ===

impl From<&Value> for Event {
    fn from(event: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["involvedObject"];
        Self {
            about: format!("{}/{}", text(&object["kind"]), text(&object["name"])),
            kind: text(&event["type"]),
            reason: text(&event["reason"]),
            message: text(&event["message"]),
        }
    }
}
