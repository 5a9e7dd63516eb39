//! The version, wherever it is written: the same everywhere.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cast::images::VERSION;

use crate::changelog;

/// Its one source.
const MANIFEST: &str = "Cargo.toml";

/// Which crates of ours have which version, the fuzzer's workspace included.
const LOCKS: [&str; 2] = ["Cargo.lock", "tests/fuzz/Cargo.lock"];

/// The crates of ours.
const CRATES: [&str; 4] = ["crds", "gateway", "operator", "tests"];

/// The chart's, and by default that of the images that it installs.
const CHART: &str = "charts/postern/Chart.yaml";

/// The folders whose pages may name images and files of a release.
const PAGES: [&str; 4] = ["", "gateway", "operator", "charts/postern"];

/// What such names look like before their versions.
const NAMED: [&str; 8] =
    ["gateway:", "operator:", "gateway-", "operator-", "kubectl-postern-", "gatewayconfig-", "postern-", "release-"];

/// A place where a version is written.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    place: String,
    version: String,
}

/// Refuses a workspace that names several versions, and says where.
pub(crate) fn ensure_agreed(root: &Path) -> Result<()> {
    let others: Vec<_> = written(root)?.into_iter().filter(|written| written.version != VERSION).collect();
    let places: Vec<_> = others.iter().map(|other| format!("{} says {}", other.place, other.version)).collect();
    ensure!(places.is_empty(), "the version is {VERSION}, but {}", places.join(", "));
    Ok(())
}

/// Every place of the workspace at `root`.
fn written(root: &Path) -> Result<Vec<Written>> {
    let read = |file: &str| fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"));
    let mut all = vec![the(MANIFEST, "version", after(&read(MANIFEST)?, "[workspace.package]", "version = "))?];
    for lock in LOCKS {
        let text = read(lock)?;
        for name in CRATES.iter().filter(|name| text.contains(&format!("\nname = \"{name}\"\n"))) {
            all.push(the(lock, name, after(&text, &format!("\nname = \"{name}\"\n"), "version = "))?);
        }
    }
    for key in ["version", "appVersion"] {
        all.push(the(CHART, key, after(&format!("\n{}", read(CHART)?), "", &format!("{key}: ")))?);
    }
    let changes = read(changelog::FILE)?;
    all.push(the(changelog::FILE, "the newest section", changelog::newest(&changes).map(str::to_owned))?);
    for folder in PAGES {
        for entry in fs::read_dir(root.join(folder)).with_context(|| format!("cannot read {folder}"))? {
            let path = entry?.path();
            let page = path.strip_prefix(root)?.display().to_string();
            let is_page = path.extension().is_some_and(|extension| extension == "md") || path.ends_with("values.yaml");
            // It names older versions, too.
            if is_page && page != changelog::FILE {
                all.extend(of_page(&page, &read(&page)?));
            }
        }
    }
    Ok(all)
}

fn the(file: &str, what: &str, version: Option<String>) -> Result<Written> {
    let version = version.with_context(|| format!("{file} has no version ({what})"))?;
    Ok(Written { place: format!("{file} ({what})"), version })
}

/// The value of the first line that begins with `key`, from `section` on.
fn after(text: &str, section: &str, key: &str) -> Option<String> {
    let (_, rest) = text.split_once(section)?;
    let value = rest.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim().trim_matches('"').to_owned())
}

/// The versions of whatever is ours in the words of a page, as in `gateway:0.1.0`.
fn of_page(page: &str, text: &str) -> Vec<Written> {
    let mut all = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for name in NAMED {
            for (at, _) in line.match_indices(name) {
                let rest = &line[at + name.len()..];
                let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
                let version = rest[..end].trim_end_matches('.');
                if version.split('.').filter(|number| !number.is_empty()).count() == 3 {
                    all.push(Written { place: format!("{page}:{}", index + 1), version: version.to_owned() });
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use cast::workspace::root;

    /// A copy of all places, of which one is changed.
    fn with(file: &str, from: &str, to: &str) -> cast::Folder {
        let copy = cast::Folder::new("versions");
        for folder in PAGES.into_iter().chain(["tests/fuzz"]) {
            fs::create_dir_all(copy.join(folder)).unwrap();
        }
        for one in LOCKS.into_iter().chain([MANIFEST, CHART, changelog::FILE, "README.md"]) {
            fs::copy(root().join(one), copy.join(one)).unwrap();
        }
        let old = fs::read_to_string(copy.join(file)).unwrap();
        let new = old.replacen(from, to, 1);
        assert_ne!(old, new, "{file} does not have {from}");
        fs::write(copy.join(file), new).unwrap();
        copy
    }

    #[test]
    fn the_version_is_the_same_everywhere() {
        ensure_agreed(&root()).unwrap();
        let written = written(&root()).unwrap();
        let at = |place: &str| written.iter().filter(|one| one.place.starts_with(place)).count();
        assert_eq!([at(MANIFEST), at("Cargo.lock"), at(CHART), at(changelog::FILE)], [1, 4, 2, 1], "{written:?}");
        assert!(at("tests/fuzz/") == 3 && at("README.md") > 0, "{written:?}");
    }

    #[test]
    fn another_version_is_noticed_in_each_place() {
        let (ours, section) = (format!("\"{VERSION}\""), format!("## [{VERSION}] - "));
        for (file, from, to) in [
            (MANIFEST, ours.as_str(), "\"9.9.9\""),
            ("Cargo.lock", &format!("name = \"crds\"\nversion = {ours}"), "name = \"crds\"\nversion = \"9.9.9\""),
            (
                "tests/fuzz/Cargo.lock",
                &format!("name = \"gateway\"\nversion = {ours}"),
                "name = \"gateway\"\nversion = \"9.9.9\"",
            ),
            (CHART, "\nversion: ", "\nversion: 9.9.9\nx: "),
            (CHART, "appVersion: ", "appVersion: 9.9.9\nx: "),
            (changelog::FILE, section.as_str(), "## [9.9.9] - 2027-01-31\n\n- More.\n\n## [0.0.1] - "),
            ("README.md", &format!("/gateway:{VERSION}"), "/gateway:9.9.9"),
        ] {
            let error = ensure_agreed(&with(file, from, to)).expect_err(file).to_string();
            assert!(error.contains(file) && error.contains("9.9.9"), "{error}");
        }
    }

    #[test]
    fn only_what_is_ours_is_looked_at() {
        let text =
            "postern/gateway:1.2.3 and gateway: 3.2 KiB, operator-1.2.3.cdx.json.\nPgBouncer 1.24.1, release-VERSION";
        let found: Vec<_> = of_page("page", text).into_iter().map(|one| (one.place, one.version)).collect();
        let line = |version: &str| ("page:1".to_owned(), version.to_owned());
        assert_eq!(found, [line("1.2.3"), line("1.2.3")]);
    }
}
