//! What the journeys need from the system: found, installed from Debian when that is possible, or named.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::process::is_root;
use crate::time::Stopwatch;

/// A Debian package and a program of it that tells whether it is there.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    name: &'static str,
    program: &'static str,
}

/// What the demonstration needs.
pub const FOR_THE_DEMO: &[Package] =
    &[Package { name: "postgresql", program: "postgres" }, Package { name: "util-linux", program: "setpriv" }];

/// What the journeys and the benchmark need.
pub const FOR_THE_JOURNEYS: &[Package] = &[
    Package { name: "postgresql", program: "postgres" },
    Package { name: "mariadb-server", program: "mariadbd" },
    Package { name: "mariadb-client", program: "mariadb-slap" },
    Package { name: "redis-server", program: "redis-server" },
    Package { name: "redis-tools", program: "redis-benchmark" },
    Package { name: "dnsmasq-base", program: "dnsmasq" },
    Package { name: "pgbouncer", program: "pgbouncer" },
    Package { name: "haproxy", program: "haproxy" },
    Package { name: "prometheus", program: "promtool" },
    Package { name: "prometheus-pgbouncer-exporter", program: "prometheus-pgbouncer-exporter" },
    Package { name: "iproute2", program: "ip" },
    Package { name: "nftables", program: "nft" },
    Package { name: "npm", program: "npm" },
    Package { name: "mount", program: "mount" },
    Package { name: "util-linux", program: "setpriv" },
];

/// What tells a process another time.
pub const FOR_THE_FAULTS: &[Package] = &[Package { name: "faketime", program: "faketime" }];

/// What drivers for Python and Node.js are fetched and run with.
pub const FOR_QUICK_CLIENTS: &[Package] = &[
    Package { name: "python3-venv", program: "python3" },
    Package { name: "nodejs", program: "node" },
    Package { name: "npm", program: "npm" },
];

/// What those for Java are; for Go it is the Go that the cluster needs, too.
pub const FOR_CLIENTS_IN_JAVA: &[Package] =
    &[Package { name: "default-jdk-headless", program: "javac" }, Package { name: "maven", program: "mvn" }];

/// What an application in Ruby is run with; its libraries have no programs.
pub const FOR_RECIPES_IN_RUBY: &[Package] = &[
    Package { name: "ruby", program: "ruby" },
    Package { name: "ruby-activerecord", program: "/usr/share/doc/ruby-activerecord/copyright" },
    Package { name: "ruby-pg", program: "/usr/share/doc/ruby-pg/copyright" },
];

/// What a cluster of the cast's own needs beside Go.
pub const FOR_THE_CLUSTER: &[Package] = &[
    Package { name: "containerd", program: "containerd" },
    Package { name: "runc", program: "runc" },
    Package { name: "containernetworking-plugins", program: "/usr/lib/cni/ptp" },
    Package { name: "nftables", program: "nft" },
    Package { name: "busybox", program: "busybox" },
    Package { name: "postgresql", program: "postgres" },
    Package { name: "util-linux", program: "nsenter" },
];

/// What a PgBouncer is built with.
pub const FOR_PGBOUNCER: &[Package] = &[
    Package { name: "gcc", program: "cc" },
    Package { name: "make", program: "make" },
    Package { name: "pkg-config", program: "pkg-config" },
    Package { name: "dpkg-dev", program: "dpkg-source" },
    Package { name: "libevent-dev", program: "/usr/include/event2/event.h" },
    Package { name: "libssl-dev", program: "/usr/include/openssl/ssl.h" },
];

/// What libFuzzer is built with.
pub const FOR_THE_FUZZER: &[Package] = &[Package { name: "g++", program: "c++" }];

/// What a network of the cast's own needs.
pub const FOR_A_NETWORK: &[Package] =
    &[Package { name: "iproute2", program: "ip" }, Package { name: "nftables", program: "nft" }];

/// What pictures are converted with, and what words in them are written in.
pub const FOR_PICTURES: &[Package] = &[
    Package { name: "librsvg2-bin", program: "rsvg-convert" },
    Package { name: "fonts-dejavu-core", program: "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf" },
];

/// What looks at where a process spends its time.
pub const FOR_PROFILES: &[Package] = &[Package { name: "linux-perf", program: "perf" }];

/// A browser, what drives it, and what words in it are written in.
pub const FOR_THE_BROWSER: &[Package] = &[
    Package { name: "chromium", program: "chromium" },
    Package { name: "chromium-driver", program: "chromedriver" },
    Package { name: "fonts-dejavu-core", program: "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf" },
];

/// A proxy that the gateway is compared with.
pub const FOR_THE_COMPARISON: &[Package] = &[Package { name: "haproxy", program: "haproxy" }];

// === impl Package ===

impl Package {
    fn is_there(&self) -> bool {
        // Debian's Python comes without the module that makes environments.
        let is_whole = |program: &Path| {
            self.name != "python3-venv"
                || Command::new(program).args(["-c", "import ensurepip"]).output().is_ok_and(|ran| ran.status.success())
        };
        find(self.program).is_some_and(|program| is_whole(&program))
    }
}

/// Where a program is: on the path, in the system's folders, in PostgreSQL's own (the newest one first), or among those that
/// are built for the cluster.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"].map(PathBuf::from);
    // Debian's /usr/bin/psql is a wrapper in Perl: PostgreSQL's own folder comes first.
    postgres_folders()
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(usual)
        .chain([crate::cluster::newest_programs()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Where a program is; fails the test, saying what to run, when it is not there.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} is not installed; `cargo verify -- tools kubernetes` installs it"))
}

fn postgres_folders() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").map(|entries| {
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()).collect::<Vec<_>>()
    });
    let mut versions = versions.unwrap_or_default();
    versions.sort_unstable_by(|one, other| other.cmp(one));
    versions.into_iter().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))).collect()
}

/// Makes sure that `packages` are there: installs what is missing as root on Debian or Ubuntu, otherwise fails with the line to run.
pub fn ensure_installed(packages: &[Package]) -> Result<()> {
    let missing: Vec<_> = packages.iter().filter(|package| !package.is_there()).map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if find("apt-get").is_none() {
        bail!("please install what Debian calls {names}: this is not Debian or Ubuntu, so it cannot be done here");
    }
    if !is_root() {
        bail!("some programs are missing; please run\n\n    sudo apt-get install --no-install-recommends {names}\n");
    }
    say(&format!("Installing {names}"));
    let _held = ServicesHeld::hold()?;
    apt_get(&["update"])?;
    apt_get(&[&["install", "--yes", "--no-install-recommends"], missing.as_slice()].concat())?;
    let still = packages.iter().find(|package| !package.is_there());
    ensure!(
        still.is_none(),
        "{} was installed and its program is still missing",
        still.map_or("", |package| package.name)
    );
    Ok(())
}

/// Runs apt-get and shows what it is doing, each line after the seconds since its start.
fn apt_get(arguments: &[&str]) -> Result<()> {
    let watch = Stopwatch::start();
    let mut command = Command::new("apt-get");
    command.arg("--quiet").args(["-o", "DPkg::Lock::Timeout=300"]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run apt-get")?;
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if ["Get:", "Setting up", "Err:"].iter().any(|start| line.starts_with(start)) {
                say(&format!("{:4} s  {line}", watch.elapsed().as_secs()));
            }
            output.push(line);
        }
    }
    let mut errors = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        std::io::Read::read_to_string(&mut stderr, &mut errors).context("cannot read what apt-get says")?;
    }
    let status = child.wait().context("cannot wait for apt-get")?;
    let tail = output[output.len().saturating_sub(10)..].join("\n");
    ensure!(status.success(), "apt-get {} failed:\n{tail}\n{errors}", arguments.join(" "));
    Ok(())
}

fn say(line: &str) {
    // Progress that cannot be shown is no reason to stop.
    let _ = writeln!(std::io::stdout(), "      {line}");
}

/// While it lives, packages do not start their services when they are installed.
struct ServicesHeld {
    before: Option<(Vec<u8>, fs::Permissions)>,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl ServicesHeld {
    fn hold() -> Result<Self> {
        let policy = Path::new(POLICY);
        let before = match fs::read(policy) {
            Ok(content) => Some((content, fs::metadata(policy)?.permissions())),
            Err(_) => None,
        };
        fs::write(policy, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(Self { before })
    }
}

impl Drop for ServicesHeld {
    fn drop(&mut self) {
        let restored = match self.before.take() {
            Some((content, permissions)) => {
                fs::write(POLICY, content).and_then(|()| fs::set_permissions(POLICY, permissions))
            }
            None => fs::remove_file(POLICY),
        };
        if let Err(error) = restored {
            say(&format!("Cannot restore {POLICY}: {error}"));
        }
    }
}
