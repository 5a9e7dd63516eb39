//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum as _};

use crate::kind::Kind;
use crate::recovery::Fault;
use crate::scale::Dimension;
use crate::suite::{Field, Length, Suite};
use crate::workload::Workload;

/// Measures the gateway beside a direct connection, a minimal relay, PgBouncer and HAProxy, on a PostgreSQL of its own.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-db", args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    /// Only these parts; by default `opaque` and `postgres`, one after the other.
    #[arg(long, value_enum, value_delimiter = ',')]
    suite: Vec<Suite>,
    /// How often each workload runs on each target; by default 9 times, those of `postgres` 7 times, outages 5 times,
    /// looks at growth 3 times.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// How long one run takes, by default 10 s, those of `postgres` 5 s; or how long an outage lasts, by default 3 s.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// A few short rounds: a first impression, not a measurement.
    #[arg(long)]
    quick: bool,
    /// Only these targets, also such as are not measured by default. What `relay-again` differs from `relay` is noise.
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "all")]
    only: Vec<Kind>,
    /// All targets.
    #[arg(long)]
    all: bool,
    /// Only these workloads, by name or by the part before the colon: simple:1, prepared, connect, copy, crowd, memory;
    /// of outages restart, kill, hole, switchover; of growth peers, clients, proxies.
    #[arg(long, value_delimiter = ',', value_parser = known_workload)]
    workloads: Vec<String>,
    /// The gateway's program; by default the release build of this workspace.
    #[arg(long, value_name = "PATH")]
    pub(crate) gateway: Option<PathBuf>,
    /// Another build of the gateway, measured beside it as the targets `before` and `transaction-before`.
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
    /// Draws what `--json` wrote, as SVG and PNG.
    Plot {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The folder of the pictures; by default tests/bench/plots.
        #[arg(long, value_name = "FOLDER")]
        into: Option<PathBuf>,
    },
    /// Draws on what a target spends its processor time, as a flame graph in SVG and PNG.
    Flame(Flame),
    /// The minimal relay that the gateway is compared with.
    #[command(hide = true)]
    Relay {
        /// Where it listens.
        listen: SocketAddr,
        /// Where the database is.
        upstream: SocketAddr,
    },
    /// What stands in for the database where there are thousands of connections to it.
    #[command(hide = true)]
    Stub {
        /// Where it listens.
        listen: SocketAddr,
    },
}

/// Whose flame graph is drawn.
#[derive(Debug, Args)]
pub(crate) struct Flame {
    /// The target, which must be a process of its own.
    #[arg(long, value_enum, default_value = "gateway")]
    pub(crate) target: Kind,
    /// What it does meanwhile.
    #[arg(long, default_value = "simple:8", value_parser = workload_named)]
    pub(crate) workload: Workload,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
    /// The folder of the picture; by default tests/bench/plots.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) into: Option<PathBuf>,
}

/// The workload that is not a run of some seconds.
const MEMORY: &str = "memory";

// === impl Options ===

impl Options {
    /// The parts that are run, in their order.
    pub(crate) fn suites(&self) -> impl Iterator<Item = Suite> {
        let asked = |suite: &Suite| if self.suite.is_empty() { suite.is_usual() } else { self.suite.contains(suite) };
        Suite::value_variants().iter().copied().filter(asked)
    }

    /// How long a part is.
    pub(crate) fn length(&self, suite: Suite) -> Length {
        let Length { rounds, seconds } = suite.length(self.quick);
        Length { rounds: self.rounds.unwrap_or(rounds), seconds: self.seconds.unwrap_or(seconds) }
    }

    /// The workloads of a part, each with its targets in the order of the tables.
    pub(crate) fn contests(&self, suite: Suite) -> Vec<(Workload, Vec<Kind>)> {
        let wanted = suite.contests().into_iter().filter(|(workload, _)| self.wants(&workload.to_string()));
        wanted.map(|(workload, field)| (workload, self.of(field))).collect()
    }

    /// The outages of a part, each with its targets in the order of the tables.
    pub(crate) fn outages(&self, suite: Suite) -> Vec<(Fault, Vec<Kind>)> {
        let all = if suite == Suite::Recovery { Fault::value_variants() } else { &[] };
        let wanted = all.iter().filter(|fault| self.wants(&fault.name()));
        wanted.map(|fault| (*fault, self.of(fault.field()))).collect()
    }

    /// What of a part grows, each with its targets in the order of the tables.
    pub(crate) fn growth(&self, suite: Suite) -> Vec<(Dimension, Vec<Kind>)> {
        let all = if suite == Suite::Growth { Dimension::value_variants() } else { &[] };
        let wanted = all.iter().filter(|dimension| self.wants(&dimension.name()));
        wanted.map(|dimension| (*dimension, self.of(dimension.field()))).collect()
    }

    /// Whose memory is looked at.
    pub(crate) fn memory(&self, suite: Suite) -> Vec<Kind> {
        if self.wants(MEMORY) { self.of(suite.memory()) } else { Vec::new() }
    }

    /// All targets of a part.
    pub(crate) fn kinds_of(&self, suite: Suite) -> Vec<Kind> {
        let mut asked: Vec<_> = self.contests(suite).into_iter().flat_map(|(_, kinds)| kinds).collect();
        asked.extend(self.memory(suite));
        asked.extend(self.outages(suite).into_iter().flat_map(|(_, kinds)| kinds));
        asked.extend(self.growth(suite).into_iter().flat_map(|(_, kinds)| kinds));
        Kind::all().iter().copied().filter(|kind| asked.contains(kind)).collect()
    }

    /// All targets.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let asked: Vec<_> = self.suites().flat_map(|suite| self.kinds_of(suite)).collect();
        Kind::all().iter().copied().filter(|kind| asked.contains(kind)).collect()
    }

    fn of(&self, field: Field) -> Vec<Kind> {
        let takes_part = |kind: Kind| match kind {
            kind if kind.is_before() => self.before.is_some() && field.others.contains(&kind),
            kind if field.usual.contains(&kind) => self.only.is_empty() || self.only.contains(&kind),
            kind => field.others.contains(&kind) && (self.all || self.only.contains(&kind)),
        };
        Kind::all().iter().copied().filter(|kind| takes_part(*kind)).collect()
    }

    fn wants(&self, name: &str) -> bool {
        self.workloads.is_empty() || self.workloads.iter().any(|wanted| selects(wanted, name))
    }
}

fn selects(wanted: &str, name: &str) -> bool {
    wanted == name || name.split_once(':').is_some_and(|(kind, _)| wanted == kind)
}

fn workload_named(text: &str) -> Result<Workload, String> {
    let all = Workload::all();
    let names: Vec<_> = all.iter().map(ToString::to_string).collect();
    let found = names.iter().position(|name| name == text).map(|place| all[place]);
    found.ok_or_else(|| format!("there are {}", names.join(", ")))
}

fn known_workload(text: &str) -> Result<String, String> {
    let faults = Fault::value_variants().iter().map(|fault| fault.name());
    let dimensions = Dimension::value_variants().iter().map(|dimension| dimension.name());
    let workloads = Workload::all().into_iter().map(|workload| workload.to_string());
    let names: Vec<_> = workloads.chain([MEMORY.to_owned()]).chain(faults).chain(dimensions).collect();
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

    fn names(options: &Options, suite: Suite) -> Vec<String> {
        options.contests(suite).iter().map(|(workload, _)| workload.to_string()).collect()
    }

    #[test]
    fn by_default_both_parts_are_run_and_their_goals_can_be_judged() {
        let options = options("bench-db");
        assert_eq!(options.suites().collect::<Vec<_>>(), [Suite::Opaque, Suite::Postgres]);
        assert_eq!(options.kinds_of(Suite::Opaque), [Kind::Direct, Kind::Relay, Kind::Gateway]);
        assert_eq!(options.length(Suite::Opaque), Length { rounds: 9, seconds: 10 });
        assert_eq!(options.contests(Suite::Opaque).len(), 8);
        assert_eq!(options.contests(Suite::Postgres).len(), 9);
        assert!(options.kinds().contains(&Kind::PgbouncerScram));
        assert!(options.memory(Suite::Postgres).contains(&Kind::Transaction));
    }

    #[test]
    fn a_kind_of_workload_selects_all_of_its_sizes() {
        let options = options("bench-db --workloads prepared,simple:8 --only gateway,relay --suite opaque");
        assert_eq!(names(&options, Suite::Opaque), ["simple:8", "prepared:1", "prepared:8", "prepared:32"]);
        assert_eq!(options.kinds(), [Kind::Relay, Kind::Gateway]);
        assert_eq!(options.memory(Suite::Opaque), []);
    }

    #[test]
    fn another_build_takes_part_wherever_the_gateway_does() {
        let options = options("bench-db --before /nowhere");
        assert!(options.kinds_of(Suite::Opaque).contains(&Kind::Before));
        for (workload, kinds) in options.contests(Suite::Postgres) {
            assert!(kinds.contains(&Kind::TransactionBefore), "{workload}");
        }
    }

    #[test]
    fn every_target_of_a_part_can_be_asked_for_by_name() {
        for kind in Kind::all().iter().filter(|kind| !kind.is_before()) {
            let options = options(&format!("bench-db --suite opaque,postgres,recovery --only {}", kind.name()));
            assert_eq!(options.kinds(), [*kind]);
        }
    }

    #[test]
    fn an_unknown_workload_is_refused() {
        let error = Options::try_parse_from(["bench-db", "--workloads", "simple:7"]).expect_err("there is none");
        assert!(error.to_string().contains("there are simple:1"), "{error}");
    }
}
