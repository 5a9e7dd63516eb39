//! Puts the page's part of each application beside the rest of it, which is in `tests/recipes`, and says how to run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cast::install::program;
use cast::workspace;

use crate::page::page;
use crate::workshop::{drivers_for_node, folder, in_folder, interpreter_of_python, source, step};

/// A folder of this application's own, with its sources and what the page says of these files.
#[track_caller]
fn stage(folder: &Path, name: &str, of_the_page: &[(&str, &str)]) -> PathBuf {
    let folder = folder.join("recipes").join(name);
    // What an older page left behind is not mistaken for its part.
    let _ = fs::remove_dir_all(&folder);
    copy(&workspace::root().join("tests/recipes").join(name), &folder);
    for (info, file) in of_the_page {
        fs::write(folder.join(file), page().block(info)).unwrap_or_else(|error| panic!("cannot write {file}: {error}"));
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())).flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[track_caller]
fn made(what: &str, command: &mut Command) {
    step(what, command).unwrap_or_else(|problem| panic!("{problem}"));
}

#[track_caller]
pub(crate) fn django() -> Command {
    let python = interpreter_of_python();
    let folder = stage(&folder("python"), "django", &[("python settings.py", "settings.py")]);
    let mut command = Command::new(python);
    command.args(["-B", "orders.py"]).current_dir(folder);
    command
}

#[track_caller]
pub(crate) fn node() -> Command {
    let folder = stage(drivers_for_node(), "node", &[("js database.mjs", "database.mjs")]);
    let mut command = Command::new(program("node"));
    command.arg("orders.mjs").current_dir(folder);
    command
}

#[track_caller]
pub(crate) fn go() -> Command {
    let folder = stage(&folder("go"), "go", &[("go database.go", "database.go")]);
    for file in ["go.mod", "go.sum"] {
        fs::copy(source("go").join(file), folder.join(file)).unwrap();
    }
    let mut build = in_folder(&folder, "go", &["build", "-o", "orders", "."]);
    made("pgx", build.env("CGO_ENABLED", "0").env("GOWORK", "off").env("GOFLAGS", "-mod=mod"));
    Command::new(folder.join("orders"))
}

#[track_caller]
pub(crate) fn spring() -> Command {
    let folder = stage(&folder("java"), "spring", &[("yaml application.yaml", "application.yaml")]);
    let goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
    let arguments = ["--quiet", "--batch-mode", goal, "-DincludeScope=runtime", "-DoutputDirectory=libraries"];
    made("Spring Boot", &mut in_folder(&folder, "mvn", &arguments));
    made(
        "the application",
        &mut in_folder(&folder, "javac", &["-encoding", "UTF-8", "-cp", "libraries/*", "-d", ".", "Orders.java"]),
    );
    let mut command = Command::new(program("java"));
    command.args(["-cp", ".:libraries/*", "shop.Orders"]).current_dir(folder);
    command
}

#[track_caller]
pub(crate) fn rails() -> Command {
    let of_the_page = [("yaml database.yml", "database.yml"), ("ruby postgresql.rb", "postgresql.rb")];
    let folder = stage(&folder("ruby"), "rails", &of_the_page);
    let mut command = Command::new(program("ruby"));
    command.arg("orders.rb").current_dir(folder);
    command
}
