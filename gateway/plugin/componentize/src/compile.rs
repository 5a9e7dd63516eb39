//! From Rust to core modules: small ones, that need nothing but what they were given.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What Rust calls WebAssembly without a system.
const TARGET: &str = "wasm32-unknown-unknown";

/// A session's instance begins with its stack, which Rust would make 1 MiB.
const FLAGS: &str = "-Clink-arg=-zstack-size=131072";

/// Built to be small: a ConfigMap holds little.
const PROFILE: [(&str, &str); 5] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
];

/// A core module.
pub(crate) struct Module {
    /// The plugin's.
    pub(crate) name: String,
    /// All of it.
    pub(crate) bytes: Vec<u8>,
}

/// Where plugins are written down.
pub(crate) enum Package {
    /// The package in this folder, whose examples they are.
    Examples(PathBuf),
    /// The package in this folder, whose programs they are.
    Own(PathBuf),
}

// === impl Module ===

impl Module {
    /// The module in this file.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Self { name, bytes })
    }
}

// === impl Package ===

impl Package {
    /// Compiles the plugins of these names, or all.
    pub(crate) fn compile(&self, names: &[String]) -> Result<Vec<Module>> {
        provide_target()?;
        let (folder, one, all) = match self {
            Package::Examples(folder) => (folder, "--example", "--examples"),
            Package::Own(folder) => (folder, "--bin", "--bins"),
        };
        let mut cargo = Command::new(cargo());
        cargo.args(["build", "--quiet", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
        cargo.arg("--manifest-path").arg(folder.join("Cargo.toml"));
        match names {
            [] => cargo.arg(all),
            names => cargo.args(names.iter().flat_map(|name| [one, name.as_str()])),
        };
        cargo.envs(PROFILE).env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", FLAGS);
        let output = cargo.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
        if !output.status.success() {
            bail!("the plugins do not compile");
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let mut modules =
            messages.lines().filter_map(artifact).map(|file| Module::read(&file)).collect::<Result<Vec<_>>>()?;
        modules.sort_by(|a, b| a.name.cmp(&b.name));
        if modules.is_empty() {
            bail!("{} has no programs; a plugin is one whose main calls postern_plugin::run", folder.display());
        }
        Ok(modules)
    }
}

/// The program that a line of cargo's is about, if it is.
fn artifact(line: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let executable = message["executable"].as_str()?;
    (message["reason"] == "compiler-artifact").then(|| executable.into())
}

/// Who runs us.
fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Sees to it that Rust can make WebAssembly.
fn provide_target() -> Result<()> {
    let asked = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    let folder = asked.context("cannot run rustc")?.stdout;
    if Path::new(String::from_utf8_lossy(&folder).trim()).is_dir() {
        return Ok(());
    }
    let added = Command::new("rustup").args(["target", "add", TARGET]).status();
    if !added.is_ok_and(|status| status.success()) {
        bail!(
            "Rust cannot make WebAssembly here: its target {TARGET} is missing, and rustup could not add it; install it by \
             rustup target add {TARGET}, or, where Rust is the distribution's, its package (libstd-rust-dev-wasm32 on Debian)"
        );
    }
    Ok(())
}
