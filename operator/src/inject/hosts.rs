//! `sidecar.env: hosts`: the database's own names lead to the gateway, so that an unchanged application comes to us.
//!
//! Names that share a proxy share an address, and so do proxies that share a name; each such group gets an address of its
//! own, on which its proxies listen at their databases' ports.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crds::{GatewayConfigSpec, HostPort, Listen, Network, Problem, Proxy};

use super::places::Place;

/// Names, and the address to which they lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alias {
    pub(super) ip: IpAddr,
    pub(super) names: Vec<String>,
}

/// Names that must lead to one address, and the proxies that listen there.
#[derive(Default)]
struct Group {
    names: Vec<String>,
    proxies: Vec<usize>,
}

/// Moves the proxies of named databases to addresses of their own; says which names lead there.
pub(super) fn plan(spec: &GatewayConfigSpec, places: &mut [Place]) -> Result<Vec<Alias>, Problem> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, proxy) in spec.proxies.iter().enumerate() {
        let names = names(index, proxy)?;
        if names.is_empty() {
            continue;
        }
        let mut group = Group { names, proxies: vec![index] };
        let touches = |other: &mut Group| other.names.iter().any(|name| group.names.contains(name));
        let joined: Vec<Group> = groups.extract_if(.., touches).collect();
        for other in joined.into_iter().rev() {
            group = other.joined(group);
        }
        groups.push(group);
    }
    groups.sort_by_key(|group| group.proxies.first().copied());
    let named: BTreeSet<usize> = groups.iter().flat_map(|group| group.proxies.iter().copied()).collect();
    let is_fixed = |index: usize| !named.contains(&index) || spec.proxies[index].server.address.is_some();
    let fixed = places.iter().enumerate().filter(|(index, _)| is_fixed(*index));
    let mut taken: BTreeSet<IpAddr> = fixed.filter_map(|(_, place)| ip(&place.listen)).collect();
    let mut aliases = Vec::new();
    for group in groups {
        let ip = group.address(spec, places, &taken)?;
        taken.insert(ip);
        group.settle(ip, spec, places)?;
        aliases.push(Alias { ip, names: group.names });
    }
    Ok(aliases)
}

// === impl Group ===

impl Group {
    fn joined(mut self, other: Self) -> Self {
        self.names.extend(other.names);
        let mut seen = BTreeSet::new();
        self.names.retain(|name| seen.insert(name.clone()));
        self.proxies.extend(other.proxies);
        self.proxies.sort_unstable();
        self
    }

    /// The loopback address that one of its proxies has in writing, else a free one.
    fn address(&self, spec: &GatewayConfigSpec, places: &[Place], taken: &BTreeSet<IpAddr>) -> Result<IpAddr, Problem> {
        let mut written: Option<IpAddr> = None;
        for &index in self.proxies.iter().filter(|index| spec.proxies[**index].server.address.is_some()) {
            let Some(ip) = ip(&places[index].listen).filter(IpAddr::is_loopback) else { continue };
            if written.is_some_and(|other| other != ip) {
                let what = format!(
                    "with sidecar.env: hosts {:?} leads to one address, and another proxy of that name is not on {ip}; \
                     leave server.address out of both",
                    self.names[0]
                );
                return Err(problem(index, "server.address", what));
            }
            written = Some(ip);
        }
        // 127.0.0.1 stays the pod's own.
        let mut free =
            (2..=254).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))).filter(|ip| !taken.contains(ip));
        let none = || problem(self.proxies[0], "server.address", "there is no free loopback address; write one".into());
        written.or_else(|| free.next()).ok_or_else(none)
    }

    /// Puts its proxies there, each on its database's port.
    fn settle(&self, ip: IpAddr, spec: &GatewayConfigSpec, places: &mut [Place]) -> Result<(), Problem> {
        for (position, &index) in self.proxies.iter().enumerate() {
            let proxy = &spec.proxies[index];
            let Some(port) = proxy.client.addresses.first().and_then(|first| first.parse::<HostPort>().ok()) else {
                continue;
            };
            let port = port.port;
            let listen = &mut places[index].listen;
            if let Listen::Tcp(addr) | Listen::Udp(addr) = listen {
                if proxy.server.address.is_some() && addr.port() != port {
                    let what = format!(
                        "{addr} is not on port {port}, and with sidecar.env: hosts an application dials its database's \
                         own port; leave it out, or set sidecar.env: variables"
                    );
                    return Err(problem(index, "server.address", what));
                }
                if !addr.ip().is_unspecified() {
                    *addr = SocketAddr::new(ip, port);
                }
            }
            let listen = &places[index].listen;
            let holder = self.proxies[..position].iter().find(|other| places[**other].listen.overlaps(listen));
            if let Some(&holder) = holder {
                let what = format!(
                    "with sidecar.env: hosts {:?} and port {port} lead to one proxy, and {:?} has them already; give one \
                     of the two another name, or set sidecar.env: variables",
                    self.names[0], spec.proxies[holder].name
                );
                return Err(problem(index, "client.addresses", what));
            }
        }
        Ok(())
    }
}

/// The names of the proxy's database; none if applications do not dial it by name.
fn names(index: usize, proxy: &Proxy) -> Result<Vec<String>, Problem> {
    if proxy.client.network == Network::Unix || proxy.server_network() == Network::Unix {
        return Ok(Vec::new());
    }
    let databases: Vec<HostPort> = proxy.client.addresses.iter().filter_map(|address| address.parse().ok()).collect();
    let mut names = Vec::new();
    for (at, HostPort { host, .. }) in databases.iter().enumerate().filter(|(_, database)| is_named(database)) {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if name.contains('_') {
            let what =
                format!("{host:?} cannot stand in a pod's hosts; with sidecar.env: hosts a name has no underscore");
            return Err(problem(index, &format!("client.addresses[{at}]"), what));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let other = databases.iter().find(|database| database.port != databases[0].port);
    if let Some(other) = other.filter(|_| !names.is_empty()) {
        let what = format!(
            "with sidecar.env: hosts one proxy is one port, and these are {} and {}; set sidecar.env: variables",
            databases[0].port, other.port
        );
        return Err(problem(index, "client.addresses", what));
    }
    Ok(names)
}

/// Whether an application would look this database up.
pub(super) fn is_named(database: &HostPort) -> bool {
    database.host.parse::<IpAddr>().is_err() && !database.host.eq_ignore_ascii_case("localhost")
}

fn ip(listen: &Listen) -> Option<IpAddr> {
    match listen {
        Listen::Tcp(addr) | Listen::Udp(addr) => Some(addr.ip()),
        Listen::Unix(_) => None,
    }
}

fn problem(index: usize, key: &str, message: String) -> Problem {
    Problem::new(format!("spec.proxies[{index}].{key}"), message)
}
