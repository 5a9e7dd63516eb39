//! The programs of a cluster: built once from `tests/cluster`, and again only when something changes there.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Tell;
use super::release::Release;
use crate::install::find;
use crate::time::Stopwatch;

/// All are one program that looks at its own name.
const COMPONENTS: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"];

/// A module of its own, and yet of no other version: its client is Kubernetes' own.
pub(super) const HELM: &str = "helm.sh/helm/v3";

/// What is built with the newest release and serves every other; `kubectl` 1.30 takes no YAML that begins with a brace.
const FOR_EVERY_RELEASE: [&str; 5] = ["cluster", "coredns", "helm", "kubectl", "pause"];

/// The file that says what the programs beside it were made of.
const STAMP: &str = "sources";

/// How often a person is told that it still goes on.
const PROGRESS: Duration = Duration::from_secs(10);

/// The folder with Kubernetes, `kubectl` and `helm`, after building what is missing or has changed.
pub fn find_or_build(release: &Release, tell: Tell<'_>) -> Result<PathBuf> {
    let newest = Release::newest()?;
    let folder = newest.programs();
    let parent = folder.parent().context("a folder that was joined has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    // Who comes while somebody builds waits for that, and then finds everything done.
    let lock = File::create(parent.join("lock"))?;
    lock.lock().context("cannot wait for whoever else builds the cluster")?;
    let helm = format!("{HELM}/cmd/helm");
    let sources = newest.sources()?;
    if is_stale(folder, &sources) {
        build(&newest, &["./...", &helm], tell)?;
        finish(folder, &sources)?;
    }
    if *release == newest {
        return Ok(folder.to_owned());
    }
    let (shared, folder, sources) = (folder, release.programs(), sources + &release.sources()?);
    if is_stale(folder, &sources) {
        build(release, &["./..."], tell)?;
        for program in FOR_EVERY_RELEASE {
            let copy = folder.join(program);
            // A copy that runs cannot be written over, but another one can be put in its place.
            let _ = fs::remove_file(&copy);
            fs::copy(shared.join(program), copy).with_context(|| format!("cannot copy {program}"))?;
        }
        finish(folder, &sources)?;
    }
    Ok(folder.to_owned())
}

/// Whether what is in the folder was not made of these sources.
fn is_stale(folder: &Path, sources: &str) -> bool {
    !fs::read_to_string(folder.join(STAMP)).is_ok_and(|built| built == sources)
}

/// Gives every component its name, and notes down what all was made of.
fn finish(folder: &Path, sources: &str) -> Result<()> {
    for component in COMPONENTS {
        let link = folder.join(component);
        // It is there when this is not the first build.
        let _ = fs::remove_file(&link);
        symlink("kubernetes", link)?;
    }
    fs::write(folder.join(STAMP), sources)?;
    Ok(())
}

fn build(release: &Release, packages: &[&str], tell: Tell<'_>) -> Result<()> {
    let folder = release.programs();
    fs::create_dir_all(folder)?;
    let name = release.name();
    tell(&format!("Building Kubernetes {name} from its sources: some minutes the first time, then nothing"));
    let mut list = go(release)?;
    list.args(["list", "-deps", "-f", "."]).args(packages);
    let total = follow(&mut list, tell, |lines| format!("finding the sources: {lines} packages"))?;
    let mut build = go(release)?;
    build
        .args(["build", "-v", "-buildvcs=false", "-trimpath", "-ldflags", &release.flags(), "-o"])
        .arg(folder)
        .args(packages);
    follow(&mut build, tell, |lines| format!("compiling: {lines} packages of at most {total}"))?;
    Ok(())
}

/// A Go that is new enough to fetch the very one that the module wants.
fn go(release: &Release) -> Result<Command> {
    let usual = Path::new("/usr/local/go/bin/go");
    let go = find("go").or_else(|| usual.is_file().then(|| usual.to_owned()));
    let Some(go) = go else {
        bail!("Go is missing, which Kubernetes is built with: install it from https://go.dev/dl")
    };
    let output = Command::new(&go).arg("version").output().with_context(|| format!("cannot run {}", go.display()))?;
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    let minor = version.split("go1.").nth(1).and_then(|rest| rest.split(['.', ' ']).next()?.parse::<u32>().ok());
    ensure!(
        minor.is_some_and(|minor| minor >= 21),
        "{} is too old ({}): Kubernetes needs Go 1.21 or newer, from https://go.dev/dl",
        go.display(),
        version.trim()
    );
    let mut command = Command::new(go);
    command.current_dir(release.module()).env("CGO_ENABLED", "0").env("GOWORK", "off").env("GOFLAGS", "-mod=readonly");
    Ok(command)
}

/// Runs a `go` to its end and tells every few seconds how far it is; says how many packages it named.
fn follow(command: &mut Command, tell: Tell<'_>, how_far: impl Fn(usize) -> String) -> Result<usize> {
    let watch = Stopwatch::start();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let lines = read_lines(&mut child);
    let (mut packages, mut said) = (0, Vec::new());
    let mut shown = Stopwatch::start();
    loop {
        match lines.recv_timeout(PROGRESS) {
            Ok(line) if line.starts_with("go: downloading") => {}
            Ok(line) if line.contains([' ', '#']) => said.push(line),
            Ok(_) => packages += 1,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if shown.elapsed() >= PROGRESS {
            shown = Stopwatch::start();
            tell(&format!("{:4} s  {}", watch.elapsed().as_secs(), how_far(packages)));
        }
    }
    let status = child.wait()?;
    let tail = said[said.len().saturating_sub(20)..].join("\n");
    ensure!(status.success(), "Kubernetes cannot be built; what Go said:\n{tail}");
    Ok(packages)
}

/// The lines of both outputs, as they come.
fn read_lines(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    let also = sender.clone();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || pass_on(stdout, &sender));
    }
    if let Some(stderr) = child.stderr.take() {
        std::thread::spawn(move || pass_on(stderr, &also));
    }
    lines
}

fn pass_on(source: impl std::io::Read, lines: &mpsc::Sender<String>) {
    for line in BufReader::new(source).lines().map_while(Result::ok) {
        // Nobody listens once the program has failed.
        let _ = lines.send(line);
    }
}
