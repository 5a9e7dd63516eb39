//! `cargo bench-fleet`: how edits reach many sidecars and what that costs, on a real one-node Kubernetes.
//!
//! Postern is installed by its chart. Edits are measured on some real pods and on thousands of fake ones, which the real
//! webhook injects and whose sidecars this program plays, from the API server's answer to an edit until the resource's
//! status says that every pod serves it. It takes about half an hour; `--quick` five minutes.

mod options;
mod figures;
mod kubelets;
mod sidecars;
mod pods;
mod statuses;
mod edits;
mod stage;
mod usage;
mod measures;
mod report;

use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use anyhow::{Context, Result};
use cast::{Stopwatch, install};
use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::options::{Options, Part};
use crate::report::Results;
use crate::stage::Stage;

/// Enough for all questions that the operator has at one time.
const OPEN_FILES: u64 = 4096;

fn main() -> Result<()> {
    // `cargo bench-fleet -- --quick` means what `cargo bench-fleet --quick` does.
    let options = Options::parse_from(std::env::args_os().filter(|word| word != "--"));
    install::ensure_installed(install::FOR_THE_CLUSTER)?;
    allow_open_files()?;
    let watch = Stopwatch::start();
    let mut results = Results { others: usage::busy()?, ..Results::default() };
    let stage = Stage::set()?;
    // What was measured before something failed is worth showing too, also where the cast panics.
    let outcome = catch_unwind(AssertUnwindSafe(|| measure(&stage, &options, &mut results)));
    io::stdout().write_all(results.markdown().as_bytes())?;
    say(&format!("all of it took {} s", watch.elapsed().as_secs()));
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

fn measure(stage: &Stage, options: &Options, results: &mut Results) -> Result<()> {
    if options.wants(Part::Real) {
        say("editing with real pods");
        results.real = Some(measures::real(stage, options)?);
    }
    if options.wants(Part::Webhook) {
        say("creating pods");
        results.webhook.push(measures::webhook(stage, options, 0)?);
    }
    if options.wants(Part::Configs) {
        results.configs = Some(measures::configs(stage, options)?);
    }
    if options.wants(Part::Sizes) {
        results.sizes = measures::sizes(stage, options)?;
        if let Some(largest) = results.sizes.last().filter(|_| options.wants(Part::Webhook)) {
            say("creating pods beside the fleet");
            let beside = measures::webhook(stage, options, largest.pods)?;
            results.webhook.push(beside);
        }
    }
    Ok(())
}

fn allow_open_files() -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = current.map(|current| current.max(OPEN_FILES));
    let granted = maximum.map_or(wanted, |maximum| wanted.map(|wanted| wanted.min(maximum)));
    setrlimit(Resource::Nofile, Rlimit { current: granted, maximum }).context("cannot raise the limit of open files")
}

/// Tells the person who waits.
pub(crate) fn say(text: &str) {
    eprintln!("bench-fleet: {text}");
}
