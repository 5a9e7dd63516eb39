//! The plugins of the project, as `cargo plugin` builds them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::install::{self, program};
use crate::process::attempt;
use crate::workspace::{cargo, root, target};

/// The component of the example of this name; all of them are built when the first is asked for.
#[track_caller]
pub fn example(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| build().unwrap_or_else(|error| panic!("{error:#}")));
    folder.join(format!("{name}.wasm"))
}

/// Builds all of them, as people do, and says where they are.
pub fn build() -> Result<PathBuf> {
    let folder = target().join("plugins");
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "componentize", "--", "--out"]).arg(&folder);
    let (ok, said) = attempt(&mut command);
    ensure!(ok, "the plugins cannot be built: {said}");
    Ok(folder)
}

/// The component of the example in JavaScript.
pub fn javascript() -> Result<PathBuf> {
    install::ensure_installed(install::FOR_QUICK_CLIENTS)?;
    let (source, folder) = (root().join("gateway/plugin/examples/javascript"), target().join("plugins/javascript"));
    // The tools of others are not put beside the sources.
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for file in ["package.json", "package-lock.json", "pattern.js"] {
        fs::copy(source.join(file), folder.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    let wit = root().join("gateway/plugin/wit");
    for words in [&["ci", "--silent", "--no-audit", "--no-fund"][..], &["run", "build"]] {
        let mut npm = Command::new(program("npm"));
        let (ok, said) = attempt(npm.args(words).current_dir(&folder).env("WIT", &wit));
        ensure!(ok, "npm {} failed: {said}", words.join(" "));
    }
    Ok(folder.join("pattern.wasm"))
}

/// The digest of a component as the resource writes it.
pub fn digest(component: &Path) -> Result<String> {
    let code = fs::read(component).with_context(|| format!("cannot read {}", component.display()))?;
    Ok(format!("sha256:{}", crate::images::digest(&code)))
}
