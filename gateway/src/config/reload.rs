//! Follows the files that may change while the gateway runs. Each is read and compared as a whole, so that a `ConfigMap`'s
//! symlink swap, an editor's rename and a write in place are all noticed alike. A plain file counts once two reads some
//! time apart agree, so that a file that is being written is never half applied; what the kubelet mounts is never written
//! but swapped as a whole, and counts at once.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::document::MAX_DOCUMENT;
use crate::clock::{Instant, sleep, timeout};

mod notice;

use notice::Notice;

/// How long a plain file stays as it is before it counts.
const SETTLED: Duration = Duration::from_millis(400);
/// How often the files are read although the kernel told of no change; a change that it does not tell of, because another
/// machine made it, is in force within the two seconds that the documentation promises.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often they are read where the kernel tells of nothing.
const BLIND_INTERVAL: Duration = Duration::from_millis(400);
/// After the first event of a change the others follow: looking once for all of them is enough.
const GATHERED: Duration = Duration::from_millis(10);

/// Most documents are shorter than this, and are read at once.
const TYPICAL: usize = 4096;
/// What the pod says is one word.
pub const MAX_POD_FILE: usize = 256;
/// By this link the kubelet swaps all files of a mounted volume at once; each of them is a link that leads through it.
const SWAPPED_LINK: &str = "..data";

/// A file that may change while the gateway runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The configuration. While it is missing or cannot be read, what was read of it last stays.
    Document,
    /// The log level that the pod asks for. Missing, it asks for none, and is empty.
    LogLevel,
}

/// Every file that is followed.
#[derive(Debug, Default)]
pub struct Watch {
    files: Vec<Followed>,
    /// Opened in the runtime, by the first wait.
    notice: Option<Notice>,
}

/// A file, and what was seen of it last.
#[derive(Debug)]
struct Followed {
    source: Source,
    path: PathBuf,
    folder: PathBuf,
    /// What was handed out last.
    known: Option<Vec<u8>>,
    /// Where the kubelet's link led then.
    version: Option<PathBuf>,
    /// What was read since and differs from that, and when it was first read.
    candidate: Option<(Vec<u8>, Instant)>,
}

// === impl Watch ===

impl Watch {
    /// Follows `path` as well, and reads it for the first time.
    ///
    /// # Errors
    /// The file cannot be read; it is followed all the same.
    pub fn follow(&mut self, source: Source, path: &Path) -> io::Result<Vec<u8>> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (path, folder) = (path.to_owned(), folder.to_owned());
        self.files.push(Followed { source, path, folder, known: None, version: None, candidate: None });
        self.read_again(source)
    }

    /// The next content of any of them that differs from its last one; cancel-safe.
    pub async fn changed(&mut self) -> (Source, Vec<u8>) {
        loop {
            let notice = self.notice.get_or_insert_with(Notice::new);
            notice.watch(self.files.iter().map(|file| &*file.folder));
            for file in &mut self.files {
                if let Some(bytes) = file.look() {
                    return (file.source, bytes);
                }
            }
            let interval = if notice.is_complete() { INTERVAL } else { BLIND_INTERVAL };
            let rest = self.files.iter().filter_map(Followed::settles_in).fold(interval, Duration::min);
            if timeout(rest, notice.stirred()).await.is_ok() {
                sleep(GATHERED).await;
            }
        }
    }

    /// The content of `source` now, whether it has changed or not: what a SIGHUP asks for.
    ///
    /// # Errors
    /// The file cannot be read, or is not followed.
    pub fn read_again(&mut self, source: Source) -> io::Result<Vec<u8>> {
        let followed = self.files.iter_mut().find(|file| file.source == source);
        let file = followed.ok_or(io::ErrorKind::NotFound)?;
        let version = file.swapped_version();
        let bytes = file.read()?;
        file.hand_out(&bytes, version);
        Ok(bytes)
    }
}

// === impl Followed ===

impl Followed {
    fn read(&self) -> io::Result<Vec<u8>> {
        match (self.source, read(&self.path, self.source.most_bytes())) {
            (Source::LogLevel, Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            (_, bytes) => bytes,
        }
    }

    /// Where the kubelet's link leads, if the file is one that it mounted.
    fn swapped_version(&self) -> Option<PathBuf> {
        let target = fs::read_link(&self.path).ok()?;
        if !target.starts_with(SWAPPED_LINK) {
            return None;
        }
        fs::read_link(self.folder.join(SWAPPED_LINK)).ok()
    }

    fn look(&mut self) -> Option<Vec<u8>> {
        let version = self.swapped_version();
        let Ok(bytes) = self.read() else {
            self.candidate = None;
            return None;
        };
        if self.known.as_ref() == Some(&bytes) {
            self.version = version;
            self.candidate = None;
            return None;
        }
        let is_swapped = version.is_some() && version != self.version && version == self.swapped_version();
        if !is_swapped && !self.has_settled(&bytes) {
            return None;
        }
        self.hand_out(&bytes, version);
        Some(bytes)
    }

    /// Whether these bytes were there some time ago as well; if not, they may be later.
    fn has_settled(&mut self, bytes: &[u8]) -> bool {
        match &self.candidate {
            Some((candidate, since)) if candidate == bytes => since.elapsed() >= SETTLED,
            _ => {
                self.candidate = Some((bytes.to_owned(), Instant::now()));
                false
            }
        }
    }

    fn hand_out(&mut self, bytes: &[u8], version: Option<PathBuf>) {
        self.known = Some(bytes.to_owned());
        self.version = version;
        self.candidate = None;
    }

    /// When a change of it may count, if it has one.
    fn settles_in(&self) -> Option<Duration> {
        self.candidate.as_ref().map(|(_, since)| SETTLED.saturating_sub(since.elapsed()))
    }
}

// === impl Source ===

impl Source {
    fn most_bytes(self) -> usize {
        match self {
            Source::Document => MAX_DOCUMENT,
            Source::LogLevel => MAX_POD_FILE,
        }
    }
}

/// Reads the configuration at `path`, but no more than one byte beyond what a document may have.
///
/// # Errors
/// The file cannot be read.
pub fn read_document(path: &Path) -> io::Result<Vec<u8>> {
    read(path, MAX_DOCUMENT)
}

fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(TYPICAL.min(most));
    File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
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
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = std::env::temp_dir().join(format!("postern-reload-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).expect("a folder");
            Folder(folder)
        }

        fn file(&self) -> PathBuf {
            self.0.join("gateway.yaml")
        }

        /// What the kubelet does.
        fn swap(&self, version: &str, text: &str) {
            fs::create_dir(self.0.join(version)).expect("a folder");
            fs::write(self.0.join(version).join("gateway.yaml"), text).expect("a file");
            symlink(version, self.0.join("..data_tmp")).expect("a link");
            fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).expect("it is replaced");
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            // What is left is in the temporary folder.
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn following(source: Source, path: &Path) -> Watch {
        let mut watch = Watch::default();
        watch.follow(source, path).expect("it can be read");
        watch
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_a_plain_file_counts_once_two_reads_agree() {
        let folder = Folder::new("plain");
        fs::write(folder.file(), "a").expect("a file");
        let mut watch = following(Source::Document, &folder.file());
        let file = &mut watch.files[0];
        assert_eq!(file.look(), None);
        fs::write(folder.file(), "half").expect("a file");
        assert_eq!(file.look(), None, "it may still be being written");
        tokio::time::advance(SETTLED).await;
        fs::write(folder.file(), "whole").expect("a file");
        assert_eq!(file.look(), None, "it has changed since");
        assert_eq!(file.look(), None, "it has not stayed like that for long");
        tokio::time::advance(SETTLED).await;
        assert_eq!(file.look(), Some(b"whole".to_vec()));
        assert_eq!(file.look(), None, "it is handed out once");
        fs::remove_file(folder.file()).expect("it was there");
        assert_eq!(file.look(), None, "a missing file is no change");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_kubelet_swaps_counts_at_once_and_what_is_written_into_it_does_not() {
        let folder = Folder::new("swapped");
        folder.swap("..1", "a");
        symlink("..data/gateway.yaml", folder.file()).expect("a link");
        let mut watch = following(Source::Document, &folder.file());
        let file = &mut watch.files[0];
        folder.swap("..2", "b");
        assert_eq!(file.look(), Some(b"b".to_vec()));
        fs::write(folder.file(), "half").expect("a file");
        assert_eq!(file.look(), None, "nobody but an editor writes there");
        folder.swap("..3", "b");
        assert_eq!(file.look(), None, "a new version of the same content");
        fs::write(folder.file(), "half").expect("a file");
        assert_eq!(file.look(), None, "the version was seen before");
    }

    #[tokio::test]
    async fn the_kernel_tells_of_each_change_in_the_folder_and_of_a_folder_that_comes_later() {
        let folder = Folder::new("told");
        let inner = folder.0.join("later");
        let mut notice = Notice::new();
        notice.watch([&*folder.0, &*inner].into_iter());
        assert!(!notice.is_complete(), "one folder is missing");
        fs::create_dir(&inner).expect("a folder");
        notice.stirred().await;
        notice.watch([&*folder.0, &*inner].into_iter());
        assert!(notice.is_complete());
        fs::write(inner.join("file"), "text").expect("a file");
        notice.stirred().await;
        fs::rename(inner.join("file"), folder.file()).expect("it moves");
        notice.stirred().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_log_level_is_an_empty_one() {
        let folder = Folder::new("level");
        let mut watch = following(Source::LogLevel, &folder.file());
        assert_eq!(watch.files[0].known, Some(Vec::new()));
        fs::write(folder.file(), vec![b'x'; 10_000]).expect("a file");
        let (source, bytes) = watch.changed().await;
        assert_eq!((source, bytes.len()), (Source::LogLevel, MAX_POD_FILE + 1), "no more is read than needed");
        fs::remove_file(folder.file()).expect("it was there");
        assert_eq!(watch.changed().await, (Source::LogLevel, Vec::new()));
    }

    #[test]
    fn the_hash_is_sha256_in_hexadecimal() {
        assert_eq!(hash(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
