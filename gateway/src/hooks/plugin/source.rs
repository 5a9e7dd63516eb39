//! Where the code of a plugin is found, and whether it is what was meant.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::config::{PluginConfig, PluginSource};
use crate::secrets::Secrets;

/// Where the files are that a configuration names.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder of the configuration.
    pub folder: PathBuf,
    /// Where the Secrets are.
    pub secrets: Secrets,
}

/// The SHA-256 of some code.
pub(super) type Digest = [u8; 32];

/// Why there is no code.
#[derive(Debug)]
pub(super) enum Missing {
    /// It is not here, which it may be elsewhere.
    Absent(String),
    /// It is here, and of no use.
    Wrong(String),
}

/// Code of more bytes is not read.
const MOST_BYTES: u64 = 32 * 1024 * 1024;

// === impl Places ===

impl Places {
    /// Where the files are that the configuration in `file` names.
    pub fn of(file: &Path, secrets: Secrets) -> Places {
        Places { folder: file.parent().unwrap_or(Path::new("")).to_owned(), secrets }
    }

    /// Reads the code, and compares its digest with the one that is written.
    pub(super) fn read(&self, plugin: &PluginConfig) -> Result<(Vec<u8>, Digest), Missing> {
        let code = match &plugin.source {
            PluginSource::File(path) => read(&self.folder.join(path))?,
            PluginSource::Secret { name, key } => {
                let code = self.secrets.read(name, key).map_err(|error| Missing::Absent(error.to_string()))?;
                code.to_vec()
            }
            PluginSource::ConfigMap { name, key } => self.read_config_map(plugin.digest, name, key)?,
        };
        let digest: Digest = Sha256::digest(&code).into();
        match plugin.digest {
            Some(wanted) if wanted != digest => {
                let (wanted, found) = (hex(wanted), hex(digest));
                Err(Missing::Wrong(format!("its digest is sha256:{found}, and sha256:{wanted} is wanted")))
            }
            _ => Ok((code, digest)),
        }
    }

    /// In a pod the code stands beside the configuration, under its digest; by hand, a folder stands for a `ConfigMap`.
    fn read_config_map(&self, digest: Option<Digest>, name: &str, key: &str) -> Result<Vec<u8>, Missing> {
        let delivered = digest.map(|digest| self.folder.join(hex(digest) + ".wasm")).filter(|path| path.exists());
        read(&delivered.unwrap_or_else(|| self.folder.join(name).join(key)))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Missing> {
    let said = |error: io::Error| {
        let sentence = format!("cannot read {}: {error}", path.display());
        if error.kind() == io::ErrorKind::NotFound { Missing::Absent(sentence) } else { Missing::Wrong(sentence) }
    };
    let mut code = Vec::new();
    File::open(path).map_err(said)?.take(MOST_BYTES + 1).read_to_end(&mut code).map_err(said)?;
    if code.len() as u64 > MOST_BYTES {
        return Err(Missing::Wrong(format!("{} has more than {MOST_BYTES} bytes", path.display())));
    }
    Ok(code)
}

/// In hexadecimal.
pub(super) fn hex(digest: Digest) -> String {
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
