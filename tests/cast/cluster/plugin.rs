//! `kubectl postern`: the plugin of this workspace, for one cluster and namespace.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::kubectl::Kubectl;
use super::outcome::{Outcome, bounded};
use crate::process::owned;
use crate::workspace::{cargo, executable};

/// Names a program that is built already.
const PLUGIN: &str = "POSTERN_KUBECTL_POSTERN";

/// What a command of it may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where the plugin's program is; built on first use unless `POSTERN_KUBECTL_POSTERN` names one.
#[track_caller]
pub fn plugin() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(program) = std::env::var_os(PLUGIN) {
            return program.into();
        }
        let mut command = cargo();
        command.args(["build", "--package", "operator", "--bin", "kubectl-postern"]);
        executable(&mut command, "kubectl-postern").unwrap_or_else(|error| panic!("{error:#}"))
    })
}

// === impl Kubectl ===

impl Kubectl {
    /// `kubectl-postern`, ready to be given arguments and run in any way; it ends with the thread that starts it.
    #[track_caller]
    pub fn postern_command(&self) -> Command {
        let mut command = owned(plugin());
        if let Some(namespace) = &self.namespace {
            command.arg("--namespace").arg(namespace);
        }
        if let Some(user) = &self.user {
            command.arg("--as").arg(user);
        }
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Runs `kubectl postern`.
    #[track_caller]
    pub fn postern(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        bounded(self.postern_command().args(arguments), "", PATIENCE)
    }
}
