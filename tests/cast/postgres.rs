//! A PostgreSQL of its own: data folder, socket folder and address.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::editions::Edition;
use crate::folder::Folder;
use crate::install::program;
use crate::loopback::free_address;
use crate::process::{Process, attempt, is_root, owned_as, run};
use crate::time::eventually;
use crate::wire::Address;

mod standby;
mod frozen;

pub use frozen::Frozen;

/// The system's user that the databases of the cast run as.
pub(crate) const USER: &str = "postgres";

/// A real PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    /// None: the newest that the system has.
    edition: Option<Edition>,
    address: SocketAddr,
    settings: String,
    /// The command that enters the network in which it listens.
    entering: Vec<String>,
    process: Option<Process>,
    folder: Folder,
}

// === impl Postgres ===

impl Postgres {
    /// A running server with its default settings, except that it does not wait for the disk.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// The same with further settings, as in `postgresql.conf`.
    #[track_caller]
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::at(free_address(), settings)
    }

    /// The same at an address of one's choice.
    #[track_caller]
    pub fn at(address: SocketAddr, settings: &[(&str, &str)]) -> Self {
        Self::inside(Vec::new(), address, settings)
    }

    /// The same of one version, whichever the environment names.
    #[track_caller]
    pub fn of(edition: Edition, settings: &[(&str, &str)]) -> Self {
        Self::of_at(edition, free_address(), settings)
    }

    /// The same at an address of one's choice.
    #[track_caller]
    pub fn of_at(edition: Edition, address: SocketAddr, settings: &[(&str, &str)]) -> Self {
        Self::create(Some(edition), Vec::new(), address, settings)
    }

    /// The same of the system's own version, whichever the environment names: for programs that go with no other.
    #[track_caller]
    pub fn of_the_system(settings: &[(&str, &str)]) -> Self {
        Self::create(None, Vec::new(), free_address(), settings)
    }

    /// The same in another network, which the command `entering` enters; whoever reaches it there needs no password.
    #[track_caller]
    pub fn inside(entering: Vec<String>, address: SocketAddr, settings: &[(&str, &str)]) -> Self {
        Self::create(Edition::chosen(), entering, address, settings)
    }

    #[track_caller]
    fn create(edition: Option<Edition>, entering: Vec<String>, address: SocketAddr, settings: &[(&str, &str)]) -> Self {
        let mut postgres = Self::prepared(edition, address);
        let data = postgres.folder.join("data");
        let mut initdb = owned_as(USER, program_of(edition, "initdb"));
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"]);
        run(initdb.arg(&data).current_dir(&*postgres.folder));
        if !entering.is_empty() {
            let everybody = "local all all trust\nhost all all all trust\nhost replication all all trust\n";
            fs::write(data.join("pg_hba.conf"), everybody).expect("our folder is writable");
        }
        postgres.settings = settings.iter().fold(String::new(), |mut text, (name, value)| {
            let _ = writeln!(text, "{name} = '{value}'");
            text
        });
        postgres.entering = entering;
        postgres.start_again();
        postgres
    }

    /// One with an empty data folder.
    #[track_caller]
    fn prepared(edition: Option<Edition>, address: SocketAddr) -> Self {
        let folder = Folder::new("pg");
        let data = folder.join("data");
        fs::create_dir(&data).expect("our folder is writable");
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("our folder is ours");
        own(&folder);
        own(&data);
        Self { edition, address, settings: String::new(), entering: Vec::new(), process: None, folder }
    }

    /// Its TCP address.
    pub fn address(&self) -> Address {
        self.address.into()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its process id while it runs, else 0.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    /// Whether its process runs.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Its Unix socket.
    pub fn socket(&self) -> Address {
        Address::Unix(self.folder.join(format!(".s.PGSQL.{}", self.port())))
    }

    /// Starts it after a stop and waits until it answers.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.launch();
        eventually("PostgreSQL answers", || self.answers());
    }

    /// Starts it after a stop and waits for nothing.
    #[track_caller]
    pub fn launch(&mut self) {
        let mut command = behind(&self.entering, owned_as(USER, program_of(self.edition, "postgres")));
        command.current_dir(&*self.folder).arg("-D").arg(self.folder.join("data"));
        fs::write(
            self.folder.join("data/postgresql.auto.conf"),
            format!(
                "listen_addresses = '{}'\nport = {}\nunix_socket_directories = '{}'\nfsync = off\n{}",
                self.address.ip(),
                self.port(),
                self.folder.display(),
                self.settings
            ),
        )
        .expect("our folder is writable");
        self.process = Some(Process::start("PostgreSQL", &mut command));
    }

    /// Lets in whom `rules` let in, as the lines of `pg_hba.conf` say; its own socket stays open to the cast.
    #[track_caller]
    pub fn admit(&self, rules: &[&str]) {
        let text = format!("local all postgres trust\n{}\n", rules.join("\n"));
        fs::write(self.folder.join("data/pg_hba.conf"), text).expect("our folder is writable");
        // A new session has the time from the process that lets it in, which reads the rules right after it has set that.
        let read = || self.query("select pg_conf_load_time()");
        let before = read();
        self.query("select pg_reload_conf()");
        eventually("PostgreSQL has read its rules", || read() != before);
    }

    /// Whether it answers a query.
    pub fn answers(&self) -> bool {
        let (ok, _) = attempt(self.psql_at(&self.socket()).args(["-c", "select 1"]));
        ok
    }

    /// Stops it as an administrator does: sessions end, all is written (`fast`).
    #[track_caller]
    pub fn stop(&mut self) {
        self.end(Signal::INT);
    }

    /// Stops it without tidying up (`immediate`).
    #[track_caller]
    pub fn stop_immediately(&mut self) {
        self.end(Signal::QUIT);
    }

    /// Kills it, as a machine that loses its power does.
    #[track_caller]
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
        // The next start looks whether a process with the old id still runs.
        let _ = fs::remove_file(self.folder.join("data/postmaster.pid"));
    }

    #[track_caller]
    fn end(&mut self, signal: Signal) {
        let Some(mut process) = self.process.take() else { return };
        process.signal(signal);
        process.wait(Duration::from_secs(30));
    }

    /// A `psql` that connects to `address`: quiet, unaligned, stopping at the first error; add `-c` and a query.
    pub fn psql_at(&self, address: &Address) -> Command {
        let mut command = psql(address);
        command.args(["-U", "postgres", "-d", "postgres"]);
        command
    }

    /// Asks the server itself and returns the answer.
    #[track_caller]
    pub fn query(&self, sql: &str) -> String {
        run(self.psql_at(&self.socket()).args(["-c", sql])).trim().to_owned()
    }

    /// What it has logged.
    pub fn log(&self) -> Vec<String> {
        self.process.as_ref().map(Process::lines).unwrap_or_default()
    }

    /// A `pgbench` that connects to `address`.
    pub fn pgbench_at(&self, address: &Address) -> Command {
        let mut command = Command::new(program("pgbench"));
        let (host, port) = host_and_port(address);
        command.args(["-U", "postgres", "-h", &host, "-p", &port]).env("PGCONNECT_TIMEOUT", "30").arg("postgres");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            // Its children hold the data folder until they have noticed; an immediate end takes them along.
            process.signal(Signal::QUIT);
            if !std::thread::panicking() {
                let process = self.process.as_mut().expect("it was there a line above");
                crate::time::comes_true(Duration::from_secs(5), || process.ended().is_some());
            }
        }
    }
}

/// A program of `edition`, or of the newest that the system has.
#[track_caller]
fn program_of(edition: Option<Edition>, name: &str) -> PathBuf {
    edition.map_or_else(|| program(name), |edition| edition.program(name))
}

/// A `psql` for `address`.
pub fn psql(address: &Address) -> Command {
    let (host, port) = host_and_port(address);
    let mut command = Command::new(program("psql"));
    command.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", &host, "-p", &port]);
    command.env("PGCONNECT_TIMEOUT", "60");
    command
}

/// The host and port by which PostgreSQL's programs reach `address`.
fn host_and_port(address: &Address) -> (String, String) {
    match address {
        Address::Tcp(address) => (address.ip().to_string(), address.port().to_string()),
        Address::Unix(path) => {
            let port = path.extension().expect("PostgreSQL's sockets end with the port").to_string_lossy();
            (folder_of(path).display().to_string(), port.into_owned())
        }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().expect("a socket lies in a folder").to_owned()
}

/// `command` with another one before it, which ends by becoming it.
fn behind(entering: &[String], command: Command) -> Command {
    let Some((program, arguments)) = entering.split_first() else { return command };
    let mut entered = Command::new(program);
    entered.args(arguments).arg(command.get_program()).args(command.get_args());
    entered
}

/// Gives a folder to the user that the database runs as.
fn own(folder: &Path) {
    if is_root() {
        run(Command::new("chown").arg(format!("{USER}:{USER}")).arg(folder));
    }
}
