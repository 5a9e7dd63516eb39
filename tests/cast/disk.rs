//! A disk of its own that is soon full.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::folder::Folder;
use crate::install::program;
use crate::process::run;

/// Files and folders on a disk, at most.
const MOST_NAMES: usize = 64;

/// A small file system in memory, unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    _folder: Folder,
}

// === impl Disk ===

impl Disk {
    /// Mounts one of so many kilobytes, which any user may fill.
    #[track_caller]
    pub fn of_kilobytes(size: usize) -> Self {
        let folder = Folder::new("disk");
        let path = folder.join("disk");
        fs::create_dir(&path).expect("our folder is writable");
        let limits = format!("size={size}k,nr_inodes={MOST_NAMES}");
        run(Command::new(program("mount")).args(["-t", "tmpfs", "-o", &limits, "tmpfs"]).arg(&path));
        let disk = Self { path, _folder: folder };
        fs::set_permissions(&disk.path, fs::Permissions::from_mode(0o777)).expect("our disk is ours");
        disk
    }

    /// Fills it to the last byte and the last name; what takes the place, to be removed.
    #[track_caller]
    pub fn fill(&self) -> Ballast {
        let ballast = Ballast(self.path.join("ballast"));
        fs::create_dir(&ballast.0).expect("the disk is not full yet");
        let write = |name: usize, bytes: &[u8]| fs::write(ballast.0.join(name.to_string()), bytes);
        let mut bytes = vec![0; 64 * 1024];
        for name in 0..=MOST_NAMES {
            while write(name, &bytes).is_err() && !bytes.is_empty() {
                bytes.truncate(bytes.len() / 2);
            }
        }
        ballast
    }
}

impl Deref for Disk {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, because a process that is about to end may still have a file open; a failing test must say its own reason.
        let _ = Command::new(program("umount")).arg("--lazy").arg(&self.path).output();
    }
}

/// What fills a disk, removed when dropped.
#[derive(Debug)]
pub struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        // The disk goes with all that is on it.
        let _ = fs::remove_dir_all(&self.0);
    }
}
