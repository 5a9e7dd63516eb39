//! What the project is built from, as cargo-deny looks at it: licences, duplicates, origins, and known advisories.
//! `.cargo/deny.toml` says what may be.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::attempt;
use crate::workspace::{cargo, root, target};

/// Each one finds more than the one before, and reads its settings in its own way.
const VERSION: &str = "0.20.2";

/// Names a clone of the database of advisories, for machines that cannot fetch it.
pub const ADVISORIES: &str = "POSTERN_ADVISORIES";

/// Where the database is fetched from otherwise.
const DATABASE: &str = "https://github.com/RustSec/advisory-db";

/// Where `.cargo/deny.toml` has it put.
const FETCHED: &str = "target/advisories";

/// A cargo-deny.
#[derive(Debug)]
pub struct Deny(PathBuf);

// === impl Deny ===

impl Deny {
    /// The wanted version, which is built on first use; `tell` hears of what takes a while.
    pub fn find_or_install(tell: &dyn Fn(&str)) -> Result<Self> {
        let folder = target().join("tools");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // Who comes while somebody builds waits for that, and then finds it done.
        let lock = File::create(folder.join("lock"))?;
        lock.lock().context("cannot wait for whoever else builds cargo-deny")?;
        let deny = Self(folder.join("bin/cargo-deny"));
        if !deny.will_do() {
            tell(&format!("building cargo-deny {VERSION}: some minutes, the first time only"));
            let mut command = cargo();
            command.args(["install", "--quiet", "--locked", "--force", "--version", VERSION, "--root"]);
            let status = command.arg(&folder).arg("cargo-deny").status().context("cannot run cargo")?;
            ensure!(status.success() && deny.will_do(), "cargo-deny {VERSION} cannot be built");
        }
        Ok(deny)
    }

    fn will_do(&self) -> bool {
        let said = || attempt(Command::new(&self.0).arg("--version"));
        self.0.is_file() && said() == (true, format!("cargo-deny {VERSION}\n"))
    }

    /// Fetches the database of advisories; the day of its newest entry.
    ///
    /// # Errors
    /// It cannot be fetched; in one sentence.
    pub fn fetch_advisories(&self) -> Result<String> {
        let (fetched, said) = attempt(self.command().args(["fetch", "db"]));
        let said = said.lines().rfind(|line| line.contains("fatal:")).unwrap_or("cargo-deny does not say why").trim();
        ensure!(fetched, "{said}");
        let folder = fs::read_dir(root().join(FETCHED))?.filter_map(|entry| Some(entry.ok()?.path()));
        let folder = folder.into_iter().find(|path| path.is_dir()).context("nothing was fetched")?;
        let (_, day) = attempt(Command::new("git").arg("-C").arg(folder).args(["show", "-s", "--format=%cs", "HEAD"]));
        Ok(day.trim().to_owned())
    }

    /// Checks what is named: `advisories`, `bans`, `licenses`, `sources`.
    ///
    /// # Errors
    /// Something is not as it should be; it has been shown.
    pub fn check(&self, what: &[&str]) -> Result<()> {
        let mut command = self.command();
        command.args(["check", "--hide-inclusion-graph"]).args(what);
        let status = command.status().context("cannot run cargo-deny")?;
        ensure!(status.success(), "cargo-deny does not agree with {}", what.join(", "));
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        command.current_dir(root()).stdin(Stdio::null()).args(["--locked", "--config", ".cargo/deny.toml"]);
        if let Some(clone) = std::env::var_os(ADVISORIES) {
            // git takes it in place of the address.
            let key = format!("url.{}.insteadOf", Path::new(&clone).display());
            command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", key).env("GIT_CONFIG_VALUE_0", DATABASE);
        }
        command
    }
}
