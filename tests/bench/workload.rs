//! The workloads: what runs through a target for some seconds, and how it is counted.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cast::process::{attempt, owned};
use cast::time::Stopwatch;
use cast::wire::Address;
use clap::ValueEnum as _;

use crate::idle::MANY;
use crate::kind::Kind;
use crate::session::Session;
use crate::stage::{PASSWORD, Stage};
use crate::suite::Suite;
use crate::target::{Room, Target};
use crate::usage::CpuClock;

/// A million accounts: 150 MB, which stay in the database's memory.
const SCALE: &str = "10";

/// A result of 200 MB: 200,000 messages of 1 kB.
const COPY: &str = "copy (select repeat('x', 1000) from generate_series(1, 200000)) to stdout";

/// Large, so that the reader is not what limits.
pub(crate) const COPY_BUFFER: usize = 1 << 20;

/// The busy ones of a crowd.
pub(crate) const BUSY: u16 = 64;

/// The same without the others.
pub(crate) const ALONE: Workload = Workload::Select { prepared: false, clients: BUSY };

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// pgbench's select-only transactions on so many connections.
    Select {
        /// As prepared statements, or parsed each time.
        prepared: bool,
        /// How many connections.
        clients: u16,
    },
    /// The same on [`BUSY`] connections, simple, beside [`MANY`] that are idle.
    Crowd,
    /// The same with a new connection for each transaction, on eight at once.
    Connect,
    /// Results of 200 MB, one after the other on one connection, read from the bare socket.
    Copy,
}

/// What a run has yielded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Yield {
    /// Transactions, or megabytes, per second.
    pub(crate) rate: f64,
    /// The processor time of the target's process: milliseconds per 1000 transactions, or per gigabyte.
    pub(crate) cost: Option<f64>,
}

// === impl Workload ===

impl Workload {
    /// All.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (workload, _) in Suite::value_variants().iter().flat_map(|suite| suite.contests()) {
            if !all.contains(&workload) {
                all.push(workload);
            }
        }
        all
    }

    /// The unit of its rate.
    pub(crate) fn unit(self) -> &'static str {
        if self == Self::Copy { "MB/s" } else { "tps" }
    }

    /// What its cost is counted for.
    pub(crate) fn thousand(self) -> &'static str {
        if self == Self::Copy { "GB" } else { "1000" }
    }

    /// Runs it on `target` and counts the processor time that the target's process spends meanwhile.
    pub(crate) fn run(self, target: &Target, stage: &Stage, seconds: u32) -> Result<Yield> {
        let idle = if self == Self::Crowd { Session::several(MANY, &target.address)? } else { Vec::new() };
        let before = target.pid().map(CpuClock::of).transpose()?;
        let (work, rate) = match self {
            Self::Select { prepared, clients } => {
                let mode = if prepared { "prepared" } else { "simple" };
                pgbench(stage, &target.address, &[&format!("-M{mode}"), &format!("-c{clients}")], seconds)?
            }
            Self::Crowd => pgbench(stage, &target.address, &["-Msimple", &format!("-c{BUSY}")], seconds)?,
            Self::Connect => pgbench(stage, &target.address, &["-C", "-c8"], seconds)?,
            Self::Copy => copy(&target.address, seconds)?,
        };
        let after = target.pid().map(CpuClock::of).transpose()?;
        idle.into_iter().for_each(Session::close);
        let spent = before.zip(after).map(|(before, after)| after.since(&before));
        Ok(Yield { rate, cost: spent.map(|spent| spent.as_secs_f64() * 1000.0 / (work / 1000.0)) })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Select { prepared: false, clients } => write!(f, "simple:{clients}"),
            Self::Select { prepared: true, clients } => write!(f, "prepared:{clients}"),
            Self::Crowd => f.write_str("crowd"),
            Self::Connect => f.write_str("connect"),
            Self::Copy => f.write_str("copy"),
        }
    }
}

/// Fills the database and takes it through a first run, so that the first round is like the others.
pub(crate) fn fill(stage: &Stage) -> Result<()> {
    run(&stage.postgres.pgbench_at(&stage.postgres.socket()), &["-i", "-q", "-s", SCALE], Duration::from_mins(5))?;
    stage.postgres.query("vacuum (freeze, analyze) pgbench_accounts");
    stage.postgres.query("checkpoint");
    let direct = Target::start(Kind::Direct, stage, Room::Default)?;
    Workload::Select { prepared: false, clients: 8 }.run(&direct, stage, 2).map(drop)
}

/// Transactions, and transactions per second.
fn pgbench(stage: &Stage, address: &Address, options: &[&str], seconds: u32) -> Result<(f64, f64)> {
    let cpus = std::thread::available_parallelism()?.get();
    let clients = options.iter().find_map(|option| option.strip_prefix("-c")).and_then(|number| number.parse().ok());
    let jobs = format!("-j{}", clients.unwrap_or(1).min(cpus));
    let time = format!("-T{seconds}");
    let limit = Duration::from_secs(u64::from(seconds) * 2 + 20);
    let words = [&["-n", "-S", &jobs, &time], options].concat();
    let output = run(&stage.postgres.pgbench_at(address), &words, limit)?;
    let number = |start: &str| {
        let rest = output.lines().find_map(|line| line.strip_prefix(start))?;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    let transactions = number("number of transactions actually processed: ").context("pgbench counts transactions")?;
    ensure!(transactions > 0.0, "pgbench finished no transaction");
    Ok((transactions, number("tps = ").context("pgbench tells its rate")?))
}

/// Megabytes, and megabytes per second.
fn copy(address: &Address, seconds: u32) -> Result<(f64, f64)> {
    let mut session = Session::open(address, COPY_BUFFER)?;
    let limit = Duration::from_secs(seconds.into());
    let watch = Stopwatch::start();
    let mut megabytes = 0.0;
    while watch.elapsed() < limit {
        #[expect(clippy::cast_precision_loss, reason = "a result of 200 MB")]
        let bytes = session.query(COPY)? as f64;
        megabytes += bytes / 1e6;
    }
    let elapsed = watch.elapsed();
    session.close();
    Ok((megabytes, megabytes / elapsed.as_secs_f64()))
}

/// Runs a program of PostgreSQL's with further options; ends it after `limit`, or when we end.
fn run(command: &Command, options: &[&str], limit: Duration) -> Result<String> {
    let mut guarded = owned("timeout");
    guarded.args(["--foreground", "--signal=KILL", &limit.as_secs().to_string()]);
    guarded.args(["setpriv", "--pdeathsig", "KILL", "--"]);
    guarded.arg(command.get_program()).args(options).args(command.get_args());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        guarded.env_remove(name);
    }
    guarded.envs([
        ("PGPASSWORD", PASSWORD),
        ("PGSSLMODE", "disable"),
        ("PGGSSENCMODE", "disable"),
        ("PGCONNECT_TIMEOUT", "30"),
    ]);
    let (ok, output) = attempt(&mut guarded);
    let last = output.lines().rev().find(|line| line.contains("error")).or(output.lines().next_back());
    ensure!(ok, "{}", last.unwrap_or("it did not end in time"));
    Ok(output)
}
