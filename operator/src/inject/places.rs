//! Where each proxy listens in a pod, and whether a pod can offer that at all.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use crds::{GatewayConfigSpec, HostPort, Listen, Network, Problem, Protocol, SidecarEnv, resolve};

use super::hosts::{self, Alias};
use super::{Reason, Refusal};
use crate::names::{PORT_PREFIX, RUN_FOLDER};

/// What a PostgreSQL socket's name begins with; its port follows.
const POSTGRES_SOCKET: &str = ".s.PGSQL.";
/// PostgreSQL's port: who dials it speaks PostgreSQL, even where the gateway does not look.
const POSTGRES_PORT: u16 = 5432;

/// Where one proxy listens.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// The proxy's name.
    pub(super) proxy: String,
    /// Where it listens in this pod.
    pub(super) listen: Listen,
    /// Where the configuration says that it listens.
    pub(super) written: Listen,
    /// Whether applications speak PostgreSQL to it: certainly, probably, or not.
    pub(super) postgres: Postgres,
}

/// Whether applications speak PostgreSQL to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Postgres {
    /// The configuration says so.
    Certainly,
    /// The database's port says so.
    Probably,
    /// Nothing says so.
    Unknown,
}

/// All places of a pod.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) places: Vec<Place>,
    /// The port of the admin endpoints.
    pub(super) admin: SocketAddr,
    /// The names that lead to these places, where the configuration finds the gateway by them.
    pub(super) aliases: Vec<Alias>,
}

/// What `crds::validate` accepts, because a gateway run by hand can do it, and no pod can.
pub(super) fn problems(spec: &GatewayConfigSpec) -> Vec<Problem> {
    Layout::of(spec).err().unwrap_or_default()
}

// === impl Layout ===

impl Layout {
    /// The places of `spec`, which is valid, before a pod says otherwise.
    pub(super) fn of(spec: &GatewayConfigSpec) -> Result<Self, Vec<Problem>> {
        let resolved = resolve(spec);
        let mut problems = Vec::new();
        let mut places = Vec::new();
        for (index, proxy) in resolved.proxies.iter().enumerate() {
            let path = format!("spec.proxies[{index}].server.address");
            let address = proxy.server.address.as_deref().unwrap_or_default();
            let listen = match Listen::parse(proxy.server_network(), address) {
                Ok(listen) => listen,
                Err(sentence) => {
                    problems.push(Problem::new(path, sentence));
                    continue;
                }
            };
            problems.extend(listen_problem(&listen).map(|sentence| Problem::new(path, sentence)));
            if proxy.client.network == Network::Unix {
                let addresses = proxy.client.addresses.iter().enumerate().filter(|(_, path)| !is_shared(path.as_ref()));
                problems.extend(addresses.map(|(at, socket)| {
                    let path = format!("spec.proxies[{index}].client.addresses[{at}]");
                    let what = format!("the sidecar does not see {socket}; in a pod it sees sockets in {RUN_FOLDER}");
                    Problem::new(path, what)
                }));
            }
            let postgres = postgres(proxy);
            places.push(Place { proxy: proxy.name.clone(), written: listen.clone(), listen, postgres });
        }
        let admin = admin(&spec.admin.address).map_err(|problem| problems.push(problem)).ok();
        let mut aliases = Vec::new();
        if spec.sidecar.env == SidecarEnv::Hosts && problems.is_empty() {
            match hosts::plan(spec, &mut places) {
                Ok(planned) => aliases = planned,
                Err(found) => problems.push(found),
            }
        }
        match admin {
            Some(admin) if problems.is_empty() => Ok(Self { places, admin, aliases }),
            _ => Err(problems),
        }
    }

    /// Moves proxies to the ports that the pod asks for.
    pub(super) fn move_to(&mut self, ports: &BTreeMap<String, u16>, config: &str) -> Result<(), Refusal> {
        for (proxy, port) in ports {
            let bad =
                |what: String| Reason::BadAnnotation.because(format!("the annotation {PORT_PREFIX}{proxy} {what}"));
            let names: Vec<String> = self.places.iter().map(|place| place.proxy.clone()).collect();
            let Some(place) = self.places.iter_mut().find(|place| place.proxy == *proxy) else {
                let names = names.join(", ");
                return Err(bad(format!("names no proxy of GatewayConfig {config:?}, which has {names}; correct it")));
            };
            if !self.aliases.is_empty() {
                let what = "does not go with sidecar.env: hosts, where the port is the database's own; remove it";
                return Err(bad(what.into()));
            }
            match &mut place.listen {
                Listen::Tcp(addr) | Listen::Udp(addr) => addr.set_port(*port),
                Listen::Unix(path) => {
                    let path = path.display();
                    return Err(bad(format!("sets a port, and that proxy listens on the socket {path}; remove it")));
                }
            }
        }
        self.check_ports(config)
    }

    /// Every place has a port, and one of its own.
    fn check_ports(&self, config: &str) -> Result<(), Refusal> {
        let admin = Listen::Tcp(self.admin);
        for (index, Place { proxy, listen, .. }) in self.places.iter().enumerate() {
            if matches!(listen, Listen::Tcp(addr) | Listen::Udp(addr) if addr.port() == 0) {
                return Err(Reason::ConfigInvalid.because(format!(
                    "proxy {proxy:?} of GatewayConfig {config:?} listens on any free port, where nobody finds it; write \
                     a port into its server.address, or into the annotation {PORT_PREFIX}{proxy}"
                )));
            }
            let holder = self.places[..index].iter().find(|other| other.listen.overlaps(listen));
            let holder = holder.map(|other| format!("proxy {:?}", other.proxy));
            let holder = holder.or_else(|| admin.overlaps(listen).then(|| "admin.address".to_owned()));
            if let Some(holder) = holder {
                return Err(Reason::BadAnnotation.because(format!(
                    "the annotations {PORT_PREFIX}... put proxy {proxy:?} on {listen}, which {holder} of GatewayConfig \
                     {config:?} has already; write another port"
                )));
            }
        }
        Ok(())
    }
}

// === impl Place ===

impl Place {
    /// The value of the gateway's `--listen`.
    pub(super) fn argument(&self) -> String {
        let (proxy, listen, written) = (&self.proxy, self.listen.word(), self.written.word());
        if listen == written { format!("{proxy}={listen}") } else { format!("{proxy}={listen},{written}") }
    }

    /// The host, or the folder of the socket, and the port that a PostgreSQL client needs; for a socket with another
    /// name there is no such pair.
    pub(super) fn host_and_port(&self) -> Option<(String, String)> {
        match &self.listen {
            Listen::Tcp(addr) | Listen::Udp(addr) => {
                // Whoever listens everywhere is found on loopback.
                let ip = if addr.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { addr.ip() };
                Some((ip.to_string(), addr.port().to_string()))
            }
            Listen::Unix(path) => {
                let port = path.file_name()?.to_str()?.strip_prefix(POSTGRES_SOCKET)?;
                let folder = path.parent()?.to_str()?;
                port.parse::<u16>().is_ok().then(|| (folder.to_owned(), port.to_owned()))
            }
        }
    }
}

fn postgres(proxy: &crds::Proxy) -> Postgres {
    if proxy.protocol == Protocol::Postgres {
        return Postgres::Certainly;
    }
    let first = proxy.client.addresses.first().map(String::as_str).unwrap_or_default();
    let is_probable = match proxy.client.network {
        Network::Tcp => first.parse::<HostPort>().is_ok_and(|database| database.port == POSTGRES_PORT),
        Network::Unix => first.contains(POSTGRES_SOCKET),
        Network::Udp => false,
    };
    if is_probable { Postgres::Probably } else { Postgres::Unknown }
}

/// Why no pod can listen there.
fn listen_problem(listen: &Listen) -> Option<String> {
    match listen {
        Listen::Tcp(addr) | Listen::Udp(addr) if !addr.ip().is_loopback() && !addr.ip().is_unspecified() => {
            let port = addr.port();
            Some(format!("{addr} is the address of no pod; write a loopback one such as 127.0.0.1:{port}"))
        }
        Listen::Unix(path) if !is_shared(path) => Some(format!(
            "the application's containers do not see {}; in a pod, put sockets into {RUN_FOLDER}",
            path.display()
        )),
        _ => None,
    }
}

/// Whether the sidecar and the application see the same at `path`: directly in the shared folder, where nobody has to
/// make another first.
fn is_shared(path: &Path) -> bool {
    path.parent() == Some(Path::new(RUN_FOLDER))
}

fn admin(address: &str) -> Result<SocketAddr, Problem> {
    let problem = |sentence: String| Err(Problem::new("spec.admin.address", sentence));
    match address.parse::<SocketAddr>() {
        Ok(addr) if addr.ip().is_loopback() => {
            let port = addr.port();
            problem(format!("{addr} is out of the kubelet's and the operator's reach; in a pod, write [::]:{port}"))
        }
        Ok(addr) if !addr.ip().is_unspecified() => {
            problem(format!("{addr} is the address of no pod; write [::]:{}", addr.port()))
        }
        Ok(addr) if addr.port() == 0 => {
            problem("any free port is found by nobody; write one such as [::]:19187".into())
        }
        Ok(addr) => Ok(addr),
        Err(_) => problem(format!("{address} is not a literal IP:port; write one such as [::]:19187")),
    }
}
