//! What is measured: an address, and the process that listens there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cast::loopback::free_address;
use cast::process::{owned, owned_as};
use cast::time::comes_true;
use cast::wire::Address;
use cast::{Folder, Manifest, Postgres, Process, Proxy, install};
use clap::ValueEnum;

use crate::session::Session;

/// How long a target may take to answer its first query.
const PATIENCE: Duration = Duration::from_secs(15);

/// The targets by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The database itself, over TCP: what ratios refer to.
    Direct,
    /// The minimal relay.
    Relay,
    /// The minimal relay a second time: what two runs of the same program differ by.
    RelayAgain,
    /// The gateway over TCP.
    Gateway,
    /// The gateway with Unix sockets on both sides.
    GatewayUnix,
    /// Another build of the gateway.
    Before,
    /// Debian's pgbouncer, in session mode.
    Pgbouncer,
    /// Debian's haproxy, for TCP.
    Haproxy,
}

/// How many sessions a target is set up for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Room {
    /// As many as its defaults allow.
    Default,
    /// So many at once.
    For(u32),
}

/// What targets are started with.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    /// The database.
    pub(crate) postgres: &'a Postgres,
    /// The gateway's program.
    pub(crate) gateway: Option<PathBuf>,
    /// The other build's.
    pub(crate) before: Option<PathBuf>,
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

// === impl Kind ===

impl Kind {
    /// All, in the order of the tables.
    pub(crate) const ALL: [Self; 8] = [
        Self::Direct,
        Self::Relay,
        Self::RelayAgain,
        Self::Gateway,
        Self::GatewayUnix,
        Self::Before,
        Self::Pgbouncer,
        Self::Haproxy,
    ];

    /// What the tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::RelayAgain => "relay-again",
            Self::Gateway => "gateway",
            Self::GatewayUnix => "gateway-unix",
            Self::Before => "before",
            Self::Pgbouncer => "pgbouncer",
            Self::Haproxy => "haproxy",
        }
    }

    /// Whether it needs the gateway's program.
    pub(crate) fn is_gateway(self) -> bool {
        matches!(self, Self::Gateway | Self::GatewayUnix)
    }

    /// Whether its program is there.
    pub(crate) fn is_installed(self) -> bool {
        !matches!(self, Self::Pgbouncer | Self::Haproxy) || install::find(self.name()).is_some()
    }
}

// === impl Target ===

impl Target {
    /// Starts it and waits until it has answered a query.
    pub(crate) fn start(kind: Kind, stage: &Stage<'_>, room: Room) -> Result<Self> {
        let folder = Folder::new(kind.name());
        let listen = match kind {
            Kind::Direct => stage.postgres.address(),
            Kind::GatewayUnix => Address::Unix(folder.join(".s.PGSQL.5432")),
            _ => free_address().into(),
        };
        let command = command(kind, stage, room, (&listen, &folder))?;
        let process = command.map(|mut command| Process::start(kind.name(), &mut command));
        let mut target = Self { kind, address: listen, process, _folder: folder };
        target.wait().context("does not start")?;
        Ok(target)
    }

    /// The process that stands between, if one does.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Whether its process, if it has one, still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.ended().is_none())
    }

    fn wait(&mut self) -> Result<()> {
        let mut outcome = Ok(0);
        comes_true(PATIENCE, || {
            outcome = Session::open(&self.address, 1024).and_then(|mut session| session.query("select 1"));
            outcome.is_ok() || !self.runs()
        });
        let said = self.process.as_ref().map(Process::tail).filter(|said| !said.is_empty());
        outcome.map(drop).with_context(|| said.unwrap_or_else(|| "it said nothing".to_owned()))
    }
}

fn command(
    kind: Kind,
    stage: &Stage<'_>,
    room: Room,
    (listen, folder): (&Address, &Folder),
) -> Result<Option<Command>> {
    let database = stage.postgres.address();
    let file = folder.join("config");
    let program = || install::find(kind.name()).with_context(|| format!("{} is not installed", kind.name()));
    let (text, command) = match kind {
        Kind::Direct => return Ok(None),
        Kind::Relay | Kind::RelayAgain => {
            let mut command = owned(std::env::current_exe()?);
            command.args(["relay", &listen.to_string(), &database.to_string()]);
            return Ok(Some(command));
        }
        Kind::Gateway => (manifest(listen, &database, room), gateway(stage.gateway.as_ref())?),
        Kind::Before => (manifest(listen, &database, room), gateway(stage.before.as_ref())?),
        Kind::GatewayUnix => (manifest(listen, &stage.postgres.socket(), room), gateway(stage.gateway.as_ref())?),
        // It refuses to run as root.
        Kind::Pgbouncer => (pgbouncer(listen, &database)?, owned_as("postgres", program()?)),
        Kind::Haproxy => (haproxy(listen, &database), with(owned(program()?), &["-db", "-f"])),
    };
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = command;
    command.arg(file);
    Ok(Some(command))
}

fn gateway(program: Option<&PathBuf>) -> Result<Command> {
    let program = program.context("no program was named")?;
    ensure!(program.is_file(), "there is no {}", program.display());
    Ok(with(owned(program), &["run", "-f"]))
}

fn with(mut command: Command, words: &[&str]) -> Command {
    command.args(words);
    command
}

/// The defaults, but for the number of sessions.
fn manifest(listen: &Address, database: &Address, room: Room) -> String {
    let proxy = Proxy::to(database).listening_on(listen);
    let proxy = match room {
        Room::Default => proxy,
        Room::For(sessions) => proxy.set("pool.size", sessions).set("server.maxPeers", sessions),
    };
    Manifest::from(proxy).text()
}

fn pgbouncer(listen: &Address, database: &Address) -> Result<String> {
    let split =
        |address: &Address| address.to_string().rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned()));
    let (host, port) = split(listen).context("pgbouncer listens on TCP")?;
    let (database_host, database_port) = split(database).context("pgbouncer dials TCP")?;
    Ok(format!(
        "[databases]\n\
         postgres = host={database_host} port={database_port} user=postgres\n\
         [pgbouncer]\n\
         listen_addr = {host}\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = any\n\
         pool_mode = session\n\
         default_pool_size = 1100\n\
         max_client_conn = 4000\n\
         log_connections = 0\n\
         log_disconnections = 0\n"
    ))
}

fn haproxy(listen: &Address, database: &Address) -> String {
    format!(
        "global\n    maxconn 4000\n\
         defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n\
         listen postgres\n    bind {listen}\n    server postgres {database}\n"
    )
}
