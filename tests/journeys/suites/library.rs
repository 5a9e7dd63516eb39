//! Gets the suites, in the versions of the drivers that `clients` uses, and runs them. They go to the target folder, once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use cast::process::{attempt, owned};
use cast::wire::Address;

mod rust;

pub(crate) use rust::rust;

use crate::workshop::{Ready, folder, in_folder, ready, source, step};

/// A suite that can be run.
pub(crate) struct Tests {
    /// Where its programs are run: the folder, and what the names of its tests begin with.
    places: Vec<(PathBuf, String)>,
    language: Language,
}

enum Language {
    /// Programs that were built of the tests.
    Go(PathBuf),
    /// pytest.
    Python(PathBuf),
    /// The program that was built of the tests.
    Rust(PathBuf),
}

/// Which tests of a suite are run; a file of pytest stands for all in it.
#[derive(Clone, Copy)]
pub(crate) enum Chosen<'a> {
    /// All but these.
    But(&'a [&'a str]),
    /// These alone.
    Only(&'a [&'a str]),
}

/// How long one program may take, in seconds.
const PATIENCE: &str = "900";

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
    let mut build = in_folder(&sources, "go", &["test", "-c", "-o", &to]);
    let paths: Vec<_> = packages.iter().map(|package| format!("./{package}")).collect();
    let built = step(module, build.args(paths).env("GOWORK", "off").env("GOFLAGS", "-mod=mod"));
    built.unwrap_or_else(|problem| panic!("{problem}"));
    // The program of the module's own package has the module's name, without its version.
    let own = module.split('/').rfind(|part| !part.starts_with('v')).unwrap_or(module);
    let place = |package: &&str| (sources.join(package), format!("{}:", if *package == "." { own } else { package }));
    let places = packages.iter().map(place).collect();
    Tests { places, language: Language::Go(suite) }
}

/// The suite in the source distribution of a package for Python, in the version that `requirement` has among the drivers.
#[track_caller]
pub(crate) fn python(package: &str, requirement: &str) -> Tests {
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
    // Apart from the sources of the package, so that the installed one is what is tested.
    let place = suite.join(format!("place-{version}"));
    if !place.is_dir() {
        copy(&unpacked.join("tests"), &place.join("tests"));
    }
    Tests { places: vec![(place, String::new())], language: Language::Python(environment.to_owned()) }
}

/// What comes of each test at this address: whether it passes. Those that the suite itself skips are not among them.
#[track_caller]
pub(crate) fn outcomes(tests: &Tests, address: &Address, chosen: Chosen<'_>) -> BTreeMap<String, bool> {
    let (Chosen::But(names) | Chosen::Only(names)) = chosen;
    let is_only = matches!(chosen, Chosen::Only(_));
    let Address::Tcp(address) = address else { panic!("suites come over TCP") };
    let mut outcomes = BTreeMap::new();
    for (place, prefix) in &tests.places {
        let mut command = owned("timeout");
        command.arg(PATIENCE).current_dir(place);
        let here: Vec<_> = names.iter().filter_map(|name| name.strip_prefix(&**prefix)).collect();
        if is_only && here.is_empty() {
            continue;
        }
        match &tests.language {
            Language::Go(programs) => {
                command.arg(programs.join(format!("{}.test", prefix.trim_end_matches(':')))).arg("-test.v");
                let which = if is_only { "run" } else { "skip" };
                let names = if here.is_empty() { "-".to_owned() } else { here.join("|") };
                command.arg(format!("-test.{which}=^({names})$"));
            }
            Language::Python(environment) => {
                command.arg(environment.join("bin/pytest")).args(["-q", "-rA", "--tb=no", "-p", "no:cacheprovider"]);
                if is_only {
                    command.args(here);
                } else {
                    command.arg(".").args(here.iter().map(|name| format!("--deselect={name}")));
                }
            }
            Language::Rust(program) => {
                command.arg(program).args(["--exact", "--test-threads=1"]);
                if is_only {
                    command.args(here);
                } else {
                    command.args(here.iter().flat_map(|name| ["--skip", name]));
                }
            }
        }
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let database = format!("host={host} port={port} user=postgres password=correct dbname=suite sslmode=disable");
        command.env("PGX_TEST_DATABASE", &database).env("PGX_TEST_TCP_CONN_STRING", &database);
        command.env("PGHOST", host).env("PGPORT", port).env("PGUSER", "postgres").env("PGPASSWORD", "correct");
        command.env("PGDATABASE", "suite").env("PSYCOPG2_TESTDB", "suite").env("PGSSLMODE", "disable");
        let (_, said) = attempt(&mut command);
        for (name, passes) in said.lines().filter_map(outcome) {
            *outcomes.entry(format!("{prefix}{name}")).or_insert(true) &= passes;
        }
    }
    outcomes
}

/// A line that says what came of a test: of Go's test programs, of pytest's summary, or of Rust's. A test within a test is a
/// part of it.
fn outcome(line: &str) -> Option<(&str, bool)> {
    if let Some((name, ending)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) {
        return ["ok", "FAILED"].contains(&ending).then_some((name, ending == "ok"));
    }
    let endings =
        [("--- PASS: ", true), ("--- FAIL: ", false), ("PASSED ", true), ("FAILED ", false), ("ERROR ", false)];
    let (rest, passes) = endings.iter().find_map(|(begin, passes)| Some((line.strip_prefix(begin)?, *passes)))?;
    rest.split_whitespace().next().map(|name| (name, passes))
}

/// A folder that can be written to, whatever the original is.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the target folder is writable");
    for entry in fs::read_dir(from).expect("what was fetched can be read").map(|entry| entry.expect("an entry")) {
        let (original, copied) = (entry.path(), to.join(entry.file_name()));
        if original.is_dir() {
            copy(&original, &copied);
        } else {
            let content = fs::read(&original).expect("what was fetched can be read");
            fs::write(copied, content).expect("the target folder is writable");
        }
    }
}
