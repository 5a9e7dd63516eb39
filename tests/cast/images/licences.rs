//! What goes with a program because licences ask for it: the texts of those of everything that is linked into it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::bill;
use crate::process::attempt;
use crate::workspace::{Program, Workspace, root};

/// By these words the names of files begin that have such texts.
const BEGINNINGS: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// The licence of ours, whose text stands in for those that some crates under the same licence do not bring along.
const OURS: &str = "Apache-2.0";

/// Where Debian and Ubuntu have what glibc asks for: who wrote it, and the licence that this refers to.
const OF_GLIBC: [&str; 2] = ["/usr/share/doc/libc6-dev/copyright", "/usr/share/common-licenses/LGPL-2.1"];

/// The same of Rust, in the folder of the compiler.
const OF_RUST: &str = "share/doc/rust/COPYRIGHT-library.html";

/// The longest line of names.
const WIDTH: usize = 100;

/// Who asks for a text, by the text.
#[derive(Default)]
struct Texts(BTreeMap<String, Vec<String>>);

/// The files that go with a program, by their names. The same sources give the same ones.
pub(super) fn of(program: &Program) -> Result<Vec<(&'static str, String)>> {
    let rust = sysroot()?.join(OF_RUST);
    let rust = fs::read_to_string(&rust).with_context(|| format!("cannot read {}", rust.display()))?;
    Ok(vec![
        ("LICENSE", own_licence()?),
        ("THIRD-PARTY.txt", third_parties(program)?),
        ("rust-standard-library.html", rust),
    ])
}

fn third_parties(program: &Program) -> Result<String> {
    let (mut texts, mut list) = (Texts::default(), String::new());
    let folders = folders()?;
    for part in bill::crates(program.package)? {
        // What is not here is ours.
        let Some(folder) = folders.get(&(part.name.clone(), part.version.clone())) else { continue };
        let who = format!("{} {}", part.name, part.version);
        writeln!(list, "{who:<36} {}", part.licence)?;
        texts.add_crate(&who, &part.licence, folder)?;
    }
    for (name, version, licence) in bill::linked()? {
        writeln!(list, "{:<36} {licence}", format!("{name} {version}"))?;
    }
    for file in OF_GLIBC {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}, which glibc asks for"))?;
        texts.add("glibc", &text);
    }
    Ok(format!(
        "The program {} {} of Postern is licensed under {OURS}. This is what is linked into it besides, under which licence,\n\
         and then the texts that these licences ask to be passed on. Those of Rust's standard library are in\n\
         rust-standard-library.html beside this file. With the sources, by `cargo images`, it can be linked with another glibc.\n\n\
         {list}{texts}",
        program.name,
        super::VERSION
    ))
}

fn own_licence() -> Result<String> {
    fs::read_to_string(root().join("LICENSE")).context("cannot read LICENSE")
}

/// Where the sources of each crate of others are, by its name and version.
fn folders() -> Result<HashMap<(String, String), PathBuf>> {
    let metadata = Workspace::own().metadata()?;
    let packages = metadata["packages"].as_array().into_iter().flatten().filter(|package| !package["source"].is_null());
    let folders = packages.filter_map(|package| {
        let name = |key: &str| package[key].as_str().map(str::to_owned);
        let folder = Path::new(package["manifest_path"].as_str()?).parent()?;
        Some(((name("name")?, name("version")?), folder.to_owned()))
    });
    Ok(folders.collect())
}

fn sysroot() -> Result<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let (ok, said) = attempt(Command::new(rustc).current_dir(root()).args(["--print", "sysroot"]));
    ensure!(ok, "rustc does not say where it is: {said}");
    Ok(PathBuf::from(said.trim()))
}

// === impl Texts ===

impl Texts {
    /// Adds every text that a crate brings along.
    fn add_crate(&mut self, who: &str, licence: &str, folder: &Path) -> Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().to_uppercase();
            if entry.path().is_file() && BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) {
                files.push(entry.path());
            }
        }
        files.sort_unstable();
        for file in &files {
            self.add(who, &fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?);
        }
        if files.is_empty() {
            let allowed = licence.split(" OR ").any(|one| one.trim_matches(['(', ')']) == OURS);
            if !allowed {
                bail!("{who} brings no text of its licence along, {licence}; ask its authors for one");
            }
            self.add(who, &own_licence()?);
        }
        Ok(())
    }

    /// Many bring the same text along, but for blanks at its ends.
    fn add(&mut self, who: &str, text: &str) {
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        let askers = self.0.entry(lines.join("\n").trim_matches('\n').to_owned()).or_default();
        if askers.last().is_none_or(|last| last != who) {
            askers.push(who.to_owned());
        }
    }
}

/// In the order of who asks for them.
impl std::fmt::Display for Texts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut texts: Vec<_> = self.0.iter().collect();
        texts.sort_unstable_by_key(|&(text, askers)| (askers, text));
        for (text, askers) in texts {
            let (stroke, names) = ("=".repeat(WIDTH), in_lines(askers));
            write!(out, "\n{stroke}\n{names}\n{stroke}\n\n{text}\n")?;
        }
        Ok(())
    }
}

/// The names with commas between them, in lines that are not too long.
fn in_lines(names: &[String]) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for (index, name) in names.iter().enumerate() {
        if !line.is_empty() && line.len() + name.len() + 2 > WIDTH {
            lines += line.trim_end();
            lines.push('\n');
            line.clear();
        }
        line += name;
        line += if index + 1 < names.len() { ", " } else { "" };
    }
    lines + &line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn third_parties_of(package: &'static str) -> String {
        third_parties(&Program { package, name: package }).expect("every crate has a text")
    }

    #[test]
    fn every_crate_in_a_program_has_its_text() {
        for package in ["gateway", "operator"] {
            let file = third_parties_of(package);
            let (list, texts) = file.split_once("\n\n====").expect("the texts follow the list");
            let (_, list) = list.split_once("\n\n").expect("a list");
            assert!(list.lines().count() > 50, "{list}");
            for line in list.lines().filter(|line| !line.starts_with("rust ") && !line.starts_with("glibc ")) {
                let who: Vec<_> = line.split_whitespace().take(2).collect();
                assert!(texts.contains(&who.join(" ")), "{line}");
            }
            for text in ["Tokio Contributors", "Permission is hereby granted", "GNU LESSER"] {
                assert!(texts.contains(text), "{package}: {text}");
            }
            assert!(!file.contains(env!("CARGO_MANIFEST_DIR")), "it is the same on every machine");
        }
    }

    #[test]
    fn a_text_that_many_bring_along_is_there_once() {
        let mut texts = Texts::default();
        texts.add("one 1.0.0", "\nas is  \r\nno warranty\n");
        texts.add("two 1.0.0", "as is\nno warranty");
        let stroke = "=".repeat(WIDTH);
        assert_eq!(texts.to_string(), format!("\n{stroke}\none 1.0.0, two 1.0.0\n{stroke}\n\nas is\nno warranty\n"));
    }

    #[test]
    fn who_has_no_text_may_have_ours_or_is_named() {
        let empty = crate::Folder::new("crate");
        let mut texts = Texts::default();
        texts.add_crate("one 1.0.0", "MIT OR Apache-2.0", &empty).expect("it is under our licence, too");
        assert!(texts.to_string().contains("http://www.apache.org/licenses/"));
        let refused = texts.add_crate("two 1.0.0", "MIT", &empty).expect_err("nobody has its text");
        assert!(refused.to_string().starts_with("two 1.0.0 brings no text"), "{refused}");
    }
}
