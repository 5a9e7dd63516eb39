//! The gateway's program: what `POSTERN_GATEWAY` names, or the release build of this workspace.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Result;

use crate::workspace::build_static;

/// Where the program is; built on first use unless `POSTERN_GATEWAY` names one.
#[track_caller]
pub fn binary() -> &'static Path {
    find_or_build().unwrap_or_else(|error| panic!("{error:#}"))
}

/// The same, for programs that tell a person when it does not build.
pub fn find_or_build() -> Result<&'static Path> {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = BINARY.get() {
        return Ok(path);
    }
    let path = match std::env::var_os("POSTERN_GATEWAY") {
        Some(path) => PathBuf::from(path),
        None => build_static("gateway", None)?,
    };
    Ok(BINARY.get_or_init(|| path))
}
