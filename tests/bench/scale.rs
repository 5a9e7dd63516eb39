//! Cost against growth: what each further peer, client and proxy adds, in memory, processor time and time to start.

mod slope;
mod look;

use anyhow::Result;
use cast::loopback::free_address;
use cast::process::owned;
use cast::{Postgres, Process};
use clap::ValueEnum;

use crate::kind::Kind::{
    self, Gateway, Haproxy, Passthrough, PgbouncerTransaction, Relay, Transaction, TransactionBefore,
};
use crate::results::Results;
use crate::rounds::{Progress, Stop, order};
use crate::stage::{Programs, Stage};
use crate::suite::Field;

pub(crate) use slope::slope;

/// What there is more and more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dimension {
    /// Idle peers, which each have asked once.
    Peers,
    /// Connections to the database, all of them warm.
    Clients,
    /// Proxies of one gateway.
    Proxies,
}

/// One look at a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// The round, from 0.
    pub(crate) round: u32,
    /// What it has many of.
    pub(crate) dimension: Dimension,
    /// Whose process.
    pub(crate) target: Kind,
    /// How many.
    pub(crate) size: u32,
    /// The memory that it holds resident, in KiB.
    pub(crate) memory: f64,
    /// The processor time that it spends on a query, in microseconds.
    pub(crate) cost: f64,
    /// The milliseconds from its start until it let the first peer in; where it was started for this size.
    pub(crate) start: Option<f64>,
}

/// Looks at all targets at all sizes.
pub(crate) fn measure(
    contests: &[(Dimension, Vec<Kind>)],
    programs: &Programs,
    stop: &Stop,
    results: &mut Results,
) -> Result<()> {
    let (stage, _stub) = stage(programs)?;
    let rounds = results.length.rounds;
    let mut progress = Progress::of(contests.iter().map(|(_, kinds)| kinds.len()).sum(), rounds);
    for round in 0..rounds {
        for (dimension, kinds) in contests {
            for place in order(round, kinds.len()) {
                if stop.is_wanted() {
                    return Ok(());
                }
                let kind = kinds[place];
                let what = format!("round {}/{rounds} {:<8} {:<21}", round + 1, dimension.name(), kind.name());
                match look::look(*dimension, kind, round, &stage) {
                    Ok(points) => {
                        progress.step(&format!("{what} {}", said(&points)));
                        results.points.extend(points);
                    }
                    Err(error) => results.fail(&what, &error),
                }
            }
        }
    }
    Ok(())
}

/// A stage whose database is a stub; the process is that.
fn stage(programs: &Programs) -> Result<(Stage, Process)> {
    let mut stage = Stage::around(Postgres::start(), programs.clone())?;
    let listen = free_address();
    let mut command = owned(std::env::current_exe()?);
    let stub = Process::start("the stub", command.args(["stub", &listen.to_string()]));
    stage.substitute = Some(listen.into());
    Ok((stage, stub))
}

fn said(points: &[Point]) -> String {
    let line: Vec<_> = points.iter().map(|point| (f64::from(point.size), point.memory)).collect();
    let (first, last) = (points.first().map_or(0.0, |point| point.memory), points.last().map_or(0, |point| point.size));
    format!("{first:.0} KiB, and {:.2} each up to {last}", slope(&line).unwrap_or_default())
}

// === impl Dimension ===

impl Dimension {
    /// What the command line and the tables call it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// One of it.
    pub(crate) fn one(self) -> &'static str {
        match self {
            Self::Peers => "peer",
            Self::Clients => "client",
            Self::Proxies => "proxy",
        }
    }

    /// How many are looked at.
    fn sizes(self) -> &'static [u32] {
        match self {
            Self::Peers => &[1, 10, 100, 1000, 10_000],
            Self::Clients => &[1, 10, 50, 100, 200],
            // A configuration has no more.
            Self::Proxies => &[1, 4, 8, 16, 32],
        }
    }

    /// Whose processes are looked at.
    pub(crate) fn field(self) -> Field {
        match self {
            Self::Peers => Field {
                usual: &[Gateway, Passthrough, Transaction, PgbouncerTransaction, Haproxy],
                others: &[Relay, TransactionBefore],
            },
            Self::Clients | Self::Proxies => Field { usual: &[Gateway, Transaction], others: &[TransactionBefore] },
        }
    }
}
