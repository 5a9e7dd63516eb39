//! The Secrets that the configuration names: a folder for each, read again whenever one is needed and may have changed.
//!
//! Bytes are taken as they are: a newline at the end of `password` is part of the password, as it is for Kubernetes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use thiserror::Error;
use tracing::warn;
use zeroize::Zeroizing;

/// Where the Secrets are; cheap to clone.
#[derive(Clone, Debug)]
pub struct Secrets(Arc<Path>);

/// What a Secret says of a login.
pub struct Login {
    /// Its key `username`.
    pub username: Arc<str>,
    /// Its key `password`.
    pub password: Zeroizing<String>,
}

/// Tells one content of a Secret's login from another, although nobody has read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp([[i128; 5]; 2]);

/// Why a key of a Secret cannot be had; it never shows what is in it.
#[derive(Debug, Error)]
pub enum Error {
    /// The file is missing, or cannot be read.
    #[error("cannot read key {key} of Secret {secret:?} ({}): {source}", .path.display())]
    Read {
        /// The Secret.
        secret: String,
        /// The key.
        key: String,
        /// Where it should be.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is more than any certificate or password.
    #[error("key {key} of Secret {secret:?} has more than {MOST_BYTES} bytes")]
    TooLong {
        /// The Secret.
        secret: String,
        /// The key.
        key: String,
    },
    /// It must be text.
    #[error("key {key} of Secret {secret:?} must be UTF-8 without a zero byte, and not empty")]
    Text {
        /// The Secret.
        secret: String,
        /// The key.
        key: String,
    },
    /// A name that would lead out of the folder.
    #[error("{0:?} is not the name of a Secret")]
    Name(String),
}

/// As much as Kubernetes lets a Secret have.
const MOST_BYTES: u64 = 1024 * 1024;
/// The keys of a login.
const LOGIN: [&str; 2] = ["username", "password"];
/// With less room than 32 bytes `read_to_end` takes a detour.
const SPARE: usize = 64;
/// Two changes of a file that follow one another faster may have the same time.
const TELLS_APART: Duration = Duration::from_secs(1);

/// Lets no process of the same user read this one's memory, nor its files by way of it, and the kernel write no core file:
/// an application in the pod may run as the same user and see the same processes.
pub fn keep_from_neighbours() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%error, "Processes of the same user may read the memory");
    }
}

// === impl Secrets ===

impl Secrets {
    /// The Secrets of `folder`: one folder for each, with a file for each key.
    pub fn in_folder(folder: &Path) -> Secrets {
        Secrets(folder.into())
    }

    /// Reads one key of a Secret, anew each time: a rotated Secret counts for the next connection.
    ///
    /// # Errors
    /// It is missing, unreadable or too long.
    pub fn read(&self, secret: &str, key: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let path = self.path(secret, key)?;
        let read = read_regular(&path).map_err(|source| Error::Read {
            secret: secret.to_owned(),
            key: key.to_owned(),
            path,
            source,
        })?;
        if read.len() as u64 > MOST_BYTES {
            return Err(Error::TooLong { secret: secret.to_owned(), key: key.to_owned() });
        }
        Ok(read)
    }

    /// The same for a key that a Secret need not have.
    ///
    /// # Errors
    /// It is there, and cannot be had.
    pub fn read_if_present(&self, secret: &str, key: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        match self.read(secret, key) {
            Ok(read) => Ok(Some(read)),
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the Secret is here at all.
    ///
    /// # Errors
    /// It is not.
    pub fn look_for(&self, secret: &str) -> Result<(), Error> {
        let path = self.0.join(secret);
        let found = std::fs::metadata(&path).map(drop);
        found.map_err(|source| Error::Read { secret: secret.to_owned(), key: "*".to_owned(), path, source })
    }

    /// The keys `username` and `password` of a Secret, exactly as they are written there.
    ///
    /// # Errors
    /// One of them is missing, or not text.
    pub fn login(&self, secret: &str) -> Result<Login, Error> {
        let [username, password] = LOGIN;
        Ok(Login { username: self.text(secret, username)?.as_str().into(), password: self.text(secret, password)? })
    }

    /// What tells the login that is there now from another; none where that is not sure, so that it has to be read.
    pub fn stamp(&self, secret: &str) -> Option<Stamp> {
        self.stamp_at(secret, SystemTime::now())
    }

    fn stamp_at(&self, secret: &str, now: SystemTime) -> Option<Stamp> {
        let [username, password] = LOGIN.map(|key| stamp_of(&self.path(secret, key).ok()?, now));
        Some(Stamp([username?, password?]))
    }

    /// The key `username` alone.
    ///
    /// # Errors
    /// It is missing, or not text.
    pub fn username(&self, secret: &str) -> Result<Arc<str>, Error> {
        self.text(secret, LOGIN[0]).map(|username| username.as_str().into())
    }

    fn path(&self, secret: &str, key: &str) -> Result<PathBuf, Error> {
        if secret.is_empty() || secret.starts_with('.') || secret.contains('/') {
            return Err(Error::Name(secret.to_owned()));
        }
        Ok(self.0.join(secret).join(key))
    }

    fn text(&self, secret: &str, key: &str) -> Result<Zeroizing<String>, Error> {
        let bytes = self.read(secret, key)?;
        let text = std::str::from_utf8(&bytes).ok().filter(|text| !text.is_empty() && !text.contains('\0'));
        let text = text.ok_or_else(|| Error::Text { secret: secret.to_owned(), key: key.to_owned() })?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

/// A file's place, size and times; none where it may have changed just now.
fn stamp_of(path: &Path, now: SystemTime) -> Option<[i128; 5]> {
    let metadata = std::fs::metadata(path).ok()?;
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (modified, changed) =
        (nanos(metadata.mtime(), metadata.mtime_nsec()), nanos(metadata.ctime(), metadata.ctime_nsec()));
    let long_ago = now.checked_sub(TELLS_APART)?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let is_settled = changed < i128::try_from(long_ago.as_nanos()).ok()?;
    is_settled.then(|| [metadata.dev().into(), metadata.ino().into(), metadata.size().into(), modified, changed])
}

/// One byte more than is allowed, at most, so that what is too long is noticed. A pipe would stop the whole worker.
fn read_regular(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    // Room for all of it, so that no copy is left behind where it grew, nor on the stack, by which std reads into little room.
    let room = usize::try_from(metadata.len().min(MOST_BYTES)).unwrap_or(0) + SPARE;
    let mut read = Zeroizing::new(Vec::with_capacity(room));
    File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut read)?;
    Ok(read)
}

// === impl Login ===

impl std::fmt::Debug for Login {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn with(name: &str, files: &[(&str, &[u8])]) -> Folder {
            let folder = std::env::temp_dir().join(format!("postern-secrets-{name}-{}", std::process::id()));
            for (file, content) in files {
                let file = folder.join(file);
                std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
                std::fs::write(file, content).expect("a file");
            }
            Folder(folder)
        }

        fn secrets(&self) -> Secrets {
            Secrets::in_folder(&self.0)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_login_is_taken_as_it_is_written() {
        let folder = Folder::with("login", &[("db/username", b"app"), ("db/password", "gr\u{fc}n \n".as_bytes())]);
        let login = folder.secrets().login("db").expect("a login");
        assert_eq!((&*login.username, login.password.as_str()), ("app", "gr\u{fc}n \n"));
        assert!(!format!("{login:?}").contains("gr"), "{login:?}");
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_said_without_its_content() {
        let long = vec![b'x'; 1024 * 1024 + 1];
        let folder = Folder::with(
            "wrong",
            &[("a/username", b"hidden\xff"), ("b/username", b""), ("c/username", b"hid\0den"), ("d/username", &long)],
        );
        let said = |secret| folder.secrets().login(secret).expect_err("no login").to_string();
        let text =
            |secret| format!("key username of Secret {secret:?} must be UTF-8 without a zero byte, and not empty");
        assert_eq!([said("a"), said("b"), said("c")], [text("a"), text("b"), text("c")]);
        assert_eq!(said("d"), "key username of Secret \"d\" has more than 1048576 bytes");
        let path = folder.0.join("e/username");
        let missing = "No such file or directory (os error 2)";
        assert_eq!(said("e"), format!("cannot read key username of Secret \"e\" ({}): {missing}", path.display()));
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let folder = Folder::with("names", &[("key", b"x"), ("inner/key", b"y")]);
        let inner = Secrets::in_folder(&folder.0.join("inner"));
        for name in ["..", "../inner", "", ".", "/etc", "a/b"] {
            assert!(matches!(inner.read(name, "key"), Err(Error::Name(_))), "{name}");
        }
    }

    #[test]
    fn what_may_have_changed_just_now_has_no_stamp() {
        let folder = Folder::with("stamped", &[("db/username", b"app"), ("db/password", b"old")]);
        let stamp = |later| folder.secrets().stamp_at("db", SystemTime::now() + later);
        let settled = || stamp(2 * TELLS_APART);
        assert_eq!(stamp(Duration::ZERO), None, "it is new");
        let first = settled().expect("a stamp");
        assert_eq!(Some(&first), settled().as_ref(), "nothing has changed");
        std::fs::write(folder.0.join("db/password"), b"newer").expect("a file");
        assert_eq!(stamp(Duration::ZERO), None, "it has just changed");
        assert_ne!(Some(&first), settled().as_ref());
        std::fs::remove_file(folder.0.join("db/username")).expect("it goes");
        assert_eq!(settled(), None, "it is not there");
    }

    #[test]
    fn a_rotated_secret_counts_at_once() {
        let folder = Folder::with("rotated", &[("v1/db/key", b"old"), ("v2/db/key", b"new")]);
        let link = folder.0.join("db");
        std::os::unix::fs::symlink(folder.0.join("v1/db"), &link).expect("a link");
        let secrets = folder.secrets();
        assert_eq!(**secrets.read("db", "key").expect("the old one"), *b"old");
        std::fs::remove_file(&link).expect("the link goes");
        std::os::unix::fs::symlink(folder.0.join("v2/db"), &link).expect("a link");
        assert_eq!(**secrets.read("db", "key").expect("the new one"), *b"new");
    }
}
