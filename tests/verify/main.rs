//! `cargo verify`: every check of the project, one named step after the other; what CI runs.
//!
//! `cargo verify -- STEP...` runs only the named steps, and `cargo verify -- full` all of them and the longer ones.
#![allow(clippy::print_stdout, reason = "telling what it does is this program's work")]

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use cast::cluster::{RELEASE, Release};
use cast::process::is_root;
use cast::supply::Deny;
use cast::time::Stopwatch;
use cast::{Cluster, cluster, editions, gateway, images, install, workspace};
use serde_json::Value;

mod fuzz;

/// One check.
struct Step {
    name: &'static str,
    what: &'static str,
    run: fn(&mut Count) -> Result<()>,
}

/// In the order in which the cheapest check that can fail fails first.
const STEPS: &[Step] = &[
    Step { name: "tools", what: "the databases and tools that the journeys need", run: tools },
    Step { name: "format", what: "every file is formatted", run: format },
    Step { name: "lints", what: "clippy finds nothing", run: lints },
    Step { name: "docs", what: "the documentation builds without a warning", run: docs },
    Step { name: "unit", what: "the tests beside the code", run: unit },
    Step {
        name: "simulation",
        what: "the whole gateway in simulated time: any seed keeps every promise",
        run: simulation,
    },
    Step { name: "build", what: "gateway and operator, as they are released", run: build },
    Step { name: "kubernetes", what: "Kubernetes and Helm, built from their sources", run: kubernetes },
    Step { name: "journeys", what: "the gateway between real peers and real databases", run: journeys },
    Step { name: "cluster", what: "all of it on a real Kubernetes", run: cluster },
];

/// What takes too long for every change; `full` runs all of them after the others.
const LONGER: &[Step] = &[
    Step { name: "lowest", what: "all of it on the lowest Kubernetes that the chart takes", run: lowest },
    Step {
        name: "supply-chain",
        what: "licences, duplicates and origins of what all is built from, and known advisories",
        run: supply_chain,
    },
    Step { name: "soak", what: "an hour of the simulation, from other seeds on", run: soak },
    Step { name: "fuzz", what: "what anybody could say from outside, in millions of forms", run: fuzz },
    Step { name: "crosstalk", what: "a million exchanges amid faults: each answer reaches who asked", run: crosstalk },
    Step { name: "faults", what: "what breaks a gateway's world, on real things: what peers see of it", run: faults },
    Step {
        name: "operator-faults",
        what: "what breaks the operator's world, on a real Kubernetes: when it is over all is as the resources say",
        run: operator_faults,
    },
    Step { name: "clients", what: "twelve drivers of five languages, directly and through every mode", run: clients },
    Step {
        name: "suites",
        what: "the test suites that eight of them bring along, directly and through every mode",
        run: suites,
    },
    Step {
        name: "postgres",
        what: "what concerns PostgreSQL, on each version from the oldest to the newest",
        run: postgres,
    },
];

/// The journeys of drivers that are fetched within seconds, by the beginnings of their names; the rest are `clients`.
const QUICK_CLIENTS: [&str; 3] = ["psycopg3", "asyncpg", "node_postgres"];

/// The simulation, which needs a gateway of its own.
const SIMULATION: [&str; 4] = ["--features", "simulation", "--test", "simulation"];

/// How often each property of `fuzz` is tried; the library that tries them reads it.
const CASES: &str = "PROPTEST_CASES";

/// The name of all steps and all longer ones.
const FULL: &str = "full";

/// All of them.
const DRIVERS: usize = 12;

/// Those that bring a test suite along which can be fetched.
const SUITES: usize = 8;

/// What `faults` is about, by the beginning of its name; the rest of its target is quick.
const EVERY_FAULT: &str = "every_fault";

/// The target of `operator-faults`.
const OPERATOR_FAULTS: &str = "cluster_operator_faults";

/// How many journeys run at the same time: they measure, so they must not crowd each other out.
const JOURNEYS_AT_ONCE: &str = "--test-threads=2";

/// The same on the cluster, where they mostly wait.
const CLUSTER_JOURNEYS_AT_ONCE: &str = "--test-threads=4";

/// Journeys that mount a disk, make hosts with networks of their own or look into other processes, by the beginning of their
/// names.
const ONLY_AS_ROOT: [&str; 11] = [
    "a_full_disk_for_the_socket",
    "a_database_behind_a_black_hole",
    "a_session_whose_packets_vanish",
    "a_database_that_moves_to_another_address",
    "the_next_address_is_dialed_beside",
    "a_resolver_that_does_not_answer",
    "a_mariadb_that_counts_broken_logins",
    "a_sidecar_waits_for_its_file",
    "in_an_empty_image",
    "no_neighbour_reads_a_sidecars_memory",
    "no_password_of_a_secret_stays_in_memory",
];

/// How many tests have passed and failed.
#[derive(Default)]
struct Count {
    passed: u64,
    failed: u64,
}

fn main() -> ExitCode {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| word != "--").collect();
    if chosen.iter().any(|word| word == "--help" || word == "-h") {
        println!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let steps = match steps(&chosen) {
        Ok(steps) => steps,
        Err(unknown) => {
            eprintln!("There is no step `{unknown}`.\n\n{}", usage());
            return ExitCode::from(2);
        }
    };
    let watch = Stopwatch::start();
    let mut count = Count::default();
    let mut failure = None;
    for (index, step) in steps.iter().enumerate() {
        println!("\n[{}/{}] {}: {}", index + 1, steps.len(), step.name, step.what);
        let step_watch = Stopwatch::start();
        let outcome = (step.run)(&mut count);
        println!("      {} after {}", if outcome.is_ok() { "ok" } else { "FAILED" }, seconds(step_watch));
        if let Err(error) = outcome {
            failure = Some((step.name, error));
            break;
        }
    }
    println!("\nAll of it took {}", seconds(watch));
    if let Some((name, error)) = &failure {
        println!("{name} failed: {error:#}\nTo see it again: cargo verify -- {name}");
        count.failed = count.failed.max(1);
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    if failure.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The steps that are asked for, in their order, or the name that is none.
fn steps(chosen: &[String]) -> Result<Vec<&'static Step>, &str> {
    let all = || STEPS.iter().chain(LONGER);
    if let Some(unknown) = chosen.iter().find(|name| *name != FULL && !all().any(|step| step.name == **name)) {
        return Err(unknown);
    }
    let is_full = chosen.iter().any(|name| name == FULL);
    let is_chosen = |step: &&Step| is_full || chosen.iter().any(|name| name == step.name);
    Ok(if chosen.is_empty() { STEPS.iter().collect() } else { all().filter(is_chosen).collect() })
}

fn usage() -> String {
    let lines = |steps: &[Step]| {
        let lines: Vec<_> = steps.iter().map(|step| format!("  {:<12} {}", step.name, step.what)).collect();
        lines.join("\n")
    };
    format!(
        "Usage: cargo verify [-- STEP...]\n\nWithout a step it runs all, in this order:\n\n{}\n\n\
         With the step {FULL} it runs all of them, and then what takes longer, which may be named alone as well:\n\n{}",
        lines(STEPS),
        lines(LONGER)
    )
}

// === the steps ===

fn tools(_: &mut Count) -> Result<()> {
    install::ensure_installed(install::FOR_THE_JOURNEYS)?;
    editions::ensure_installed(&[editions::OLDEST, editions::NEWEST], tell)
}

fn format(_: &mut Count) -> Result<()> {
    run(cargo(["fmt", "--all", "--check"]))
}

fn lints(_: &mut Count) -> Result<()> {
    run(cargo(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    let mut command = cargo(["clippy", "--quiet", "--package", "gateway"]);
    command.args(SIMULATION).args(["--", "-D", "warnings"]);
    run(command)
}

fn docs(_: &mut Count) -> Result<()> {
    let mut command = cargo(["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    run(command)
}

fn unit(count: &mut Count) -> Result<()> {
    test(cargo(["test", "--quiet", "--workspace", "--exclude", "tests", "--no-fail-fast"]), count)?;
    test(cargo(["test", "--quiet", "--package", "tests", "--lib", "--bins", "--examples", "--no-fail-fast"]), count)
}

/// 500 seeds, or as many as there are in two minutes.
fn simulation(count: &mut Count) -> Result<()> {
    test(simulated(), count)
}

/// Other seeds, for an hour, or for as long as is said.
fn soak(count: &mut Count) -> Result<()> {
    let mut command = simulated();
    for (name, value) in [("POSTERN_FIRST_SEED", "500"), ("POSTERN_SEEDS", "100000000"), ("POSTERN_SECONDS", "3600")] {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    test(command, count)
}

fn simulated() -> Command {
    let mut command = cargo(["test", "--profile", "fuzz", "--package", "gateway"]);
    command.args(SIMULATION).args(["--", "--nocapture", "--test-threads=1"]);
    command
}

fn build(_: &mut Count) -> Result<()> {
    for program in [gateway::find_or_build()?, &images::operator_program()?] {
        println!("      {}", program.display());
    }
    Ok(())
}

fn kubernetes(_: &mut Count) -> Result<()> {
    println!("      {}", cluster::find_or_build(&Release::wanted()?, &tell)?.display());
    Ok(())
}

fn journeys(count: &mut Count) -> Result<()> {
    install::ensure_installed(install::FOR_THE_JOURNEYS)?;
    editions::ensure_installed(&[editions::OLDEST, editions::NEWEST], tell)?;
    cluster::find_or_build(&Release::newest()?, &tell)?;
    let mut command = cargo(["test", "--package", "tests", "--no-fail-fast"]);
    command.args(targets(|name| !is_on_the_cluster(name) && name != "clients" && name != "suites")?).args([
        "--",
        JOURNEYS_AT_ONCE,
        "--skip",
        EVERY_FAULT,
    ]);
    command.env("POSTERN_GATEWAY", gateway::find_or_build()?);
    if !is_root() {
        println!("      Left out, because only root may do what they do: {}", ONLY_AS_ROOT.join("*, ") + "*");
        command.args(ONLY_AS_ROOT.iter().flat_map(|name| ["--skip", name]));
    }
    test(command, count)?;
    let mut command = cargo(["test", "--package", "tests", "--test", "clients", "--"]);
    command.args(QUICK_CLIENTS).arg(JOURNEYS_AT_ONCE);
    on_drivers(command, QUICK_CLIENTS.len(), count)
}

fn clients(count: &mut Count) -> Result<()> {
    install::ensure_installed(install::FOR_CLIENTS_IN_JAVA)?;
    let command = cargo(["test", "--package", "tests", "--no-fail-fast", "--test", "clients", "--", JOURNEYS_AT_ONCE]);
    on_drivers(command, DRIVERS, count)
}

fn suites(count: &mut Count) -> Result<()> {
    // One after the other: many of these tests allow some milliseconds for what they do.
    let command = cargo(["test", "--package", "tests", "--no-fail-fast", "--test", "suites", "--", "--test-threads=1"]);
    on_drivers(command, SUITES, count)
}

/// Runs journeys of drivers, so many.
fn on_drivers(mut command: Command, expected: usize, count: &mut Count) -> Result<()> {
    install::ensure_installed(install::FOR_THE_JOURNEYS)?;
    install::ensure_installed(install::FOR_QUICK_CLIENTS)?;
    command.env("POSTERN_GATEWAY", gateway::find_or_build()?);
    let before = count.passed;
    test(command, count)?;
    let passed = count.passed - before;
    ensure!(passed == expected as u64, "{passed} drivers were tried, and {expected} should have been");
    Ok(())
}

fn cluster(count: &mut Count) -> Result<()> {
    on_the_cluster(&Release::wanted()?, count)
}

fn crosstalk(count: &mut Count) -> Result<()> {
    let mut command = cargo(["test", "--package", "tests", "--test", "postgres", "every_answer", "--", "--nocapture"]);
    command.env("POSTERN_GATEWAY", gateway::find_or_build()?).env("POSTERN_TEST_EXCHANGES", "1000000");
    test(command, count)
}

/// One after the other, because each tells how long peers waited.
fn faults(count: &mut Count) -> Result<()> {
    ensure!(is_root(), "only root may mount disks and make networks of its own");
    install::ensure_installed(install::FOR_THE_JOURNEYS)?;
    install::ensure_installed(install::FOR_THE_FAULTS)?;
    let mut command =
        cargo(["test", "--package", "tests", "--test", "faults", "--", "--nocapture", "--test-threads=1"]);
    command.env("POSTERN_GATEWAY", gateway::find_or_build()?);
    test(command, count)
}

/// Without a way to the database of advisories these are left out, and all that is there is checked nevertheless.
fn supply_chain(_: &mut Count) -> Result<()> {
    let deny = Deny::find_or_install(&tell)?;
    deny.check(&["bans", "licenses", "sources"])?;
    match deny.fetch_advisories() {
        Ok(day) => {
            tell(&format!("Known advisories, of which the newest is of {day}"));
            deny.check(&["advisories"])
        }
        Err(error) => {
            tell(&format!("Left out: known advisories, because they cannot be fetched ({error:#})"));
            Ok(())
        }
    }
}

/// The properties of all that reads what others say, as fast as the gateway runs and with every check of a debug build: by
/// chance, and then where they can be called from outside by a fuzzer, which learns from what it has tried.
fn fuzz(count: &mut Count) -> Result<()> {
    let mut command = cargo(["test", "--profile", "fuzz", "--package", "gateway", "--lib", "--", "any_", "stranger"]);
    if std::env::var_os(CASES).is_none() {
        command.env(CASES, "1000000");
    }
    test(command, count)?;
    fuzz::run(tell)
}

fn lowest(count: &mut Count) -> Result<()> {
    on_the_cluster(&Release::lowest()?, count)
}

fn postgres(count: &mut Count) -> Result<()> {
    install::ensure_installed(install::FOR_THE_JOURNEYS)?;
    editions::ensure_installed(&editions::ALL, tell)?;
    // One that fails keeps no other from being looked at.
    let mut failed = Vec::new();
    for edition in editions::ALL {
        tell(&format!("PostgreSQL {}", edition.major()));
        let mut command = cargo(["test", "--package", "tests", "--no-fail-fast"]);
        command.args(["--test", "postgres", "--test", "logins", "--", JOURNEYS_AT_ONCE]);
        command.env(editions::CHOICE, edition.major().to_string());
        command.env("POSTERN_GATEWAY", gateway::find_or_build()?);
        if test(command, count).is_err() {
            failed.push(edition.major().to_string());
        }
    }
    ensure!(failed.is_empty(), "journeys failed on PostgreSQL {}", failed.join(", "));
    Ok(())
}

/// One cluster for all of them; those that destroy theirs make one of their own.
fn on_the_cluster(release: &Release, count: &mut Count) -> Result<()> {
    let cluster = Cluster::bring_up_release(release, &tell)?;
    let mut command = cargo(["test", "--package", "tests", "--no-fail-fast"]);
    command
        .args(targets(|name| is_on_the_cluster(name) && name != OPERATOR_FAULTS)?)
        .args(["--", CLUSTER_JOURNEYS_AT_ONCE]);
    let (variable, value) = cluster.for_others();
    command.env(variable, value);
    with_programs(command, release, count)
}

/// It makes a cluster of its own. `POSTERN_SEEDS` says how many seeds it tries there.
fn operator_faults(count: &mut Count) -> Result<()> {
    let release = Release::wanted()?;
    cluster::find_or_build(&release, &tell)?;
    let mut command = cargo(["test", "--package", "tests", "--test", OPERATOR_FAULTS, "--"]);
    command.arg("--nocapture");
    with_programs(command, &release, count)
}

/// With what the journeys on a cluster put into it.
fn with_programs(mut command: Command, release: &Release, count: &mut Count) -> Result<()> {
    command.env(RELEASE, release.name());
    command.env("POSTERN_GATEWAY", gateway::find_or_build()?).env("POSTERN_OPERATOR", images::operator_program()?);
    test(command, count)
}

fn tell(line: &str) {
    println!("      {line}");
}

// === running cargo ===

fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = workspace::cargo();
    command.args(arguments);
    command
}

/// Whether the journeys of this target need a Kubernetes; plain `cargo test` leaves them out.
fn is_on_the_cluster(target: &str) -> bool {
    target.starts_with("cluster")
}

/// The journeys whose target's name is as wanted, as arguments for `cargo test`.
fn targets(wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let output = cargo(["metadata", "--no-deps", "--format-version", "1"]).output().context("cannot run cargo")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata prints JSON")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.filter(|package| package["name"] == "tests").filter_map(|tests| tests["targets"].as_array());
    let journeys = targets.flatten().filter(|target| target["kind"][0] == "test");
    let names: Vec<_> = journeys.filter_map(|target| target["name"].as_str()).filter(|name| wanted(name)).collect();
    ensure!(!names.is_empty(), "there are no such journeys");
    Ok(names.iter().flat_map(|name| ["--test".to_owned(), (*name).to_owned()]).collect())
}

fn run(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "`{}` ended with {status}", words(&command));
    Ok(())
}

/// Runs a `cargo test`, shows what it prints and counts its results.
fn test(mut command: Command, count: &mut Count) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {command:?}"))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read what cargo test prints")?;
            count.add(&line);
            if !line.is_empty() && line != "running 0 tests" && !line.contains(" 0 passed; 0 failed") {
                println!("      {line}");
            }
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    ensure!(status.success(), "`{}` ended with {status}", words(&command));
    Ok(())
}

fn words(command: &Command) -> String {
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    format!("cargo {}", arguments.join(" "))
}

fn seconds(watch: Stopwatch) -> String {
    let elapsed = watch.elapsed();
    let minutes = elapsed.as_secs() / 60;
    if minutes == 0 {
        format!("{:.1} s", elapsed.as_secs_f64())
    } else {
        format!("{minutes} min {} s", elapsed.as_secs() % 60)
    }
}

// === impl Count ===

impl Count {
    /// Adds what a line such as `test result: ok. 3 passed; 0 failed; ...` says.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let words: Vec<_> = result.split([' ', ';']).collect();
        for pair in words.windows(2) {
            match pair {
                [number, "passed"] => self.passed += number.parse().unwrap_or(0),
                [number, "failed"] => self.failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_and_its_own_name_run_what_takes_longer() {
        let names = |chosen: &[&str]| {
            let chosen: Vec<_> = chosen.iter().map(|&name| name.to_owned()).collect();
            let steps = steps(&chosen).map(|steps| steps.iter().map(|step| step.name).collect::<Vec<_>>());
            steps.map_err(str::to_owned)
        };
        let plain: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        let longer: Vec<_> = LONGER.iter().map(|step| step.name).collect();
        assert_eq!(names(&[]), Ok(plain.clone()));
        assert_eq!(names(&["full"]), Ok([plain, longer].concat()));
        assert_eq!(names(&["lowest", "format"]), Ok(vec!["format", "lowest"]));
        assert_eq!(names(&["clients"]), Ok(vec!["clients"]));
        assert_eq!(names(&["fast"]), Err("fast".to_owned()));
    }

    #[test]
    fn cargos_result_lines_are_added_up() {
        let mut count = Count::default();
        count.add("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        count.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        count.add("running 3 tests");
        assert_eq!((count.passed, count.failed), (15, 2));
    }
}
