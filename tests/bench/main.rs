//! `cargo bench-db`: what the gateway costs, beside a direct connection and beside the least that a relay can do.
//!
//! A private PostgreSQL and the targets run on this machine; the same short workloads go round-robin over all of
//! them, and what counts is the ratio of two targets within one round. Absolute numbers are the machine's.

mod options;
mod relay;
mod target;
mod session;
mod usage;
mod workload;
mod idle;
mod rounds;
mod results;
mod goals;
mod report;

use std::fs;
use std::io::{self, Write as _};

use anyhow::{Context, Result};
use cast::{Postgres, gateway, install};
use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::options::{Options, Task};
use crate::results::Results;
use crate::rounds::Stop;
use crate::target::Stage;
use crate::usage::Machine;

/// Enough for a thousand sessions on both sides of a proxy, which inherits the limit.
const OPEN_FILES: u64 = 16_384;

fn main() -> Result<()> {
    // `cargo bench-db -- --quick` means what `cargo bench-db --quick` does.
    let options = Options::parse_from(std::env::args_os().filter(|word| word != "--"));
    if let Some(Task::Relay { listen, upstream }) = options.task {
        return relay::run(listen, upstream).context("the relay ended");
    }
    let before = Machine::look()?;
    let mut results = measure(&options)?;
    results.others = Machine::look()?.others_since(&before);
    io::stdout().write_all(report::markdown(&results).as_bytes())?;
    if let Some(path) = &options.json {
        fs::write(path, format!("{:#}\n", report::json(&results)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn measure(options: &Options) -> Result<Results> {
    install::ensure_installed(install::FOR_THE_DEMO)?;
    allow_open_files()?;
    let targets = options.targets();
    let gateway = match &options.gateway {
        None if targets.iter().any(|kind| kind.is_gateway()) => Some(gateway::find_or_build()?.to_owned()),
        given => given.clone(),
    };
    let stop = Stop::on_signals()?;
    rounds::say("starting PostgreSQL and filling it");
    let postgres = Postgres::with(&[
        ("shared_buffers", "1GB"),
        ("max_connections", "1400"),
        ("max_wal_size", "4GB"),
        ("autovacuum", "off"),
        ("log_min_messages", "fatal"),
    ]);
    let stage = Stage { postgres: &postgres, gateway, before: options.before.clone() };
    workload::fill(&stage)?;
    let mut results = Results::new(options.rounds(), options.seconds());
    results.postgres = postgres.query("show server_version");
    if options.memory() {
        idle::measure(&targets, &stage, &stop, &mut results);
    }
    rounds::measure(&targets, &options.workloads(), &stage, &stop, &mut results);
    results.stopped = stop.is_wanted();
    Ok(results)
}

fn allow_open_files() -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = current.map(|current| current.max(OPEN_FILES));
    let granted = maximum.map_or(wanted, |maximum| wanted.map(|wanted| wanted.min(maximum)));
    setrlimit(Resource::Nofile, Rlimit { current: granted, maximum }).context("cannot raise the limit of open files")
}
