//! `kubectl postern`: how everything stands, for people.
//!
//! What somebody asks is [looked](look) up, and becomes a [snapshot]; a [pod], a [workload] or a [configuration](config) is
//! [explained](explanation) from that alone, by the operator's own decisions, with what somebody should do as
//! [advice]; and [printed](mod@print). Nothing is changed in the cluster.

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use thiserror::Error;

pub mod place;
pub mod kind;
pub mod look;
pub mod forward;
pub mod live;
pub mod snapshot;
pub mod advice;
pub mod explanation;
pub mod words;
pub mod installation;
pub mod injection;
pub mod database;
pub mod config;
pub mod pod;
pub mod workload;
pub mod print;

pub mod status;
pub mod explain;
pub mod proposal;
pub mod changes;
pub mod check;
pub mod inject;
pub mod top;
pub mod logs;
pub mod bundle;
pub mod dashboard;
pub mod manual;

use look::Look;
use place::Place;

/// How everything of Postern stands in a cluster, and what to do about it.
///
/// Exit status: 0 fine, 1 something is wrong, 2 wrong usage, 3 the cluster cannot be reached.
#[derive(Parser)]
#[command(name = "kubectl-postern", bin_name = "kubectl postern", version)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All configurations and pods as a table, and what is wrong.
    Status(status::Settings),
    /// Why a pod, a workload or a configuration is as it is, in sentences.
    Explain(explain::Settings),
    /// What is wrong with a GatewayConfig before it is applied, also in this cluster.
    Check(check::Settings),
    /// What a GatewayConfig would change, in which pods, and whether they must be restarted. Exit status 1 if it would.
    Diff(check::Settings),
    /// What the webhook would make of manifests, with the configurations of the cluster.
    Inject(inject::Settings),
    /// What the pools do right now.
    Top(top::Settings),
    /// What gateways, or the operator, have logged.
    Logs(logs::Settings),
    /// All that somebody needs who is asked for help, in one archive, without secrets.
    SupportBundle(bundle::Settings),
    /// The page of one gateway, at an address of this machine.
    Dashboard(dashboard::Settings),
    /// What a shell reads to complete the command line.
    Completion(manual::Completion),
    /// The manual pages.
    Man(manual::Manual),
}

/// How it ended, where it could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing is wrong.
    Fine,
    /// Something is.
    Wrong,
}

/// Why nothing came of it.
#[derive(Debug, Error)]
pub enum Error {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// There is no cluster to ask.
    #[error("{0}")]
    Unreachable(String),
    /// What was asked for is not there, or may not be seen.
    #[error("{0}")]
    Failed(String),
    /// What was found cannot be printed.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Does what the command line says.
pub async fn run(arguments: Arguments) -> Result<Ending, Error> {
    let Arguments { place, command } = arguments;
    match &command {
        // What makes no sense makes none without a cluster either.
        Command::Explain(settings) => settings.check()?,
        Command::Completion(settings) => return manual::complete(Arguments::command(), settings),
        Command::Man(settings) => return manual::man(Arguments::command(), settings),
        _ => {}
    }
    let (client, namespace) = place.connect().await?;
    let look = Look::new(client, &place.operator_namespace);
    match command {
        Command::Status(settings) => status::run(&look, &namespace, &settings).await,
        Command::Explain(settings) => explain::run(&look, &namespace, &settings).await,
        Command::Check(settings) => check::check(&look, &namespace, &settings).await,
        Command::Diff(settings) => check::diff(&look, &namespace, &settings).await,
        Command::Inject(settings) => inject::run(&look, &settings).await,
        Command::Top(settings) => top::run(&look, &namespace, &settings).await,
        Command::Logs(settings) => logs::run(&look, &namespace, &settings).await,
        Command::SupportBundle(settings) => bundle::run(&look, &namespace, &settings).await,
        Command::Dashboard(settings) => dashboard::run(&look, &namespace, &settings).await,
        // They need no cluster, and have been answered.
        Command::Completion(_) | Command::Man(_) => Ok(Ending::Fine),
    }
}

// === impl Ending ===

impl Ending {
    /// The exit status.
    pub fn code(self) -> ExitCode {
        match self {
            Ending::Fine => ExitCode::SUCCESS,
            Ending::Wrong => ExitCode::FAILURE,
        }
    }
}

// === impl Error ===

impl Error {
    /// The exit status.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Error::Failed(_) | Error::Print(_) => 1,
            Error::Usage(_) => 2,
            Error::Unreachable(_) => 3,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
