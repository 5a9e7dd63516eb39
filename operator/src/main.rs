//! The operator's program:
//!
//! ```text
//! operator run                         # in a cluster, as the chart starts it
//! operator inject -f app.yaml -c config.yaml
//! operator crd | kubectl apply -f -    # the resource that it serves
//! ```

use clap::{Parser, Subcommand};
use operator::settings::Settings;
use operator::{log, offline, probe, run};
use std::io::{self, Write};
use std::process::ExitCode;
use tokio::runtime::Builder;

/// The custom resource definition, as it is committed.
const CRD: &str = include_str!("../../crds/gatewayconfig.yaml");

/// Threads that serve: the webhook is not to wait while the controllers read a long answer.
const THREADS: usize = 2;

/// Turns GatewayConfig resources into injected sidecars and live configuration.
#[derive(Parser)]
#[command(name = "operator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Inject sidecars and deliver configurations until a signal comes.
    Run(Box<Settings>),
    /// Give manifests their sidecar without a cluster, by the webhook's own decision. Exit status 0 or 1.
    Inject(offline::Settings),
    /// Print the custom resource definition, for `kubectl apply -f -` or a GitOps repository.
    Crd,
    /// Ask the webhook of the cluster about a pod that does not exist, as the API server would; `helm test` runs it.
    Probe(probe::Settings),
}

fn main() -> ExitCode {
    act(Arguments::parse().command).unwrap_or_else(|error| {
        // Nobody is left to be told if that fails.
        let _ = writeln!(io::stderr(), "operator: {error}");
        ExitCode::FAILURE
    })
}

fn act(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(settings) => {
            log::start(settings.log_level);
            let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
            runtime.block_on(run::run(*settings))?;
        }
        Command::Inject(settings) => return inject(&settings),
        Command::Crd => io::stdout().write_all(CRD.as_bytes())?,
        Command::Probe(settings) => {
            Builder::new_current_thread().enable_all().build()?.block_on(probe::run(&settings))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what becomes of manifests; what is to be said of it goes beside it.
fn inject(settings: &offline::Settings) -> anyhow::Result<ExitCode> {
    let outcome = offline::Outcome::of(settings)?;
    for sentence in outcome.said {
        writeln!(io::stderr(), "{sentence}")?;
    }
    io::stdout().write_all(outcome.printed.as_bytes())?;
    Ok(if outcome.is_denied { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_definition_is_the_one_of_the_types() {
        assert!(CRD == crds::schema::yaml().expect("a schema is YAML"));
    }
}
