//! The gateway under test: its own program, started with a manifest and watched from outside.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::folder::Folder;
use crate::http::{self, Response};
use crate::install::program;
use crate::manifest::Manifest;
use crate::metrics::Metrics;
use crate::namespace::Namespace;
use crate::process::{Process, owned};
use crate::time::{eventually, found};
use crate::wire::Address;

mod binary;
mod config;

pub use binary::{binary, find_or_build};
use config::Config;

/// How long an answer of the admin address may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    config: Config,
    admin: SocketAddr,
    host: Option<Namespace>,
}

/// A gateway that is about to be started.
#[derive(Debug)]
pub struct Launch {
    text: String,
    names: Vec<String>,
    prefix: Vec<String>,
    program: PathBuf,
    arguments: Vec<String>,
    mounted: bool,
    missing: bool,
    host: Option<Namespace>,
}

/// A gateway that has ended: its status and what it had said.
#[derive(Debug)]
pub struct Ended {
    /// The exit status.
    pub status: ExitStatus,
    /// Its log.
    pub lines: Vec<String>,
}

// === impl Launch ===

impl Launch {
    /// Takes the file through symbolic links, as a mounted `ConfigMap` is laid out.
    #[must_use]
    pub fn mounted_as_a_config_map(mut self) -> Self {
        self.mounted = true;
        self
    }

    /// Starts it before its file is there.
    #[must_use]
    pub fn before_its_file(mut self) -> Self {
        self.missing = true;
        self.names.clear();
        self
    }

    /// Runs it as a sidecar whose pod speaks through this folder.
    #[must_use]
    pub fn beside(self, pod: &Folder) -> Self {
        self.told(&["--pod", &pod.display().to_string()])
    }

    /// Gives it more arguments.
    #[must_use]
    pub fn told(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Allows it so many open files.
    #[must_use]
    pub fn limited_to_open_files(self, limit: usize) -> Self {
        self.behind(&["prlimit", &format!("--nofile={limit}:{limit}"), "--"])
    }

    /// Starts it by another command, which ends by becoming it.
    #[must_use]
    pub fn behind(mut self, command: &[&str]) -> Self {
        self.prefix = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Runs another build of it.
    #[must_use]
    pub fn built_as(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Runs it on a host of its own, which it keeps from then on.
    #[must_use]
    pub fn on(mut self, host: Namespace) -> Self {
        self.prefix = host.entering();
        self.host = Some(host);
        self
    }

    /// Starts it and waits until all of its listeners listen.
    #[track_caller]
    pub fn start(self) -> Gateway {
        let (process, config) = self.spawn();
        let admin = found("the gateway serves its admin address", || {
            let lines = records(&process.lines());
            let listening = |name: &String| lines.iter().any(|line| is(line, "Listening", name));
            let admin = lines.iter().find(|line| line["message"] == "Serving admin")?;
            self.names.iter().all(listening).then(|| admin["address"].as_str()?.parse().ok()).flatten()
        });
        Gateway { process, config, admin, host: self.host }
    }

    /// Starts it and waits until it ends by itself, as it does when it cannot start.
    #[track_caller]
    pub fn end(self) -> Ended {
        let (mut process, _config) = self.spawn();
        let status = process.wait(Duration::from_secs(20));
        let mut lines = process.lines();
        eventually("what it said was read", || {
            lines = process.lines();
            !lines.is_empty()
        });
        Ended { status, lines }
    }

    #[track_caller]
    fn spawn(&self) -> (Process, Config) {
        let mut config = Config::missing(self.mounted);
        if !self.missing {
            config.publish(&self.text);
        }
        let mut words = self.prefix.clone();
        words.push(self.program.display().to_string());
        let mut command = owned(&words[0]);
        command.args(&words[1..]).args(["run", "-f"]).arg(config.path()).args(&self.arguments);
        (Process::start("the gateway", &mut command), config)
    }
}

// === impl Gateway ===

impl Gateway {
    /// Starts a gateway with this manifest and waits until it listens.
    #[track_caller]
    pub fn start(manifest: impl Into<Manifest>) -> Self {
        Self::with(manifest).start()
    }

    /// A gateway with this manifest, to be started in a particular way.
    pub fn with(manifest: impl Into<Manifest>) -> Launch {
        let manifest = manifest.into();
        Launch { names: manifest.names(), ..Self::with_text(&manifest.text()) }
    }

    /// A gateway with this text as its manifest.
    pub fn with_text(text: &str) -> Launch {
        Launch {
            text: text.to_owned(),
            names: Vec::new(),
            prefix: Vec::new(),
            program: binary().to_owned(),
            arguments: Vec::new(),
            mounted: false,
            missing: false,
            host: None,
        }
    }

    /// Where the proxy `name` listens now, for TCP and Unix sockets.
    #[track_caller]
    pub fn address_of(&self, name: &str) -> Address {
        let line = self.listening(name);
        let address = line["address"].as_str().expect("an address is text");
        if line["network"] == "unix" { Address::Unix(PathBuf::from(address)) } else { Address::Tcp(parsed(address)) }
    }

    /// Where the proxy `db` listens.
    #[track_caller]
    pub fn address(&self) -> Address {
        self.address_of("db")
    }

    /// Where the proxy `name` listens for datagrams.
    #[track_caller]
    pub fn udp_address(&self, name: &str) -> SocketAddr {
        parsed(self.listening(name)["address"].as_str().expect("an address is text"))
    }

    #[track_caller]
    fn listening(&self, name: &str) -> Value {
        let newest = || self.log().into_iter().rev().find(|line| is(line, "Listening", name));
        found(&format!("{name} listens"), newest)
    }

    /// The admin address.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The file that it follows.
    pub fn config_file(&self) -> PathBuf {
        self.config.path()
    }

    /// The process itself: memory, open files, processor time, signals.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The processor time that it has used so far.
    pub fn cpu_time(&self) -> Duration {
        self.process.cpu_time()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Asks the admin address for `path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.try_get(path).unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.process.tail()))
    }

    /// Asks the admin address for `path`.
    pub fn try_get(&self, path: &str) -> io::Result<Response> {
        match &self.host {
            Some(host) => host.within(|| http::get(self.admin, path, PATIENCE)),
            None => http::get(self.admin, path, PATIENCE),
        }
    }

    /// All metrics as they are now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.get("/metrics").body)
    }

    /// The sum of the series of `name` with these labels; 0 if there is none.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().get(name, labels).unwrap_or(0.0)
    }

    /// Waits until a metric is `value`; fails the test with the last value seen.
    #[track_caller]
    pub fn expect_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut last = f64::NAN;
        let reached = crate::time::comes_true(Duration::from_secs(30), || {
            last = self.metric(name, labels);
            (last - value).abs() < f64::EPSILON
        });
        assert!(reached, "{name}{labels:?} is {last}, not {value}\n{}", self.metrics().lines().join("\n"));
    }

    /// Waits until a proxy has neither sessions, nor waiting peers, nor lent clients, as its metrics and its process say.
    #[track_caller]
    pub fn expect_quiet(&self, proxy: &str) {
        self.expect_metric("postern_sessions", &[("proxy", proxy)], 0.0);
        self.expect_metric("postern_pool_waiting", &[("proxy", proxy)], 0.0);
        self.expect_metric("postern_pool_clients", &[("proxy", proxy), ("state", "lent")], 0.0);
    }

    /// What `/config` says.
    #[track_caller]
    pub fn applied(&self) -> Value {
        serde_json::from_str(&self.get("/config").body).expect("/config is JSON")
    }

    /// What `/state` says.
    #[track_caller]
    pub fn state(&self) -> Value {
        let answer = self.get("/state");
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).expect("/state is JSON")
    }

    /// The log as records; lines that are no JSON are left out.
    pub fn log(&self) -> Vec<Value> {
        records(&self.process.lines())
    }

    /// The log as it was written.
    pub fn lines(&self) -> Vec<String> {
        self.process.lines()
    }

    /// Waits for a log record whose message begins with `message`.
    #[track_caller]
    pub fn says(&self, message: &str) -> Value {
        found(&format!("the gateway says {message:?}"), || {
            let begins = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with(message));
            self.log().into_iter().find(begins)
        })
    }

    /// Overwrites the file in place.
    pub fn edit(&mut self, manifest: &Manifest) {
        self.edit_text(&manifest.text());
    }

    /// Overwrites the file in place with any text.
    pub fn edit_text(&mut self, text: &str) {
        fs::write(self.config.path(), text).expect("our folder is writable");
    }

    /// Replaces the file by a rename, as editors do.
    pub fn edit_by_rename(&mut self, manifest: &Manifest) {
        let new = folder_of(&self.config.path()).join(".gateway.yaml.new");
        fs::write(&new, manifest.text()).expect("our folder is writable");
        fs::rename(new, self.config.path()).expect("our folder is writable");
    }

    /// Swaps the link to the folder of the file, as the kubelet does.
    pub fn edit_config_map(&mut self, manifest: &Manifest) {
        self.config.publish(&manifest.text());
    }

    /// Waits until the configuration of `generation` or a later one is in force.
    #[track_caller]
    pub fn reaches_generation(&self, generation: u64) {
        eventually(&format!("generation {generation} is applied"), || {
            self.applied()["generation"].as_u64().is_some_and(|now| now >= generation)
        });
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for its end and returns its exit code.
    #[track_caller]
    pub fn exit_code(&mut self, patience: Duration) -> Option<i32> {
        self.process.wait(patience).code()
    }

    /// Ends it while peers are still there: the second signal waits for nobody.
    pub fn ends_well_without_waiting(mut self) {
        self.terminate();
        self.says("Draining");
        self.terminate();
        self.exit_code(Duration::from_secs(5));
    }

    /// Lets it end at once and looks whether that was without error.
    #[track_caller]
    pub fn ends_well(mut self) {
        self.terminate();
        assert_eq!(self.exit_code(Duration::from_secs(30)), Some(0), "{}", self.process.tail());
    }
}

/// Runs `gateway` with these arguments to its end: its exit code, and what it printed to both outputs.
pub fn cli(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary()).args(arguments).output().expect("the gateway's program runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// Asks `promtool` about a scrape; what it has to say, which should be nothing.
pub fn promtool_says(metrics: &str) -> String {
    let folder = Folder::new("prom");
    let file = folder.join("metrics");
    fs::write(&file, metrics).expect("our folder is writable");
    let input = fs::File::open(&file).expect("it was just written");
    let output =
        Command::new(program("promtool")).args(["check", "metrics"]).stdin(input).output().expect("promtool runs");
    let mut text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if !output.status.success() && text.is_empty() {
        text = output.status.to_string();
    }
    text
}

fn records(lines: &[String]) -> Vec<Value> {
    lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn is(line: &Value, message: &str, proxy: &str) -> bool {
    line["message"] == message && line["proxy"] == proxy
}

fn parsed(address: &str) -> SocketAddr {
    address.parse().unwrap_or_else(|_| panic!("{address} is no address"))
}

/// The folder that a path lies in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().expect("a file lies in a folder")
}
