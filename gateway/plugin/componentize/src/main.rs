//! `cargo plugin`: compiles plugins, makes components of them, and says where they are and what their digests are.
//!
//! ```text
//! cargo plugin                          # every plugin in gateway/plugin/examples, to target/plugins
//! cargo plugin block mask               # these
//! cargo plugin --package ../guard       # the programs of somebody's own package
//! cargo plugin --module guard.wasm      # a core module that another toolchain has made
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use argh::FromArgs;
use sha2::{Digest, Sha256};

mod compile;
mod component;

use compile::{Module, Package};

/// Compiles plugins, and makes components of them.
#[derive(FromArgs)]
struct Settings {
    /// the folder of a package, whose programs are plugins; default: the project's own examples
    #[argh(option)]
    package: Option<PathBuf>,
    /// a core module that another toolchain has made
    #[argh(option)]
    module: Option<PathBuf>,
    /// the folder for the components; default: target/plugins
    #[argh(option)]
    out: Option<PathBuf>,
    /// the names of plugins; default: all
    #[argh(positional)]
    names: Vec<String>,
}

fn main() -> ExitCode {
    match run(&argh::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Who cannot be told is not there.
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes what is asked for.
fn run(settings: &Settings) -> Result<()> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let out = settings.out.clone().unwrap_or_else(|| top.join("target/plugins"));
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    for Module { name, bytes } in modules(settings, &top)? {
        let component = component::of(&bytes).with_context(|| format!("{name} is no plugin"))?;
        let path = out.join(format!("{name}.wasm"));
        fs::write(&path, &component).with_context(|| format!("cannot write {}", path.display()))?;
        say(&path, &component)?;
    }
    Ok(())
}

/// The core modules that are asked for.
fn modules(settings: &Settings, top: &Path) -> Result<Vec<Module>> {
    match (&settings.module, &settings.package) {
        (Some(_), Some(_)) => bail!("--module and --package exclude each other"),
        (Some(file), None) => Ok(vec![Module::read(file)?]),
        (None, package) => {
            let package = match package {
                Some(folder) => Package::Own(folder.clone()),
                None => Package::Examples(top.join("gateway/plugin")),
            };
            package.compile(&settings.names)
        }
    }
}

/// One line on a component: where it is, how large, and what its digest is.
fn say(path: &Path, component: &[u8]) -> Result<()> {
    let path = fs::canonicalize(path)?;
    let here = std::env::current_dir()?;
    let shown = path.strip_prefix(&here).unwrap_or(&path).display();
    let digest = Sha256::digest(component).iter().fold(String::new(), |mut digest, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digest, "{byte:02x}");
        digest
    });
    writeln!(io::stdout(), "{shown}  {} KiB  sha256:{digest}", component.len().div_ceil(1024))?;
    Ok(())
}
