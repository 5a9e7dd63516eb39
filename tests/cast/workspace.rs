//! Where the workspace is, where cargo puts what it builds, and how a static program of it is built.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::attempt;

/// The folder of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Cargo's target folder: the one that the running program was built into.
pub fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    // Cargo marks it, so that backups leave it out.
    let marked = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(|| root().join("target"), Path::to_owned)
}

/// The programs that are published, each by its package: those of them that the workspace has.
const PUBLISHED: [(&str, &str); 3] =
    [("gateway", "gateway"), ("operator", "operator"), ("operator", "kubectl-postern")];

/// What is published runs on these.
pub(crate) const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// What has a cargo that builds say what it has built.
const MESSAGES: [&str; 2] = ["--message-format", "json-render-diagnostics"];

/// By these names a published program calls the folders of the machine that built it.
const CRATES: &str = "/crates";
const TARGET: &str = "/target";
const SOURCES: &str = "/postern";

/// A checkout of the workspace.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
}

/// A program that is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The package that it is built from.
    pub package: &'static str,
    /// Its own name.
    pub name: &'static str,
}

/// A `cargo` in the workspace.
pub fn cargo() -> Command {
    Workspace::own().cargo()
}

/// Builds the program of a package as it is published, one static file, and says where it is; for another architecture
/// where `platform` names one.
pub fn build_static(package: &str, platform: Option<&str>) -> Result<PathBuf> {
    Workspace::own().build_static(package, package, platform)
}

// === impl Workspace ===

impl Workspace {
    /// The one that this program was built from.
    pub fn own() -> Self {
        Self { root: root() }
    }

    /// A `cargo` in it.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).stdin(Stdio::null());
        // What the cargo that runs us says of us would have the build scripts that read such things run anew, and all that
        // depends on them be built again, each time.
        let is_about_us = |name: &OsString| {
            name.to_str()
                .is_some_and(|name| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|begin| name.starts_with(begin)))
        };
        for name in std::env::vars_os().map(|(name, _)| name).filter(is_about_us) {
            command.env_remove(name);
        }
        command
    }

    /// What cargo knows of it, and of every crate that what is published may need.
    pub fn metadata(&self) -> Result<Value> {
        let mut command = self.cargo();
        command.args(["metadata", "--format-version", "1"]);
        command.args(PLATFORMS.iter().flat_map(|platform| ["--filter-platform", platform]));
        let (ok, said) = attempt(&mut command);
        ensure!(ok, "cargo metadata failed: {said}");
        serde_json::from_str(&said).context("cargo metadata prints JSON")
    }

    /// The programs that are published.
    pub fn programs(&self) -> Result<Vec<Program>> {
        let metadata = self.metadata()?;
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let ours: Vec<_> = packages.filter(|package| package["source"].is_null()).collect();
        let has = |package: &str, name: &str| {
            let targets = ours.iter().filter(|one| one["name"] == package).filter_map(|one| one["targets"].as_array());
            targets.flatten().any(|target| target["kind"][0] == "bin" && target["name"] == name)
        };
        let programs = PUBLISHED.into_iter().filter(|(package, name)| has(package, name));
        Ok(programs.map(|(package, name)| Program { package, name }).collect())
    }

    /// Builds a program of it as it is published, and says where it is.
    pub fn build_static(&self, package: &str, program: &str, platform: Option<&str>) -> Result<PathBuf> {
        let mut command = self.cargo();
        command.args(["rustc", "--profile", "dist", "--package", package, "--bin", program]);
        command.args(MESSAGES);
        if let Some(platform) = platform {
            command.args(["--target", platform]);
        }
        // As the alias `build-gateway` does.
        command.args(["--", "-Ctarget-feature=+crt-static", "-Clink-arg=-Wl,-z,pack-relative-relocs"]);
        // They come before the flags of this machine, so that these get into nothing that is published either.
        command.env("CARGO_ENCODED_RUSTFLAGS", renamed_folders(&self.metadata()?)?.join("\u{1f}"));
        let path = built(&mut command, program)?;
        let runs = || Command::new(&path).arg("--version").stdout(Stdio::null()).status().is_ok_and(|it| it.success());
        // Programs for another machine cannot be tried here.
        ensure!(platform.is_some() || runs(), "{} does not start: build it with glibc 2.36 or later", path.display());
        Ok(path)
    }
}

/// Runs a cargo that builds the program `name`, and says where that is.
pub fn executable(build: &mut Command, name: &str) -> Result<PathBuf> {
    built(build.args(MESSAGES), name)
}

/// Runs a cargo that says what it has built.
fn built(build: &mut Command, name: &str) -> Result<PathBuf> {
    let output = build.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "the {name} does not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executables.next_back().with_context(|| format!("there is no program {name}"))
}

/// Flags by which a program calls the folders of this machine by other names, the same on every machine: each panic names the
/// source that it comes from.
fn renamed_folders(metadata: &Value) -> Result<Vec<String>> {
    let folder = |value: &Value| value.as_str().map(PathBuf::from).context("cargo metadata has another form");
    // Where one lies in another, the last one counts.
    let mut folders =
        vec![(folder(&metadata["workspace_root"])?, SOURCES), (folder(&metadata["target_directory"])?, TARGET)];
    let mut of_crates = BTreeSet::new();
    for package in metadata["packages"].as_array().into_iter().flatten().filter(|one| !one["source"].is_null()) {
        of_crates.extend(folder(&package["manifest_path"])?.ancestors().nth(2).map(Path::to_owned));
    }
    folders.extend(of_crates.into_iter().map(|folder| (folder, CRATES)));
    Ok(folders.iter().map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display())).collect())
}
