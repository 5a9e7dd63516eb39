//! The programs of a cluster: built once from `tests/cluster`, and again only when something changes there.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Tell;
use crate::images::digest;
use crate::install::find;
use crate::time::Stopwatch;
use crate::workspace::{root, target};

/// All are one program that looks at its own name.
const COMPONENTS: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"];

/// A module of its own, and yet of no other version: its client is Kubernetes' own.
const HELM: &str = "helm.sh/helm/v3";

/// How often a person is told that it still goes on.
const PROGRESS: Duration = Duration::from_secs(10);

/// The folder where they are.
pub(crate) fn folder() -> PathBuf {
    target().join("cluster").join("bin")
}

/// The same, after building them if that is needed: Kubernetes, `kubectl` and `helm`.
pub fn find_or_build(tell: Tell<'_>) -> Result<PathBuf> {
    let folder = folder();
    let parent = folder.parent().context("a folder that was joined has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    // Who comes while somebody builds waits for that, and then finds everything done.
    let lock = File::create(parent.join("lock"))?;
    lock.lock().context("cannot wait for whoever else builds the cluster")?;
    let (stamp, wanted) = (folder.join("sources"), sources()?);
    if fs::read_to_string(&stamp).is_ok_and(|built| built == wanted) {
        return Ok(folder);
    }
    fs::create_dir_all(&folder)?;
    build(&folder, tell)?;
    for component in COMPONENTS {
        let link = folder.join(component);
        // It is there when this is not the first build.
        let _ = fs::remove_file(&link);
        symlink("kubernetes", link)?;
    }
    fs::write(stamp, wanted)?;
    Ok(folder)
}

fn module() -> PathBuf {
    root().join("tests").join("cluster")
}

/// What the programs are made of, as a hash.
fn sources() -> Result<String> {
    let mut files = Vec::new();
    list(&module(), &mut files)?;
    files.sort();
    let mut all = Vec::new();
    for file in &files {
        all.extend(file.strip_prefix(module())?.to_string_lossy().as_bytes());
        all.extend(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(digest(&all))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() { list(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

fn build(folder: &Path, tell: Tell<'_>) -> Result<()> {
    let packages = ["./...", &format!("{HELM}/cmd/helm")].map(str::to_owned);
    tell("Building Kubernetes from its sources: some minutes the first time, then nothing");
    let mut list = go()?;
    list.args(["list", "-deps", "-f", "."]).args(&packages);
    let total = follow(&mut list, tell, |lines| format!("finding the sources: {lines} packages"))?;
    let mut build = go()?;
    build
        .args(["build", "-v", "-buildvcs=false", "-trimpath", "-ldflags", &flags()?, "-o"])
        .arg(folder)
        .args(&packages);
    follow(&mut build, tell, |lines| format!("compiling: {lines} packages of at most {total}"))?;
    Ok(())
}

/// The versions that the programs shall say they have.
fn flags() -> Result<String> {
    let manifest = fs::read_to_string(module().join("go.mod"))?;
    let version = manifest
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
        .context("tests/cluster/go.mod requires no k8s.io/kubernetes")?;
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let mut flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={version}");
    for (package, prefix) in [
        ("k8s.io/component-base/version".to_owned(), "git"),
        (format!("{HELM}/pkg/chartutil"), "k8sVersion"),
        (format!("{HELM}/pkg/lint/rules"), "k8sVersion"),
    ] {
        // Writing to a string cannot fail.
        let _ = write!(flags, " -X {package}.{prefix}Major={major} -X {package}.{prefix}Minor={minor}");
    }
    Ok(flags)
}

/// A Go that is new enough to fetch the very one that the module wants.
fn go() -> Result<Command> {
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
    command.current_dir(module()).env("CGO_ENABLED", "0").env("GOWORK", "off").env("GOFLAGS", "-mod=readonly");
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
