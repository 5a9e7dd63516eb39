//! `cargo images`: the images of gateway and operator, as archives that any cluster or registry takes.
//!
//! `cargo images -- --registry registry.example.com/postern` names them for a registry.
#![allow(clippy::print_stdout, reason = "telling what it made is this program's work")]

use std::fs;
use std::path::Path;

use anyhow::Result;
use cast::images::{self, Image};
use clap::Parser;

/// Builds the images of gateway and operator into target/images.
#[derive(Parser)]
#[command(name = "cargo images")]
struct Arguments {
    /// What their names begin with: a registry, and maybe a folder in it.
    #[arg(long, env = "POSTERN_REGISTRY", default_value = images::REGISTRY, value_parser = images::registry)]
    registry: String,
}

fn main() -> Result<()> {
    let registry = Arguments::parse().registry;
    let images = ["gateway", "operator"].map(|package| images::build(package, &registry));
    let [gateway, operator] = images;
    let images = [gateway?, operator?];
    for image in &images {
        tell(image)?;
    }
    println!("\nTo bring them to a cluster:");
    for image in &images {
        println!("  kind load image-archive {}", short(image.archive()));
    }
    println!("or to a registry:");
    for image in &images {
        println!("  skopeo copy --all oci-archive:{} docker://{}", short(image.archive()), image.name());
    }
    println!("and for the chart:\n  --set image.registry={registry}");
    Ok(())
}

fn tell(image: &Image) -> Result<()> {
    let megabytes = fs::metadata(image.archive())?.len().div_ceil(100_000);
    println!(
        "{}  {}.{} MB, {}, {}",
        image.name(),
        megabytes / 10,
        megabytes % 10,
        image.platforms().join(" and "),
        short(image.archive())
    );
    println!("  made of what {} names", short(&image.bill()));
    Ok(())
}

/// A path as a person in the workspace would type it.
fn short(path: &Path) -> String {
    path.strip_prefix(cast::workspace::root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
