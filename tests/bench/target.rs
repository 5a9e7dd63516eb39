//! What is measured: an address, and the process that listens there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cast::loopback::free_address;
use cast::process::attempt;
use cast::time::comes_true;
use cast::wire::Address;
use cast::{Folder, Process};

use crate::kind::Kind;
use crate::program::command;
use crate::stage::{PASSWORD, Stage};

/// How long a target may take to answer its first query.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many sessions, or what else, a target is set up for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Room {
    /// As many as its defaults allow.
    Default,
    /// So many at once.
    For(u32),
    /// So many connections to the database, all of them kept warm.
    Clients(u32),
    /// As many as its defaults allow, through so many proxies of one gateway.
    Proxies(u32),
}

/// A target that answers queries.
#[derive(Debug)]
pub(crate) struct Target {
    /// Which one.
    pub(crate) kind: Kind,
    /// Where it listens.
    pub(crate) address: Address,
    process: Option<Process>,
    _folder: Folder,
}

// === impl Target ===

impl Target {
    /// Starts it and waits until it has answered a query.
    pub(crate) fn start(kind: Kind, stage: &Stage, room: Room) -> Result<Self> {
        let mut target = Self::launch(kind, stage, room)?;
        target.wait(stage).context("does not start")?;
        Ok(target)
    }

    /// Starts it and waits for nothing.
    pub(crate) fn launch(kind: Kind, stage: &Stage, room: Room) -> Result<Self> {
        let folder = Folder::new(&kind.name());
        let listen = match kind {
            Kind::Direct => stage.postgres.address(),
            Kind::GatewayUnix => Address::Unix(folder.join(".s.PGSQL.5432")),
            _ => free_address().into(),
        };
        let command = command(kind, stage, room, (&listen, &folder))?;
        let process = command.map(|mut command| Process::start(&kind.name(), &mut command));
        Ok(Self { kind, address: listen, process, _folder: folder })
    }

    /// The process that stands between, if one does.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Whether its process, if it has one, still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.ended().is_none())
    }

    /// What its process has written.
    fn lines(&self) -> Vec<String> {
        self.process.as_ref().map(Process::lines).unwrap_or_default()
    }

    fn wait(&mut self, stage: &Stage) -> Result<()> {
        let mut query = stage.postgres.psql_at(&self.address);
        query.args(["-c", "select 1"]).env("PGPASSWORD", PASSWORD);
        let mut outcome = (false, String::new());
        comes_true(PATIENCE, || {
            outcome = attempt(&mut query);
            outcome.0 || !self.runs()
        });
        let said = self.process.as_ref().map(Process::tail).filter(|said| !said.is_empty());
        ensure!(outcome.0, "{}: {}", outcome.1.trim(), said.unwrap_or_else(|| "it said nothing".to_owned()));
        // Until it has found out who takes no writes, HAProxy sends peers there, too.
        let knows = || self.lines().iter().any(|line| line.contains("is DOWN"));
        let is_told_apart = !self.kind.is_haproxy() || stage.standby.is_none() || comes_true(PATIENCE, knows);
        ensure!(is_told_apart, "it takes the standby for a primary");
        Ok(())
    }
}
