//! `cargo bench-db plot`: draws what was measured, as SVG and PNG.

mod axis;
pub(crate) mod svg;
mod chart;
mod bars;
mod lines;
mod charts;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cast::process::{attempt, owned};
use cast::{install, workspace};
use serde_json::Value;

use crate::rounds::say;

/// Pixels of a PNG for each unit of an SVG, so that it is sharp on any screen.
const ZOOM: &str = "2";

/// What makes a PNG of an SVG, if there is something.
pub(crate) struct Converter(Option<PathBuf>);

/// Draws the results in these files into a folder; by default beside the benchmark.
pub(crate) fn run(files: &[PathBuf], into: Option<&Path>) -> Result<()> {
    let folder = into.map_or_else(|| workspace::root().join("tests/bench/plots"), Path::to_owned);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let converter = Converter::find();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let results: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))?;
        for chart in charts::charts(&results) {
            let svg = folder.join(format!("{}.svg", chart.name));
            fs::write(&svg, chart.svg()).with_context(|| format!("cannot write {}", svg.display()))?;
            converter.convert(&svg)?;
            say(&format!("drew {}", svg.display()));
        }
    }
    Ok(())
}

// === impl Converter ===

impl Converter {
    /// Installs it where it may; without it there are no PNG, which is said.
    pub(crate) fn find() -> Self {
        if let Err(error) = install::ensure_installed(install::FOR_PICTURES) {
            say(&format!("without PNG: {error:#}"));
        }
        Self(install::find("rsvg-convert"))
    }

    /// Makes a PNG beside it.
    pub(crate) fn convert(&self, svg: &Path) -> Result<()> {
        let Some(program) = &self.0 else { return Ok(()) };
        let mut command = owned(program);
        command.args(["--zoom", ZOOM, "--output"]).arg(svg.with_extension("png")).arg(svg);
        let (ok, said) = attempt(&mut command);
        anyhow::ensure!(ok, "cannot make a PNG of {}: {}", svg.display(), said.trim());
        Ok(())
    }
}
