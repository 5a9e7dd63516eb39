//! `cargo release-dry`: everything that a release has, made in one go and published nowhere.
//!
//! `cargo release-dry -- --registry registry.example.com/postern` names the images for a registry.
#![allow(clippy::print_stdout, reason = "telling what it made is this program's work")]

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use cast::images::{self, Image, VERSION};
use cast::process::attempt;
use cast::workspace::{Program, Workspace, root};
use clap::Parser;

mod versions;
mod changelog;
mod chart;
mod folder;

use folder::{Folder, Made};

/// The packages that are published as images.
const IMAGES: [&str; 2] = ["gateway", "operator"];

/// Makes what a release has into target/release-VERSION: programs, images, chart, resource, bills of materials, licences, changes
/// and checksums.
#[derive(Parser)]
#[command(name = "cargo release-dry")]
struct Arguments {
    /// What the names of the images begin with: a registry, and maybe a folder in it.
    #[arg(long, env = "POSTERN_REGISTRY", default_value = images::REGISTRY, value_parser = images::registry)]
    registry: String,
}

fn main() -> Result<()> {
    let registry = Arguments::parse().registry;
    versions::ensure_agreed(&root())?;
    let changes = changelog::of_this_version(&root())?;
    let mut folder = Folder::begin()?;
    for program in Workspace::own().programs()? {
        add_program(&mut folder, &program)?;
    }
    for package in IMAGES {
        let image = images::build(package, &registry)?;
        folder.copy(&format!("{package}-{VERSION}.oci.tar"), image.archive(), &of_image(&image))?;
    }
    folder.add(&format!("postern-{VERSION}.tgz"), &chart::pack()?, "the chart")?;
    folder.copy(&format!("gatewayconfig-{VERSION}.yaml"), &root().join("crds/gatewayconfig.yaml"), "the resource")?;
    folder.add(&format!("CHANGES-{VERSION}.md"), changes.as_bytes(), "what is new")?;
    let (place, made) = folder.finish()?;
    show(&place, &made);
    Ok(())
}

/// Its file for each architecture, and what goes with it.
fn add_program(folder: &mut Folder, program: &Program) -> Result<()> {
    let name = program.name;
    ensure!(images::built_already(name).is_none(), "a release is built from its sources: unset what names a {name}");
    for (architecture, path) in images::programs(program)? {
        folder.copy(&format!("{name}-{VERSION}-linux-{architecture}"), &path, "a program")?;
    }
    folder.add(&format!("{name}-{VERSION}.cdx.json"), images::bill(program)?.as_bytes(), "its bill of materials")?;
    for (file, text) in images::licences(program)? {
        match file.split_once('.') {
            // Those of different programs differ.
            Some(("THIRD-PARTY", end)) => {
                folder.add(
                    &format!("{name}-{VERSION}.third-party.{end}"),
                    text.as_bytes(),
                    "licences of others in it",
                )?;
            }
            _ => folder.add(file, text.as_bytes(), "a licence")?,
        }
    }
    Ok(())
}

fn of_image(image: &Image) -> String {
    format!("the image {} for {}", image.name(), image.platforms().join(" and "))
}

fn show(place: &Path, made: &[Made]) {
    let place = place.strip_prefix(root()).unwrap_or(place);
    println!("Postern {VERSION}{}, in {}:\n", commit(), place.display());
    for file in made {
        println!("{:<34} {:>9}  {}  {}", file.name, size(file.bytes), file.sum, file.what);
    }
    println!("\nNothing was published. charts/postern/RELEASING.md says how that is done.");
}

/// What it was made from, where git can tell.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let (ok, said) = attempt(Command::new("git").current_dir(root()).args(arguments));
        ok.then(|| said.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return String::new() };
    let changed = git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty());
    format!(" of commit {commit}{}", if changed { " with changes that are in no commit" } else { "" })
}

fn size(bytes: u64) -> String {
    match bytes {
        0..100_000 => format!("{}.{} kB", bytes / 1000, bytes % 1000 / 100),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes_are_told_in_kilobytes_and_megabytes() {
        assert_eq!([size(950), size(26_750), size(7_356_360)], ["0.9 kB", "26.7 kB", "7.3 MB"]);
    }
}
