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

#[cfg(test)]
mod tests {
    use super::*;
    use tar::Header;

    /// A package as Helm makes it at a time of day.
    fn package(folder: &Path, time: u64) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (name, content) in [("postern/Chart.yaml", "name: postern\n"), ("postern/values.yaml", "x: 1\n")] {
            let mut header = Header::new_gnu();
            header.set_mtime(time);
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        let (plain, packed) = (folder.join("plain.tar"), folder.join("postern.tgz"));
        fs::write(&plain, tar.into_inner().unwrap()).unwrap();
        fs::write(&packed, gzip(&[], &plain).unwrap()).unwrap();
        timeless(&packed, folder).unwrap()
    }

    #[test]
    fn the_time_of_day_is_not_in_the_package_and_everything_else_is() {
        let folder = cast::Folder::new("chart");
        let one = package(&folder, 1_700_000_000);
        assert_eq!(one, package(&folder, 1_800_000_000));
        let again = folder.join("again.tgz");
        fs::write(&again, one).unwrap();
        let tar = gzip(&["--decompress"], &again).unwrap();
        let mut archive = Archive::new(tar.as_slice());
        let files: Vec<_> = archive.entries().unwrap().map(|file| file.unwrap()).collect();
        let files = files.iter().map(|file| (file.path().unwrap().display().to_string(), file.size()));
        assert_eq!(
            files.collect::<Vec<_>>(),
            [("postern/Chart.yaml".to_owned(), 14), ("postern/values.yaml".to_owned(), 5)]
        );
    }
}
