//! A gateway that logs in to a real database, and psql at its console.

use std::process::Command;

use cast::frontend::V3_0;
use cast::process::{attempt, run};
use cast::time::comes_true;
use cast::wire::Address;
use cast::{Folder, Frontend, Gateway, Manifest, Postgres, Proxy};
use serde_json::Value;
use std::time::Duration;

/// The name and password of everybody's login.
pub(crate) const PASSWORD: &str = "xyzzy-planted";

/// What is on stage.
pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) postgres: Postgres,
    _secrets: Folder,
}

/// How long a change may take until it is told.
const PATIENCE: Duration = Duration::from_secs(30);

impl Stage {
    /// With one proxy, as `more` makes it.
    #[track_caller]
    pub(crate) fn of(mode: &str, with: impl Fn(Proxy) -> Proxy) -> Stage {
        let postgres = Postgres::start();
        let proxy = with(managed(&postgres.address(), mode));
        Self::with(postgres, Manifest::of([proxy]))
    }

    /// With this manifest, whose Secrets have the database's login.
    #[track_caller]
    pub(crate) fn with(postgres: Postgres, manifest: impl Into<Manifest>) -> Stage {
        let secrets = Folder::new("secrets");
        std::fs::create_dir(secrets.join("app")).unwrap();
        std::fs::write(secrets.join("app/username"), "postgres").unwrap();
        std::fs::write(secrets.join("app/password"), PASSWORD).unwrap();
        let folder = secrets.display().to_string();
        let gateway = Gateway::with(manifest).told(&["--secrets", &folder]).start();
        Stage { gateway, postgres, _secrets: secrets }
    }

    pub(crate) fn address(&self) -> Address {
        self.gateway.address()
    }

    /// A psql at the console.
    pub(crate) fn psql(&self) -> Command {
        psql(&self.address(), "postern")
    }

    /// What psql prints for a command of the console, which must succeed.
    #[track_caller]
    pub(crate) fn console(&self, command: &str) -> String {
        run(self.psql().args(["-c", command])).trim_end().to_owned()
    }

    /// The SQLSTATE and the words with which a command is refused.
    #[track_caller]
    pub(crate) fn refusal(&self, command: &str) -> String {
        let (is_done, said) = attempt(self.psql().args(["-v", "VERBOSITY=verbose", "-c", command]));
        assert!(!is_done, "{command} is not refused: {said}");
        said
    }

    /// The rows of a table, each with its columns by name.
    #[track_caller]
    pub(crate) fn rows(&self, show: &str) -> Vec<Row> {
        let mut psql = self.psql();
        psql.args(["-P", "tuples_only=off", "-P", "footer=off", "-P", "null=-", "-c", &format!("SHOW {show}")]);
        let told = run(&mut psql);
        let mut lines = told.lines().map(|line| line.split('|').map(str::to_owned).collect::<Vec<_>>());
        let names = lines.next().unwrap_or_default();
        lines.map(|values| Row(names.iter().cloned().zip(values).collect())).collect()
    }

    /// A session at the database.
    #[track_caller]
    pub(crate) fn peer(&self) -> Frontend {
        Frontend::login(&self.address())
    }

    /// A session at the console, and the key that cancels what it asks.
    #[track_caller]
    pub(crate) fn talk(&self) -> (Frontend, Vec<u8>) {
        let who = [("user", "postgres"), ("database", "postern")];
        let (peer, welcome) = Frontend::login_as(&self.address(), V3_0, &who);
        let key = welcome.iter().find(|message| message.tag == b'K').unwrap();
        (peer, key.body.clone())
    }

    /// Waits until `is_so` of what `/state` tells of the proxy.
    #[track_caller]
    pub(crate) fn told(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let reached = comes_true(PATIENCE, || {
            last = self.gateway.state()["proxies"][0].take();
            is_so(&last)
        });
        assert!(reached, "never told that {what}: {last:#}");
        last
    }
}

/// A row of a table, by the names of its columns.
#[derive(Debug)]
pub(crate) struct Row(Vec<(String, String)>);

impl Row {
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or_else(|| panic!("there is no column {name}: {self:?}"), |(_, value)| value.as_str())
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// A proxy for which the gateway logs in.
pub(crate) fn managed(database: &Address, mode: &str) -> Proxy {
    let proxy = Proxy::to(database).set("protocol", "postgres").set("pool.mode", mode);
    proxy.set("client.auth.secretName", "app").set("client.auth.database", "postgres")
}

/// A psql that asks for this database.
pub(crate) fn psql(address: &Address, database: &str) -> Command {
    let mut command = cast::postgres::psql(address);
    command.args(["-U", "postgres", "-d", database]);
    command
}
