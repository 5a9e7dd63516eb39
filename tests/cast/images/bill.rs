//! The bill of materials of an image: what its program is made of, as `CycloneDX` 1.5 writes it.
//!
//! It asks `cargo tree`. The tools for this ask `cargo metadata`, which has the features of the whole workspace together:
//! of the gateway they name a hundred crates more than it has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::process::attempt;
use crate::workspace::{PLATFORMS, Program, cargo, root};

/// A crate in the program.
#[derive(Default)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) licence: String,
    needs: BTreeSet<String>,
}

/// The bill of a program. The same sources give the same one.
pub(super) fn of(program: &Program) -> Result<Value> {
    let mut parts = parts(&tree(program.package)?)?;
    let checksums = checksums(&fs::read_to_string(root().join("Cargo.lock")).context("cannot read Cargo.lock")?);
    let (name, version) = (program.name, super::VERSION);
    let whole = reference(program.package, version);
    let links = parts.iter().map(|(part, of)| json!({ "ref": part, "dependsOn": of.needs })).collect::<Vec<_>>();
    let own = parts.remove(&whole).with_context(|| format!("cargo tree does not begin with {whole}"))?;
    let crates = parts.iter().map(|(part, of)| component(part, of, checksums.get(part)));
    let linked = linked()?.map(|(name, version, licence)| {
        let reference = format!("pkg:generic/{name}@{version}");
        json!({ "type": "library", "bom-ref": reference, "name": name, "version": version, "purl": reference,
                "licenses": [{ "expression": licence }] })
    });
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application", "bom-ref": whole, "name": name, "version": version, "purl": whole,
            "licenses": [{ "expression": own.licence }],
        } },
        "components": crates.chain(linked).collect::<Vec<_>>(),
        "dependencies": links,
    }))
}

fn reference(name: &str, version: &str) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

fn component(part: &str, of: &Part, checksum: Option<&String>) -> Value {
    let mut component = json!({
        "type": "library", "bom-ref": part, "name": of.name, "version": of.version, "purl": part,
        "licenses": [{ "expression": of.licence }],
    });
    if let Some(checksum) = checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

/// The crates in a package's program, itself among them.
pub(super) fn crates(package: &str) -> Result<Vec<Part>> {
    Ok(parts(&tree(package)?)?.into_values().collect())
}

/// What is linked into every program and is no crate: name, version and licence.
pub(super) fn linked() -> Result<[(&'static str, String, &'static str); 2]> {
    Ok([("rust", release_of_rust()?, "MIT OR Apache-2.0"), ("glibc", release_of_glibc()?, "LGPL-2.1-or-later")])
}

/// What is linked into the program for one of the platforms, a line each: how deep, name and version, and licence.
fn tree(package: &str) -> Result<String> {
    let mut command = cargo();
    command.args(["tree", "--locked", "--package", package, "--edges", "normal,no-proc-macro", "--prefix", "depth"]);
    command.args(["--format", "|{p}|{l}"]).args(PLATFORMS.iter().flat_map(|platform| ["--target", platform]));
    let (ok, said) = attempt(&mut command);
    ensure!(ok, "cargo tree failed: {said}");
    Ok(said)
}

fn parts(tree: &str) -> Result<BTreeMap<String, Part>> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    let mut above: Vec<String> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let mut fields = line.split('|');
        let [depth, named, licence] = [(); 3].map(|()| fields.next().unwrap_or_default());
        let depth: usize = depth.parse().with_context(|| format!("cargo tree prints {line:?}"))?;
        let (name, version) = named.split_once(" v").with_context(|| format!("cargo tree prints {line:?}"))?;
        let version = version.split(' ').next().unwrap_or_default();
        let part = reference(name, version);
        above.truncate(depth);
        if let Some(parent) = above.last() {
            parts.entry(parent.clone()).or_default().needs.insert(part.clone());
        }
        // What was printed above is marked, and some still write a stroke between two licences.
        let licence = licence.trim_end_matches(" (*)").replace(" / ", "/").replace('/', " OR ");
        let entry = parts.entry(part.clone()).or_default();
        (entry.name, entry.version, entry.licence) = (name.to_owned(), version.to_owned(), licence);
        above.push(part);
    }
    Ok(parts)
}

/// The SHA-256 of each crate's source, as the lock file has it.
fn checksums(lock: &str) -> HashMap<String, String> {
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
        line.map(|value| value.trim_end_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").filter_map(|package| {
        Some((reference(&field(package, "name")?, &field(package, "version")?), field(package, "checksum")?))
    });
    packages.collect()
}

fn release_of_rust() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let (_, said) = attempt(Command::new(rustc).current_dir(root()).arg("-vV"));
    said.lines().find_map(|line| line.strip_prefix("release: ")).map(str::to_owned).context("rustc says no release")
}

fn release_of_glibc() -> Result<String> {
    let (_, said) = attempt(Command::new("getconf").arg("GNU_LIBC_VERSION"));
    said.trim().strip_prefix("glibc ").map(str::to_owned).context("getconf knows no glibc")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill_of(package: &'static str) -> Value {
        of(&Program { package, name: package }).expect("a bill")
    }

    fn names(bill: &Value) -> Vec<&str> {
        let components = bill["components"].as_array().into_iter().flatten();
        components.filter_map(|component| component["name"].as_str()).collect()
    }

    #[test]
    fn what_is_in_a_program_is_named_and_nothing_else() {
        let gateway = bill_of("gateway");
        for name in ["tokio", "ring", "rustls", "crds", "rust", "glibc"] {
            assert!(names(&gateway).contains(&name), "{name} is missing");
        }
        for name in ["gateway", "proptest", "syn", "kube-client", "clap"] {
            assert!(!names(&gateway).contains(&name), "{name} is not in it");
        }
        assert!(names(&bill_of("operator")).contains(&"kube-client"));
        assert!(!gateway.to_string().contains(env!("CARGO_MANIFEST_DIR")), "it is the same on every machine");
    }

    #[test]
    fn every_part_has_a_licence_and_those_of_others_a_checksum() {
        for package in ["gateway", "operator"] {
            let bill = bill_of(package);
            for component in bill["components"].as_array().expect("a list") {
                let licence = component["licenses"][0]["expression"].as_str().unwrap_or_default();
                assert!(!licence.is_empty() && !licence.contains('/'), "{component}");
                let is_of_the_registry =
                    !["crds", "rust", "glibc"].contains(&component["name"].as_str().unwrap_or_default());
                let checksum = component["hashes"][0]["content"].as_str().unwrap_or_default();
                assert_eq!(checksum.len() == 64, is_of_the_registry, "{component}");
            }
        }
    }

    #[test]
    fn whatever_is_needed_is_named() {
        let bill = bill_of("operator");
        let whole = bill["metadata"]["component"]["bom-ref"].as_str();
        let components = bill["components"].as_array().expect("a list").iter();
        let known: BTreeSet<_> = components.filter_map(|one| one["bom-ref"].as_str()).chain(whole).collect();
        for link in bill["dependencies"].as_array().expect("a list") {
            let needs = link["dependsOn"].as_array().expect("a list").iter().filter_map(Value::as_str);
            let unknown: Vec<_> = needs.chain(link["ref"].as_str()).filter(|one| !known.contains(one)).collect();
            assert!(unknown.is_empty(), "{unknown:?}");
        }
    }
}
