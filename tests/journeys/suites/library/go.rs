//! The tests of a module in Go.

use std::path::Path;

use cast::process::attempt;

use super::{Language, Tests, copy};
use crate::workshop::{folder, in_folder, source, step};

/// The suite of a module in Go: the tests of its packages.
#[track_caller]
pub(crate) fn go(module: &str, packages: &[&str]) -> Tests {
    let name = module.replace('/', "_");
    let suite = folder(&format!("suites/{name}"));
    let fetched = step(module, &mut in_folder(&source("go"), "go", &["mod", "download", module]));
    fetched.unwrap_or_else(|problem| panic!("{problem}"));
    let (_, original) = attempt(&mut in_folder(&source("go"), "go", &["list", "-m", "-f", "{{.Dir}}", module]));
    let original = Path::new(original.trim());
    // Its name has the version.
    let sources = suite.join(original.file_name().unwrap_or_default());
    if !sources.is_dir() {
        copy(original, &sources);
    }
    let to = format!("{}/", suite.display());
    let mut test = in_folder(&sources, "go", &["test", "-c", "-o", &to]);
    let paths: Vec<_> = packages.iter().map(|package| format!("./{package}")).collect();
    let built = step(module, test.args(paths).env("GOWORK", "off").env("GOFLAGS", "-mod=mod"));
    built.unwrap_or_else(|problem| panic!("{problem}"));
    // The program of the module's own package has the module's name, without its version.
    let own = module.split('/').rfind(|part| !part.starts_with('v')).unwrap_or(module);
    let place = |package: &&str| (sources.join(package), format!("{}:", if *package == "." { own } else { package }));
    let places = packages.iter().map(place).collect();
    Tests { places, language: Language::Go(suite) }
}
