//! A PgBouncer that knows prepared statements in transaction mode: the system's if it is new enough, else one that is built
//! from the source that a newer Debian has of it. An apt of its own fetches that from the system's mirror; nothing of the
//! system's apt is changed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::install::{FOR_PGBOUNCER, ensure_installed, find};
use crate::process::attempt;
use crate::workspace::target;

/// The oldest that will do.
const OLDEST: (u32, u32) = (1, 24);

/// The Debian whose source is built, and its keys where apt does not trust them anyway.
const SUITE: &str = "trixie";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What of apt's is its own: the list of sources, and the folders.
struct Apt {
    folder: PathBuf,
}

/// The program, which may have been built for it; `tell` hears of what takes a while.
pub fn find_or_build(tell: &dyn Fn(&str)) -> Result<PathBuf> {
    if let Some(installed) = find("pgbouncer").filter(|program| will_do(program)) {
        return Ok(installed);
    }
    let folder = target().join("pgbouncer");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Who comes while somebody builds waits for that, and then finds it done.
    let lock = File::create(folder.join("lock"))?;
    lock.lock().context("cannot wait for whoever else builds PgBouncer")?;
    let program = folder.join("pgbouncer");
    if !will_do(&program) {
        tell(&format!("building PgBouncer from the source that Debian {SUITE} has: a minute, the first time only"));
        build(&folder, &program).with_context(|| {
            let (major, minor) = OLDEST;
            format!("PgBouncer {major}.{minor} or newer is not installed, and cannot be built")
        })?;
    }
    Ok(program)
}

/// Whether it is a PgBouncer, and new enough.
fn will_do(program: &Path) -> bool {
    program.is_file() && version(&attempt(Command::new(program).arg("--version")).1) >= Some(OLDEST)
}

/// The first two numbers that it says of itself, as in `PgBouncer 1.24.1`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.lines().next()?.strip_prefix("PgBouncer ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn build(folder: &Path, program: &Path) -> Result<()> {
    let mirror = mirror()?;
    ensure_installed(FOR_PGBOUNCER)?;
    let tree = Apt::beside_the_systems(folder.join("apt"), &mirror)?.source("pgbouncer")?;
    done("configure", Command::new("./configure").args(["--without-cares", "--without-pam"]).current_dir(&tree))?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    done("make", Command::new("make").arg(format!("-j{jobs}")).arg("pgbouncer").current_dir(&tree))?;
    let built = tree.join("pgbouncer");
    ensure!(will_do(&built), "what was built in {} is too old or does not run", tree.display());
    fs::rename(built, program).with_context(|| format!("cannot make {}", program.display()))?;
    // Lists and sources have served their purpose, and whether they can be removed changes nothing.
    let _ = fs::remove_dir_all(folder.join("apt"));
    Ok(())
}

/// Where this machine has its packages from.
fn mirror() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let known = |key: &str| {
        let value = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"').to_owned()
    };
    ensure!(known("ID") == "debian" && find("apt-get").is_some(), "only a Debian knows a mirror that has its source");
    let codename = known("VERSION_CODENAME");
    let format = "$(RELEASE) $(COMPONENT) $(REPO_URI) $(CODENAME)";
    let list = done(
        "apt-get indextargets",
        Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]),
    )?;
    mirror_of(&codename, &list).with_context(|| format!("apt has no mirror of Debian {codename}"))
}

/// The address of the first archive of this release in a list of release, component, address and code name.
fn mirror_of(codename: &str, list: &str) -> Option<String> {
    let lines = list.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.into_iter().find_map(|fields| match fields[..] {
        [release, "main", address, name] if [release, name].contains(&codename) => Some(address.to_owned()),
        _ => None,
    })
}

/// Runs it to its end, which must be a good one, and returns what it printed.
fn done(what: &str, command: &mut Command) -> Result<String> {
    let (ok, said) = attempt(command.env("LC_ALL", "C"));
    // apt begins with the reason and ends with a summary; others end with the reason.
    let aptly = said.lines().find(|line| line.starts_with("W: ") || line.starts_with("E: "));
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    ensure!(ok, "{what} failed: {}", aptly.or(last).unwrap_or("it said nothing"));
    Ok(said)
}

// === impl Apt ===

impl Apt {
    /// One that knows the sources of [`SUITE`] on this mirror.
    fn beside_the_systems(folder: PathBuf, mirror: &str) -> Result<Self> {
        for own in ["sources", "state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(own)).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let keys = if Path::new(KEYS).is_file() { format!("Signed-By: {KEYS}\n") } else { String::new() };
        let source = format!("Types: deb-src\nURIs: {mirror}\nSuites: {SUITE}\nComponents: main\n{keys}");
        fs::write(folder.join("sources/newer.sources"), source)?;
        let apt = Self { folder };
        done("apt-get update", apt.get().args(["-o", "APT::Update::Error-Mode=any", "update"]))?;
        Ok(apt)
    }

    /// The unpacked source of a package.
    fn source(&self, package: &str) -> Result<PathBuf> {
        let folder = self.folder.join("unpacked");
        // It is there when an earlier attempt was interrupted.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder)?;
        done("apt-get source", self.get().args(["source", package]).current_dir(&folder))?;
        let mut trees =
            fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir());
        trees.next().with_context(|| format!("the source of {package} has no folder"))
    }

    fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.arg("--quiet");
        let own = |name: &str| self.folder.join(name).display().to_string();
        for (option, value) in [
            ("Dir::Etc::SourceList", "/dev/null".to_owned()),
            ("Dir::Etc::SourceParts", own("sources")),
            ("Dir::State", own("state")),
            ("Dir::Cache", own("cache")),
            // The user that apt would become may have no way into our folder.
            ("APT::Sandbox::User", "root".to_owned()),
        ] {
            command.args(["-o", &format!("{option}={value}")]);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_12_has_one_that_is_too_old() {
        assert!(version("PgBouncer 1.18.0\nlibevent 2.1.12-stable\n") < Some(OLDEST));
        assert!(version("PgBouncer 1.24.1\n") >= Some(OLDEST));
        assert!(version("usage: something else\n") < Some(OLDEST));
    }

    #[test]
    fn the_mirror_is_the_one_of_the_release_itself() {
        let list = "nodistro main https://other.example/ nodistro\n\
                    bookworm-security main https://mirror.example/security/ bookworm-security\n\
                    oldstable contrib https://mirror.example/debian/ bookworm\n\
                    oldstable main https://mirror.example/debian/ bookworm\n";
        assert_eq!(mirror_of("bookworm", list).as_deref(), Some("https://mirror.example/debian/"));
        assert_eq!(mirror_of("trixie", list), None);
        assert_eq!(
            mirror_of("sid", "sid main https://mirror.example/debian/ $(CODENAME)\n").as_deref(),
            Some("https://mirror.example/debian/")
        );
    }
}
