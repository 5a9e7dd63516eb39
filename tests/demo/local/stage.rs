//! The stage: the database, the gateway with its file, the application, and what is told of them while time passes.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use cast::time::pause;
use cast::wire::Address;
use cast::{Folder, Gateway, Postgres, Stopwatch};
use serde_json::Value;

use super::app::App;
use crate::screen::Screen;

/// How often the status is renewed.
const GLANCE: Duration = Duration::from_millis(200);

/// Everything that the story needs.
pub(crate) struct Stage<'a> {
    pub(crate) screen: &'a Screen,
    pub(crate) app: App,
    pub(crate) gateway: Gateway,
    pub(crate) postgres: Postgres,
    pub(crate) manifest: String,
    log_seen: usize,
    _secrets: Folder,
}

// === impl Stage ===

impl<'a> Stage<'a> {
    /// Starts all of it.
    pub(crate) fn set(screen: &'a Screen) -> Result<Self> {
        screen.check()?;
        let postgres = Postgres::at(free_port(), &[]);
        let version = postgres.query("show server_version");
        postgres.query("create table visits (id text primary key)");
        screen.event("database", &format!("PostgreSQL {version} listens on {}", postgres.address()));
        screen.check()?;
        let manifest = manifest(&postgres.address());
        let secrets = secrets()?;
        let gateway = Gateway::with_text(&manifest).told(&["--secrets", &secrets.display().to_string()]).start();
        screen.event("gateway", &format!("listens on {} and passes on to PostgreSQL", gateway.address_of("shop")));
        screen.event("gateway", &format!("tells how it is on http://{}/metrics", gateway.admin()));
        let app = App::start(&gateway.address_of("shop"));
        screen.event("application", "4 workers connect, write, read and leave; one more keeps its connection");
        Ok(Self { screen, app, gateway, postgres, manifest, log_seen: 0, _secrets: secrets })
    }

    /// Lets `time` pass, and shows what happens meanwhile.
    pub(crate) fn watch(&mut self, time: Duration) -> Result<()> {
        let watch = Stopwatch::start();
        self.watch_until(|_| watch.elapsed() >= time)
    }

    /// Shows what happens until `condition` holds.
    pub(crate) fn watch_until(&mut self, mut condition: impl FnMut(&mut Self) -> bool) -> Result<()> {
        while !condition(self) {
            self.screen.check()?;
            self.tell_log();
            self.screen.status(&self.status());
            pause(GLANCE);
        }
        self.tell_log();
        Ok(())
    }

    fn status(&self) -> String {
        let figures = self.app.figures();
        let Ok(response) = self.gateway.try_get("/metrics") else { return "the gateway has ended".to_owned() };
        let metrics = cast::metrics::Metrics::parse(&response.body);
        let of = |name: &str, labels: &[(&str, &str)]| metrics.get(name, labels).unwrap_or(0.0);
        let away = of("postern_outage_seconds", &[]);
        let database = if away > 0.0 { format!("away for {away:.1} s") } else { "up".to_owned() };
        format!(
            "database {database} | requests: {} answered, {} failed | peers: {} here, {} waiting | clients: {} lent, {} warm",
            figures.answered.load(Ordering::SeqCst),
            figures.failed.load(Ordering::SeqCst),
            of("postern_sessions", &[]),
            of("postern_pool_waiting", &[]),
            of("postern_pool_clients", &[("state", "lent")]),
            of("postern_pool_clients", &[("state", "idle")]),
        )
    }

    /// Shows what the gateway has logged since the last time, as far as it is for people.
    pub(crate) fn tell_log(&mut self) {
        for line in self.gateway.process().lines_since(&mut self.log_seen) {
            if let Some(sentence) = serde_json::from_str(&line).ok().as_ref().and_then(sentence) {
                self.screen.event("gateway", &sentence);
            }
        }
    }

    /// Writes the manifest with some words replaced, and shows the lines that differ.
    pub(crate) fn edit(&mut self, changes: &[(&str, &str)]) {
        let edited = changes.iter().fold(self.manifest.clone(), |text, (old, new)| text.replace(old, new));
        for (old, new) in self.manifest.lines().zip(edited.lines()).filter(|(old, new)| old != new) {
            self.screen.event("-", old.trim_end());
            self.screen.event("+", new.trim_end());
        }
        self.gateway.edit_text(&edited);
        self.manifest = edited;
    }

    /// The waiting peers now.
    pub(crate) fn waiting(&self) -> f64 {
        self.gateway.metric("postern_pool_waiting", &[])
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.screen.clear_status();
        // Its requests must not wait for a gateway and a database that are about to go away.
        self.app.abandon();
    }
}

/// A log record as one sentence; none for the details that only a file should have.
fn sentence(record: &Value) -> Option<String> {
    let message = record["message"].as_str()?;
    let is_detail = matches!(record["level"].as_str(), Some("DEBUG" | "TRACE") | None);
    if is_detail || ["Starting", "Listening", "Serving admin", "Session closed"].contains(&message) {
        return None;
    }
    let fields = ["error", "reason", "attempt", "wait", "away", "limit"].iter().filter_map(|key| {
        let value = &record[*key];
        let text = value.as_str().map_or_else(|| value.to_string(), tenths);
        (!value.is_null()).then(|| if ["error", "reason"].contains(key) { text } else { format!("{key} {text}") })
    });
    let fields: Vec<_> = fields.collect();
    Some(if fields.is_empty() { message.to_owned() } else { format!("{message}: {}", fields.join(", ")) })
}

/// A text in which times such as `5.37964771s` have one decimal.
fn tenths(text: &str) -> String {
    match text.strip_suffix('s').and_then(|number| number.parse::<f64>().ok()) {
        Some(seconds) if text.len() > 5 => format!("{seconds:.1} s"),
        _ => text.to_owned(),
    }
}

/// A folder with the login, as a Secret is mounted into a sidecar.
fn secrets() -> Result<Folder> {
    let folder = Folder::new("secrets");
    let login = folder.join("login");
    fs::create_dir(&login)?;
    fs::write(login.join("username"), "postgres")?;
    // This PostgreSQL believes everybody on this machine.
    fs::write(login.join("password"), "not asked for")?;
    Ok(folder)
}

fn manifest(database: &Address) -> String {
    format!(
        r#"apiVersion: postern.dev/v1alpha1
kind: GatewayConfig
metadata: {{name: demo}}
spec:
  proxies:
  - name: shop
    protocol: postgres
    server: {{address: "127.0.0.1:0"}}    # where the application connects; 0 is any free port
    pool:
      mode: transaction      # many peers share few connections, and sit out a restart of the database
      size: 10
    client:
      auth: {{secretName: login}}
      addresses: ["{database}"]
      backoff: 1s
  log: {{level: info}}
  admin: {{address: "127.0.0.1:0"}}
  drainTimeout: 25s
"#
    )
}

fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
    listener.local_addr().expect("a bound socket has an address")
}
