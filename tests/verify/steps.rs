//! The steps: what each of them installs, builds and runs.

use std::process::Command;

use anyhow::{Result, ensure};
use cast::cluster::{RELEASE, Release};
use cast::process::is_root;
use cast::supply::Deny;
use cast::{Cluster, cluster, editions, gateway, images, install};

use crate::cargo::{cargo, is_on_the_cluster, run, targets, test};
use crate::count::Count;
use crate::fuzz;
use crate::release;

/// The journeys of drivers that are fetched within seconds, by the beginnings of their names; the rest are `clients`.
const QUICK_CLIENTS: [&str; 3] = ["psycopg3", "asyncpg", "node_postgres"];

/// The recipes whose libraries take minutes to fetch, by the beginnings of their names.
const LONG_RECIPES: [&str; 2] = ["spring", "rails"];

/// The journeys of programs in other languages, which are fetched with those languages' tools.
const ON_LANGUAGES: [&str; 3] = ["clients", "recipes", "suites"];

/// The simulation, which needs a gateway of its own.
const SIMULATION: [&str; 4] = ["--features", "simulation", "--test", "simulation"];

/// How often each property of `fuzz` is tried; the library that tries them reads it.
const CASES: &str = "PROPTEST_CASES";

/// All of them.
const DRIVERS: usize = 12;

/// Those that bring a test suite along which can be fetched.
const SUITES: usize = 8;

/// What `faults` is about, by the beginning of its name; the rest of its target is quick.
const EVERY_FAULT: &str = "every_fault";

/// The target of `alerts` that needs no cluster.
const ALERTS: &str = "monitoring";

/// Targets on the cluster that are steps of their own, because they have not passed ten times in a row yet.
const ON_TRIAL: [&str; 3] = [OPERATOR_FAULTS, EXPLAIN, CLUSTER_ALERTS];

/// The target of `explain`.
const EXPLAIN: &str = "cluster_explain";

/// The target of `alerts` on the cluster.
const CLUSTER_ALERTS: &str = "cluster_monitoring";

/// The target of `browser`.
const PAGE: &str = "page";

/// The target of `operator-faults`.
const OPERATOR_FAULTS: &str = "cluster_operator_faults";

/// How many journeys run at the same time: they measure, so they must not crowd each other out.
const JOURNEYS_AT_ONCE: &str = "--test-threads=2";

/// The same on the cluster, where they mostly wait.
const CLUSTER_JOURNEYS_AT_ONCE: &str = "--test-threads=4";

/// Journeys that mount a disk, make hosts with networks of their own or look into other processes, by the beginning of their
/// names.
const ONLY_AS_ROOT: [&str; 13] = [
    "a_full_disk_for_the_socket",
    "a_database_behind_a_black_hole",
    "a_session_whose_packets_vanish",
    "a_database_that_moves_to_another_address",
    "the_next_address_is_dialed_beside",
    "a_resolver_that_does_not_answer",
    "a_mariadb_that_counts_broken_logins",
    "another_host_learns_nothing",
    "a_console_is_for_no_other_host",
    "a_sidecar_waits_for_its_file",
    "in_an_empty_image",
    "no_neighbour_reads_a_sidecars_memory",
    "no_password_of_a_secret_stays_in_memory",
];

pub(crate) fn tools(_: &mut Count) -> Result<()> {
    install::ensure_installed(install::FOR_THE_JOURNEYS)?;
    editions::ensure_installed(&[editions::OLDEST, editions::NEWEST], tell)
}

pub(crate) fn format(_: &mut Count) -> Result<()> {
    run(cargo(["fmt", "--all", "--check"]))
}

pub(crate) fn lints(_: &mut Count) -> Result<()> {
    run(cargo(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // All of them are without those that plain `cargo test` leaves out.
    let mut command = cargo(["clippy", "--quiet", "--workspace"]);
    command.args(targets(|_| true)?).args(["--", "-D", "warnings"]);
    run(command)?;
    let mut command = cargo(["clippy", "--quiet", "--package", "gateway"]);
    command.args(SIMULATION).args(["--", "-D", "warnings"]);
    run(command)
}

pub(crate) fn docs(_: &mut Count) -> Result<()> {
    let mut command = cargo(["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    run(command)
}

pub(crate) fn unit(count: &mut Count) -> Result<()> {
    test(cargo(["test", "--quiet", "--workspace", "--exclude", "tests", "--no-fail-fast"]), count)?;
    test(cargo(["test", "--quiet", "--package", "tests", "--lib", "--bins", "--examples", "--no-fail-fast"]), count)
}

/// 500 seeds, or as many as there are in two minutes.
pub(crate) fn simulation(count: &mut Count) -> Result<()> {
    test(simulated(), count)
}

/// Other seeds, for an hour, or for as long as is said.
pub(crate) fn soak(count: &mut Count) -> Result<()> {
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

pub(crate) fn build(_: &mut Count) -> Result<()> {
    for program in [gateway::find_or_build()?, &images::operator_program()?] {
        println!("      {}", program.display());
    }
    Ok(())
}

pub(crate) fn kubernetes(_: &mut Count) -> Result<()> {
    println!("      {}", cluster::find_or_build(&Release::wanted()?, &tell)?.display());
    Ok(())
}

pub(crate) fn journeys(count: &mut Count) -> Result<()> {
    install::ensure_installed(install::FOR_THE_JOURNEYS)?;
    editions::ensure_installed(&[editions::OLDEST, editions::NEWEST], tell)?;
    cluster::find_or_build(&Release::newest()?, &tell)?;
    let mut command = cargo(["test", "--package", "tests", "--no-fail-fast"]);
    let is_elsewhere =
        |name: &str| is_on_the_cluster(name) || [ALERTS, PAGE].contains(&name) || ON_LANGUAGES.contains(&name);
    command.args(targets(|name| !is_elsewhere(name))?).args(["--", JOURNEYS_AT_ONCE, "--skip", EVERY_FAULT]);
    command.env("POSTERN_GATEWAY", gateway::find_or_build()?);
    if !is_root() {
        println!("      Left out, because only root may do what they do: {}", ONLY_AS_ROOT.join("*, ") + "*");
        command.args(ONLY_AS_ROOT.iter().flat_map(|name| ["--skip", name]));
    }
    test(command, count)?;
    let mut command = cargo(["test", "--package", "tests", "--test", "clients", "--"]);
    command.args(QUICK_CLIENTS).arg(JOURNEYS_AT_ONCE);
    on_drivers(command, QUICK_CLIENTS.len(), count)?;
    let mut command = cargo(["test", "--package", "tests", "--test", "recipes", "--", JOURNEYS_AT_ONCE]);
    command.args(LONG_RECIPES.iter().flat_map(|name| ["--skip", name]));
    command.env("POSTERN_GATEWAY", gateway::find_or_build()?);
    test(command, count)
}

pub(crate) fn recipes(count: &mut Count) -> Result<()> {
    install::ensure_installed(install::FOR_THE_JOURNEYS)?;
    install::ensure_installed(install::FOR_QUICK_CLIENTS)?;
    install::ensure_installed(install::FOR_CLIENTS_IN_JAVA)?;
    install::ensure_installed(install::FOR_RECIPES_IN_RUBY)?;
    let mut command = cargo(["test", "--package", "tests", "--no-fail-fast", "--test", "recipes", "--"]);
    command.arg(JOURNEYS_AT_ONCE).env("POSTERN_GATEWAY", gateway::find_or_build()?);
    test(command, count)
}

pub(crate) fn clients(count: &mut Count) -> Result<()> {
    install::ensure_installed(install::FOR_CLIENTS_IN_JAVA)?;
    let command = cargo(["test", "--package", "tests", "--no-fail-fast", "--test", "clients", "--", JOURNEYS_AT_ONCE]);
    on_drivers(command, DRIVERS, count)
}

pub(crate) fn suites(count: &mut Count) -> Result<()> {
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

pub(crate) fn cluster(count: &mut Count) -> Result<()> {
    on_the_cluster(&Release::wanted()?, |name| !ON_TRIAL.contains(&name), count)
}

pub(crate) fn crosstalk(count: &mut Count) -> Result<()> {
    let mut command = cargo(["test", "--package", "tests", "--test", "postgres", "every_answer", "--", "--nocapture"]);
    command.env("POSTERN_GATEWAY", gateway::find_or_build()?).env("POSTERN_TEST_EXCHANGES", "1000000");
    test(command, count)
}

/// One after the other, because each tells how long peers waited.
pub(crate) fn faults(count: &mut Count) -> Result<()> {
    ensure!(is_root(), "only root may mount disks and make networks of its own");
    install::ensure_installed(install::FOR_THE_JOURNEYS)?;
    install::ensure_installed(install::FOR_THE_FAULTS)?;
    let mut command =
        cargo(["test", "--package", "tests", "--test", "faults", "--", "--nocapture", "--test-threads=1"]);
    command.env("POSTERN_GATEWAY", gateway::find_or_build()?);
    test(command, count)
}

/// One after the other: each has a browser of its own. `POSTERN_WRITE_SCREENSHOTS=1` stores the documentation's pictures.
pub(crate) fn browser(count: &mut Count) -> Result<()> {
    install::ensure_installed(install::FOR_THE_JOURNEYS)?;
    install::ensure_installed(install::FOR_THE_BROWSER)?;
    let mut command = cargo(["test", "--package", "tests", "--test", PAGE, "--", "--test-threads=1"]);
    command.env("POSTERN_GATEWAY", gateway::find_or_build()?);
    test(command, count)
}

/// Without a way to the database of advisories these are left out, and all that is there is checked nevertheless.
pub(crate) fn supply_chain(_: &mut Count) -> Result<()> {
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

pub(crate) fn release(_: &mut Count) -> Result<()> {
    release::check(&tell)
}

/// The properties of all that reads what others say, as fast as the gateway runs and with every check of a debug build: by
/// chance, and then where they can be called from outside by a fuzzer, which learns from what it has tried.
pub(crate) fn fuzz(count: &mut Count) -> Result<()> {
    let mut command = cargo(["test", "--profile", "fuzz", "--package", "gateway", "--lib", "--", "any_", "stranger"]);
    if std::env::var_os(CASES).is_none() {
        command.env(CASES, "1000000");
    }
    test(command, count)?;
    fuzz::run(tell)
}

pub(crate) fn lowest(count: &mut Count) -> Result<()> {
    on_the_cluster(&Release::lowest()?, |name| !ON_TRIAL.contains(&name), count)
}

pub(crate) fn postgres(count: &mut Count) -> Result<()> {
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
fn on_the_cluster(release: &Release, wanted: impl Fn(&str) -> bool, count: &mut Count) -> Result<()> {
    let cluster = Cluster::bring_up_release(release, &tell)?;
    let mut command = cargo(["test", "--package", "tests", "--no-fail-fast"]);
    command.args(targets(|name| is_on_the_cluster(name) && wanted(name))?).args(["--", CLUSTER_JOURNEYS_AT_ONCE]);
    let (variable, value) = cluster.for_others();
    command.env(variable, value);
    with_programs(command, release, count)
}

/// What people get wrong, and how `kubectl postern` names it.
pub(crate) fn explain(count: &mut Count) -> Result<()> {
    on_the_cluster(&Release::wanted()?, |name| name == EXPLAIN, count)
}

/// Faults that fire their alerts on a real Prometheus, beside a gateway and on the cluster.
pub(crate) fn alerts(count: &mut Count) -> Result<()> {
    install::ensure_installed(install::FOR_THE_JOURNEYS)?;
    let mut command = cargo(["test", "--package", "tests", "--test", ALERTS, "--", "--nocapture"]);
    command.env("POSTERN_GATEWAY", gateway::find_or_build()?);
    test(command, count)?;
    on_the_cluster(&Release::wanted()?, |name| name == CLUSTER_ALERTS, count)
}

/// It makes a cluster of its own. `POSTERN_SEEDS` says how many seeds it tries there.
pub(crate) fn operator_faults(count: &mut Count) -> Result<()> {
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
