//! Gets the suites, in the versions of the drivers that `clients` uses, and runs them. They go to the target folder, once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cast::process::{attempt, owned};
use cast::wire::Address;

mod go;
mod python;
mod rust;

pub(crate) use go::go;
pub(crate) use python::{django, python, sqlalchemy};
pub(crate) use rust::rust;

use python::{Django, Pytest};

/// A suite that can be run.
pub(crate) struct Tests {
    /// Where its programs are run: the folder, and what the names of its tests begin with.
    places: Vec<(PathBuf, String)>,
    language: Language,
}

enum Language {
    /// Programs that were built of the tests.
    Go(PathBuf),
    Python(Pytest),
    Django(Django),
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
        let chosen = if is_only { Chosen::Only(&here) } else { Chosen::But(&here) };
        match &tests.language {
            Language::Go(programs) => {
                command.arg(programs.join(format!("{}.test", prefix.trim_end_matches(':')))).arg("-test.v");
                let which = if is_only { "run" } else { "skip" };
                let names = if here.is_empty() { "-".to_owned() } else { here.join("|") };
                command.arg(format!("-test.{which}=^({names})$"));
            }
            Language::Python(pytest) => pytest.add_to(&mut command, prefix, *address, chosen),
            Language::Django(django) => django.add_to(&mut command, chosen),
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
/// part of it, and so are the forms of a test that pytest runs with different values.
fn outcome(line: &str) -> Option<(&str, bool)> {
    if let Some((name, ending)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) {
        return ["ok", "FAILED"].contains(&ending).then_some((name, ending == "ok"));
    }
    let endings =
        [("--- PASS: ", true), ("--- FAIL: ", false), ("PASSED ", true), ("FAILED ", false), ("ERROR ", false)];
    let (rest, passes) = endings.iter().find_map(|(begin, passes)| Some((line.strip_prefix(begin)?, *passes)))?;
    rest.split([' ', '[']).next().map(|name| (name, passes))
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

/// Writes a file of the copy as `change` makes it of the original, unless it is so already: what stays is not built again.
fn adapt(original: &Path, sources: &Path, file: &Path, change: impl Fn(&str) -> String) {
    let text = change(&fs::read_to_string(original.join(file)).expect("what was fetched can be read"));
    let copied = sources.join(file);
    if fs::read_to_string(&copied).ok().as_ref() != Some(&text) {
        fs::write(copied, text).expect("the target folder is writable");
    }
}
