//! Where the workspace is, where cargo puts what it builds, and how a static program of it is built.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

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

/// A `cargo` in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).stdin(Stdio::null());
    // What the cargo that runs us says of us would have the build scripts that read such things run anew, and all that
    // depends on them be built again, each time.
    let is_about_us = |name: &OsString| {
        name.to_str().is_some_and(|name| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|begin| name.starts_with(begin)))
    };
    for name in std::env::vars_os().map(|(name, _)| name).filter(is_about_us) {
        command.env_remove(name);
    }
    command
}

/// Builds the program of a package as it is released, one static file, and says where it is; for another architecture
/// where `platform` names one.
pub fn build_static(package: &str, platform: Option<&str>) -> Result<PathBuf> {
    let mut command = cargo();
    // As the alias `build-gateway` does.
    command.args(["rustc", "--release", "--package", package, "--bin", package]);
    command.args(["--message-format", "json-render-diagnostics"]);
    if let Some(platform) = platform {
        command.args(["--target", platform]);
    }
    command.args(["--", "-Ctarget-feature=+crt-static", "-Clink-arg=-Wl,-z,pack-relative-relocs"]);
    command.stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo")?;
    ensure!(output.status.success(), "the {package} does not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    let program = executables.next_back().with_context(|| format!("the package {package} has no program"))?;
    let runs = || Command::new(&program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|it| it.success());
    // Programs for another machine cannot be tried here.
    ensure!(platform.is_some() || runs(), "{} does not start: build it with glibc 2.36 or later", program.display());
    Ok(program)
}
