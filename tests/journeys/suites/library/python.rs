//! The tests of packages for Python, in their source distributions.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::{Chosen, Language, Tests, adapt, copy};
use crate::workshop::{Ready, folder, in_folder, ready, source, step};

/// A pytest, and what it is told of a suite.
pub(super) struct Pytest {
    environment: &'static Path,
    /// Files and folders with all that is run.
    files: &'static [&'static str],
    /// What else it is told where the names of the tests begin with this.
    options: fn(prefix: &str, address: SocketAddr) -> Vec<String>,
}

/// The program that runs Django's tests, which has settings of ours.
pub(super) struct Django {
    environment: &'static Path,
    labels: &'static [&'static str],
}

/// A source distribution, in the version that the drivers' programs use.
struct Distribution {
    environment: &'static Path,
    unpacked: PathBuf,
    /// Where its tests go, apart from the sources of the package, so that the installed one is what is tested.
    place: PathBuf,
}

/// The tests of `SQLAlchemy` that are about the database.
const OF_SQLALCHEMY: &[&str] = &["test/dialect/postgresql", "test/dialect/test_suite.py", "test/engine"];

/// The suite of a package; `requirement` is its name among the drivers.
#[track_caller]
pub(crate) fn python(package: &str, requirement: &str) -> Tests {
    let Distribution { environment, unpacked, place } = distribution(package, requirement);
    if !place.is_dir() {
        let name =
            ["tests", "test"].into_iter().find(|name| unpacked.join(name).is_dir()).expect("it brings tests along");
        copy(&unpacked.join(name), &place.join(name));
    }
    let pytest = Pytest { environment, files: &["."], options: |_, _| Vec::new() };
    Tests { places: vec![(place, String::new())], language: Language::Python(pytest) }
}

/// The suite of `SQLAlchemy` with each of these drivers, which the names of its tests begin with.
#[track_caller]
pub(crate) fn sqlalchemy(drivers: &[&str]) -> Tests {
    let Distribution { environment, unpacked, place } = distribution("sqlalchemy", "SQLAlchemy");
    if !place.is_dir() {
        // It looks for a part of itself among the sources.
        copy(&unpacked, &place);
    }
    // A class is called as it is written, without the version of the database.
    let names = Path::new("lib/sqlalchemy/testing/plugin/plugin_base.py");
    adapt(&unpacked, &place, names, |text| {
        text.replace(r#"name = "%s_%s" % (cls.__name__, alpha_name)"#, "name = cls.__name__")
    });
    let options = |prefix: &str, address: SocketAddr| {
        let driver = prefix.trim_end_matches(':');
        let database = format!("--dburi=postgresql+{driver}://postgres:correct@{address}/suite");
        // Six classes have the database calculate with ranges 7,368 times.
        [&database, "--backend-only", "-k", "not RangeRoundTrip"].map(str::to_owned).to_vec()
    };
    let places = drivers.iter().map(|driver| (place.clone(), format!("{driver}:"))).collect();
    Tests { places, language: Language::Python(Pytest { environment, files: OF_SQLALCHEMY, options }) }
}

/// The suite of Django: these folders of it.
#[track_caller]
pub(crate) fn django(labels: &'static [&'static str]) -> Tests {
    let Distribution { environment, unpacked, place } = distribution("django", "Django");
    if !place.is_dir() {
        copy(&unpacked.join("tests"), &place);
    }
    Tests { places: vec![(place, String::new())], language: Language::Django(Django { environment, labels }) }
}

#[track_caller]
fn distribution(package: &str, requirement: &str) -> Distribution {
    static READY: Ready = LazyLock::new(|| {
        let (folder, source) = (folder("suites/python"), source("python"));
        if !folder.join("bin/pip").is_file() {
            step("an environment for Python", &mut in_folder(&folder, "python3", &["-m", "venv", "."]))?;
        }
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt", "-r", "suites.txt"]);
        step("the drivers for Python and their suites", pip.current_dir(source))?;
        Ok(folder)
    });
    let environment = ready(&READY);
    let requirements = fs::read_to_string(source("python").join("requirements.txt")).expect("it is a file of ours");
    let mut versions = requirements.lines().filter_map(|line| line.strip_prefix(requirement)?.strip_prefix("=="));
    let version = versions.next().expect("it is a driver of ours");
    let suite = folder(&format!("suites/{package}"));
    let unpacked = suite.join(format!("{package}-{version}"));
    if !unpacked.is_dir() {
        let (wanted, to) = (format!("{package}=={version}"), suite.display().to_string());
        let mut pip = Command::new(environment.join("bin/pip"));
        pip.args(["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", &to]);
        let archive = format!("{package}-{version}.tar.gz");
        let got = step(package, pip.args(["--no-binary", package, &wanted]))
            .and_then(|()| step(package, &mut in_folder(&suite, "tar", &["--extract", "--file", &archive])));
        got.unwrap_or_else(|problem| panic!("{problem}"));
    }
    Distribution { environment, unpacked, place: suite.join(format!("place-{version}")) }
}

// === impl Pytest ===

impl Pytest {
    /// Adds it to a command, with the tests that are chosen of those with this prefix.
    pub(super) fn add_to(&self, command: &mut Command, prefix: &str, address: SocketAddr, chosen: Chosen<'_>) {
        command.arg(self.environment.join("bin/pytest")).args(["-q", "-rA", "--tb=no", "-p", "no:cacheprovider"]);
        command.args((self.options)(prefix, address));
        // The sources are no place to import from.
        command.env("PYTHONNOUSERSITE", "1");
        match chosen {
            Chosen::Only(names) => command.args(names),
            Chosen::But(names) => command.args(self.files).args(names.iter().map(|name| format!("--deselect={name}"))),
        };
    }
}

// === impl Django ===

impl Django {
    /// Adds it to a command, with the tests that are chosen. It knows no way to leave out a single one.
    pub(super) fn add_to(&self, command: &mut Command, chosen: Chosen<'_>) {
        command.arg(self.environment.join("bin/python")).args(["-B", "runtests.py", "--settings=suite_of_django"]);
        command.args(["--parallel=1", "--noinput", "--keepdb"]).env("PYTHONPATH", source("python"));
        match chosen {
            Chosen::Only(names) => command.args(names),
            Chosen::But(_) => command.args(self.labels),
        };
    }
}
