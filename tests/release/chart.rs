//! The chart as one file, packed by Helm.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use cast::cluster::{self, Release};
use cast::images::VERSION;
use cast::process::attempt;
use cast::workspace::root;
use tar::{Archive, Builder};

/// The package. The same chart gives the same bytes, always.
pub(crate) fn pack() -> Result<Vec<u8>> {
    let helm = cluster::find_or_build(&Release::newest()?, &|line| eprintln!("{line}"))?.join("helm");
    let folder = cast::Folder::new("chart");
    let mut command = Command::new(helm);
    command.args(["package", "--destination"]).arg(&*folder).arg(root().join("charts/postern"));
    let (ok, said) = attempt(&mut command);
    ensure!(ok, "helm does not pack the chart: {said}");
    timeless(&folder.join(format!("postern-{VERSION}.tgz")), &folder)
}

/// The same package without the time of day, which Helm writes beside every file.
fn timeless(package: &Path, folder: &Path) -> Result<Vec<u8>> {
    let packed = gzip(&["--decompress"], package)?;
    let (mut archive, mut tar) = (Archive::new(packed.as_slice()), Builder::new(Vec::new()));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let (mut header, path) = (entry.header().clone(), entry.path()?.into_owned());
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        header.set_mtime(0);
        tar.append_data(&mut header, path, content.as_slice())?;
    }
    let plain = folder.join("chart.tar");
    fs::write(&plain, tar.into_inner()?)?;
    gzip(&["--no-name", "--best"], &plain)
}

/// What gzip makes of a file, which it hears of by its content only.
fn gzip(arguments: &[&str], file: &Path) -> Result<Vec<u8>> {
    let content = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut command = Command::new("gzip");
    let output = command.arg("--stdout").args(arguments).stdin(Stdio::from(content)).output();
    let output = output.context("cannot run gzip")?;
    ensure!(output.status.success(), "gzip failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
