//! The container images: the two that are published, and two that only the cast uses. Nothing here needs a registry, a
//! container runtime or root.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::install::find;
use crate::workspace::{Program, Workspace, build_static, target};

mod archive;
mod bill;
mod licences;
mod toolbox;

use archive::{Layer, Recipe, store};

pub use archive::digest;

/// Where images are said to come from unless somebody says otherwise.
pub const REGISTRY: &str = "localhost/postern";

/// The version of all of them.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The user of all of them: a number, so that `runAsNonRoot` can be checked, and no one's on any machine.
const USER: u32 = 65532;

/// An image in an archive.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    archive: PathBuf,
    digest: String,
    platforms: Vec<&'static str>,
}

// === impl Image ===

impl Image {
    /// Its name with registry and version, as a pod names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The OCI archive, as `ctr images import`, `kind load image-archive`, `docker load` and `skopeo` take it.
    pub fn archive(&self) -> &Path {
        &self.archive
    }

    /// Where the bill of materials of an image is that is published.
    pub fn bill(&self) -> PathBuf {
        self.archive.with_extension("cdx.json")
    }

    /// What names its content: the SHA-256 of its manifest.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The architectures that it has.
    pub fn platforms(&self) -> &[&'static str] {
        &self.platforms
    }
}

/// The gateway's image, built on first use.
#[track_caller]
pub fn gateway() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| build("gateway", REGISTRY).unwrap_or_else(|error| panic!("{error:#}")))
}

/// The operator's image, built on first use.
#[track_caller]
pub fn operator() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| build("operator", REGISTRY).unwrap_or_else(|error| panic!("{error:#}")))
}

/// The image of applications, migrations and databases in journeys: busybox, PostgreSQL's client programs and its server.
#[track_caller]
pub fn toolbox() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| toolbox::image().unwrap_or_else(|error| panic!("{error:#}")))
}

/// Builds a published image, `gateway` or `operator`, into `target/images`, as its Dockerfile does, with the texts of the
/// licences of what is in its program; for arm64 as well, where a linker for that is at hand. Its bill of materials is put
/// beside it.
pub fn build(package: &'static str, registry: &str) -> Result<Image> {
    let program = Program { package, name: package };
    let mut recipe = Recipe::new(&format!("{registry}/{package}:{VERSION}"), &[&format!("/{package}")]);
    recipe.label("org.opencontainers.image.title", &format!("Postern {package}"));
    recipe.label("org.opencontainers.image.version", VERSION);
    recipe.label("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"));
    let texts = licences(&program)?;
    for (architecture, path) in programs(&program)? {
        let mut layer = Layer::default();
        layer.file(&format!("/{package}"), &path, 0o755)?;
        for (name, text) in &texts {
            layer.text(&format!("/licenses/{name}"), text, 0o644);
        }
        recipe.platform(architecture, layer);
    }
    let image = recipe.write(&target().join("images").join(format!("{package}.tar")))?;
    store(&image.bill(), bill(&program)?.as_bytes())?;
    Ok(image)
}

/// What a program is made of, as `CycloneDX` writes it.
pub fn bill(program: &Program) -> Result<String> {
    Ok(format!("{:#}\n", bill::of(program)?))
}

/// The files that have to go with a program, by their names: its licence, and those of what is linked into it.
pub fn licences(program: &Program) -> Result<Vec<(&'static str, String)>> {
    licences::of(program)
}

/// What the names of images may begin with: a registry, and maybe a folder in it.
pub fn registry(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let allowed = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-._/:".contains(letter);
    if !text.is_empty() && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not like registry.example.com/postern: small letters, digits and -._/: only"))
}

/// The image that holds a pod's namespaces, with a program out of the cluster's.
pub(crate) fn pause(programs: &Path) -> Result<Image> {
    let mut layer = Layer::default();
    layer.file("/pause", &programs.join("pause"), 0o755)?;
    let mut recipe = Recipe::new(&format!("{REGISTRY}/pause:1"), &["/pause"]);
    recipe.platform(host_architecture(), layer);
    recipe.write(&target().join("cluster").join("pause.tar"))
}

/// The static program, for each architecture that can be built here. `POSTERN_GATEWAY` and `POSTERN_OPERATOR` name one that is
/// built already.
pub fn programs(program: &Program) -> Result<Vec<(&'static str, PathBuf)>> {
    if let Some(path) = built_already(program.name) {
        return Ok(vec![(host_architecture(), path)]);
    }
    let build = |platform| Workspace::own().build_static(program.package, program.name, platform);
    let mut programs = vec![(host_architecture(), build(None)?)];
    for (architecture, platform, linker) in [
        ("amd64", "x86_64-unknown-linux-gnu", "x86_64-linux-gnu-gcc"),
        ("arm64", "aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc"),
    ] {
        if architecture != host_architecture() && find(linker).is_some() {
            let path = build(Some(platform)).with_context(|| {
                format!("{linker} is here, so the image is to have {architecture} too (rustup target add {platform})")
            })?;
            programs.push((architecture, path));
        }
    }
    Ok(programs)
}

/// What the variable of a program names, as `POSTERN_GATEWAY` does.
pub fn built_already(program: &str) -> Option<PathBuf> {
    std::env::var_os(format!("POSTERN_{}", program.to_uppercase().replace('-', "_"))).map(PathBuf::from)
}

/// The operator's program, as it is in its image.
pub fn operator_program() -> Result<PathBuf> {
    built_already("operator").map_or_else(|| build_static("operator", None), Ok)
}

/// The architecture of this machine, as images call it.
fn host_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_names_that_an_image_may_begin_with() {
        assert_eq!(registry("localhost:5000/postern/"), Ok("localhost:5000/postern".to_owned()));
        assert!(registry("https://Example").is_err());
        assert!(registry("").is_err());
    }
}
