//! The step `release`: makes a release twice, and looks at what is in it as who downloads it would.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cast::cluster::{self, Release};
use cast::images::{REGISTRY, VERSION, digest};
use cast::process::attempt;
use cast::workspace::{Program, Workspace, root, target};
use serde_json::Value;
use tar::Archive;

use crate::cargo::{cargo, run};

/// At least so many crates name themselves in a program, by the sources of its panics; else nothing was looked at.
const CRATES_AT_LEAST: usize = 20;

/// As a program calls the folder of all crates.
const CRATES: &[u8] = b"/crates/";

/// A release that was made.
struct Made {
    folder: PathBuf,
    /// Its checksums by the files' names.
    sums: BTreeMap<String, String>,
}

/// Makes one, checks it, and makes it again; what cargo has built already it does not build a second time.
pub(crate) fn check(tell: &dyn Fn(&str)) -> Result<()> {
    let programs = Workspace::own().programs()?;
    let release = Made::make()?;
    release.sums_hold()?;
    release.chart_is_whole(tell)?;
    for package in ["gateway", "operator"] {
        release.image_is_whole(package)?;
    }
    for program in &programs {
        release.program_is_clean(program, tell)?;
    }
    let again = Made::make()?;
    ensure!(release.sums == again.sums, "made twice, these differ: {}", differences(&release.sums, &again.sums));
    tell(&format!("Made twice, all {} files are the same", again.sums.len()));
    Ok(())
}

// === impl Made ===

impl Made {
    fn make() -> Result<Self> {
        run(cargo(["release-dry"]))?;
        let folder = target().join(format!("release-{VERSION}"));
        let sums = fs::read_to_string(folder.join("SHA256SUMS")).context("there are no checksums")?;
        let sums = sums.lines().filter_map(|line| line.split_once("  "));
        let sums = sums.map(|(sum, name)| (name.to_owned(), sum.to_owned())).collect();
        Ok(Self { folder, sums })
    }

    /// Every file has the checksum that is told, and none is without.
    fn sums_hold(&self) -> Result<()> {
        let mut check = Command::new("sha256sum");
        let (ok, said) =
            attempt(check.current_dir(&self.folder).args(["--check", "--strict", "--quiet", "SHA256SUMS"]));
        ensure!(ok, "{said}");
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            ensure!(name == "SHA256SUMS" || self.sums.contains_key(&name), "{name} has no checksum");
        }
        Ok(())
    }

    /// Helm finds nothing in the package, and makes of it what it makes of the chart's folder.
    fn chart_is_whole(&self, tell: &dyn Fn(&str)) -> Result<()> {
        let helm = cluster::find_or_build(&Release::newest()?, tell)?.join("helm");
        let package = self.folder.join(format!("postern-{VERSION}.tgz"));
        let registry = format!("image.registry={REGISTRY}");
        let say = |words: &[&str], chart: &Path| {
            let mut command = Command::new(&helm);
            let (ok, said) = attempt(command.args(words).arg(chart).args(["--set", &registry]));
            ensure!(ok, "helm {} of {} failed: {said}", words[0], chart.display());
            Ok(said)
        };
        say(&["lint", "--strict"], &package)?;
        let whole = say(&["template", "postern"], &package)?;
        ensure!(
            whole == say(&["template", "postern"], &root().join("charts/postern"))?,
            "the package is another chart"
        );
        for package in ["gateway", "operator"] {
            ensure!(whole.contains(&format!("{REGISTRY}/{package}:{VERSION}")), "the chart installs another {package}");
        }
        Ok(())
    }

    /// The archive has the right name, the program that is published beside it, and the licences.
    fn image_is_whole(&self, package: &str) -> Result<()> {
        let files = files_of(&fs::read(self.folder.join(format!("{package}-{VERSION}.oci.tar")))?)?;
        let part = |name: &str| files.get(name).with_context(|| format!("the image {package} has no {name}"));
        let index: Value = serde_json::from_slice(part("index.json")?)?;
        let name = &index["manifests"][0]["annotations"]["io.containerd.image.name"];
        ensure!(*name == format!("{REGISTRY}/{package}:{VERSION}"), "the image {package} is named {name}");
        let docker: Value = serde_json::from_slice(part("manifest.json")?)?;
        ensure!(docker[0]["RepoTags"][0] == *name, "Docker would call the image {package} {}", docker[0]["RepoTags"]);
        let layer = files_of(part(docker[0]["Layers"][0].as_str().unwrap_or_default())?)?;
        let program = layer.get(package).with_context(|| format!("the image {package} has no program"))?;
        let sum = digest(program);
        let is_published = |(name, other): (&String, &String)| name.starts_with(package) && *other == sum;
        ensure!(self.sums.iter().any(is_published), "the image {package} has another program than the release");
        for licence in ["LICENSE", "THIRD-PARTY.txt", "rust-standard-library.html"] {
            let text = layer.get(&format!("licenses/{licence}"));
            ensure!(text.is_some_and(|text| !text.is_empty()), "the image {package} has no {licence}");
        }
        Ok(())
    }

    /// A program tells its version, names no folder of this machine, and has no crate that its bill does not name.
    fn program_is_clean(&self, program: &Program, tell: &dyn Fn(&str)) -> Result<()> {
        let name = program.name;
        let bill = fs::read(self.folder.join(format!("{name}-{VERSION}.cdx.json"))).context("it has no bill")?;
        let bill: Value = serde_json::from_slice(&bill)?;
        let components = bill["components"].as_array().map_or(&[][..], Vec::as_slice);
        let named = |one: &Value| Some(format!("{}-{}", one["name"].as_str()?, one["version"].as_str()?));
        let named: Vec<_> = components.iter().filter_map(named).collect();
        let begin = format!("{name}-{VERSION}-linux-");
        let files: Vec<_> = self.sums.keys().filter(|file| file.starts_with(&begin)).collect();
        ensure!(!files.is_empty(), "the release has no {name}");
        for file in files {
            let content = fs::read(self.folder.join(file))?;
            for folder in folders_of_this_machine()? {
                ensure!(!has(&content, folder.as_bytes()), "{file} names {folder}, which only this machine has");
            }
            let crates = crates_in(&content);
            let unnamed: Vec<_> = crates.iter().filter(|one| !named.contains(one)).map(String::as_str).collect();
            ensure!(unnamed.is_empty(), "{file} has {}, of which its bill says nothing", unnamed.join(", "));
            ensure!(crates.len() >= CRATES_AT_LEAST, "{file} names {} crates only", crates.len());
            tell(&format!(
                "{file}: its bill names {} parts, among them all {} that it names",
                named.len(),
                crates.len()
            ));
        }
        let here =
            self.folder.join(format!("{begin}{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }));
        let (ok, said) = attempt(Command::new(here).arg("--version"));
        ensure!(ok && said.contains(VERSION), "the released {name} says of its version: {said}");
        Ok(())
    }
}

fn differences(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> String {
    let differs = |name: &&String| one.get(*name) != other.get(*name);
    let names: BTreeSet<_> = one.keys().chain(other.keys()).filter(differs).map(String::as_str).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// The files of an archive by their paths.
fn files_of(archive: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in Archive::new(archive).entries()? {
        let mut entry = entry?;
        let (path, mut content) = (entry.path()?.display().to_string(), Vec::new());
        entry.read_to_end(&mut content)?;
        files.insert(path, content);
    }
    Ok(files)
}

/// Where sources, crates, the compiler and what was built are, and the home of who built it.
fn folders_of_this_machine() -> Result<Vec<String>> {
    let metadata = Workspace::own().metadata()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut folders: Vec<_> =
        [&metadata["workspace_root"], &metadata["target_directory"]].into_iter().filter_map(text).collect();
    for package in metadata["packages"].as_array().into_iter().flatten().filter(|one| !one["source"].is_null()) {
        let place = package["manifest_path"].as_str().and_then(|path| Path::new(path).ancestors().nth(2));
        folders.extend(place.map(|place| place.display().to_string()));
    }
    for variable in ["HOME", "CARGO_HOME", "RUSTUP_HOME"] {
        folders.extend(std::env::var(variable).ok().filter(|folder| folder.len() > 1).map(|folder| folder + "/"));
    }
    folders.sort_unstable();
    folders.dedup();
    Ok(folders)
}

fn has(content: &[u8], text: &[u8]) -> bool {
    !text.is_empty() && content.windows(text.len()).any(|part| part == text)
}

/// The crates whose sources a program names, as in `tokio-1.54.1`.
fn crates_in(program: &[u8]) -> Vec<String> {
    let mut crates = Vec::new();
    for (at, _) in program.windows(CRATES.len()).enumerate().filter(|(_, part)| *part == CRATES) {
        let rest = &program[at + CRATES.len()..];
        let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(0);
        if let Ok(name) = str::from_utf8(&rest[..end])
            && !name.is_empty()
        {
            crates.push(name.to_owned());
        }
    }
    crates.sort_unstable();
    crates.dedup();
    crates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_searched_for_folders_and_crates() {
        let program = b"\0/crates/tokio-1.54.1/src/a.rs\0/crates/ring-0.17.14/b.rs/crates/tokio-1.54.1/src\xff\0";
        assert_eq!(crates_in(program), ["ring-0.17.14", "tokio-1.54.1"]);
        assert!(has(program, b"/src/a.rs") && !has(program, b"/home/somebody"));
    }

    #[test]
    fn what_differs_is_named_once() {
        let sums = |pairs: &[(&str, &str)]| pairs.iter().map(|(one, two)| ((*one).into(), (*two).into())).collect();
        let (one, other): (BTreeMap<_, _>, _) =
            (sums(&[("a", "1"), ("b", "2")]), sums(&[("a", "1"), ("b", "3"), ("c", "4")]));
        assert_eq!(differences(&one, &other), "b, c");
    }
}
