//! Faults of the gateway itself, and of what it is started with.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cast::gateway::Launch;
use cast::loopback::free_address;
use cast::{Folder, Gateway, Manifest, Peer, Proxy, Scripted};
use rustix::process::Signal;

use crate::pace::{Pace, Strikes};
use crate::site::{NAMESPACE, Site};

/// What all gateways here serve.
struct Behind {
    database: Scripted,
    admin: SocketAddr,
    pod: Folder,
}

struct ConfigRefused {
    gateway: Gateway,
    behind: Behind,
    strikes: Strikes,
    edits: usize,
}

struct WithoutConfig(Option<Gateway>, Behind);

struct Gone(Gateway, Behind);

struct Restarts {
    gateway: Option<Gateway>,
    behind: Behind,
    strikes: Strikes,
}

struct Memory {
    gateway: Gateway,
    behind: Behind,
    peers: Vec<Peer>,
    limit: Arc<AtomicU64>,
    limits: SocketAddr,
}

// === impl Behind ===

impl Behind {
    fn new() -> Self {
        Self { database: Scripted::echo(), admin: free_address(), pod: Folder::new("pod") }
    }

    fn manifest(&self) -> Manifest {
        Manifest::from(Proxy::to(self.database.address()))
    }

    /// A sidecar, whose admin address stays the same from start to start.
    fn launch(&self) -> Launch {
        Gateway::with(self.manifest()).beside(&self.pod).told(&["--admin", &self.admin.to_string()])
    }
}

// === an edit is refused ===

pub(crate) fn config_refused() -> Box<dyn Site> {
    let behind = Behind::new();
    Box::new(ConfigRefused { gateway: behind.launch().start(), behind, strikes: Strikes::default(), edits: 0 })
}

impl Site for ConfigRefused {
    fn gateways(&self) -> Vec<SocketAddr> {
        vec![self.behind.admin]
    }

    fn go_on(&mut self, pace: Pace) {
        if self.strikes.is_due(pace) {
            self.edits += 1;
            self.gateway.edit_text(&format!("kind: GatewayConfig\nspec: nonsense of edit {}\n", self.edits));
        }
    }

    fn end(&mut self) {
        self.gateway.edit(&self.behind.manifest());
    }
}

// === there is none ===

pub(crate) fn without_config() -> Box<dyn Site> {
    let behind = Behind::new();
    Box::new(WithoutConfig(Some(behind.launch().start()), behind))
}

impl Site for WithoutConfig {
    fn gateways(&self) -> Vec<SocketAddr> {
        vec![self.1.admin]
    }

    fn begin(&mut self) {
        self.0 = None;
        self.0 = Some(self.1.launch().before_its_file().start());
    }

    fn end(&mut self) {
        let manifest = self.1.manifest();
        self.0.as_mut().expect("it runs").edit(&manifest);
    }
}

// === it stands still ===

pub(crate) fn gone() -> Box<dyn Site> {
    let behind = Behind::new();
    Box::new(Gone(behind.launch().start(), behind))
}

impl Site for Gone {
    fn gateways(&self) -> Vec<SocketAddr> {
        vec![self.1.admin]
    }

    fn begin(&mut self) {
        self.0.process().signal(Signal::STOP);
    }

    fn end(&mut self) {
        self.0.process().signal(Signal::CONT);
    }
}

// === it is restarted ===

pub(crate) fn restarts() -> Box<dyn Site> {
    let behind = Behind::new();
    Box::new(Restarts { gateway: Some(behind.launch().start()), behind, strikes: Strikes::default() })
}

impl Site for Restarts {
    fn gateways(&self) -> Vec<SocketAddr> {
        vec![self.behind.admin]
    }

    fn go_on(&mut self, pace: Pace) {
        if !self.strikes.is_due(pace) {
            return;
        }
        // Dropped, it is killed.
        self.gateway = None;
        self.gateway = Some(self.behind.launch().start());
    }
}

// === it has little room ===

/// Far from what the gateway needs, and near to it.
const WIDE: u64 = 256 << 20;
const NARROW: u64 = 4 << 20;

pub(crate) fn memory() -> Box<dyn Site> {
    let behind = Behind::new();
    let proxy = Proxy::to(behind.database.address()).set("pool.size", 300);
    let gateway = Gateway::with(proxy).beside(&behind.pod).told(&["--admin", &behind.admin.to_string()]).start();
    let limit = Arc::new(AtomicU64::new(WIDE));
    let limits = tell_limits(limit.clone());
    Box::new(Memory { gateway, behind, peers: Vec::new(), limit, limits })
}

impl Site for Memory {
    fn gateways(&self) -> Vec<SocketAddr> {
        vec![self.behind.admin]
    }

    fn limits(&self) -> Option<SocketAddr> {
        Some(self.limits)
    }

    fn begin(&mut self) {
        self.limit.store(NARROW, Ordering::SeqCst);
        let address = self.gateway.address();
        self.peers.extend((0..300).map(|_| Peer::dial(&address)));
        for peer in &mut self.peers {
            peer.echoes(b"hello");
        }
    }

    fn end(&mut self) {
        self.peers.clear();
        // As the alert says.
        self.limit.store(WIDE, Ordering::SeqCst);
    }
}

/// Tells the memory limit of the pod as kube-state-metrics does, for as long as this process lives.
fn tell_limits(limit: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind(free_address()).expect("it was free a moment ago");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let pod = format!("namespace=\"{NAMESPACE}\",pod=\"gateway-memory-near-limit-0\"");
            let body = format!(
                "kube_pod_init_container_resource_limits{{{pod},container=\"postern-gateway\",resource=\"memory\",unit=\"byte\"}} {}\n",
                limit.load(Ordering::SeqCst)
            );
            // Whoever asks in pieces is not Prometheus.
            let _ = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close";
            let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
}
