//! How a target is started: its program, and the file that it reads.

mod haproxy;
mod manifest;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cast::process::{attempt, owned, owned_as};
use cast::wire::Address;
use cast::{Folder, install};
use serde_json::Value;

use crate::kind::Kind;
use crate::program::haproxy::haproxy;
use crate::program::manifest::manifest;
use crate::stage::Stage;
use crate::target::Room;

/// How many clients a pool has that lends them again.
const POOL: u32 = 20;

/// How many peers such a pool is there for, unless there shall be room for more.
const PEERS: u32 = 4000;

/// How many prepared statements PgBouncer keeps on a connection; the gateway does as many.
const STATEMENTS: u32 = 200;

/// What starts a target that listens at an address and may put files into a folder; the database needs nothing.
pub(crate) fn command(
    kind: Kind,
    stage: &Stage,
    room: Room,
    (listen, folder): (&Address, &Folder),
) -> Result<Option<Command>> {
    let databases = stage.addresses();
    let programs = &stage.programs;
    let file = folder.join("config");
    let (text, mut command) = match kind {
        Kind::Direct => return Ok(None),
        Kind::Relay | Kind::RelayAgain => {
            let mut command = owned(std::env::current_exe()?);
            command.args(["relay", &listen.to_string(), &databases[0].to_string()]);
            return Ok(Some(command));
        }
        kind if kind.is_haproxy() => {
            let program = install::find("haproxy").context("haproxy is not installed")?;
            (haproxy(kind, room.peers(), listen, &databases), with(owned(program), &["-db", "-f"]))
        }
        kind if kind.is_pgbouncer() => {
            let text = pgbouncer(kind, listen, &databases[0], (stage, room, folder))?;
            (text, bouncing(programs.pgbouncer.as_deref(), folder)?)
        }
        kind => {
            let program = if kind.is_before() { &programs.before } else { &programs.gateway };
            let databases = if kind == Kind::GatewayUnix { vec![stage.postgres.socket()] } else { databases };
            (manifest(kind, listen, &databases, room), gateway(program.as_deref(), &stage.secrets)?)
        }
    };
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    command.arg(file);
    Ok(Some(command))
}

/// Why this build of the gateway does not serve a target, if it says so itself.
pub(crate) fn refusal(kind: Kind, program: &Path) -> Option<String> {
    let folder = Folder::new("check");
    let file = folder.join("config");
    let at = |port: u16| Address::Tcp(([127, 0, 0, 1], port).into());
    fs::write(&file, manifest(kind, &at(6432), &[at(5432)], Room::Default)).ok()?;
    let (_, said) = attempt(Command::new(program).args(["check", "--output", "json", "--file"]).arg(file));
    let said: Value = serde_json::from_str(&said).ok()?;
    let problem = said["problems"].get(0)?;
    Some(format!("{}: {}", problem["path"].as_str()?, problem["message"].as_str()?))
}

fn gateway(program: Option<&Path>, secrets: &Path) -> Result<Command> {
    let program = program.context("no program was named")?;
    ensure!(program.is_file(), "there is no {}", program.display());
    Ok(with(owned(program), &["run", "--secrets", &secrets.display().to_string(), "-f"]))
}

/// It refuses to run as root, and another user may have no way to where it was built.
fn bouncing(program: Option<&Path>, folder: &Folder) -> Result<Command> {
    let copy: PathBuf = folder.join("pgbouncer");
    fs::copy(program.context("there is no PgBouncer")?, &copy).context("cannot copy PgBouncer")?;
    Ok(owned_as("postgres", copy))
}

fn with(mut command: Command, words: &[&str]) -> Command {
    command.args(words);
    command
}

// === impl Room ===

impl Room {
    /// How many peers may come.
    fn peers(self) -> u32 {
        if let Self::For(sessions) = self { sessions.max(PEERS) } else { PEERS }
    }
}

fn pgbouncer(
    kind: Kind,
    listen: &Address,
    database: &Address,
    (stage, room, folder): (&Stage, Room, &Folder),
) -> Result<String> {
    let split =
        |address: &Address| address.to_string().rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned()));
    let (host, port) = split(listen).context("PgBouncer listens on TCP")?;
    let (database_host, database_port) = split(database).context("PgBouncer dials TCP")?;
    let lending = match kind {
        Kind::Pgbouncer => "pool_mode = session\ndefault_pool_size = 1100\n".to_owned(),
        Kind::PgbouncerTuned => {
            format!("pool_mode = transaction\ndefault_pool_size = {POOL}\nserver_login_retry = 1\n")
        }
        _ => format!("pool_mode = transaction\ndefault_pool_size = {POOL}\nmax_prepared_statements = {STATEMENTS}\n"),
    };
    let asking = if kind == Kind::PgbouncerScram {
        let users = folder.join("users");
        // What the database knows of the password, so that it has no keys to derive.
        fs::write(&users, format!("\"postgres\" \"{}\"\n", stage.verifier))?;
        format!("auth_type = scram-sha-256\nauth_file = {}\n", users.display())
    } else {
        "auth_type = any\n".to_owned()
    };
    Ok(format!(
        "[databases]\n\
         postgres = host={database_host} port={database_port} user=postgres\n\
         [pgbouncer]\n\
         listen_addr = {host}\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         {asking}{lending}\
         max_client_conn = {}\n\
         log_connections = 0\n\
         log_disconnections = 0\n",
        room.peers()
    ))
}
