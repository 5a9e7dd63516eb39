//! Watches the configuration's file. It is read and compared as a whole, so that a `ConfigMap`'s symlink swap, an editor's
//! rename and a write in place are all noticed alike; it counts once two reads in a row agree, so that a file that is
//! being written is never half applied.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{MissedTickBehavior, interval};

use super::document::MAX_DOCUMENT;

/// How often the file is read: two equal reads are seen well within the two seconds that the documentation promises.
const INTERVAL: Duration = Duration::from_millis(400);

/// Most documents are shorter than this, and are read at once.
const TYPICAL: usize = 4096;

/// The configuration's file, and what was seen of it last.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    /// What was handed out last.
    known: Option<Vec<u8>>,
    /// What the last read returned, when it differed from that.
    candidate: Option<Vec<u8>>,
}

// === impl Watch ===

impl Watch {
    /// Watches `path`, of which `known` has been read already.
    pub fn new(path: &Path, known: Vec<u8>) -> Watch {
        Watch { path: path.to_owned(), known: Some(known), candidate: None }
    }

    /// The file's next content that differs from the last one; cancel-safe. A file that is missing or cannot be read is
    /// no change: what was read of it last stays.
    pub async fn changed(&mut self) -> Vec<u8> {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(bytes) = self.look() {
                return bytes;
            }
        }
    }

    /// The file's content now, whether it has changed or not: what a SIGHUP asks for.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_again(&mut self) -> io::Result<Vec<u8>> {
        let bytes = read(&self.path)?;
        self.known = Some(bytes.clone());
        self.candidate = None;
        Ok(bytes)
    }

    fn look(&mut self) -> Option<Vec<u8>> {
        let bytes = read(&self.path).ok()?;
        if self.known.as_ref() == Some(&bytes) {
            self.candidate = None;
            return None;
        }
        if self.candidate.as_ref() != Some(&bytes) {
            self.candidate = Some(bytes);
            return None;
        }
        self.candidate = None;
        self.known = Some(bytes.clone());
        Some(bytes)
    }
}

/// Reads the file at `path`, but no more than one byte beyond what a document may have.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(TYPICAL);
    File::open(path)?.take(MAX_DOCUMENT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// By this the operator knows a configuration: the SHA-256 of the file's bytes, in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_two_reads_agree() {
        let path = std::env::temp_dir().join(format!("postern-reload-{}", std::process::id()));
        std::fs::write(&path, "a").expect("a file");
        let mut watch = Watch::new(&path, b"a".to_vec());
        assert_eq!(watch.look(), None);
        std::fs::write(&path, "half").expect("a file");
        assert_eq!(watch.look(), None, "it may still be being written");
        std::fs::write(&path, "whole").expect("a file");
        assert_eq!(watch.look(), None, "it has changed since");
        assert_eq!(watch.look(), Some(b"whole".to_vec()));
        assert_eq!(watch.look(), None, "it is handed out once");
        std::fs::remove_file(&path).expect("it was there");
        assert_eq!(watch.look(), None, "a missing file is no change");
    }

    #[test]
    fn the_hash_is_sha256_in_hexadecimal() {
        assert_eq!(hash(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
