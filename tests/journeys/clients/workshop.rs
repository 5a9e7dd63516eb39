//! Gets what a driver's program needs, in the versions that are written beside it, and says how to run it. All of it goes
//! to the target folder, once; what cannot be had fails the test and says why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use cast::install::program;
use cast::process::attempt;
use cast::workspace;

/// What became of getting ready for a language: its folder, or why there is none.
pub(crate) type Ready = LazyLock<Result<PathBuf, String>>;

/// The folder that a language builds into.
pub(crate) fn folder(language: &str) -> PathBuf {
    let folder = workspace::target().join("clients").join(language);
    fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
}

/// The folder of a language's programs.
pub(crate) fn source(language: &str) -> PathBuf {
    workspace::root().join("tests/clients").join(language)
}

/// Runs one step of getting ready; `what` completes the sentence "... cannot be had".
pub(crate) fn step(what: &str, command: &mut Command) -> Result<(), String> {
    let (ok, said) = attempt(command);
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    let program = command.get_program().to_string_lossy().into_owned();
    if ok { Ok(()) } else { Err(format!("{what} cannot be had: `{program} {}` says {said}", words.join(" "))) }
}

/// A `program` with these arguments in a folder.
pub(crate) fn in_folder(folder: &Path, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program(name));
    command.current_dir(folder).args(arguments);
    command
}

#[track_caller]
pub(crate) fn ready(language: &'static Ready) -> &'static Path {
    language.as_deref().unwrap_or_else(|problem| panic!("{problem}"))
}

/// A Python that has the drivers.
#[track_caller]
pub(crate) fn interpreter_of_python() -> PathBuf {
    static READY: Ready = LazyLock::new(|| {
        let (folder, source) = (folder("python"), source("python"));
        if !folder.join("bin/pip").is_file() {
            step("an environment for Python", &mut in_folder(&folder, "python3", &["-m", "venv", "."]))?;
        }
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"]).current_dir(source);
        step("the drivers for Python", &mut pip)?;
        Ok(folder)
    });
    ready(&READY).join("bin/python")
}

/// The program for a driver in Python.
#[track_caller]
pub(crate) fn python(driver: &str) -> Command {
    let mut command = Command::new(interpreter_of_python());
    // Nothing is written beside the sources.
    command.arg("-B").arg(source("python").join(format!("on_{driver}.py")));
    command
}

/// A folder below which programs for Node.js find node-postgres.
#[track_caller]
pub(crate) fn drivers_for_node() -> &'static Path {
    static READY: Ready = LazyLock::new(|| {
        let (folder, source) = (folder("node"), source("node"));
        for file in ["package.json", "package-lock.json", "on_node_postgres.mjs"] {
            fs::copy(source.join(file), folder.join(file)).map_err(|error| format!("cannot copy {file}: {error}"))?;
        }
        let arguments = ["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"];
        step("node-postgres", &mut in_folder(&folder, "npm", &arguments))?;
        Ok(folder)
    });
    ready(&READY)
}

/// The program for node-postgres.
#[track_caller]
pub(crate) fn node_postgres() -> Command {
    let mut command = Command::new(program("node"));
    command.arg(drivers_for_node().join("on_node_postgres.mjs"));
    command
}

/// A program in Go.
#[track_caller]
pub(crate) fn go(name: &str) -> Command {
    static READY: Ready = LazyLock::new(|| {
        let folder = folder("go");
        let to = format!("{}/", folder.display());
        let mut build = in_folder(&source("go"), "go", &["build", "-o", &to, "./..."]);
        step("pgx and lib/pq", build.env("CGO_ENABLED", "0").env("GOWORK", "off").env("GOFLAGS", "-mod=readonly"))?;
        Ok(folder)
    });
    Command::new(ready(&READY).join(name))
}

/// A program in Rust.
#[track_caller]
pub(crate) fn rust(name: &str) -> Command {
    static READY: Ready = LazyLock::new(|| {
        let folder = folder("rust");
        let mut build = workspace::cargo();
        build.current_dir(source("rust")).args(["build", "--quiet", "--locked", "--target-dir"]).arg(&folder);
        step("tokio-postgres and sqlx", &mut build)?;
        Ok(folder.join("debug"))
    });
    Command::new(ready(&READY).join(name))
}

/// The program for pgjdbc.
#[track_caller]
pub(crate) fn pgjdbc() -> Command {
    static READY: Ready = LazyLock::new(|| {
        let (folder, source) = (folder("java"), source("java"));
        let to = folder.display().to_string();
        let (pom, copy_to) = (source.join("pom.xml").display().to_string(), format!("-DoutputDirectory={to}"));
        let goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
        step("pgjdbc", &mut in_folder(&folder, "mvn", &["--quiet", "--batch-mode", "-f", &pom, goal, &copy_to]))?;
        let arguments = ["-encoding", "UTF-8", "-cp", &format!("{to}/*"), "-d", &to, "OnPgjdbc.java"];
        step("the program for pgjdbc", &mut in_folder(&source, "javac", &arguments))?;
        Ok(folder)
    });
    let folder = ready(&READY).display();
    let mut command = Command::new(program("java"));
    command.args(["-Dstdout.encoding=UTF-8", "-cp", &format!("{folder}:{folder}/*"), "OnPgjdbc"]);
    command
}
