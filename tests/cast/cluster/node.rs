//! The machine that a cluster of ours runs on: its network, its components, and what happens to machines.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::kubectl::Kubectl;
use crate::install::program;
use crate::namespace::enter_network;
use crate::postgres::Postgres;
use crate::process::{attempt, run};

/// A component needs two minutes at most, and ending one half a minute.
const PATIENCE: Duration = Duration::from_mins(3);

/// The one node of a cluster that this cast has brought up.
#[derive(Debug)]
pub struct Node {
    folder: PathBuf,
    /// Its process 1, as this machine knows it.
    pid: u32,
}

/// A container whose first process stands still; dropped, it goes on.
#[derive(Debug)]
#[must_use]
pub struct Frozen {
    socket: PathBuf,
    id: String,
}

/// A program of Kubernetes, of which exactly one runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The control plane's store.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers of Kubernetes itself.
    ControllerManager,
    /// It chooses the node, of which there is one.
    Scheduler,
    /// It runs pods; without it they go on as they are.
    Kubelet,
    /// It makes the addresses of Services lead to pods.
    Proxy,
    /// It resolves the names of Services.
    Dns,
    /// It runs containers; without it they go on as they are.
    Containerd,
}

// === impl Node ===

impl Node {
    pub(super) fn in_folder(folder: &Path) -> Result<Self> {
        let file = folder.join("pid");
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let pid = text.trim().parse().with_context(|| format!("{} holds no process id", file.display()))?;
        Ok(Self { folder: folder.to_owned(), pid })
    }

    /// Its address, by which pods reach what listens on it.
    pub fn address(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 88, 0, 1))
    }

    /// The configuration file by which an administrator on it reaches the API server at 127.0.0.1:6443; beside it is what
    /// that is made of, `admin.crt` and `admin.key`.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("pki").join("admin.kubeconfig")
    }

    /// The process id, on this machine, of its process 1.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The command that runs another one in its network: put the program and its arguments behind it.
    pub fn entering(&self) -> Vec<String> {
        let nsenter = program("nsenter").to_string_lossy().into_owned();
        vec![nsenter, format!("--net={}", self.network().display()), "--".to_owned()]
    }

    /// A tool of the system that runs in its network: `nft` to lose packets, `ip` for addresses.
    pub fn command(&self, tool: &str) -> Command {
        let words = self.entering();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program(tool));
        command
    }

    /// Does `work` in its network: the sockets that it opens reach pods and Services, and are reached by them.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        enter_network(&self.network(), work)
    }

    /// The file that stands for its network.
    pub(crate) fn network(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid))
    }

    /// A real PostgreSQL on it, which pods reach at [`Postgres::address`] without a password.
    #[track_caller]
    pub fn postgres(&self, settings: &[(&str, &str)]) -> Postgres {
        let address = self.within(|| {
            let listener = TcpListener::bind((self.address(), 0)).expect("the node's address can be bound");
            listener.local_addr().expect("a bound socket has an address")
        });
        self.postgres_at(address, settings)
    }

    /// The same at an address of one's choice, which is the node's.
    #[track_caller]
    pub fn postgres_at(&self, address: SocketAddr, settings: &[(&str, &str)]) -> Postgres {
        Postgres::inside(self.entering(), address, settings)
    }

    /// Starts a component that was stopped, and waits until it works.
    #[track_caller]
    pub fn start(&self, component: Component) {
        self.order("start", component);
    }

    /// Stops a component as an administrator does, and waits until it has gone.
    #[track_caller]
    pub fn stop(&self, component: Component) {
        self.order("stop", component);
    }

    /// Kills it.
    #[track_caller]
    pub fn kill(&self, component: Component) {
        self.order("kill", component);
    }

    /// From now on it is there and does nothing: connections are accepted and never answered.
    #[track_caller]
    pub fn freeze(&self, component: Component) {
        self.order("freeze", component);
    }

    /// It goes on.
    #[track_caller]
    pub fn thaw(&self, component: Component) {
        self.order("thaw", component);
    }

    /// What a reboot does to pods: all processes are gone at one time, and what was in memory. The control plane, which
    /// lives on other machines elsewhere, goes on.
    #[track_caller]
    pub fn restart(&self) {
        self.send("restart");
    }

    /// Kills the first process of a container, as a crash does.
    #[track_caller]
    pub fn end_container(&self, tenant: &Kubectl, pod: &str, container: &str) {
        let id = container_id(tenant, pod, container);
        let id = id.unwrap_or_else(|| panic!("there is no container {container} that runs in {pod}"));
        self.ctr(&["tasks", "kill", "--signal", "SIGKILL", &id]);
    }

    /// The same, unless it has ended by itself already; says whether it was killed.
    pub fn try_end_container(&self, tenant: &Kubectl, pod: &str, container: &str) -> bool {
        self.try_signal(tenant, pod, container, "SIGKILL").is_some()
    }

    /// Sends a signal to the first process of a container, if it runs; says by which name containerd knows that.
    fn try_signal(&self, tenant: &Kubectl, pod: &str, container: &str, signal: &str) -> Option<String> {
        let id = container_id(tenant, pod, container)?;
        let (ok, _) = attempt(ctr(&self.containerd()).args(["tasks", "kill", "--signal", signal, &id]));
        ok.then_some(id)
    }

    /// From now on the first process of a container is there and does nothing, until what is returned is dropped; nothing if
    /// it does not run.
    pub fn freeze_container(&self, tenant: &Kubectl, pod: &str, container: &str) -> Option<Frozen> {
        let id = self.try_signal(tenant, pod, container, "SIGSTOP")?;
        Some(Frozen { socket: self.containerd(), id })
    }

    /// Imports an image.
    #[track_caller]
    pub(super) fn load(&self, archive: &Path) {
        self.ctr(&["images", "import", &archive.display().to_string()]);
    }

    #[track_caller]
    fn ctr(&self, arguments: &[&str]) {
        run(ctr(&self.containerd()).args(arguments));
    }

    /// Where `ctr` reaches its containerd.
    pub fn containerd(&self) -> PathBuf {
        self.folder.join("containerd.sock")
    }

    /// What a component has written.
    pub fn log(&self, component: Component) -> String {
        // A component that was never started has written nothing.
        std::fs::read_to_string(self.folder.join("log").join(format!("{component}.log"))).unwrap_or_default()
    }

    #[track_caller]
    fn order(&self, verb: &str, component: Component) {
        self.send(&format!("{verb} {component}"));
    }

    #[track_caller]
    fn send(&self, order: &str) {
        let answer = self.ask(order).unwrap_or_else(|error| panic!("the node does not take orders: {error:#}"));
        assert!(answer == "ok", "{order}: {}", answer.replace("\\n", "\n"));
    }

    fn ask(&self, order: &str) -> Result<String> {
        let mut stream = UnixStream::connect(self.folder.join("control.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(stream, "{order}")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }
}

// === impl Frozen ===

impl Drop for Frozen {
    fn drop(&mut self) {
        // The kubelet may have killed it meanwhile, because it did not answer.
        let _ = attempt(ctr(&self.socket).args(["tasks", "kill", "--signal", "SIGCONT", &self.id]));
    }
}

fn ctr(socket: &Path) -> Command {
    let mut command = Command::new(program("ctr"));
    command.arg("--address").arg(socket).args(["--namespace", "k8s.io"]);
    command
}

/// The name by which containerd knows a container, if there is one.
fn container_id(tenant: &Kubectl, pod: &str, container: &str) -> Option<String> {
    let pod = tenant.try_kubectl(["get", "pod", pod, "--output=json"]);
    let pod: Value = serde_json::from_str(&pod.out).ok()?;
    let lists = ["containerStatuses", "initContainerStatuses"].iter().filter_map(|list| pod["status"][list].as_array());
    let status = lists.flatten().find(|status| status["name"] == container)?;
    status["containerID"].as_str()?.strip_prefix("containerd://").map(str::to_owned)
}

// === impl Component ===

impl fmt::Display for Component {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "apiserver",
            Self::ControllerManager => "controller-manager",
            Self::Scheduler => "scheduler",
            Self::Kubelet => "kubelet",
            Self::Proxy => "proxy",
            Self::Dns => "dns",
            Self::Containerd => "containerd",
        })
    }
}
