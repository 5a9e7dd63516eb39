//! A MariaDB of its own: data folder, socket and address, on this host or on one of a [`Namespace`].

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use crate::folder::Folder;
use crate::install::program;
use crate::loopback::free_address;
use crate::namespace::Namespace;
use crate::process::{Process, attempt, is_root, owned, owned_as, run};
use crate::time::eventually;
use crate::wire::Address;

/// The system's user that MariaDB runs as.
const USER: &str = "mysql";

/// A real MariaDB server.
#[derive(Debug)]
pub struct MariaDb {
    address: SocketAddr,
    _process: Process,
    folder: Folder,
}

// === impl MariaDb ===

impl MariaDb {
    /// A running server with its default settings.
    #[track_caller]
    pub fn start() -> Self {
        let folder = prepare();
        let address = free_address();
        let command = owned_as(USER, program("mariadbd"));
        Self::run(folder, address, command, &[])
    }

    /// A running server on a host of its own, at an address that has a name there.
    #[track_caller]
    pub fn on(host: &Namespace, settings: &[&str]) -> Self {
        let folder = prepare();
        let address = SocketAddr::new(host.ip(), 3306);
        let entering = host.entering();
        let mut command = owned(&entering[0]);
        command.args(&entering[1..]);
        command.args(["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "--pdeathsig", "KILL", "--"]);
        command.arg(program("mariadbd"));
        Self::run(folder, address, command, settings)
    }

    fn run(folder: Folder, address: SocketAddr, mut command: Command, settings: &[&str]) -> Self {
        let at = |name: &str| folder.join(name).display().to_string();
        command.arg("--no-defaults");
        command.arg(format!("--datadir={}", at("data")));
        command.arg(format!("--socket={}", at("mariadb.sock")));
        command.arg(format!("--pid-file={}", at("mariadb.pid")));
        command.arg(format!("--bind-address={}", address.ip()));
        command.arg(format!("--port={}", address.port()));
        command.args([
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=16M",
            "--performance-schema=on",
        ]);
        command.args(settings);
        let process = Process::start("MariaDB", &mut command);
        let mariadb = Self { address, _process: process, folder };
        eventually("MariaDB answers", || attempt(Self::administrator_at(&mariadb.socket()).args(["-e", "select 1"])).0);
        let ip = if address.ip().is_loopback() { "127.%" } else { "%" };
        // Whoever comes over the network is `app`, without a password.
        mariadb.query(&format!("create user app@'{ip}'; grant all on *.* to app@'{ip}'; create user app@localhost; grant all on *.* to app@localhost"));
        mariadb
    }

    /// Its TCP address.
    pub fn address(&self) -> Address {
        self.address.into()
    }

    /// Its Unix socket.
    pub fn socket(&self) -> Address {
        Address::Unix(self.folder.join("mariadb.sock"))
    }

    /// The arguments by which MariaDB's programs reach `address`.
    pub fn reaching(address: &Address) -> Vec<String> {
        match address {
            Address::Tcp(address) => {
                vec![
                    format!("--host={}", address.ip()),
                    format!("--port={}", address.port()),
                    "--protocol=tcp".to_owned(),
                ]
            }
            Address::Unix(path) => vec![format!("--socket={}", path.display()), "--protocol=socket".to_owned()],
        }
    }

    /// The client program as the administrator.
    fn administrator_at(address: &Address) -> Command {
        let mut command = Command::new(program("mariadb"));
        command.args(["--no-defaults", "--skip-ssl", "--batch", "--skip-column-names", "--user=root"]);
        command.args(Self::reaching(address));
        command
    }

    /// The client program as the application's user, connecting to `address`; add `-e` and a statement.
    pub fn app_at(address: &Address) -> Command {
        let mut command = Command::new(program("mariadb"));
        command.args([
            "--no-defaults",
            "--skip-ssl",
            "--batch",
            "--skip-column-names",
            "--user=app",
            "--connect-timeout=30",
        ]);
        command.args(Self::reaching(address));
        command
    }

    /// Asks the server itself, as its administrator.
    #[track_caller]
    pub fn query(&self, sql: &str) -> String {
        run(Self::administrator_at(&self.socket()).args(["-e", sql])).trim().to_owned()
    }

    /// How many connections from `ip` it remembers as broken; at `max_connect_errors` it blocks the host.
    pub fn connect_errors(&self, ip: IpAddr) -> u64 {
        let sql = format!("select sum_connect_errors from performance_schema.host_cache where ip = '{ip}'");
        self.query(&sql).parse().unwrap_or(0)
    }
}

fn prepare() -> Folder {
    let folder = Folder::new("my");
    let data = folder.join("data");
    fs::create_dir(&data).expect("our folder is writable");
    let mut install = Command::new(program("mariadb-install-db"));
    install.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
    if is_root() {
        run(Command::new("chown").arg("-R").arg(format!("{USER}:{USER}")).arg(&*folder));
        install.arg(format!("--user={USER}"));
    }
    run(install.arg(format!("--datadir={}", data.display())));
    folder
}
