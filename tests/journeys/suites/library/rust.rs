//! The tests of a crate in Rust, which know one address only: their copy goes to the one that the environment names.

use std::path::{Path, PathBuf};

use cast::process::attempt;
use cast::workspace;
use serde_json::Value;

use super::{Language, Tests, adapt, copy};
use crate::workshop::{folder, source};

/// What the tests have in place of an address.
const HERE: &str = r#"
fn here() -> String {
    format!("{}:{}", std::env::var("PGHOST").unwrap(), std::env::var("PGPORT").unwrap())
}

async fn connect_here(
    config: &str,
    tls: NoTls,
) -> Result<(Client, Connection<tokio_postgres::Socket, NoTlsStream>), Error> {
    let here = here();
    let (host, port) = here.split_once(':').unwrap();
    let config = config.replace("localhost", host).replace("127.0.0.1", host).replace("5433", port);
    tokio_postgres::connect(&config, tls).await
}
"#;

/// The suite of a crate, of which the tests are one program with the name `test`.
#[track_caller]
pub(crate) fn rust(name: &str) -> Tests {
    let original = original(name);
    let suite = folder(&format!("suites/{name}"));
    // Its name has the version.
    let sources = suite.join(original.file_name().unwrap_or_default());
    if !sources.is_dir() {
        copy(&original, &sources);
    }
    let tests = Path::new("tests/test");
    // Ours is another workspace.
    adapt(&original, &sources, Path::new("Cargo.toml"), |text| format!("{text}\n[workspace]\n"));
    adapt(&original, &sources, &tests.join("main.rs"), |text| in_our_database(text) + HERE);
    adapt(&original, &sources, &tests.join("runtime.rs"), |text| {
        in_our_database(text).replace("tokio_postgres::connect(", "crate::connect_here(")
    });
    adapt(&original, &sources, &tests.join("types/mod.rs"), in_our_database);
    Tests { places: vec![(sources.clone(), String::new())], language: Language::Rust(built(name, &sources, &suite)) }
}

/// The folder of a crate as it was published, in the version that the drivers' programs use.
#[track_caller]
fn original(name: &str) -> PathBuf {
    let mut cargo = workspace::cargo();
    let (ok, said) =
        attempt(cargo.current_dir(source("rust")).args(["metadata", "--quiet", "--locked", "--format-version", "1"]));
    assert!(ok, "{name} cannot be had: {said}");
    let said: Value = serde_json::from_str(&said).expect("cargo writes JSON");
    let packages = said["packages"].as_array().into_iter().flatten();
    let manifest = packages.filter(|package| package["name"] == name).find_map(|it| it["manifest_path"].as_str());
    Path::new(manifest.expect("it is a driver of ours")).parent().expect("a manifest is in a folder").to_owned()
}

/// The source of a test that connects to the database of the suites, at the address of the environment.
fn in_our_database(text: &str) -> String {
    text.replace("user=postgres", "user=postgres dbname=suite")
        .replace(r#"TcpStream::connect("127.0.0.1:5433")"#, "TcpStream::connect(here())")
}

/// The program of the tests.
#[track_caller]
fn built(name: &str, sources: &Path, suite: &Path) -> PathBuf {
    let mut cargo = workspace::cargo();
    cargo.current_dir(sources).args(["test", "--no-run", "--locked", "--all-features", "--test", "test"]);
    cargo.args(["--message-format", "json", "--target-dir"]).arg(suite.join("target"));
    let (ok, said) = attempt(&mut cargo);
    assert!(ok, "the tests of {name} do not build: {said}");
    let program = said.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    program.expect("cargo says what it has built")
}
