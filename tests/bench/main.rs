//! `cargo bench-db`: what the gateway costs, beside a direct connection, the least that a relay can do, and other proxies.
//!
//! A private PostgreSQL and the targets run on this machine; the same short workloads go round-robin over all of
//! them, and what counts is the ratio of two targets within one round. Absolute numbers are the machine's.

mod options;
mod suite;
mod kind;
mod stage;
mod program;
mod relay;
mod target;
mod session;
mod usage;
mod workload;
mod idle;
mod growth;
mod recovery;
mod scale;
mod stub;
mod rounds;
mod results;
mod goals;
mod report;
mod place;
mod plot;
mod flame;

use std::fs;
use std::io::{self, Write as _};

use anyhow::{Context, Result};
use cast::install;
use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::kind::Kind;
use crate::options::{Options, Task};
use crate::results::Results;
use crate::rounds::Stop;
use crate::stage::{Absence, Programs, Stage};
use crate::suite::Suite;
use crate::usage::Machine;
use crate::workload::Workload;

/// Enough for ten thousand sessions on both sides of a proxy, which inherits the limit.
const OPEN_FILES: u64 = 32_768;

fn main() -> Result<()> {
    // `cargo bench-db -- --quick` means what `cargo bench-db --quick` does.
    let options = Options::parse_from(std::env::args_os().filter(|word| word != "--"));
    match &options.task {
        Some(Task::Relay { listen, upstream }) => return relay::run(*listen, *upstream).context("the relay ended"),
        Some(Task::Stub { listen }) => return stub::run(*listen).context("the stub ended"),
        Some(Task::Flame(flame)) => return flame::run(flame, &options),
        Some(Task::Plot { files, into }) => return plot::run(files, into.as_deref()),
        None => (),
    }
    let results = measure(&options)?;
    io::stdout().write_all(report::markdown(&results).as_bytes())?;
    if let Some(path) = &options.json {
        fs::write(path, format!("{:#}\n", report::json(&results)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn measure(options: &Options) -> Result<Vec<Results>> {
    install::ensure_installed(install::FOR_THE_DEMO)?;
    allow_open_files()?;
    let (programs, absences) = Programs::find(options, &options.kinds())?;
    let stop = Stop::on_signals()?;
    let mut all = Vec::new();
    for suite in options.suites().filter(|_| !stop.is_wanted()) {
        all.push(run(suite, options, &absences, (&programs, &stop))?);
    }
    Ok(all)
}

/// Runs a suite with all who are there.
fn run(suite: Suite, options: &Options, absences: &[Absence], (programs, stop): (&Programs, &Stop)) -> Result<Results> {
    let before = Machine::look()?;
    let mut results = Results::new(suite, options.length(suite));
    let asked = options.kinds_of(suite);
    results.absences = absences.iter().filter(|absence| asked.contains(&absence.kind)).cloned().collect();
    let present = |mut kinds: Vec<Kind>| {
        kinds.retain(|kind| absences.iter().all(|absence| absence.kind != *kind));
        kinds
    };
    match suite {
        Suite::Opaque | Suite::Postgres => {
            let contests = options.contests(suite).into_iter().map(|(workload, kinds)| (workload, present(kinds)));
            let memory = present(options.memory(suite));
            compare(&contests.collect::<Vec<_>>(), &memory, (programs, stop), &mut results)?;
        }
        Suite::Recovery => {
            let outages = options.outages(suite).into_iter().map(|(fault, kinds)| (fault, present(kinds)));
            recovery::measure(&outages.collect::<Vec<_>>(), programs, stop, &mut results);
        }
        Suite::Growth => {
            let growth = options.growth(suite).into_iter().map(|(dimension, kinds)| (dimension, present(kinds)));
            scale::measure(&growth.collect::<Vec<_>>(), programs, stop, &mut results)?;
        }
    }
    results.stopped = stop.is_wanted();
    results.others = Machine::look()?.others_since(&before);
    Ok(results)
}

/// The parts that let workloads run, on a database that all of them share.
fn compare(
    contests: &[(Workload, Vec<Kind>)],
    memory: &[Kind],
    (programs, stop): (&Programs, &Stop),
    results: &mut Results,
) -> Result<()> {
    let stage = Stage::set(programs.clone())?;
    workload::fill(&stage)?;
    results.postgres = stage.postgres.query("show server_version");
    idle::measure(memory, &stage, stop, results);
    if results.suite == Suite::Postgres {
        growth::measure(memory, &stage, stop, results);
    }
    rounds::measure(contests, &stage, stop, results);
    Ok(())
}

fn allow_open_files() -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = current.map(|current| current.max(OPEN_FILES));
    let granted = maximum.map_or(wanted, |maximum| wanted.map(|wanted| wanted.min(maximum)));
    setrlimit(Resource::Nofile, Rlimit { current: granted, maximum }).context("cannot raise the limit of open files")
}
