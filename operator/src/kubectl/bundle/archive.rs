//! An archive in the making: files below one folder, each with the same owner, mode and time.

use std::io;

use serde::Serialize;
use tar::{Builder, Header};

use crate::kubectl::Error;

/// An archive in the making.
pub(super) struct Archive {
    folder: String,
    seconds: u64,
    builder: Builder<Vec<u8>>,
}

// === impl Archive ===

impl Archive {
    /// Everything in it is below `folder`, and of this time, in seconds since 1970.
    pub(super) fn new(folder: &str, seconds: i64) -> Self {
        let seconds = u64::try_from(seconds).unwrap_or_default();
        Self { folder: folder.to_owned(), seconds, builder: Builder::new(Vec::new()) }
    }

    /// Adds a file.
    pub(super) fn text(&mut self, path: &str, text: &str) -> Result<(), Error> {
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.seconds);
        let path = format!("{}/{path}", self.folder);
        self.builder.append_data(&mut header, path, text.as_bytes())?;
        Ok(())
    }

    /// Adds something as YAML.
    pub(super) fn yaml(&mut self, path: &str, value: &impl Serialize) -> Result<(), Error> {
        let text = serde_yaml::to_string(value).map_err(io::Error::other)?;
        self.text(path, &text)
    }

    /// Its bytes.
    pub(super) fn finish(self) -> Result<Vec<u8>, Error> {
        Ok(self.builder.into_inner()?)
    }
}
