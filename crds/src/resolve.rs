//! The defaults that depend on the mode of a proxy, or on its neighbours. The schema holds all others.

use crate::{Duration, GatewayConfigSpec, HostPort, Listen, Network, Proxy};
use std::net::SocketAddr;

/// Where the gateway logs in itself, peers find its console under this name of a database.
const DEFAULT_CONSOLE: &str = "postern";

/// Fills in what depends on the mode. What was written stays; a `server.address` that has no default stays open, and
/// [`validate`](crate::validate()) says so.
pub fn resolve(spec: &GatewayConfigSpec) -> GatewayConfigSpec {
    let mut resolved = spec.clone();
    for proxy in &mut resolved.proxies {
        resolve_mode(proxy);
    }
    resolve_addresses(&mut resolved.proxies);
    resolved
}

fn resolve_mode(proxy: &mut Proxy) {
    let managed = proxy.is_managed();
    let network = *proxy.server.network.insert(proxy.server_network());
    let idle_timeout = if network == Network::Udp { Duration::from_secs(10) } else { Duration::ZERO };
    let max_idle = if managed { Duration::from_secs(600) } else { Duration::from_secs(30) };
    proxy.server.idle_timeout.get_or_insert(idle_timeout);
    let console = if managed { DEFAULT_CONSOLE } else { "" };
    proxy.server.console.get_or_insert_with(|| console.to_owned());
    proxy.pool.size.get_or_insert(if managed { 10 } else { 100 });
    proxy.pool.min_idle.get_or_insert(1);
    proxy.pool.max_idle.get_or_insert(max_idle);
}

/// Gives each proxy without an address the first of 127.0.0.1, 127.0.0.2, ... that is free on its database's port.
fn resolve_addresses(proxies: &mut [Proxy]) {
    let mut taken: Vec<Listen> = proxies.iter().filter_map(listen).collect();
    for proxy in proxies.iter_mut().filter(|proxy| proxy.server.address.is_none()) {
        if let Some(free) = first_free(proxy, &taken) {
            proxy.server.address = Some(free.to_string());
            taken.push(free);
        }
    }
}

/// Where `proxy` listens, if that is written and can be read.
pub(crate) fn listen(proxy: &Proxy) -> Option<Listen> {
    Listen::parse(proxy.server_network(), proxy.server.address.as_deref()?).ok()
}

fn first_free(proxy: &Proxy, taken: &[Listen]) -> Option<Listen> {
    let HostPort { port, .. } = proxy.client.addresses.first()?.parse().ok()?;
    let listen = match proxy.server_network() {
        Network::Tcp => Listen::Tcp,
        Network::Udp => Listen::Udp,
        Network::Unix => return None,
    };
    let mut candidates = (1..=254).map(|last| listen(SocketAddr::from(([127, 0, 0, last], port))));
    candidates.find(|candidate| !taken.iter().any(|other| other.overlaps(candidate)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, ClientAuth, Protocol, Server};

    fn proxy(database: &str) -> Proxy {
        let client = Client { addresses: vec![database.into()], ..Client::default() };
        Proxy { name: "p".into(), client, ..Proxy::default() }
    }

    fn resolved(proxies: Vec<Proxy>) -> Vec<Proxy> {
        resolve(&GatewayConfigSpec { proxies, ..GatewayConfigSpec::default() }).proxies
    }

    #[test]
    fn the_next_proxy_on_a_port_gets_the_next_loopback_address() {
        let mut written = proxy("db:5432");
        written.server.address = Some("127.0.0.2:5432".into());
        let proxies = resolved(vec![proxy("a:5432"), proxy("b:3306"), proxy("c:5432"), written]);
        let addresses: Vec<_> = proxies.iter().filter_map(|proxy| proxy.server.address.as_deref()).collect();
        assert_eq!(addresses, ["127.0.0.1:5432", "127.0.0.1:3306", "127.0.0.3:5432", "127.0.0.2:5432"]);
    }

    #[test]
    fn tcp_and_udp_have_ports_of_their_own() {
        let mut datagrams = proxy("dns:53");
        datagrams.client.network = Network::Udp;
        let proxies = resolved(vec![proxy("dns:53"), datagrams]);
        assert_eq!(proxies[0].server.address, proxies[1].server.address);
        assert_eq!(proxies[1].server.idle_timeout, Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_unix_socket_has_no_default_address() {
        let server = Server { network: Some(Network::Unix), ..Server::default() };
        let proxies = resolved(vec![Proxy { server, ..proxy("db:5432") }]);
        assert_eq!(proxies[0].server.address, None);
    }

    #[test]
    fn managed_proxies_keep_fewer_clients_for_longer() {
        let mut managed = Proxy { protocol: Protocol::Postgres, ..proxy("db:5432") };
        managed.client.auth = Some(ClientAuth::default());
        let proxies = resolved(vec![proxy("db:1"), managed]);
        let of = |proxy: &Proxy| (proxy.pool.size, proxy.pool.max_idle.map(|idle| idle.to_string()));
        assert_eq!(of(&proxies[0]), (Some(100), Some("30s".into())));
        assert_eq!(of(&proxies[1]), (Some(10), Some("10m".into())));
        let consoles: Vec<_> = proxies.iter().map(|proxy| proxy.server.console.as_deref()).collect();
        assert_eq!(consoles, [Some(""), Some("postern")]);
    }
}
