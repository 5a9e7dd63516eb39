//! A Redis of its own.

use std::net::SocketAddr;
use std::process::Command;

use crate::folder::Folder;
use crate::install::program;
use crate::loopback::free_address;
use crate::process::{Process, attempt, owned, run};
use crate::time::eventually;
use crate::wire::Address;

/// A real Redis server, at a TCP address and a Unix socket.
#[derive(Debug)]
pub struct Redis {
    address: SocketAddr,
    _process: Process,
    folder: Folder,
}

// === impl Redis ===

impl Redis {
    /// A running server.
    #[track_caller]
    pub fn start() -> Self {
        let folder = Folder::new("redis");
        let address = free_address();
        let mut command = owned(program("redis-server"));
        command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string(), "--save", ""]);
        command.arg("--unixsocket").arg(folder.join("redis.sock")).args(["--unixsocketperm", "777"]);
        let process = Process::start("Redis", command.current_dir(&*folder));
        let redis = Self { address, _process: process, folder };
        eventually("Redis answers", || attempt(Self::cli(&redis.address()).arg("ping")).1.trim() == "PONG");
        redis
    }

    /// Its TCP address.
    pub fn address(&self) -> Address {
        self.address.into()
    }

    /// Its Unix socket.
    pub fn socket(&self) -> Address {
        Address::Unix(self.folder.join("redis.sock"))
    }

    /// A `redis-cli` for `address`; add a command.
    pub fn cli(address: &Address) -> Command {
        Self::tool("redis-cli", address)
    }

    /// A `redis-benchmark` for `address`.
    pub fn benchmark(address: &Address) -> Command {
        Self::tool("redis-benchmark", address)
    }

    /// How many connections the server has taken in its life.
    #[track_caller]
    pub fn connections(&self) -> u64 {
        let info = run(Self::cli(&self.address()).args(["info", "stats"]));
        let line = info.lines().find_map(|line| line.trim().strip_prefix("total_connections_received:"));
        line.and_then(|number| number.parse().ok()).expect("Redis counts its connections")
    }

    fn tool(name: &str, address: &Address) -> Command {
        let mut command = Command::new(program(name));
        match address {
            Address::Tcp(address) => command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]),
            Address::Unix(path) => command.arg("-s").arg(path),
        };
        command
    }
}
