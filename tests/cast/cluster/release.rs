//! Which Kubernetes: the newest that builds here, or the lowest that the chart takes.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::programs::HELM;
use crate::images::digest;
use crate::workspace::{root, target};

/// Names the release, as `1.30`; without it the newest is taken.
pub const RELEASE: &str = "POSTERN_TEST_KUBERNETES";

/// A Kubernetes that is built from a Go module of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// As its sources are tagged: `v1.34.4`.
    version: String,
    /// The module.
    module: PathBuf,
    /// Where its programs are put.
    programs: PathBuf,
}

// === impl Release ===

impl Release {
    /// The newest that builds here.
    pub fn newest() -> Result<Self> {
        Self::of(root().join("tests").join("cluster"), newest_programs())
    }

    /// The lowest that the chart takes.
    pub fn lowest() -> Result<Self> {
        let module = root().join("tests").join("cluster").join("lowest");
        Self::of(module, target().join("cluster").join("lowest"))
    }

    /// The one that the environment names, or the newest.
    pub fn wanted() -> Result<Self> {
        let newest = Self::newest()?;
        let Some(name) = std::env::var_os(RELEASE) else { return Ok(newest) };
        let lowest = Self::lowest()?;
        let names = format!("{} and {}", lowest.name(), newest.name());
        match [newest, lowest].into_iter().find(|release| *release.name() == *name) {
            Some(release) => Ok(release),
            None => bail!("{RELEASE}={} names none of the releases that are built here: {names}", name.display()),
        }
    }

    fn of(module: PathBuf, programs: PathBuf) -> Result<Self> {
        let file = module.join("go.mod");
        let manifest = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let version = required(&manifest).with_context(|| format!("{} requires no Kubernetes", file.display()))?;
        Ok(Self { version: version.to_owned(), module, programs })
    }

    /// As people call it: `1.34`.
    pub fn name(&self) -> String {
        let (major, minor) = self.numbers();
        format!("{major}.{minor}")
    }

    pub(super) fn module(&self) -> &Path {
        &self.module
    }

    pub(super) fn programs(&self) -> &Path {
        &self.programs
    }

    fn numbers(&self) -> (&str, &str) {
        let mut numbers = self.version.trim_start_matches('v').split('.');
        (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
    }

    /// The versions that the programs shall say they have.
    pub(super) fn flags(&self) -> String {
        let (version, (major, minor)) = (&self.version, self.numbers());
        let mut flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={version}");
        for (package, prefix) in [
            ("k8s.io/component-base/version".to_owned(), "git"),
            (format!("{HELM}/pkg/chartutil"), "k8sVersion"),
            (format!("{HELM}/pkg/lint/rules"), "k8sVersion"),
        ] {
            // Writing to a string cannot fail.
            let _ = write!(flags, " -X {package}.{prefix}Major={major} -X {package}.{prefix}Minor={minor}");
        }
        flags
    }

    /// What the programs are made of, as a hash.
    pub(super) fn sources(&self) -> Result<String> {
        let mut files = Vec::new();
        list(&self.module, &mut files)?;
        files.sort();
        let mut all = Vec::new();
        for file in &files {
            all.extend(file.strip_prefix(&self.module)?.to_string_lossy().as_bytes());
            all.extend(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
        }
        Ok(digest(&all))
    }
}

/// Where the programs of the newest are, and those that serve every release.
pub(crate) fn newest_programs() -> PathBuf {
    target().join("cluster").join("bin")
}

/// The version of Kubernetes that a `go.mod` requires.
fn required(manifest: &str) -> Option<&str> {
    manifest.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
}

/// The files of a module; a folder with a `go.mod` of its own belongs to another one.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if !path.is_dir() {
            files.push(path);
        } else if !path.join("go.mod").exists() {
            list(&path, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_release_is_the_one_that_the_chart_names() {
        let chart = fs::read_to_string(root().join("charts/postern/Chart.yaml")).expect("the chart has one");
        let (lowest, newest) =
            (Release::lowest().expect("it has a module"), Release::newest().expect("it has one too"));
        assert!(chart.contains(&format!(">={}.0-0", lowest.name())), "{}: {chart}", lowest.name());
        assert_ne!(lowest, newest);
    }

    #[test]
    fn the_sources_of_the_newest_are_not_those_of_the_lowest() {
        let newest = Release::newest().expect("it has a module");
        let mut files = Vec::new();
        list(newest.module(), &mut files).expect("the module can be read");
        assert!(files.iter().any(|file| file.ends_with("kubernetes/main.go")));
        assert!(!files.iter().any(|file| file.starts_with(newest.module().join("lowest"))), "{files:?}");
    }
}
