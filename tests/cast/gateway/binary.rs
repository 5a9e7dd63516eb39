//! The gateway's program: what `POSTERN_GATEWAY` names, or the release build of this workspace.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Where the program is; built on first use unless `POSTERN_GATEWAY` names one.
#[track_caller]
pub fn binary() -> &'static Path {
    find_or_build().unwrap_or_else(|error| panic!("{error:#}"))
}

/// The same, for programs that tell a person when it does not build.
pub fn find_or_build() -> Result<&'static Path> {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = BINARY.get() {
        return Ok(path);
    }
    let path = match std::env::var_os("POSTERN_GATEWAY") {
        Some(path) => PathBuf::from(path),
        None => build()?,
    };
    Ok(BINARY.get_or_init(|| path))
}

fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // As the alias `build-gateway` does.
    command.args(["rustc", "--release", "--package", "gateway", "--bin", "gateway"]);
    command.args(["--message-format", "json-render-diagnostics", "--", "-Ctarget-feature=+crt-static"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo")?;
    ensure!(output.status.success(), "the gateway does not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executables.next_back().context("the package gateway has no program")
}
