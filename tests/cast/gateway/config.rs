//! The file that the gateway reads.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::folder::Folder;

/// The file that the gateway reads, laid out as an editor or the kubelet does.
#[derive(Debug)]
pub(super) struct Config {
    folder: Folder,
    mounted: bool,
    versions: usize,
}

// === impl Config ===

impl Config {
    /// A place for the file, which is not there yet.
    pub(super) fn missing(mounted: bool) -> Self {
        Self { folder: Folder::new("gw"), mounted, versions: 0 }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.join("gateway.yaml")
    }

    /// Writes the file, or swaps the link to its folder.
    pub(super) fn publish(&mut self, text: &str) {
        if !self.mounted {
            fs::write(self.path(), text).expect("our folder is writable");
            return;
        }
        self.versions += 1;
        let version = format!("..version-{}", self.versions);
        let data = self.folder.join("..data");
        let old = fs::read_link(&data).ok();
        fs::create_dir(self.folder.join(&version)).expect("our folder is writable");
        fs::write(self.folder.join(&version).join("gateway.yaml"), text).expect("our folder is writable");
        symlink(&version, self.folder.join("..data_tmp")).expect("our folder is writable");
        fs::rename(self.folder.join("..data_tmp"), &data).expect("our folder is writable");
        match old {
            Some(old) => fs::remove_dir_all(self.folder.join(old)).expect("our folder is writable"),
            None => symlink("..data/gateway.yaml", self.path()).expect("our folder is writable"),
        }
    }
}
