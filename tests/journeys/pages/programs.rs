//! What the programs of the pages understand: asked of themselves where they are ours, or Kubernetes'.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

use cast::install::program;
use cast::{Page, gateway, workspace};
use clap::{CommandFactory, Parser};
use serde_yaml::Value;

use crate::shell;

/// The programs that are held against themselves.
const OURS: [&str; 5] = ["cargo", "gateway", "operator", "helm", "kubectl"];

/// Those that are somebody else's, and only have to be known.
const OTHERS: [&str; 18] = [
    "base64",
    "ctr",
    "curl",
    "cut",
    "getent",
    "grep",
    "install",
    "kind",
    "mariadb",
    "od",
    "openssl",
    "pg_isready",
    "psql",
    "redis-cli",
    "skopeo",
    "source",
    "tail",
    "tr",
];

/// What cargo can do without an alias of ours.
const CARGOS_OWN: [&str; 6] = ["build", "check", "test", "fmt", "clippy", "update"];

/// The operator's command line, put together of its parts.
#[derive(Parser)]
enum Operator {
    Run(Box<operator::settings::Settings>),
    Inject(operator::offline::Settings),
    Crd,
    Probe(operator::probe::Settings),
}

/// The commands of our programs that the prose of a page names.
pub(crate) fn in_prose(page: &Page) -> Vec<Vec<String>> {
    let is_prose = |line: &&str| !line.starts_with("    ") && !line.trim_start().starts_with("```");
    let prose: Vec<&str> = page.text.lines().filter(is_prose).collect();
    let prose = prose.join(" ");
    let code = prose.split('`').skip(1).step_by(2);
    let is_command =
        |text: &&str| OURS.iter().any(|ours| text.strip_prefix(ours).is_some_and(|rest| rest.starts_with(' ')));
    let commands = code.filter(is_command).flat_map(shell::lines).flat_map(|line| line.commands());
    // What stands behind a pipe may be anybody's.
    commands.filter(|words| OURS.contains(&&*words[0])).collect()
}

/// Whether a command makes sense: its program is known, and so are its subcommand and options.
pub(crate) fn check(words: &[String]) -> Result<(), String> {
    let (program, rest) = words.split_first().ok_or("it is empty")?;
    match &**program {
        "cargo" => cargo(rest),
        "gateway" => gateways(rest),
        "operator" => operators(rest),
        "kubectl" if rest.first().is_some_and(|word| word == "postern") => plugins(&rest[1..]),
        "kubectl-postern" => plugins(rest),
        "helm" | "kubectl" => kubernetes(program, rest),
        other if OTHERS.contains(&other) => Ok(()),
        other => {
            Err(format!("{other} is not known; add it to OTHERS in tests/journeys/pages/programs.rs, or correct it"))
        }
    }
}

/// The words that look like options, without their values; what follows a lonely `--` is somebody else's.
fn options(words: &[String]) -> Vec<&str> {
    let mine = words.iter().take_while(|word| *word != "--").map(String::as_str);
    let options = mine.filter(|word| word.starts_with('-') && word.len() > 1);
    options.map(|word| word.split_once('=').map_or(word, |(option, _)| option)).collect()
}

/// Whether a help knows all options of a command.
fn with_options(words: &[String], help: &str) -> Result<(), String> {
    let knows = |option: &&str| {
        *option == "--help" || help.split([' ', ',', '\n', '=', '[', ']', '\t']).any(|word| word == *option)
    };
    match options(words).into_iter().find(|option| !knows(option)) {
        Some(option) => Err(format!("it has no option {option}")),
        None => Ok(()),
    }
}

fn cargo(words: &[String]) -> Result<(), String> {
    let (name, rest) = words.split_first().ok_or("cargo does nothing by itself")?;
    if CARGOS_OWN.contains(&&**name) {
        return targets(rest);
    }
    let aliases = fs::read_to_string(workspace::root().join(".cargo/config.toml")).unwrap();
    if !aliases.lines().any(|line| line.starts_with(&format!("{name} = "))) {
        return Err(format!("cargo has no alias {name}"));
    }
    let arguments: Vec<String> = rest.iter().skip_while(|word| *word == "--").cloned().collect();
    let ours = [
        ("verify", env!("CARGO_BIN_EXE_verify")),
        ("demo", env!("CARGO_BIN_EXE_demo")),
        ("images", env!("CARGO_BIN_EXE_images")),
        ("bench-db", env!("CARGO_BIN_EXE_bench-db")),
    ];
    let Some((_, program)) = ours.into_iter().find(|(ours, _)| ours == name) else { return Ok(()) };
    let help = help(Command::new(program).arg("--help"));
    if let Some(word) =
        arguments.iter().filter(|_| name == "verify" || name == "demo").find(|word| !knows_word(&help, word))
    {
        return Err(format!("cargo {name} knows no {word}"));
    }
    with_options(&arguments, &help)
}

fn knows_word(help: &str, word: &str) -> bool {
    // `STEP...` stands for any of them.
    word.ends_with("...")
        || word == "--help"
        || help.split(|one: char| !one.is_alphanumeric() && one != '-').any(|known| known == word)
}

/// Packages, tests and profiles that cargo is told.
fn targets(words: &[String]) -> Result<(), String> {
    let names = |file: &str| fs::read_to_string(workspace::root().join(file)).unwrap_or_default();
    let tests = ["tests/Cargo.toml", "gateway/Cargo.toml"].map(names).join("\n");
    let profiles = names("Cargo.toml");
    let is_there = |option: &str, value: &str| match option {
        "-p" | "--package" => workspace::root().join(value).join("Cargo.toml").is_file(),
        "--test" => tests.contains(&format!("name = \"{value}\"")),
        "--profile" => profiles.contains(&format!("[profile.{value}]")),
        _ => true,
    };
    let wrong = words.windows(2).find(|pair| !is_there(&pair[0], &pair[1]));
    wrong.map_or(Ok(()), |pair| Err(format!("there is no {} {}", pair[0], pair[1])))
}

fn gateways(words: &[String]) -> Result<(), String> {
    let subcommand = words.first().filter(|word| !word.starts_with('-')).map(String::as_str);
    let (status, help) = gateway::cli(&[subcommand.as_slice(), &["--help"]].concat());
    if status != Some(0) {
        return Err(format!("the gateway has no {}", subcommand.unwrap_or_default()));
    }
    with_options(words, &help)
}

fn operators(words: &[String]) -> Result<(), String> {
    let command = Operator::command();
    let name = words.first().ok_or("the operator does nothing by itself")?;
    let subcommand = command.find_subcommand(name).ok_or_else(|| format!("the operator has no {name}"))?;
    with_options(&words[1..], &subcommand.clone().render_long_help().to_string())
}

fn plugins(words: &[String]) -> Result<(), String> {
    let command = operator::kubectl::Arguments::command();
    // By itself it is the program's name.
    let Some(name) = words.first() else { return Ok(()) };
    let subcommand = command.find_subcommand(name).ok_or_else(|| format!("kubectl postern has no {name}"))?;
    let helps =
        [subcommand.clone().render_long_help(), command.clone().render_long_help()].map(|help| help.to_string());
    with_options(&words[1..], &helps.join("\n"))
}

/// Asks kubectl or Helm; of values that are set, the chart's.
fn kubernetes(name: &str, words: &[String]) -> Result<(), String> {
    static HELPS: LazyLock<Mutex<BTreeMap<String, String>>> = LazyLock::new(Mutex::default);
    // Global options may stand before the subcommand.
    let is_subcommand = |word: &&String| word.chars().all(|one| one.is_ascii_lowercase());
    let subcommand: Vec<&str> = words.iter().take_while(is_subcommand).map(String::as_str).collect();
    let key = [&[name], &subcommand[..]].concat().join(" ");
    let help = HELPS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(key.clone())
        .or_insert_with(|| {
            let general =
                if name == "kubectl" { help(Command::new(program(name)).arg("options")) } else { String::new() };
            help(Command::new(program(name)).args(&subcommand).arg("--help")) + &general
        })
        .clone();
    if help.contains("unknown command") || help.is_empty() {
        return Err(format!("there is no {key}"));
    }
    let spaced = help.replace(':', " ");
    with_options(words, &spaced)?;
    let set = words.windows(2).filter(|pair| pair[0] == "--set" && name == "helm").map(|pair| &pair[1]);
    set.clone().find(|value| !is_a_value(value)).map_or(Ok(()), |value| Err(format!("the chart has no value {value}")))
}

fn is_a_value(assigned: &str) -> bool {
    static VALUES: LazyLock<Value> = LazyLock::new(|| {
        let text = fs::read_to_string(workspace::root().join("charts/postern/values.yaml")).unwrap();
        serde_yaml::from_str(&text).unwrap()
    });
    let path = assigned.split_once('=').map_or(assigned, |(path, _)| path);
    path.split('.').try_fold(&*VALUES, |value, key| value.get(key)).is_some()
}

/// What a program says of itself, wherever it says it; nothing if it does not know what it is asked about.
fn help(command: &mut Command) -> String {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn what_is_not_there_is_noticed() {
    let wrong = [
        "cargo verfy",
        "cargo verify -- everything",
        "cargo test -p gatway",
        "cargo test -p tests --test nothing",
        "cargo images -- --registri x",
        "gateway run --flie x",
        "gateway serve",
        "operator inject --from x",
        "operator go",
        "helm install postern --sett x",
        "helm install postern --set image.registri=x",
        "kubectl aply -f x",
        "kubectl get --wtch",
        "frobnicate",
    ];
    for command in wrong {
        assert!(check(&shell::words(command)).is_err(), "{command} is taken for right");
    }
    for command in ["cargo verify -- lowest format", "gateway check -f x -o json", "kubectl get pods -n x --watch"] {
        assert_eq!(check(&shell::words(command)), Ok(()), "{command}");
    }
}
