//! How cargo is run, and its tests are counted.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use cast::workspace;
use serde_json::Value;

use crate::count::Count;

/// A cargo in the workspace, with these arguments.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = workspace::cargo();
    command.args(arguments);
    command
}

/// Whether the journeys of this target need a Kubernetes; plain `cargo test` leaves them out.
pub(crate) fn is_on_the_cluster(target: &str) -> bool {
    target.starts_with("cluster")
}

/// The journeys whose target's name is as wanted, as arguments for `cargo test`.
pub(crate) fn targets(wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let output = cargo(["metadata", "--no-deps", "--format-version", "1"]).output().context("cannot run cargo")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata prints JSON")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.filter(|package| package["name"] == "tests").filter_map(|tests| tests["targets"].as_array());
    let journeys = targets.flatten().filter(|target| target["kind"][0] == "test");
    let names: Vec<_> = journeys.filter_map(|target| target["name"].as_str()).filter(|name| wanted(name)).collect();
    ensure!(!names.is_empty(), "there are no such journeys");
    Ok(names.iter().flat_map(|name| ["--test".to_owned(), (*name).to_owned()]).collect())
}

/// Runs a command that has to succeed.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "`{}` ended with {status}", words(&command));
    Ok(())
}

/// Runs a `cargo test`, shows what it prints and counts its results.
pub(crate) fn test(mut command: Command, count: &mut Count) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {command:?}"))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read what cargo test prints")?;
            count.add(&line);
            if !line.is_empty() && line != "running 0 tests" && !line.contains(" 0 passed; 0 failed") {
                println!("      {line}");
            }
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    ensure!(status.success(), "`{}` ended with {status}", words(&command));
    Ok(())
}

fn words(command: &Command) -> String {
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    format!("cargo {}", arguments.join(" "))
}
