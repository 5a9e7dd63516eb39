//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::target::Kind;
use crate::workload::Workload;

/// Measures the gateway beside a direct connection and beside a minimal relay, on a PostgreSQL of its own.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-db", args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    /// How often each workload runs on each target.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long one run takes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Three rounds of three seconds: a first impression, not a measurement.
    #[arg(long)]
    quick: bool,
    /// Only these targets; by default direct, relay and gateway. What `relay-again` differs from `relay` is noise.
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "all")]
    only: Vec<Kind>,
    /// All targets that are installed.
    #[arg(long)]
    all: bool,
    /// Only these workloads, by name or by the part before the colon: simple:1, prepared, connect, copy, memory.
    #[arg(long, value_delimiter = ',', value_parser = known_workload)]
    workloads: Vec<String>,
    /// The gateway's program; by default the release build of this workspace.
    #[arg(long, value_name = "PATH")]
    pub(crate) gateway: Option<PathBuf>,
    /// Another build of the gateway, measured beside it as the target `before`.
    #[arg(long, value_name = "PATH")]
    pub(crate) before: Option<PathBuf>,
    /// Also writes every single run to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) task: Option<Task>,
}

/// What the program also is.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// The minimal relay that the gateway is compared with.
    #[command(hide = true)]
    Relay {
        /// Where it listens.
        listen: SocketAddr,
        /// Where the database is.
        upstream: SocketAddr,
    },
}

/// The workload that is not a run of some seconds.
const MEMORY: &str = "memory";

// === impl Options ===

impl Options {
    pub(crate) fn rounds(&self) -> u32 {
        if self.quick { 3 } else { self.rounds }
    }

    pub(crate) fn seconds(&self) -> u32 {
        if self.quick { 3 } else { self.seconds }
    }

    /// The targets, in the order of the tables.
    pub(crate) fn targets(&self) -> Vec<Kind> {
        let named = |kind: Kind| match kind {
            Kind::Before => self.before.is_some(),
            Kind::Direct | Kind::Relay | Kind::Gateway if self.only.is_empty() => true,
            other => self.only.contains(&other) || self.all && other.is_installed(),
        };
        Kind::ALL.into_iter().filter(|kind| named(*kind)).collect()
    }

    pub(crate) fn workloads(&self) -> Vec<Workload> {
        Workload::all().into_iter().filter(|workload| self.wants(&workload.to_string())).collect()
    }

    /// Whether idle memory is measured.
    pub(crate) fn memory(&self) -> bool {
        self.wants(MEMORY)
    }

    fn wants(&self, name: &str) -> bool {
        self.workloads.is_empty() || self.workloads.iter().any(|wanted| selects(wanted, name))
    }
}

fn selects(wanted: &str, name: &str) -> bool {
    wanted == name || name.split_once(':').is_some_and(|(kind, _)| wanted == kind)
}

fn known_workload(text: &str) -> Result<String, String> {
    let names: Vec<_> = Workload::all().iter().map(Workload::to_string).chain([MEMORY.to_owned()]).collect();
    if names.iter().any(|name| selects(text, name)) {
        return Ok(text.to_owned());
    }
    Err(format!("there are {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        Options::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn by_default_the_goals_can_be_judged() {
        let options = options("bench-db");
        assert_eq!(options.targets(), [Kind::Direct, Kind::Relay, Kind::Gateway]);
        assert_eq!((options.rounds(), options.seconds()), (9, 10));
        assert_eq!(options.workloads().len(), 8);
        assert!(options.memory());
    }

    #[test]
    fn a_kind_of_workload_selects_all_of_its_sizes() {
        let options = options("bench-db --workloads prepared,simple:8 --only gateway,relay");
        let names: Vec<_> = options.workloads().iter().map(Workload::to_string).collect();
        assert_eq!(names, ["simple:8", "prepared:1", "prepared:8", "prepared:32"]);
        assert_eq!(options.targets(), [Kind::Relay, Kind::Gateway]);
        assert!(!options.memory());
    }

    #[test]
    fn an_unknown_workload_is_refused() {
        let error = Options::try_parse_from(["bench-db", "--workloads", "simple:7"]).expect_err("there is none");
        assert!(error.to_string().contains("there are simple:1"), "{error}");
    }
}
