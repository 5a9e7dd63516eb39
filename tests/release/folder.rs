//! The folder of a release: it is there with everything in it and its checksums, or not at all.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cast::images::{VERSION, digest};
use cast::workspace::target;

/// The checksums of all other files, as `sha256sum --check` takes them.
const SUMS: &str = "SHA256SUMS";

/// One that is being filled.
pub(crate) struct Folder {
    /// Where it will be.
    place: PathBuf,
    /// Where it is meanwhile.
    draft: PathBuf,
    made: Vec<Made>,
}

/// A file of a release.
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) bytes: u64,
    pub(crate) sum: String,
}

// === impl Folder ===

impl Folder {
    /// That of this version, in cargo's target folder.
    pub(crate) fn begin() -> Result<Self> {
        Self::begin_in(&target())
    }

    fn begin_in(target: &Path) -> Result<Self> {
        let name = format!("release-{VERSION}");
        let folder = Self { place: target.join(&name), draft: target.join(name + ".new"), made: Vec::new() };
        remove(&folder.draft)?;
        fs::create_dir_all(&folder.draft).with_context(|| format!("cannot make {}", folder.draft.display()))?;
        Ok(folder)
    }

    /// Puts a file into it; what several programs have alike is there once.
    pub(crate) fn add(&mut self, name: &str, content: &[u8], what: &str) -> Result<()> {
        let made =
            Made { name: name.to_owned(), what: what.to_owned(), bytes: content.len() as u64, sum: digest(content) };
        if let Some(other) = self.made.iter().find(|other| other.name == name) {
            ensure!(other.sum == made.sum, "there would be two different files {name}");
            return Ok(());
        }
        let path = self.draft.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        self.made.push(made);
        Ok(())
    }

    /// The same with a file that is there, which may be a program.
    pub(crate) fn copy(&mut self, name: &str, from: &Path, what: &str) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.add(name, &content, what)?;
        let mode = fs::metadata(from)?.permissions().mode() & 0o755;
        fs::set_permissions(self.draft.join(name), fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Adds the checksums and puts it in the place of an older one: where it is, and what is in it.
    pub(crate) fn finish(mut self) -> Result<(PathBuf, Vec<Made>)> {
        self.made.sort_by(|one, other| one.name.cmp(&other.name));
        let mut sums = String::new();
        for Made { name, sum, .. } in &self.made {
            writeln!(sums, "{sum}  {name}")?;
        }
        self.add(SUMS, sums.as_bytes(), "the checksums of all")?;
        remove(&self.place)?;
        fs::rename(&self.draft, &self.place).with_context(|| format!("cannot make {}", self.place.display()))?;
        Ok((self.place, self.made))
    }
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cast::process::attempt;
    use std::process::Command;

    #[test]
    fn an_older_one_is_replaced_as_a_whole_and_the_sums_hold() {
        let target = cast::Folder::new("release");
        let make = |content: &str| {
            let mut folder = Folder::begin_in(&target).expect("our own folder can be written");
            folder.add("two", b"2", "").expect("a file");
            folder.add(content, content.as_bytes(), "").expect("another file");
            folder.finish().expect("a release").0
        };
        make("older");
        let place = make("newer");
        assert!(!place.join("older").exists());
        let check =
            |place: &Path| attempt(Command::new("sha256sum").current_dir(place).args(["--check", "--strict", SUMS]));
        assert_eq!(check(&place), (true, "newer: OK\ntwo: OK\n".to_owned()));
        fs::write(place.join("two"), "3").expect("our own folder can be written");
        assert!(!check(&place).0, "a file that was changed is noticed");
    }

    #[test]
    fn two_files_of_one_name_are_one_or_refused() {
        let target = cast::Folder::new("release");
        let mut folder = Folder::begin_in(&target).expect("our own folder can be written");
        folder.add("LICENSE", b"same", "").expect("a file");
        folder.add("LICENSE", b"same", "").expect("the same file");
        assert_eq!(folder.made.len(), 1);
        assert!(folder.add("LICENSE", b"other", "").is_err());
    }
}
