//! The container images: the two that are published, and two that only the cast uses. Nothing here needs a registry, a
//! container runtime or root.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::install::find;
use crate::workspace::{build_static, target};

mod archive;
mod bill;
mod toolbox;

use archive::{Layer, Recipe, store};

pub(crate) use archive::digest;

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

/// Builds a published image, `gateway` or `operator`, into `target/images`, just as its Dockerfile does; for arm64 as well,
/// where a linker for that is at hand. Its bill of materials is put beside it.
pub fn build(package: &str, registry: &str) -> Result<Image> {
    let mut recipe = Recipe::new(&format!("{registry}/{package}:{VERSION}"), &[&format!("/{package}")]);
    recipe.label("org.opencontainers.image.title", &format!("Postern {package}"));
    recipe.label("org.opencontainers.image.version", VERSION);
    recipe.label("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"));
    for (architecture, program) in programs(package)? {
        let mut layer = Layer::default();
        layer.file(&format!("/{package}"), &program, 0o755)?;
        recipe.platform(architecture, layer);
    }
    let image = recipe.write(&target().join("images").join(format!("{package}.tar")))?;
    store(&image.bill(), format!("{:#}\n", bill::of(package)?).as_bytes())?;
    Ok(image)
}

/// The image that holds a pod's namespaces, with a program out of the cluster's.
pub(crate) fn pause(programs: &Path) -> Result<Image> {
    let mut layer = Layer::default();
    layer.file("/pause", &programs.join("pause"), 0o755)?;
    let mut recipe = Recipe::new(&format!("{REGISTRY}/pause:1"), &["/pause"]);
    recipe.platform(host_architecture(), layer);
    recipe.write(&target().join("cluster").join("pause.tar"))
}

/// The static program of a package, for each architecture that can be built here. `POSTERN_GATEWAY` and
/// `POSTERN_OPERATOR` name one that is built already.
fn programs(package: &str) -> Result<Vec<(&'static str, PathBuf)>> {
    if let Some(program) = built_already(package) {
        return Ok(vec![(host_architecture(), program)]);
    }
    let mut programs = vec![(host_architecture(), build_static(package, None)?)];
    for (architecture, platform, linker) in [
        ("amd64", "x86_64-unknown-linux-gnu", "x86_64-linux-gnu-gcc"),
        ("arm64", "aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc"),
    ] {
        if architecture != host_architecture() && find(linker).is_some() {
            let program = build_static(package, Some(platform)).with_context(|| {
                format!("{linker} is here, so the image is to have {architecture} too (rustup target add {platform})")
            })?;
            programs.push((architecture, program));
        }
    }
    Ok(programs)
}

fn built_already(package: &str) -> Option<PathBuf> {
    std::env::var_os(format!("POSTERN_{}", package.to_uppercase())).map(PathBuf::from)
}

/// The operator's program, as it is in its image.
pub fn operator_program() -> Result<PathBuf> {
    built_already("operator").map_or_else(|| build_static("operator", None), Ok)
}

/// The architecture of this machine, as images call it.
fn host_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}
